"""What is recorded and what is answered: types, names, tags, values, Sample. Pure."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import pairwise
from numbers import Integral
from typing import Any, Literal
from uuid import UUID

import msgpack

from .errors import InvalidName, InvalidTags, InvalidTimestamp, InvalidValue, TypeMismatch

MetricType = Literal["counter", "gauge", "histogram"]
TYPES: tuple[MetricType, ...] = ("counter", "gauge", "histogram")

MAX_NAME = 200
MAX_TAGS = 32
MAX_TAG_BYTES = 1024
MAX_METADATA_BYTES = 4096
MAX_METADATA_DEPTH = 20  # deeper ones could be written where the stack is short, and not be read where it is long
MAX_HELP_BYTES = 4096
MAX_BUCKETS = 100
MAX_COUNT = 1 << 53  # of one distribution: what a float counts exactly

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

NAME_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_./:-]{0,199}\Z")

Tags = Mapping[str, Any]

# prometheus_client's default buckets, in seconds.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_UNITLESS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0,
    250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 25_000.0, 50_000.0, 100_000.0,
)  # fmt: skip
_DEFAULT_BUCKETS: dict[str, tuple[float, ...]] = {
    "seconds": _SECONDS,
    "s": _SECONDS,
    "milliseconds": tuple(bound * 1000 for bound in _SECONDS),
    "ms": tuple(bound * 1000 for bound in _SECONDS),
}

_TEXT = {str}

# The overflow series of a metric with more series than allowed; OpenTelemetry's name for it.
OVERFLOW_TAGS = {"otel.metric.overflow": "true"}


@dataclass(frozen=True, slots=True)
class Definition:
    """What is known of a metric besides its samples: the value in the catalogue.

    *buckets* are ascending finite upper bounds (only histograms have them; +Inf is implied), *tag_keys* the
    only keys allowed, or None when any is.
    """

    type: MetricType
    unit: str = ""
    help: str = ""
    buckets: tuple[float, ...] = ()
    tag_keys: tuple[str, ...] | None = None

    def pack(self) -> bytes:
        packed: bytes = msgpack.packb(
            [self.type, self.unit, self.help, self.buckets, None if self.tag_keys is None else sorted(self.tag_keys)],
            use_bin_type=False,
        )
        return packed

    @classmethod
    def unpack(cls, data: bytes) -> "Definition":
        """The inverse of `pack`; raises ValueError or TypeError for other bytes."""
        kind, unit, text, buckets, keys = msgpack.unpackb(data, raw=False)
        found = cls(check_type(kind), unit, text, tuple(buckets), None if keys is None else tuple(keys))
        if not all(isinstance(each, str) for each in (unit, text, *(found.tag_keys or ()))):
            raise ValueError(f"wanted text for unit, help and tag keys, got {found!r:.120}")
        if (len(found.buckets) > 0) != (kind == "histogram") or (
            found.buckets and check_buckets(buckets, "") != found.buckets
        ):
            raise ValueError(f"wanted ascending bounds of a histogram and of nothing else, got {buckets!r:.120}")
        return found


@dataclass(frozen=True, slots=True)
class Sample:
    """One recorded value as it is answered and streamed.

    *count* equal samples stand in one (352 increments of 1 between two flushes are one sample of count 352);
    *approximate* is true for the centroid of a compacted list, whose *value* is then a mean of *count* values.
    *timestamp* is aware and in UTC.
    """

    name: str
    type: MetricType
    value: float
    count: int
    tags: dict[str, str]
    timestamp: datetime
    metadata: dict[str, Any] = field(default_factory=dict)
    approximate: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The JSON-ready shape of the original: name, type, value, tags, timestamp as ISO text, metadata."""
        return {
            "name": self.name,
            "type": self.type,
            "value": self.value,
            "tags": self.tags,
            "timestamp": self.timestamp.isoformat(),
            "metadata": self.metadata,
        }


