"""Data points of OpenTelemetry on their way into a recorder: names and tags by our rules, each point once, totals as changes.

otlp.py, opentelemetry.py -> Point -> Intake.take -> recorder
"""

import base64
import hashlib
import json
import logging
import math
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from redismetrics.errors import InvalidMetric, InvalidValue, TypeMismatch
from redismetrics.integrations.limits import TimestampBounds
from redismetrics.model.definition import MAX_BUCKETS, MAX_HELP_BYTES, define
from redismetrics.model.units import TIME_UNITS
from redismetrics.model.validation import MAX_NAME, MAX_TAG_BYTES, MAX_TAGS, MetricType
from redismetrics.recording.methods import Recording

from .distributions import Buckets, Exponential, distribution

log = logging.getLogger("redismetrics")

Temporality = Literal["delta", "cumulative", ""]
RESOURCE_ATTRIBUTES = ("service.name",)  # those that become tags, by default
_NOT_OURS = re.compile(r"[^A-Za-z0-9_./:-]")
_ANNOTATION = re.compile(r"\{([^{}]*)\}")
_UNITS = {"1": "", "%": "percent"}


def clean_name(name: str) -> str:
    """A metric name or tag key by our rules: other characters become ``_``; a long one is cut, and ends in a hash of it all."""
    clean = _NOT_OURS.sub("_", name)
    if not clean[:1].isalpha() and clean[:1] != "_":
        clean = f"_{clean}"
    if len(clean) > MAX_NAME:
        clean = f"{clean[: MAX_NAME - 9]}_{hashlib.blake2b(name.encode('utf-8', 'replace'), digest_size=4).hexdigest()}"
    return clean


def clean_unit(unit: str) -> str:
    """OpenTelemetry's unit as it is; ``1`` is none, ``%`` percent, of an annotation such as ``{request}`` the word."""
    text = _UNITS.get(unit, _ANNOTATION.sub(r"\1", unit).strip("/"))
    return clean_name(text) if text else ""


def tag_value(value: Any) -> str:
    """An attribute's value as text of at most 1,024 bytes: lists and mappings as JSON, bytes in base64, as OTLP has them."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, bytes):
        text = base64.b64encode(value).decode()
    elif isinstance(value, str | int | float):
        text = str(value)
    else:
        text = json.dumps(value, default=tag_value, ensure_ascii=False, separators=(",", ":"))
    data = text.encode("utf-8", "replace")
    return data[:MAX_TAG_BYTES].decode("utf-8", "ignore")


def clean_tags(attributes: Mapping[str, Any], more: Mapping[str, str]) -> dict[str, str]:
    """Tags of a point's *attributes* and, below them, *more*, the tags of the resource: see `by_tag`.

    Values of attributes whose keys become the same tag are joined by ``;`` in the order of their keys. Of more than 32 tags
    those of the resource go first, then the last by key.
    """
    own = tag_attributes(attributes)
    tags = dict(sorted(own.items())[:MAX_TAGS])
    for key, value in sorted(more.items()):
        if len(tags) < MAX_TAGS:
            tags.setdefault(key, value)
    return tags


def tag_attributes(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Attributes as tags, however many."""
    tags: dict[str, str] = {}
    for key in sorted(attributes):
        if attributes[key] is None:
            continue
        tag, value = clean_name(key), tag_value(attributes[key])
        tags[tag] = tag_value(f"{tags[tag]};{value}") if tag in tags else value
    return tags


@dataclass(frozen=True, slots=True)
class Counted:
    """A histogram's figures: how many, their sum, smallest and largest where known, and buckets where there are any."""

    count: int
    total: float | None
    low: float | None
    high: float | None
    buckets: Buckets | Exponential | None

    def since(self, before: "Counted") -> "Counted | None":
        """What came after *before*, without buckets where these changed their shape; None where it began anew."""
        count = self.count - before.count
        if count < 0:
            return None
        buckets: Any = None
        if self.buckets is not None and self.buckets.fits(before.buckets):
            buckets = self.buckets.since(before.buckets)  # type: ignore[arg-type]  # it fits
            if buckets is None:
                return None
        total = None if self.total is None or before.total is None else self.total - before.total
        return Counted(count, total, None, None, buckets)


