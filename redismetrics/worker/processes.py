"""Merge the values of dead processes, so that their separate fields can be removed.

These are values of gauges declared with ``per="process"``. A process that exits normally has
already merged its own; see lua/include/process_values.lua.
"""

from collections.abc import Callable

from redismetrics.columnar.process_values import (
    GONE_MS,
    GoneValues,
    Process,
    ProcessValue,
    SeriesValues,
    gone_field,
    merge_mode,
    newest_ended,
    read_values,
)
from redismetrics.columnar.totals import split_live
from redismetrics.model.time import SECOND
from redismetrics.store import catalog, keys, scripts
from redismetrics.store.driver import Operation
from redismetrics.store.due_slot import PROCESSES
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.namespace import Namespace
from redismetrics.store.replies import pairs, reading, series_by_id

from .commit import CommitPlan, MetricVersion, Outcome, Result, commit, read_consistent

# Time between two checks of a metric.
INTERVAL_MS = 60 * SECOND
# How long a process must have been silent: longer than until it counts as dead, because a commit
# for each short silence would be wasteful.
SILENT_MS = 2 * GONE_MS
# Maximum number of fields that one commit removes.
MOST_REMOVED = 1_000


def merge_gone(metric: MetricLocation, seen: MetricVersion) -> Operation[Result]:
    """Merge the values of a metric's dead processes, and check again in a minute.

    When no process has a value any more, sealing schedules the next check.
    """
    definition = seen.definition
    if definition is None or definition.options.per is None:
        return Result((yield from commit(metric, seen, CommitPlan(finished=[PROCESSES]))))
    replies = yield from read_consistent(
        metric, seen, [("HGETALL", metric.recorded.totals), ("HGETALL", metric.recorded.series)]
    )
    if replies is None:
        return Result(Outcome.AGAIN)
    mode = merge_mode(definition.options.merge)
    with reading(f"live: the values of {metric.name!r}"):
        live, series = pairs(replies[0]), series_by_id(replies[1])
        found = read_values(split_live(live).values, live)
    plan = CommitPlan(cleanups=[(PROCESSES, seen.now_ms + INTERVAL_MS)])
    left = False
    for number, values in found.items():
        gone = values.own if number not in series else silent(values, mode, seen.now_ms)
        gone = gone[: max(MOST_REMOVED - len(plan.totals), 0)]
        left = left or len(gone) < len(values.own)
        if gone:
            plan.totals += merged_fields(number, values, gone, mode, live)
    if not left:
        plan.cleanups, plan.finished = [], [PROCESSES]
    return Result((yield from commit(metric, seen, plan)))


def end_live_values(namespace: Namespace, is_dead: Callable[[Process], bool]) -> Operation[int]:
    """Remove the live values of dead processes; return their number.

    Values that still count when their process is dead are kept: a worker merges them.
    """
    config = yield from namespace.config()
    definitions = yield from catalog.catalogue(namespace.name, config.shards)
    ended = 0
    for name, definition in definitions.items():
        mode = merge_mode(definition.options.merge)
        if definition.options.per is not None and mode.startswith("live"):
            shard = keys.shard_of(name, config.shards)
            ended += yield from _end_live_values(namespace.name, shard, name, mode, is_dead)
    return ended


def _end_live_values(
    namespace: str, shard: int, name: str, mode: str, is_dead: Callable[[Process], bool]
) -> Operation[int]:
    """`end_live_values` for one metric."""
    totals = keys.metric(namespace, shard, name).totals
    recorded = keys.shard(namespace, shard).recorded
    while True:
        (flat,) = yield [("HGETALL", totals)]
        with reading(f"live: the values of {name!r}"):
            live = pairs(flat)
            found = read_values(split_live(live).values, live)
        ended, fields = 0, []
        for number, values in found.items():
            gone = [each for each in values.own if is_dead(each.process)]
            if gone:
                ended += len(gone)
                fields += merged_fields(number, values, gone, mode, live)
        if not ended:
            return 0
        flat_fields = [each for field in fields for each in field]
        sha = scripts.script("end_values").sha
        (done,) = yield [("EVALSHA", sha, 2, totals, recorded, name, *flat_fields)]
        if done:
            return ended


def silent(values: SeriesValues, mode: str, now_ms: float) -> list[ProcessValue]:
    """Return the values of processes that have ended or been silent for long, oldest first.

    In the mode `all`, those that still have a row are left out.
    """
    kept = newest_ended(values.own, now_ms) if mode == "all" else []
    oldest_ms = now_ms - SILENT_MS
    found = [
        each
        for each in values.own
        if (each.has_ended or each.clock // 1000 < oldest_ms) and each not in kept
    ]
    return sorted(found, key=lambda each: each.clock)


def merged_fields(
    series: int,
    values: SeriesValues,
    gone: list[ProcessValue],
    mode: str,
    live: dict[bytes, bytes],
) -> list[tuple[bytes, bytes, bytes]]:
    """Return the fields to change to merge *gone*: as they are in *live*, and their new value.

    An empty value stands for no field.
    """
    merged = values.gone or GoneValues()
    changed = []
    for each in gone:
        merged.add(each, mode)
        name = b"%d %b" % (series, each.writer)
        changed.append((name, live[name], b""))
    name = gone_field(series)
    return [*changed, (name, live.get(name, b""), merged.pack())]
