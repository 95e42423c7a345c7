"""An expression as a JSON tree, with the names used by Prometheus' `parse_query`."""

from typing import Any

from redismetrics.promql import nodes
from redismetrics.promql.durations import Duration
from redismetrics.promql.nodes import Moment, Node
from redismetrics.promql.number_format import format_value

_CARDINALITY = {"": "one-to-one", "left": "many-to-one", "right": "one-to-many"}


def tree_of(node: Node) -> dict[str, Any]:
    """Return the tree. An expression is at most a few hundred levels deep; see `tokens`."""
    match node:
        case nodes.Number():
            return {"type": "numberLiteral", "val": format_value(node.value)}
        case nodes.Text():
            return {"type": "stringLiteral", "val": node.value}
        case nodes.VectorSelector():
            return _selector(node)
        case nodes.Subquery():
            return {
                "type": "subquery",
                "expr": tree_of(node.expression),
                "range": _duration(node.range),
                "step": _duration(node.step),
                "offset": _duration(node.offset),
                **_moment(node.moment),
            }
        case nodes.FunctionCall():
            arguments = [tree_of(each) for each in node.arguments]
            return {"type": "call", "func": {"name": node.function}, "args": arguments}
        case nodes.Aggregation():
            return {
                "type": "aggregation",
                "op": node.operator,
                "expr": tree_of(node.expression),
                "param": None if node.parameter is None else tree_of(node.parameter),
                "grouping": list(node.labels),
                "without": node.without,
            }
        case nodes.Binary():
            return {
                "type": "binaryExpr",
                "op": node.operator,
                "lhs": tree_of(node.left),
                "rhs": tree_of(node.right),
                "matching": _matching(node.matching),
                "bool": node.bool,
            }
        case nodes.Negation():
            return {"type": "unaryExpr", "op": "-", "expr": tree_of(node.expression)}
        case nodes.Parentheses():
            return {"type": "parenExpr", "expr": tree_of(node.expression)}


def _selector(node: nodes.VectorSelector) -> dict[str, Any]:
    matchers = [{"type": each.op, "name": each.name, "value": each.value} for each in node.matchers]
    names = [each.value for each in node.matchers if (each.name, each.op) == ("__name__", "=")]
    found = {
        "type": "matrixSelector" if node.range else "vectorSelector",
        "name": names[0] if names else "",
        "matchers": matchers,
        "offset": _duration(node.offset),
        **_moment(node.moment),
        **({node.modifier: True} if node.modifier else {}),
    }
    return {**found, "range": _duration(node.range)} if node.range else found


def _duration(duration: Duration) -> int | str:
    """Return milliseconds, or the expression that calculates seconds."""
    return duration if isinstance(duration, int) else str(duration)


def _moment(moment: Moment | None) -> dict[str, Any]:
    """Return the time of `@`, in Unix ms, or ``start`` or ``end``."""
    is_text = isinstance(moment, str)
    return {
        "timestamp": None if is_text else moment,
        "startOrEnd": moment if is_text else None,
    }


def _matching(matching: nodes.Matching) -> dict[str, Any]:
    return {
        "card": _CARDINALITY[matching.many],
        "on": matching.on,
        "labels": list(matching.labels),
        "include": list(matching.include),
        "fillValues": {"lhs": matching.fill_left, "rhs": matching.fill_right},
    }
