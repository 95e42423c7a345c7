"""Marks as the series of `redismetrics_mark`: each mark is one sample with value 1.

A range query shows a mark only at the first step that is not before it, so that Grafana creates
exactly one annotation.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from redismetrics.model.mark import Mark
from redismetrics.model.time import OPEN_UNTIL, to_ms
from redismetrics.promql.budget import Budget
from redismetrics.promql.matchers import Matcher
from redismetrics.promql.source import LOOKBACK_MS, Labels, SampledSeries, Selector
from redismetrics.queries.context import QueryContext
from redismetrics.store.driver import Operation
from redismetrics.store.marks import MAX_MARKS, list_marks

NAME = "redismetrics_mark"
_TEXT = "text"
HELP = "Events such as deploys."
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_]", re.ASCII)

_Conditions = list[tuple[str, Callable[[str], bool]]]


def names_marks(matchers: Sequence[Matcher]) -> bool:
    """Return whether a selector names the mark series."""
    return any((each.name, each.op, each.value) == ("__name__", "=", NAME) for each in matchers)


def finds_marks(matchers: Sequence[Matcher]) -> bool:
    """Return whether a list of series includes marks: it has a matcher on the name."""
    of_name = [each for each in matchers if each.name == "__name__"]
    return bool(of_name) and all(each.predicate()(NAME) for each in of_name)


def mark_labels(
    context: QueryContext,
    selections: Sequence[Sequence[Matcher]],
    since_ms: int,
    until_ms: int,
    external: Mapping[str, str],
) -> Operation[list[Labels]]:
    """Return the distinct labels of the marks in a window that match any of *selections*."""
    found = yield from list_marks(context.namespace.name, since_ms, until_ms, MAX_MARKS)
    conditions = [_conditions(matchers) for matchers in selections]
    labels_of_marks = [_labels(mark, external) for mark in found]
    chosen = {
        tuple(sorted(labels.items())): labels
        for labels in labels_of_marks
        if any(_matches(labels, each) for each in conditions)
    }
    return list(chosen.values())


def has_marks(context: QueryContext) -> Operation[bool]:
    """Return whether there is any mark."""
    return bool((yield from list_marks(context.namespace.name, 0, OPEN_UNTIL, 1)))


def mark_samples(
    context: QueryContext, selector: Selector, budget: Budget, external: Mapping[str, str]
) -> Operation[SampledSeries]:
    """Return the marks that are relevant to a selector."""
    lookback = _lookback(selector)
    since = selector.start - (selector.range or lookback)
    found = yield from list_marks(
        context.namespace.name, max(since, 0), selector.end + 1, MAX_MARKS
    )
    budget.read(len(found))
    conditions = _conditions(selector.matchers)
    times_by_labels: dict[tuple[tuple[str, str], ...], set[int]] = {}
    for mark in found:
        labels = _labels(mark, external)
        if _matches(labels, conditions):
            times = times_by_labels.setdefault(tuple(sorted(labels.items())), set())
            times.add(to_ms(mark.timestamp))
    budget.series(len(times_by_labels))
    of_series = [sorted(times) for times in times_by_labels.values()]
    return SampledSeries(
        [dict(labels) for labels in times_by_labels],
        np.cumsum([0, *map(len, of_series)]),
        np.array([time for times in of_series for time in times], np.int64),
        np.ones(sum(map(len, of_series))),
        lookback=np.full(len(of_series), lookback),
    )


def _conditions(matchers: Sequence[Matcher]) -> _Conditions:
    return [(each.name, each.predicate()) for each in matchers]


def _matches(labels: Labels, conditions: _Conditions) -> bool:
    return all(matches(labels.get(name, "")) for name, matches in conditions)


def _lookback(selector: Selector) -> int:
    """Return the lookback of a mark, in ms: until the next time of the selector."""
    if selector.step:
        return selector.step
    return LOOKBACK_MS if selector.lookback is None else selector.lookback


def _labels(mark: Mark, external: Mapping[str, str]) -> Labels:
    tags = {
        name: value
        for key, value in sorted(mark.tags.items())
        if value and not (name := _NOT_ALLOWED.sub("_", key)).startswith("__")
    }
    return {**external, **tags, _TEXT: mark.text, "__name__": NAME}
