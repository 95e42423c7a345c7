"""What a subscription chooses and holds: patterns as Redis has them, and the queue of a slow reader against a plain list."""

import itertools
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from redismetrics import FormatMismatch, Gap, Metrics, Sample, Summary
from redismetrics.stream.delivery import DeliveryQueue
from redismetrics.stream.patterns import glob_to_regex
from tests.fixtures.servers import Server

SIGNS = "ab-^]*?[.9"
NAMES = ["".join(each) for size in (1, 2, 3) for each in itertools.product("ab-.9", repeat=size)]


@pytest.fixture(scope="module")
def names(server: Server) -> Any:
    with server.client(decode_responses=True) as client:
        client.mset(dict.fromkeys(NAMES, ""))
        yield client
        client.delete(*NAMES)


@pytest.mark.parametrize(
    "pattern",
    [
        "[",
        "[]",
        "[^",
        "[^]",
        "[a",
        "[^a",
        "[a-",
        "[a-]",
        "[b-a]",
        "a[]b",
        "[]a]",
        "[.-9]",
        "*[^ab]",
        "[-a]",
    ],
)
def test_a_pattern_matches_what_redis_matches(names: redis.Redis, pattern: str) -> None:
    assert matched(pattern) == set(names.keys(pattern)) & set(NAMES)


@settings(max_examples=300)
@given(pattern=st.text(SIGNS, min_size=1, max_size=6))
def test_any_pattern_matches_what_redis_matches(names: redis.Redis, pattern: str) -> None:
    assert matched(pattern) == set(names.keys(pattern)) & set(NAMES)


def matched(pattern: str) -> set[str]:
    return {name for name in NAMES if re.fullmatch(glob_to_regex(pattern), name)}


def sample(number: int, count: int = 1) -> Sample:
    return Sample(
        "jobs",
        "counter",
        number,
        count,
        {},
        datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
    )


@given(
    limit=st.integers(1, 5),
    steps=st.lists(st.one_of(st.integers(1, 9), st.just("take")), max_size=60),
)
def test_every_sample_is_taken_or_counted_as_missed_in_its_place(
    limit: int, steps: list[Any]
) -> None:
    inbox, given_, told, numbers = DeliveryQueue(limit), 0, 0, itertools.count()
    position = -1.0  # of what was taken last
    taken: list[Any] = []
    for step in [*steps, *["take"] * (limit + 2)]:
        if step != "take":
            inbox.put([sample(next(numbers), step)])
            given_ += step
            continue
        item = inbox.take()
        taken.append(item)
        if isinstance(item, Gap):
            assert item.missed is not None
            assert position < item.since.timestamp() <= item.until.timestamp()
            position, told = item.until.timestamp(), told + item.missed
        elif isinstance(item, Sample):
            assert position < item.timestamp.timestamp()
            position, told = item.timestamp.timestamp(), told + item.count
    assert told == given_
    assert taken[-1] is None
    assert inbox.missed == sum(item.missed for item in taken if isinstance(item, Gap))


def test_a_gap_that_had_no_room_is_part_of_the_one_that_is_told() -> None:
    inbox = DeliveryQueue(1)
    one, two = sample(1).timestamp, sample(9).timestamp
    inbox.put([sample(0), Gap(one, two), sample(10)])
    assert inbox.take() == Gap(sample(0).timestamp, two, None)
    assert inbox.take() == sample(10)
    assert inbox.missed == 1


def test_what_a_stream_yields_is_ready_for_json() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    summary = Summary(
        "took", "histogram", {"a": "b"}, at, at + timedelta(seconds=5), 4, 10.0, 1.0, 4.0, 3.0
    )
    found = json.loads(Metrics.to_json([sample(1), Gap(at, at, 3), summary]))
    assert found[0]["name"] == "jobs"
    assert found[1] == {
        "since": "2026-01-01T00:00:00+00:00",
        "until": "2026-01-01T00:00:00+00:00",
        "missed": 3,
    }
    assert (found[2]["mean"], found[2]["until"]) == (2.5, "2026-01-01T00:00:05+00:00")


def test_an_error_that_had_no_room_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    inbox = DeliveryQueue(1)
    inbox.put([FormatMismatch("block: junk"), sample(1)])
    assert "block: junk" in caplog.text
    assert inbox.take() == sample(1)
