"""Check names, types, tags and values, and pack tags."""

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from numbers import Complex, Real
from typing import Any, Literal
from uuid import UUID

import msgpack

from redismetrics.errors import InvalidName, InvalidTags, InvalidValue, TypeMismatch, shown

MetricType = Literal["counter", "gauge", "histogram", "summary", "info", "stateset"]
TYPES: tuple[MetricType, ...] = (
    "counter",
    "gauge",
    "histogram",
    "summary",
    "info",
    "stateset",
)

MAX_NAME = 200
MAX_TAGS = 64
MAX_TAG_BYTES = 4096

NAME_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_./:-]{0,199}\Z")

Tags = Mapping[str, Any]

_TEXT = {str}
# Booleans, integers and floats, by the letters of `numpy.dtype.kind`.
_REAL_KINDS = ("b", "i", "u", "f")

# The overflow series of a metric with more series than allowed; OpenTelemetry's name for it.
OVERFLOW_TAGS = {"otel.metric.overflow": "true"}


def did_you_mean(
    given: object, known: Iterable[str], synonyms: Mapping[str, str] | None = None
) -> str:
    """Return ``; did you mean 'mean'?`` with the name in *known* closest to *given*, or ''.

    *synonyms* maps common wrong names that are spelled differently, such as ``avg``, to known
    names.
    """
    if not isinstance(given, str):
        return ""
    text = given.strip().lower()
    closest = (synonyms or {}).get(text)
    if closest is None:
        found = difflib.get_close_matches(text, known, n=1)
        closest = found[0] if found else None
    return "" if closest is None else f"; did you mean {closest!r}?"


def check_name(name: object, what: str = "metric name") -> str:
    """Return *name*, or raise `InvalidName`."""
    if isinstance(name, str) and NAME_PATTERN.match(name):
        return str(name)
    text = shown(name, 81)
    text = text if len(text) <= 80 else text[:77] + "..."
    raise InvalidName(
        f"invalid {what} {text}: use a letter or underscore, then letters, digits or "
        f"_ . - / : ({MAX_NAME} characters at most)"
    )


def check_type(kind: object) -> MetricType:
    """Return *kind* if it is a metric type, or raise `TypeMismatch`."""
    for known in TYPES:
        if isinstance(kind, str) and kind == known:
            return known
    raise TypeMismatch(
        f"type must be {', '.join(TYPES[:-1])} or {TYPES[-1]}, got {shown(kind)}"
        f"{did_you_mean(kind, TYPES)}"
    )


def check_number(value: object, what: str = "value") -> float:
    """Return *value* as a finite float, or raise `InvalidValue`.

    It must be a real number. Text is rejected, even if it looks like a number, as are complex
    numbers and numpy's times and durations, which would lose their unit.
    """
    if _is_real(value):
        try:
            result = float(value)  # type: ignore[arg-type]
        except OverflowError as error:
            raise InvalidValue(
                f"{what} must be a number that fits in a float, got {shown(value)}"
            ) from error
        except Exception as error:
            # From another library, which may raise anything: for an array, or for a value with a
            # unit.
            raise InvalidValue(f"{what} must be a finite number, got {shown(value, 80)}") from error
        if math.isfinite(result):
            return result
    hint = "; tags are passed as tags={...}" if isinstance(value, Mapping) else ""
    raise InvalidValue(f"{what} must be a finite number, got {shown(value, 80)}{hint}")


def _is_real(value: object) -> bool:
    """Return whether *value* is a real number for `float`, such as numpy numbers and Decimal."""
    kind = type(value)
    if kind is float or kind is int:
        return True
    if not (hasattr(kind, "__float__") or hasattr(kind, "__index__")):
        return False  # `float` also reads text and buffers
    if isinstance(value, str | bytes | bytearray):
        return False
    if isinstance(value, Complex) and not isinstance(value, Real):
        return False
    # The kind of a numpy type, of scalars and arrays: see `numpy.dtype.kind`.
    return getattr(getattr(value, "dtype", None), "kind", "f") in _REAL_KINDS


def tag_text(key: str, value: object) -> str:
    """Return the text that is stored for a tag value.

    True and False become ``true`` and ``false``, an Enum becomes its value, numbers and UUIDs
    become their ``str()``.

    Raises:
        InvalidTags: If *value* has another type, is too long or is not valid UTF-8.
    """
    if isinstance(value, Enum):
        return tag_text(key, value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | UUID) or (
        # Numbers of numpy among them.
        not isinstance(value, str) and isinstance(value, Real)
    ):
        try:
            value = str(value)
        except Exception as error:
            raise InvalidTags(f"tag {key!r} can't be stored as text: {shown(value)}") from error
    if not isinstance(value, str):
        raise InvalidTags(
            f"tag {key!r} must be a str, int, float, bool, Enum, UUID or None, "
            f"got {type(value).__name__}"
        )
    text = str(value)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidTags(f"tag {key!r} must be valid UTF-8, got {shown(value)}") from error
    if size > MAX_TAG_BYTES:
        raise InvalidTags(f"tag {key!r} must be at most {MAX_TAG_BYTES} bytes of UTF-8, got {size}")
    return text


def clean_tags(tags: Tags | None) -> dict[str, str]:
    """Return *tags*, checked, as text and sorted by key, without those that are None.

    Raises:
        InvalidName: If a key is not a valid name.
        InvalidTags: If a value is invalid, or there are too many tags.
    """
    if not tags:
        return {}
    if not isinstance(tags, Mapping):
        raise InvalidTags(f"tags must be a mapping of keys to values, got {type(tags).__name__}")
    clean = {}
    for key, value in tags.items():
        check_name(key, "tag key")
        if value is not None:
            clean[str(key)] = tag_text(key, value)
    if len(clean) > MAX_TAGS:
        raise InvalidTags(f"tags must have at most {MAX_TAGS} keys, got {len(clean)}")
    return dict(sorted(clean.items()))


def pack_tags(tags: dict[str, str]) -> bytes:
    """Return the canonical bytes of clean *tags*, which are equal for equal tags.

    The format is msgpack of [key, value, ...], sorted by key.
    """
    flat: list[str] = []
    for pair in sorted(tags.items()):
        flat.extend(pair)
    packed: bytes = msgpack.packb(flat)
    return packed


def unpack_tags(data: bytes) -> dict[str, str]:
    """Return the tags that `pack_tags` packed; raise ValueError for other bytes."""
    flat = msgpack.unpackb(data, raw=False)
    if not isinstance(flat, list) or not set(map(type, flat)) <= _TEXT:
        raise ValueError(f"tags must be a packed list of texts, got {shown(flat)}")
    return dict(zip(flat[::2], flat[1::2], strict=True))
