"""The interface to an archive, for the part of a window that Redis no longer holds.

Redis serves everything from a boundary on, which is the start of the oldest partition within the
retention of the level that a query needs; an archive serves what is before it. So no slot counts
twice, and a slot in Redis always takes precedence.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

from redismetrics.columnar.rollup_table import Table
from redismetrics.columnar.summaries import ALL
from redismetrics.model.validation import MetricType
from redismetrics.store.driver import BlockingCall, Operation

# Takes a width and two times, and returns the ascending starts of the slots of this width between
# these times that must not be read as a whole if finer ones are stored. All in ms.
Cuts = Callable[[int, int, int], Sequence[int]]


class Share(NamedTuple):
    """The part of a window that an archive may serve.

    *widths* are the allowed lengths of slots in ms, coarsest first. Redis holds the data from
    *until_ms* on.
    """

    widths: tuple[int, ...]
    until_ms: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to read of a window from an archive.

    Attributes:
        shares: The first share of which the archive has all slots is used, otherwise the last one.
        is_strict: Whether it is an error if the archive lacks slots of every share but has wider
            ones; False for an open window.
        tags: Only series with these tags; None means that the tag must be missing.
        cuts: Slots that must not be read as a whole; None means those cut by the window.
        with_points: Whether to read the points of digests.
        is_known_only: Whether to leave out series that Redis does not know.
        columns: The columns of summaries to read.
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
    """A query to an archive.

    Attributes:
        namespace: The namespace of the metric.
        name: The metric.
        type: Its type; None if Redis does not know the metric.
        series: The tags of each series that Redis knows, by id.
        oldest_ms: The oldest hour of the metric that Redis ever had; None if unknown.
        since_ms: Start of the window.
        until_ms: End of the window, exclusive.
        wanted: What to read of the window.
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
    """The data from an archive.

    Attributes:
        type: The type of the metric; None if the archive does not know it either.
        until_ms: From here on, Redis serves the window.
        series: The tags of series that Redis does not know, by otherwise unused ids.
        tables: Rows of slots, with the length of the slots in ms. Their series are ids.
    """

    type: MetricType | None
    until_ms: int
    series: dict[int, dict[str, str]]
    tables: list[tuple[Table, int]]


class Older(Protocol):
    """The interface of an archive to queries."""

    def read(self, question: OlderQuestion) -> OlderData:
        """Return the data from the archive. Blocks.

        Raises:
            ArchiveUnavailable: If the archive does not answer.
            OutsideRetention: If it has only wider slots than a strict query allows.
            TooManyRows: If it has more data than may be read at once.
        """
        ...

    def close(self) -> None:
        """Close the connections. The next query reopens them."""
        ...


def ask_older(older: Older, question: OlderQuestion) -> Operation[OlderData]:
    """Return the archive's answer to a query."""
    (found,) = yield [BlockingCall(partial(older.read, question))]
    return found  # type: ignore[no-any-return]
