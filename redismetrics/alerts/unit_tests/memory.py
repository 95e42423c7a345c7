"""In-memory series that rules read and write, for unit tests of rules."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from redismetrics.alerts.answers import answer_of, selected_metrics
from redismetrics.alerts.engine import RuleAnswer, Sample
from redismetrics.alerts.states import Key, key_of
from redismetrics.errors import RedisMetricsError
from redismetrics.promql.budget import Budget
from redismetrics.promql.nodes import Node
from redismetrics.promql.parsing import parse
from redismetrics.promql.prepare import prepare_tree
from redismetrics.promql.source import SampledSeries, Selected, Selector

# Seconds that one expression may take.
TIMEOUT = 30.0


class _MemorySeries:
    """One series: ascending times in Unix ms, values, and which of them are ends."""

    __slots__ = ("ends", "labels", "times", "values")

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.labels = dict(labels)
        self.times: list[int] = []
        self.values: list[float] = []
        self.ends: list[bool] = []

    def add(self, time: int, value: float, *, is_end: bool) -> None:
        if self.times and self.times[-1] >= time:
            # A rule and a series of the test may write the same sample: the newer one counts.
            if self.times[-1] > time:
                return
            self.times.pop()
            self.values.pop()
            self.ends.pop()
        self.times.append(time)
        self.values.append(value)
        self.ends.append(is_end)


class MemoryEngine:
    """Evaluates expressions on in-memory series; see `Engine`."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[Key, _MemorySeries]] = {}
        self._trees: dict[str, Node] = {}

    def add(self, labels: Mapping[str, str], samples: Iterable[tuple[int, float, bool]]) -> None:
        """Add samples of a series: Unix ms, value, and whether it is an end instead."""
        of_name = self._by_name.setdefault(labels.get("__name__", ""), {})
        series = of_name.setdefault(key_of(labels), _MemorySeries(labels))
        for time, value, is_end in samples:
            series.add(time, value, is_end=is_end)

    def write(
        self, series: Sequence[Sample], ended: Sequence[Mapping[str, str]], at_ms: int
    ) -> None:
        """Write the results of rules; see `Engine`."""
        for labels, value in series:
            self.add(labels, [(at_ms, value, False)])
        for labels in ended:
            self.add(labels, [(at_ms, 0.0, True)])

    def settle(self) -> None:
        """Do nothing: written samples can be read at once; see `Engine`."""

    def selects(self, expression: str) -> set[str] | None:
        """Return the metrics that an expression selects; see `Engine`."""
        return selected_metrics(expression)

    def instant(self, expressions: Sequence[str], at_ms: int) -> list[RuleAnswer]:
        """Return the answer to each expression; see `Engine`."""
        return [self._instant(each, at_ms) for each in expressions]

    def _instant(self, expression: str, at_ms: int) -> RuleAnswer:
        budget = Budget.of(TIMEOUT)
        try:
            tree = self._trees.get(expression)
            if tree is None:
                tree = self._trees[expression] = parse(expression)
            prepared = prepare_tree(tree, expression, at_ms, at_ms, 0)
            found = [self._select(selector, budget) for selector in prepared.selectors]
            has_data = not found or any(each.samples[0].labels for each in found)
            return answer_of(prepared.evaluate(found, budget), has_data=has_data)
        except RedisMetricsError as error:
            return RuleAnswer(error=str(error))

    def _select(self, selector: Selector, budget: Budget) -> Selected:
        after, until = selector.reach
        labels: list[dict[str, str]] = []
        sizes, times, values, ends = [0], list[int](), list[float](), list[bool]()
        for series in self._matching(selector):
            first, last = bisect_right(series.times, after), bisect_right(series.times, until)
            if first < last:
                labels.append(series.labels)
                sizes.append(last - first)
                times += series.times[first:last]
                values += series.values[first:last]
                ends += series.ends[first:last]
        budget.series(len(labels))
        budget.read(len(times))
        part = SampledSeries(
            labels,
            np.cumsum(sizes, dtype=np.int64),
            np.array(times, np.int64),
            np.array(values, np.float64),
            np.array(ends, np.bool_),
        )
        return Selected(samples=[part])

    def _matching(self, selector: Selector) -> list[_MemorySeries]:
        names = [each for each in selector.matchers if each.name == "__name__"]
        chosen = set(self._by_name)
        for matcher in names:
            chosen = matcher.select(chosen)
        found = [series for name in sorted(chosen) for series in self._by_name[name].values()]
        for matcher in selector.matchers:
            if matcher.name != "__name__":
                values = matcher.select({series.labels.get(matcher.name, "") for series in found})
                found = [each for each in found if each.labels.get(matcher.name, "") in values]
        return found
