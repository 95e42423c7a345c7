"""From the metrics of prometheus_client to series: the values behind its children.

`make_value` replaces `prometheus_client.values.ValueClass`, which gets the name and the labels of a
number. The rest of the definition, such as the bounds of a histogram, is taken from the metric
under construction; see `making`.
"""

import logging
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from prometheus_client.metrics import Histogram, MetricWrapperBase

from redismetrics.client.base import Client
from redismetrics.errors import InvalidMetric, TypeMismatch
from redismetrics.model.definition import MAX_BUCKETS, MAX_HELP_BYTES, define
from redismetrics.model.options import check_options
from redismetrics.model.validation import MetricType, check_name

from . import names
from .values import (
    BucketValue,
    CounterValue,
    GaugeValue,
    HistogramSum,
    LocalValue,
    SeriesValue,
    SharedGaugeValue,
    SummarySum,
)

log = logging.getLogger("redismetrics")

# Maximum number of values per label, and of series per metric. prometheus_client has no limit; this
# one is far above what a page can show, and protects Redis.
MAX_VALUES = 100_000

# The mode of gauges with one value for all processes.
SHARED_MODE = "mostrecent"

_local: ContextVar[bool] = ContextVar("_local", default=False)


@contextmanager
def local_metrics() -> Iterator[None]:
    """Keep the metrics created inside the block in this process, and out of Redis.

    For registries created for one request or one push:

        with local_metrics():
            registry = CollectorRegistry()
            Gauge("last_success_unixtime", "When it ended", registry=registry).set_to_current_time()
        push_to_gateway("localhost:9091", job="backup", registry=registry)
    """
    token = _local.set(True)
    try:
        yield
    finally:
        _local.reset(token)


class Children:
    """Creates the values of one process, which record with *client*."""

    _multiprocess = False

    def __init__(self, client: Client) -> None:
        self.client = client
        self._making = threading.local()
        # The type of each stored name, as this process declared it.
        self._types: dict[str, MetricType] = {}
        # The names of the families created by this process.
        self.families: set[str] = set()

    @property
    def keeps_local(self) -> bool:
        """Whether metrics created now stay in this process; see `local_metrics`."""
        return _local.get()

    @contextmanager
    def making(self, metric: MetricWrapperBase) -> Iterator[list[SeriesValue]]:
        """Complete the definition of values from *metric*; yield the values created inside."""
        before = getattr(self._making, "state", None)
        made: list[SeriesValue] = []
        self._making.state = (metric, made)
        try:
            yield made
        finally:
            self._making.state = before

    def __call__(
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Sequence[str],
        labelvalues: Sequence[str],
        help_text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> LocalValue | SeriesValue:
        """Return the value for one number of a child; the arguments are those of `ValueClass`."""
        kind = _kind_of(typ, name)
        state: tuple[Any, list[SeriesValue]] = getattr(self._making, "state", None) or (None, [])
        metric, made = state
        if kind is None or self.keeps_local:
            # The sum of a histogram is created before its buckets.
            sums = [each for each in made if isinstance(each, HistogramSum)]
            return BucketValue(sums[0]) if sums and typ == "histogram" else LocalValue()
        mode = multiprocess_mode or SHARED_MODE
        stored = self.declare(kind, metric_name, help_text, mode, metric)
        tags = names.stored_tags(labelnames, labelvalues)
        value = _CLASSES[kind](stored, tags, self.client)
        if kind == "gauge" and mode != SHARED_MODE:
            value = GaugeValue(stored, tags, self.client)
        made.append(value)
        return value

    def declare(
        self,
        kind: MetricType,
        metric_name: str,
        help_text: str,
        mode: str = SHARED_MODE,
        metric: MetricWrapperBase | None = None,
    ) -> str:
        """Declare a metric, once; return its name in Redis."""
        self.families.add(metric_name)
        stored = names.stored_name(kind, metric_name)
        other = names.other_name(stored, kind)
        if self._types.get(other) == kind:
            # Another metric of this process has this name, with another type.
            return other
        if self._types.get(stored) == kind:
            return stored
        is_per_process = kind == "gauge" and mode != SHARED_MODE
        definition = define(
            stored,
            kind,
            help=_cut(help_text),
            unit=_unit_of(metric),
            buckets=_bounds_of(metric) if kind == "histogram" else None,
            max_tag_values=MAX_VALUES,
            max_series=MAX_VALUES,
            per="process" if is_per_process else None,
            merge=mode if is_per_process else None,
            states=_states_of(metric) if kind == "stateset" else None,
        )
        internals = self.client.internals
        try:
            internals.declare(stored, definition)
        except TypeMismatch as error:
            known = internals.definition(stored)
            if known is not None and known.type == kind:
                log.warning("%s", error)
            else:
                stored = other
                internals.declare(stored, definition)
        else:
            internals.rename_on_mismatch(stored, other)
        self._types[stored] = kind
        return stored

    def stored_names(self, metric: MetricWrapperBase) -> list[str]:
        """Return the names that a metric may have in Redis, or none if it is not recorded."""
        if metric._name not in self.families or metric._type is None:
            return []
        stored = names.stored_name(metric._type, metric._name)
        return [stored, names.other_name(stored, metric._type)]


_CLASSES: dict[MetricType, type[SeriesValue]] = {
    "counter": CounterValue,
    "gauge": SharedGaugeValue,
    "histogram": HistogramSum,
    "summary": SummarySum,
}


def _kind_of(typ: str, name: str) -> MetricType | None:
    """Return the type of the series in which a number is recorded; None if it is not recorded."""
    if typ in ("counter", "gauge"):
        return "counter" if typ == "counter" else "gauge"
    if name.endswith("_sum"):
        if typ == "histogram":
            return "histogram"
        if typ == "summary":
            return "summary"
    return None


def _cut(text: str) -> str:
    return text.encode(errors="replace")[:MAX_HELP_BYTES].decode(errors="ignore")


def _unit_of(metric: MetricWrapperBase | None) -> str:
    unit = getattr(metric, "_unit", "")
    with suppress(InvalidMetric):
        return check_name(unit, "unit")
    return ""


def _bounds_of(metric: MetricWrapperBase | None) -> list[float]:
    """Return the finite bounds of a histogram without duplicates, at most MAX_BUCKETS."""
    bounds: Iterable[float] = metric._upper_bounds if isinstance(metric, Histogram) else ()
    finite = list(dict.fromkeys(bound for bound in bounds if math.isfinite(bound))) or [0.0]
    step = math.ceil(len(finite) / MAX_BUCKETS)
    # The last one is kept, because only +Inf follows.
    return finite[::-1][::step][::-1]


def _states_of(metric: MetricWrapperBase | None) -> tuple[str, ...] | None:
    """Return the states of an enum, or None if Redis can't store them unchanged."""
    states = tuple(getattr(metric, "_states", ()))
    with suppress(InvalidMetric):
        return check_options("stateset", states=states).states
    return None
