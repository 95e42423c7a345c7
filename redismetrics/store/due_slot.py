"""Work that workers have to do for a metric later, in the form stored in `due` and `pending`."""

from typing import NamedTuple

from redismetrics.model.retention import Resolution, RetentionPolicy
from redismetrics.model.time import SECOND

# What is due after the coarsest resolution: merging a whole partition of it into its segment.
# It has no rows of its own.
PARTITION = "span"

# Prefix of work that is due long before a partition ends: merging the slots of a part of it into
# the segment. The name of the resolution follows, as in "fold-minute".
MERGE = "fold-"


class DueSlot(NamedTuple):
    """One piece of work of one metric: a slot and chunk to downsample or merge, or a cleanup.

    Its text is the field in the metric's `due` and the prefix of the member in the shard's
    `pending`: ``hour 1700000000 3``, ``span 1700000000 3``, ``fold-minute 1700000000 3``, ``trim 0
    0``, ``sweep 0 0``, ``processes 0 0``.

    Attributes:
        resolution: The coarser resolution to downsample to, `PARTITION`, or another kind of work.
        slot_ms: Start of the slot, in ms.
        chunk: Number of the chunk of series.
    """

    resolution: str
    slot_ms: int
    chunk: int

    @classmethod
    def parse(cls, field: str | bytes) -> "DueSlot":
        """Parse *field*, the text of a `DueSlot`.

        Raises:
            ValueError: If *field* has another form.
        """
        text = field.decode() if isinstance(field, bytes) else field
        name, slot_s, chunk = text.split(" ")
        return cls(name, int(slot_s) * SECOND, int(chunk))

    @classmethod
    def parse_pending(cls, member: bytes) -> tuple["DueSlot", str]:
        """Parse a member of `pending` into the piece of work and the metric's name.

        Raises:
            ValueError: If *member* has another form.
        """
        name, slot_s, chunk, metric = member.decode().split(" ", 3)
        return cls(name, int(slot_s) * SECOND, int(chunk)), metric

    @classmethod
    def merge(cls, resolution: str, slot_ms: int, chunk: int) -> "DueSlot":
        """Return the work of merging a part of a partition of *resolution* into its segment."""
        return cls(MERGE + resolution, slot_ms, chunk)

    @property
    def field(self) -> str:
        return f"{self.resolution} {self.slot_ms // SECOND} {self.chunk}"

    @property
    def merged(self) -> str | None:
        """The resolution of a merge; None for other work."""
        return self.resolution.removeprefix(MERGE) if self.resolution.startswith(MERGE) else None

    @property
    def kind(self) -> str:
        """The value of `resolution`, or `MERGE` for merges of any resolution."""
        return MERGE if self.resolution.startswith(MERGE) else self.resolution

    def source(self, retention: RetentionPolicy) -> Resolution | None:
        """Return the resolution whose slots are downsampled; None for other work."""
        if self.resolution == PARTITION:
            return retention.coarsest
        target = retention.named(self.resolution)
        return None if target is None or target is retention.raw else retention.finer(target)

    def pending_member(self, metric: str) -> str:
        """Return the member of the shard's `pending` for this work on *metric*."""
        return f"{self.field} {metric}"


def coarser(retention: RetentionPolicy, resolution: Resolution) -> list[tuple[str, int]]:
    """Return name and width (ms) of everything that becomes due above a slot of *resolution*.

    These are the coarser resolutions, finest first, then `PARTITION`.
    """
    above = [(each.name, each.width) for each in retention.coarser(resolution)]
    return [*above, (PARTITION, retention.coarsest.partition)]


# Cleanups: remove old blocks from the log; forget series without any remaining data; merge the
# values of dead processes.
TRIM, SWEEP = DueSlot("trim", 0, 0), DueSlot("sweep", 0, 0)
PROCESSES = DueSlot("processes", 0, 0)
CLEANUPS = (TRIM, SWEEP, PROCESSES)
