"""Random expressions on odd data: each gives a result or an error of ours."""

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

pytest.importorskip("promql_parser", reason="needs redismetrics[promql]")
pytest.importorskip("re2", reason="needs redismetrics[promql]")

from redismetrics.errors import InvalidQuery
from redismetrics.promql.budget import Budget
from redismetrics.promql.function_names import (
    DATE_FUNCTIONS,
    MATH_FUNCTIONS,
    RANGE_FUNCTIONS,
)
from redismetrics.promql.prepare import prepare
from redismetrics.promql.source import ComputedSeries, Selected, Selector
from redismetrics.promql.testing import SeriesInMemory
from tests.promql.memory import distributions

ODD_VALUES = [np.nan, np.inf, -np.inf, 0.0, 1.0, 2.0, -3.0, 1e308, 0.1, 5.0]
LABELS = ["i", "g", "le", "__name__", "missing"]
ARITHMETIC = ["+", "-", "*", "/", "%", "^", "atan2"]
COMPARISONS = ["==", "!=", ">", "<", ">=", "<="]
OF_ONE = sorted(
    ((MATH_FUNCTIONS | DATE_FUNCTIONS) - {"clamp", "clamp_max", "clamp_min"})
    | {"absent", "info", "sort", "sort_desc", "timestamp"}
    | {f"histogram_{name}" for name in ("avg", "count", "stddev", "stdvar", "sum")}
)
OF_NUMBER = ["quantile", "topk", "bottomk", "limitk", "limit_ratio"]
OF_GROUP = ["avg", "count", "group", "max", "min", "stddev", "stdvar", "sum"]


