"""The OpenAPI document, built from the same descriptions as the routes."""

from collections.abc import Iterable
from typing import Any

from redismetrics import __version__

from .endpoint import Endpoint
from .parameters import FORM, form_schema
from .prometheus.envelope import ERROR_SCHEMA, PREFIX

_ERRORS = {
    400: "The request is invalid; the message names the part, what is allowed and what was sent.",
    401: "The bearer token is missing or wrong.",
    403: "A page of another site sent the request, the Host header is not localhost, or the token "
    "is read-only.",
    404: "Not found.",
    408: "The body did not arrive in time.",
    409: "The first request with this Idempotency-Key is not settled yet; repeat it later.",
    413: "A limit of this server is exceeded; the message names it.",
    415: "The content type or encoding of the body is not supported.",
    422: "The Idempotency-Key was used for another request; or the expression cannot be evaluated.",
    503: "Redis or the archive does not answer, or this server is busy; safe to retry.",
    504: "Recorded, but not confirmed by Redis in time; the message says what to do.",
}
_ERROR_SCHEMA = {
    "type": "object",
    "properties": {"error": {"type": "string"}, "message": {"type": "string"}},
    "required": ["error", "message"],
    "additionalProperties": False,
}
_ENVELOPE_CONTENT = {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}}
_ERROR_CONTENT = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}


def document(
    endpoints: Iterable[Endpoint], *, token: bool, write_token: bool = False, max_repeats: int
) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document.

    *token*: whether a bearer token is required; *write_token*: whether one is required to write;
    *max_repeats*: how often a parameter may be
    repeated.
    """
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(
            endpoint, token=token or (write_token and endpoint.writes), max_repeats=max_repeats
        )
    components: dict[str, Any] = {"schemas": {"Error": _ERROR_SCHEMA, "Failure": ERROR_SCHEMA}}
    if token or write_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "redismetrics", "version": __version__},
        "paths": paths,
        "components": components,
    }


def _operation(endpoint: Endpoint, *, token: bool, max_repeats: int) -> dict[str, Any]:
    requires_token = token and endpoint.requires_token
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": f"{endpoint.method.lower()} {endpoint.path}",
        "parameters": [
            *(parameter.describe(max_repeats) for parameter in endpoint.parameters),
            *(
                {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
                for name, text in endpoint.headers.items()
            ),
        ],
        "responses": _responses(endpoint, token=requires_token),
    }
    if endpoint.form is not None and endpoint.method == "POST":
        schema = form_schema(endpoint.form)
        operation["requestBody"] = {
            "required": bool(schema["required"]),
            "content": {FORM: {"schema": schema}},
        }
    elif endpoint.form is not None:
        operation["parameters"] += [each.describe(max_repeats) for each in endpoint.form]
    if endpoint.bodies:
        content = {kind: {"schema": dict(schema)} for kind, schema in endpoint.bodies.items()}
        operation["requestBody"] = {"required": True, "content": content}
    if requires_token:
        operation["security"] = [{"token": []}]
    return operation


def _responses(endpoint: Endpoint, *, token: bool) -> dict[str, Any]:
    schema = {} if endpoint.schema is None else {"schema": dict(endpoint.schema)}
    responses: dict[str, Any] = {
        str(endpoint.status): {
            "description": "The result.",
            "content": dict.fromkeys(endpoint.media_types, schema),
        }
    }
    for status, result in endpoint.other_results.items():
        responses[str(status)] = {
            "description": "The result.",
            "content": {"application/json": {"schema": dict(result)}},
        }
    codes = {400, 403, *endpoint.errors}
    if token:
        codes.add(401)
    is_otlp = endpoint.schema is None and endpoint.bodies
    for code in sorted(codes):
        is_in_envelope = endpoint.path.startswith(PREFIX)
        content: dict[str, Any] = _ENVELOPE_CONTENT if is_in_envelope else _ERROR_CONTENT
        # OTLP errors are a google.rpc.Status in the content type of the request.
        if is_otlp and code not in (401, 403, 415):
            content = {kind: {} for kind in endpoint.media_types}
        responses[str(code)] = {"description": _ERRORS[code], "content": content}
    return responses
