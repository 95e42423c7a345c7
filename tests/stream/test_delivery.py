"""The queue between a feed and a slow reader, against a plain list."""

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismetrics import FormatMismatch, Gap, Metrics, Sample, Summary
from redismetrics.stream.delivery import DeliveryQueue


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
def test_every_sample_is_taken_or_counted_in_a_gap_at_its_place(
    limit: int, steps: list[Any]
) -> None:
    queue, given_, counted, numbers = DeliveryQueue(limit), 0, 0, itertools.count()
    position = -1.0  # of what was taken last
    taken: list[Any] = []
    for step in [*steps, *["take"] * (limit + 2)]:
        if step != "take":
            queue.put([sample(next(numbers), step)])
            given_ += step
            continue
        item = queue.take()
        taken.append(item)
        if isinstance(item, Gap):
            assert item.missed is not None
            assert position < item.since.timestamp() <= item.until.timestamp()
            position, counted = item.until.timestamp(), counted + item.missed
        elif isinstance(item, Sample):
            assert position < item.timestamp.timestamp()
            position, counted = item.timestamp.timestamp(), counted + item.count
    assert counted == given_
    assert taken[-1] is None
    assert queue.missed == sum(item.missed for item in taken if isinstance(item, Gap))


def test_a_dropped_gap_is_merged_into_the_next() -> None:
    queue = DeliveryQueue(1)
    one, two = sample(1).timestamp, sample(9).timestamp
    queue.put([sample(0), Gap(one, two), sample(10)])
    assert queue.take() == Gap(sample(0).timestamp, two, None)
    assert queue.take() == sample(10)
    assert queue.missed == 1


def test_items_can_be_converted_to_json() -> None:
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


def test_a_dropped_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    queue = DeliveryQueue(1)
    queue.put([FormatMismatch("block: junk"), sample(1)])
    assert "block: junk" in caplog.text
    assert queue.take() == sample(1)
