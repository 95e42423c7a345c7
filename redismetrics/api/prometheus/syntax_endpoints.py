"""`format_query` and `parse_query`: an expression in the standard format, and as a tree."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from redismetrics.api.endpoint import Endpoint
from redismetrics.api.service import Service
from redismetrics.promql.parsing import formatted, parse

from . import parameters
from .envelope import envelope_schema, success, to_json
from .tree import tree_of

Values = Mapping[str, Any]


async def format_query(_: Service, __: Request, values: Values) -> Response:
    """Respond with the expression in Prometheus' format."""
    return success(to_json(formatted(values["query"])))


async def parse_query(_: Service, __: Request, values: Values) -> Response:
    """Respond with the syntax tree of the expression."""
    return success(to_json(tree_of(parse(values["query"]))))


def syntax_endpoints() -> list[Endpoint]:
    """Return both endpoints, for GET and for POST."""
    return [
        Endpoint(
            method,
            path,
            summary,
            handler,
            form=(parameters.QUERY,),
            schema=envelope_schema({"type": kind}),
            errors=(408, 413, 503),
        )
        for path, summary, handler, kind in (
            (
                "/api/v1/format_query",
                "Return an expression in the standard format",
                format_query,
                "string",
            ),
            (
                "/api/v1/parse_query",
                "Return the syntax tree of an expression",
                parse_query,
                "object",
            ),
        )
        for method in ("GET", "POST")
    ]
