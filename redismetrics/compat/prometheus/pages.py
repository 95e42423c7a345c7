"""The pages of `REGISTRY` and `MultiProcessCollector`: the metrics of all processes.

A metric's own `collect()` and other registries show this process, as in prometheus_client.
"""

import logging
import os
import time
from collections.abc import Iterator, Set
from typing import Any

from prometheus_client import values
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics import Enum, Histogram, Info, MetricWrapperBase, Summary
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry
from prometheus_client.samples import Sample

from redismetrics.errors import RedisMetricsError, StoreError, one_line

from .callbacks import Callbacks
from .children import Children
from .families import Own, add_new, to_metrics
from .unavailable import with_status

log = logging.getLogger("redismetrics")

# Seconds that a page waits until Redis has the samples of this process. Prometheus waits 10 s for a
# page by default.
FLUSH_SECONDS = 2.0
_OF_ONE_PROCESS = (GCCollector, PlatformCollector, ProcessCollector)
# All series, however long they are idle: see `Own.oldest_ms`.
_EVER_MS = 1 << 60


class Pages:
    """The pages of one namespace.

    Args:
        children: The values of this process, and the client that records them.
        callbacks: Gauges whose value is a function.
    """

    def __init__(self, children: Children, callbacks: Callbacks) -> None:
        self._children, self._callbacks = children, callbacks

    @property
    def are_ours(self) -> bool:
        """False once something else has replaced our values."""
        return values.ValueClass is self._children

    @property
    def are_stored(self) -> bool:
        """False while nothing is stored: inside a capture, and with ``none://``."""
        # A sink instead of a URL: see `RecordingInternals.destination`.
        return isinstance(self._children.client.internals.destination, tuple)

    def shows_all(self, registry: CollectorRegistry) -> bool:
        """Return whether a registry shows all processes."""
        if not self.are_ours or not self.are_stored:
            return False
        return registry is REGISTRY or any(
            isinstance(collector, MultiProcessCollector)
            for collector in list(registry._collector_to_names)
        )

    def collect(self, registry: CollectorRegistry) -> Iterator[Metric]:
        """Yield the metrics of a registry that shows all processes, each sample once.

        Raises:
            StoreError: If Redis does not answer. Partial totals would be worse than no page.
        """
        with registry._lock:
            collectors = list(registry._collector_to_names)
            info = registry._target_info_metric() if registry._target_info else None
        if info is not None:
            yield info
        others = [each for each in collectors if not isinstance(each, MultiProcessCollector)]
        recorded = {
            each._name: each
            for each in others
            if isinstance(each, MetricWrapperBase) and each._name in self._children.families
        }
        hidden: Set[str] = set()
        if len(others) == len(collectors):
            # Metrics of this process that are only in other registries, or no longer in any.
            hidden = self._children.families - recorded.keys()
        # Collectors may set gauges, so they run before samples are sent.
        shown = [(metric, each) for each in others for metric in _own_metrics(each, recorded)]
        stored = self.read([metric for metric, _ in shown], recorded)
        for metric, collector in shown:
            found = stored.pop(metric.name, None)
            if found is not None and isinstance(collector, _OF_ONE_PROCESS):
                # Recorded by `watch_process`, for all processes.
                metric.samples = []
            yield _merged(metric, found, recorded.get(metric.name))
        yield from (metric for name, metric in stored.items() if name not in hidden)

    def collect_all(self) -> list[Metric]:
        """Return the metrics of all processes, whatever their registry."""
        if not self.are_stored:
            return []
        return list(self.read([], {}).values())

    def mark_process_dead(self, pid: int) -> None:
        """Drop the live gauges of a dead process on this host. Never raises.

        Does nothing for this process, which drops its own.
        """
        from redismetrics.client.deletion import mark_process_dead

        if pid == os.getpid() or not self.are_stored:
            return
        internals = self._children.client.internals
        try:
            internals.run(mark_process_dead(internals.query_context, pid))
        except RedisMetricsError as error:
            log.warning("live gauges of process %d remain for a while: %s", pid, one_line(error))

    def read(
        self, shown: list[Metric], recorded: dict[str, MetricWrapperBase]
    ) -> dict[str, Metric]:
        """Return the metrics of all processes by name, after sending those of this process."""
        from redismetrics.queries.live import live

        client = self._children.client
        internals = client.internals
        self._callbacks.sample()
        try:
            internals.settle(FLUSH_SECONDS)
            families = internals.run(live(internals.query_context, None, _EVER_MS, exemplars=True))
        except StoreError as error:
            raise with_status(error) from error
        oldest_ms = (time.time() - client.settings.series_idle) * 1000
        types = {metric.name: metric.type for metric in shown}
        return to_metrics(families, Own(types, _Labels(recorded).has, oldest_ms))


class _Labels:
    """The labels of the children of this process."""

    def __init__(self, metrics: dict[str, MetricWrapperBase]) -> None:
        self._metrics = metrics

    def has(self, name: str, labels: dict[str, str]) -> bool:
        metric = self._metrics.get(name)
        if metric is None:
            return False
        if metric._is_observable():
            return not labels
        return tuple(labels.get(each, "") for each in metric._labelnames) in metric._metrics


def _own_metrics(collector: Collector, recorded: dict[str, MetricWrapperBase]) -> list[Metric]:
    """Return the metrics of a collector that are not stored; recorded metrics without samples."""
    if not isinstance(collector, MetricWrapperBase) or collector._name not in recorded:
        return list(collector.collect())
    if type(collector).collect is not MetricWrapperBase.collect:
        list(collector.collect())  # a subclass that sets its value now
    return list(collector.describe())


def _merged(own: Metric, stored: Metric | None, metric: MetricWrapperBase | None) -> Metric:
    """Return *own* with the stored samples first, and without duplicates."""
    local, own.samples = own.samples, []
    if stored is not None and stored.type == own.type:
        own.samples = stored.samples
    add_new(own, local)
    samples = own.samples
    if metric is not None:
        children = {_row(metric, sample) for sample in samples}
        for row, group in _not_stored(metric):
            if row not in children:
                samples += group
    return own


def _row(metric: MetricWrapperBase, sample: Sample) -> tuple[str, ...]:
    """Return the label values of the child that a sample belongs to."""
    return tuple(sample.labels.get(label, "") for label in metric._labelnames)


def _not_stored(of: MetricWrapperBase) -> Iterator[tuple[tuple[str, ...], list[Sample]]]:
    """Yield children of this process that have not recorded anything yet: label values and samples.

    Histograms and summaries are stored from their first observation on, infos and enums once they
    are set: before that, another process may have set them.
    """
    if not isinstance(of, Enum | Histogram | Info | Summary):
        return
    metric: Any = of
    children: dict[tuple[str, ...], Any]
    children = {(): metric} if metric._is_observable() else metric._metrics.copy()
    for row, child in children.items():
        if isinstance(metric, Enum | Info) or not _has_observed(child):
            labels = dict(zip(metric._labelnames, row, strict=False))
            yield (
                row,
                [
                    Sample(metric._name + sample.name, {**labels, **sample.labels}, sample.value)
                    for sample in child._child_samples()
                    if sample.name != "_created"
                ],
            )


def _has_observed(child: Any) -> bool:
    """Return whether this process has made an observation with a histogram or summary."""
    if isinstance(child, Summary):
        return bool(child._count.get())
    return bool(child._sum.get()) or any(bucket.get() for bucket in child._buckets)
