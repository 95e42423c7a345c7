"""Evaluate an expression on series in memory, or on given answers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from redismetrics.columnar.percentiles import SortedPoints
from redismetrics.promql.answer import Answer
from redismetrics.promql.budget import Budget
from redismetrics.promql.prepare import prepare
from redismetrics.promql.source import DistributionSeries, Labels, Selected
from redismetrics.promql.testing import SeriesInMemory

Rows = dict[str, list[float | None]]


def in_memory(**series: Sequence[float | None]) -> SeriesInMemory:
    """Return series by name, with a value each minute from 0."""
    source = SeriesInMemory()
    for name, values in series.items():
        source.add({"__name__": name}, every_minute(values))
    return source


def every_minute(values: Sequence[float | None]) -> list[tuple[int, float]]:
    return [(at * 60_000, value) for at, value in enumerate(values) if value is not None]


def ask(
    source: SeriesInMemory,
    expression: str,
    start: int = 0,
    end: int | None = None,
    step: int = 0,
    budget: Budget | None = None,
    lookback: int | None = None,
) -> Answer:
    """Return the answer; times in seconds."""
    end = start if end is None else end
    prepared = prepare(
        expression, start * 1000, end * 1000, step * 1000, lookback=lookback and lookback * 1000
    )
    budget = budget or Budget.of()
    return prepared.evaluate(source.select(prepared.selectors, budget), budget)


def answered(
    expression: str, *answers: Selected, start: int = 0, end: int = 0, step: int = 0
) -> Answer:
    """Return the result, given the answer to each selector; times in seconds."""
    prepared = prepare(expression, start * 1000, end * 1000, step * 1000)
    return prepared.evaluate(answers, Budget.of())


def rows(answer: Answer) -> Rows:
    """Return the values of each series by its labels, None where there is none."""
    vector: Any = answer.value
    found = {}
    for labels, values, present in zip(vector.labels, vector.values, vector.present, strict=True):
        if present.any():
            name = ",".join(f"{key}={labels[key]}" for key in sorted(labels))
            found[name] = [
                value if held else None
                for value, held in zip(values.tolist(), present.tolist(), strict=True)
            ]
    return found


def distributions(
    labels: list[Labels], observations: list[list[list[float]]], scale: float = 1.0
) -> DistributionSeries:
    """Return distributions of all *observations*: of each series, at each step."""
    shape = (len(labels), len(observations[0]))
    columns = {name: np.zeros(shape) for name in ("count", "total", "m2")}
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    group, size, values = [], [], []
    for row, of_series in enumerate(observations):
        for step, seen in enumerate(of_series):
            if seen:
                columns["count"][row, step] = len(seen) * scale
                columns["total"][row, step] = sum(seen) * scale
                columns["m2"][row, step] = np.var(seen) * len(seen) * scale
                low[row, step], high[row, step] = min(seen), max(seen)
                group.append(row * shape[1] + step)
                size.append(len(seen))
                values.extend(sorted(seen))
    points = SortedPoints(
        np.array(group, np.int64),
        np.array(size, np.int64),
        np.array(values),
        np.ones(len(values), np.int64),
        np.zeros(len(group), np.bool_),
    )
    present = np.array([[bool(seen) for seen in of_series] for of_series in observations])
    return DistributionSeries(
        labels, present, low=low, high=high, points=[points], scale=scale, **columns
    )
