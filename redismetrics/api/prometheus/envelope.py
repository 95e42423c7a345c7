"""Responses in the form of Prometheus' HTTP API: an envelope, and its error types.

https://prometheus.io/docs/prometheus/latest/querying/api/#format-overview
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Scope

from redismetrics.api.schemas import Schema

# The paths whose errors have this form, too.
PREFIX = "/api/v1/"

# The kind of an error by its status code.
_KINDS = {
    400: "bad_data",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "bad_data",
    408: "timeout",
    413: "bad_data",
    415: "bad_data",
    422: "execution",
    500: "internal",
    503: "unavailable",
}
# The status code of an error by its kind.
STATUS = {
    "bad_data": 400,
    "execution": 422,
    "canceled": 503,
    "timeout": 503,
    "internal": 500,
    "unavailable": 503,
    "not_found": 404,
}


ERROR_SCHEMA = {
    "type": "object",
    "properties": {
        "status": {"const": "error"},
        "errorType": {"type": "string"},
        "error": {"type": "string"},
    },
    "required": ["status", "errorType", "error"],
    "additionalProperties": False,
}


def envelope_schema(data: Schema) -> Schema:
    """Return the JSON Schema of a successful response with this *data*."""
    texts = {"type": "array", "items": {"type": "string"}}
    return {
        "type": "object",
        "properties": {
            "status": {"const": "success"},
            "data": data,
            "warnings": texts,
            "infos": texts,
        },
        "required": ["status", "data"],
        "additionalProperties": False,
    }


def is_enveloped(scope: Scope) -> bool:
    """Return whether errors of a request have this form, even if the application is mounted."""
    return str(scope["path"]).removeprefix(scope.get("root_path", "")).startswith(PREFIX)


def success(data: str, *, warnings: Iterable[str] = (), infos: Iterable[str] = ()) -> Response:
    """Return a successful response; *data* is JSON text."""
    parts = ['{"status":"success","data":', data]
    for name, texts in (("warnings", list(warnings)), ("infos", list(infos))):
        if texts:
            parts.append(f',"{name}":{to_json(texts)}')
    parts.append("}")
    body = "".join(parts).encode("utf-8", "replace")
    return Response(body, media_type="application/json")


def failure(
    code: int, message: str, headers: Mapping[str, str] | None = None, kind: str | None = None
) -> Response:
    """Return an error response; *kind* is derived from the status code by default."""
    body = to_json(
        {"status": "error", "errorType": kind or _KINDS.get(code, "internal"), "error": message}
    )
    return Response(body.encode("utf-8", "replace"), code, headers, media_type="application/json")


def to_json(value: Any) -> str:
    """Return *value* as compact JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
