"""Asking: query, time_series, rollup, get_metrics and what else answers. Decoded to columns, chosen, grouped and merged by numpy.

Each function checks its arguments when called, before anything is read, and returns an operation that `drive.run` drives.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from redismetrics.columnar import summaries
from redismetrics.columnar.digest import Digest
from redismetrics.errors import InvalidQuery, UnknownAggregation
from redismetrics.model.sample import Sample
from redismetrics.model.validation import Tags
from redismetrics.model.windows import Window
from redismetrics.store.driver import Operation
from redismetrics.store.namespace import Place

from .aggregate import _grouped, _groups, _nothing, group_text
from .fetch import gather
from .question import Edges, Row, _Question, _question
from .samples import _samples
from .selection import Found


def _gather(
    place: Place, question: _Question, interval_ms: int | None = None, *, one_by_one: bool = False
) -> Operation[tuple[Found | None, Edges]]:
    return gather(place, question.name, question.window, question.tags, interval_ms, one_by_one=one_by_one)


def query(
    place: Place,
    name: str,
    *,
    aggregation: str | None = None,
    group_by: str | Iterable[str] = (),
    window: Window = None,
    tags: Tags | None = None,
) -> Operation[Any]:
    """A number; with *group_by* a list of dicts; without *aggregation* a list of `Sample` (grouped: under ``samples``)."""
    taken = ("samples",) if aggregation is None else ()
    question = _question(name, window, tags, group_by, () if aggregation is None else (aggregation,), taken)

    def ask() -> Operation[Any]:
        columns, _ = yield from _gather(place, question, one_by_one=aggregation is None)
        if aggregation is None:
            found = _samples(name, columns)
            return _by_group(found, question.group_by) if question.group_by else found
        groups, values = _grouped(columns, question, place)
        if not question.group_by:
            return values[aggregation][0] if groups else _nothing(aggregation)
        return [
            {**dict(zip(question.group_by, group, strict=True)), aggregation: value}
            for group, value in zip(groups, values[aggregation], strict=True)
        ]

    return ask()


def _by_group(samples: list[Sample], group_by: Sequence[str]) -> list[Row]:
    of_sample, ordered = _groups([sample.tags for sample in samples], group_by)
    rows: list[Row] = [{**dict(zip(group_by, group, strict=True)), "samples": []} for group in ordered]
    for sample, group in zip(samples, of_sample.tolist(), strict=True):
        rows[group]["samples"].append(sample)
    return rows


def rollup(
    place: Place,
    name: str,
    *,
    group_by: str | Iterable[str] = (),
    aggregations: str | Iterable[str] = ("mean", "count"),
    window: Window = "last_24h",
    tags: Tags | None = None,
    keys: str = "text",
) -> Operation[dict[Any, Row]]:
    """Group -> aggregations; the group as text (see `group_text`) or, with ``keys="tuple"``, as a tuple."""
    question = _question(name, window, tags, group_by, aggregations)
    if not question.aggregations:
        raise UnknownAggregation("aggregations: wanted at least one, got none")
    if keys not in ("text", "tuple"):
        raise InvalidQuery(f"keys: wanted 'text' or 'tuple', got {keys!r:.80}")

    def ask() -> Operation[dict[Any, Row]]:
        found, _ = yield from _gather(place, question)
        groups, values = _grouped(found, question, place)
        return {
            group_text(group) if keys == "text" else group: {each: values[each][at] for each in question.aggregations}
            for at, group in enumerate(groups)
        }

    return ask()


def digest(place: Place, name: str, *, window: Window = None, tags: Tags | None = None) -> Operation[Digest]:
    """The distribution of all values in the window."""
    question = _question(name, window, tags)

    def ask() -> Operation[Digest]:
        found, _ = yield from _gather(place, question)
        if found is None or not len(found):
            return Digest.of([])
        parts = [(np.zeros(len(rows.series), np.int64), rows.summaries) for rows in found.parts]
        whole = summaries.merge_all(parts, 1, frozenset({"low", "high"}))
        points = found.points()
        order = np.argsort(points.value, kind="stable")
        low, high = float(whole.low[0]), float(whole.high[0])
        return Digest(points.value[order], points.weight[order], points.centroid[order], low, high)

    return ask()
