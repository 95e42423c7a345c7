"""Hostile expressions and data are refused or stopped, and memory stays bounded."""

import tracemalloc

import numpy as np
import pytest

pytest.importorskip("promql_parser", reason="needs redismetrics[promql]")
pytest.importorskip("re2", reason="needs redismetrics[promql]")

from redismetrics.errors import EvaluationFailed, EvaluationTimeout, InvalidExpression
from redismetrics.promql import over_time, windows
from redismetrics.promql.budget import Budget
from redismetrics.promql.prepare import prepare
from redismetrics.promql.source import ComputedSeries, Selected
from tests.promql.memory import ask, in_memory

MANY = 100_000
MEGABYTE = 1 << 20


class Clock:
    """A clock that a test moves: each reading is *step* seconds later."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def many_series(**labels: str) -> Selected:
    """Return 100,000 series at one step."""
    found = [{"__name__": "m", "i": str(number), **labels} for number in range(MANY)]
    return Selected(
        values=[ComputedSeries(found, np.ones((MANY, 1)), np.ones((MANY, 1), np.bool_))]
    )


def test_an_evaluation_stops_at_its_deadline() -> None:
    source = in_memory(m=range(100))
    budget = Budget.of(10.0, clock=Clock(1.0))
    with pytest.raises(EvaluationTimeout, match="must end within 10 s"):
        ask(source, "+".join(["rate(m[5m])"] * 20), 3600, budget=budget)
    assert ask(source, "+".join(["m"] * 20), 3600, budget=Budget.of(1e6, clock=Clock(1.0)))


def test_sorting_by_labels_stops_at_the_deadline() -> None:
    source = in_memory()
    for number in range(1000):
        source.add({"__name__": "m", "i": "1a" * 100 + str(number)}, [(0, 1.0)])
    # Each comparison checks the clock.
    with pytest.raises(EvaluationTimeout, match="must end within 500 s"):
        ask(source, 'sort_by_label(m, "i")', budget=Budget.of(500.0, clock=Clock(1.0)))
    assert ask(source, 'sort_by_label(m, "i")', budget=Budget.of(1e6, clock=Clock(1.0)))


def test_windows_are_processed_in_parts_with_deadline_checks() -> None:
    budget = Budget.of(100.0, clock=Clock(1.0))
    prepared = prepare("max_over_time(m[1h])", 0, 2_000_000, 1000)
    source = in_memory()
    for number in range(1000):
        source.add({"__name__": "m", "i": str(number)}, [(0, 1.0)])
    answers = source.select(prepared.selectors, Budget.of())
    before = budget.clock()
    prepared.evaluate(answers, budget)
    # 2 million windows in parts of 131,072.
    assert budget.clock() - before > 15


@pytest.mark.parametrize("function", ["sum_over_time", "stddev_over_time", "max_over_time"])
def test_long_windows_are_processed_in_parts(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "BLOCK_SAMPLES", 1000)
    monkeypatch.setattr(over_time, "CALL_SAMPLES", 1000)
    source = in_memory(m=range(500))
    budget = Budget.of(1e9, clock=Clock(1.0))
    before = budget.clock()
    # 400 windows of 50 samples.
    ask(source, f"{function}(m[50m])", 6000, 30_000, 60, budget=budget)
    assert budget.clock() - before > 12


def test_samples_have_a_limit() -> None:
    source = in_memory(m=range(1000))
    with pytest.raises(EvaluationFailed, match="query processing would load too many samples"):
        ask(source, "sum_over_time(m[1d])", 60_000, budget=Budget.of(max_samples=999))
    ask(source, "sum_over_time(m[1d])", 60_000, budget=Budget.of(max_samples=1000))


def test_cells_have_a_limit() -> None:
    source = in_memory(m=[1.0], n=[1.0])
    with pytest.raises(EvaluationFailed, match="too many samples"):
        ask(source, "m", 0, 100, 1, budget=Budget.of(max_samples=100))


def test_results_that_wait_for_others_count_too() -> None:
    source = in_memory(m=[1.0])
    waiting = "m + (" * 20 + "m" + ")" * 20
    with pytest.raises(EvaluationFailed, match="at most 1000 at a time, got 1010"):
        ask(source, waiting, 0, 100, 1, budget=Budget.of(max_samples=1000))
    one_after_another = " + ".join(["m"] * 21)
    ask(source, one_after_another, 0, 100, 1, budget=Budget.of(max_samples=1000))


def test_series_have_a_limit() -> None:
    source = in_memory()
    for number in range(10):
        source.add({"__name__": "m", "i": str(number)}, [(0, 1.0)])
    with pytest.raises(EvaluationFailed, match="at most 9 series at a time, got 10"):
        ask(source, "m", budget=Budget.of(max_series=9))


@pytest.mark.parametrize(
    ("expression", "end", "step"),
    [
        ("1", 10**12, 1),
        ("max_over_time(m[10000d:1ms])", 0, 0),
        ("max_over_time(vector(1)[300y:1s])", 0, 0),
        ("absent(m)[100y:1s]", 0, 0),
    ],
)
def test_a_billion_steps_are_rejected_before_any_is_created(
    expression: str, end: int, step: int
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(EvaluationFailed, match="must have at most 1000000 steps"):
            prepare(expression, 0, end, step)
        assert tracemalloc.get_traced_memory()[1] < MEGABYTE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("operator", ["+ on()", "/ ignoring(i)", "== bool on()"])
def test_a_cross_join_of_many_series_is_refused(operator: str) -> None:
    prepared = prepare(f"m {operator} m", 0, 0, 0)
    with pytest.raises(EvaluationFailed, match="many-to-many matching not allowed"):
        prepared.evaluate([many_series()], Budget.of())


@pytest.mark.slow
def test_a_join_with_many_included_labels_is_rejected_before_it_is_built() -> None:
    # At each step another of many series is present, so that none is a duplicate.
    steps = 2000
    labels = [{"__name__": "one", "v": str(number)} for number in range(steps)]
    one = Selected(
        values=[ComputedSeries(labels, np.ones((steps, steps)), np.eye(steps, dtype=np.bool_))]
    )
    many_labels = [{"__name__": "many", "i": str(number)} for number in range(steps)]
    shape = (steps, steps)
    many = Selected(values=[ComputedSeries(many_labels, np.ones(shape), np.ones(shape, np.bool_))])
    prepared = prepare("many * on() group_left(v) one", 0, (steps - 1) * 1000, 1000)
    with pytest.raises(EvaluationFailed, match="at most 200000 series at a time, got 4000000"):
        prepared.evaluate([many, one], Budget.of())


@pytest.mark.slow
@pytest.mark.parametrize(
    "expression",
    ["m and m", "m or m", "m unless m", "m * m", "sum by (i) (m)", "topk(5, m)", "-m", "sort(m)"],
)
def test_many_series_are_evaluated(expression: str) -> None:
    prepared = prepare(expression, 0, 0, 0)
    assert prepared.evaluate([many_series()], Budget.of()).result_type == "vector"


@pytest.mark.parametrize(
    "pattern", ["(a*)*b", "(x+x+)+y", "(.*.*.*.*.*)*z", "(a|aa)+$", "(?:a?){30}a{30}"]
)
def test_regular_expressions_run_in_linear_time(pattern: str) -> None:
    source = in_memory()
    source.add({"__name__": "m", "a": "a" * 50_000}, [(0, 1.0)])
    budget = Budget.of(5.0)
    ask(source, f'm{{a=~"{pattern}"}} or label_replace(m, "b", "$1", "a", "{pattern}")', 0,
        budget=budget)  # fmt: skip
    budget.check()


@pytest.mark.parametrize(
    "double",
    [
        'label_join({}, "a", "", "a", "a")',
        'label_replace({}, "a", "$1$1", "a", "(.*)")',
        'label_replace({}, "a", "$x${{x}}", "a", "(?P<x>.*)")',
    ],
)
def test_calls_inside_of_each_other_make_no_long_labels(double: str) -> None:
    source = in_memory()
    source.add({"__name__": "m", "a": "x" * 1024}, [(0, 1.0)])
    expression = "m"
    for _ in range(10):
        expression = double.format(expression)
    (series,) = ask(source, expression).data()["result"]
    assert series["metric"]["a"] == "x" * MEGABYTE
    for _ in range(20):
        expression = double.format(expression)
    tracemalloc.start()
    try:
        with pytest.raises(EvaluationFailed, match="must create labels of at most 16777216 "):
            ask(source, expression, 0)
        assert tracemalloc.get_traced_memory()[1] < 64 * MEGABYTE
    finally:
        tracemalloc.stop()


def test_a_regular_expression_that_needs_much_memory_is_refused() -> None:
    large = "((a{100}){100}){100}"
    with pytest.raises(InvalidExpression, match="1:1: parse error: illegal regex"):
        ask(in_memory(m=[1.0]), f'm{{a=~"{large}"}}')
    with pytest.raises(EvaluationFailed, match="invalid regular expression in label_replace"):
        ask(in_memory(m=[1.0]), f'label_replace(m, "b", "$1", "a", "{large}")')


@pytest.mark.parametrize(("start", "end", "step"), [(0, 0, -1), (10, 0, 1), (0, 10, 0), (10, 0, 0)])
def test_times_must_make_sense(start: int, end: int, step: int) -> None:
    with pytest.raises(InvalidExpression, match="`step` must be positive and `end` not before"):
        prepare("m", start, end, step)


def test_a_range_query_of_a_range_vector_is_refused() -> None:
    for expression, kind in [
        ("m[5m]", "range vector"),
        ("(m[5m:])", "range vector"),
        ('"a"', "string"),
    ]:
        with pytest.raises(InvalidExpression, match=f'invalid expression type "{kind}"'):
            prepare(expression, 0, 60_000, 1000)
