"""The seam to an archive: what a window holds that begins before what Redis holds.

Redis answers from a boundary on, which is the start of the oldest partition within the retention
of the level that a query needs; an archive answers what is before it. So no slot counts twice, and
where Redis has a slot, it is Redis' slot that counts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

from redismetrics.columnar.rollup_table import Table
from redismetrics.columnar.summaries import ALL
from redismetrics.model.validation import MetricType
from redismetrics.store.driver import BlockingCall, Operation

# Takes a width and two times, and returns the starts of the slots of this width between these times
# that must not be read as a whole if finer ones are held; ascending. All in ms.
Cuts = Callable[[int, int, int], Sequence[int]]


class Share(NamedTuple):
    """What an archive may answer of a window.

    *widths* are those of the slots that it may use, in ms, coarsest first. At *until_ms* begins
    what Redis holds.
    """

    widths: tuple[int, ...]
    until_ms: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a window is wanted from an archive.

    Attributes:
        shares: The first one counts of which the archive has all slots, else the last one.
        is_strict: If the archive has not all slots of any share, but wider ones, that is an error;
            not for an open window.
        tags: Only series with these tags; None: the tag must be missing.
        cuts: Slots that are not read as a whole. None: those that the window cuts.
        with_points: Read the points of digests.
        is_known_only: Leave out series that Redis does not know.
        columns: The columns of summaries that are used.
    """

    shares: tuple[Share, ...]
    is_strict: bool
    tags: Mapping[str, str | None]
    cuts: Cuts | None = field(compare=False)
    with_points: bool
    is_known_only: bool = False
    columns: frozenset[str] = ALL


@dataclass(frozen=True, slots=True)
class OlderQuestion:
    """A question to an archive.

    Attributes:
        namespace: The namespace of the metric.
        name: The metric.
        type: Its type; None if Redis does not know the metric.
        series: The tags of each series that Redis knows, by id.
        oldest_ms: The oldest hour that Redis ever had of it; None if not known.
        since_ms: Start of the window.
        until_ms: End of the window, exclusive.
        wanted: What of it is wanted.
    """

    namespace: str
    name: str
    type: MetricType | None
    series: Mapping[int, dict[str, str]]
    oldest_ms: int | None
    since_ms: int
    until_ms: int
    wanted: Wanted


@dataclass(frozen=True, slots=True, eq=False)
class OlderData:
    """What an archive holds.

    Attributes:
        type: The type of the metric; None if the archive does not know it either.
        until_ms: From here on, Redis answers.
        series: The tags of series that Redis does not know, by ids that it does not use.
        tables: Rows of slots, with the length of the slots in ms. Their series are ids.
    """

    type: MetricType | None
    until_ms: int
    series: dict[int, dict[str, str]]
    tables: list[tuple[Table, int]]


class Older(Protocol):
    """An archive, as queries see it."""

    def read(self, question: OlderQuestion) -> OlderData:
        """Return what the archive holds. Blocks.

        Raises:
            ArchiveUnavailable: If the archive does not answer.
            OutsideRetention: If it has only wider slots than a strict question allows.
            TooManyRows: If it holds more than may be read at once.
        """
        ...

    def close(self) -> None:
        """Close connections. The next question opens them again."""
        ...


def ask_older(older: Older, question: OlderQuestion) -> Operation[OlderData]:
    """Return the answer to a question to an archive."""
    (found,) = yield [BlockingCall(partial(older.read, question))]
    return found  # type: ignore[no-any-return]
