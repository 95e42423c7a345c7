"""Names and labels of prometheus_client as this package stores them, and back.

prometheus_client accepts any UTF-8 text as a name, and any number of labels of any length. We store
metric names and tag keys that match `NAME_PATTERN`, at most MAX_TAGS tags, and values of at most
MAX_TAG_BYTES bytes. Whatever fits is stored unchanged.
"""

import json
import re
from collections.abc import Iterable
from hashlib import sha256

from redismetrics.model.validation import (
    MAX_NAME,
    MAX_TAG_BYTES,
    MAX_TAGS,
    NAME_PATTERN,
    MetricType,
)

# Prefix of escaped names, as in Prometheus' own escaping scheme "values":
# https://prometheus.io/docs/instrumenting/escaping_schemes
_PREFIX = "U__"
_ESCAPED = re.compile(r"__|_([0-9A-Fa-f]{1,6})_|[^_]")
_KEPT = re.compile(r"[A-Za-z0-9]")
# Code points that no page can show.
_SURROGATE = re.compile("[\ud800-\udfff]")
# The tag that holds the labels beyond MAX_TAGS, as JSON.
MORE_LABELS = "U__more_labels"
# Hexadecimal digits of the hash at the end of truncated text.
_HASH_DIGITS = 16


def stored_name(kind: str, name: str) -> str:
    """Return the name of a metric in Redis: that of its samples, with `_total` for counters."""
    text = f"{name}_total" if kind == "counter" else name
    # The end of a name must not be mistaken for a suffix from `other_name`.
    return _escaped(text) if text.endswith(f":{kind}") else _stored(text)


def other_name(stored: str, kind: str) -> str:
    """Return an alternative name for a metric of *kind* if *stored* has another type.

    For example ``jobs:gauge``: while a new version of a program replaces one whose metric has
    another type, both are counted.
    """
    return stored[: MAX_NAME - len(kind) - 1] + f":{kind}"


def family_name(stored: str, kind: MetricType) -> str:
    """Return the name that prometheus_client gives to the family of a stored metric."""
    name = _original(stored.removesuffix(f":{kind}"))
    return name.removesuffix("_total") or name if kind == "counter" else name


def stored_tags(labels: Iterable[str], values: Iterable[str]) -> dict[str, str]:
    """Return the tags of a series."""
    tags = dict(zip(map(_stored, labels), map(_stored_value, values), strict=True))
    if len(tags) > MAX_TAGS:
        more = {key: tags.pop(key) for key in list(tags)[MAX_TAGS - 1 :]}
        tags[MORE_LABELS] = _stored_value(json.dumps(more))
    return tags


def with_more_labels(labels: dict[str, str]) -> dict[str, str]:
    """Return *labels* with those in MORE_LABELS added; a truncated value stays truncated."""
    more = labels.get(MORE_LABELS)
    if more is None:
        return labels
    try:
        found = json.loads(more)
    except (ValueError, RecursionError):
        return labels
    if not _are_stored_labels(found):
        # A tag with this name that was recorded with the API of redismetrics.
        return labels
    rest = {label: value for label, value in labels.items() if label != MORE_LABELS}
    return {**rest, **{_original(label): value for label, value in found.items()}}


def _are_stored_labels(found: object) -> bool:
    """Return whether *found* are labels written by `stored_tags`."""
    return isinstance(found, dict) and all(
        NAME_PATTERN.match(label) and isinstance(value, str) and not _SURROGATE.search(value)
        for label, value in found.items()
    )


def label_name(key: str) -> str:
    """Return the label name for a tag key."""
    return key if key == MORE_LABELS else _original(key)


def _stored(name: str) -> str:
    if NAME_PATTERN.match(name) and not name.startswith(_PREFIX):
        return name
    return _escaped(name)


def _escaped(name: str) -> str:
    escaped = _PREFIX + "".join(map(_escape, name))
    return escaped if len(escaped) <= MAX_NAME else _cut(escaped, MAX_NAME)


def _escape(character: str) -> str:
    if _KEPT.match(character):
        return character
    return "__" if character == "_" else f"_{ord(character):X}_"


def _original(stored: str) -> str:
    if not stored.startswith(_PREFIX):
        return stored
    parts = _ESCAPED.finditer(stored, len(_PREFIX))
    name = "".join(
        chr(int(part[1], 16)) if part[1] else part[0][:1]
        for part in parts
        if not part[1] or int(part[1], 16) <= 0x10FFFF
    )
    # A name not made by `_escaped` may decode to something that a page cannot show.
    return name if name and not _SURROGATE.search(name) else stored


def _stored_value(value: str) -> str:
    try:
        data = value.encode()
    except UnicodeEncodeError:
        # A lone surrogate, such as from a file name that is not UTF-8.
        value = value.encode(errors="backslashreplace").decode()
        data = value.encode()
    return value if len(data) <= MAX_TAG_BYTES else _cut(value, MAX_TAG_BYTES)


def _cut(text: str, limit: int) -> str:
    """Return the beginning of *text* and a hash of the whole, at most *limit* bytes."""
    data = text.encode()
    end = "_" + sha256(data).hexdigest()[:_HASH_DIGITS]
    return data[: limit - len(end)].decode(errors="ignore") + end