@dataclass(frozen=True, slots=True)
class Point:
    """One data point of one stream: *stream* is its identity, times are Unix nanoseconds, 0 where they are unknown."""

    name: str
    kind: Literal["sum", "gauge", "histogram"]
    unit: str
    help: str
    stream: bytes
    tags: Mapping[str, str]
    start_ns: int
    time_ns: int
    value: float | Counted
    monotonic: bool = False
    temporality: Temporality = ""

    @property
    def type(self) -> MetricType:
        if self.kind == "histogram":
            return "histogram"
        return "counter" if self.kind == "sum" and self.monotonic else "gauge"


@dataclass(slots=True)
class Outcome:
    """What became of the points of one export: how many were not taken, and why, the first few reasons."""

    rejected: int = 0
    reasons: list[str] = field(default_factory=list)

    def reject(self, reason: str, count: int = 1) -> None:
        self.rejected += count
        if reason not in self.reasons and len(self.reasons) < 5:
            self.reasons.append(reason)


class Streams:
    """The last point of each cumulative stream, and the latest points of all others; bounded, the longest idle go first.

    A stream is its identity and its start, so a restart begins another one, and so do two processes that call themselves
    alike. Of a stream not seen before all of its value counts where it began at or after *since_ns*; else what it counted so
    far may have been recorded by somebody, and its first point only tells where the next one starts from.
    """

    def __init__(self, most: int, since_ns: int, clock_ns: Callable[[], int]) -> None:
        self._most = most
        self._since_ns = since_ns
        self._clock_ns = clock_ns
        self._last: OrderedDict[tuple[bytes, int], tuple[int, float | Counted]] = OrderedDict()
        self._cost = 0
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def is_repeated(self, point: Point) -> bool:
        """Was this very point taken before? Not known of points without a time."""
        return point.time_ns != 0 and _identity(point) in self._seen

    def note(self, point: Point) -> None:
        """This point was taken."""
        if point.time_ns:
            self._seen[_identity(point)] = None
            if len(self._seen) > self._most:
                self._seen.popitem(last=False)

    def change(self, point: Point) -> float | Counted | None:
        """What a cumulative *point* adds to those before it; None where that is nothing, or can't be known."""
        key = (point.stream, point.start_ns)
        last = self._last.get(key)
        if last is None:
            known = point.start_ns != 0 and point.start_ns >= self._since_ns
            return point.value if known else None
        time_ns, before = last
        if point.time_ns <= time_ns:
            return None  # a repeat, or an older one that came later: the newer one held it
        now = point.value
        if isinstance(now, Counted) and isinstance(before, Counted):
            since = now.since(before)
            return now if since is None else since
        assert isinstance(now, float), "BUG: a stream of two kinds"
        assert isinstance(before, float), "BUG: a stream of two kinds"
        if now == before:
            return None
        return now if point.monotonic and now < before else now - before

    def keep(self, point: Point) -> None:
        """Remember a cumulative point as its stream's last."""
        key = (point.stream, point.start_ns)
        last = self._last.pop(key, None)
        if last is not None:
            self._cost -= _cost(last[1])
            if last[0] >= point.time_ns:
                self._last[key] = last
                self._cost += _cost(last[1])
                return
        self._last[key] = (point.time_ns, point.value)
        self._cost += _cost(point.value)
        while self._cost > self._most and len(self._last) > 1:
            _, (_, value) = self._last.popitem(last=False)
            self._cost -= _cost(value)
            if not self._since_ns >= (now := self._clock_ns()):
                log.warning(
                    "more cumulative streams than %d: those that come back start from their next point",
                    self._most,
                )
                self._since_ns = now


