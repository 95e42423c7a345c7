"""Evaluate a prepared expression on the store."""

from redismetrics.promql.answer import Answer
from redismetrics.promql.budget import Budget
from redismetrics.promql.prepare import Prepared
from redismetrics.queries.context import QueryContext
from redismetrics.store.driver import Operation

from .answers import answer_selectors
from .reads import MappingOptions


def evaluate_prepared(
    context: QueryContext, prepared: Prepared, budget: Budget, options: MappingOptions
) -> Operation[Answer]:
    """Return the result of an expression."""
    answers = yield from answer_selectors(context, prepared.selectors, budget, options)
    return prepared.evaluate(answers, budget)
