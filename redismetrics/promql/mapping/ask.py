"""Evaluate an expression for applications: any kind of time in, plain values out."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from redismetrics.errors import InvalidMetric, InvalidQuery
from redismetrics.model.time import HOUR, to_datetime, to_ms
from redismetrics.model.windows import interval_ms
from redismetrics.promql.answer import Answer
from redismetrics.promql.budget import Budget
from redismetrics.promql.prepare import Prepared, prepare
from redismetrics.promql.vectors import Vector, key_of
from redismetrics.queries.context import QueryContext
from redismetrics.store.driver import Operation

from .evaluate import evaluate_prepared
from .reads import MappingOptions

if TYPE_CHECKING:
    from redismetrics.promql.windows import Windows

Row = dict[str, Any]

# The default length of a range, and its default step.
_DEFAULT_RANGE_MS = HOUR
_DEFAULT_STEP = "1m"
# Prometheus' limit of points of each series.
_MAX_POINTS = 11_000


def instant_query(expression: str, at: Any, now_ms: int) -> Prepared:
    """Return an expression prepared for an instant query; None means now.

    Raises:
        InvalidQuery: If the expression or the time is invalid.
    """
    moment = _time(at, "at", now_ms)
    return prepare(_text(expression), moment, moment, 0)


def range_query(expression: str, since: Any, until: Any, step: Any, now_ms: int) -> Prepared:
    """Return an expression prepared for *since*, *since* + *step* and so on up to *until*.

    Without *since*, the times are multiples of the step, starting one hour before *until*.

    Raises:
        InvalidQuery: If the expression, a time or the step is invalid, or there are too many times.
    """
    width = interval_ms(_DEFAULT_STEP if step is None else step)
    end = _time(until, "until", now_ms)
    start = _time(since, "since", -(-(end - _DEFAULT_RANGE_MS) // width) * width)
    if end < start:
        raise InvalidQuery("until must not be before since; swap them, or leave until out")
    if (end - start) // width + 1 > _MAX_POINTS:
        raise InvalidQuery(
            f"step must yield at most {_MAX_POINTS} points, got {(end - start) // width + 1}; "
            "use a longer step or a shorter range"
        )
    return prepare(_text(expression), start, end, width)


def _text(expression: object) -> str:
    if not isinstance(expression, str):
        raise InvalidQuery(f"expression must be a PromQL string, got {type(expression).__name__}")
    return expression


def _time(given: Any, name: str, default_ms: int) -> int:
    try:
        return default_ms if given is None else to_ms(given)
    except InvalidMetric as error:
        raise InvalidQuery(f"{name}: {error}") from error


def ask(context: QueryContext, prepared: Prepared, idle_ms: int) -> Operation[Answer]:
    """Return the result of an expression."""
    return evaluate_prepared(context, prepared, Budget.of(), MappingOptions(idle_ms))


def plain_result(answer: Answer) -> float | str | list[Row]:
    """Return a result as numbers, strings and dicts; see `Metrics.promql_query`."""
    value = answer.value
    if isinstance(value, str):
        return value
    if isinstance(value, Vector):
        if answer.kind == "range" and not value.distributions:
            return _value_rows(answer, value)
        return _rows(answer)
    if isinstance(value, np.ndarray):
        if answer.kind == "instant":
            return float(value[0])
        times = map(to_datetime, answer.grid.times.tolist())
        return [{"labels": {}, "values": list(zip(times, value.tolist(), strict=True))}]
    return _samples(value)


def _value_rows(answer: Answer, vector: Vector) -> list[Row]:
    """Return the series of a range query without distributions, sorted by labels."""
    times = np.array(list(map(to_datetime, answer.grid.times.tolist())), object)
    rows = np.flatnonzero(vector.present.any(axis=1)).tolist()
    return [
        {
            "labels": dict(vector.labels[row]),
            "values": list(
                zip(times[held].tolist(), vector.values[row, held].tolist(), strict=True)
            ),
        }
        for row in sorted(rows, key=lambda each: key_of(vector.labels[each]))
        if (held := vector.present[row]).any()
    ]


def _rows(answer: Answer) -> list[Row]:
    """Return the series of a vector; distributions have histograms instead of values."""
    rows = []
    for each in answer.data()["result"]:
        row: Row = {"labels": dict(each["metric"])}
        for one, many, convert in (
            ("value", "values", float),
            ("histogram", "histograms", _histogram),
        ):
            if one in each:
                time, value = each[one]
                row |= {"timestamp": _moment(time), one: convert(value)}
            if many in each:
                row[many] = [(_moment(time), convert(value)) for time, value in each[many]]
        rows.append(row)
    return rows


def _histogram(shown: dict[str, Any]) -> Row:
    """Return count, sum, and (lower bound, upper bound, count) of each bucket, as numbers."""
    return {
        "count": float(shown["count"]),
        "sum": float(shown["sum"]),
        "buckets": [tuple(map(float, bucket[1:])) for bucket in shown.get("buckets", ())],
    }


def _samples(windows: "Windows") -> list[Row]:
    """Return the samples of each series of a range vector."""
    first, last = windows.bounds()
    rows = []
    for number, labels in enumerate(windows.labels):
        part = slice(int(first[number]), int(last[number]))
        if part.stop > part.start:
            times = map(to_datetime, windows.times[part].tolist())
            values = windows.values[part].tolist()
            rows.append({"labels": dict(labels), "values": list(zip(times, values, strict=True))})
    return rows


def _moment(seconds: float) -> datetime:
    return to_datetime(round(seconds * 1000))
