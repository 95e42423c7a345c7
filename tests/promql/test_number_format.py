"""Numbers and times as Prometheus writes them."""

import math

import pytest

from redismetrics.promql.number_format import (
    format_label,
    format_short,
    format_time,
    format_value,
    format_values,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (0.1, "0.1"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (1e-6, "0.000001"),
        (1.5e-7, "1.5e-07"),
        (1e-300, "1e-300"),
        (123456789.123, "123456789.123"),
        (-2.5, "-2.5"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (float("nan"), "NaN"),
    ],
)
def test_values_are_written_as_prometheus_does(value: float, text: str) -> None:
    assert format_value(value) == text


def test_numbers_in_labels_have_no_exponent() -> None:
    assert [format_label(value) for value in (1e21, 1e-7, 5.0, float("nan"))] == [
        "1000000000000000000000",
        "0.0000001",
        "5",
        "NaN",
    ]


def test_numbers_in_messages_are_short() -> None:
    assert [format_short(value) for value in (1.5, 1e-5, 1e21, 2.0, 100000.0)] == [
        "1.5",
        "1e-05",
        "1e+21",
        "2",
        "100000",
    ]


def test_numbers_are_written_as_go_does() -> None:
    values = [1.0, 1.5, -0.0, 1e16, 1e20, 1e21, 1e-5, 1e-6, 1e-7, 0.1, 123456789.25]
    assert format_values(values) == [
        *("1", "1.5", "-0", "10000000000000000", "100000000000000000000", "1e+21"),
        *("0.00001", "0.000001", "1e-07", "0.1", "123456789.25"),
    ]
    assert format_values([math.nan, math.inf, -math.inf, 2.0]) == ["NaN", "+Inf", "-Inf", "2"]
    assert format_values([]) == []


def test_times_have_milliseconds_only_if_needed() -> None:
    times = [1_500, 2_000, 7, -1_500]
    assert list(map(format_time, times)) == ["1.500", "2", "0.007", "-1.500"]
