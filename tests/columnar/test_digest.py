"""Clustering, `Digest`, and its exchange with the package tdigest."""

import random
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismetrics import InvalidQuery, Metrics, MissingExtra
from redismetrics.columnar.arrays import Ints
from redismetrics.columnar.digest import Digest, cluster
from tests.columnar.distributions import (
    DISTRIBUTIONS,
    FINITE,
    RANKS,
    VALUES,
    recorded,
)


def tdigest() -> Any:
    return pytest.importorskip(
        "tdigest", reason="tdigest is not installed: pip install 'redismetrics[tdigest]'"
    )


@given(st.lists(FINITE, min_size=1, max_size=100))
def test_digest_within_its_budget_is_exact(values: list[float]) -> None:
    digest = Digest.of(values)
    expected = np.percentile(values, RANKS)
    found = [digest.percentile(p) for p in RANKS]
    # One rounding step of the smallest float as well.
    atol = 1e-13 * np.abs(values).max() + 5e-324
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=atol)
    assert digest.count == len(values)


def test_empty_digest_has_no_percentiles() -> None:
    assert Digest.of([]).count == 0
    assert np.isnan(Digest.of([]).percentile(50))


@pytest.mark.parametrize("p", [-1, 100.1, float("nan"), float("inf")])
def test_percentile_outside_0_to_100_is_rejected(p: float) -> None:
    with pytest.raises(InvalidQuery, match="p must be from 0 to 100, got "):
        Digest.of([1.0, 2.0]).percentile(p)


@given(
    st.lists(st.floats(-1e9, 1e9), min_size=30, max_size=300), st.integers(20, 100), st.booleans()
)
def test_clusters_keep_all_weight_within_the_budget(
    values: list[float], budget: int, weighted: bool
) -> None:
    column = np.array(values)
    weights = np.arange(1, len(values) + 1) if weighted else None
    means, masses = cluster(column, weights, budget)
    assert len(means) == len(masses) <= max(budget, 1)
    assert masses.sum() == (len(values) if weights is None else weights.sum())
    assert masses.min() >= 1
    assert (means[1:] >= means[:-1]).all()
    slack = 1e-9 * np.abs(column).max()
    assert column.min() - slack <= means[0] <= means[-1] <= column.max() + slack
    total = column.sum() if weights is None else (column * weights).sum()
    assert (means * masses).sum() == pytest.approx(total, rel=1e-9, abs=1e-6 + slack * masses.sum())


@pytest.mark.parametrize("name", ["normal", "lognormal"])
def test_percentiles_are_as_accurate_as_the_tdigest_package(name: str) -> None:
    peer = tdigest().TDigest()
    # The package shuffles.
    random.seed(5)
    values = DISTRIBUTIONS[name](np.random.default_rng(5))[:10_000]
    peer.batch_update(values.tolist())
    ours = Digest.of(values)
    for p in (1, 10, 50, 90, 95, 99):
        exact, theirs = np.percentile(values, p), peer.percentile(p)
        assert ours.percentile(p) == pytest.approx(theirs, rel=0.02), p
        # The accuracy of 100 centroids in a long tail.
        assert ours.percentile(p) == pytest.approx(exact, rel=0.017), p


def test_to_tdigest_gives_the_same_percentiles(metrics: Metrics) -> None:
    tdigest()
    values = recorded(metrics, "lognormal")
    digest = metrics.digest("lognormal")
    peer = digest.to_tdigest()
    assert peer.n == digest.count >= VALUES
    for p in (10, 50, 90, 99):
        assert peer.percentile(p) == pytest.approx(np.percentile(values, p), rel=0.02), p


def test_from_tdigest_gives_the_same_percentiles() -> None:
    peer = tdigest().TDigest()
    random.seed(6)
    values = np.random.default_rng(6).normal(100, 15, 5000)
    peer.batch_update(values.tolist())
    digest = Digest.from_tdigest(peer)
    assert digest.count == peer.n == 5000
    for p in (5, 50, 95, 99):
        assert digest.percentile(p) == pytest.approx(np.percentile(values, p), rel=0.01), p


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50, unique=True))
def test_digest_round_trip_through_tdigest(values: list[float]) -> None:
    tdigest()
    digest = Digest.of(values, budget=20)
    back = Digest.from_tdigest(digest.to_tdigest())
    assert back.values.tolist() == digest.values.tolist()
    assert back.weights.tolist() == digest.weights.tolist()
    assert back.centroid.tolist() == digest.centroid.tolist()


def test_equal_values_round_trip_through_tdigest() -> None:
    tdigest()
    digest = Digest.of([1.0, 1.0, 1.0, 2.0, 2.0, 3.0])
    back = Digest.from_tdigest(digest.to_tdigest())
    # The package merges equal values into one centroid, which may represent different values: 1.5
    # becomes 1.6.
    assert (back.values.tolist(), back.weights.tolist()) == ([1.0, 2.0, 3.0], [3, 2, 1])
    assert 1.0 < back.percentile(50) < 2.0


def test_empty_digest_round_trip_through_tdigest() -> None:
    tdigest()
    assert Digest.from_tdigest(Digest.of([]).to_tdigest()).count == 0


def test_missing_tdigest_package_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tdigest", None)
    with pytest.raises(MissingExtra, match=r"pip install 'redismetrics\[tdigest\]'") as caught:
        Digest.of([1.0]).to_tdigest()
    assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize("weights", [None, np.full(5_000, 7)])
def test_means_of_the_largest_values_are_finite(weights: Ints | None) -> None:
    generator = np.random.default_rng(1)
    sign = np.where(generator.random(5_000) < 0.5, -1.0, 1.0)
    values = sign * generator.uniform(1e308, 1.79e308, 5_000)
    means, masses = cluster(values, weights, 10)
    assert masses.sum() == (5_000 if weights is None else 35_000)
    assert (means[1:] >= means[:-1]).all()
    assert values.min() <= means[0] <= -1e308
    assert 1e308 <= means[-1] <= values.max()
