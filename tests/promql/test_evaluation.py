"""Evaluation that Prometheus' scripts do not cover: lookback, kinds of answers, notes."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("promql_parser", reason="needs redismetrics[promql]")
pytest.importorskip("re2", reason="needs redismetrics[promql]")

from redismetrics.errors import EvaluationFailed
from redismetrics.promql.prepare import prepare
from redismetrics.promql.source import ComputedSeries, SampledSeries, Selected
from redismetrics.promql.testing import SeriesInMemory
from tests.promql.memory import answered, ask, in_memory, rows


def test_selectors_are_asked_once_and_name_the_function() -> None:
    prepared = prepare("rate(m[5m]) / rate(m[5m]) + m + sum(increase(m[5m]))", 0, 60_000, 1000)
    assert [(each.range, each.function, each.count) for each in prepared.selectors] == [
        (300_000, "rate", 61),
        (0, "", 61),
        (300_000, "increase", 61),
    ]


def test_functions_with_other_arguments_are_not_left_to_the_source() -> None:
    prepared = prepare("quantile_over_time(0.5, m[5m])", 0, 0, 0)
    assert [(each.range, each.function) for each in prepared.selectors] == [(300_000, "")]


def test_offset_and_at_are_in_the_times_of_a_selector() -> None:
    prepared = prepare("m offset 1m + m @ 30 + m @ end() offset -1m", 600_000, 660_000, 30_000)
    times = [(each.start, each.step, each.count) for each in prepared.selectors]
    assert times == [(540_000, 30_000, 3), (30_000, 0, 1), (720_000, 0, 1)]


def test_a_subquery_is_evaluated_at_multiples_of_its_step() -> None:
    prepared = prepare("max_over_time(m[5m:1m] offset 10s)", 600_000, 600_000, 0)
    (selector,) = prepared.selectors
    assert (selector.start, selector.step, selector.count) == (300_000, 60_000, 5)


def test_a_sample_counts_for_five_minutes_or_its_series_own_lookback() -> None:
    labels = [{"__name__": "m", "i": "a"}, {"__name__": "m", "i": "b"}]
    series = SampledSeries(
        labels, np.array([0, 1, 2]), np.array([0, 0]), np.array([1.0, 2.0]), None,
        np.array([300_000, 3_600_000]),
    )  # fmt: skip
    found = rows(answered("m", Selected(samples=[series]), start=0, end=3600, step=150))
    assert [value is not None for value in found["__name__=m,i=a"]] == [True, True] + [False] * 23
    assert [value is not None for value in found["__name__=m,i=b"]] == [True] * 24 + [False]


def test_the_lookback_of_the_request_replaces_the_default() -> None:
    source = in_memory(m=[1.0])
    assert rows(ask(source, "m", 0, 120, 60, lookback=90)) == {"__name__=m": [1.0, 1.0, None]}


def test_windows_are_open_on_the_left() -> None:
    source = in_memory(m=[1.0, 2.0, 4.0])
    assert rows(ask(source, "sum_over_time(m[1m])", 60)) == {"": [2.0]}


def test_computed_values_are_taken_as_they_are() -> None:
    present = np.array([[True, False, True]])
    part = ComputedSeries([{"__name__": "c_total"}], np.array([[0.5, 9.0, np.nan]]), present)
    found = rows(answered("rate(c_total[5m])", Selected(values=[part]), end=2, step=1))
    assert list(found) == [""]
    assert found[""][:2] == [0.5, None]
    assert np.isnan(found[""][2] or 0.0)


def test_a_fixed_time_is_the_same_at_each_step() -> None:
    source = in_memory(m=[1.0, 2.0, 3.0])
    for expression in ["m @ 60", "sum(m @ 60)", "last_over_time(m[2m] @ 60)", "m offset -1m @ 0"]:
        (found,) = rows(ask(source, expression, 0, 120, 60)).values()
        assert found == [2.0, 2.0, 2.0], expression


def test_the_answer_of_each_selector_is_needed() -> None:
    with pytest.raises(ValueError, match="`answers` must have 1 elements, one for each selector"):
        answered("m")


def test_notes_of_the_source_are_handed_on() -> None:
    found = answered("m", Selected(warnings=["careful"], infos=["did you mean `m_total`?"]))
    assert (found.warnings, found.infos) == (["careful"], ["did you mean `m_total`?"])


NOT_A_COUNTER = (
    "PromQL info: metric might not be a counter, name does not end in "
    '_total/_sum/_count/_bucket: "m" (1:10)'
)
NO_BOUND = (
    'PromQL warning: bucket label "le" is missing or has a malformed value of "" for '
    'metric name "m" (1:25)'
)


@pytest.mark.parametrize(
    ("expression", "note"),
    [
        (
            "sum(rate(m[5m]))",
            NOT_A_COUNTER,
        ),
        (
            "1 +\n quantile(1.5, m)",
            "PromQL warning: quantile value should be between 0 and 1, got 1.5 (2:11)",
        ),
        (
            "histogram_quantile(0.5, m)",
            NO_BOUND,
        ),
        (
            "limit_ratio(2, m)",
            "PromQL warning: ratio value should be between -1 and 1, got 2, capping to 1 (1:13)",
        ),
    ],
)
def test_notes_have_positions(expression: str, note: str) -> None:
    found = ask(in_memory(m=[1.0, 2.0, 3.0]), expression, 120)
    assert [*found.warnings, *found.infos] == [note]


def test_a_sum_of_numbers_that_cancel_out_is_exact() -> None:
    values = [1e16, 1.0, -1e16, 2.0] * 100
    source = in_memory(m=values)
    assert rows(ask(source, "sum_over_time(m[1d])", 36_000)) == {"": [300.0]}
    assert rows(ask(source, "avg_over_time(m[1d])", 36_000)) == {"": [0.75]}
    for number, value in enumerate(values):
        source.add({"__name__": "s", "i": str(number)}, [(0, value)])
    assert rows(ask(source, "sum(s)")) == {"": [300.0]}


def test_double_exponential_smoothing_is_holts_method() -> None:
    values = [3.0, 5.0, 4.0, 8.0, 12.0, 9.0]
    factor, trend = 0.3, 0.6
    before = level = values[0]
    slope = values[1] - values[0]
    for number, value in enumerate(values[1:], 1):
        if number > 1:
            slope = trend * (level - before) + (1 - trend) * slope
        before, level = level, factor * value + (1 - factor) * (level + slope)
    found = rows(ask(in_memory(m=values), "double_exponential_smoothing(m[1h], 0.3, 0.6)", 300))
    assert found[""][0] == pytest.approx(level)


@pytest.mark.parametrize(
    ("factor", "trend"), [("0", "0.5"), ("1", "0.5"), ("0.5", "2"), ("NaN", "0.5")]
)
def test_factors_of_smoothing_must_be_between_0_and_1(factor: str, trend: str) -> None:
    with pytest.raises(EvaluationFailed, match=r"factor\. Expected: 0 <"):
        ask(in_memory(m=[1.0, 2.0]), f"double_exponential_smoothing(m[1h], {factor}, {trend})", 60)


EXPRESSIONS = """
    changes(m_total[9m])
    count_values by (g) ("v", m_total)
    deriv(m_total[6m])
    delta(m_total[5m])
    double_exponential_smoothing(m_total[9m], 0.4, 0.4)
    increase(m_total[100s])
    irate(m_total[5m])
    limitk(2, m_total)
    mad_over_time(m_total[5m])
    max_over_time(rate(m_total[3m])[5m:40s])
    min_over_time(m_total[2m])
    m_total and m_total > 4
    m_total > on(i) group_left() (m_total offset 2m)
    m_total unless on(g) (m_total > 5)
    absent(m_total > 8)
    predict_linear(m_total[6m], 60)
    quantile by (g) (0.4, m_total)
    quantile_over_time(0.3, m_total[5m])
    rate(m_total[7m])
    resets(m_total[9m])
    stddev_over_time(m_total[5m])
    stdvar by (g) (m_total)
    timestamp(m_total)
    topk(2, m_total)
    topk by (g) (1, m_total)
    ts_of_max_over_time(m_total[5m])
