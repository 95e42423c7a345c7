"""Bucket counts as distributions: exact count and sum, points in their buckets."""

import bisect
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redismetrics import Metrics
from redismetrics.errors import InvalidValue
from redismetrics.integrations.opentelemetry.buckets import ExplicitBuckets, ExponentialBuckets
from redismetrics.integrations.opentelemetry.distributions import distribution
from redismetrics.model.sample import Distribution
from redismetrics.worker.__main__ import main as work

VALUES = st.lists(st.integers(-50_000, 50_000).map(lambda n: n / 64), min_size=1, max_size=60)


BOUNDS = st.lists(st.integers(-800, 800), max_size=12, unique=True).map(
    lambda found: tuple(map(float, sorted(found)))
)


def counted(values: Sequence[float], bounds: Sequence[float]) -> list[int]:
    """Return the number of values in each bucket (bounds[i-1], bounds[i]], counted one by one."""
    counts = [0] * (len(bounds) + 1)
    for value in values:
        counts[bisect.bisect_left(bounds, value)] += 1
    return counts


@given(VALUES, BOUNDS, st.booleans(), st.booleans())
def test_explicit_buckets_keep_count_sum_and_buckets(
    values: list[float], bounds: tuple[float, ...], extremes: bool, summed: bool
) -> None:
    counts = counted(values, bounds)
    low, high = (min(values), max(values)) if extremes else (None, None)
    found = distribution(
        len(values),
        math.fsum(values) if summed else None,
        low,
        high,
        ExplicitBuckets(bounds, tuple(counts)),
    )
    assert found.count == len(values)
    if summed:
        assert found.total == math.fsum(values)
    if extremes:
        assert (found.low, found.high) == (min(values), max(values)) or (
            len(values) == 1 and not summed
        )
    points = [
        value
        for value, weight in zip(found.values, found.weights, strict=True)
        for _ in range(weight)
    ]
    assert counted(points, bounds) == counts
    if summed and extremes:
        assert math.fsum(points) == pytest.approx(math.fsum(values), abs=1e-6)


def exponential(values: Sequence[float], scale: int) -> ExponentialBuckets:
    """Count values one by one, by the definition: base ** i < |value| <= base ** (i + 1)."""
    base = 2.0 ** (2.0**-scale)
    sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for value in values:
        if value:
            index = math.ceil(math.log(abs(value), base)) - 1
            while base**index >= abs(value):
                index -= 1
            while base ** (index + 1) < abs(value):
                index += 1
            side = sides[value < 0]
            side[index] = side.get(index, 0) + 1
    return ExponentialBuckets(scale, sum(not value for value in values), 0.0, *sides)


@given(VALUES, st.integers(-1, 4), st.integers(0, 3))
# On an edge that the power of the base misses by a rounding error.
@example([0.015625, -0.015625], 1, 0)
def test_exponential_buckets_keep_count_and_sum_and_stay_close(
    values: list[float], scale: int, coarser: int
) -> None:
    found = distribution(
        len(values), math.fsum(values), min(values), max(values), exponential(values, scale)
    )
    assert (found.count, found.total) == (len(values), math.fsum(values))
    assert (found.low, found.high) == (min(values), max(values))
    points = sorted(
        v
        for value, weight in zip(found.values, found.weights, strict=True)
        for v in [value] * weight
    )
    base = 2.0 ** (2.0**-scale)
    for point, value in zip(points, sorted(values), strict=True):
        assert (
            abs(point - value) <= abs(value) * (base - 1) * 1.001 + abs(point) * (base - 1) * 1.001
        )
    # Subtracting the first half, at a finer scale, leaves the second half.
    half = len(values) // 2
    whole, before = exponential(values, scale - coarser), exponential(values[:half], scale)
    # Unless a value is on an edge, where rounding decides its bucket.
    if all(math.log2(abs(value)) % 1 for value in values if value):
        assert whole.is_comparable(before)
        assert whole.subtract(before) == exponential(values[half:], scale - coarser)


