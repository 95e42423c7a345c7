"""Exemplars: one sample per series and bucket with labels, such as a trace id."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any, NamedTuple

import msgpack

from redismetrics.errors import InvalidTags, TypeMismatch, shown

from .time import YEAR_10000_MS
from .validation import MetricType, tag_text

# OpenMetrics 1.0: "The combined length of the label names and values of an Exemplar's LabelSet MUST
# NOT exceed 128 UTF-8 character code points."
MAX_CHARACTERS = 128
# The types whose samples may have an exemplar: in OpenMetrics only these can show one.
EXEMPLAR_TYPES: tuple[MetricType, ...] = ("counter", "histogram")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Exemplar:
    """The newest exemplar of a series, or of one bucket of it.

    Attributes:
        name: Name of the metric.
        tags: Tags of the series.
        labels: Labels of the exemplar, such as ``{"trace_id": "5b8aa5a2d2c872e8"}``.
        value: The value of its sample.
        timestamp: When the sample was recorded, aware and in UTC.
        le: Upper bound of the bucket; infinity for the last one, None for a counter.
    """

    name: str
    tags: dict[str, str]
    labels: dict[str, str]
    value: float
    timestamp: datetime
    le: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON: the time as ISO text, `le` as on the page."""
        return {
            "name": self.name,
            "tags": self.tags,
            "labels": self.labels,
            "value": self.value,
            "timestamp": self.timestamp.isoformat(),
            "le": None if self.le is None else f"{self.le:g}".replace("inf", "+Inf"),
        }


def check_exemplar(name: str, kind: MetricType, labels: Any) -> bytes:
    """Return the labels of an exemplar as msgpack.

    Raises:
        TypeMismatch: If metrics of type *kind* cannot have exemplars.
        InvalidTags: If *labels* are invalid or too long.
    """
    if kind not in EXEMPLAR_TYPES:
        raise TypeMismatch(f"exemplar is for counters and histograms, but {name!r} is a {kind}")
    if not isinstance(labels, Mapping) or not labels:
        raise InvalidTags(f"exemplar must be a mapping of labels, got {shown(labels)}")
    clean = {}
    for key, value in labels.items():
        if not isinstance(key, str) or not _LABEL.match(key):
            raise InvalidTags(
                "exemplar must have labels of letters, digits and _ that begin with a letter or _, "
                f"got {shown(key)}"
            )
        clean[str(key)] = tag_text(key, value)
    characters = sum(len(key) + len(value) for key, value in clean.items())
    if characters > MAX_CHARACTERS:
        raise InvalidTags(
            f"exemplar must have at most {MAX_CHARACTERS} characters in all names and values of "
            f"its labels, got {characters}"
        )
    packed: bytes = msgpack.packb(clean)
    return packed


class StoredExemplar(NamedTuple):
    """An exemplar as Redis holds it: value, time in ms, labels."""

    value: float
    time_ms: int
    labels: dict[str, str]


def unpack_exemplar(data: bytes) -> StoredExemplar:
    """Return an exemplar stored by record.lua; see EXEMPLARS in store/keys.py.

    Raises:
        ValueError, TypeError, msgpack.UnpackException: If *data* is something else.
    """
    value, time_ms, _, labels = msgpack.unpackb(data)
    if not isinstance(labels, dict) or not all(
        isinstance(key, str) and _LABEL.match(key) and isinstance(text, str)
        for key, text in labels.items()
    ):
        raise ValueError(f"labels of an exemplar must be names and strings, got {shown(labels)}")
    found = StoredExemplar(float(value), int(time_ms), labels)
    if not isfinite(found.value) or not 0 <= found.time_ms < YEAR_10000_MS:
        raise ValueError(f"value and time of an exemplar must be plausible, got {shown(found)}")
    return found
