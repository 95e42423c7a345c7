"""Expressions of rules, and series in their unit tests."""

from redismetrics.errors import InvalidExpression
from redismetrics.promql.nodes import VectorSelector
from redismetrics.promql.parsing import parse


def check_expression(expression: str) -> None:
    """Check a PromQL expression.

    Raises:
        ValueError: If it is not valid, with Prometheus' message.
    """
    try:
        parse(expression)
    except InvalidExpression as error:
        raise ValueError(str(error)) from error


def parse_series(text: str) -> dict[str, str]:
    """Return the labels of a series such as `up{job="a"}`, with the name as `__name__`.

    Raises:
        ValueError: If *text* is something else.
    """
    if text.strip() in ("", "{}"):
        return {}
    try:
        node = parse(text)
    except InvalidExpression as error:
        raise ValueError(str(error)) from error
    if not isinstance(node, VectorSelector) or node.range or node.offset or node.moment:
        raise ValueError(f'1:1: a series must be like up{{job="a"}}, got {text[:100]!r}')
    if any(matcher.op != "=" for matcher in node.matchers):
        raise ValueError(f"1:1: labels of a series must be given with =, got {text[:100]!r}")
    return {matcher.name: matcher.value for matcher in node.matchers if matcher.value}
