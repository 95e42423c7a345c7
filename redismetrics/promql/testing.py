"""In-memory series for the evaluator, for tests."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from redismetrics.errors import InvalidQuery

from .budget import Budget
from .matchers import Matcher
from .prepare import prepare
from .source import Labels, SampledSeries, Selected, Selector

# Prometheus' staleness marker, a NaN that no calculation produces.
_STALE_BITS = 0x7FF0000000000002

_Sample = tuple[int, float]


class SeriesInMemory:
    """A source of recorded samples."""

    def __init__(self) -> None:
        self._series: dict[tuple[tuple[str, str], ...], tuple[Labels, dict[int, float]]] = {}
        self._columns: list[tuple[Labels, Any, Any]] | None = None

    def add(self, labels: Labels, samples: Iterable[_Sample]) -> None:
        """Add samples of a series: (Unix ms, value)."""
        plain = {name: value for name, value in labels.items() if value}
        key = tuple(sorted(plain.items()))
        self._series.setdefault(key, (plain, {}))[1].update(samples)
        self._columns = None

    def select(self, selectors: Sequence[Selector], budget: Budget) -> list[Selected]:
        """Return the answer to each selector; see `Source`."""
        return [self._select(selector, budget) for selector in selectors]

    def _select(self, selector: Selector, budget: Budget) -> Selected:
        if self._columns is None:
            self._columns = [
                (labels, np.array(sorted(samples), np.int64), _values(samples))
                for labels, samples in self._series.values()
            ]
        chosen = _matching(self._columns, selector.matchers)
        after, until = selector.reach
        columns = []
        for labels, times, values in chosen:
            part = slice(*np.searchsorted(times, [after, until], side="right").tolist())
            if part.stop > part.start:
                columns.append((labels, times[part], values[part]))
        budget.series(len(columns))
        sizes = [len(times) for _, times, _ in columns]
        budget.read(sum(sizes))
        bits = np.concatenate([values for _, _, values in columns] or [np.zeros(0, np.int64)])
        series = SampledSeries(
            [labels for labels, _, _ in columns],
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            np.concatenate([times for _, times, _ in columns] or [np.zeros(0, np.int64)]),
            bits.view(np.float64),
            bits == _STALE_BITS,
        )
        return Selected(samples=[series])


def _values(samples: dict[int, float]) -> Any:
    """Return the values by time as bits, which keep the staleness marker."""
    return np.array([samples[time] for time in sorted(samples)], np.float64).view(np.int64)


def _matching(
    columns: Sequence[tuple[Labels, Any, Any]], matchers: Sequence[Matcher]
) -> list[tuple[Labels, Any, Any]]:
    chosen = list(columns)
    for matcher in matchers:
        values = {labels.get(matcher.name, "") for labels, _, _ in chosen}
        allowed = matcher.select(values)
        chosen = [row for row in chosen if row[0].get(matcher.name, "") in allowed]
    return chosen


class Backend:
    """The interface for a runner of Prometheus' test scripts: `reset`, `load` and `eval`."""

    def __init__(self) -> None:
        self._source = SeriesInMemory()

    def reset(self) -> None:
        """Forget all series."""
        self._source = SeriesInMemory()

    def load(self, series: Iterable[tuple[Labels, Iterable[_Sample]]]) -> None:
        """Add series: labels with `__name__`, and pairs of Unix ms and value."""
        for labels, samples in series:
            self._source.add(labels, samples)

    def eval(self, query: str, start_ms: int, end_ms: int, step_ms: int) -> dict[str, Any]:
        """Return the `data` object of the HTTP API with warnings and infos.

        A *step_ms* of 0 means an instant query. If the module `promqltest` is loaded, errors are
        its `QueryFailed`.
        """
        try:
            return self._evaluated(query, start_ms, end_ms, step_ms)
        except InvalidQuery as error:
            runner = sys.modules.get("promqltest")
            if runner is None:
                raise
            raise runner.QueryFailed(str(error)) from error

    def _evaluated(self, query: str, start_ms: int, end_ms: int, step_ms: int) -> dict[str, Any]:
        prepared = prepare(query, start_ms, end_ms, step_ms)
        budget = Budget.of()
        answer = prepared.evaluate(self._source.select(prepared.selectors, budget), budget)
        return {
            "data": answer.data(),
            "warnings": list(answer.warnings),
            "infos": list(answer.infos),
        }


def backend() -> Backend:
    """Return an empty backend."""
    return Backend()
