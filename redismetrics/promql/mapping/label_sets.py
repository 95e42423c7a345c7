"""Infos and state sets as series: the newest value for each set of tags."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from redismetrics.columnar.arrays import Ints
from redismetrics.exposition.names import names_of_tags
from redismetrics.model.definition import Definition
from redismetrics.model.label_sets import LABELS_TAG, split_tags
from redismetrics.promql.matchers import Matcher
from redismetrics.promql.source import Labels, SampledSeries
from redismetrics.queries.slots import SeriesSlots

from .samples import gauge_samples

_Tags = tuple[tuple[str, str], ...]


class _Sample(NamedTuple):
    """A sample of a series; one that is stale ends it."""

    time: int
    value: float
    stale: bool


def all_series(
    _: Definition, series: Mapping[int, dict[str, str]]
) -> tuple[list[dict[str, str]], Ints]:
    """Choose all series, because setting one of them replaces the others."""
    positions = np.full(max(series, default=-1) + 2, -1)
    positions[list(series)] = np.arange(len(series))
    return list(series.values()), positions


def label_set_samples(
    slots: SeriesSlots,
    metric: str,
    name: str,
    matchers: tuple[Matcher, ...],
    external: Mapping[str, str],
    lookback_ms: int,
) -> SampledSeries:
    """Return the matching series of an info or state set.

    An info is 1 until something else is set for the same tags. A state set has a sample for each of
    its states whenever one of them is set.
    """
    definition = slots.definition
    label_of = _label_names(slots, metric, name)
    found: dict[_Tags, tuple[Labels, list[_Sample]]] = {}
    for about, history in _histories(slots, metric).items():
        samples = _info(history) if definition.type == "info" else _states(history, metric, slots)
        for tags, sample in samples:
            labels = {**external, **{label_of[key]: text for key, text in (*about, *tags) if text}}
            known = found.setdefault(tuple(sorted(labels.items())), (labels, []))
            known[1].append(sample)
    conditions = [(each.name, each.predicate()) for each in matchers if each.name != "__name__"]
    chosen = [
        ({"__name__": name, **labels}, samples)
        for labels, samples in found.values()
        if all(matches(labels.get(label, "")) for label, matches in conditions)
    ]
    sizes = [len(samples) for _, samples in chosen]
    flat = [sample for _, samples in chosen for sample in samples]
    return SampledSeries(
        [labels for labels, _ in chosen],
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.array([each.time for each in flat], np.int64),
        np.array([each.value for each in flat], np.float64),
        np.array([each.stale for each in flat], np.bool_),
        np.full(len(chosen), lookback_ms),
    )


def _label_names(slots: SeriesSlots, metric: str, name: str) -> dict[str, str]:
    """Return the name of the label of each tag, as on the page."""
    keys = {key for tags in slots.series for key in tags} - {LABELS_TAG}
    if slots.definition.type == "info":
        return names_of_tags(slots.definition, keys)
    return {**names_of_tags(slots.definition, keys - {metric}, name), metric: name}


def _histories(slots: SeriesSlots, metric: str) -> dict[_Tags, list[tuple[int, _Tags]]]:
    """Return the values set for each set of tags: times and labels, in order."""
    series = gauge_samples(slots, "", 0)
    owner = np.repeat(np.arange(len(slots.series)), np.diff(series.offsets))
    # What is not 1 was replaced.
    is_set = np.flatnonzero(series.values == 1)
    order = is_set[np.argsort(series.times[is_set], kind="stable")]
    split = [split_tags(slots.definition.type, metric, tags) for tags in slots.series]
    histories: dict[_Tags, dict[int, _Tags]] = {}
    for number, time in zip(owner[order].tolist(), series.times[order].tolist(), strict=True):
        about, labels = split[number]
        if labels:
            history = histories.setdefault(tuple(sorted(about.items())), {})
            history[time] = tuple(sorted(labels.items()))
    return {about: list(history.items()) for about, history in histories.items()}


def _info(history: list[tuple[int, _Tags]]) -> Iterator[tuple[_Tags, _Sample]]:
    before: _Tags | None = None
    for time, labels in history:
        if before not in (None, labels):
            yield before or (), _Sample(time, 1.0, stale=True)
        yield labels, _Sample(time, 1.0, stale=False)
        before = labels


def _states(
    history: list[tuple[int, _Tags]], metric: str, slots: SeriesSlots
) -> Iterator[tuple[_Tags, _Sample]]:
    known = slots.definition.options.states or sorted({labels[0][1] for _, labels in history})
    for time, labels in history:
        for state in known:
            is_set = state == labels[0][1]
            yield ((metric, state),), _Sample(time, float(is_set), stale=False)
