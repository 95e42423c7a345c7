"""Samples, gaps and summaries, as returned by queries and subscriptions, and sample metadata."""

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from redismetrics.errors import FormatMismatch, InvalidTags, InvalidValue, shown

from .validation import MetricType

MAX_METADATA_BYTES = 4096
# Deeper metadata could be written by one process but exceed the recursion limit of another.
MAX_METADATA_DEPTH = 20
# Largest count of one distribution: floats count exactly up to it.
MAX_COUNT = 1 << 53


@dataclass(frozen=True, slots=True)
class Sample:
    """One recorded value, as returned by queries and subscriptions.

    *count* is the number of equal values that it represents: 352 increments of 1 between two
    flushes are one sample with count 352. If *approximate* is true, the sample is a centroid of a
    t-digest, and *value* is the mean of *count* values. *timestamp* is aware and in UTC.
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
        """Return name, type, value, tags, timestamp (ISO text) and metadata, ready for JSON."""
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
    """Values of a histogram that were aggregated elsewhere, such as by OpenTelemetry.

    *values* are ascending points; *weights* are the numbers of recorded values that they represent.
    *total*, *low* and *high* are the sum, minimum and maximum of the recorded values, as exact as
    the source knew them. The points are used for percentiles and buckets; a point of weight 1 is no
    more exact than the others, unless it is the only one.

    Raises:
        InvalidValue: If the values are not finite and ascending, or a weight is below 1.
    """

    values: tuple[float, ...]
    weights: tuple[int, ...]
    total: float
    low: float
    high: float

    def __post_init__(self) -> None:
        numbers = (self.total, self.low, self.high, *self.values)
        if (
            not self.values
            or len(self.values) != len(self.weights)
            or not all(map(math.isfinite, numbers))
        ):
            raise InvalidValue(
                f"distribution must have finite points with a weight each, got {shown(self, 120)}"
            )
        if min(self.weights) < 1 or not self.count <= MAX_COUNT:
            raise InvalidValue(
                f"distribution must have weights of at least 1, at most {MAX_COUNT} in total, "
                f"got {self.count}"
            )
        steps = (self.low, *self.values, self.high)
        if any(a > b for a, b in pairwise(steps)):
            raise InvalidValue(
                f"distribution must have ascending points from {self.low:g} to {self.high:g}, "
                f"got {shown(self.values, 80)}"
            )

    @property
    def count(self) -> int:
        """The number of values that the distribution represents."""
        return sum(self.weights)


@dataclass(frozen=True, slots=True)
class Gap:
    """A gap in a live stream: samples recorded between these times are missing, or may be.

    *missed* is the exact number of samples that a slow reader lost. It is None if the connection
    was down for so long that Redis no longer had all samples.
    """

    since: datetime
    until: datetime
    missed: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return since and until (ISO text) and missed, ready for JSON."""
        return {
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "missed": self.missed,
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """What one series recorded in one interval of a live stream.

    The samples arrived at or after *since* and before *until*, by the server's clock; both are
    aware and in UTC. *last* is the value with the newest timestamp. count, sum, min, max and last
    are exact, even if samples were compressed to a t-digest.
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
        """The sum divided by the count."""
        return self.sum / self.count

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and the mean, ready for JSON; times as ISO text."""
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


def pack_and_promote(
    metadata: Mapping[str, Any] | None, promoted: Iterable[str]
) -> tuple[bytes | None, dict[str, Any]]:
    """Return packed *metadata*, None if empty, and its *promoted* keys as tags."""
    if not metadata:
        return None, {}
    packed = pack_metadata(metadata)
    return packed, {key: metadata[key] for key in promoted if metadata.get(key) is not None}


def pack_metadata(metadata: Mapping[str, Any]) -> bytes:
    """Return *metadata* as JSON in UTF-8.

    Raises:
        InvalidTags: If it is not a mapping with str keys, is not valid JSON (NaN is not), or has
            more than 4,096 bytes or 20 levels.
    """
    if not isinstance(metadata, Mapping):
        raise InvalidTags(f"metadata must be a mapping, got {type(metadata).__name__}")
    for key in metadata:
        if not isinstance(key, str):
            raise InvalidTags(f"metadata must have keys of type str, got {shown(key)}")
    try:
        data = json.dumps(
            dict(metadata),
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
            default=_plain_value,
        ).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidTags(f"metadata must have only values that JSON allows: {error}") from error
    if len(data) > MAX_METADATA_BYTES:
        raise InvalidTags(
            f"metadata must be at most {MAX_METADATA_BYTES} bytes of JSON, got {len(data)}"
        )
    if _is_too_deep(data, json.loads(data)):
        raise InvalidTags(
            f"metadata must have at most {MAX_METADATA_DEPTH} levels of lists and mappings, "
            "got more"
        )
    return data


def _plain_value(value: Any) -> Any:
    """Return a number of numpy, or a tensor with a single one, as a value that JSON allows."""
    # Another library may raise anything, for example for several elements.
    with suppress(Exception):
        plain = value.item()
        if isinstance(plain, bool | int | float | str):
            return plain
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _is_too_deep(text: bytes, metadata: Any) -> bool:
    """Return whether *metadata*, whose JSON is *text*, is nested too deeply."""
    if text.count(b"[") + text.count(b"{") <= MAX_METADATA_DEPTH:
        return False
    return _depth(metadata) > MAX_METADATA_DEPTH


def _depth(value: Any) -> int:
    """Return the nesting depth of lists and mappings, counted up to one level beyond the limit."""
    level, depth = [value], 0
    while depth <= MAX_METADATA_DEPTH:
        level = [each for each in level if isinstance(each, dict | list)]
        if not level:
            break
        depth += 1
        level = [
            inner for each in level for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return depth


def read_metadata(text: bytes | None) -> dict[str, Any]:
    """Parse the JSON metadata of a sample.

    Raises:
        FormatMismatch: If it is not JSON, or has more levels than can be recorded.
    """
    if text is None:
        return {}
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatMismatch(f"corrupt block: metadata is not JSON: {shown(text)}") from error
    if _is_too_deep(text, metadata):
        raise FormatMismatch(
            f"corrupt block: metadata must have at most {MAX_METADATA_DEPTH} levels, got more"
        )
    return metadata if isinstance(metadata, dict) else {}
