"""`query_exemplars`: the exemplars of the series of an expression."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from redismetrics.api.endpoint import Endpoint
from redismetrics.api.sending import HeldResponse
from redismetrics.api.service import Service
from redismetrics.errors import InvalidExpression
from redismetrics.model.exemplar import Exemplar
from redismetrics.model.time import to_ms
from redismetrics.promql.mapping.exemplars import matching_exemplars
from redismetrics.promql.number_format import format_value
from redismetrics.promql.prepare import prepare

from . import parameters
from .envelope import envelope_schema, success, to_json
from .evaluation import PromqlService

Values = Mapping[str, Any]

_SCHEMA = envelope_schema({"type": "array", "items": {"type": "object"}})


def exemplar_endpoints(evaluation: PromqlService) -> list[Endpoint]:
    """Return an endpoint for GET and one for POST."""

    async def query_exemplars(service: Service, request: Request, values: Values) -> HeldResponse:
        """Respond with the newest exemplar of each series and bucket."""
        budget = evaluation.budget()

        def run() -> Response:
            try:
                selectors = prepare(values["query"], 0, 0, 0).selectors
            except InvalidExpression as error:
                raise InvalidExpression(f'invalid parameter "query": {error}') from error
            operation = matching_exemplars(
                evaluation.metrics.internals.query_context,
                [selector.matchers for selector in selectors],
                values["start"],
                values["end"],
                evaluation.options,
                budget,
            )
            rows = evaluation.run(operation)
            return success(
                to_json(
                    [{**row, "exemplars": list(map(_as_json, row["exemplars"]))} for row in rows]
                )
            )

        return await service.run_query(request, run)

    return [
        Endpoint(
            method,
            "/api/v1/query_exemplars",
            "Return the newest exemplar of each series and bucket in an expression",
            query_exemplars,
            form=(parameters.QUERY, parameters.START, parameters.END),
            schema=_SCHEMA,
            errors=(408, 413, 422, 503),
        )
        for method in ("GET", "POST")
    ]


def _as_json(exemplar: Exemplar) -> dict[str, Any]:
    return {
        "labels": exemplar.labels,
        "value": format_value(exemplar.value),
        "timestamp": to_ms(exemplar.timestamp) / 1000,
    }
