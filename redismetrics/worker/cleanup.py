"""Remove old blocks, idle series, and series deleted by users."""

import secrets
from collections.abc import Mapping, Set
from dataclasses import dataclass

import msgpack
import numpy as np

from redismetrics.columnar.arrays import Floats, Ints
from redismetrics.columnar.process_values import read_values
from redismetrics.columnar.totals import TotalsTable, split_live, unpack_change
from redismetrics.model.retention import MARGIN, REPLAY_US
from redismetrics.model.time import SECOND
from redismetrics.model.validation import unpack_tags
from redismetrics.store import keys, scripts
from redismetrics.store.driver import Operation
from redismetrics.store.due_slot import CLEANUPS, SWEEP, TRIM
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.namespace import Namespace
from redismetrics.store.replies import pairs, read_definition, reading, series_by_id

from .commit import (
    CommitPlan,
    MetricVersion,
    Outcome,
    Result,
    commit,
    read_consistent,
    read_version,
)
from .due import sweep_interval
from .limits import DEFAULT_LIMITS, WorkerLimits


def trim(metric: MetricLocation, seen: MetricVersion | None = None) -> Operation[Result]:
    """Remove sealed blocks from the log of a metric that is no longer recorded.

    If blocks that are too young or unsealed remain, another trim is scheduled.
    """
    seen = seen or (yield from read_version(metric))
    metric = metric.of(seen.definition)
    replies = yield from read_consistent(metric, seen, [("ZCARD", metric.recorded.log)])
    if replies is None:
        return Result(Outcome.AGAIN)
    plan = CommitPlan(finished=[TRIM])
    if replies[0]:
        plan = CommitPlan(cleanups=[(TRIM, seen.now_ms + REPLAY_US // 1000 + SECOND)])
    return Result((yield from commit(metric, seen, plan)))


def sweep(metric: MetricLocation, seen: MetricVersion | None = None) -> Operation[Result]:
    """Forget the series without any stored data; with the last of them, the metric."""
    seen = seen or (yield from read_version(metric))
    metric = metric.of(seen.definition)
    if seen.definition is None:
        return Result((yield from commit(metric, seen, CommitPlan(finished=[SWEEP]))))
    series = yield from _read_series(metric, seen)
    if series is None:
        return Result(Outcome.AGAIN)
    coarsest = metric.retention.coarsest
    oldest_ms = seen.now_ms - coarsest.retention - coarsest.partition - MARGIN
    plan = CommitPlan(cleanups=[(SWEEP, seen.now_ms + sweep_interval(metric.retention))])
    idle = {
        number: tags
        for number, tags in series.tags.items()
        if 0 < series.seen_ms.get(number, 0) < oldest_ms
    }
    if series.has_unknown:
        # A newer version may have recorded any series just now.
        idle = {}
    plan.forgotten = list(idle.values())
    left = series.tags.keys() - idle.keys()
    for row in series.rows:
        _clear(plan, row, left)
    plan.totals += [
        (field, data, b"")
        for number in series.values.keys() - left
        for field, data in series.values[number]
    ]
    if not plan.forgotten and not plan.totals:
        return Result((yield from commit(metric, seen, plan)))
    if not left and not seen.due:
        plan.none_left, plan.finished, plan.cleanups = True, [*CLEANUPS], []
    outcome = yield from commit(metric, seen, plan)
    return Result(outcome, forgotten=len(plan.forgotten))


def delete_series(
    namespace: Namespace,
    name: str,
    tags: Mapping[str, str | None],
    limits: WorkerLimits = DEFAULT_LIMITS,
) -> Operation[int]:
    """Forget the series with these tags and their data; return their number.

    A value of None means that the series must not have that tag. Readers skip rows and changes of
    ids without a series; the sweep removes anything sent in between.
    """
    config = yield from namespace.config()
    shard = keys.shard_of(name, config.shards)
    of, worked = keys.metric(namespace.name, shard, name), keys.rollup(namespace.name, shard, name)
    of_shard = keys.shard(namespace.name, shard)
    exemplars = keys.exemplars(namespace.name, shard, name)
    definition, found, live, exemplar_fields = yield [
        ("HGET", of_shard.catalogue, name),
        ("HGETALL", of.series),
        ("HKEYS", of.totals),
        ("HKEYS", exemplars),
    ]
    if definition is None:
        return 0
    known = read_definition(name, definition)
    with reading(f"the series of {name!r}"):
        ids = {
            canonical: int(number)
            for canonical, number in pairs(found).items()
            if canonical and _has_tags(canonical, tags)
        }
        values = split_live(dict.fromkeys(live, b"")).values
        exemplars_of: dict[int, list[bytes]] = {}
        for field in exemplar_fields:
            exemplars_of.setdefault(keys.series_and_bucket(field)[0], []).append(field)
    chosen, deleted = list(ids), 0
    for at in range(0, len(chosen), limits.series_per_commit):
        part = chosen[at : at + limits.series_per_commit]
        names = (
            worked.state,
            of.series,
            of.totals,
            of.values,
            worked.touched,
            of_shard.recorded,
            exemplars,
        )
        numbers = [ids[canonical] for canonical in part]
        of_values = [field for number in numbers for field in values.get(number, ())]
        of_exemplars = [field for number in numbers for field in exemplars_of.get(number, ())]
        (reply,) = yield [
            (
                "EVALSHA",
                scripts.script("delete_series").sha,
                len(names),
                *names,
                name,
                secrets.token_hex(4),
                *keys.totals_shape(known.type, len(known.buckets)),
                msgpack.packb(of_values, use_bin_type=False),
                msgpack.packb(of_exemplars, use_bin_type=False),
                *part,
            )
        ]
        deleted += int(reply)
    return deleted


@dataclass(frozen=True, slots=True)
class _Rows:
    """One field of the metric's totals, as read.

    Attributes:
        field: Number of the field.
        data: Its bytes.
        ids: Series ids, shape (series,).
        values: The totals, shape (series, width).
    """

    field: int
    data: bytes
    ids: Ints
    values: Floats


@dataclass(frozen=True, slots=True)
class _Series:
    """All series of a metric.

    Attributes:
        tags: Canonical tags by id.
        seen_ms: When each was last recorded, by id; 0 if unknown.
        rows: The totals.
        values: Fields with per-process values and their bytes, by id.
        has_unknown: Whether changes of an unknown kind are waiting.
    """

    tags: dict[int, bytes]
    seen_ms: dict[int, int]
    rows: list[_Rows]
    values: dict[int, list[tuple[bytes, bytes]]]
    has_unknown: bool


def _read_series(metric: MetricLocation, seen: MetricVersion) -> Operation[_Series | None]:
    """Read all series; None if the metric has changed since it was read."""
    definition = seen.definition
    assert definition is not None, "BUG: the metric has no definition"
    replies = yield from read_consistent(
        metric, seen, [("HGETALL", metric.recorded.totals), ("HGETALL", metric.recorded.series)]
    )
    if replies is None:
        return None
    live, series = replies
    width, per_field = keys.totals_shape(definition.type, len(definition.buckets))
    with reading(f"live: the totals of {metric.name!r}"):
        fields = pairs(live)
        found = split_live(fields)
        table = TotalsTable(width, per_field, found.rows, list(map(unpack_change, found.changes)))
        seen_ms = dict(
            zip(table.ids.tolist(), table.values[:, 0].astype(np.int64).tolist(), strict=True)
        )
        if definition.options.per is None:
            # Values of a newer version, which knows when they were last set.
            seen_ms |= dict.fromkeys(found.values, 0)
        else:
            for number, values in read_values(found.values, fields).items():
                seen_ms[number] = max(seen_ms.get(number, 0), values.seen_ms)
        return _Series(
            series_by_id(series),
            seen_ms,
            [
                _Rows(
                    number,
                    data,
                    np.arange(per_field) + number * per_field,
                    np.frombuffer(data, "<f8").reshape(per_field, width),
                )
                for number, data in found.rows.items()
            ],
            {
                number: [(name, fields[name]) for name in names]
                for number, names in found.values.items()
            },
            table.unknown > 0,
        )


def _clear(plan: CommitPlan, rows: _Rows, left: Set[int]) -> None:
    """Plan to set rows of series that are not *left* to 0.

    Rows of a deleted series may be created by a later fold of its changes.
    """
    used = rows.ids[rows.values[:, 0] != 0].tolist()
    gone = [number for number in used if number not in left]
    if gone:
        cleared = np.where(np.isin(rows.ids, gone)[:, None], 0.0, rows.values)
        plan.totals.append((b"%d" % rows.field, rows.data, cleared.astype("<f8").tobytes()))


def _has_tags(canonical: bytes, tags: Mapping[str, str | None]) -> bool:
    found = unpack_tags(canonical)
    return all(found.get(key) == value for key, value in tags.items())
