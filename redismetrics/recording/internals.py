"""Methods of a client for the other packages of this project; applications don't need them."""

from collections.abc import Callable
from typing import Any

from redismetrics.model.definition import Definition
from redismetrics.model.sample import Distribution
from redismetrics.model.validation import MetricType, Tags
from redismetrics.settings import Settings

from .recorder import Recorder


class RecordingInternals:
    """What integrations and telemetry need of a client beyond its recording methods.

    For packages of this project only; these methods may change in any release.
    """

    settings: Settings
    _recorder: Recorder

    def clock(self) -> float:
        """Return the client's time, in Unix seconds."""
        return self._recorder.clock()

    @property
    def closed(self) -> bool:
        """True once the client is closed: what is recorded from then on is dropped."""
        return self._recorder.closed

    @property
    def generation(self) -> object:
        """An object that changes when `configure()` gives the client another recorder.

        Compare it with ``is`` to decide whether what was declared or cached is still valid.
        """
        return self._recorder

    def definition(self, name: str) -> Definition | None:
        """Return what this process knows of a metric; None if it knows nothing."""
        known = self._recorder.metrics.get(name)
        return None if known is None else known.definition

    def confirmed_definition(self, name: str) -> Definition | None:
        """Return the definition of a metric that Redis confirmed; None before it did."""
        known = self._recorder.metrics.get(name)
        return known.definition if known is not None and known.learned else None

    def check_metric_type(self, name: str, type: MetricType) -> None:
        """Raise `TypeMismatch` if the metric is known to have another type. Changes nothing."""
        self._recorder.type_of(name, type)

    def declare_type(self, name: str, type: MetricType) -> None:
        """Fix the type of a metric, and leave the rest of its definition to others."""
        self._recorder.metric(name, type, explicit=True)

    def declare_default(self, name: str, definition: Definition) -> None:
        """Declare a metric unless the application or Redis has already said what it is."""
        known = self._recorder.metrics.get(name)
        if known is None or not (known.explicit or known.learned):
            self._recorder.declare(name, definition)

    def forget_definition(self, name: str) -> None:
        """Forget a metric that was deleted from Redis; unsent samples are still sent."""
        self._recorder.forget(name)

    def add_sampler(self, sampler: Callable[[], None]) -> None:
        """Call *sampler* before each flush, in the collector thread. Adding it twice does nothing."""
        if sampler not in self._recorder.samplers:
            self._recorder.samplers.append(sampler)

    def remove_sampler(self, sampler: Callable[[], None]) -> None:
        """Undo `add_sampler`."""
        if sampler in self._recorder.samplers:
            self._recorder.samplers.remove(sampler)

    def count_invalid(self, message: str = "", *arguments: Any) -> None:
        """Count one sample as dropped because it is invalid; log *message* the first time."""
        self._recorder.drop("invalid")
        if message:
            self._recorder.warn_once(message, *arguments)

    def add_to_gauge(self, name: str, delta: float, tags: Tags | None = None) -> None:
        """Add *delta* to the value of a gauge that all processes share."""
        self._recorder.add("gauge", name, delta, tags, change=True)

    def add_distribution(
        self, name: str, distribution: Distribution, tags: Tags | None = None, timestamp: Any = None
    ) -> None:
        """Record many values of a histogram at once, already counted by another program."""
        self._recorder.add_distribution(name, distribution, tags, timestamp)

    def buffered_counts(self) -> tuple[int, int]:
        """Return how many metrics this process knows, and how many series have a buffer."""
        known = self._recorder.metrics
        return len(known), sum(len(metric.buffers) for metric in list(known.values()))
