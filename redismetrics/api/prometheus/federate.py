"""`/federate`: the current values of selected series, for another Prometheus to scrape."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from redismetrics.api.endpoint import Endpoint
from redismetrics.api.sending import HeldResponse
from redismetrics.api.service import Service
from redismetrics.exposition.names import escape_label_value
from redismetrics.exposition.text import content_type
from redismetrics.promql.number_format import format_value
from redismetrics.promql.vectors import Vector

from . import parameters
from .evaluation import PromqlService, read_selections

Values = Mapping[str, Any]


def federate_endpoint(evaluation: PromqlService) -> Endpoint:
    """Return the endpoint."""

    async def federate(service: Service, request: Request, values: Values) -> HeldResponse:
        """Respond with the series that match any of the selectors, as text with times."""
        read_selections(values["match[]"])
        budget, now_ms = evaluation.budget(), evaluation.now_ms()

        def run() -> Response:
            found: dict[tuple[tuple[str, str], ...], float] = {}
            for text in values["match[]"]:
                answer = evaluation.evaluate(text, now_ms, now_ms, 0, None, budget)
                if isinstance(answer.value, Vector):
                    found.update(_current(answer.value))
            body = "".join(_lines(found, now_ms))
            return Response(body, headers={"Content-Type": content_type()})

        return await service.run_query(request, run)

    return Endpoint(
        "GET",
        "/federate",
        "Return the current values of selected series as a Prometheus page",
        federate,
        form=(parameters.REQUIRED_MATCH,),
        media_types=(content_type(),),
        errors=(413, 422, 503),
    )


def _current(vector: Vector) -> Iterator[tuple[tuple[tuple[str, str], ...], float]]:
    """Yield labels and value of each series; distributions cannot be shown on a page."""
    for row in np.flatnonzero(vector.present[:, 0]).tolist():
        yield tuple(sorted(vector.labels[row].items())), float(vector.values[row, 0])


def _lines(found: dict[tuple[tuple[str, str], ...], float], now_ms: int) -> Iterator[str]:
    """Yield the lines, sorted by name and labels; the types of families are unknown here."""
    last = None
    for name, labels, value in sorted(
        (dict(key).get("__name__", ""), key, value) for key, value in found.items()
    ):
        if name != last:
            yield f"# TYPE {name} untyped\n"
            last = name
        texts = ",".join(
            f'{key}="{escape_label_value(text)}"' for key, text in labels if key != "__name__"
        )
        yield f"{name}{{{texts}}} {format_value(value)} {now_ms}\n"
