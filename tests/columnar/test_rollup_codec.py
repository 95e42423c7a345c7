"""Rollup tables as bytes: they come back, and take few bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismetrics.columnar import rollup_codec, rollup_table
from redismetrics.columnar.rollup_codec import pack_table, unpack_table
from redismetrics.columnar.rollup_table import CLUSTERED, EXACT, UNIFORM, Points, Table
from redismetrics.columnar.sample_codec import pack_samples
from redismetrics.columnar.summaries import of_points
from tests.columnar.rollups import NOW, Row, assert_back, rows, samples_of, table_of


@given(st.lists(rows(), min_size=1, max_size=6))
def test_table_round_trip(drawn: list[Row]) -> None:
    assert_back(table_of(drawn))


@given(st.lists(rows(), min_size=1, max_size=3), st.integers(0, 4))
def test_repeated_round_trips_do_not_add_errors(drawn: list[Row], times: int) -> None:
    table = table_of(drawn)
    for _ in range(times):
        table = assert_back(table)


def test_negative_zero_below_zero_as_minimum_round_trips() -> None:
    """Gauges record both: round(-0.04, 1) is -0.0."""
    table = table_of([(CLUSTERED, [(-0.0, 1), (1.0, 1), (2.0, 1)])], [(0.0, 2.0)])
    assert assert_back(table).points.values[0] == 0.0


def test_rows_of_very_different_sizes_round_trip() -> None:
    rng = np.random.default_rng(3)
    drawn: list[Row] = [
        (CLUSTERED, [(value, 2) for value in sorted(rng.normal(size=200).tolist())])
    ]
    drawn += [
        (CLUSTERED, [(float(at), 1), (at + 0.5, 2), (at + 2.0, 9)][: 2 + at % 2])
        for at in range(300)
    ]
    drawn += [(EXACT, [(1.0, 1), (2.0, 2)]), (UNIFORM, [(7.0, 7)]), *drawn[:1]]
    order = rng.permutation(len(drawn))
    assert_back(table_of([drawn[at] for at in order]))


@pytest.mark.parametrize("count", [1, 2**53 + 1, 2**60 + 3])
def test_counts_and_weights_are_exact(count: int) -> None:
    drawn = table_of(
        [
            (UNIFORM, [(2.0, count)]),
            (EXACT, [(1.0, count), (2.0, 1)]),
            (CLUSTERED, [(1.0, 1), (2.0, count)]),
        ]
    )
    found = assert_back(drawn)
    assert found.summaries.count.tolist() == [count, count + 1, count + 1]
    assert found.points.weights.tolist() == [count, 1, 1, count]


def test_sums_beyond_the_largest_float_round_trip() -> None:
    table = table_of([(EXACT, [(1.7e308, 3), (1.75e308, 1)]), (UNIFORM, [(1.7e308, 3)])])
    assert np.isinf(table.summaries.total).all()
    found = unpack_table(pack_table(table))
    assert np.isinf(found.summaries.total).all()
    # NaN: both sums are inf.
    np.testing.assert_array_equal(found.summaries.m2[0], table.summaries.m2[0])


@pytest.mark.parametrize("scale", [1e-25, 1e-10, 1.0, 1e18, 1e25])
def test_small_spread_beside_a_large_one_is_kept(scale: float) -> None:
    drawn: list[Row] = [(EXACT, [(at * factor, 1) for at in range(3)]) for factor in (scale, 1.0)]
    assert_back(table_of(drawn))


def test_empty_data_takes_no_bytes() -> None:
    assert pack_table(rollup_table.empty()) == b""
    assert pack_samples(samples_of([])) == b""


def test_points_are_decoded_when_used(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack_table(table_of([(EXACT, [(1.0, 1), (2.0, 1)])]))
    found = unpack_table(data)
    monkeypatch.setattr(rollup_codec, "_unpack_points", lambda *_: pytest.fail("read"))
    assert found.summaries.count.tolist() == [2]
    with pytest.raises(pytest.fail.Exception, match="read"):
        _ = found.points


def test_minute_of_many_series_takes_few_bytes() -> None:
    """1,024 counters that were incremented once."""
    rng = np.random.default_rng(1)
    ones = np.ones(1024, np.int64)
    rows = of_points(np.ones(1024), ones, NOW + np.sort(rng.integers(0, 100, 1024)))
    table = Table(
        ones * NOW,
        np.arange(1024),
        rows,
        np.zeros(1024, np.uint8),
        0 * ones,
        Points(np.zeros(0), np.zeros(0, np.int64)),
    )
    assert len(pack_table(table)) < 500
