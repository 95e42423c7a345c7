"""Marks: events, such as deploys, to show on charts."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redismetrics.errors import InvalidTags, InvalidValue, shown

from .validation import Tags, clean_tags

MAX_CHARACTERS = 200
# Bytes of the keys and values of all tags: the 10,000 marks of a namespace are read at once.
MAX_TAG_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Mark:
    """An event, such as a deploy, recorded by `Metrics.mark`.

    Attributes:
        id: Identifies the mark, for example to delete it.
        text: What happened, in at most 200 characters.
        tags: Where it happened, for example ``{"service": "web"}``.
        timestamp: When it happened, aware and in UTC.
    """

    id: str
    text: str
    tags: Mapping[str, str]
    timestamp: datetime

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON: the time as ISO text."""
        return {
            "id": self.id,
            "text": self.text,
            "tags": dict(self.tags),
            "timestamp": self.timestamp.isoformat(),
        }


def check_mark(text: object, tags: Tags | None) -> tuple[str, dict[str, str]]:
    """Return the text and the tags of a mark.

    Raises:
        InvalidValue: If *text* is not a string of 1 to 200 characters that UTF-8 can encode.
        InvalidTags: If *tags* are not valid tags, or have more than 4,096 bytes in total.
    """
    if not isinstance(text, str) or not 1 <= len(text.strip()) <= MAX_CHARACTERS:
        raise InvalidValue(
            f"text of a mark must have 1 to {MAX_CHARACTERS} characters, got {shown(text, 80)}"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(
            f"text of a mark must be valid Unicode, got {shown(text, 80)}"
        ) from error
    clean = clean_tags(tags)
    size = sum(len(part.encode()) for pair in clean.items() for part in pair)
    if size > MAX_TAG_BYTES:
        raise InvalidTags(f"tags of a mark must have at most {MAX_TAG_BYTES} bytes, got {size}")
    return text.strip(), clean
