"""Convert PromQL results to the series of a rule."""

from functools import lru_cache

import numpy as np

from redismetrics.promql import nodes
from redismetrics.promql.answer import Answer as Result
from redismetrics.promql.parsing import parse
from redismetrics.promql.vectors import Vector

from .engine import RuleAnswer


def answer_of(result: Result, *, has_data: bool) -> RuleAnswer:
    """Return the series of an instant result.

    A result that is neither an instant vector nor a scalar is an error, as in Prometheus.
    """
    value = result.value
    if isinstance(value, Vector):
        present = np.flatnonzero(value.present[:, 0])
        rows = value.values[:, 0]
        series = [(value.labels[row], float(rows[row])) for row in present.tolist()]
        return RuleAnswer(series, has_data)
    if isinstance(value, np.ndarray):
        return RuleAnswer([({}, float(value[0]))], has_data)
    return RuleAnswer(error="rule result is not a vector or scalar")


@lru_cache(4096)
def selected_metrics(expression: str) -> set[str] | None:
    """Return the names of the metrics that an expression selects; None if it may select any.

    Raises:
        InvalidExpression: If it cannot be parsed.
    """
    found: set[str] = set()
    waiting: list[nodes.Node] = [parse(expression)]
    while waiting:
        node = waiting.pop()
        match node:
            case nodes.VectorSelector():
                names = [m for m in node.matchers if m.name == "__name__" and m.op == "="]
                if not names:
                    return None
                found.add(names[0].value)
            case nodes.FunctionCall():
                if node.function == "info":
                    return None
                waiting += node.arguments
            case nodes.Aggregation():
                waiting.append(node.expression)
                if node.parameter is not None:
                    waiting.append(node.parameter)
            case nodes.Binary():
                waiting += (node.left, node.right)
            case nodes.Subquery() | nodes.Negation() | nodes.Parentheses():
                waiting.append(node.expression)
    return found
