"""The OpenAPI document, made from the table of endpoints that the application answers by."""

from collections.abc import Iterable
from typing import Any

from redismetrics import __version__

from .parameters import Endpoint

_ERRORS = {
    400: "The request is wrong; the message says which part, what was wanted and what was given.",
    401: "The bearer token is missing or wrong.",
    403: "The Host header has another name than localhost.",
    408: "The body did not come in time.",
    413: "More than a limit of this server; the message names it.",
    415: "The body is of another type or encoding.",
    503: "The store does not answer, or this server has no place left; safe to ask again.",
}
ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string"}, "message": {"type": "string"}},
    "required": ["error", "message"],
    "additionalProperties": False,
}


def document(
    endpoints: Iterable[Endpoint], *, token: bool, localhost_only: bool, values: int
) -> dict[str, Any]:
    """An OpenAPI 3.1 document; *token*: a bearer token is asked for; *localhost_only*: other hosts are refused; *values*:
    how often a parameter may be given.
    """
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(
            endpoint, token=token, localhost_only=localhost_only, values=values
        )
    components: dict[str, Any] = {"schemas": {"Error": ERROR}}
    if token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "redismetrics", "version": __version__},
        "paths": paths,
        "components": components,
    }


def _operation(
    endpoint: Endpoint, *, token: bool, localhost_only: bool, values: int
) -> dict[str, Any]:
    otlp = endpoint.answer is None and endpoint.bodies
    schema = {"schema": dict(endpoint.answer)} if endpoint.answer is not None else {}
    responses: dict[str, Any] = {
        str(endpoint.status): {
            "description": "The answer.",
            "content": dict.fromkeys(endpoint.answers, schema),
        }
    }
    codes = {
        400,
        *endpoint.errors,
        *({401} if token and endpoint.guarded else ()),
        *({403} if localhost_only else ()),
    }
    for code in sorted(codes):
        content: dict[str, Any] = {
            "application/json": {"schema": {"$ref": "#/components/schemas/Error"}}
        }
        if otlp and code not in (401, 403, 415):
            content = {kind: {} for kind in endpoint.answers}
        responses[str(code)] = {"description": _ERRORS[code], "content": content}
    found: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": f"{endpoint.method.lower()} {endpoint.path}",
        "parameters": [parameter.describe(values) for parameter in endpoint.parameters],
        "responses": responses,
    }
    if endpoint.bodies:
        found["requestBody"] = {
            "required": True, "content": {kind: {"schema": dict(body)} for kind, body in endpoint.bodies.items()},
        }  # fmt: skip
    if token and endpoint.guarded:
        found["security"] = [{"token": []}]
    return found
