"""From metrics as stored in Redis to `Metric` objects of prometheus_client. No I/O."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString
from prometheus_client.validation import get_legacy_validation

from redismetrics.exposition.families import Family
from redismetrics.exposition.series_table import SeriesGroup, SeriesTable

from . import names
from .values import from_finite

_NOT_LEGACY = re.compile(r"[^A-Za-z0-9_:]")


@dataclass(frozen=True, slots=True)
class Own:
    """The metrics of the process that makes a page.

    Attributes:
        types: The type of each metric.
        has_child: Returns whether the process has a child of a metric with these labels.
        oldest_ms: Series last recorded before this are shown only if the process has them.
    """

    types: Mapping[str, str]
    has_child: Callable[[str, dict[str, str]], bool]
    oldest_ms: float


def to_metrics(families: Iterable[Family], own: Own) -> dict[str, Metric]:
    """Return the metrics of a page by name, in the order of the families.

    If families of different types have the same name, one keeps it: the one whose type this process
    uses, otherwise the first.
    """
    by_name: dict[str, list[Family]] = {}
    for family in families:
        name = names.family_name(family.name, family.definition.type)
        by_name.setdefault(name, []).append(family)
    metrics: dict[str, Metric] = {}
    for name, same in by_name.items():
        same.sort(key=lambda each: each.definition.type != own.types.get(name))
        for family in same:
            kind = family.definition.type
            # Two of the same type are merged: one was recorded with the API of redismetrics.
            shown = name if kind == same[0].definition.type else names.other_name(name, kind)
            metric = metrics.get(shown)
            if metric is None:
                metric = metrics[shown] = _empty(shown, family)
            add_new(metric, _samples(metric.name, family, _shown_rows(name, family, own)))
    return metrics


def add_new(metric: Metric, samples: list[Sample]) -> None:
    """Add the samples with labels that a metric does not have yet."""
    if metric.samples:
        known = {_key(sample) for sample in metric.samples}
        samples = [sample for sample in samples if _key(sample) not in known]
    metric.samples += samples


def _key(sample: Sample) -> tuple[str, frozenset[tuple[str, str]]]:
    return sample.name, frozenset(sample.labels.items())


def _shown_rows(name: str, family: Family, own: Own) -> SeriesTable:
    """Return the series that are not idle, in order, and idle ones that this process has."""
    series = SeriesTable.of(family.series)
    if series and min(series.seen_ms) < own.oldest_ms:
        shown = []
        for at, seen_ms in enumerate(series.seen_ms):
            if seen_ms >= own.oldest_ms or own.has_child(name, labels_of(series[at].tags)):
                shown.append(at)
        series = series.take(shown)
    return series.in_order()


def labels_of(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the labels stored as these tags."""
    return names.with_more_labels({names.label_name(key): value for key, value in tags.items()})


def _empty(name: str, family: Family) -> Metric:
    definition = family.definition
    if get_legacy_validation():
        name = _NOT_LEGACY.sub("_", name)
    unit = definition.unit if name.endswith(f"_{definition.unit}") else ""
    return Metric(name, definition.help, definition.type, unit)


def _samples(name: str, family: Family, series: SeriesTable) -> list[Sample]:
    samples: list[Sample] = []
    bounds = [floatToGoString(bound) for bound in (*family.definition.buckets, float("inf"))]
    has_sum = bool(family.definition.buckets) and family.definition.buckets[0] >= 0
    for group in series.groups():
        rows, labels = series.rows_of(group), _labels(group)
        match family.definition.type:
            case "counter":
                samples += _values(f"{name}_total", labels, rows.values)
                if rows.exemplars:
                    samples[-len(labels) :] = [
                        sample._replace(exemplar=_exemplar(rows, at, 0))
                        for at, sample in enumerate(samples[-len(labels) :])
                    ]
            case "gauge":
                samples += _values(name, labels, rows.values)
            case "info":
                samples += _values(f"{name}_info", labels, rows.values)
            case "stateset":
                # The state is the value of a tag with the name of the stored metric.
                state = names.label_name(family.name)
                shown = [{**each, name: each[state]} for each in labels]
                if state != name:
                    shown = [_without(each, state) for each in shown]
                samples += _values(name, shown, rows.values)
            case "histogram":
                for at, of_row in enumerate(labels):
                    counts = (*accumulate(rows.buckets[at]), rows.counts[at])
                    buckets = [
                        Sample(f"{name}_bucket", {**of_row, "le": bound}, float(count))
                        for bound, count in zip(bounds, counts, strict=True)
                    ]
                    for bucket in rows.exemplars.get(rows.texts[at], {}):
                        if bucket <= len(buckets):
                            exemplar = _exemplar(rows, at, bucket)
                            buckets[bucket - 1] = buckets[bucket - 1]._replace(exemplar=exemplar)
                    samples += buckets
                    samples.append(Sample(f"{name}_count", of_row, float(rows.counts[at])))
                    if has_sum:
                        samples.append(Sample(f"{name}_sum", of_row, from_finite(rows.values[at])))
            case "summary":
                for at, of_row in enumerate(labels):
                    samples.append(Sample(f"{name}_count", of_row, float(rows.counts[at])))
                    samples.append(Sample(f"{name}_sum", of_row, from_finite(rows.values[at])))
    return samples


def _values(name: str, labels: list[dict[str, str]], values: list[float]) -> list[Sample]:
    return [
        Sample(name, of_row, from_finite(value))
        for of_row, value in zip(labels, values, strict=True)
    ]


def _exemplar(rows: SeriesTable, at: int, bucket: int) -> Exemplar | None:
    """Return the exemplar of a row; the bucket is numbered from 1, or 0 for a counter."""
    found = rows.exemplars.get(rows.texts[at], {}).get(bucket)
    return None if found is None else Exemplar(found.labels, found.value, found.time_ms / 1000)


def _without(labels: dict[str, str], label: str) -> dict[str, str]:
    return {key: value for key, value in labels.items() if key != label}


def _labels(group: SeriesGroup) -> list[dict[str, str]]:
    """Return the labels of each row of a group."""
    if not group.tag_keys:
        return [{} for _ in group.rows]
    keys = [names.label_name(key) for key in group.tag_keys]
    rows = [dict(zip(keys, row, strict=True)) for row in zip(*group.values, strict=True)]
    return [names.with_more_labels(row) for row in rows] if names.MORE_LABELS in keys else rows
