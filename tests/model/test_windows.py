"""Levels, windows and intervals: one retention, half-open, aligned to the Unix epoch in UTC."""

import re
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismetrics.errors import InvalidQuery, UnknownWindow
from redismetrics.model.retention import DEFAULT_RETENTION, Resolution, RetentionPolicy
from redismetrics.model.time import DAY, HOUR, MINUTE, slot_of
from redismetrics.model.windows import interval_ms, parse_duration, window_ms
from redismetrics.settings import Settings, retention_policy

NOW = 1_800_000_000_123
ALWAYS = 1 << 60


@given(st.integers(0, 1 << 45), st.integers(1, 10 * DAY))
def test_a_slot_holds_its_time_and_starts_at_a_multiple_of_its_width(
    timestamp_ms: int, width: int
) -> None:
    start = slot_of(timestamp_ms, width)
    assert start % width == 0
    assert start <= timestamp_ms < start + width


def test_the_defaults_of_the_settings_are_the_default_retention() -> None:
    assert retention_policy(Settings()) == DEFAULT_RETENTION


def test_a_day_starts_at_midnight_utc() -> None:
    noon = datetime(2026, 3, 29, 12, tzinfo=UTC)  # a day on which Europe changes its clocks
    assert (
        slot_of(round(noon.timestamp() * 1000), DAY)
        == datetime(2026, 3, 29, tzinfo=UTC).timestamp() * 1000
    )


def test_each_level_is_a_multiple_of_the_finer_one_and_kept_longer() -> None:
    for finer, coarser in pairwise(DEFAULT_RETENTION.resolutions):
        assert coarser.width % finer.width == 0
        assert coarser.retention > finer.retention
        assert finer.partition == coarser.width  # what a coarser slot is made of stands in one key


def test_a_calendar_is_read_as_it_was_described() -> None:
    text = DEFAULT_RETENTION.describe()
    assert text == "raw:86400 minute:259200 hour:7776000 day:157680000"
    assert RetentionPolicy.parse(text) == DEFAULT_RETENTION
    for wrong in ("", "minute:60", "raw:1 minute:2 hour:3 day:x", "raw:1 minute:2 day:3 hour:4"):
        with pytest.raises(ValueError, match=r"wanted|must be|convert"):
            RetentionPolicy.parse(wrong)


@given(st.integers(0, 1 << 42), st.integers(1, 100 * DAY), st.sampled_from([HOUR, DAY]))
def test_what_is_kept_from_a_moment_on_is_what_is_not_gone(
    now_ms: int, retention: int, span_ms: int
) -> None:
    level = Resolution("level", MINUTE, span_ms, retention, 0)
    first = level.kept_from(now_ms)
    assert not level.is_expired(first, now_ms)
    assert first == 0 or level.is_expired(first - span_ms, now_ms)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("250ms", 250), ("90s", 90_000), ("15m", 15 * MINUTE), ("6h", 6 * HOUR), ("2d", 2 * DAY), ("1w", 7 * DAY),
        ("0m", None), ("-5m", None), ("1.5h", None), ("5", None), ("m", None), ("", None), ("5M", None), ("5m\n", None),
        ("1h30m", None), ("٥m", None),
    ],
)  # fmt: skip
def test_a_span_is_a_whole_number_and_a_unit(text: str, wanted: int | None) -> None:
    assert parse_duration(text) == wanted


@pytest.mark.parametrize(
    ("window", "width"),
    [
        ("last_hour", HOUR), ("last_24h", DAY), ("last_7d", 7 * DAY), ("last_30d", 30 * DAY), ("15m", 15 * MINUTE),
        (timedelta(minutes=15), 15 * MINUTE), (timedelta(milliseconds=1), 1),
    ],
)  # fmt: skip
def test_a_window_that_ends_now_includes_this_millisecond(window: Any, width: int) -> None:
    assert window_ms(window, NOW) == (NOW + 1 - width, NOW + 1)


@pytest.mark.parametrize("window", ["999999999w", timedelta.max])
def test_a_window_longer_than_time_begins_with_it(window: Any) -> None:
    assert window_ms(window, NOW) == (0, NOW + 1)


@pytest.mark.parametrize(
    ("window", "wanted"),
    [
        (None, (0, ALWAYS)),
        ((None, None), (0, ALWAYS)),
        ((1_000, 2_000), (1_000_000, 2_000_000)),
        ((1_000.5, None), (1_000_500, ALWAYS)),
        ((None, 1_000), (0, 1_000_000)),
        ((2_000, 1_000), (2_000_000, 1_000_000)),
        ((datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, tzinfo=UTC)), (1_767_225_600_000, 1_767_229_200_000)),
        ((datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), None), (1_767_225_600_000, ALWAYS)),
    ],
)  # fmt: skip
def test_a_pair_is_since_and_until(window: Any, wanted: tuple[int, int]) -> None:
    assert window_ms(window, NOW) == wanted


BAD_WINDOWS = [
    "yesterday", "", "last_year", "0m", "-1h", 0, 3600, 1.5, True, [1, 2], (1,), (1, 2, 3), ("15m", None), {}, b"15m",
    timedelta(0), timedelta(seconds=-1), timedelta(microseconds=1), (float("nan"), None), (-1, None), (True, None),
    (datetime(2026, 1, 1), None), datetime(2026, 1, 1, tzinfo=UTC), (None, 1e18), object,  # noqa: DTZ001
]  # fmt: skip


@pytest.mark.parametrize("window", BAD_WINDOWS, ids=repr)
def test_any_other_window_is_refused(window: Any) -> None:
    with pytest.raises(UnknownWindow, match=r"^window(:| must) "):
        window_ms(window, NOW)


@pytest.mark.parametrize(
    ("interval", "wanted"),
    [
        ("minute", MINUTE), ("hour", HOUR), ("day", DAY), ("5m", 5 * MINUTE), ("90s", 90_000), ("2000ms", 2_000),
        (timedelta(minutes=5), 5 * MINUTE), ("1w", 7 * DAY),
    ],
)  # fmt: skip
def test_an_interval_has_a_name_or_is_a_span(interval: Any, wanted: int) -> None:
    assert interval_ms(interval) == wanted


@pytest.mark.parametrize(
    "interval",
    ["week", "", "1500ms", "0s", 60, None, True, timedelta(0), timedelta(seconds=-60), timedelta(milliseconds=1500), ("1m",)],
    ids=repr,
)  # fmt: skip
def test_any_other_interval_is_refused(interval: Any) -> None:
    with pytest.raises(
        UnknownWindow, match=r"^interval must be .*got " + re.escape(repr(interval)[:80])
    ):
        interval_ms(interval)


def test_a_window_that_is_not_understood_is_the_question_s_fault() -> None:
    assert issubclass(UnknownWindow, InvalidQuery)
