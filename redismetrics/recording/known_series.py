"""The series of a metric in Redis that a process knows."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from redismetrics.model.definition import Definition

# Minimum number of series for which caching a batch's packed ids pays off.
_KEPT_FROM = 32


@dataclass(slots=True, eq=False)
class KnownSeries:
    """What is known about the series of a metric from the replies of record.lua.

    Attributes:
        ids: Series ids by canonical tags.
        epoch: The epoch in which these ids are valid.
        stamp: Stamp of the metric in the catalogue in that epoch.
        definition: Definition of the metric in that epoch; None if nothing is known.
    """

    ids: dict[bytes, int] = field(default_factory=dict)
    epoch: int = 0
    stamp: bytes = b""
    definition: Definition | None = None
    # Recent batches by first series: all of their series, and their packed ids. A process records
    # the same series again and again, so its batches are similar.
    _packed: dict[bytes, tuple[list[bytes], bytes]] = field(default_factory=dict)

    def learn(
        self,
        canonicals: Iterable[bytes],
        ids: Iterable[int],
        epoch: int,
        stamp: bytes,
        definition: Definition,
    ) -> None:
        """Remember the ids of some series, which Redis stored with *definition*.

        An id below 0 means that the series does not exist.

        Ids learned in another epoch are forgotten, because their series may have been removed.
        """
        self._packed.clear()
        if self.epoch != epoch:
            self.ids.clear()
        self.epoch, self.stamp, self.definition = epoch, stamp, definition
        pairs = zip(canonicals, ids, strict=True)
        self.ids.update((canonical, number) for canonical, number in pairs if number >= 0)

    def packed_ids(self, canonicals: list[bytes]) -> bytes | None:
        """Return the ids of these series as u4; None if any of them is unknown."""
        kept = self._packed.get(canonicals[0])
        # Equal lists mostly have the same elements, which are compared by identity.
        if kept is not None and kept[0] == canonicals:
            return kept[1]
        ids = list(map(self.ids.get, canonicals))
        if None in ids:
            return None
        packed = struct.pack(f"<{len(ids)}I", *ids)
        if len(ids) >= _KEPT_FROM:
            if len(self._packed) * len(ids) > 2 * len(self.ids):
                # They start with a different series than before.
                self._packed.clear()
            self._packed[canonicals[0]] = canonicals, packed
        return packed

    def forget(self, canonical: bytes | None = None) -> None:
        """Forget the id of one series, or of all."""
        if canonical is None:
            self.ids.clear()
        else:
            self.ids.pop(canonical, None)
        self._packed.clear()
