"""Timestamps, datetimes and slots."""

import math
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismetrics.errors import InvalidTimestamp
from redismetrics.model.time import DAY, slot_of, to_datetime, to_ms


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        (0, 0),
        (1_800_000_000, 1_800_000_000_000),
        (1_800_000_000.001, 1_800_000_000_001),
        (1_800_000_000.999, 1_800_000_000_999),
        (datetime(2026, 1, 1, tzinfo=UTC), 1_767_225_600_000),
        (np.float64(1.5), 1500),
        (datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), 1_767_225_600_000),
        (datetime(2026, 1, 1, microsecond=999_000, tzinfo=UTC), 1_767_225_600_999),
    ],
)
def test_a_time_becomes_unix_milliseconds(timestamp: Any, expected: int) -> None:
    assert to_ms(timestamp) == expected


@given(st.integers(0, 253_402_300_799_999))
def test_every_millisecond_survives_conversion(timestamp_ms: int) -> None:
    assert to_ms(to_datetime(timestamp_ms)) == timestamp_ms
    assert to_datetime(timestamp_ms).tzinfo is UTC


@given(st.integers(1_500_000_000_000, 3_000_000_000_000))
def test_every_current_millisecond_survives_as_seconds(timestamp_ms: int) -> None:
    assert to_ms(timestamp_ms / 1000) == timestamp_ms


def test_a_time_is_never_rounded_up() -> None:
    # A window that begins at a moment must contain what was recorded after it, although times are
    # stored in milliseconds.
    moment = datetime(2026, 1, 1, microsecond=700, tzinfo=UTC)
    assert to_ms(moment) == 1_767_225_600_000
    assert to_ms(moment.timestamp()) == 1_767_225_600_000
    for _ in range(1000):
        moment_s = time.time()
        assert to_ms(moment_s) in (math.floor(moment_s * 1000), moment_s * 1000)


@pytest.mark.parametrize(
    "timestamp",
    [
        datetime(2026, 1, 1),  # noqa: DTZ001
        "2026-01-01",
        b"1",
        True,
        None,
        -1,
        math.nan,
        math.inf,
        253_402_300_800,
        1e30,
        10**400,
        [],
        datetime(1969, 12, 31, tzinfo=UTC),
        1_800_000_000_000,
    ],
    ids=lambda value: repr(value)[:20],
)
def test_any_other_time_is_rejected(timestamp: Any) -> None:
    with pytest.raises(InvalidTimestamp, match=r"^timestamp must be "):
        to_ms(timestamp)


@given(st.integers(0, 1 << 45), st.integers(1, 10 * DAY))
def test_a_slot_contains_its_time_and_is_aligned_to_its_width(
    timestamp_ms: int, width: int
) -> None:
    start = slot_of(timestamp_ms, width)
    assert start % width == 0
    assert start <= timestamp_ms < start + width


def test_a_day_starts_at_midnight_utc() -> None:
    noon = datetime(2026, 3, 29, 12, tzinfo=UTC)  # a day on which Europe changes its clocks
    assert (
        slot_of(round(noon.timestamp() * 1000), DAY)
        == datetime(2026, 3, 29, tzinfo=UTC).timestamp() * 1000
    )
