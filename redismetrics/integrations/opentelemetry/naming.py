"""OpenTelemetry's names, units and attributes as metric names, units and tags. Pure."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from redismetrics.model.validation import MAX_NAME, MAX_TAG_BYTES, MAX_TAGS

_INVALID_CHARACTER = re.compile(r"[^A-Za-z0-9_./:-]")
_ANNOTATION = re.compile(r"\{([^{}]*)\}")
_SPECIAL_UNITS = {"1": "", "%": "percent"}
# Bytes of the hash at the end of a truncated name.
_HASH_BYTES = 4


def clean_name(name: str) -> str:
    """Return *name* as a valid metric name or tag key.

    Invalid characters become ``_``. A name that is too long is truncated and ends in a hash of the
    whole name.
    """
    clean = _INVALID_CHARACTER.sub("_", name)
    if not clean[:1].isalpha() and clean[:1] != "_":
        clean = f"_{clean}"
    if len(clean) > MAX_NAME:
        data = name.encode("utf-8", "replace")
        suffix = f"_{hashlib.blake2b(data, digest_size=_HASH_BYTES).hexdigest()}"
        clean = clean[: MAX_NAME - len(suffix)] + suffix
    return clean


def clean_unit(unit: str) -> str:
    """Return a valid unit: ``1`` means no unit, ``%`` is percent, ``{request}`` is ``request``."""
    text = _SPECIAL_UNITS.get(unit, _ANNOTATION.sub(r"\1", unit).strip("/"))
    return clean_name(text) if text else ""


def tag_value(value: Any) -> str:
    """Return the value of an attribute as text, truncated to MAX_TAG_BYTES bytes of UTF-8.

    Lists and mappings become JSON, bytes become base64 as in OTLP's JSON.
    """
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


def attributes_to_tags(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return *attributes* as tags, however many.

    If several keys become the same tag, their values are joined with ``;`` in the order of the
    keys.
    """
    tags: dict[str, str] = {}
    for key in sorted(attributes):
        if attributes[key] is None:
            continue
        tag, value = clean_name(key), tag_value(attributes[key])
        tags[tag] = tag_value(f"{tags[tag]};{value}") if tag in tags else value
    return tags


def point_tags(attributes: Mapping[str, Any], inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a point: its *attributes*, and *inherited* tags of its resource.

    Beyond MAX_TAGS, inherited tags are dropped first, then the last attributes by key.
    """
    tags = dict(sorted(attributes_to_tags(attributes).items())[:MAX_TAGS])
    for key, value in sorted(inherited.items()):
        if len(tags) < MAX_TAGS:
            tags.setdefault(key, value)
    return tags


def resource_tags(attributes: Mapping[str, Any], selected: tuple[str, ...]) -> dict[str, str]:
    """Return the *selected* attributes of a resource as tags."""
    return attributes_to_tags({key: attributes[key] for key in selected if key in attributes})
