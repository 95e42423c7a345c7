"""Marks of a namespace: a sorted set, bounded by number and age."""

import secrets
from collections.abc import Iterable

import msgpack

from redismetrics.errors import FormatMismatch, InvalidTimestamp, shown
from redismetrics.model.mark import Mark
from redismetrics.model.time import DAY, to_datetime

from . import keys
from .driver import Operation
from .namespace import Namespace
from .replies import read_now_ms, reading
from .unreadable import skip

MAX_MARKS = 10_000
# How far ahead of the server's clock a mark may be, in ms.
_MAX_AHEAD = DAY


def add_mark(
    namespace: Namespace, text: str, tags: dict[str, str], at_ms: int | None
) -> Operation[Mark]:
    """Write a mark, now if *at_ms* is None, and remove those that are too old or too many.

    Raises:
        InvalidTimestamp: If the time is older than what is kept, or more than a day ahead.
    """
    kept_ms = (yield from namespace.config()).retention.coarsest.retention
    (time,) = yield [("TIME",)]
    now_ms = read_now_ms(time)
    at_ms = now_ms if at_ms is None else at_ms
    if not now_ms - kept_ms <= at_ms <= now_ms + _MAX_AHEAD:
        raise InvalidTimestamp(
            f"timestamp of a mark must be within the last {kept_ms // DAY} days (day_retention) "
            f"and at most a day ahead, got {to_datetime(at_ms).isoformat()}"
        )
    # The time in the id finds the mark, and the rest is unique.
    mark = Mark(f"{at_ms}-{secrets.token_hex(8)}", text, tags, to_datetime(at_ms))
    key = keys.marks(namespace.name)
    yield [
        ("ZADD", key, at_ms, msgpack.packb([mark.id, text, tags])),
        ("ZREMRANGEBYSCORE", key, "-inf", f"({now_ms - kept_ms}"),
        ("ZREMRANGEBYRANK", key, 0, -MAX_MARKS - 1),
        ("PEXPIRE", key, kept_ms + _MAX_AHEAD),
    ]
    return mark


def list_marks(namespace: str, since_ms: int, until_ms: int, limit: int) -> Operation[list[Mark]]:
    """Return at most *limit* marks in a window, newest first."""
    (found,) = yield [
        (
            *("ZRANGE", keys.marks(namespace), f"({until_ms}", since_ms, "BYSCORE", "REV"),
            *("LIMIT", 0, limit, "WITHSCORES"),
        )
    ]
    marks = (
        _read(data, round(float(score)))
        for data, score in zip(found[::2], found[1::2], strict=True)
    )
    return [mark for mark in marks if mark is not None]


def delete_mark(namespace: str, id: str) -> Operation[bool]:
    """Delete a mark; return False if there is none with this id."""
    time, _, _ = id.partition("-")
    if not (time.isascii() and time.isdigit() and len(time) <= 16):
        return False
    key = keys.marks(namespace)
    (found,) = yield [("ZRANGEBYSCORE", key, time, time)]
    marks = [(data, _read(data, 0)) for data in found]
    return (yield from _remove(key, [data for data, mark in marks if mark and mark.id == id]))


def _remove(key: str, members: Iterable[bytes]) -> Operation[bool]:
    of_id = list(members)
    if not of_id:
        return False
    (removed,) = yield [("ZREM", key, *of_id)]
    return bool(removed)


def _read(data: bytes, at_ms: int) -> Mark | None:
    """Return a mark, or None if it cannot be read: it must not hide the others."""
    try:
        with reading("a mark"):
            # Newer versions may write more fields.
            name, text, tags, *_ = msgpack.unpackb(data)
            mark = Mark(name, text, dict(tags), to_datetime(at_ms))
            if not set(map(type, (name, text, *mark.tags, *mark.tags.values()))) <= {str}:
                raise TypeError("id, text and tags of a mark must be strings")
            return mark
    except FormatMismatch as error:
        skip(f"mark {shown(data, 80)}", error)
        return None
