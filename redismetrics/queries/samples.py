"""Individual samples: in order, or newest first."""

from dataclasses import replace
from heapq import nlargest

import numpy as np

from redismetrics.columnar import metadata_columns
from redismetrics.model.sample import Sample, read_metadata
from redismetrics.model.time import DAY, HOUR, MINUTE, OPEN_UNTIL, to_datetime, to_ms
from redismetrics.store import catalog, server, stats
from redismetrics.store.driver import Operation, gather
from redismetrics.store.unreadable import Skipped, read_readable

from .context import QueryContext
from .fetch import fetch
from .newest_times import newest_times
from .query import SamplesQuery
from .selection import SeriesData

# How far back (ms) to search for the newest samples, in steps, until there are enough.
_REACHES = (MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY, 90 * DAY, OPEN_UNTIL)
# Number of metrics used to find out how new the newest samples are.
PROBED = 10


def list_samples(name: str, data: SeriesData | None, newest: int | None = None) -> list[Sample]:
    """Return the samples of *data*, oldest first, and in order of arrival at equal times.

    Values that are not stored exactly become one sample per point of their digest. With *newest*,
    only this many of the newest are returned.
    """
    if data is None:
        return []
    points = data.points()
    order = np.argsort(points.time, kind="stable")
    if newest is not None:
        order = order[max(len(order) - newest, 0) :]
    columns = (points.value, points.weight, points.series, points.time, points.exact)
    texts = metadata_columns.texts(points.metadata, order)
    rows = zip(texts, *(column[order].tolist() for column in columns), strict=True)
    return [
        Sample(
            name,
            data.definition.type,
            value,
            weight,
            data.tags[series],
            to_datetime(time),
            read_metadata(text),
            not exact,
        )
        for text, value, weight, series, time, exact in rows
    ]


def newest_samples(
    context: QueryContext, query: SamplesQuery, skipped: Skipped | None = None
) -> Operation[list[Sample]]:
    """Return the newest samples first, and increments that were counted together one by one.

    Without a name in *query*, metrics that cannot be read are left out and added to *skipped*.
    """
    if not query.limit:
        return []
    if query.name is not None:
        return (yield from _newest_of(context, query, [query.name], skipped))
    config = yield from context.namespace.config()
    found = yield from catalog.catalogue(context.namespace.name, config.shards, skipped=skipped)
    of_type = [name for name, each in found.items() if query.type in (None, each.type)]
    if len(of_type) > PROBED and query.until_ms is None and not query.tags:
        newest = yield from _newest_of_many(context, query, of_type, skipped)
        if newest is not None:
            return newest
    return (yield from _newest_of(context, query, list(found), skipped))


def _newest_of_many(
    context: QueryContext, query: SamplesQuery, names: list[str], skipped: Skipped | None
) -> Operation[list[Sample] | None]:
    """Return the newest samples, reading only metrics that can have them; None if that fails.

    The most recently recorded metrics show how new the samples must be. For the others, only times
    are read at first.
    """
    config = yield from context.namespace.config()
    progress = yield from stats.progress(context.namespace.name, config, names)
    probed = nlargest(PROBED, progress, key=lambda name: progress[name].newest)
    newest = yield from _newest_of(context, query, probed, skipped)
    if len(newest) < query.limit:
        return None
    since_ms = to_ms(newest[-1].timestamp)
    now_ms = yield from server.now()
    # All samples since then are stored exactly, so windows of any start have the same.
    if since_ms < max(now_ms - HOUR, config.retention.raw.kept_from(now_ms)):
        return None

    def find(some: list[str]) -> Operation[list[tuple[str, int]]]:
        times = newest_times(context.namespace.name, config.shards, some, progress, since_ms)
        return list((yield from times).items())

    latest = dict((yield from read_readable(names, find, skipped)))
    # Samples of equal times are in the order of their metrics.
    places = {name: place for place, name in enumerate(names)}
    by_time = sorted(latest, key=lambda name: (latest[name], places[name]), reverse=True)
    samples: list[Sample] = []
    newest, at, size = [], 0, PROBED
    while at < len(by_time):
        if len(newest) == query.limit:
            last, after = newest[-1], by_time[at]
            if (latest[after], places[after]) < (to_ms(last.timestamp), places[last.name]):
                break
        some = by_time[at : at + size]
        samples += yield from _read_samples(context, query, some, since_ms, skipped)
        samples.sort(key=lambda sample: places[sample.name])
        newest = _select_newest(samples, query.limit)
        at, size = at + size, 2 * size
    return newest if len(newest) == query.limit else None


def _newest_of(
    context: QueryContext, query: SamplesQuery, names: list[str], skipped: Skipped | None
) -> Operation[list[Sample]]:
    """Return the newest samples of these metrics, searching further and further back."""
    now_ms = yield from server.now()
    until_ms = now_ms if query.until_ms is None else min(query.until_ms, now_ms)
    first_ms = query.since_ms or 0
    samples: list[Sample] = []
    for reach in _REACHES:
        since_ms = max(first_ms, until_ms - reach)
        # Free the samples of the shorter search.
        samples = []
        samples = yield from _read_samples(context, query, names, since_ms, skipped)
        # Samples that represent several inexactly stored ones are listed once.
        count = sum(1 if sample.approximate else sample.count for sample in samples)
        if since_ms == first_ms or count >= query.limit:
            break
    return _select_newest(samples, query.limit)


def _select_newest(samples: list[Sample], limit: int) -> list[Sample]:
    newest: list[Sample] = []
    in_order = sorted(samples, key=lambda sample: sample.timestamp)
    # Of equal times, the last one is the newest.
    for sample in reversed(in_order):
        if len(newest) >= limit:
            break
        newest += _one_by_one(sample, limit - len(newest))
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
    """Return the equal samples represented by *sample* one by one, at most *limit*."""
    if sample.approximate or sample.count == 1:
        return [sample]
    return [replace(sample, count=1)] * min(sample.count, limit)
