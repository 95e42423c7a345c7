"""The commit protocol: read a metric at one version, and write only if it still has that version.

Every read begins and ends with the metric's version, and the commit names it. So whatever two
workers do concurrently, the commit of a worker that read outdated data is rejected. The rules are
in docs/architecture.md.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import msgpack

from redismetrics.columnar.batch_stamp import stamp_bytes
from redismetrics.errors import FormatMismatch
from redismetrics.model.definition import Definition
from redismetrics.model.retention import MARGIN, REPLAY_US, Resolution
from redismetrics.model.time import SECOND
from redismetrics.store import keys
from redismetrics.store.driver import Command, Operation
from redismetrics.store.due_slot import DueSlot
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.record_state import RecordState
from redismetrics.store.replies import pairs, read_definition, read_now_ms, reading

from .commit_call import commit_command

# Maximum number of sizes of expired data that one commit removes from `held`; later commits remove
# the rest.
EXPIRED_PER_COMMIT = 1_000

# Later than any time; exact as a double, which the script compares.
_NEVER_MS = 1 << 52

# Replies of commit.lua if something has changed in the meantime.
_CONFLICTS = (b"version", b"log", b"late")


class Outcome(Enum):
    """The outcome of a piece of work.

    Attributes:
        DONE: Committed.
        NOTHING: There was nothing to do.
        AGAIN: The metric has changed since it was read. Nothing was written; read it again.
        MORE: Committed, and there is more of the same work.
        ALONE: It failed together with other metrics. Nothing was written; retry it separately.
    """

    DONE = "done"
    NOTHING = "nothing"
    AGAIN = "again"
    MORE = "more"
    ALONE = "alone"


@dataclass(slots=True)
class Result:
    """The outcome of a piece of work, and its counts.

    Attributes:
        late: Samples that arrived after their minute had expired.
        forgotten: Number of removed series.
        waited_ms: How long the oldest block had waited.
        error: An additional part that could not be done.
    """

    outcome: Outcome
    blocks: int = 0
    samples: int = 0
    late: int = 0
    bytes: int = 0
    forgotten: int = 0
    waited_ms: int = 0
    error: FormatMismatch | None = None


@dataclass(slots=True)
class MetricVersion:
    """The state of a metric in the first round trip.

    Attributes:
        version: None for a metric that no worker has committed to.
        sealed: Clock up to which the log is sealed.
        due: Fields of the hash `due`.
        definition: None for a metric that does not exist.
        now_ms: The server's time.
        recorded: The record-side state.
    """

    version: bytes | None
    sealed: bytes
    due: dict[bytes, bytes]
    definition: Definition | None
    now_ms: int
    recorded: RecordState

    def is_due(self, slot: DueSlot) -> bool:
        return slot.field.encode() in self.due

    def due_slots(self) -> list[DueSlot]:
        with reading("due"):
            return list(map(DueSlot.parse, self.due))


@dataclass(slots=True)
class KeyWrites:
    """The writes of a commit to one data key.

    Attributes:
        partition_ms: Start of the partition.
        fields: Fields to set.
        removed: Fields to delete.
        persist: Keep the key beyond its retention, because a coarser slot that is due needs it.
        refuse: Write nothing if the key is past its retention.
        keeps_expiry: The expiry of the key is already correct, if the key is not empty.
    """

    resolution: Resolution
    partition_ms: int
    fields: dict[str, bytes] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    persist: bool = False
    refuse: bool = True
    keeps_expiry: bool = False

    @property
    def name(self) -> str:
        """Its name in `held`."""
        return keys.data_name(self.resolution.name, self.partition_ms)

    @property
    def expired_from(self) -> int:
        """When the key is past its retention, in ms."""
        return self.partition_ms + self.resolution.partition + self.resolution.retention

    @property
    def expires(self) -> int:
        """When the key expires, in seconds; 0: never."""
        return 0 if self.persist else (self.expired_from + MARGIN) // SECOND


@dataclass(frozen=True, slots=True)
class Fold:
    """Changes of the totals to fold in a commit.

    Attributes:
        first: Number of the oldest change.
        stamp: Stamp of the newest change, which identifies it.
        sizes: Bytes of each change.
        rows: Flat list of fields of the totals and their new values, including the number of the
            oldest remaining change.
    """

    first: int
    stamp: bytes
    sizes: list[int]
    rows: list[bytes]


@dataclass(slots=True)
class CommitPlan:
    """Everything that one commit does.

    Attributes:
        blocks: Blocks to seal, in order of the log.
        sealed: Clock up to which the log is then sealed; None means unchanged.
        schedule: Slots that become due, with the time in ms.
        finished: Work that is no longer due.
        late: Samples whose minute had expired.
        inexact: Samples that are not kept one by one, because the metric has too many bytes of
            them.
        samples: Samples sealed into each hour, by the hour's start in ms.
        expired_sizes: Fields of `held` to remove.
        cleanups: Cleanups to schedule, with the time in ms.
        new_cleanups: The same, unless the cleanup is already scheduled.
        forgotten: Canonical tags of series to forget.
        totals: Fields of the totals to change: field, value read, new value; b"" removes the field.
        fold: Changes of the totals to fold.
        none_left: Remove the metric, because its last series is forgotten.
        token: Makes the new version unique.
    """

    writes: list[KeyWrites] = field(default_factory=list)
    blocks: list[bytes] = field(default_factory=list)
    sealed: bytes | None = None
    schedule: dict[DueSlot, int] = field(default_factory=dict)
    finished: list[DueSlot] = field(default_factory=list)
    late: int = 0
    inexact: int = 0
    samples: dict[int, int] = field(default_factory=dict)
    expired_sizes: list[bytes] = field(default_factory=list)
    cleanups: list[tuple[DueSlot, int]] = field(default_factory=list)
    new_cleanups: list[tuple[DueSlot, int]] = field(default_factory=list)
    forgotten: list[bytes] = field(default_factory=list)
    totals: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)
    fold: Fold | None = None
    none_left: bool = False
    token: str = field(default_factory=lambda: secrets.token_hex(4))

    def new_version(self, seen: MetricVersion) -> bytes:
        """Return the version of a metric after this commit to it."""
        count = re.match(rb"\d*", seen.version or b"")
        return b"%d.%s" % (int(count[0] if count and count[0] else 0) + 1, self.token.encode())


def read_version(metric: MetricLocation) -> Operation[MetricVersion]:
    """Read the metric's version, and the state that every piece of work needs."""
    (seen,) = yield from read_versions([metric])
    return seen