def _cost(value: float | Counted) -> int:
    buckets = value.buckets if isinstance(value, Counted) else None
    return 1 + (buckets.size // 16 if buckets is not None else 0)


def _identity(point: Point) -> bytes:
    text = f"{point.start_ns} {point.time_ns} {point.value!r}"
    return hashlib.blake2b(point.stream + text.encode(), digest_size=16).digest()


class OtlpRecorder:
    """Records points with one client. Thread-safe: two requests with the same points record them once."""

    def __init__(self, metrics: Recording, streams: Streams) -> None:
        self._metrics = metrics
        self._recorder = metrics._recorder
        self._streams = streams
        self._lock = threading.Lock()
        self._declared: set[str] = set()

    def is_at_odds(self, point: Point) -> bool:
        """Is this point of another type than those that came here before, and that the store has, or had?"""
        known = self._recorder.metrics.get(point.name)
        return (
            known is not None
            and known.learned
            and known.definition.type != point.type
            and point.name in self._declared
        )

    def forget(self, name: str) -> None:
        """A metric is not in the store any more, or of another type: forget what points told of it, and nobody else."""
        with self._lock:
            if name in self._declared:
                self._declared.discard(name)
                self._recorder.forget(name)

    def take(self, points: Iterable[Point], outcome: Outcome) -> None:
        """Record what of *points* was not recorded before, and tell *outcome* what can't be."""
        ages = TimestampBounds.now(self._metrics)
        with self._lock:
            for point in points:
                try:
                    self._take(point, ages)
                except InvalidMetric as error:
                    outcome.reject(f"{point.name}: {error}")

    def _take(self, point: Point, ages: TimestampBounds) -> None:
        timestamp = point.time_ns // 1_000_000 / 1000 if point.time_ns else None
        ages.check(timestamp)
        value: float | Counted | None = point.value
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidValue(f"value: wanted a finite number, got {value}")
        if point.kind == "gauge" or point.temporality == "delta":
            if self._streams.is_repeated(point):
                return
            self._record(point, point.value, timestamp)
            self._streams.note(point)
            return
        if point.temporality != "cumulative":
            raise InvalidValue("temporality: wanted delta or cumulative, got neither")
        value = self._streams.change(point)
        if value is not None:
            self._record(point, value, timestamp)
        self._streams.keep(point)

    def _record(self, point: Point, value: float | Counted, timestamp: float | None) -> None:
        recorder = self._recorder
        if isinstance(value, Counted):
            if value.count == 0:
                return
            whole = distribution(value.count, value.total, value.low, value.high, value.buckets)
            bounds = value.buckets.bounds if isinstance(value.buckets, Buckets) else ()
            factor = self._defined(point, bounds)
            if factor != 1.0:
                whole = type(whole)(
                    tuple(each * factor for each in whole.values), whole.weights, whole.total * factor, whole.low * factor,
                    whole.high * factor,
                )  # fmt: skip
            recorder.add_distribution(point.name, whole, point.tags, timestamp)
            return
        amount = value * self._defined(point)
        if point.kind == "sum" and not point.monotonic:
            if amount:
                recorder.add("gauge", point.name, amount, point.tags, change=True)
            return
        if not math.isfinite(amount):
            raise InvalidValue(f"value: wanted a finite number, got {amount}")
        recorder.add(point.type, point.name, amount, point.tags, None, timestamp)

    def _defined(self, point: Point, bounds: tuple[float, ...] = ()) -> float:
        """Declare the metric where it is new here; return what values are multiplied by for the unit that it has.

        Raises:
            TypeMismatch: it is known as another type.
        """
        known = self._recorder.metrics.get(point.name)
        if known is None:
            step = -(-len(bounds) // MAX_BUCKETS) or 1
            text = point.help.encode("utf-8", "replace")[:MAX_HELP_BYTES].decode("utf-8", "ignore")
            definition = define(
                point.name, point.type, help=text, unit=point.unit, buckets=bounds[::step] or None
            )
            self._recorder.declare(point.name, definition)
            self._declared.add(point.name)
            return 1.0
        if known.definition.type != point.type and (known.explicit or known.learned):
            raise TypeMismatch(
                f"wanted a {known.definition.type}, as which it is known, got a {point.type}"
            )
        ours, theirs = TIME_UNITS.get(point.unit), TIME_UNITS.get(known.definition.unit)
        return 1.0 if ours is None or theirs is None else ours / theirs
