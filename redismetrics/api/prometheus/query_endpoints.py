"""`query` and `query_range`: evaluate an expression at one time or over a range."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from redismetrics.api.endpoint import Endpoint
from redismetrics.api.sending import HeldResponse
from redismetrics.api.service import Service
from redismetrics.errors import InvalidExpression, InvalidQuery

from . import parameters
from .envelope import envelope_schema, success
from .evaluation import PromqlService
from .rendering import render

Values = Mapping[str, Any]

_RESULT = envelope_schema(
    {
        "type": "object",
        "properties": {
            "resultType": {"enum": ["matrix", "vector", "scalar", "string"]},
            "result": {"type": "array"},
        },
        "required": ["resultType", "result"],
    }
)


def query_endpoints(evaluation: PromqlService) -> list[Endpoint]:
    """Return both endpoints, for GET and for POST."""

    async def query(service: Service, request: Request, values: Values) -> HeldResponse:
        """Respond with the result at one time."""
        at = evaluation.now_ms() if values["time"] is None else values["time"]
        return await _respond(service, request, values, evaluation, (at, at, 0))

    async def query_range(service: Service, request: Request, values: Values) -> HeldResponse:
        """Respond with the result over a range of times."""
        times = values["start"], values["end"], values["step"]
        _check_times(*times, evaluation.limits.promql_points)
        return await _respond(service, request, values, evaluation, times)

    shared = (parameters.TIMEOUT, parameters.LOOKBACK, parameters.LIMIT)
    of_range = (parameters.RANGE_START, parameters.RANGE_END, parameters.STEP)
    return [
        Endpoint(
            method, path, summary, handler, form=form, schema=_RESULT, errors=(408, 413, 422, 503)
        )
        for path, summary, handler, form in (
            (
                "/api/v1/query",
                "Evaluate a PromQL expression at one time",
                query,
                (parameters.QUERY, parameters.TIME, *shared),
            ),
            (
                "/api/v1/query_range",
                "Evaluate a PromQL expression over a range of times",
                query_range,
                (parameters.QUERY, *of_range, *shared),
            ),
        )
        for method in ("GET", "POST")
    ]


async def _respond(
    service: Service,
    request: Request,
    values: Values,
    evaluation: PromqlService,
    times: tuple[int, int, int],
) -> HeldResponse:
    lookback = values["lookback_delta"]
    if lookback is not None and lookback <= 0:
        raise InvalidQuery(
            f'invalid parameter "lookback_delta": it must be above 0, got {lookback} ms'
        )
    # The budget starts now: time in the queue counts.
    budget = evaluation.budget(values["timeout"])

    def run() -> Response:
        try:
            answer = evaluation.evaluate(values["query"], *times, lookback, budget)
        except InvalidExpression as error:
            raise InvalidExpression(f'invalid parameter "query": {error}') from error
        data, warnings = render(answer, values["limit"] or None, budget)
        return success(data, warnings=[*warnings, *answer.warnings], infos=answer.infos)

    return await service.run_query(request, run)


def _check_times(start: int, end: int, step: int, max_points: int) -> None:
    if end < start:
        raise InvalidQuery('invalid parameter "end": end timestamp must not be before start time')
    if step <= 0:
        raise InvalidQuery(
            'invalid parameter "step": zero or negative query resolution step widths are not '
            "accepted; use a positive duration such as 15s"
        )
    if (end - start) // step + 1 > max_points:
        raise InvalidQuery(
            f"exceeded maximum resolution of {max_points:,} points per timeseries (limit "
            f"promql_points); use a longer step, at least {-(-(end - start) // max_points)} ms"
        )
