"""Samples one by one: in order, or the newest first."""

from dataclasses import replace

import numpy as np

from redismetrics.model.sample import Sample, read_metadata
from redismetrics.model.time import DAY, HOUR, MINUTE, OPEN_UNTIL, to_datetime
from redismetrics.store import catalog, server
from redismetrics.store.driver import Operation, gather
from redismetrics.store.unreadable import Skipped, read_readable

from .context import QueryContext
from .fetch import fetch
from .query import SamplesQuery
from .selection import SeriesData

# How far back (ms) the newest samples are searched, one after the other, until there are enough.
_REACHES = (MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY, 90 * DAY, OPEN_UNTIL)


def list_samples(name: str, data: SeriesData | None, newest: int | None = None) -> list[Sample]:
    """Return the samples of *data*, oldest first, those of equal times in order of arrival.

    What is not stored exactly becomes one sample for each point of its digest. With *newest*, only
    this many of the newest are returned.
    """
    if data is None:
        return []
    points = data.points()
    order = np.argsort(points.time, kind="stable")
    if newest is not None:
        order = order[max(len(order) - newest, 0) :]
    columns = (points.value, points.weight, points.series, points.time, points.exact)
    rows = zip(order.tolist(), *(column[order].tolist() for column in columns), strict=True)
    return [
        Sample(
            name,
            data.definition.type,
            value,
            weight,
            data.tags[series],
            to_datetime(time),
            read_metadata(points.metadata.get(row)),
            not exact,
        )
        for row, value, weight, series, time, exact in rows
    ]


def newest_samples(
    context: QueryContext, query: SamplesQuery, skipped: Skipped | None = None
) -> Operation[list[Sample]]:
    """Return the newest samples first, increments that were counted together one by one.

    Without a name in *query*, metrics that cannot be read are left out and added to *skipped*.
    """
    if query.name is not None:
        names = [query.name]
    else:
        shards = yield from context.namespace.shards()
        found = yield from catalog.catalogue(context.namespace.name, shards, skipped=skipped)
        names = list(found)
    now_ms = yield from server.now()
    until_ms = now_ms if query.until_ms is None else min(query.until_ms, now_ms)
    first_ms = query.since_ms or 0
    samples: list[Sample] = []
    for reach in _REACHES if query.limit else ():
        since_ms = max(first_ms, until_ms - reach)
        # Free those of the shorter reach.
        samples = []
        samples = yield from _read_samples(context, query, names, since_ms, skipped)
        # Samples that stand for several that are not stored exactly are listed once.
        count = sum(1 if sample.approximate else sample.count for sample in samples)
        if since_ms == first_ms or count >= query.limit:
            break
    samples.sort(key=lambda sample: sample.timestamp)
    newest: list[Sample] = []
    for sample in reversed(samples):
        if len(newest) >= query.limit:
            break
        newest += _one_by_one(sample, query.limit - len(newest))
    return newest


def _read_samples(
    context: QueryContext,
    query: SamplesQuery,
    names: list[str],
    since_ms: int,
    skipped: Skipped | None,
) -> Operation[list[Sample]]:
    """Return the newest samples from *since_ms* on of each metric, in any order."""

    def read(some: list[str]) -> Operation[list[Sample]]:
        return _read_metrics(context, query, some, since_ms)

    if query.name is not None:
        return (yield from read(names))
    return (yield from read_readable(names, read, skipped))


def _read_metrics(
    context: QueryContext, query: SamplesQuery, names: list[str], since_ms: int
) -> Operation[list[Sample]]:
    queries = [query.of_metric(name, since_ms) for name in names]
    results = yield from gather([fetch(context, each, exact=True) for each in queries])
    return [
        sample
        for name, (data, _) in zip(names, results, strict=True)
        if data is not None and query.type in (None, data.definition.type)
        for sample in list_samples(name, data, query.limit)
    ]


def _one_by_one(sample: Sample, limit: int) -> list[Sample]:
    """Return each of the equal samples that *sample* counts, at most *limit*."""
    if sample.approximate or sample.count == 1:
        return [sample]
    return [replace(sample, count=1)] * min(sample.count, limit)
