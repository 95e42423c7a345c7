"""Percentiles: exact while the values are, near afterwards, and beside the tdigest package."""

import random
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redismetrics import InvalidQuery, Metrics, MissingExtra
from redismetrics.columnar import percentiles as percentiles_module
from redismetrics.columnar.digest import Digest, cluster
from redismetrics.columnar.percentiles import THIN_FROM, SortedPoints, percentiles, thin

RANKS = (0, 1, 5, 12.5, 25, 50, 75, 90, 95, 99, 99.9, 100)
VALUES, FLUSHES = 100_000, 20


def tdigest() -> Any:
    return pytest.importorskip(
        "tdigest", reason="tdigest is not installed: pip install 'redismetrics[tdigest]'"
    )


# -- exact --------------------------------------------------------------------------------------------------------

FINITE = st.floats(-1e12, 1e12) | st.integers(-5, 5).map(float)


@given(
    st.lists(st.lists(st.tuples(FINITE, st.integers(1, 4)), max_size=20), min_size=1, max_size=5),
    st.randoms(),
)
@example([[(1.0, 3), (1.0, 1), (2.0, 1)], [], [(5.0, 1)]], random.Random(0))
def test_percentiles_of_exact_values_are_numpy_s(
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


@given(st.lists(FINITE, min_size=1, max_size=100))
def test_a_digest_of_no_more_values_than_its_budget_is_exact(values: list[float]) -> None:
    digest = Digest.of(values)
    wanted = np.percentile(values, RANKS)
    found = [digest.percentile(p) for p in RANKS]
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13 * np.abs(values).max())
    assert digest.count == len(values)


def test_percentiles_in_the_store_are_exact_while_its_samples_are(url: str, namespace: str) -> None:
    values = np.random.default_rng(1).lognormal(size=400).tolist()
    with Metrics(url, namespace=namespace, flush_interval=3600) as metrics:
        for start in range(0, 400, 100):  # as many as are kept one by one of a flush
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


def test_a_digest_of_nothing_has_no_percentiles() -> None:
    assert Digest.of([]).count == 0
    assert np.isnan(Digest.of([]).percentile(50))


@pytest.mark.parametrize("p", [-1, 100.1, float("nan"), float("inf")])
def test_a_percentile_outside_0_to_100_is_refused(p: float) -> None:
    with pytest.raises(InvalidQuery, match="p must be from 0 to 100, got "):
        Digest.of([1.0, 2.0]).percentile(p)


# -- near ---------------------------------------------------------------------------------------------------------