class Writer:
    """Writes random expressions."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def vector(self, depth: int) -> str:
        if depth <= 0:
            return self._selector() + self._modifier()
        kinds: Sequence[Callable[[int], str]] = (
            self._aggregation,
            self._call,
            self._call,
            self._join,
            self._with_number,
            lambda depth: f"-({self.vector(depth)})",
        )
        return self._random.choice(kinds)(depth - 1)

    def number(self, depth: int) -> str:
        if depth <= 0 or self._random.random() < 0.6:
            return self._random.choice(["0", "1", "0.5", "-1", "NaN", "Inf", "1e9", "time()"])
        if self._random.random() < 0.5:
            return f"scalar({self.vector(depth - 1)})"
        return f"({self.number(depth - 1)} {self._random.choice(ARITHMETIC)} 2)"

    def range(self, depth: int) -> str:
        if depth <= 0 or self._random.random() < 0.7:
            width = self._random.choice(["1ms", "1m", "10m", "1h", "1m + step()", "2m * 3"])
            more = self._random.choice(["", "", "", " anchored", " smoothed"])
            return f"{self._selector()}[{width}]{self._modifier()}{more}"
        width = self._random.choice(["10m:1m", "5m:", "1m:2m", "1h:7m", "1ms:1h"])
        return f"({self.vector(depth - 1)})[{width}]{self._modifier()}"

    def _selector(self) -> str:
        name = self._random.choice(["a", "b_total", "c_bucket", "d", "e_total", "none"])
        return name + self._random.choice(["", "", '{g="1"}', '{i=~"0|2"}', '{g!~"x.*"}'])

    def _modifier(self) -> str:
        modifiers = [
            " offset 2m",
            " offset (1m - 3m)",
            " offset -1m",
            " @ 1000",
            " @ start()",
            " @ end()",
        ]
        return self._random.choice(["", "", "", *modifiers])

    def _labels(self) -> str:
        return ", ".join(self._random.sample(LABELS, self._random.randint(0, 2)))

    def _aggregation(self, depth: int) -> str:
        by = self._random.choice(["", f" by ({self._labels()}) ", f" without ({self._labels()}) "])
        if self._random.random() < 0.1:
            return f'count_values{by}("v", {self.vector(depth)})'
        if self._random.random() < 0.5:
            name = self._random.choice(OF_NUMBER)
            return f"{name}{by}({self.number(depth)}, {self.vector(depth)})"
        return f"{self._random.choice(OF_GROUP)}{by}({self.vector(depth)})"

    def _call(self, depth: int) -> str:
        number, vector, of_range = self.number(depth), self.vector(depth), self.range(depth)
        return self._random.choice(
            [
                f"{self._random.choice(OF_ONE)}({vector})",
                f"{self._random.choice(sorted(RANGE_FUNCTIONS))}({of_range})",
                f"quantile_over_time({number}, {of_range})",
                f"predict_linear({of_range}, {number})",
                f"double_exponential_smoothing({of_range}, 0.5, 0.3)",
                f"clamp({vector}, {number}, 3)",
                f"histogram_quantile({number}, {vector})",
                f'histogram_quantiles({vector}, "q", {number}, 0.5)',
                f"histogram_fraction(0, {number}, {vector})",
                f'label_replace({vector}, "{self._random.choice(LABELS)}", "$1", "i", "(.*)")',
                f'label_join({vector}, "{self._random.choice(LABELS)}", "-", "i", "g")',
                f'sort_by_label({vector}, "i")',
                f"vector({number})",
            ]
        )

    def _join(self, depth: int) -> str:
        on = self._random.choice(["", f" on({self._labels()})", f" ignoring({self._labels()})"])
        left, right = self.vector(depth), self.vector(depth)
        if self._random.random() < 0.3:
            return f"({left} {self._random.choice(['and', 'or', 'unless'])}{on} {right})"
        operator = self._random.choice([*ARITHMETIC, *COMPARISONS])
        if operator in COMPARISONS:
            operator += self._random.choice(["", " bool"])
        if on:
            on += self._random.choice(["", f" group_left({self._labels()})", " group_right()"])
        fill = self._random.choice(["", "", " fill(0)", " fill_left(1)", " fill_right(2)"])
        return f"({left} {operator}{on}{fill} {right})"

    def _with_number(self, depth: int) -> str:
        operator = self._random.choice([*ARITHMETIC, *COMPARISONS])
        sides = [self.vector(depth), self.number(depth)]
        self._random.shuffle(sides)
        return f"({sides[0]} {operator} {sides[1]})"


class OddSource:
    """Answers with samples, computed values and distributions, some of them missing."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._memory = SeriesInMemory()
        for name in ("a", "b_total", "c_bucket"):
            for number in range(4):
                labels = {"__name__": name, "i": str(number), "g": str(number % 2)}
                if name == "c_bucket":
                    labels = {"__name__": name, "le": ["0.1", "1", "5", "+Inf"][number]}
                times = np.arange(60) * 60_000 + self._random.integers(0, 60_000, 60)
                values = self._random.choice(ODD_VALUES, 60)
                kept = self._random.random(60) < 0.7
                samples = zip(times[kept].tolist(), values[kept].tolist(), strict=True)
                self._memory.add(labels, samples)

    def select(self, selectors: Sequence[Selector], budget: Budget) -> list[Selected]:
        return [self._select(selector, budget) for selector in selectors]

    def _select(self, selector: Selector, budget: Budget) -> Selected:
        name = selector.matchers[0].value
        labels = [{"__name__": name, "i": str(number)} for number in range(3)]
        shape = (3, selector.count)
        if name == "d":
            seen = [
                [self._random.lognormal(size=size).tolist() for size in sizes]
                for sizes in self._random.integers(0, 5, shape)
            ]
            return Selected(distributions=[distributions(labels, seen)])
        if name == "e_total" and (selector.function or not selector.range):
            values, present = self._random.normal(size=shape), self._random.random(shape) < 0.8
            return Selected(values=[ComputedSeries(labels, values, present)])
        return self._memory.select([selector], budget)[0]


@pytest.mark.parametrize("seed", range(4))
def test_each_expression_gives_a_result_or_one_of_our_errors(seed: int) -> None:
    writer, source = Writer(seed), OddSource(seed)
    results = 0
    for number in range(100):
        expression = writer.vector(1 + number % 4)
        for start, end, step in [(1_800_000, 1_800_000, 0), (0, 3_600_000, 317_000)]:
            try:
                prepared = prepare(expression, start, end, step)
                budget = Budget.of()
                answers = source.select(prepared.selectors, budget)
                prepared.evaluate(answers, budget).data()
            except InvalidQuery:
                continue
            results += 1
    assert results > 100
