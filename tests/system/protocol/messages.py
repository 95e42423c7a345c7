"""What processes send to the scripts, and what they get."""

from dataclasses import dataclass, field
from typing import NamedTuple

from tests.system.protocol.metric import Definition, Version
from tests.system.protocol.samples import Block, Rows, Sample
from tests.system.protocol.slots import Cell, Key
from tests.system.protocol.totals import Base, Change


class MetricBatch(NamedTuple):
    """The samples of one metric: each with the id of its series if known, else with its tags.

    Attributes:
        epoch: The epoch of the ids.
        kind: The kind of change; older versions do not know the newest.
        definition: What the writer knows to be the definition in that epoch. It is not sent: the
            script relies on the epoch, and only the judge looks at this. None if some series are
            sent with their tags, for the definition is sent with them.
    """

    metric: str
    epoch: int
    entries: tuple[tuple[int | str, Sample], ...]
    kind: int = 1
    definition: Definition | None = None


class Batch(NamedTuple):
    """What a writer sends; the parts may be packed before the numbers are known.

    *version* is that of the writer, and so of the script. *ends* says that the process ends.
    """

    writer: str
    sequence: int
    confirmed: int
    parts: tuple[MetricBatch, ...]
    version: int = 1
    ends: bool = False


class Reply(NamedTuple):
    """The reply to a batch.

    Attributes:
        outcomes: By metric: stored, too_old, in_future, unknown_series or newer_kind.
        held: Number of the writer's batch before.
        ids: By metric: series ids that are new to the writer, and valid for the epoch.
        definitions: By metric.
        missing: Repeated values whose series does not exist.
    """

    outcomes: dict[str, str]
    held: int
    time: int
    ids: dict[str, dict[str, int]]
    epochs: dict[str, int]
    definitions: dict[str, Definition | None]
    missing: tuple[Sample, ...] = ()


class Look(NamedTuple):
    """What the first round trip of a worker, a reader or the pruner finds."""

    version: Version
    sealed: int
    due: dict[Cell, int]
    time: int
    tags: dict[int, str]


class Fold(NamedTuple):
    """What a worker has folded: *changes*, the number of the first, and the resulting fields."""

    metric: str
    version: Version
    first: int
    changes: tuple[Change, ...]
    fields: Base


@dataclass(frozen=True)
class Commit:
    """Arguments of commit.lua: seal *blocks*, or replace the coarser slot *built*.

    *segments* holds, by resolution, the slots inside *built*, which replace their fields. Of the
    keys *kept* the worker knows that they expire as they must, if they are there.
    """

    version: Version
    rows: dict[Cell, Rows]
    blocks: tuple[Block, ...] = ()
    dropped: tuple[int, ...] = ()
    mark: frozenset[Cell] = frozenset()
    built: Cell | None = None
    segments: dict[str, dict[int, Rows]] = field(default_factory=dict)
    kept: frozenset[Key] = frozenset()
