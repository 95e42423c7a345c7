"""Syntax unknown to promql-parser: calculated durations, `anchored`, `smoothed`, `info`."""

import pytest

pytest.importorskip("promql_parser", reason="needs redismetrics[promql]")
pytest.importorskip("re2", reason="needs redismetrics[promql]")

from redismetrics.errors import EvaluationFailed, InvalidExpression
from redismetrics.promql import nodes
from redismetrics.promql.durations import milliseconds
from redismetrics.promql.parsing import formatted, parse
from redismetrics.promql.prepare import prepare
from tests.promql.memory import ask, in_memory, rows


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        ("1m + 1m * 2", 180),
        ("(1m + 1m) * 2", 240),
        ("2 ^ 3 ^ 2", 512),
        ("-2 ^ 2 + 5", 1),
        ("-(2 - 5)", 3),
        ("1h30m % 1h", 1800),
        ("7 / 2", 3.5),
        ("step()", 30),
        ("RANGE() / 2", 300),
        ("max_of(step(), 1m)", 60),
        ("min_of(step() + 1, 1h)", 31),
        ("10 - 3 - 2", 5),
        ("+(5)", 5),
        ("1ms + 1", 1.001),
    ],
)
def test_durations_are_calculated(duration: str, seconds: float) -> None:
    node = parse(f"m[{duration}]")
    assert isinstance(node, nodes.VectorSelector)
    assert milliseconds(node.range, 30_000, 600_000) == round(seconds * 1000)
    subquery = parse(f"(m)[1h + 0:{duration}]")
    assert isinstance(subquery, nodes.Subquery)
    assert milliseconds(subquery.step, 30_000, 600_000) == round(seconds * 1000)
    offset = parse(f"m offset ({duration})")
    assert isinstance(offset, nodes.VectorSelector)
    assert milliseconds(offset.offset, 30_000, 600_000) == round(seconds * 1000)


def test_an_offset_ends_before_an_operator() -> None:
    assert isinstance(parse("m offset -step() + 8"), nodes.Binary)
    assert isinstance(parse("m offset 1m + 8"), nodes.Binary)
    assert isinstance(parse("m offset max_of(1m, 2m) ^ 2"), nodes.Binary)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("m[1m - 1m]", "duration must be greater than 0, got 0 s"),
        ("m[-(1m)]", "duration must be greater than 0, got -60 s"),
        ("max_over_time(m[1m + 1m:5 - 5])", "duration must be greater than 0, got 0 s"),
        ("m[1 / 0]", "a duration cannot be calculated: float division by zero"),
        ("m[5 % 0]", "a duration cannot be calculated"),
        ("m[10 ^ 1000]", "a duration cannot be calculated: math range error"),
        ("m[1m +]", "1:6: parse error: a duration must be a number such as 5m, got ''"),
        ("m[1m + x]", "1:8: parse error: a duration must be a number such as 5m, got 'x'"),
        ("m[(1m) 2m]", "1:8: parse error: unexpected '2m' in a duration"),
        ("m[max_of(1m)]", "1:12: parse error: a duration must have ',' here, got ')'"),
        ("m[" + "1+" * 60 + "1]", "1:3: parse error: a duration must have at most 100 parts"),
        ("m anchored", "anchored must follow a range"),
        ("m[5m] anchored", "a range with anchored must be in a call of one of changes, delta"),
        ("rate(m[5m:1m] smoothed)", "1:6: parse error: smoothed must follow a selector"),
        ("m </ 5", "1:3: parse error: the operator </ is not supported"),
    ],
)
def test_invalid_values_are_rejected(expression: str, message: str) -> None:
    with pytest.raises(InvalidExpression) as raised:
        prepare(expression, 0, 0, 0)
    assert message in str(raised.value)


def test_positions_are_unchanged() -> None:
    source = in_memory(m=[1.0, 2.0])
    found = ask(source, "sum_over_time(m[1m\n + 1m] offset (1 + 1)) + quantile(2, m)", 60)
    assert found.warnings == [
        "PromQL warning: quantile value should be between 0 and 1, got 2 (2:35)"
    ]


def test_anchored_windows_begin_with_the_sample_before_them() -> None:
    source = in_memory(m=[0.0, 10.0, 30.0, 5.0, 6.0])
    assert rows(ask(source, "increase(m[2m] anchored)", 150)) == {"": [30.0]}
    assert rows(ask(source, "increase(m[2m] anchored)", 190)) == {"": [25.0]}
    assert rows(ask(source, "delta(m[2m] anchored)", 190)) == {"": [-5.0]}
    assert rows(ask(source, "resets(m[2m] anchored)", 190)) == {"": [1.0]}
    # A window without a sample of its own has no result.
    assert rows(ask(source, "increase(m[30s] anchored)", 150)) == {}


def test_smoothed_windows_have_values_at_their_edges() -> None:
    source = in_memory(m=[0.0, 10.0, 30.0, 5.0, 6.0])
    # From 5 at 30 s to 20 at 90 s.
    assert rows(ask(source, "increase(m[1m] smoothed)", 90)) == {"": [15.0]}
    assert rows(ask(source, "rate(m[1m] smoothed)", 90)) == {"": [0.25]}
    # Through the reset, which begins at 0: from 20 to 30, then to 2.5.
    assert rows(ask(source, "increase(m[1m] smoothed)", 150)) == {"": [12.5]}
    assert rows(ask(source, "m smoothed", 90)) == {"__name__=m": [20.0]}
    assert rows(ask(source, "m smoothed", 300)) == {"__name__=m": [6.0]}
    assert rows(ask(source, "m offset 30s smoothed", 60, 180, 60)) == {
        "__name__=m": [5.0, 20.0, 17.5]
    }


def test_other_functions_refuse_modifiers() -> None:
    with pytest.raises(
        EvaluationFailed,
        match="smoothed modifier can only be used with: delta, increase, rate - not with deriv",
    ):
        prepare("deriv(m[5m] smoothed)", 0, 0, 0)


@pytest.mark.parametrize(
    ("expression", "layout"),
    [
        ("sum( m )by(a)", "sum by (a) (m)"),
        ("rate( m[1m  + 1m] )", "rate( m[1m + 1m] )"),
        ("m   smoothed", "m smoothed"),
    ],
)
def test_expressions_are_laid_out(expression: str, layout: str) -> None:
    assert formatted(expression) == layout


def test_a_calculation_is_shown_as_text() -> None:
    node = parse("m[-step() ^ 2 + max_of(1m, range()) * 2]")
    assert isinstance(node, nodes.VectorSelector)
    assert str(node.range) == "(-(step() ^ 2) + (max_of(60, range()) * 2))"
