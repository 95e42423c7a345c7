"""Silences: matching alerts are not sent for a time."""

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgpack

from redismetrics.errors import FormatMismatch, InvalidQuery, shown
from redismetrics.store import keys
from redismetrics.store.driver import Operation
from redismetrics.store.replies import pairs, reading
from redismetrics.store.unreadable import skip

from .label_matchers import MAX_MATCHERS, LabelMatcher, check_matcher, matches_all

MAX_SILENCES = 10_000
MAX_TEXT = 1000
# How long a silence is listed after its end.
KEPT_MS = 5 * 86_400_000
_LONGEST_MS = 10 * 365 * 86_400_000
# Characters that are safe in the path of a request.
_ID = re.compile(r"[A-Za-z0-9-]{1,100}\Z")


@dataclass(frozen=True, slots=True)
class Silence:
    """A silence. All times are Unix ms."""

    id: str
    matchers: tuple[LabelMatcher, ...]
    starts_at: int
    ends_at: int
    author: str
    comment: str
    updated_at: int = 0

    def state(self, now: int) -> str:
        """Return pending, active or expired."""
        if now >= self.ends_at:
            return "expired"
        return "active" if now >= self.starts_at else "pending"

    def silences(self, labels: Mapping[str, str], now: int) -> bool:
        """Return whether an alert with *labels* is silenced."""
        return self.starts_at <= now < self.ends_at and matches_all(self.matchers, labels)


def silenced_by(silences: Iterable[Silence], labels: Mapping[str, str], now: int) -> list[str]:
    """Return the ids of the silences that match an alert."""
    return [each.id for each in silences if each.silences(labels, now)]


def check_silence(
    matchers: Iterable[LabelMatcher],
    *,
    starts_at: int,
    ends_at: int,
    author: str,
    comment: str,
    now: int,
    id: str = "",
) -> Silence:
    """Return a checked silence; without *id*, a new one.

    Raises:
        InvalidQuery: If it has no matchers or only ones that match everything, ends before it
            starts or in the past, has no comment or author, or an id that cannot be one.
    """
    of = tuple(matchers)
    if not 1 <= len(of) <= MAX_MATCHERS:
        raise InvalidQuery(f"a silence must have 1 to {MAX_MATCHERS} matchers, got {len(of)}")
    if all(each.matches({}) for each in of):
        raise InvalidQuery(
            "at least one matcher of a silence must not match the empty value; name a label"
        )
    if not starts_at < ends_at <= now + _LONGEST_MS or ends_at <= now:
        raise InvalidQuery(
            "the end of a silence must be after its start, in the future and within ten years; "
            f"got {ends_at - starts_at} ms from its start, {ends_at - now} ms from now"
        )
    for what, text in (("author", author), ("comment", comment)):
        if not 1 <= len(text) <= MAX_TEXT:
            raise InvalidQuery(
                f"{what} of a silence must have 1 to {MAX_TEXT} characters, got {len(text)}"
            )
    if id and not _ID.match(id):
        raise InvalidQuery(
            "id of a silence must be 1 to 100 letters, digits and -; leave it out for a new one, "
            f"got {shown(id, 120)}"
        )
    for text in (author, comment, *(part for each in of for part in (each.name, each.value))):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidQuery(
                f"texts of a silence must be valid Unicode, got {shown(text)}"
            ) from error
    return Silence(id or _new_id(), of, starts_at, ends_at, author, comment, now)


def _new_id() -> str:
    digits = secrets.token_hex(16)
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def list_silences(namespace: str, now: int) -> Operation[list[Silence]]:
    """Read all silences, except those that ended over five days ago; the last to end first."""
    (flat,) = yield [("HGETALL", keys.alerts(namespace).silences)]
    found = [_read(name, data) for name, data in pairs(flat).items()]
    kept = [each for each in found if each is not None and each.ends_at > now - KEPT_MS]
    return sorted(kept, key=lambda each: (-each.ends_at, each.id))


def save_silence(namespace: str, silence: Silence, now: int) -> Operation[None]:
    """Write a silence, replacing one with the same id, and remove those that ended long ago.

    Unreadable silences are removed as well.

    Raises:
        InvalidQuery: If there are 10,000 already.
    """
    key = keys.alerts(namespace).silences
    (flat,) = yield [("HGETALL", key)]
    old = []
    fields = pairs(flat)
    for name, data in fields.items():
        found = _read(name, data)
        if found is None or found.ends_at <= now - KEPT_MS:
            old.append(name)
    if len(fields) - len(old) >= MAX_SILENCES and silence.id.encode() not in fields:
        raise InvalidQuery(
            f"there must be at most {MAX_SILENCES} silences; expire some that are not needed"
        )
    ttl = max(silence.ends_at - now, 0) + KEPT_MS
    (left,) = yield [("PTTL", key)]
    commands: list[Any] = [
        ("HSET", key, silence.id, _pack(silence)),
        ("PEXPIRE", key, max(ttl, left)),
    ]
    if old:
        commands.append(("HDEL", key, *old))
    yield commands


def expire_silence(namespace: str, id: str, now: int) -> Operation[Silence | None]:
    """End a silence now; return it, or None if there is none with this id."""
    key = keys.alerts(namespace).silences
    (data,) = yield [("HGET", key, id)]
    if data is None:
        return None
    with reading("silences"):
        silence = _unpack(id, data)
    if silence.ends_at > now:
        silence = replace(
            silence, starts_at=min(silence.starts_at, now), ends_at=now, updated_at=now
        )
        yield [("HSET", key, id, _pack(silence))]
    return silence


def _pack(silence: Silence) -> bytes:
    packed: bytes = msgpack.packb(
        [
            [[each.name, each.value, each.is_regex, each.is_equal] for each in silence.matchers],
            silence.starts_at,
            silence.ends_at,
            silence.author,
            silence.comment,
            silence.updated_at,
        ]
    )
    return packed


def _read(name: bytes, data: bytes) -> Silence | None:
    """Return a silence, or None if unreadable: it must hide neither alerts nor other silences."""
    try:
        with reading("a silence"):
            return _unpack(name.decode(), data)
    except FormatMismatch as error:
        skip(f"silence {name.decode(errors='replace')!r}", error)
        return None


def _unpack(id: str, data: bytes) -> Silence:
    matchers, starts_at, ends_at, author, comment, updated_at = msgpack.unpackb(data)
    found = tuple(
        check_matcher(name, value, is_regex=bool(is_regex), is_equal=bool(is_equal))
        for name, value, is_regex, is_equal in matchers
    )
    return Silence(
        id, found, int(starts_at), int(ends_at), str(author), str(comment), int(updated_at)
    )
