"""Marks: noted, listed, deleted, bounded, copied and cleared."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgpack
import pytest
import redis

import redismetrics
from redismetrics import (
    AsyncMetrics,
    InvalidMetric,
    InvalidQuery,
    InvalidTags,
    InvalidTimestamp,
    InvalidValue,
    Metrics,
)
from redismetrics.admin import copy
from redismetrics.store import keys
from redismetrics.store import marks as stored
from tests.fixtures.servers import Server


def test_marks_are_listed_newest_first_within_a_window(metrics: Metrics) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    made = [
        metrics.mark(f"deploy {number}", timestamp=now - timedelta(hours=number), tags=tags)
        for number, tags in enumerate([{"service": "web", "build": 7}, None, {}, None])
    ]
    assert made[0].tags == {"service": "web", "build": "7"}
    assert metrics.marks() == made
    assert metrics.marks(limit=2) == made[:2]
    # Half-open, as all windows.
    window = (made[2].timestamp, made[0].timestamp)
    assert metrics.marks(window) == [made[1], made[2]]
    assert metrics.marks("90m") == made[:2]
    assert made[0].to_dict() == {
        "id": made[0].id,
        "text": "deploy 0",
        "tags": {"service": "web", "build": "7"},
        "timestamp": now.isoformat(),
    }


def test_a_mark_is_stored_at_the_current_time_with_these_bytes(
    metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    mark = metrics.mark(" v1.2 \N{ROCKET} ", tags={"service": "web"})
    assert before < mark.timestamp < before + timedelta(seconds=30)
    assert mark.text == "v1.2 \N{ROCKET}"
    ((data, score),) = admin.zrange(f"rm:{namespace}:marks", 0, -1, withscores=True)
    assert data == msgpack.packb([mark.id, "v1.2 \N{ROCKET}", {"service": "web"}])
    assert score == round(mark.timestamp.timestamp() * 1000)
    assert mark.id.startswith(f"{score:.0f}-")
    five_years = 5 * 365 * 86_400_000
    assert five_years < admin.pttl(f"rm:{namespace}:marks") < five_years + 3 * 86_400_000
    # What a newer version adds is skipped.
    admin.zadd(f"rm:{namespace}:marks", {msgpack.packb(["1-a", "x", {}, "more"]): 1})
    assert [each.text for each in metrics.marks()] == [mark.text, "x"]


def test_a_deleted_mark_is_gone_and_others_of_its_time_stay(metrics: Metrics) -> None:
    now = datetime.now(UTC)
    one, other = (metrics.mark(text, timestamp=now) for text in "ab")
    assert metrics.delete_mark(one.id)
    assert not metrics.delete_mark(one.id)
    assert metrics.marks() == [other]
    for wrong in ("", "x", "-", f"{other.id}x", "1" * 400):
        assert not metrics.delete_mark(wrong)


@pytest.mark.parametrize("text", ["", "  ", "x" * 201, 7, None, "\ud800"])
def test_invalid_texts_are_rejected(metrics: Metrics, text: Any) -> None:
    with pytest.raises(InvalidValue, match="text of a mark must"):
        metrics.mark(text)
    assert metrics.marks() == []


def test_invalid_arguments_are_rejected(metrics: Metrics) -> None:
    with pytest.raises(InvalidMetric):
        metrics.mark("x", tags={"a b": "c"})
    long = {"a": "x" * 2000, "b": "\N{GREEK SMALL LETTER ALPHA}" * 1047}
    metrics.delete_mark(metrics.mark("x", tags=long).id)
    with pytest.raises(InvalidTags, match="at most 4096 bytes, got 4098"):
        metrics.mark("x", tags={**long, "cc": ""})
    for days in (-6 * 365, 2):
        with pytest.raises(InvalidTimestamp, match="timestamp of a mark must be within the last"):
            metrics.mark("x", timestamp=datetime.now(UTC) + timedelta(days=days))
    with pytest.raises(InvalidQuery, match="limit"):
        metrics.marks(limit=0)
    with pytest.raises(InvalidQuery, match="id must be"):
        metrics.delete_mark(7)  # type: ignore[arg-type]
    assert metrics.marks() == []


def test_the_newest_marks_are_kept_and_old_ones_removed(
    metrics: Metrics, admin: redis.Redis, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "MAX_MARKS", 3)
    admin.zadd(keys.marks(namespace), {msgpack.packb(["1000-a", "ancient", {}]): 1000})
    metrics.mark("0")
    assert [each.text for each in metrics.marks()] == ["0"]
    now = datetime.now(UTC)
    for number in range(1, 5):
        metrics.mark(str(number), timestamp=now + timedelta(seconds=number))
    assert [each.text for each in metrics.marks()] == ["4", "3", "2"]


def test_the_async_client_and_the_module_have_them(
    metrics: Metrics, url: str, namespace: str
) -> None:
    async def check() -> None:
        async with AsyncMetrics(url, namespace=namespace) as other:
            mark = await other.mark("deploy", tags={"service": "web"})
            assert await other.marks() == metrics.marks() == [mark]
            assert await other.delete_mark(mark.id)
            assert await other.marks("1h") == []

    asyncio.run(check())
    for name in ("mark", "marks", "delete_mark"):
        assert callable(getattr(redismetrics, name))


def test_marks_are_copied_and_cleared(
    metrics: Metrics, second_server: Server, namespace: str, admin: redis.Redis
) -> None:
    metrics.increment("jobs")
    metrics.flush()
    made = [metrics.mark(str(number)) for number in range(3)]
    copy(metrics.settings.url, second_server.url, namespace=namespace, allow_active=True)
    with Metrics(second_server.url, namespace=namespace) as there:
        found = there.marks()
        assert sorted(found, key=str) == sorted(made, key=str)
        assert second_server.client().pttl(keys.marks(namespace)) > 0
    metrics.clear(confirm=True)
    assert metrics.marks() == []
    assert not admin.exists(keys.marks(namespace))


@pytest.mark.parametrize(
    "member",
    [
        b"",
        b"\xc1",
        msgpack.packb(7),
        msgpack.packb(["1-a", "x"]),
        msgpack.packb(["1-a", "x", [1]]),
        msgpack.packb(["1-a", "x", {"a": 1}]),
        msgpack.packb(["1-a", "x", {b"a": "b"}]),
        msgpack.packb([1, "x", {}]),
    ],
)
def test_a_mark_that_cannot_be_read_hides_no_other(
    metrics: Metrics, admin: redis.Redis, namespace: str, member: bytes
) -> None:
    mark = metrics.mark("deploy", tags={"service": "web"})
    at = int(mark.timestamp.timestamp() * 1000)
    late = msgpack.packb(["2-a", "of a year that no datetime has", {}])
    admin.zadd(keys.marks(namespace), {member: at, late: 1 << 59})
    assert metrics.marks() == [mark]
    assert metrics.delete_mark(mark.id)
    assert metrics.marks() == []
