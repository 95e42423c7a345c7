"""Percentiles: equal to numpy's for exact values, within 1 % of ranks for compressed ones."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redismetrics import Metrics
from redismetrics.columnar import percentiles as percentiles_module
from redismetrics.columnar.percentiles import (
    LONG_ROW,
    MANY_POINTS,
    THIN_FROM,
    SortedPoints,
    percentiles,
    ranges_of_rows,
    ranges_of_sample,
    thin,
)
from tests.columnar.distributions import (
    DISTRIBUTIONS,
    FINITE,
    RANKS,
    VALUES,
    recorded,
)


@given(
    st.lists(st.lists(st.tuples(FINITE, st.integers(1, 4)), max_size=20), min_size=1, max_size=5),
    st.randoms(),
)
@example([[(1.0, 3), (1.0, 1), (2.0, 1)], [], [(5.0, 1)]], random.Random(0))
def test_percentiles_of_exact_values_equal_numpy(
    groups: list[list[tuple[float, int]]], order: Any
) -> None:
    rows = [
        (number, value, weight) for number, group in enumerate(groups) for value, weight in group
    ]
    order.shuffle(rows)
    number, value, weight = (np.array([row[at] for row in rows]) for at in range(3))
    plain = [[value for value, weight in group for _ in range(weight)] for group in groups]
    low = np.array([min(values, default=np.nan) for values in plain])
    high = np.array([max(values, default=np.nan) for values in plain])
    run = SortedPoints(
        number.astype(np.int64),
        None,
        value.astype(float),
        weight.astype(np.int64),
        np.zeros(len(rows), np.bool_),
    )
    found = percentiles([run], low, high, np.array(RANKS) / 100)
    for answer, values in zip(found, plain, strict=True):
        if values:
            size = np.abs(values).max()
            np.testing.assert_allclose(
                answer, np.percentile(values, RANKS), rtol=1e-12, atol=1e-13 * size
            )
        else:
            assert np.isnan(answer).all()


def test_stored_exact_samples_give_exact_percentiles(url: str, namespace: str) -> None:
    values = np.random.default_rng(1).lognormal(size=400).tolist()
    with Metrics(url, namespace=namespace, flush_interval=3600) as metrics:
        # As many as are kept one by one in a flush.
        for start in range(0, 400, 100):
            for value in values[start : start + 100]:
                metrics.histogram("latency", value)
            metrics.flush()
        names = [f"p{p:g}" for p in RANKS]
        found = metrics.rollup("latency", aggregations=names)[""]
        np.testing.assert_allclose(
            [found[name] for name in names], np.percentile(values, RANKS), rtol=1e-13
        )
        digest = metrics.digest("latency")
    np.testing.assert_allclose(
        [digest.percentile(p) for p in RANKS], np.percentile(values, RANKS), rtol=1e-13
    )


def rank_error(values: Any, found: float, p: float) -> float:
    """Return the distance of the rank of *found* among *values* from *p*, in percent."""
    below, upto = (
        100 * np.searchsorted(np.sort(values), found, side=side) / len(values)
        for side in ("left", "right")
    )
    return float(max(below - p, p - upto, 0))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_percentiles_of_compressed_values_are_within_one_per_cent(
    metrics: Metrics, name: str
) -> None:
    values = recorded(metrics, name)
    found = metrics.rollup(name, aggregations=("p50", "p90", "p95", "p99", "p0", "p100", "count"))[
        ""
    ]
    # They are compressed.
    assert sum(1 for _ in metrics.query(name)) < VALUES / 10
    assert (found["count"], found["p0"], found["p100"]) == (VALUES, values.min(), values.max())
    for p in (50, 90, 95, 99):
        answer = found[f"p{p}"]
        # Measured: up to 0.25, as with fastdigest's own merge.
        assert rank_error(values, answer, p) < 0.5, p
        # Values of close ranks may be far apart in a bimodal distribution.
        if name != "bimodal":
            assert answer == pytest.approx(np.percentile(values, p), rel=0.01), p
        assert metrics.digest(name).percentile(p) == pytest.approx(answer, rel=1e-12)


def test_percentile_between_two_modes_lies_in_the_gap_or_at_its_sides(
    metrics: Metrics,
) -> None:
    values = np.repeat([10.0, 1000.0], 5000) + np.random.default_rng(3).uniform(0, 1, 10_000)
    for value in values.tolist():
        metrics.histogram("gap", value)
    low, high = np.sort(values)[[4900, 5100]]
    assert low <= metrics.query("gap", aggregation="p50") <= high


@pytest.mark.parametrize("ranks", [[0.95], [0.01, 0.5, 0.99], [0.0, 1.0], [0.5, 0.5]])
@pytest.mark.parametrize("shape", ["lognormal", "few values", "two modes"])
def test_thinned_points_give_the_same_percentiles(ranks: list[float], shape: str) -> None:
    random_ = np.random.default_rng(7)
    many = 3 * THIN_FROM + 11
    values = random_.lognormal(size=many)
    if shape == "few values":
        values = np.round(values)
    elif shape == "two modes":
        values[: many // 2] += 1e6
    group, weights = random_.integers(0, 3, many), random_.integers(1, 50, many)
    expected = np.array(ranks)
    # Half of the points in rows of up to 100, some rows empty; the other points alone.
    of_row = np.append(random_.integers(0, 100, many // 120), [0, 0])
    in_rows = int(of_row.sum())
    group[:in_rows] = np.repeat(random_.integers(0, 3, len(of_row)), of_row)
    row = np.repeat(np.arange(len(of_row)), of_row)
    values[:in_rows] = values[:in_rows][np.lexsort((values[:in_rows], row))]
    ends = np.cumsum(of_row)
    runs = [
        SortedPoints(
            group[np.minimum(ends - of_row, many - 1)],
            of_row,
            values[:in_rows],
            weights[:in_rows],
            np.zeros(len(of_row), np.bool_),
        ),
        SortedPoints(
            group[in_rows:],
            None,
            values[in_rows:],
            weights[in_rows:],
            np.zeros(many - in_rows, np.bool_),
        ),
    ]
    low = np.array([values[group == number].min() for number in range(3)])
    high = np.array([values[group == number].max() for number in range(3)])
    for ranges in (ranges_of_sample, ranges_of_rows):
        thinned = thin(runs, 3, ranges(runs, 3, expected))
        assert int(thinned.weights.sum()) == int(weights.sum())
    thinned = thin(runs, 3, ranges_of_sample(runs, 3, expected))
    assert len(thinned.values) < many or shape == "few values"
    found = percentiles(runs, low, high, expected)
    for number in range(3):
        repeated = np.repeat(values[group == number], weights[group == number])
        np.testing.assert_allclose(
            found[number], np.percentile(repeated, expected * 100), rtol=1e-12
        )


@pytest.mark.parametrize("ranks", [[0.0], [0.5, 0.95], [0.25, 0.99, 1.0]])
@pytest.mark.parametrize("shape", ["alike", "different", "few values", "few groups"])
def test_long_rows_show_where_the_percentiles_lie(
    ranks: list[float], shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_ = np.random.default_rng(11)
    rows, groups = MANY_POINTS // 50, 2 if shape == "few groups" else 40
    size = random_.integers(2 * LONG_ROW, 100, rows)
    group = random_.integers(0, groups, rows)
    values = random_.lognormal(size=int(size.sum()))
    if shape == "different":
        values += np.repeat(random_.integers(0, 100, rows), size)
    elif shape == "few values":
        values = np.round(values)
    row = np.repeat(np.arange(rows), size)
    values = values[np.lexsort((values, row))]
    weights = random_.integers(1, 9, len(values))
    # Equal centroids and values have no order, on which the result would depend.
    centroid = (random_.random(rows) < 0.5) & (shape != "few values")
    points = SortedPoints(group, size, values, weights, centroid)
    low = np.array([values[group[row] == number].min() for number in range(groups)])
    high = np.array([values[group[row] == number].max() for number in range(groups)])
    expected = np.array(ranks)
    found = percentiles([points], low, high, expected)
    thinned = thin([points], groups, ranges_of_rows([points], groups, expected))
    if shape == "alike":
        assert len(thinned.values) < 0.7 * len(values)
    monkeypatch.setattr(percentiles_module, "THIN_RANKS", 0)
    whole = percentiles([points], low, high, expected)
    np.testing.assert_allclose(found, whole, rtol=1e-12)


def test_percentile_on_a_thinned_point_uses_all_points(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As if the sample was misleading: the points that are kept do not cover the rank.
    monkeypatch.setattr(percentiles_module, "_AROUND", -0.3)
    many = 2 * THIN_FROM
    values = np.random.default_rng(1).permutation(many).astype(np.float64)
    whole, none = np.ones(many, np.int64), np.zeros(many, np.bool_)
    run = SortedPoints(np.zeros(many, np.int64), None, values, whole, none)
    found = percentiles([run], np.zeros(1), np.array([many - 1.0]), np.array([0.5]))
    assert found[0, 0] == (many - 1) / 2
