"""What queries return: samples, gaps and summaries; and the metadata of samples."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from redismetrics.errors import FormatMismatch, InvalidTags, InvalidValue

from .validation import MetricType

MAX_METADATA_BYTES = 4096
MAX_METADATA_DEPTH = (
    20  # deeper ones could be written where the stack is short, and not be read where it is long
)
MAX_COUNT = 1 << 53  # of one distribution: what a float counts exactly


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
        if (
            not self.values
            or len(self.values) != len(self.weights)
            or not all(map(math.isfinite, numbers))
        ):
            raise InvalidValue(
                f"distribution: wanted finite points with a weight each, got {self!r:.120}"
            )
        if min(self.weights) < 1 or not self.count <= MAX_COUNT:
            raise InvalidValue(
                f"distribution: wanted weights from 1, at most {MAX_COUNT} in all, got {self.count}"
            )
        steps = (self.low, *self.values, self.high)
        if any(a > b for a, b in pairwise(steps)):
            raise InvalidValue(
                f"distribution: wanted ascending points from {self.low:g} to {self.high:g}, got others"
            )

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
        return {
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "missed": self.missed,
        }


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


def pack_metadata(metadata: Mapping[str, Any]) -> bytes:
    """Return *metadata* as JSON text in UTF-8, or raise `InvalidTags`: at most 4 kB, keys are text, no NaN."""
    if not isinstance(metadata, Mapping):
        raise InvalidTags(f"metadata: wanted a mapping, got {type(metadata).__name__}")
    for key in metadata:
        if not isinstance(key, str):
            raise InvalidTags(f"metadata: wanted keys of type str, got {key!r:.60}")
    try:
        data = json.dumps(
            dict(metadata), separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidTags(f"metadata: wanted JSON values, got something else: {error}") from error
    if len(data) > MAX_METADATA_BYTES:
        raise InvalidTags(
            f"metadata: wanted at most {MAX_METADATA_BYTES} bytes of JSON, got {len(data)}"
        )
    if (
        data.count(b"[") + data.count(b"{") > MAX_METADATA_DEPTH
        and _depth(json.loads(data)) > MAX_METADATA_DEPTH
    ):
        raise InvalidTags(
            f"metadata: wanted at most {MAX_METADATA_DEPTH} levels of lists and mappings, got more"
        )
    return data


def _depth(value: Any) -> int:
    """How deep lists and mappings stand in each other; the level at which more is too many is not looked beyond."""
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
    """The metadata of a sample from its JSON."""
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatMismatch(f"block: wanted JSON metadata, got {text!r:.60}") from error
    return found if isinstance(found, dict) else {}
