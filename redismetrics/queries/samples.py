"""The newest samples, as they were recorded."""

from dataclasses import replace
from typing import Any

import numpy as np

from redismetrics.errors import InvalidQuery
from redismetrics.model.sample import Sample, read_metadata
from redismetrics.model.time import DAY, HOUR, MINUTE, OPEN_UNTIL, to_datetime, to_ms
from redismetrics.model.validation import MetricType, Tags, check_type
from redismetrics.store import catalog, server
from redismetrics.store.driver import Operation, gather

from .context import QueryContext
from .fetch import fetch
from .question import checked_filter, checked_name, make_question
from .selection import SeriesData


def list_samples(name: str, found: SeriesData | None, newest: int | None = None) -> list[Sample]:
    """The samples one by one, oldest first, of equal times in order of arrival; what is not kept exactly, by its points.

    Of many only the *newest* are wanted.
    """
    if found is None:
        return []
    points = found.points()
    order = np.argsort(points.time, kind="stable")
    if newest is not None:
        order = order[max(len(order) - newest, 0) :]
    columns = (points.value, points.weight, points.series, points.time, points.exact)
    return [
        Sample(
            name, found.definition.type, value, weight, found.tags[series], to_datetime(time),
            read_metadata(points.metadata.get(row)), not exact,
        )
        for row, value, weight, series, time, exact in zip(
            order.tolist(), *(column[order].tolist() for column in columns), strict=True
        )
    ]  # fmt: skip


# How far back the newest samples are looked for, until there are enough.
_REACHES = (MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY, 90 * DAY, OPEN_UNTIL)


def get_metrics(
    context: QueryContext,
    *,
    name: str | None = None,
    type: MetricType | None = None,
    tags: Tags | None = None,
    since: Any = None,
    until: Any = None,
    limit: int = 1000,
) -> Operation[list[Sample]]:
    """The newest samples first, as recorded: increments counted together are listed one by one again."""
    for time in (since, until):
        if time is not None:
            checked_name(to_ms, time)
    if type is not None:
        checked_name(check_type, type)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise InvalidQuery(f"limit: wanted a whole number of at least 0, got {limit!r:.80}")
    question = None if name is None else make_question(name, (since, until), tags)
    checked_filter(tags)

    def ask() -> Operation[list[Sample]]:
        if question is None:
            known = yield from catalog.catalogue(
                context.namespace.name, (yield from context.namespace.shards())
            )
            asked = [make_question(each, (since, until), tags) for each in known]
        else:
            asked = [question]
        now_ms = yield from server.now()
        first, last = (
            to_ms(since) if since is not None else 0,
            to_ms(until) if until is not None else None,
        )
        found: list[Sample] = []
        for reach in _REACHES if limit else ():
            begin = max(first, (now_ms if last is None else min(last, now_ms)) - reach)
            window = (begin / 1000, None if last is None else last / 1000)
            pieces = yield from gather(
                [fetch(context, each.name, window, each.tags, one_by_one=True) for each in asked]
            )
            found = []
            for each, (piece, _) in zip(asked, pieces, strict=True):
                if piece is not None and type in (None, piece.definition.type):
                    found += list_samples(each.name, piece, limit)
            if (
                begin == first
                or sum(1 if each.approximate else each.count for each in found) >= limit
            ):
                break
        found.sort(key=lambda sample: sample.timestamp)
        listed: list[Sample] = []
        for sample in reversed(found):
            if len(listed) >= limit:
                break
            listed += _one_by_one(sample, limit - len(listed))
        return listed

    return ask()


def _one_by_one(sample: Sample, most: int) -> list[Sample]:
    if sample.approximate or sample.count == 1:
        return [sample]
    return [replace(sample, count=1)] * min(sample.count, most)