def bimodal(rng: np.random.Generator) -> Any:
    return np.concatenate(
        [rng.normal(10, 1, VALUES * 7 // 10), rng.normal(1000, 50, VALUES * 3 // 10)]
    )


DISTRIBUTIONS: dict[str, Any] = {
    "normal": lambda rng: rng.normal(100, 15, VALUES),
    "lognormal": lambda rng: rng.lognormal(3, 1, VALUES),
    "pareto": lambda rng: 1 + rng.pareto(1.5, VALUES),
    "uniform": lambda rng: rng.uniform(0, 1000, VALUES),
    "bimodal": bimodal,
}


@pytest.fixture(scope="module")
def metrics(request: pytest.FixtureRequest) -> Iterator[Metrics]:
    server = request.getfixturevalue("server")
    with Metrics(server.url, namespace="test_digest", flush_interval=3600) as metrics:
        yield metrics


def recorded(metrics: Metrics, name: str) -> Any:
    """Record a distribution as a histogram in some flushes, and return its values in the order of recording."""
    rng = np.random.default_rng(20)
    values = DISTRIBUTIONS[name](rng)
    rng.shuffle(values)
    for part in np.array_split(values, FLUSHES):
        for value in part.tolist():
            metrics.histogram(name, value)
        metrics.flush()
    return values


def rank_error(values: Any, found: float, p: float) -> float:
    """How far the rank of *found* among *values* is from the one asked for, in per cent of all."""
    below, upto = (
        100 * np.searchsorted(np.sort(values), found, side=side) / len(values)
        for side in ("left", "right")
    )
    return float(max(below - p, p - upto, 0))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_percentiles_of_compacted_values_are_within_one_per_cent(
    metrics: Metrics, name: str
) -> None:
    values = recorded(metrics, name)
    found = metrics.rollup(name, aggregations=("p50", "p90", "p95", "p99", "p0", "p100", "count"))[
        ""
    ]
    assert sum(1 for _ in metrics.query(name)) < VALUES / 10  # they are compacted
    assert (found["count"], found["p0"], found["p100"]) == (VALUES, values.min(), values.max())
    for p in (50, 90, 95, 99):
        answer = found[f"p{p}"]
        assert rank_error(values, answer, p) < 0.5, (
            p
        )  # measured: up to 0.25, as that of fastdigest's own merge
        if name != "bimodal":  # where the values of near ranks may be far apart
            assert answer == pytest.approx(np.percentile(values, p), rel=0.01), p
        assert metrics.digest(name).percentile(p) == pytest.approx(answer, rel=1e-12)


def test_in_a_gap_between_two_modes_an_answer_lies_in_the_gap_or_at_its_sides(
    metrics: Metrics,
) -> None:
    values = np.repeat([10.0, 1000.0], 5000) + np.random.default_rng(3).uniform(0, 1, 10_000)
    for value in values.tolist():
        metrics.histogram("gap", value)
    low, high = np.sort(values)[[4900, 5100]]
    assert low <= metrics.query("gap", aggregation="p50") <= high


# -- clusters -----------------------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-1e9, 1e9), min_size=30, max_size=300), st.integers(20, 100), st.booleans()
)
def test_clusters_hold_all_weight_within_the_budget(
    values: list[float], budget: int, weighted: bool
) -> None:
    column = np.array(values)
    weights = np.arange(1, len(values) + 1) if weighted else None
    means, masses = cluster(column, weights, budget)
    assert len(means) == len(masses) <= max(budget, 1)
    assert masses.sum() == (len(values) if weights is None else weights.sum())
    assert masses.min() >= 1
    assert (np.diff(means) >= 0).all()
    slack = 1e-9 * np.abs(column).max()
    assert column.min() - slack <= means[0] <= means[-1] <= column.max() + slack
    total = column.sum() if weights is None else (column * weights).sum()
    assert (means * masses).sum() == pytest.approx(total, rel=1e-9, abs=1e-6 + slack * masses.sum())


# -- the tdigest package ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["normal", "lognormal"])
def test_percentiles_are_as_near_as_those_of_the_tdigest_package(name: str) -> None:
    peer = tdigest().TDigest()
    random.seed(5)  # it shuffles
    values = DISTRIBUTIONS[name](np.random.default_rng(5))[:10_000]
    peer.batch_update(values.tolist())
    ours = Digest.of(values)
    for p in (1, 10, 50, 90, 95, 99):
        exact, theirs = np.percentile(values, p), peer.percentile(p)
        assert ours.percentile(p) == pytest.approx(theirs, rel=0.02), p
        assert ours.percentile(p) == pytest.approx(exact, rel=0.017), (
            p
        )  # what 100 centroids hold of a long tail


def test_a_digest_goes_to_the_tdigest_package_and_answers_there(metrics: Metrics) -> None:
    tdigest()
    values = recorded(metrics, "lognormal")
    digest = metrics.digest("lognormal")
    peer = digest.to_tdigest()
    assert peer.n == digest.count >= VALUES
    for p in (10, 50, 90, 99):
        assert peer.percentile(p) == pytest.approx(np.percentile(values, p), rel=0.02), p


def test_a_digest_comes_from_the_tdigest_package_and_answers_here() -> None:
    peer = tdigest().TDigest()
    random.seed(6)
    values = np.random.default_rng(6).normal(100, 15, 5000)
    peer.batch_update(values.tolist())
    digest = Digest.from_tdigest(peer)
    assert digest.count == peer.n == 5000
    for p in (5, 50, 95, 99):
        assert digest.percentile(p) == pytest.approx(np.percentile(values, p), rel=0.01), p


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50, unique=True))
def test_there_and_back_a_digest_is_the_same(values: list[float]) -> None:
    tdigest()
    digest = Digest.of(values, budget=20)
    back = Digest.from_tdigest(digest.to_tdigest())
    assert back.values.tolist() == digest.values.tolist()
    assert back.weights.tolist() == digest.weights.tolist()
    assert back.centroid.tolist() == digest.centroid.tolist()


