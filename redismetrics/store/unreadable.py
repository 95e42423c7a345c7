"""Keep unreadable data of one metric from spoiling a result about many."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from redismetrics.errors import FormatMismatch, ScriptFailed, StoreError

if TYPE_CHECKING:
    # At run time this would load redis-py, which the help of commands does not need.
    from .driver import Operation

log = logging.getLogger("redismetrics")

# Metrics read per round trip, which bounds the memory of replies.
METRICS_PER_TRIP = 1_000

# Maximum number of different warnings to remember, so that each is logged once.
MAX_WARNINGS = 1_000

T = TypeVar("T")
# Metrics that are left out of a result, with the reasons.
Skipped = dict[str, str]

_warned: set[str] = set()


def skip(what: str, error: Exception, skipped: Skipped | None = None) -> None:
    """Add to *skipped* that *what* is left out of a result; log it, but only the first time."""
    if skipped is not None:
        skipped[what] = str(error)
    warn_once(f"{what} is skipped: {error}")


def warn_once(text: str) -> None:
    """Log a warning, but only the first time."""
    if text not in _warned and len(_warned) < MAX_WARNINGS:
        _warned.add(text)
        log.warning("%s", text)


def is_of_one_key(error: StoreError) -> bool:
    """Return whether *error* is about the contents of one key, not the server or permissions."""
    return isinstance(error, FormatMismatch) or (
        isinstance(error, ScriptFailed) and "WRONGTYPE" in str(error)
    )


def read_readable(
    names: Sequence[str],
    read: Callable[[list[str]], "Operation[list[T]]"],
    skipped: Skipped | None = None,
) -> "Operation[list[T]]":
    """Return the result of *read* for these metrics, without those that cannot be read.

    *read* is called with at most METRICS_PER_TRIP of them. Unreadable metrics are added to
    *skipped*. They are found by bisection, so that one of 1,000 costs 20 extra round trips.
    """
    found: list[T] = []
    for first in range(0, len(names), METRICS_PER_TRIP):
        part = names[first : first + METRICS_PER_TRIP]
        found += yield from _read_part(part, read, skipped)
    return found


def _read_part(
    names: Sequence[str],
    read: Callable[[list[str]], "Operation[list[T]]"],
    skipped: Skipped | None,
) -> "Operation[list[T]]":
    try:
        return (yield from read(list(names)))
    except StoreError as error:
        if not is_of_one_key(error) or not names:
            raise
        if len(names) == 1:
            skip(names[0], error, skipped)
            return []
    half = len(names) // 2
    first = yield from _read_part(names[:half], read, skipped)
    return first + (yield from _read_part(names[half:], read, skipped))
