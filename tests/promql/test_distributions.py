"""Distributions: merged by sum, asked for quantiles and shares, and shown as native histograms."""

import numpy as np
import pytest

pytest.importorskip("promql_parser", reason="needs redismetrics[promql]")
pytest.importorskip("re2", reason="needs redismetrics[promql]")

from redismetrics.promql.histogram_json import MAX_BUCKETS
from redismetrics.promql.source import Selected
from tests.promql.memory import answered, distributions, rows

RNG = np.random.default_rng(7)
LABELS = [{"__name__": "d", "i": str(number), "g": str(number // 2)} for number in range(4)]
SEEN = [
    [RNG.lognormal(0, 1, size).tolist() for size in sizes]
    for sizes in [[50, 20, 0], [10, 0, 0], [5, 7, 9], [1, 1, 1]]
]
ANSWER = Selected(distributions=[distributions(LABELS, SEEN)])


def found(expression: str) -> dict[str, list[float | None]]:
    return rows(answered(expression, ANSWER, end=2, step=1))


def of_group(group: str, step: int) -> list[float]:
    """Return all observations of a group at a step."""
    return [
        value
        for labels, seen in zip(LABELS, SEEN, strict=True)
        if labels["g"] == group
        for value in seen[step]
    ]


@pytest.mark.parametrize("rank", [0.0, 0.1, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("inner", ["sum by (g) (d)", "sum by (g) (2 * d)", "avg by (g) (d)"])
def test_quantiles_of_merged_distributions_are_those_of_all_observations(
    rank: float, inner: str
) -> None:
    result = found(f"histogram_quantile({rank}, {inner})")
    assert set(result) == {"g=0", "g=1"}
    for group in "01":
        for step in range(3):
            seen = of_group(group, step)
            value = result[f"g={group}"][step]
            if seen:
                assert value == pytest.approx(np.quantile(seen, rank))
            else:
                assert value is None


def test_statistics_of_merged_distributions() -> None:
    for name, oracle in {
        "histogram_count": len,
        "histogram_sum": sum,
        "histogram_avg": np.mean,
        "histogram_stddev": np.std,
        "histogram_stdvar": np.var,
    }.items():
        result = found(f"{name}(sum(d))")[""]
        for step in range(3):
            seen = of_group("0", step) + of_group("1", step)
            assert result[step] == pytest.approx(oracle(seen)), name


def test_shares_of_merged_distributions() -> None:
    result = found("histogram_fraction(0.5, 2, sum(d))")[""]
    for step in range(3):
        seen = np.array(of_group("0", step) + of_group("1", step))
        assert result[step] == pytest.approx(((seen > 0.5) & (seen <= 2)).mean())


def test_a_share_and_a_quantile_are_inverse() -> None:
    middle = found("histogram_quantile(0.5, sum(d))")[""][0]
    share = found(f"histogram_fraction(-Inf, {middle}, sum(d))")[""][0]
    assert share == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ("count(d)", [4.0, 3.0, 2.0]),
        ("count by (g) (d)", None),
        ("histogram_count(d and on(i) d)", None),
        ("absent(d)", None),
        ("histogram_count(sum(d or d))", [66.0, 28.0, 10.0]),
        ("histogram_count(sum(d unless d))", None),
        ("histogram_count(sum(d + d))", [132.0, 56.0, 20.0]),
        ("histogram_count(sum(d * 3))", [198.0, 84.0, 30.0]),
        ("histogram_count(sum(d / 2))", [33.0, 14.0, 5.0]),
        ("histogram_count(-sum(d))", [-66.0, -28.0, -10.0]),
        ("sum(histogram_count(d{g='0'}))", [66.0, 28.0, 10.0]),
        ("histogram_count(sum(limitk(1, d)))", [50.0, 20.0, 9.0]),
    ],
)
def test_operators_of_distributions(expression: str, values: list[float] | None) -> None:
    result = found(expression)
    if values is not None:
        assert result == {"": values}
    elif "absent" in expression or "unless" in expression:
        assert result == {}
    else:
        assert result


def test_different_scales_are_merged_by_weight() -> None:
    ones, nines = [[[1.0] * 10]], [[[9.0] * 10]]
    first = distributions([{"__name__": "d", "i": "1"}], ones, scale=1 / 300)
    second = distributions([{"__name__": "d", "i": "2"}], nines, scale=3 / 300)
    answer = Selected(distributions=[first, second])
    for rank, value in [(0.2, 1.0), (0.3, 9.0)]:
        assert rows(answered(f"histogram_quantile({rank}, sum(d))", answer)) == {"": [value]}


INCOMPATIBLE = (
    "PromQL info: incompatible sample types encountered for binary operator "
    '">": histogram > float (1:1)'
)


@pytest.mark.parametrize(
    ("expression", "note"),
    [
        ("max(d)", "PromQL info: ignored histogram in max aggregation (1:5)"),
        ("topk(1, d)", "PromQL info: ignored histogram in topk aggregation (1:1)"),
        ("d > 1", INCOMPATIBLE),
    ],
)
def test_operations_unsupported_by_distributions_are_noted(expression: str, note: str) -> None:
    answer = answered(expression, ANSWER)
    assert rows(answer) == {}
    assert answer.infos == [note]


def test_series_keep_distributions_through_functions_of_labels() -> None:
    result = found('histogram_count(label_replace(d, "j", "x$1", "i", "(.*)"))')
    assert set(result) == {f"g={number // 2},i={number},j=x{number}" for number in range(4)}


def test_a_fixed_time_is_the_same_at_each_step() -> None:
    answer = Selected(distributions=[distributions(LABELS[:1], [SEEN[0][:1]])])
    result = rows(answered("histogram_quantile(0.5, d @ 0)", answer, end=2, step=1))
    assert result["g=0,i=0"] == [pytest.approx(np.median(SEEN[0][0]))] * 3


@pytest.mark.parametrize(
    "seen",
    [
        [1.0],
        [0.0],
        [-1.0, 1.0],
        [1e-300, 1e100],
        [-5.0, -3.0, -2.0],
        list(np.linspace(-10, 10, 101)),
        RNG.lognormal(0, 3, 1000).tolist(),
        [1e-9, 1e-9, 1e9],
    ],
)
def test_the_api_shows_native_histograms_of_few_buckets(seen: list[float]) -> None:
    answer = answered("d", Selected(distributions=[distributions(LABELS[:1], [[seen]])]))
    (row,) = answer.data()["result"]
    assert row["metric"] == LABELS[0]
    time, shown = row["histogram"]
    assert time == 0
    assert float(shown["count"]) == len(seen)
    assert float(shown["sum"]) == pytest.approx(sum(seen))
    buckets = shown["buckets"]
    assert 0 < len(buckets) <= MAX_BUCKETS
    assert sum(float(number) for *_, number in buckets) == pytest.approx(len(seen))
    before = -np.inf
    for rule, lower, upper, number in buckets:
        low, high = float(lower), float(upper)
        assert before <= low < high
        before = high
        inside = {
            0: lambda value: low < value <= high,  # noqa: B023
            1: lambda value: low <= value < high,  # noqa: B023
            3: lambda value: low <= value <= high,  # noqa: B023
        }[rule]
        assert float(number) == pytest.approx(sum(map(inside, seen)), abs=1)


def test_a_range_of_distributions_is_shown_by_series() -> None:
    data = answered("d", ANSWER, end=2, step=1).data()
    assert data["resultType"] == "matrix"
    assert [[time for time, _ in row["histograms"]] for row in data["result"]] == [
        [0, 1], [0], [0, 1, 2], [0, 1, 2],
    ]  # fmt: skip
