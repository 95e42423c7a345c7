"""Check names, types, tags and values, and pack tags."""

import difflib
import math
import re
from collections.abc import Iterable, Mapping
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


def did_you_mean(
    given: object, known: Iterable[str], synonyms: Mapping[str, str] | None = None
) -> str:
    """Return ``; did you mean 'mean'?`` for the name of *known* closest to *given*, or ''.

    *synonyms* maps frequent wrong names that are spelled differently, such as ``avg``, to known
    ones.
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
    shown = repr(name) if len(repr(name)) <= 80 else repr(name)[:77] + "..."
    raise InvalidName(
        f"invalid {what} {shown}: use a letter or underscore, then letters, digits or "
        f"_ . - / : ({MAX_NAME} characters at most)"
    )


def check_type(kind: object) -> MetricType:
    """Return *kind* if it is a metric type, or raise `TypeMismatch`."""
    for known in TYPES:
        if kind == known:
            return known
    raise TypeMismatch(
        f"type must be counter, gauge or histogram, got {kind!r:.60}{did_you_mean(kind, TYPES)}"
    )


def check_number(value: object, what: str = "value") -> float:
    """Return *value* as a finite float, or raise `InvalidValue`.

    Text is rejected, also text that looks like a number.
    """
    if not isinstance(value, str | bytes | bytearray):
        try:
            # Anything with __float__ is accepted, such as numpy's numbers and Decimal.
            result = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            pass
        except OverflowError as error:
            raise InvalidValue(
                f"{what} must be a number that fits in a float, got a larger integer"
            ) from error
        else:
            if math.isfinite(result):
                return result
    raise InvalidValue(f"{what} must be a finite number, got {value!r:.80}")


def tag_text(key: str, value: object) -> str:
    """Return a tag value as the text that is stored.

    True and False become ``true`` and ``false``, an Enum becomes its value, numbers and UUIDs
    become their ``str()``.

    Raises:
        InvalidTags: If *value* has another type, is too long or is not valid UTF-8.
    """
    if isinstance(value, Enum):
        return tag_text(key, value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | UUID):
        value = str(value)
    if not isinstance(value, str):
        raise InvalidTags(
            f"tag {key!r} must be a str, int, float, bool, Enum, UUID or None, "
            f"got {type(value).__name__}"
        )
    text = str(value)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidTags(f"tag {key!r} must be valid UTF-8, got {value!r:.60}") from error
    if size > MAX_TAG_BYTES:
        raise InvalidTags(f"tag {key!r} must be at most {MAX_TAG_BYTES} bytes of UTF-8, got {size}")
    return text


def clean_tags(tags: Tags | None) -> dict[str, str]:
    """Return checked *tags* as text, sorted by key, without those that are None.

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

    They are msgpack of [key, value, ...] in the order of the keys.
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
        raise ValueError(f"tags must be a packed list of texts, got {flat!r:.60}")
    return dict(zip(flat[::2], flat[1::2], strict=True))
