"""What `REGISTRY` and `MultiProcessCollector` show: the metrics of all processes.

A metric's own `collect()` and other registries show this process, as in prometheus_client.
"""

import time
from collections.abc import Iterator, Set
from typing import Any

from prometheus_client import values
from prometheus_client.metrics import Histogram, MetricWrapperBase, Summary
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry
from prometheus_client.samples import Sample

from .children import Children
from .families import Own, to_metrics

# Seconds that a page waits until Redis has what this process recorded. Prometheus waits 10 for a
# page, unless it is configured otherwise.
FLUSH_SECONDS = 2.0
# All series, however long they are idle: see `Own.oldest_ms`.
_EVER_MS = 1 << 60


class Pages:
    """The pages of one namespace.

    Args:
        children: What this process has recorded, and the client that recorded it.
    """

    def __init__(self, children: Children) -> None:
        self._children = children

    @property
    def are_ours(self) -> bool:
        """False once something else took the place of our values."""
        return values.ValueClass is self._children

    @property
    def are_stored(self) -> bool:
        """False while nothing is stored: in a test that captures, and with ``none://``."""
        # A sink in place of a URL: see `RecordingInternals.destination`.
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
            StoreError: If Redis does not answer. Half of a total would be worse than no page.
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
            # Metrics of this process that are in other registries only, or in none any more.
            hidden = self._children.families - recorded.keys()
        # Collectors may set gauges: they run before what was recorded is sent.
        shown = [metric for each in others for metric in _own_metrics(each, recorded)]
        stored = self.read(shown, recorded)
        for metric in shown:
            found = stored.pop(metric.name, None)
            yield _merged(metric, found, recorded.get(metric.name))
        yield from (metric for name, metric in stored.items() if name not in hidden)

    def collect_all(self) -> list[Metric]:
        """Return the metrics of all processes, whatever their registries."""
        if not self.are_stored:
            return []
        return list(self.read([], {}).values())

    def read(
        self, shown: list[Metric], recorded: dict[str, MetricWrapperBase]
    ) -> dict[str, Metric]:
        """Return the metrics of all processes by name, after sending what this one recorded."""
        from redismetrics.queries.live import live

        client = self._children.client
        internals = client.internals
        internals.settle(FLUSH_SECONDS)
        families = internals.run(live(internals.query_context, None, _EVER_MS))
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
    """Return what a collector shows that is not stored: of a recorded metric, only its head."""
    if not isinstance(collector, MetricWrapperBase) or collector._name not in recorded:
        return list(collector.collect())
    if type(collector).collect is not MetricWrapperBase.collect:
        list(collector.collect())  # a subclass that sets its value now
    return list(collector.describe())


def _merged(own: Metric, stored: Metric | None, metric: MetricWrapperBase | None) -> Metric:
    """Return *own* with the samples that are stored first, and each sample once."""
    samples = list(stored.samples) if stored is not None and stored.type == own.type else []
    known = {_key(sample) for sample in samples}
    if isinstance(metric, Histogram | Summary):
        for group in _unobserved(metric):
            if not known.intersection(map(_key, group)):
                samples += group
    else:
        samples += [sample for sample in own.samples if _key(sample) not in known]
    own.samples = samples
    return own


def _key(sample: Sample) -> tuple[str, frozenset[tuple[str, str]]]:
    return sample.name, frozenset(sample.labels.items())


def _unobserved(metric: Any) -> Iterator[list[Sample]]:
    """Yield the samples of each child that this process has observed nothing with."""
    children = [((), metric)] if metric._is_observable() else list(metric._metrics.items())
    for row, child in children:
        numbers = (child._sum, *getattr(child, "_buckets", ()))
        if not any(number.get() for number in numbers) and not _count_of(child):
            labels = dict(zip(metric._labelnames, row, strict=False))
            yield [
                Sample(metric._name + sample.name, {**labels, **sample.labels}, sample.value)
                for sample in child._child_samples()
                if sample.name != "_created"
            ]


def _count_of(child: Any) -> float:
    """Return how much a summary has observed here; of a histogram, its buckets say so."""
    count: float = child._count.get() if isinstance(child, Summary) else 0.0
    return count
