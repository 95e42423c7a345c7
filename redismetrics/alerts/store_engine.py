"""Evaluate expressions on the store, and record the results of rules."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from redismetrics.errors import InvalidMetric, RedisMetricsError, StoreError, one_line
from redismetrics.model.definition import Definition, define
from redismetrics.promql.budget import Budget
from redismetrics.promql.mapping.answers import answer_selectors
from redismetrics.promql.mapping.reads import MappingOptions
from redismetrics.promql.mapping.samples import STALE_METADATA
from redismetrics.promql.parsing import parse
from redismetrics.promql.prepare import Prepared, prepare_tree
from redismetrics.promql.source import Selected, Selector
from redismetrics.queries.context import QueryContext
from redismetrics.store.driver import Operation
from redismetrics.store.unreadable import is_of_one_key

from .answers import answer_of, selected_metrics
from .engine import RuleAnswer, Sample
from .states import RuleFailed

T = TypeVar("T")

log = logging.getLogger("redismetrics")

# Maximum number of series of recording rules and alerts; tags of alerts have many values.
_MAX_SERIES = 100_000
# Seconds within which recorded samples must be stored.
_SETTLE_TIMEOUT = 10.0

# Templates contain expressions with label values, so their number is unbounded.
_parsed = lru_cache(4096)(parse)


class GaugeRecorder(Protocol):
    """What the engine needs from a client to record."""

    def gauge(
        self,
        name: str,
        value: float,
        *,
        tags: Mapping[str, str] | None = ...,
        metadata: Mapping[str, Any] | None = ...,
        timestamp: Any = ...,
    ) -> None: ...


class StoreEngine:
    """Evaluates expressions on the store; see `Engine`.

    Args:
        recorder: Records the series of recording rules and of alerts.
        run: Runs a store operation.
        settle: Waits until recorded samples are stored; its argument is the timeout in seconds.
        mismatches: Returns metrics whose samples are dropped because they have another type in
            Redis.
        declare: Declares a metric unless it is already known.
        idle_ms: `series_idle` of the settings, in ms.
        timeout: Total time for the expressions of one call, in seconds.
    """

    def __init__(
        self,
        context: QueryContext,
        recorder: GaugeRecorder,
        run: Callable[[Operation[Any]], Any],
        settle: Callable[[float], None],
        mismatches: Callable[[], set[str]],
        declare: Callable[[str, Definition], None],
        *,
        idle_ms: int,
        timeout: float = 30.0,
    ) -> None:
        self._context, self._recorder, self._run = context, recorder, run
        self._settle, self._mismatches = settle, mismatches
        self._declare, self._timeout = declare, timeout
        self._options = MappingOptions(idle_ms)
        self._declared: set[str] = set()
        self._has_written = False
        self._last: dict[tuple[tuple[str, str], ...], float] = {}

    def selects(self, expression: str) -> set[str] | None:
        """Return the metrics that an expression selects; see `Engine`."""
        return selected_metrics(expression)

    def instant(self, expressions: Sequence[str], at_ms: int) -> list[RuleAnswer]:
        """Return the answer to each expression; see `Engine`.

        Raises:
            StoreError: If Redis is unreachable.
        """
        self.settle()
        prepared = [self._prepare(each, at_ms) for each in expressions]
        selectors: dict[Selector, int] = {}
        for each in prepared:
            if isinstance(each, Prepared):
                for selector in each.selectors:
                    selectors.setdefault(selector, len(selectors))
        try:
            found = self._select(list(selectors))
        except RedisMetricsError as error:
            if _is_of_server(error):
                raise
            # The batch, or one of them, is too large: evaluate each separately.
            return [self._alone(each) for each in prepared]
        return [
            each
            if isinstance(each, RuleAnswer)
            else _evaluate(each, [found[selectors[one]] for one in each.selectors], self._timeout)
            for each in prepared
        ]

    def _prepare(self, expression: str, at_ms: int) -> Prepared | RuleAnswer:
        try:
            return prepare_tree(_parsed(expression), expression, at_ms, at_ms, 0)
        except RedisMetricsError as error:
            return RuleAnswer(error=one_line(error))

    def _select(self, selectors: list[Selector]) -> list[Selected]:
        budget = Budget.of(self._timeout)
        operation = answer_selectors(self._context, selectors, budget, self._options)
        found: list[Selected] = self._run(operation)
        return found

    def _alone(self, prepared: Prepared | RuleAnswer) -> RuleAnswer:
        if isinstance(prepared, RuleAnswer):
            return prepared
        try:
            found = self._select(list(prepared.selectors))
        except RedisMetricsError as error:
            if _is_of_server(error):
                raise
            return RuleAnswer(error=one_line(error))
        return _evaluate(prepared, found, self._timeout)

    def write(
        self, series: Sequence[Sample], ended: Sequence[Mapping[str, str]], at_ms: int
    ) -> None:
        """Record samples and ends of series; see `Engine`.

        A non-finite value, which gauges do not support, is not recorded and ends its series.
        """
        try:
            for labels, value in series:
                if math.isfinite(value):
                    self._record(labels, value, at_ms, None)
                    self._last[tuple(sorted(labels.items()))] = value
                else:
                    self._end(labels, at_ms)
            for labels in ended:
                self._end(labels, at_ms)
        except InvalidMetric as error:
            raise RuleFailed(one_line(error)) from error
        # After recording, because only recording detects that a type matches again.
        names = {labels["__name__"] for labels, _ in series}
        if wrong := sorted(names & self._mismatches()):
            raise RuleFailed(f"{wrong[0]} must be a gauge, but has another type in Redis")

    def settle(self) -> None:
        """Wait until recorded samples are stored; see `Engine`.

        Raises:
            StoreError: If Redis does not confirm it in time.
        """
        if self._has_written:
            self._settle(_SETTLE_TIMEOUT)
            self._has_written = False

    def _end(self, labels: Mapping[str, str], at_ms: int) -> None:
        last = self._last.pop(tuple(sorted(labels.items())), None)
        if last is not None:
            self._record(labels, last, at_ms, STALE_METADATA)

    def _record(
        self,
        labels: Mapping[str, str],
        value: float,
        at_ms: int,
        metadata: Mapping[str, Any] | None,
    ) -> None:
        self._has_written = True
        name = labels["__name__"]
        tags = {key: each for key, each in labels.items() if key != "__name__"}
        if name not in self._declared:
            self._declare(
                name, define(name, "gauge", max_series=_MAX_SERIES, max_tag_values=_MAX_SERIES)
            )
            self._declared.add(name)
        self._recorder.gauge(name, value, tags=tags, metadata=metadata, timestamp=at_ms / 1000)


def _is_of_server(error: RedisMetricsError) -> bool:
    """Return whether an error comes from the server, not from an expression, its limits or data."""
    return isinstance(error, StoreError) and not is_of_one_key(error)


def _evaluate(prepared: Prepared, found: list[Selected], timeout: float) -> RuleAnswer:
    has_data = not found or any(
        any(part.labels for part in parts)
        for each in found
        for parts in (each.samples, each.values, each.distributions)
    )
    try:
        return answer_of(prepared.evaluate(found, Budget.of(timeout)), has_data=has_data)
    except RedisMetricsError as error:
        return RuleAnswer(error=one_line(error))
    # One rule must not stop or delay all others.
    except Exception as error:
        log.exception("BUG: a rule cannot be evaluated: %s", prepared.expression)
        return RuleAnswer(error=f"BUG: {one_line(error)}")
