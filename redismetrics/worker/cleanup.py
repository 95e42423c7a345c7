"""Remove old blocks, idle series, and series that a user deletes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from redismetrics.columnar.arrays import Bools, Floats, Ints
from redismetrics.errors import StoreError
from redismetrics.model.retention import MARGIN, REPLAY_US
from redismetrics.model.time import SECOND
from redismetrics.model.validation import unpack_tags
from redismetrics.store import keys
from redismetrics.store.driver import Operation
from redismetrics.store.due_slot import SWEEP, TRIM
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.namespace import Namespace

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
from .seal import seal


def trim(metric: MetricLocation) -> Operation[Result]:
    """Take sealed blocks off the log of a metric that is no longer recorded.

    If blocks remain that are too young or not sealed, another trim is scheduled.
    """
    seen = yield from read_version(metric)
    replies = yield from read_consistent(metric, seen, [("ZCARD", metric.recorded.log)])
    if replies is None:
        return Result(Outcome.AGAIN)
    plan = CommitPlan(finished=[TRIM])
    if replies[0]:
        plan = CommitPlan(cleanups=[(TRIM, seen.now_ms + REPLAY_US // 1000 + SECOND)])
    return Result((yield from commit(metric, seen, plan)))


def sweep(metric: MetricLocation) -> Operation[Result]:
    """Forget the series without any stored data; with the last of them, the metric."""
    seen = yield from read_version(metric)
    if seen.definition is None:
        return Result((yield from commit(metric, seen, CommitPlan(finished=[SWEEP]))))
    series = yield from _read_series(metric, seen)
    if series is None:
        return Result(Outcome.AGAIN)
    coarsest = metric.retention.coarsest
    oldest_ms = seen.now_ms - coarsest.retention - coarsest.partition - MARGIN
    plan = CommitPlan(cleanups=[(SWEEP, seen.now_ms + sweep_interval(metric.retention))])
    for row in series.totals:
        _forget(plan, series, row, (row.seen_ms > 0) & (row.seen_ms < oldest_ms))
    if not plan.forgotten:
        return Result((yield from commit(metric, seen, plan)))
    if not series.tags and not seen.due:
        plan.none_left, plan.finished, plan.cleanups = True, [SWEEP, TRIM], []
    outcome = yield from commit(metric, seen, plan)
    return Result(outcome, forgotten=len(plan.forgotten))


def delete_series(
    namespace: Namespace,
    name: str,
    tags: Mapping[str, str | None],
    limits: WorkerLimits = DEFAULT_LIMITS,
) -> Operation[int]:
    """Forget the series with these tags and what was recorded of them; return their number.

    None as a tag's value means that the series must not have that tag. The log must be sealed to
    its end, as for a sweep, so it is sealed first. Readers skip rows of ids without a series.

    Raises:
        StoreError: If the metric is recorded so fast that its log is never sealed to the end.
    """
    config = yield from namespace.config()
    shard = keys.shard_of(name, config.shards)
    metric = MetricLocation(namespace.name, shard, name, config.retention)
    deleted = attempts = 0
    while attempts < limits.deletion_attempts:
        sealed = yield from seal(metric, limits)
        if sealed.outcome is Outcome.MORE:
            continue
        seen = yield from read_version(metric)
        if seen.definition is None:
            return deleted
        series = yield from _read_series(metric, seen)
        if series is not None:
            chosen = [number for number, text in series.tags.items() if _has_tags(text, tags)]
            if not chosen:
                return deleted
            plan = CommitPlan()
            first = chosen[: limits.series_per_commit]
            for row in series.totals:
                _forget(plan, series, row, np.isin(row.ids, first) & (row.seen_ms > 0))
            # Series whose totals are lost.
            plan.forgotten += [series.tags[number] for number in first if number in series.tags]
            if (yield from commit(metric, seen, plan)) is Outcome.DONE:
                deleted, attempts = deleted + len(plan.forgotten), 0
                continue
        attempts += 1
    raise StoreError(
        f"{name!r} is recorded too fast to delete series from it: {deleted} were deleted; try again"
    )


@dataclass(frozen=True, slots=True)
class _TotalsRow:
    """One field of the metric's totals, as it was read.

    Attributes:
        field: Name of the field.
        data: Its bytes.
        ids: Series ids, shape (series,).
        values: The totals, shape (series, width).
    """

    field: bytes
    data: bytes
    ids: Ints
    values: Floats

    @property
    def seen_ms(self) -> Floats:
        """When each series was last recorded; 0 for an id without a series."""
        seen: Floats = self.values[:, 0]
        return seen


@dataclass(frozen=True, slots=True)
class _Series:
    """All series of a metric: canonical tags by id, and the totals."""

    tags: dict[int, bytes]
    totals: list[_TotalsRow]


def _read_series(metric: MetricLocation, seen: MetricVersion) -> Operation[_Series | None]:
    """Read all series; None if the metric changed since it was read."""
    definition = seen.definition
    assert definition is not None, "BUG: the metric has no definition"
    replies = yield from read_consistent(
        metric, seen, [("HGETALL", metric.recorded.series), ("HGETALL", metric.recorded.totals)]
    )
    if replies is None:
        return None
    series, totals = replies
    width, rows = keys.totals_shape(definition.type, len(definition.buckets))
    tags = {
        int(number): canonical
        for canonical, number in zip(series[::2], series[1::2], strict=True)
        if canonical
    }
    return _Series(
        tags,
        [
            _TotalsRow(
                field,
                data,
                np.arange(rows) + int(field) * rows,
                np.frombuffer(data, "<f8").reshape(rows, width),
            )
            for field, data in zip(totals[::2], totals[1::2], strict=True)
        ],
    )


def _forget(plan: CommitPlan, series: _Series, row: _TotalsRow, gone: Bools) -> None:
    """Add to *plan* that the series of *row* with True in *gone* are forgotten."""
    if gone.any():
        plan.forgotten += [
            series.tags.pop(number) for number in row.ids[gone].tolist() if number in series.tags
        ]
        cleared = np.where(gone[:, None], 0.0, row.values).astype("<f8").tobytes()
        plan.totals.append((row.field, row.data, cleared))


def _has_tags(canonical: bytes, tags: Mapping[str, str | None]) -> bool:
    found = unpack_tags(canonical)
    return all(found.get(key) == value for key, value in tags.items())
