"""Silences in the form of Alertmanager's API, so that amtool works with them.

https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from redismetrics.alerts import silences
from redismetrics.alerts.ask import silence_row
from redismetrics.alerts.label_matchers import LabelMatcher, check_matcher, parse_matchers
from redismetrics.alerts.listing import list_alerts
from redismetrics.alerts.silences import Silence, check_silence, silenced_by
from redismetrics.errors import InvalidQuery
from redismetrics.model.time import to_ms
from redismetrics.store.driver import Operation

from .endpoint import Endpoint
from .parameters import Parameter
from .request_body import RequestBody, content_type
from .sending import HeldResponse
from .service import Service, json_response

Values = Mapping[str, Any]

_JSON = "application/json"
_MAX_BODY = 64 * 1024
_FILTER = Parameter(
    "filter",
    'Only those that match, such as alertname="Down"; may be repeated.',
    {"type": "string"},
    repeats=True,
)
_ID = Parameter("id", "The id of a silence.", {"type": "string"}, is_in_path=True, required=True)
_MATCHER = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "value": {"type": "string"},
        "isRegex": {"type": "boolean"},
        "isEqual": {"type": "boolean"},
    },
    "required": ["name", "value"],
}
_SILENCE_FIELDS = {
    "matchers": {"type": "array", "items": _MATCHER},
    "startsAt": {"type": "string", "format": "date-time"},
    "endsAt": {"type": "string", "format": "date-time"},
    "createdBy": {"type": "string"},
    "comment": {"type": "string"},
}
_POSTED = {
    "type": "object",
    "properties": {"id": {"type": "string"}, **_SILENCE_FIELDS},
    "required": list(_SILENCE_FIELDS),
}
_SILENCE = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "status": {"type": "object"},
        "updatedAt": {"type": "string"},
        **_SILENCE_FIELDS,
    },
}


def read_endpoints() -> list[Endpoint]:
    """Return the endpoints that read alerts and silences."""
    return [
        _reading("/api/v2/silences", "Return silences", _list, (_FILTER,), _SILENCE),
        _reading("/api/v2/alerts", "Return the firing alerts", _alerts, (_FILTER,), None),
        Endpoint(
            "GET",
            "/api/v2/silence/{id}",
            "Return one silence",
            _answer(_one),
            (_ID,),
            form=(),
            schema=_SILENCE,
            errors=(404, 503),
        ),
    ]


def write_endpoints() -> list[Endpoint]:
    """Return the endpoints that create and end silences."""
    return [
        Endpoint(
            "POST",
            "/api/v2/silences",
            "Create a silence, or replace the one with the same id",
            _post,
            bodies={_JSON: _POSTED},
            schema={"type": "object", "properties": {"silenceID": {"type": "string"}}},
            errors=(408, 413, 415, 503),
        ),
        Endpoint(
            "DELETE",
            "/api/v2/silence/{id}",
            "End a silence now",
            _answer(_expire),
            (_ID,),
            form=(),
            schema={"type": "object"},
            errors=(404, 503),
        ),
    ]


Ask = Callable[[Service, Values, int], Operation[Any]]


def _reading(
    path: str, summary: str, ask: Ask, form: tuple[Parameter, ...], item: Mapping[str, Any] | None
) -> Endpoint:
    schema = {"type": "array", "items": item or {"type": "object"}}
    return Endpoint("GET", path, summary, _answer(ask), form=form, schema=schema, errors=(503,))


def _answer(ask: Ask) -> Callable[[Service, Request, Values], Any]:
    async def respond(service: Service, request: Request, values: Values) -> HeldResponse:
        def run() -> Response:
            now = round(1000 * service.now())
            return json_response(service.metrics.internals.run(ask(service, values, now)))

        return await service.run_query(request, run)

    return respond


def _namespace(service: Service) -> str:
    return service.metrics.settings.namespace


def _filters(values: Values) -> list[LabelMatcher]:
    try:
        return [each for text in values["filter"] or () for each in parse_matchers(text)]
    except ValueError as error:
        raise InvalidQuery(f"filter: {error}") from error


def _list(service: Service, values: Values, now: int) -> Operation[list[dict[str, Any]]]:
    filters = _filters(values)
    found = yield from silences.list_silences(_namespace(service), now)
    return [silence_row(each, now) for each in found if _meets(each, filters)]


def _meets(silence: Silence, filters: list[LabelMatcher]) -> bool:
    """Return whether each filter matches one of a silence's matchers with the same label."""
    labels = {each.name: each.value for each in silence.matchers}
    return all(each.matches(labels) for each in filters)


def _one(service: Service, values: Values, now: int) -> Operation[dict[str, Any]]:
    found = yield from silences.list_silences(_namespace(service), now)
    for each in found:
        if each.id == values["id"]:
            return silence_row(each, now)
    raise HTTPException(404, f"there is no silence {values['id'][:80]!r}")


def _expire(service: Service, values: Values, now: int) -> Operation[dict[str, Any]]:
    found = yield from silences.expire_silence(_namespace(service), values["id"], now)
    if found is None:
        raise HTTPException(404, f"there is no silence {values['id'][:80]!r}")
    return {}


def _alerts(service: Service, values: Values, now: int) -> Operation[list[dict[str, Any]]]:
    filters = _filters(values)
    namespace = _namespace(service)
    found = yield from list_alerts(namespace)
    active = yield from silences.list_silences(namespace, now)
    return [
        {
            "labels": row["labels"],
            "annotations": row["annotations"],
            "startsAt": row["activeAt"],
            "updatedAt": row["activeAt"],
            "endsAt": row["activeAt"],
            "generatorURL": "",
            "fingerprint": row["fingerprint"],
            "receivers": [],
            "status": {
                "state": "suppressed" if silent else "active",
                "silencedBy": silent,
                "inhibitedBy": [],
            },
        }
        for row in found
        if row["state"] == "firing" and all(each.matches(row["labels"]) for each in filters)
        for silent in [silenced_by(active, row["labels"], now)]
    ]


async def _post(service: Service, request: Request, _: Values) -> Response:
    content_type(request, _JSON)
    async with service.bodies.read(request) as body, service.recordings as limiter:
        silence = await limiter.run(_save, service, body)
    return json_response({"silenceID": silence.id})


def _save(service: Service, body: RequestBody) -> Silence:
    """Check and write the silence in the body. Blocks."""
    data = body.decompress(_MAX_BODY)
    if len(data) > _MAX_BODY:
        raise HTTPException(413, f"a silence must have at most {_MAX_BODY} bytes, got {len(data)}")
    now = round(1000 * service.now())
    silence = _read(data, now)
    operation = silences.save_silence(_namespace(service), silence, now)
    service.metrics.internals.run(operation)
    return silence


def _read(data: bytes, now: int) -> Silence:
    try:
        posted = json.loads(data)
        matchers = [
            check_matcher(
                str(each["name"]),
                str(each["value"]),
                is_regex=bool(each.get("isRegex", False)),
                is_equal=bool(each.get("isEqual", True)),
            )
            for each in posted["matchers"]
        ]
        starts, ends = (
            to_ms(datetime.fromisoformat(posted[name])) for name in ("startsAt", "endsAt")
        )
        author, comment = str(posted["createdBy"]), str(posted["comment"])
        given = posted.get("id") or ""
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise HTTPException(
            400, f"a silence must be a JSON object as in Alertmanager's API: {str(error)[:200]}"
        ) from error
    return check_silence(
        matchers,
        starts_at=starts,
        ends_at=ends,
        author=author,
        comment=comment,
        now=now,
        id=str(given),
    )