def test_equal_values_survive_the_way_there_and_back() -> None:
    tdigest()
    digest = Digest.of([1.0, 1.0, 1.0, 2.0, 2.0, 3.0])
    back = Digest.from_tdigest(digest.to_tdigest())
    # The package folds equal values into one centroid, and a centroid may stand for different ones: 1.5 becomes 1.6.
    assert (back.values.tolist(), back.weights.tolist()) == ([1.0, 2.0, 3.0], [3, 2, 1])
    assert 1.0 < back.percentile(50) < 2.0


def test_an_empty_digest_goes_there_and_back() -> None:
    tdigest()
    assert Digest.from_tdigest(Digest.of([]).to_tdigest()).count == 0


def test_without_the_package_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tdigest", None)
    with pytest.raises(MissingExtra, match=r"pip install 'redismetrics\[tdigest\]'") as caught:
        Digest.of([1.0]).to_tdigest()
    assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize("ranks", [[0.95], [0.01, 0.5, 0.99], [0.0, 1.0], [0.5, 0.5]])
@pytest.mark.parametrize("shape", ["lognormal", "few values", "two modes"])
def test_of_many_points_those_near_the_answer_are_enough(ranks: list[float], shape: str) -> None:
    random_ = np.random.default_rng(7)
    many = 3 * THIN_FROM + 11
    values = random_.lognormal(size=many)
    if shape == "few values":
        values = np.round(values)
    elif shape == "two modes":
        values[: many // 2] += 1e6
    group, weights = random_.integers(0, 3, many), random_.integers(1, 50, many)
    wanted = np.array(ranks)
    # Half of them in rows of up to 100 points, some of none, the rest alone.
    of_row = np.append(random_.integers(0, 100, many // 120), [0, 0])
    in_rows = int(of_row.sum())
    group[:in_rows] = np.repeat(random_.integers(0, 3, len(of_row)), of_row)
    row = np.repeat(np.arange(len(of_row)), of_row)
    values[:in_rows] = values[:in_rows][np.lexsort((values[:in_rows], row))]
    ends = np.cumsum(of_row)
    runs = [
        SortedPoints(
            group[np.minimum(ends - of_row, many - 1)], of_row, values[:in_rows], weights[:in_rows],
            np.zeros(len(of_row), np.bool_),
        ),
        SortedPoints(group[in_rows:], None, values[in_rows:], weights[in_rows:], np.zeros(many - in_rows, np.bool_)),
    ]  # fmt: skip
    low = np.array([values[group == number].min() for number in range(3)])
    high = np.array([values[group == number].max() for number in range(3)])
    thinned = thin(runs, 3, wanted)
    assert int(thinned.weights.sum()) == int(weights.sum())
    assert len(thinned.values) < many or shape == "few values"
    found = percentiles(runs, low, high, wanted)
    for number in range(3):
        repeated = np.repeat(values[group == number], weights[group == number])
        np.testing.assert_allclose(found[number], np.percentile(repeated, wanted * 100), rtol=1e-12)


def test_an_answer_that_would_rest_on_what_was_left_out_is_worked_out_in_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        percentiles_module, "_AROUND", -0.3
    )  # the sample misleads: what is kept lies beside the answer
    many = 2 * THIN_FROM
    values = np.random.default_rng(1).permutation(many).astype(np.float64)
    whole, none = np.ones(many, np.int64), np.zeros(many, np.bool_)
    run = SortedPoints(np.zeros(many, np.int64), None, values, whole, none)
    found = percentiles([run], np.zeros(1), np.array([many - 1.0]), np.array([0.5]))
    assert found[0, 0] == (many - 1) / 2