@dataclass(frozen=True, slots=True)
class Distribution:
    """Values of a histogram that were counted elsewhere: points, ascending, and how many values each stands for.

    *total*, *low* and *high* are those of the values themselves, and exact as far as who counted knew them. Points between
    *low* and *high* serve percentiles and buckets; one whose weight is 1 is no more exact than the others, unless it is alone.
    """

    values: tuple[float, ...]
    weights: tuple[int, ...]
    total: float
    low: float
    high: float

    def __post_init__(self) -> None:
        numbers = (self.total, self.low, self.high, *self.values)
        if not self.values or len(self.values) != len(self.weights) or not all(map(math.isfinite, numbers)):
            raise InvalidValue(f"distribution: wanted finite points with a weight each, got {self!r:.120}")
        if min(self.weights) < 1 or not self.count <= MAX_COUNT:
            raise InvalidValue(f"distribution: wanted weights from 1, at most {MAX_COUNT} in all, got {self.count}")
        steps = (self.low, *self.values, self.high)
        if any(a > b for a, b in pairwise(steps)):
            raise InvalidValue(f"distribution: wanted ascending points from {self.low:g} to {self.high:g}, got others")

    @property
    def count(self) -> int:
        return sum(self.weights)


@dataclass(frozen=True, slots=True)
class Gap:
    """A hole in a live stream: samples recorded between these times are missing, or may be.

    *missed* is how many a slow reader let go by, counted exactly; None where a connection was away for so long that the store no
    longer had all of them.
    """

    since: datetime
    until: datetime
    missed: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: since and until as ISO text, missed."""
        return {"since": self.since.isoformat(), "until": self.until.isoformat(), "missed": self.missed}


@dataclass(frozen=True, slots=True)
class Summary:
    """What one series recorded in one interval of a live stream.

    *since* and *until* (aware, UTC, by the server's clock) say when the samples arrived, half-open; *last* is the value with the
    newest timestamp. count, sum, min, max and last are exact whatever was compacted.
    """

    name: str
    type: MetricType
    tags: dict[str, str]
    since: datetime
    until: datetime
    count: int
    sum: float
    min: float
    max: float
    last: float

    @property
    def mean(self) -> float:
        return self.sum / self.count

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: all fields and the mean, times as ISO text."""
        return {
            "name": self.name,
            "type": self.type,
            "tags": self.tags,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "count": self.count,
            "sum": self.sum,
            "mean": self.mean,
            "min": self.min,
            "max": self.max,
            "last": self.last,
        }


@dataclass(frozen=True, slots=True)
class Live:
    """One series as it stands now, since it began: what the Prometheus page shows.

    *value* is a counter's total, a gauge's value or a histogram's sum; *count* and *buckets* (one count for each bound
    of the definition, not cumulative, +Inf left out) are a histogram's. *seen_ms* is the server's time of its last batch.
    """

    tags: dict[str, str]
    seen_ms: int
    value: float
    count: int = 0
    buckets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its series as they stand now."""

    name: str
    definition: Definition
    series: Sequence[Live]


def check_name(name: object, what: str = "metric name") -> str:
    """Return *name*, or raise `InvalidName`."""
    if isinstance(name, str) and NAME_PATTERN.match(name):
        return str(name)
    shown = repr(name) if len(repr(name)) <= 80 else repr(name)[:77] + "..."
    raise InvalidName(
        f"{what}: wanted a letter or underscore, then at most {MAX_NAME - 1} of A-Z a-z 0-9 _ . - / :, got {shown}"
    )


def check_type(kind: object) -> MetricType:
    """Return *kind* if it is a metric type, or raise `TypeMismatch`."""
    for known in TYPES:
        if kind == known:
            return known
    raise TypeMismatch(f"type: wanted counter, gauge or histogram, got {kind!r}")


def number(value: object, what: str = "value") -> float:
    """Return *value* as a finite float, or raise `InvalidValue`. Text is no number, even if it looks like one."""
    if not isinstance(value, str | bytes | bytearray):
        try:
            result = float(value)  # type: ignore[arg-type]  # anything with __float__ (numpy, Decimal)
        except (TypeError, ValueError):
            pass
        except OverflowError as error:
            raise InvalidValue(f"{what}: wanted a number a float can hold, got an integer too large") from error
        else:
            if math.isfinite(result):
                return result
    raise InvalidValue(f"{what}: wanted a finite number, got {value!r:.80}")


def tag_text(key: str, value: object) -> str:
    """Return the text a tag value is kept as: bool is true/false, an Enum its value, UUID and numbers str()."""
    if isinstance(value, Enum):
        return tag_text(key, value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | UUID):
        value = str(value)
    if not isinstance(value, str):
        raise InvalidTags(f"tag {key!r}: wanted str, int, float, bool, Enum, UUID or None, got {type(value).__name__}")
    text = str(value)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidTags(f"tag {key!r}: wanted text that is valid UTF-8, got {value!r:.60}") from error
    if size > MAX_TAG_BYTES:
        raise InvalidTags(f"tag {key!r}: wanted at most {MAX_TAG_BYTES} bytes of UTF-8, got {size}")
    return text


def clean_tags(tags: Tags | None) -> dict[str, str]:
    """Return *tags* checked, as text, sorted by key, without those that are None."""
    if not tags:
        return {}
    if not isinstance(tags, Mapping):
        raise InvalidTags(f"tags: wanted a mapping of keys to values, got {type(tags).__name__}")
    clean = {}
    for key, value in tags.items():
        check_name(key, "tag key")
        if value is not None:
            clean[str(key)] = tag_text(key, value)
    if len(clean) > MAX_TAGS:
        raise InvalidTags(f"tags: wanted at most {MAX_TAGS}, got {len(clean)}")
    return dict(sorted(clean.items()))


def pack_tags(tags: dict[str, str]) -> bytes:
    """The canonical bytes of clean *tags*, equal for equal tags: msgpack of [key, value, ...] in order of keys."""
    flat: list[str] = []
    for pair in sorted(tags.items()):
        flat.extend(pair)
    packed: bytes = msgpack.packb(flat)
    return packed


def unpack_tags(data: bytes) -> dict[str, str]:
    flat = msgpack.unpackb(data, raw=False)
    if not isinstance(flat, list) or not set(map(type, flat)) <= _TEXT:
        raise ValueError(f"wanted a list of texts, got {flat!r:.60}")
    return dict(zip(flat[::2], flat[1::2], strict=True))


def pack_metadata(metadata: Mapping[str, Any]) -> bytes:
    """Return *metadata* as JSON text in UTF-8, or raise `InvalidTags`: at most 4 kB, keys are text, no NaN."""
    if not isinstance(metadata, Mapping):
        raise InvalidTags(f"metadata: wanted a mapping, got {type(metadata).__name__}")
    for key in metadata:
        if not isinstance(key, str):
            raise InvalidTags(f"metadata: wanted keys of type str, got {key!r:.60}")
    try:
        data = json.dumps(dict(metadata), separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidTags(f"metadata: wanted JSON values, got something else: {error}") from error
    if len(data) > MAX_METADATA_BYTES:
        raise InvalidTags(f"metadata: wanted at most {MAX_METADATA_BYTES} bytes of JSON, got {len(data)}")
    if data.count(b"[") + data.count(b"{") > MAX_METADATA_DEPTH and _depth(json.loads(data)) > MAX_METADATA_DEPTH:
        raise InvalidTags(f"metadata: wanted at most {MAX_METADATA_DEPTH} levels of lists and mappings, got more")
    return data


def _depth(value: Any) -> int:
    """How deep lists and mappings stand in each other; the level at which more is too many is not looked beyond."""
    level, depth = [value], 0
    while depth <= MAX_METADATA_DEPTH:
        level = [each for each in level if isinstance(each, dict | list)]
        if not level:
            break
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def to_ms(timestamp: object) -> int:
    """Return a time given as aware datetime or Unix seconds in Unix milliseconds, or raise `InvalidTimestamp`.

    Parts of a millisecond are cut off, as they are where a sample is recorded: so a window that begins at a moment holds
    what was recorded after it.
    """
    if isinstance(timestamp, datetime):
        if timestamp.tzinfo is None or timestamp.utcoffset() is None:
            raise InvalidTimestamp(f"timestamp: wanted a datetime with a zone, got the naive {timestamp.isoformat()}")
        since = (timestamp - _EPOCH) // timedelta(milliseconds=1)
        if 0 <= since < 253_402_300_800_000:
            return since
    elif isinstance(timestamp, str | bytes | bool):
        raise InvalidTimestamp(f"timestamp: wanted an aware datetime or Unix seconds, got {timestamp!r:.60}")
    else:
        try:
            seconds = number(timestamp, "timestamp")
        except InvalidValue as error:
            raise InvalidTimestamp(str(error)) from error
        if 0 <= seconds < 253_402_300_800:  # the year 10000
            nearest = round(seconds * 1000)
            return nearest if nearest / 1000 == seconds else math.floor(seconds * 1000)
    raise InvalidTimestamp(f"timestamp: wanted Unix seconds from 0 to the year 9999, got {timestamp!r:.60}")


def to_datetime(timestamp_ms: float) -> datetime:
    return _EPOCH + timedelta(milliseconds=timestamp_ms)


_GAUGE_WORDS = ("depth", "size", "active", "current")


def infer_type(name: str, value: Any) -> MetricType:
    """Guess a type as the original did: float -> histogram; an integer -> gauge by name, else counter.

    Repaired: a negative integer is a gauge, since a counter can't go down.
    """
    if not isinstance(value, Integral):  # numpy's integers are
        return "histogram"
    if value < 0 or any(word in name for word in _GAUGE_WORDS):
        return "gauge"
    return "counter"


def check_buckets(buckets: Iterable[float] | None, unit: str) -> tuple[float, ...]:
    """Return ascending finite bounds; None gives the default of the unit. A closing +Inf is taken off."""
    if buckets is None:
        return _DEFAULT_BUCKETS.get(unit, _UNITLESS)
    try:
        bounds = list(buckets)
    except TypeError as error:
        raise InvalidValue(f"buckets: wanted several bounds, got {buckets!r:.60}") from error
    if bounds and bounds[-1] == math.inf:
        bounds.pop()
    clean = tuple(number(bound, "bucket") for bound in bounds)
    if not 1 <= len(clean) <= MAX_BUCKETS or any(a >= b for a, b in pairwise(clean)):
        raise InvalidValue(f"buckets: wanted 1 to {MAX_BUCKETS} ascending bounds, got {clean!r:.80}")
    return clean


def define(
    name: str,
    kind: object,
    *,
    help: str = "",
    unit: str = "",
    buckets: Iterable[float] | None = None,
    tag_keys: Iterable[str] | None = None,
) -> Definition:
    """Return the checked definition of a metric; raises branches of `InvalidMetric`."""
    check_name(name)
    checked = check_type(kind)
    for what, text, limit in (("help", help, MAX_HELP_BYTES), ("unit", unit, MAX_NAME)):
        if not isinstance(text, str) or len(text.encode("utf-8", "replace")) > limit:
            raise InvalidValue(f"{what}: wanted text of at most {limit} bytes, got {text!r:.60}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidValue(f"{what}: wanted text that is valid UTF-8, got {text!r:.60}") from error
    if unit:
        check_name(unit, "unit")
    if buckets is not None and checked != "histogram":
        raise TypeMismatch(f"{name!r} is declared as a {checked}; buckets are for histograms")
    keys = None
    if tag_keys is not None:
        if isinstance(tag_keys, str) or not isinstance(tag_keys, Iterable):
            raise InvalidTags(f"tag_keys: wanted several keys, got {tag_keys!r:.80}")
        keys = tuple(sorted({check_name(key, "tag key") for key in tag_keys}))
    bounds = check_buckets(buckets, unit) if checked == "histogram" else ()
    return Definition(checked, unit, help, bounds, keys)
