"""Windows, intervals and durations."""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from redismetrics.errors import InvalidQuery, UnknownWindow
from redismetrics.model.time import DAY, HOUR, MINUTE
from redismetrics.model.windows import interval_ms, parse_duration, window_ms

NOW = 1_800_000_000_123


ALWAYS = 1 << 60


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250ms", 250),
        ("90s", 90_000),
        ("15m", 15 * MINUTE),
        ("6h", 6 * HOUR),
        ("2d", 2 * DAY),
        ("1w", 7 * DAY),
        ("0m", None),
        ("-5m", None),
        ("1.5h", None),
        ("5", None),
        ("m", None),
        ("", None),
        ("5M", None),
        ("5m\n", None),
        ("1h30m", None),
        ("٥m", None),
    ],
)
def test_a_duration_is_a_whole_number_and_a_unit(text: str, expected: int | None) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    ("window", "width"),
    [
        ("last_hour", HOUR),
        ("last_24h", DAY),
        ("last_7d", 7 * DAY),
        ("last_30d", 30 * DAY),
        ("15m", 15 * MINUTE),
        (timedelta(minutes=15), 15 * MINUTE),
        (timedelta(milliseconds=1), 1),
    ],
)
def test_a_window_that_ends_now_includes_the_current_millisecond(window: Any, width: int) -> None:
    assert window_ms(window, NOW) == (NOW + 1 - width, NOW + 1)


@pytest.mark.parametrize("window", ["999999999w", timedelta.max])
def test_a_window_longer_than_unix_time_begins_at_0(window: Any) -> None:
    assert window_ms(window, NOW) == (0, NOW + 1)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (None, (0, ALWAYS)),
        ((None, None), (0, ALWAYS)),
        ((1_000, 2_000), (1_000_000, 2_000_000)),
        ((1_000.5, None), (1_000_500, ALWAYS)),
        ((None, 1_000), (0, 1_000_000)),
        ((2_000, 1_000), (2_000_000, 1_000_000)),
        (
            (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, tzinfo=UTC)),
            (1_767_225_600_000, 1_767_229_200_000),
        ),
        (
            (datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), None),
            (1_767_225_600_000, ALWAYS),
        ),
    ],
)
def test_a_pair_means_since_and_until(window: Any, expected: tuple[int, int]) -> None:
    assert window_ms(window, NOW) == expected


BAD_WINDOWS = [
    "yesterday",
    "",
    "last_year",
    "0m",
    "-1h",
    0,
    3600,
    1.5,
    True,
    [1, 2],
    (1,),
    (1, 2, 3),
    ("15m", None),
    {},
    b"15m",
    timedelta(0),
    timedelta(seconds=-1),
    timedelta(microseconds=1),
    (float("nan"), None),
    (-1, None),
    (True, None),
    (datetime(2026, 1, 1), None),  # noqa: DTZ001
    datetime(2026, 1, 1, tzinfo=UTC),
    (None, 1e18),
    object,
]


@pytest.mark.parametrize("window", BAD_WINDOWS, ids=repr)
def test_any_other_window_is_rejected(window: Any) -> None:
    with pytest.raises(UnknownWindow, match=r"^window(:| must) "):
        window_ms(window, NOW)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ("minute", MINUTE),
        ("hour", HOUR),
        ("day", DAY),
        ("5m", 5 * MINUTE),
        ("90s", 90_000),
        ("2000ms", 2_000),
        (timedelta(minutes=5), 5 * MINUTE),
        ("1w", 7 * DAY),
    ],
)
def test_an_interval_is_a_name_or_a_duration(interval: Any, expected: int) -> None:
    assert interval_ms(interval) == expected


@pytest.mark.parametrize(
    "interval",
    [
        "week",
        "",
        "1500ms",
        "0s",
        60,
        None,
        True,
        timedelta(0),
        timedelta(seconds=-60),
        timedelta(milliseconds=1500),
        ("1m",),
    ],
    ids=repr,
)
def test_any_other_interval_is_rejected(interval: Any) -> None:
    with pytest.raises(
        UnknownWindow, match=r"^interval must be .*got " + re.escape(repr(interval)[:80])
    ):
        interval_ms(interval)


def test_an_unknown_window_is_an_invalid_query() -> None:
    assert issubclass(UnknownWindow, InvalidQuery)
