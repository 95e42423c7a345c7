"""Operations on alerts for applications: they accept any kind of time and return plain values."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from redismetrics.errors import InvalidMetric, InvalidQuery, shown
from redismetrics.model.time import to_datetime, to_ms
from redismetrics.store.driver import Operation

from . import silences, store
from .durations import parse_duration
from .label_matchers import check_matcher, parse_matchers
from .silences import Silence, check_silence
from .times import time_text

MAX_HISTORY = 10_000


def history(
    namespace: str, since: Any, limit: object, now_ms: int
) -> Operation[list[dict[str, Any]]]:
    """Read state changes, newest first; see `Metrics.alert_history`."""
    if not isinstance(limit, int) or not 1 <= limit <= MAX_HISTORY:
        raise InvalidQuery(f"limit must be from 1 to {MAX_HISTORY}, got {shown(limit)}")
    try:
        since_ms = now_ms - store.HISTORY_TTL_MS if since is None else to_ms(since)
    except InvalidMetric as error:
        raise InvalidQuery(f"since: {error}") from error
    found = yield from store.history(namespace, since_ms, limit)
    return [
        {
            "at": to_datetime(each.at),
            "group": each.group,
            "rule": each.rule,
            "before": each.before,
            "after": each.after,
            "value": each.value,
            "labels": each.labels,
        }
        for each in found
    ]


def new_silence(matchers: Any, duration: Any, comment: str, author: str, now_ms: int) -> Silence:
    """Return a silence that starts now; see `Metrics.silence_alerts`.

    Raises:
        InvalidQuery: If an argument is not valid.
    """
    try:
        if isinstance(matchers, Mapping):
            found = [
                check_matcher(name, value, is_regex=False, is_equal=True)
                for name, value in matchers.items()
            ]
        else:
            found = parse_matchers(str(matchers))
        if isinstance(duration, timedelta):
            length = round(duration.total_seconds() * 1000)
        else:
            length = parse_duration(str(duration))
    except ValueError as error:
        raise InvalidQuery(str(error)) from error
    return check_silence(
        found,
        starts_at=now_ms,
        ends_at=now_ms + length,
        author=author,
        comment=comment,
        now=now_ms,
    )


def save(namespace: str, silence: Silence, now_ms: int) -> Operation[dict[str, Any]]:
    """Write a silence, and return it in the form of `silence_row`."""
    yield from silences.save_silence(namespace, silence, now_ms)
    return silence_row(silence, now_ms)


def list_silences(namespace: str, now_ms: int) -> Operation[list[dict[str, Any]]]:
    """Read all silences, in the form of `silence_row`."""
    found = yield from silences.list_silences(namespace, now_ms)
    return [silence_row(each, now_ms) for each in found]


def expire(namespace: str, id: str, now_ms: int) -> Operation[dict[str, Any]]:
    """End a silence now, and return it.

    Raises:
        InvalidQuery: If there is no silence with that id.
    """
    found = yield from silences.expire_silence(namespace, id, now_ms)
    if found is None:
        raise InvalidQuery(f"there is no silence {shown(id)}; list silences to see their ids")
    return silence_row(found, now_ms)


def silence_row(silence: Silence, now_ms: int) -> dict[str, Any]:
    """Return a silence in the form of Alertmanager's API."""
    return {
        "id": silence.id,
        "status": {"state": silence.state(now_ms)},
        "updatedAt": time_text(silence.updated_at),
        "comment": silence.comment,
        "createdBy": silence.author,
        "startsAt": time_text(silence.starts_at),
        "endsAt": time_text(silence.ends_at),
        "matchers": [
            {
                "name": each.name,
                "value": each.value,
                "isRegex": each.is_regex,
                "isEqual": each.is_equal,
            }
            for each in silence.matchers
        ],
    }