def test_extreme_exponential_edges_are_finite() -> None:
    for scale, index in (
        (-10, 0),
        (-10, -1),
        (20, 2**30),
        (20, -(2**30)),
        (0, 1023),
        (0, -1080),
        (3, 8_191),
    ):
        side = ExponentialBuckets.from_dense(scale, 1, 0.0, (index, [1]), (index, [1]))
        assert distribution(3, None, None, None, side).count == 3
    for many in (
        ExponentialBuckets(0, 0, 0.0, {1000: 1 << 50}, {}),
        ExplicitBuckets((-1.7e308, 1.7e308), (0, 2, 0)),
    ):
        with pytest.raises(InvalidValue, match="must"):
            distribution(sum(many.counts), None, None, None, many)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0, 0.0, None, None, None), "count must be 1 to"),
        ((2, math.nan, None, None, None), "sum must be a finite number"),
        ((2, 1.0, 2.0, 1.0, None), "min must not be above max"),
        (
            (2, 1.0, None, None, ExplicitBuckets((1.0,), (1, 0))),
            "buckets must have counts that add up to 2, got 1",
        ),
    ],
)
def test_contradicting_numbers_are_rejected(arguments: Any, expected: str) -> None:
    with pytest.raises(InvalidValue, match=expected):
        distribution(*arguments)
    with pytest.raises(InvalidValue, match="ascending finite bounds"):
        ExplicitBuckets((1.0, 1.0), (0, 0, 0))
    with pytest.raises(InvalidValue, match="scale"):
        ExponentialBuckets.from_dense(99, 0, 0.0, (0, []), (0, []))
    for wrong in (
        ((), (), 0, 0, 0),
        ((1.0,), (0,), 1, 1, 1),
        ((2.0,), (1,), 2, 0, 1),
        ((2.0, 1.0), (1, 1), 3, 1, 2),
    ):
        with pytest.raises(InvalidValue, match="distribution"):
            Distribution(*wrong)


def test_distributions_and_values_form_one_histogram_before_and_after_the_worker(
    metrics: Metrics,
) -> None:
    metrics.declare("took", "histogram", buckets=(1, 2, 5))
    parts = [
        Distribution((0.5, 1.5, 4.0), (10, 20, 5), 57.25, 0.25, 4.5),
        Distribution((3.0,), (4,), 12.0, 3.0, 3.0),
        Distribution((2.5,), (2,), 5.0, 1.5, 3.5),
    ]
    when = metrics._recorder.clock() - 600
    for shop in ("de", "at"):
        for number, part in enumerate(parts):
            metrics._recorder.add_distribution("took", part, {"shop": shop}, when + number)
        metrics.histogram("took", 7.0, tags={"shop": shop}, timestamp=when)
    assert metrics.stats()["recorded"] == metrics.stats()["pending"] == 2 * 42
    metrics.flush()

    def assert_stored() -> None:
        names = ("count", "sum", "min", "max")
        assert metrics.rollup("took", group_by="shop", aggregations=names) == {
            shop: {"count": 42, "sum": 81.25, "min": 0.25, "max": 7.0} for shop in ("at", "de")
        }
        assert metrics.query("took", aggregation="p50") == pytest.approx(1.5, abs=0.5)
        for live in metrics.live("took")[0].series:
            assert (live.count, live.value, live.buckets) == (42, 81.25, (10, 20, 11))

    assert_stored()
    assert (
        work(
            [
                "--once",
                "--url",
                str(metrics.settings.url),
                "--namespace",
                metrics.settings.namespace,
            ]
        )
        == 0
    )
    assert metrics.get_stats()["storage"]["bytes"]["minute"] > 0
    assert_stored()
    assert metrics.query("took", aggregation="count", window=(when - 60, when + 120)) == 84
    metrics.close()
    metrics._recorder.add_distribution("took", parts[0])
    assert metrics.stats()["dropped"] == {"closed": 35}


def test_many_distributions_of_one_minute_are_compressed(metrics: Metrics) -> None:
    part = Distribution(tuple(map(float, range(50))), (2,) * 50, 2450.0, 0.0, 49.0)
    for _ in range(40):
        metrics._recorder.add_distribution("took", part)
    metrics.flush()
    assert metrics.rollup("took", aggregations=("count", "sum", "max"))[""] == {
        "count": 4000,
        "sum": 98_000.0,
        "max": 49.0,
    }
    assert metrics.query("took", aggregation="p90") == pytest.approx(44.5, abs=1)


def test_huge_values_do_not_affect_other_series(metrics: Metrics) -> None:
    metrics._recorder.add_distribution(
        "took", Distribution((-1e300, 1e300), (1, 1), 0.0, -1e300, 1e300), {"n": 1}
    )
    metrics._recorder.add_distribution(
        "took", Distribution((1.0, 2.0), (1, 1), 3.0, 1.0, 2.0), {"n": 2}
    )
    metrics.flush()
    assert metrics.query("took", aggregation="sum", group_by="n") == [
        {"n": "1", "sum": 0.0},
        {"n": "2", "sum": 3.0},
    ]
