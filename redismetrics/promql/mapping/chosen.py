"""Which series of a metric a selector matches, and their labels."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from redismetrics.columnar.arrays import Ints
from redismetrics.exposition.names import names_of_tags
from redismetrics.model.definition import Definition
from redismetrics.model.label_sets import LABELS_TAG
from redismetrics.promql.matchers import Matcher
from redismetrics.promql.source import Labels

BUCKET_LABEL = "le"


def series_chooser(
    matchers: Iterable[Matcher], external: Mapping[str, str]
) -> Callable[[Definition, Mapping[int, dict[str, str]]], tuple[list[Labels], Ints]]:
    """Return a function for `SlotsQuery.choose`; a series is described by its labels.

    The labels lack `__name__`. Series with the same labels become one, because to Prometheus an
    empty label is no label. *external* labels are added to series that lack them.
    """
    conditions = [
        (each.name, each.predicate())
        for each in matchers
        if each.name not in ("__name__", BUCKET_LABEL)
    ]

    def choose(
        definition: Definition, series: Mapping[int, dict[str, str]]
    ) -> tuple[list[Any], Ints]:
        return _choose(definition, series, conditions, external)

    return choose


def matching_labels(
    definition: Definition,
    series: Mapping[int, dict[str, str]],
    matchers: Iterable[Matcher],
    external: Mapping[str, str],
) -> list[Labels]:
    """Return the labels of the matching series, without `__name__`."""
    return series_chooser(matchers, external)(definition, series)[0]


def _choose(
    definition: Definition,
    series: Mapping[int, dict[str, str]],
    conditions: list[tuple[str, Callable[[str], bool]]],
    external: Mapping[str, str],
) -> tuple[list[Labels], Ints]:
    keys = {key for tags in series.values() for key in tags}
    names = names_of_tags(definition, keys - {LABELS_TAG})
    positions = np.full(max(series, default=-1) + 2, -1)
    # Other series have labels of their own.
    may_be_equal = LABELS_TAG in keys or any("" in tags.values() for tags in series.values())
    chosen: dict[tuple[tuple[str, str], ...], int] = {}
    found: list[Labels] = []
    # The result of each condition for each value, because a value occurs in many series.
    answers: list[dict[str, bool]] = [{} for _ in conditions]
    for number, tags in series.items():
        own = {names[key]: value for key, value in tags.items() if value and key != LABELS_TAG}
        labels = {**external, **own}
        for (name, matches), known in zip(conditions, answers, strict=True):
            value = labels.get(name, "")
            if value not in known:
                known[value] = matches(value)
            if not known[value]:
                break
        else:
            position = len(found)
            if may_be_equal:
                position = chosen.setdefault(tuple(sorted(labels.items())), position)
            positions[number] = position
            if position == len(found):
                found.append(labels)
    return found, positions


def named(labels: Iterable[Labels], name: str) -> list[Labels]:
    """Return the *labels* of each series with its name on the page."""
    return [{"__name__": name, **each} for each in labels]