def read_versions(metrics: Sequence[MetricLocation]) -> Operation[list[MetricVersion]]:
    """Read the versions of several metrics of a shard, like `read_version`."""
    found: dict[str, MetricVersion] = {}
    left = list(metrics)
    while left:
        count, names = len(left), [metric.name for metric in left]
        of_shard = keys.shard(left[0].namespace, left[0].shard)
        replies = yield [
            *(("HMGET", metric.worked.state, "version", "sealed") for metric in left),
            *(("HGETALL", metric.worked.due) for metric in left),
            ("HMGET", of_shard.catalogue, *names),
            ("HMGET", of_shard.recorded, *names),
            ("TIME",),
            *(("HGET", metric.worked.state, "version") for metric in left),
        ]
        definitions, states, time = replies[2 * count : 2 * count + 3]
        now_ms = read_now_ms(time)
        changed = []
        for metric, (version, sealed), due, definition, state, version_after in zip(
            left,
            replies[:count],
            replies[count : 2 * count],
            definitions,
            states,
            replies[2 * count + 3 :],
            strict=True,
        ):
            # If the version changed, read again: after a failover, replies of two versions could
            # mix.
            if version != version_after:
                changed.append(metric)
                continue
            known = None if definition is None else read_definition(metric.name, definition)
            with reading(f"recorded: the state of {metric.name!r}"):
                recorded = RecordState.unpack(state)
            found[metric.name] = MetricVersion(
                version, sealed or b"0", pairs(due), known, now_ms, recorded
            )
        left = changed
    return [found[metric.name] for metric in metrics]


def read_consistent(
    metric: MetricLocation, seen: MetricVersion, commands: list[Command]
) -> Operation[list[Any] | None]:
    """Return the replies, or None if the metric's version differs from *seen*."""
    version = ("HGET", metric.worked.state, "version")
    before, *replies, after = yield [version, *commands, version]
    return replies if before == seen.version == after else None


def commit(metric: MetricLocation, seen: MetricVersion, plan: CommitPlan) -> Operation[Outcome]:
    """Write *plan* if the metric is still at version *seen* and return DONE, otherwise AGAIN.

    Returns ALONE if it failed in a call for several metrics.
    """
    data_keys = [metric.data(write.resolution.name, write.partition_ms) for write in plan.writes]
    rows = [] if plan.fold is None else plan.fold.rows
    arguments: list[Any] = [
        metric.name,
        seen.version or b"",
        plan.token,
        _pack(plan, seen),
        len(data_keys),
        len(rows) // 2,
        *rows,
        *(each for write in plan.writes for each in _arguments(write)),
    ]
    fields = len(rows) // 2
    fields += sum(len(write.fields) + len(write.removed) for write in plan.writes)
    if plan.fold is not None:
        fields += len(plan.fold.sizes)
    ((result,),) = yield [commit_command(metric, data_keys, fields, arguments)]
    if result == b"ok":
        return Outcome.DONE
    return Outcome.AGAIN if result in _CONFLICTS else Outcome.ALONE


def _arguments(write: KeyWrites) -> list[Any]:
    """Return the arguments of commit.lua for one data key."""
    return [
        write.name,
        write.expired_from if write.refuse else _NEVER_MS,
        write.expires,
        int(write.keeps_expiry),
        len(write.fields),
        len(write.removed),
        *(each for pair in write.fields.items() for each in pair),
        *write.removed,
    ]


def _pack(plan: CommitPlan, seen: MetricVersion) -> bytes:
    """Return *plan* in the format of commit.lua: its fields in a fixed order."""
    fold: list[Any] = []
    if plan.fold is not None:
        fold = [plan.fold.first, plan.fold.stamp, plan.fold.sizes]
    orders = [
        seen.sealed,
        plan.sealed or seen.sealed,
        [len(plan.blocks), *map(stamp_bytes, plan.blocks[:1] + plan.blocks[-1:])],
        REPLAY_US,
        [(slot.field, when) for slot, when in plan.schedule.items()],
        [slot.field for slot in plan.finished],
        plan.late,
        [(hour // SECOND, count) for hour, count in plan.samples.items()],
        plan.expired_sizes[:EXPIRED_PER_COMMIT],
        [(slot.field, when) for slot, when in plan.cleanups],
        [(slot.field, when) for slot, when in plan.new_cleanups],
        plan.forgotten,
        plan.totals,
        int(plan.none_left),
        fold,
        plan.inexact,
    ]
    packed: bytes = msgpack.packb(orders, use_bin_type=False)
    return packed
