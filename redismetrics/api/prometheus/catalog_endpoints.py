"""`labels`, `label/<name>/values`, `series` and `metadata`: the queryable names."""

import re
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from redismetrics.api.endpoint import Endpoint
from redismetrics.api.parameters import Parameter
from redismetrics.api.sending import HeldResponse
from redismetrics.api.service import Service
from redismetrics.promql.mapping.listing import (
    Listed,
    Span,
    label_names,
    label_values,
    list_metadata,
)

from . import parameters
from .envelope import envelope_schema, success, to_json
from .evaluation import PromqlService, read_selections

Values = Mapping[str, Any]

_TRUNCATED = "results truncated due to limit"
_TEXTS = envelope_schema({"type": "array", "items": {"type": "string"}})
_SERIES = envelope_schema({"type": "array", "items": {"type": "object"}})
_METADATA = envelope_schema({"type": "object"})
# The form in which clients put names of labels into a path (Prometheus 3).
_ESCAPED = re.compile(r"__|_([0-9A-Fa-f]{1,6})_")


def catalog_endpoints(evaluation: PromqlService) -> list[Endpoint]:
    """Return these endpoints."""

    async def respond(
        service: Service, request: Request, values: Values, select: Callable[[list[Listed]], Any]
    ) -> HeldResponse:
        selections = read_selections(values["match[]"])
        budget, span = evaluation.budget(), Span(values["start"], values["end"])

        def run() -> Response:
            return _limited(select(evaluation.list(selections, budget, span)), values["limit"])

        return await service.run_query(request, run)

    async def labels(service: Service, request: Request, values: Values) -> HeldResponse:
        """Respond with the names of labels."""
        return await respond(service, request, values, label_names)

    async def values_of(service: Service, request: Request, values: Values) -> HeldResponse:
        """Respond with the values of one label."""
        name = unescape(values["name"])
        return await respond(service, request, values, lambda found: label_values(found, name))

    async def series(service: Service, request: Request, values: Values) -> HeldResponse:
        """Respond with the labels of series."""
        return await respond(service, request, values, _distinct_series)

    async def metadata(service: Service, request: Request, values: Values) -> HeldResponse:
        """Respond with type, help and unit of each metric."""

        def run() -> Response:
            context = evaluation.metrics.internals.query_context
            found = evaluation.run(list_metadata(context))
            name, limit = values["metric"], values["limit"]
            if name is not None:
                found = {name: found[name]} if name in found else {}
            chosen = islice(found.items(), limit or None)
            return success(to_json({family: [entry] for family, entry in chosen}))

        return await service.run_query(request, run)

    window = (parameters.START, parameters.END)
    some = (parameters.MATCH, *window, parameters.LIMIT)
    return [
        *_endpoints("/api/v1/labels", "Return the names of labels", labels, some, _TEXTS),
        Endpoint(
            "GET",
            "/api/v1/label/{name}/values",
            "Return the values of a label",
            values_of,
            (parameters.LABEL,),
            schema=_TEXTS,
            form=some,
            errors=(413, 422, 503),
        ),
        *_endpoints(
            "/api/v1/series",
            "Return the labels of series",
            series,
            (parameters.REQUIRED_MATCH, *window, parameters.LIMIT),
            _SERIES,
        ),
        Endpoint(
            "GET",
            "/api/v1/metadata",
            "Return type, help and unit of metrics",
            metadata,
            form=(parameters.METRIC, parameters.LIMIT, parameters.LIMIT_PER_METRIC),
            schema=_METADATA,
            errors=(503,),
        ),
    ]


def _endpoints(
    path: str,
    summary: str,
    handler: Callable[..., Any],
    form: tuple[Parameter, ...],
    schema: Mapping[str, Any],
) -> list[Endpoint]:
    """Return an endpoint for GET and one for POST."""
    return [
        Endpoint(
            method, path, summary, handler, form=form, schema=schema, errors=(408, 413, 422, 503)
        )
        for method in ("GET", "POST")
    ]


def _limited(found: list[Any], limit: int | None) -> Response:
    if not limit or len(found) <= limit:
        return success(to_json(found))
    return success(to_json(found[:limit]), warnings=[_TRUNCATED])


def _distinct_series(listed: list[Listed]) -> list[dict[str, str]]:
    """Return the labels of each series in order, without duplicates."""
    found = {tuple(sorted(each.items())): each for group in listed for each in group.labels()}
    return [found[key] for key in sorted(found)]


def unescape(name: str) -> str:
    """Return the label name in a path; names that begin with ``U__`` are escaped.

    In those, an underscore is doubled, and any other character not allowed in Prometheus 2 names is
    written as its hexadecimal code point between underscores.
    """
    if not name.startswith("U__"):
        return name
    return _ESCAPED.sub(_unescaped, name[3:])


def _unescaped(match: "re.Match[str]") -> str:
    code = int(match[1], 16) if match[1] else ord("_")
    return chr(code) if code < 0x110000 else match[0]
