"""The series of a metric that Redis has, as far as a process knows them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from redismetrics.model.definition import Definition


@dataclass(slots=True, eq=False)
class KnownSeries:
    """What replies of record.lua have told about the series of a metric.

    Attributes:
        ids: Numbers of series, by canonical tags.
        epoch: In which these numbers are valid.
        stamp: Stamp of the metric in the catalogue, in that epoch.
        definition: That of the metric in that epoch; None if nothing is known.
    """

    ids: dict[bytes, int] = field(default_factory=dict)
    epoch: int = 0
    stamp: bytes = b""
    definition: Definition | None = None

    def learn(
        self,
        canonicals: Iterable[bytes],
        ids: Iterable[int],
        epoch: int,
        stamp: bytes,
        definition: Definition,
    ) -> None:
        """Remember the numbers of some series, which Redis stored with *definition*.

        A number below 0 is that of a series that does not exist.

        Those learned in another epoch may be of series that were removed: they are forgotten.
        """
        if self.epoch != epoch:
            self.ids.clear()
        self.epoch, self.stamp, self.definition = epoch, stamp, definition
        pairs = zip(canonicals, ids, strict=True)
        self.ids.update((canonical, number) for canonical, number in pairs if number >= 0)
