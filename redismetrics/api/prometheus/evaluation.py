"""Evaluate expressions for requests, within the limits of one request."""

import time
from dataclasses import dataclass
from typing import TypeVar

from redismetrics.api.limits import Limits
from redismetrics.client.metrics import Metrics
from redismetrics.errors import InvalidExpression
from redismetrics.promql import nodes
from redismetrics.promql.answer import Answer
from redismetrics.promql.budget import Budget
from redismetrics.promql.mapping.evaluate import evaluate_prepared
from redismetrics.promql.mapping.listing import Listed, Matchers, Span, list_series
from redismetrics.promql.mapping.reads import MappingOptions
from redismetrics.promql.parsing import parse
from redismetrics.promql.prepare import prepare
from redismetrics.store.driver import Operation

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PromqlService:
    """What the endpoints need to evaluate expressions: a client, its limits and the mapping."""

    metrics: Metrics
    limits: Limits
    options: MappingOptions
    # Unix seconds.
    started: float

    def now_ms(self) -> int:
        """Return the time of the client's clock, in Unix ms."""
        return round(self.metrics.internals.clock() * 1000)

    def budget(self, timeout_ms: int | None = None) -> Budget:
        """Return the budget of one request; *timeout_ms* can only reduce its time."""
        limits = self.limits
        timeout = limits.promql_seconds
        if timeout_ms is not None and timeout_ms > 0:
            timeout = min(timeout, timeout_ms / 1000)
        return Budget.of(
            timeout, max_samples=limits.promql_samples, max_series=limits.promql_series
        )

    def run(self, operation: "Operation[T]") -> T:
        """Run *operation* after sending what this process has recorded. Blocks."""
        return self.metrics.internals.run(operation, flush=True)

    def evaluate(
        self,
        expression: str,
        start: int,
        end: int,
        step: int,
        lookback: int | None,
        budget: Budget,
    ) -> Answer:
        """Return the result of an expression; *step* is 0 for an instant query. Blocks."""
        prepared = prepare(expression, start, end, step, lookback=lookback)
        context = self.metrics.internals.query_context
        return self.run(evaluate_prepared(context, prepared, budget, self.options))

    def list(self, selections: list[Matchers], budget: Budget, span: Span) -> list[Listed]:
        """Return the series that match any of *selections*. Blocks."""
        context = self.metrics.internals.query_context
        return self.run(list_series(context, selections, self.options, budget, span))


def uptime(evaluation: PromqlService) -> float:
    """Return the seconds since the application was created."""
    return time.time() - evaluation.started


def read_selections(texts: tuple[str, ...]) -> list[Matchers]:
    """Return the matchers of each `match[]`.

    Raises:
        InvalidExpression: If one is not a selector, or matches series without any labels.
    """
    return [_read_selection(text) for text in texts]


def _read_selection(text: str) -> Matchers:
    node = parse(text)
    is_plain = isinstance(node, nodes.VectorSelector) and not (
        node.range or node.offset or node.moment is not None
    )
    if not isinstance(node, nodes.VectorSelector) or not is_plain:
        raise InvalidExpression(
            f'invalid parameter "match[]": it must be a selector such as '
            f'jobs_total{{queue="mail"}}, got {text[:80]!r}'
        )
    if all(matcher.matches_empty for matcher in node.matchers):
        raise InvalidExpression(
            'invalid parameter "match[]": it must contain at least one non-empty matcher'
        )
    return node.matchers