"""


def test_each_step_is_the_instant_query_at_its_time() -> None:
    rng = np.random.default_rng(5)
    source = SeriesInMemory()
    for number in range(5):
        values = [None if rng.random() < 0.3 else float(rng.integers(0, 9)) for _ in range(60)]
        samples = [
            (at * 60_000 + int(rng.integers(0, 50_000)), value)
            for at, value in enumerate(values)
            if value is not None
        ]
        source.add({"__name__": "m_total", "i": str(number), "g": str(number % 2)}, samples)
    for expression in EXPRESSIONS.strip().splitlines():
        whole = rows(ask(source, expression, 300, 3600, 37))
        for step in range(0, 90, 9):
            single = rows(ask(source, expression, 300 + step * 37))
            expected = {
                labels: [values[step]]
                for labels, values in whole.items()
                if values[step] is not None
            }
            assert set(single) == set(expected), expression
            for labels, values in single.items():
                assert values == pytest.approx(expected[labels], nan_ok=True), expression


WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from redismetrics.promql.testing import backend
backend().eval('m{a=~"b"}', 0, 0, 0)
"""


@pytest.mark.parametrize("package", ["promql_parser", "re2"])
def test_a_missing_package_is_named(package: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, package], capture_output=True, text=True, check=False
    )
    last = done.stderr.strip().rpartition("\n")[2]
    assert last.startswith("redismetrics.errors.MissingExtra: PromQL needs ")
    assert "pip install 'redismetrics[promql]'" in last


def test_a_range_vector_without_series_is_empty() -> None:
    assert ask(in_memory(), "none[5m]", 300).data()["result"] == []


def test_raised_buckets_of_a_subquery_are_noted_with_its_times() -> None:
    source = SeriesInMemory()
    for bound, count in [("1", 5.0), ("2", 3.0), ("+Inf", 6.0)]:
        source.add({"__name__": "h_bucket", "le": bound}, [(0, count), (60_000, count)])
    found = ask(source, "max_over_time(histogram_quantile(0.5, h_bucket)[3m:1m])", 120)
    (note,) = found.infos
    assert "from buckets 2 to 2, with a max diff of 2, over 3 samples" in note


def test_equal_values_have_no_deviation() -> None:
    source = SeriesInMemory()
    for number in range(7):
        samples = [(at * 1000, 1.5990505637277868e6) for at in range(60)]
        source.add({"__name__": "m", "i": str(number)}, samples)
    assert rows(ask(source, "sum(stddev_over_time(m[1m]))", 59)) == {"": [0.0]}
    assert rows(ask(source, "stdvar(m)", 59)) == {"": [0.0]}


def test_deviations_of_large_values_keep_their_digits() -> None:
    source = in_memory(m=[1e15 + value for value in (1.0, 2.0, 3.0)])
    assert rows(ask(source, "stdvar_over_time(m[10m])", 120)) == {"": [2 / 3]}


def test_a_few_notes_of_each_kind_are_shown() -> None:
    source = SeriesInMemory()
    for number in range(15):
        source.add({"__name__": f"m{number}"}, [(0, 1.0), (60_000, 2.0)])
    found = ask(source, 'count(rate({__name__=~"m.*"}[5m]))', 60).infos
    assert len(found) == 11
    assert found[-1] == "5 more info annotations omitted"
