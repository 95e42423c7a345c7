"""Read what sealing needs, in one round trip, for metrics unchanged since this worker's commit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redismetrics.store import keys
from redismetrics.store.driver import Command, Operation, gather
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.record_state import RecordState
from redismetrics.store.replies import read_definition, read_now_ms, reading

from .commit import MetricVersion, read_versions
from .fold import WaitingChanges, change_fields, waiting_changes
from .limits import WorkerLimits
from .memory import Memory, Remembered


@dataclass(slots=True)
class KnownVersion(MetricVersion):
    """A metric unchanged since this worker's commit, and what is waiting to be sealed and folded.

    Attributes:
        known: The state after this worker's commit.
        log: Waiting blocks, with their clocks.
        changes: Waiting changes.
        first: Number of the oldest change that is not included in the rows.
        rows: Fields of the totals, read together with the changes; None if there are none.
    """

    known: Remembered
    log: list[tuple[bytes, bytes]]
    changes: WaitingChanges
    first: bytes | None
    rows: dict[int, bytes | None]

    def rows_of(self, numbers: list[int]) -> list[bytes | None] | None:
        """Return what folding these fields needs, or None if some were not read."""
        if not self.rows.keys() >= set(numbers):
            return None
        return [self.first, *(self.rows[number] for number in numbers)]


def read_ahead(
    metrics: Sequence[MetricLocation],
    memory: Memory,
    states: dict[str, RecordState],
    limits: WorkerLimits,
) -> Operation[list[MetricVersion]]:
    """Read the versions of several metrics of a shard, like `read_versions`.

    For metrics unchanged since this worker's commit, also read what is waiting. *states* are the
    record-side states of the metrics a moment ago, which tell what changes are waiting. Each is
    used once.
    """
    plans = [_Plan(metric, memory, states, limits) for metric in metrics]
    known = [plan for plan in plans if plan.known is not None]
    others = [plan.metric for plan in plans if plan.known is None]
    found = yield from gather([_read_known(known, memory), read_versions(others)])
    names = [*(plan.metric.name for plan in known), *(metric.name for metric in others)]
    by_name = dict(zip(names, [*found[0], *found[1]], strict=True))
    return [by_name[metric.name] for metric in metrics]


class _Plan:
    """What to read of a metric."""

    def __init__(
        self,
        metric: MetricLocation,
        memory: Memory,
        states: dict[str, RecordState],
        limits: WorkerLimits,
    ) -> None:
        self.metric = metric
        state = states.pop(metric.name, None)
        self.known = None if state is None else memory.get(metric)
        if state is None or self.known is None:
            return
        self.first = state.first_change
        self.changes = change_fields(state, limits.changes_at_once)
        self.fields = self.known.fields if self.changes else []
        log = ("ZRANGEBYSCORE", metric.recorded.log, b"(" + self.known.sealed, "+inf")
        self.reads: list[Command] = [(*log, "WITHSCORES", "LIMIT", 0, limits.blocks_at_once)]
        if self.changes:
            totals = ("HMGET", metric.recorded.totals, "first")
            self.reads.append((*totals, *map(str, self.fields), *self.changes))

    def version(
        self, now_ms: int, definition: bytes | None, state: bytes | None, replies: list[Any]
    ) -> MetricVersion:
        """Return the version with the *replies* to `reads`."""
        assert self.known is not None, "BUG: the metric is not known"
        name, (blocks, *totals) = self.metric.name, replies
        first, *fields = totals[0] if totals else (None,)
        count = len(self.fields)
        with reading(f"recorded: the state of {name!r}"):
            recorded = RecordState.unpack(state)
        return KnownVersion(
            self.known.version,
            self.known.sealed,
            self.known.due,
            None if definition is None else read_definition(name, definition),
            now_ms,
            recorded,
            self.known,
            list(zip(blocks[::2], blocks[1::2], strict=True)),
            waiting_changes(self.first, fields[count:]),
            first,
            dict(zip(self.fields, fields[:count], strict=True)),
        )


def _read_known(plans: list[_Plan], memory: Memory) -> Operation[list[MetricVersion]]:
    """Read what is waiting for known metrics; read the versions of others again."""
    if not plans:
        return []
    count, metrics = len(plans), [plan.metric for plan in plans]
    of_shard, names = keys.shard(metrics[0].namespace, metrics[0].shard), [m.name for m in metrics]
    replies = yield [
        *(("HMGET", metric.worked.state, "version", "sealed") for metric in metrics),
        ("HMGET", of_shard.catalogue, *names),
        ("HMGET", of_shard.recorded, *names),
        ("TIME",),
        *(command for plan in plans for command in plan.reads),
        *(("HGET", metric.worked.state, "version") for metric in metrics),
    ]
    definitions, states, time = replies[count : count + 3]
    now_ms, at = read_now_ms(time), count + 3
    found: dict[str, MetricVersion] = {}
    changed = []
    for plan, before, definition, state, after in zip(
        plans, replies[:count], definitions, states, replies[-count:], strict=True
    ):
        known, read = plan.known, replies[at : at + len(plan.reads)]
        at += len(plan.reads)
        if known is not None and before == [known.version, known.sealed] and after == before[0]:
            found[plan.metric.name] = plan.version(now_ms, definition, state, read)
        else:
            memory.forget(plan.metric)
            changed.append(plan.metric)
    for metric, seen in zip(changed, (yield from read_versions(changed)), strict=True):
        found[metric.name] = seen
    return [found[metric.name] for metric in metrics]
