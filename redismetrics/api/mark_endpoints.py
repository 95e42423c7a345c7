"""The endpoints of marks, which are events such as deploys."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from redismetrics.errors import shown
from redismetrics.model.mark import MAX_CHARACTERS
from redismetrics.store.marks import MAX_MARKS

from . import schemas
from .endpoint import Endpoint
from .parameters import SINCE, UNTIL, Parameter, read_time, read_whole
from .request_body import RequestBody, content_type
from .sending import HeldResponse
from .service import Service, json_response

Values = Mapping[str, Any]

_JSON = "application/json"
# Size of a text and tags, with room for escapes.
_MAX_BODY = 64 * 1024
_KEYS = ("text", "tags", "timestamp")
_ID = Parameter("id", "The id of a mark.", {"type": "string"}, is_in_path=True, required=True)
_TAGS = {"type": "object", "additionalProperties": {"type": "string"}}
_MARK = schemas.object_schema(
    id={"type": "string"}, text={"type": "string"}, tags=_TAGS, timestamp=schemas.TIMESTAMP
)


async def get_marks(service: Service, request: Request, values: Values) -> HeldResponse:
    """Respond with the newest marks in a window."""

    def read() -> dict[str, Any]:
        window = values["since"], values["until"]
        found = service.metrics.marks(window, limit=values["limit"])
        return {"marks": [each.to_dict() for each in found]}

    return await service.run_query(request, read)


async def add_mark(service: Service, request: Request, _: Values) -> Response:
    """Record the mark in the body, and respond with it."""
    content_type(request, _JSON)
    async with service.bodies.read(request) as body, service.recordings as limiter:
        found = await limiter.run(_add, service, body)
    return json_response(found)


def _add(service: Service, body: RequestBody) -> dict[str, Any]:
    data = body.decompress(_MAX_BODY)
    try:
        posted = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"body must be JSON in UTF-8: {error}") from error
    if not isinstance(posted, dict) or not {"text"} <= set(posted) <= set(_KEYS):
        raise HTTPException(
            400,
            f"body must be an object with text, and optionally tags and timestamp, "
            f"got {shown(posted, 80)}",
        )
    timestamp = posted.get("timestamp")
    if isinstance(timestamp, str):
        timestamp = read_time(timestamp, "timestamp", service.now())
    mark = service.metrics.mark(posted["text"], tags=posted.get("tags"), timestamp=timestamp)
    return mark.to_dict()


async def delete_mark(service: Service, request: Request, values: Values) -> HeldResponse:
    """Delete a mark."""

    def delete() -> dict[str, Any]:
        if not service.metrics.delete_mark(values["id"]):
            raise HTTPException(404, f"there is no mark {shown(values['id'], 80)}")
        return {}

    return await service.run_query(request, delete)


def read_endpoints() -> list[Endpoint]:
    """Return the endpoint that lists marks."""
    limit = Parameter(
        "limit",
        "Maximum number of marks to return.",
        {"type": "integer", "minimum": 1, "maximum": MAX_MARKS},
        read_whole("limit", 1, MAX_MARKS),
        default=1000,
    )
    return [
        Endpoint(
            "GET",
            "/api/marks",
            "Return the newest marks in a window, newest first",
            get_marks,
            (SINCE, UNTIL, limit),
            schemas.object_schema(marks={"type": "array", "items": _MARK}),
            errors=(503,),
        )
    ]


def write_endpoints() -> list[Endpoint]:
    """Return the endpoints that record and delete marks."""
    nullable_time = {"anyOf": [*schemas.TIME["anyOf"], {"type": "null"}]}
    tags = {
        "type": ["object", "null"],
        "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        "propertyNames": schemas.NAME,
    }
    posted = {
        "type": "object",
        "properties": {
            "text": {"type": "string", "minLength": 1, "maxLength": MAX_CHARACTERS},
            "tags": tags,
            "timestamp": nullable_time,
        },
        "required": ["text"],
        "additionalProperties": False,
    }
    return [
        Endpoint(
            "POST",
            "/api/marks",
            "Record that something happened, such as a deploy, and return the mark",
            add_mark,
            bodies={_JSON: posted},
            schema=_MARK,
            errors=(408, 413, 415, 503),
        ),
        Endpoint(
            "DELETE",
            "/api/marks/{id}",
            "Delete a mark",
            delete_mark,
            (_ID,),
            form=(),
            schema={"type": "object"},
            errors=(404, 503),
        ),
    ]
