"""Client internals for other packages of this project, not for applications."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from redismetrics.errors import InvalidMetric
from redismetrics.model.definition import Definition
from redismetrics.model.exemplar import check_exemplar
from redismetrics.model.sample import Distribution
from redismetrics.model.validation import MetricType, Tags, pack_tags
from redismetrics.settings import Settings

from . import exemplars
from .flush_result import SettledWatch
from .recorder import Recorder
from .sink import Sink


class RecordingInternals:
    """The attribute `internals` of a client, for packages of this project; may change at any time.

    `configure()` gives the default client a new one. So ``client.internals is not seen`` means that
    what was declared or cached with *seen* must be done again.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @property
    def settings(self) -> Settings:
        return self._recorder.settings

    @property
    def destination(self) -> tuple[str | None, str] | Sink:
        """Where samples go; equal for clients that record into the same place.

        The URL and namespace, or the sink itself in a capture and for ``none://``.
        """
        sink = self._recorder.sink
        settings = self._recorder.settings
        return (settings.url, settings.namespace) if hasattr(sink, "store") else sink

    def clock(self) -> float:
        """Return the client's time, in Unix seconds."""
        return self._recorder.clock()

    @property
    def closed(self) -> bool:
        """True once the client is closed; samples recorded from then on are dropped."""
        return self._recorder.closed

    def definition(self, name: str) -> Definition | None:
        """Return the definition of a metric in this process; None if it is unknown."""
        known = self._recorder.metrics.get(name)
        return None if known is None else known.definition

    def confirmed_definition(self, name: str) -> Definition | None:
        """Return the definition of a metric that Redis has confirmed; None before that."""
        known = self._recorder.metrics.get(name)
        return known.definition if known is not None and known.learned else None

    def check_type(self, name: str, type: MetricType) -> None:
        """Raise `TypeMismatch` if the metric is known to have another type. Has no side effects."""
        self._recorder.type_of(name, type)

    def declare(self, name: str, definition: Definition) -> None:
        """Declare a metric, like `Metrics.declare`."""
        self._recorder.declare(name, definition)

    def declare_default(self, name: str, definition: Definition) -> None:
        """Declare a metric, unless the application or Redis has already defined it."""
        known = self._recorder.metrics.get(name)
        if known is None or not known.is_fixed:
            self._recorder.declare(name, definition)

    def declare_type(self, name: str, type: MetricType) -> None:
        """Fix the type of a metric, and leave the rest of its definition open."""
        self._recorder.metric(name, type, explicit=True)

    def rename_on_mismatch(self, name: str, other: str) -> None:
        """Store a metric as *other* if Redis has one of another type under its name.

        Without this, its samples would be dropped.
        """
        self._recorder.renames[name] = other

    def forget(self, name: str) -> None:
        """Forget a metric that was deleted from Redis; unsent samples are still sent."""
        self._recorder.forget(name)

    def add_sampler(self, sampler: Callable[[], None]) -> None:
        """Call *sampler* before each flush, in the collector thread. Adding it again is a no-op."""
        if sampler not in self._recorder.samplers:
            self._recorder.samplers.append(sampler)

    def samplers(self) -> list[Callable[[], None]]:
        """Return the current samplers."""
        return list(self._recorder.samplers)

    def remove_sampler(self, sampler: Callable[[], None]) -> None:
        """Undo `add_sampler`."""
        if sampler in self._recorder.samplers:
            self._recorder.samplers.remove(sampler)

    def count_invalid(self, message: str = "", *arguments: Any) -> None:
        """Count one sample as dropped because it is invalid; log *message* the first time."""
        self._recorder.drop("invalid")
        if message:
            self._recorder.warn_once(message, *arguments)

    def settle(self, timeout: float) -> None:
        """Wait like `flush`, but let the application's next `flush` report the result.

        Raises:
            StoreError: As `flush` does.
        """
        self._recorder.sink.settle(timeout)

    async def asettle(self, timeout: float) -> None:
        """`settle`, for asyncio."""
        await self._recorder.sink.asettle(timeout)

    def watch_settled(self, names: Iterable[str]) -> AbstractContextManager[SettledWatch]:
        """Count stored and dropped samples of metrics with these *names* inside the block.

        Samples of the same metrics from other callers are counted too.
        """
        return self._recorder.sink.watch(names)

    def add_to_gauge(self, name: str, delta: float, tags: Tags | None = None) -> None:
        """Add *delta* to the shared value of a gauge."""
        self._recorder.add("gauge", name, delta, tags, change=True)

    def add_distribution(
        self,
        name: str,
        distribution: Distribution,
        tags: Tags | None = None,
        timestamp: Any = None,
        kind: MetricType = "histogram",
    ) -> None:
        """Record many values of a histogram or summary at once, aggregated elsewhere."""
        self._recorder.add_distribution(name, distribution, tags, timestamp, kind)

    def note_exemplar(
        self, name: str, canonical: bytes, value: float, labels: Mapping[str, str], timestamp: float
    ) -> None:
        """Attach an exemplar to a sample that was just recorded, like `increment`.

        *canonical* are the packed tags of its series.

        Raises:
            InvalidMetric: If Redis can't hold the labels, or the metric can't have exemplars.
        """
        known = self._recorder.metrics.get(name)
        if known is not None:
            packed = check_exemplar(name, known.definition.type, labels)
            exemplars.note(known, canonical, int(timestamp * 1000), value, packed)

    def has_series(
        self,
        name: str,
        value: Any = 1,
        tags: Tags | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Return whether this process holds the series of a sample; arguments as for `record`.

        False if the sample is invalid.
        """
        known = self._recorder.metrics.get(name)
        if known is None:
            return False
        try:
            clean = self._recorder.checked(known.definition.type, name, value, tags, metadata)[-1]
        except InvalidMetric:
            return False
        return pack_tags(clean or {}) in known.buffers

    def buffered_counts(self) -> tuple[int, int, int]:
        """Return the number of known metrics, and of buffered series and their bytes of tags."""
        known = self._recorder.metrics
        metrics = list(known.values())
        series = sum(len(metric.buffers) for metric in metrics)
        return len(metrics), series, sum(metric.nbytes for metric in metrics)
