"""Marks: events, such as deploys, to show on charts."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redismetrics.errors import InvalidValue, shown

from .validation import Tags, clean_tags

MAX_CHARACTERS = 200


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
        InvalidTags: If *tags* are not valid tags.
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
    return text.strip(), clean_tags(tags)
