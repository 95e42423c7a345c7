"""How far a feed has read: the position in each shard, and the newest batch of each writer."""

from collections import OrderedDict
from dataclasses import dataclass, field

# Maximum number of writers whose newest batch is remembered. A block of a forgotten writer that is
# read again from the log after a reconnect would be delivered twice.
MAX_WRITERS = 10_000


@dataclass(slots=True)
class Position:
    """How far one shard has been read.

    All blocks before *clock* are known, and at *clock* the blocks of the metrics *names*, which
    came in batch *sequence* of *writer*.
    """

    clock: int
    names: set[str] = field(default_factory=set)
    writer: str = ""
    sequence: int = 0


# What a reader has received, by shard: the clock of the newest batch, and the number of items
# received from it. The count is -1 if the reader started after that batch.
Received = dict[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class PositionMark:
    """What a reader has received once it has read the queue up to this mark.

    If *shard* is not None, the following samples belong to the newest batch of that shard.
    """

    received: Received
    shard: int | None = None


@dataclass(slots=True)
class Resumed:
    """The newest batch that a reader had received when it lost its connection.

    *expected*: how many items of it the reader had; *found*: how many there are in the logs.
    """

    clock: int
    expected: int
    found: int = 0


class WriterHistory:
    """The newest batch of each writer and shard, and which of its metrics were delivered."""

    def __init__(self, limit: int = MAX_WRITERS) -> None:
        self._limit = limit
        self._newest: OrderedDict[tuple[int, str], tuple[int, set[str]]] = OrderedDict()

    def has(self, shard: int, writer: str, sequence: int, name: str) -> bool:
        """Return whether the block was delivered, or is older than the writer's newest batch."""
        newest, names = self._newest.get((shard, writer), (0, set()))
        return sequence < newest or (sequence == newest and name in names)

    def add(self, shard: int, writer: str, sequence: int, name: str) -> set[str]:
        """Note a delivered block; return the metrics of its batch that were delivered so far."""
        newest, names = self._newest.get((shard, writer), (0, set()))
        if sequence > newest:
            names = set()
        names.add(name)
        self._newest[shard, writer] = sequence, names
        self._newest.move_to_end((shard, writer))
        if len(self._newest) > self._limit:
            self._newest.popitem(last=False)
        return names
