"""Values and bounds as the Prometheus page shows them."""

import math

import pytest

from redismetrics.exposition.text import render
from tests.fixtures.exposition import gauge, histogram


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.0, "0"),
        (3.0, "3"),
        (-3, "-3"),
        (2.0**53 - 1, "9007199254740991"),
        (2.0**53, "9007199254740992.0"),
        (1e22, "1e+22"),
        (0.1, "0.1"),
        (5e-324, "5e-324"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert render([gauge("m", ({}, value))]).splitlines()[-1] == f"m {text}"


@pytest.mark.parametrize(
    ("bound", "text"),
    [
        (0.0, "0.0"),
        (1e-10, "1e-10"),
        (1e-05, "1e-05"),
        (0.0001, "0.0001"),
        (0.25, "0.25"),
        (10, "10.0"),
        (100_000, "100000.0"),
        (1e6, "1e+06"),
        (1_234_567, "1.234567e+06"),
        (2_500_000.5, "2.5000005e+06"),
        (1e10, "1e+10"),
        (1.1e23, "1.1e+23"),
        (-1e6, "-1e+06"),
        (-0.5, "-0.5"),
    ],
)
def test_bounds_are_the_canonical_numbers_of_the_openmetrics_spec(bound: float, text: str) -> None:
    assert f'm_bucket{{le="{text}"}} 0\n' in render([histogram("m", ({}, []), buckets=(bound,))])
