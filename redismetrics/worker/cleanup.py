"""Remove what has expired: idle series, deleted series, old bookkeeping."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redismetrics.columnar.arrays import Floats, Ints
from redismetrics.errors import StoreError
from redismetrics.model.retention import MARGIN, REPLAY_US
from redismetrics.model.time import SECOND
from redismetrics.model.validation import unpack_tags
from redismetrics.store import keys
from redismetrics.store.driver import Operation
from redismetrics.store.keys import SWEEP, TRIM
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
from .seal import seal

SERIES_PER_COMMIT = 1_000  # are deleted at once
DELETION_TRIES = 100  # to find a moment at which a metric's log is sealed to its end


def trim(metric: MetricLocation) -> Operation[Result]:
    """Take sealed blocks out of the log of a metric that is not recorded any more."""
    standing = yield from read_version(metric)
    replies = yield from read_consistent(metric, standing, [("ZCARD", metric.recorded.log)])
    if replies is None:
        return Result(Outcome.AGAIN)
    orders = CommitPlan(unmarks=[TRIM])
    if replies[0]:  # not all of it is old enough, or sealed: look again
        orders = CommitPlan(tidying=[(TRIM, standing.now_ms + REPLAY_US // 1000 + SECOND)])
    return Result((yield from commit(metric, standing, orders)))


@dataclass(frozen=True, slots=True)
class _State:
    """One field of `live`, as it was read."""

    field: bytes
    data: bytes
    values: Floats


def _series(
    metric: MetricLocation, standing: MetricVersion
) -> Operation[tuple[dict[int, bytes], list[tuple[Ints, _State]]] | None]:
    """The canonical tags of all series by number, and of each field of running states the numbers; None: look anew."""
    assert standing.definition is not None, "BUG: the series of a metric that is none"
    replies = yield from read_consistent(
        metric, standing, [("HGETALL", metric.recorded.series), ("HGETALL", metric.recorded.live)]
    )
    if replies is None:
        return None
    width, rows = keys.totals_shape(standing.definition.type, len(standing.definition.buckets))
    tags = {
        int(number): canonical
        for canonical, number in zip(replies[0][::2], replies[0][1::2], strict=True)
        if canonical
    }
    states = []
    for name, data in zip(replies[1][::2], replies[1][1::2], strict=True):
        values = np.frombuffer(data, "<f8").reshape(rows, width)
        states.append((np.arange(rows) + int(name) * rows, _State(name, data, values)))
    return tags, states


def _forget(
    orders: CommitPlan,
    tags: dict[int, bytes],
    state: _State,
    numbers: Ints,
    gone: NDArray[np.bool_],
) -> None:
    """Order that the series of these rows are forgotten, and take them off *tags*."""
    if gone.any():
        orders.idle += [tags.pop(number) for number in numbers[gone].tolist() if number in tags]
        cleared = np.where(gone[:, None], 0.0, state.values).astype("<f8").tobytes()
        orders.rows.append((state.field, state.data, cleared))


def sweep(metric: MetricLocation) -> Operation[Result]:
    """Forget the series that were last recorded before everything that is kept; with the last of them the metric."""
    standing = yield from read_version(metric)
    if standing.definition is None:
        return Result((yield from commit(metric, standing, CommitPlan(unmarks=[SWEEP]))))
    found = yield from _series(metric, standing)
    if found is None:
        return Result(Outcome.AGAIN)
    tags, states = found
    coarsest = metric.retention.levels[-1]
    oldest = standing.now_ms - coarsest.retention - coarsest.span - MARGIN
    orders = CommitPlan(tidying=[(SWEEP, standing.now_ms + sweep_interval(metric.retention))])
    for numbers, state in states:
        _forget(
            orders, tags, state, numbers, (state.values[:, 0] > 0) & (state.values[:, 0] < oldest)
        )
    if not orders.idle:
        return Result((yield from commit(metric, standing, orders)))
    if not tags and not standing.due:
        orders.none_left, orders.unmarks, orders.tidying = True, [SWEEP, TRIM], []
    return Result((yield from commit(metric, standing, orders)), forgotten=len(orders.idle))


def delete_series(
    namespace: Namespace, name: str, wanted: Mapping[str, str | None]
) -> Operation[int]:
    """Forget the series that have these tags (None: that lack it), with what is recorded of them; return how many there were.

    As with those that are idle, only while the log is sealed to its end: so it is sealed first, as by a worker. Rows of numbers
    that no series has are passed over by whoever reads.
    """
    config = yield from namespace.config()
    metric = MetricLocation(
        namespace.name, keys.shard_of(name, config.shards), name, config.retention
    )
    deleted = tries = 0
    while tries < DELETION_TRIES:
        sealed_ = yield from seal(metric)
        if sealed_.outcome is Outcome.MORE:
            continue
        standing = yield from read_version(metric)
        if standing.definition is None:
            return deleted
        found = yield from _series(metric, standing)
        if found is not None:
            tags, states = found
            chosen = [number for number, canonical in tags.items() if _has(canonical, wanted)]
            if not chosen:
                return deleted
            orders = CommitPlan()
            for numbers, state in states:
                some = np.isin(numbers, chosen[:SERIES_PER_COMMIT]) & (state.values[:, 0] > 0)
                _forget(orders, tags, state, numbers, some)
            outcome = yield from commit(metric, standing, orders)
            if outcome is Outcome.DONE:
                deleted, tries = deleted + len(orders.idle), 0
                continue
        tries += 1
    raise StoreError(
        f"{name!r} is recorded too fast: {deleted} series are deleted, and no moment was found for the rest"
    )


def _has(canonical: bytes, wanted: Mapping[str, str | None]) -> bool:
    tags = unpack_tags(canonical)
    return all(tags.get(key) == value for key, value in wanted.items())
