"""The assertions, and what they say when they fail."""

from typing import Any

import pytest

import redismetrics
from redismetrics import (
    Metrics,
)
from redismetrics.testing import Captured
from tests.testing.application import NOWHERE, refunds


def failing(assertion: Any, *arguments: Any) -> str:
    with pytest.raises(AssertionError) as failed:
        assertion(*arguments)
    return str(failed.value)


def test_a_failing_assertion_shows_what_was_recorded(captured: Captured) -> None:
    lenient = Metrics(NOWHERE, on_invalid="drop")
    refunds.increment(2)
    lenient.increment("refunds", tags={"shop": "fr"})
    lenient.gauge("depth", 7)
    lenient.histogram("took", float("nan"))
    lenient.histogram("took", 1.5)
    lenient.histogram("took", 2)
    recorded = (
        "\nrecorded:\n  counter refunds{shop='de'}: 2\n  counter refunds{shop='fr'}: 1\n"
        "  gauge depth: 7\n"
        "  histogram took: 1.5, 2\n  dropped as invalid: 1"
    )
    lines = sorted(recorded.splitlines()[2:])
    for message, head in (
        (
            failing(captured.counter("refunds", shop="de").increased_by, 1),
            "counter refunds{shop='de'}: expected an increase of 1, got 2",
        ),
        (
            failing(captured.counter("refunds", shop="at").increased_by, 1),
            "counter refunds{shop='at'}: expected an increase of 1, got nothing",
        ),
        (
            failing(captured.counter("refunds").increased_by, 4),
            "counter refunds: expected an increase of 4, got 3 in 2 increments",
        ),
        (failing(captured.gauge("depth").is_now, 8), "gauge depth: expected 8, got 7"),
        (failing(captured.gauge("level").is_now, 8), "gauge level: expected 8, got nothing"),
        (
            failing(captured.histogram("took").recorded, 1.5),
            "histogram took: expected 1.5, got 1.5, 2",
        ),
        (
            failing(captured.histogram("took").recorded, 1.5, 3),
            "histogram took: expected 1.5, 3, got 1.5, 2",
        ),
        (
            failing(captured.histogram("took").recorded_times, 3),
            "histogram took: expected 3 values, got 1.5, 2",
        ),
        (failing(captured.gauge("depth").not_recorded), "gauge depth: expected nothing, got 7"),
        (failing(captured.nothing_recorded), "expected nothing, got samples"),
        (
            failing(captured.gauge("took").is_now, 2),
            "'took' was recorded as a histogram, not as a gauge",
        ),
    ):
        assert message.splitlines()[0] == head
        assert sorted(message.splitlines()[2:]) == lines
    captured.clear()
    assert failing(captured.counter("refunds").increased_by, 1).endswith(
        "got nothing\nnothing was recorded"
    )


def test_a_message_shows_a_limited_number_of_series(captured: Captured) -> None:
    for number in range(100):
        redismetrics.increment("jobs", tags={"n": str(number)})
        redismetrics.histogram("took", number)
    message = failing(captured.counter("jobs").increased_by, 1)
    assert len(message.splitlines()) == 33
    assert message.endswith("and 71 more series")
    assert "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 (100 values)" in failing(
        captured.histogram("took").recorded, 1
    )


def test_amounts_are_equal_up_to_rounding(captured: Captured) -> None:
    for _ in range(3):
        redismetrics.increment("cost", 0.1)
        redismetrics.histogram("took", 0.1 + 0.2)
    assert captured.counter("cost").increased_by(0.3)
    assert captured.counter("cost").increased_by(pytest.approx(0.31, abs=0.02))
    assert captured.histogram("took").recorded(0.3, 0.3, 0.3)
