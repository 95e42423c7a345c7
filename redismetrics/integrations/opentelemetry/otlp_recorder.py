"""Record data points of OpenTelemetry with a client."""

import math
import threading
from collections import Counter as Tally
from collections.abc import Iterable

from redismetrics.errors import InvalidMetric, InvalidValue
from redismetrics.integrations.limits import TimestampBounds
from redismetrics.model.definition import MAX_BUCKETS, MAX_HELP_BYTES, define
from redismetrics.model.units import TIME_UNITS
from redismetrics.recording.methods import Recording

from .buckets import ExplicitBuckets
from .distributions import distribution
from .points import DataPoint, HistogramValue, Rejections
from .stream_totals import StreamTotals


class OtlpRecorder:
    """Records each data point once: cumulative totals as changes, and repeats not at all.

    Thread-safe: two requests with the same points record them once.
    """

    def __init__(self, metrics: Recording, totals: StreamTotals) -> None:
        self._metrics = metrics
        self._internals = metrics.internals
        self._totals = totals
        self._lock = threading.Lock()
        self._declared: set[str] = set()

    def contradicts_catalog(self, point: DataPoint) -> bool:
        """Return whether *point* has another type than earlier points recorded here."""
        confirmed = self._internals.confirmed_definition(point.name)
        return (
            confirmed is not None and confirmed.type != point.type and point.name in self._declared
        )

    def forget(self, name: str) -> None:
        """Forget the definition of a metric, if it came from points recorded here."""
        with self._lock:
            if name in self._declared:
                self._declared.discard(name)
                self._internals.forget(name)

    def record(self, points: Iterable[DataPoint], rejections: Rejections) -> Tally[str]:
        """Record the points that have not been recorded before; add invalid ones to *rejections*.

        Return the number of recorded points per metric.
        """
        recorded: Tally[str] = Tally()
        bounds = TimestampBounds.now(self._metrics)
        with self._lock:
            for point in points:
                try:
                    recorded[point.name] += self._record(point, bounds)
                except InvalidMetric as error:
                    rejections.add(f"{point.name}: {error}")
        return recorded

    def _record(self, point: DataPoint, bounds: TimestampBounds) -> bool:
        """Record a point; return False if there is nothing to record."""
        # Truncated to milliseconds, the precision of samples.
        timestamp = point.time_ns // 1_000_000 / 1000 if point.time_ns else None
        bounds.check(timestamp)
        if isinstance(point.value, float) and not math.isfinite(point.value):
            raise InvalidValue(f"value must be a finite number, got {point.value}")
        if point.kind == "gauge" or point.temporality == "delta":
            if self._totals.was_recorded(point):
                return False
            self._record_value(point, point.value, timestamp)
            self._totals.add_recorded(point)
            return True
        if point.temporality == "cumulative":
            change = self._totals.change(point)
            if change is not None:
                self._record_value(point, change, timestamp)
            self._totals.set_last(point)
            return change is not None
        raise InvalidValue("temporality must be delta or cumulative, got neither")

    def _record_value(
        self, point: DataPoint, value: float | HistogramValue, timestamp: float | None
    ) -> None:
        if self._internals.settings.on_invalid == "drop":
            # So that an invalid point is rejected, not just counted.
            number = 0.0 if isinstance(value, HistogramValue) else value
            self._metrics.check(
                point.name, number, type=point.type, tags=point.tags, timestamp=timestamp
            )
        if isinstance(value, HistogramValue):
            self._record_histogram(point, value, timestamp)
            return
        amount = value * self._define(point)
        if point.kind == "sum" and not point.monotonic:
            if amount:
                self._internals.add_to_gauge(point.name, amount, point.tags)
            return
        if not math.isfinite(amount):
            raise InvalidValue(f"value must be a finite number, got {amount}")
        self._metrics.record(
            point.name, amount, type=point.type, tags=point.tags, timestamp=timestamp
        )

    def _record_histogram(
        self, point: DataPoint, value: HistogramValue, timestamp: float | None
    ) -> None:
        if value.count == 0:
            return
        counted = distribution(value.count, value.total, value.low, value.high, value.buckets)
        bounds = value.buckets.bounds if isinstance(value.buckets, ExplicitBuckets) else ()
        factor = self._define(point, bounds)
        if factor != 1.0:
            counted = type(counted)(
                tuple(each * factor for each in counted.values),
                counted.weights,
                counted.total * factor,
                counted.low * factor,
                counted.high * factor,
            )
        self._internals.add_distribution(point.name, counted, point.tags, timestamp)

    def _define(self, point: DataPoint, bounds: tuple[float, ...] = ()) -> float:
        """Declare the metric if it is new; return the factor that converts values to its unit.

        Raises:
            TypeMismatch: If the metric has another type.
        """
        known = self._internals.definition(point.name)
        if known is None:
            # If there are more bounds than a metric may have, use every second, third, ...
            step = math.ceil(len(bounds) / MAX_BUCKETS) or 1
            text = point.help.encode("utf-8", "replace")[:MAX_HELP_BYTES].decode("utf-8", "ignore")
            definition = define(
                point.name, point.type, help=text, unit=point.unit, buckets=bounds[::step] or None
            )
            self._internals.declare(point.name, definition)
            self._declared.add(point.name)
            return 1.0
        self._internals.check_type(point.name, point.type)
        sent, declared = TIME_UNITS.get(point.unit), TIME_UNITS.get(known.unit)
        return 1.0 if sent is None or declared is None else sent / declared
