"""Check names, tags and values, and pack tags."""

import math
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import msgpack

from redismetrics.errors import InvalidName, InvalidTags, InvalidValue, TypeMismatch

MetricType = Literal["counter", "gauge", "histogram"]
TYPES: tuple[MetricType, ...] = ("counter", "gauge", "histogram")

MAX_NAME = 200
MAX_TAGS = 32
MAX_TAG_BYTES = 1024


NAME_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_./:-]{0,199}\Z")

Tags = Mapping[str, Any]


_TEXT = {str}

# The overflow series of a metric with more series than allowed; OpenTelemetry's name for it.
OVERFLOW_TAGS = {"otel.metric.overflow": "true"}


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


def check_number(value: object, what: str = "value") -> float:
    """Return *value* as a finite float, or raise `InvalidValue`. Text is no number, even if it looks like one."""
    if not isinstance(value, str | bytes | bytearray):
        try:
            result = float(value)  # type: ignore[arg-type]  # anything with __float__ (numpy, Decimal)
        except (TypeError, ValueError):
            pass
        except OverflowError as error:
            raise InvalidValue(
                f"{what}: wanted a number a float can hold, got an integer too large"
            ) from error
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
        raise InvalidTags(
            f"tag {key!r}: wanted str, int, float, bool, Enum, UUID or None, got {type(value).__name__}"
        )
    text = str(value)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidTags(
            f"tag {key!r}: wanted text that is valid UTF-8, got {value!r:.60}"
        ) from error
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
