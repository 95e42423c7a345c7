"""Give values that record to metrics created before `install`."""

import gc
from collections.abc import Iterator
from functools import partial
from typing import Any

from prometheus_client.metrics import (
    Counter,
    Enum,
    Gauge,
    Histogram,
    Info,
    MetricWrapperBase,
    Summary,
)
from prometheus_client.registry import REGISTRY

from redismetrics.model.sample import Distribution

from .callbacks import Callbacks
from .children import Children
from .label_sets import LabelSets
from .values import SeriesValue, as_finite

_KINDS = (Counter, Gauge, Histogram, Summary)
_LABEL_SETS = (Enum, Info)
_NUMBERS = ("_value", "_count", "_sum")


def take_over_metrics(children: Children, callbacks: Callbacks) -> None:
    """Give the existing metrics of this process values that record, with their counts so far.

    Metrics are found wherever they are registered, even in no registry.
    """
    found = {id(each): each for each in (*_registered(), *gc.get_objects())}
    for metric in found.values():
        # Not `isinstance`, which would make lazy objects of other packages resolve.
        if not issubclass(type(metric), (*_KINDS, *_LABEL_SETS)) or not metric._is_observable():
            continue
        if issubclass(type(metric), _LABEL_SETS):
            _take_over_labels(children, metric)
        elif not _records(metric):
            _take_over(children, metric)
            if "_child_samples" in vars(metric):
                # Set by `set_function`; the function itself is not accessible.
                callbacks.follow(metric, partial(_function_value, metric))


def _take_over_labels(children: Children, metric: Any) -> None:
    children.families.add(metric._name)
    if isinstance(metric, Info) and metric._value:
        LabelSets(children).set_info(metric, metric._value)
    elif isinstance(metric, Enum) and metric._value:
        LabelSets(children).set_state(metric, metric._states[metric._value])


def _function_value(gauge: Any) -> float:
    (sample,) = gauge._child_samples()
    value: float = sample.value
    return value


def _registered() -> Iterator[object]:
    """Yield the metrics of the default registry, which `gc.freeze` may hide from `get_objects`."""
    for collector in list(REGISTRY._collector_to_names):
        yield collector
        if isinstance(collector, MetricWrapperBase) and collector._is_parent():
            yield from list(collector._metrics.values())


def _records(metric: MetricWrapperBase) -> bool:
    """Return whether a metric has one of our values, or none at all because it is being created."""
    found = [getattr(metric, name) for name in _NUMBERS if hasattr(metric, name)]
    return not found or any(isinstance(each, SeriesValue) for each in found)


def _take_over(children: Children, metric: Any) -> None:
    before = {name: getattr(metric, name).get() for name in _NUMBERS if hasattr(metric, name)}
    counts = [bucket.get() for bucket in getattr(metric, "_buckets", ())]
    created = vars(metric).get("_created")
    # As when it was made.
    with children.making(metric) as made:
        metric._metric_init()
    for value in made:
        value.create()
    if created is not None:
        metric._created = created
    if "_value" in before:
        metric._value.take_over(before["_value"])
        return
    for bucket, count in zip(getattr(metric, "_buckets", ()), counts, strict=False):
        bucket.set(count)
    if "_count" in before:
        metric._count.set(before["_count"])
        counts = [before["_count"]]
    # Only the local number, because the observations are recorded as a whole.
    metric._sum.begin_at(before["_sum"])
    _record_observations(children, metric, counts, before["_sum"])


def _record_observations(
    children: Children, metric: Any, counts: list[float], total: float
) -> None:
    """Record the number of observations in each bucket, and their sum."""
    bounds = list(getattr(metric, "_upper_bounds", (0.0,)))
    # Each bucket is represented by its bound, the last by a value above all finite ones.
    finite = [bound for bound in bounds if as_finite(bound) == bound]
    beyond = 2 * abs(finite[-1]) + 1 if finite else 0.0
    points = [
        (bound if bound in finite else beyond, round(count))
        for bound, count in zip(bounds, counts, strict=True)
    ]
    points = [(value, n) for value, n in points if n > 0]
    if points:
        values, weights = zip(*points, strict=True)
        series = metric._sum
        whole = Distribution(values, weights, as_finite(total) or 0.0, values[0], values[-1])
        children.client.internals.add_distribution(
            series.name, whole, series.tags, kind=series.kind
        )
