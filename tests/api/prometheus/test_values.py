"""Times and durations as Prometheus reads them."""

import pytest

from redismetrics.api.prometheus.values import MAX_MS, MIN_MS, read_duration, read_time
from redismetrics.errors import InvalidQuery


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("0", 0),
        ("1435781451.781", 1_435_781_451_781),
        ("1.5e9", 1_500_000_000_000),
        ("2015-07-01T20:10:51.781Z", 1_435_781_451_781),
        ("2015-07-01T22:10:51+02:00", 1_435_781_451_000),
        ("-1", MIN_MS),
        ("9e99", MAX_MS),
        ("-292273086-05-16T16:47:06Z", MIN_MS),
        ("+292277025-08-18T07:12:54.999999999Z", MAX_MS),
    ],
)
def test_time_is_unix_seconds_or_rfc_3339(text: str, time_ms: int) -> None:
    assert read_time(text, "time") == time_ms


@pytest.mark.parametrize("text", ["", "now", "nan", "2015-07-01", "2015-13-01T00:00:00Z", "1" * 99])
def test_other_times_are_rejected(text: str) -> None:
    with pytest.raises(InvalidQuery, match="must be Unix seconds or RFC 3339"):
        read_time(text, "time")


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("15", 15_000), ("0.5", 500), ("1h30m", 5_400_000), ("1d", 86_400_000), ("-3", -3000)],
)
def test_duration_is_seconds_or_prometheus_text(text: str, milliseconds: int) -> None:
    assert read_duration(text, "step") == milliseconds


@pytest.mark.parametrize("text", ["", "1x", "m5", "30m1h", "1e99", "inf", "9" * 40 + "y"])
def test_other_durations_are_rejected(text: str) -> None:
    with pytest.raises(InvalidQuery, match="must be a number of seconds or a duration"):
        read_duration(text, "step")
