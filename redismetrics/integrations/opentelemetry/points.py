"""The data points of OpenTelemetry, as both the exporter and the receiver produce them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from redismetrics.model.validation import MetricType

from .buckets import Buckets

Temporality = Literal["delta", "cumulative", ""]
# Maximum number of different reasons reported per export.
_MAX_REASONS = 5


@dataclass(frozen=True, slots=True)
class HistogramValue:
    """The value of a histogram point: its count and, if known, its sum, extremes and buckets."""

    count: int
    total: float | None
    low: float | None
    high: float | None
    buckets: Buckets | None

    def subtract(self, earlier: "HistogramValue") -> "HistogramValue | None":
        """Return what was counted after *earlier*, or None if a count decreased (a restart).

        The result has no buckets if the bounds changed in between.
        """
        count = self.count - earlier.count
        if count < 0:
            return None
        buckets: Any = None
        if self.buckets is not None and self.buckets.is_comparable(earlier.buckets):
            buckets = self.buckets.subtract(earlier.buckets)  # type: ignore[arg-type]
            if buckets is None:
                return None
        total = None
        if self.total is not None and earlier.total is not None:
            total = self.total - earlier.total
        return HistogramValue(count, total, None, None, buckets)


@dataclass(frozen=True, slots=True)
class DataPoint:
    """One data point of one stream.

    *stream* identifies the stream by a hash of its resource, scope, metric and attributes. Times
    are Unix nanoseconds, 0 if unknown.
    """

    name: str
    kind: Literal["sum", "gauge", "histogram"]
    unit: str
    help: str
    stream: bytes
    tags: Mapping[str, str]
    start_ns: int
    time_ns: int
    value: float | HistogramValue
    monotonic: bool = False
    temporality: Temporality = ""

    @property
    def type(self) -> MetricType:
        """The type of the metric. A sum that is not monotonic is a gauge."""
        if self.kind == "histogram":
            return "histogram"
        return "counter" if self.kind == "sum" and self.monotonic else "gauge"


@dataclass(slots=True)
class Rejections:
    """The rejected points of one export: their number, and the first few reasons."""

    count: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, reason: str, count: int = 1) -> None:
        """Count *count* points that are rejected for *reason*."""
        self.count += count
        if reason not in self.reasons and len(self.reasons) < _MAX_REASONS:
            self.reasons.append(reason)
