"""`rules` and `alerts`: the evaluated rules, and the pending and firing alerts."""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from redismetrics.alerts.listing import list_alerts, list_rules
from redismetrics.api.endpoint import Endpoint
from redismetrics.api.parameters import Parameter
from redismetrics.api.sending import HeldResponse
from redismetrics.api.service import Service
from redismetrics.errors import InvalidQuery

from .envelope import envelope_schema, success, to_json
from .evaluation import PromqlService

Values = Mapping[str, Any]

_TYPES = {"alert": "alerting", "record": "recording"}
_TEXT = {"type": "string"}


def _type(text: str) -> str:
    if text not in _TYPES:
        raise InvalidQuery(f"type must be alert or record, got {text[:80]!r}")
    return text


_TYPE = Parameter("type", "Only rules of this kind.", {"enum": [*_TYPES]}, _type)
_NAMES = tuple(
    Parameter(name, f"Only these {what}; may be repeated.", _TEXT, repeats=True)
    for name, what in (
        ("rule_name[]", "rules"),
        ("rule_group[]", "groups"),
        ("file[]", "files"),
    )
)
_WITHOUT_ALERTS = Parameter("exclude_alerts", "true: leave out the alerts of rules.", _TEXT)


def rule_endpoints(evaluation: PromqlService) -> list[Endpoint]:
    """Return these endpoints."""

    def endpoint(
        path: str, summary: str, read: Callable[[Values], Any], form: tuple[Parameter, ...]
    ) -> Endpoint:
        async def respond(service: Service, request: Request, values: Values) -> HeldResponse:
            def run() -> Response:
                return success(to_json(read(values)))

            return await service.run_query(request, run)

        schema = envelope_schema({"type": "object"})
        return Endpoint("GET", path, summary, respond, form=form, schema=schema, errors=(503,))

    namespace = evaluation.metrics.settings.namespace

    def alerts(_: Values) -> dict[str, Any]:
        return {"alerts": evaluation.run(list_alerts(namespace))}

    def rules(values: Values) -> dict[str, Any]:
        return {"groups": _chosen(evaluation.run(list_rules(namespace)), values)}

    return [
        endpoint("/api/v1/alerts", "Return the alerts that are pending or firing", alerts, ()),
        endpoint(
            "/api/v1/rules",
            "Return the rules that are evaluated, with their alerts",
            rules,
            (_TYPE, *_NAMES, _WITHOUT_ALERTS),
        ),
    ]


def _chosen(groups: list[dict[str, Any]], values: Values) -> list[dict[str, Any]]:
    """Return the requested groups and rules; groups without rules are left out."""
    kind = _TYPES.get(values["type"] or "")
    names, of_groups, files = (set(values[each.name] or ()) for each in _NAMES)
    without_alerts = (values["exclude_alerts"] or "").lower() == "true"
    is_chosen = bool(kind or names)
    found = []
    for group in groups:
        if (of_groups and group["name"] not in of_groups) or (files and group["file"] not in files):
            continue
        rules = [
            {**rule, "alerts": []} if without_alerts and "alerts" in rule else rule
            for rule in group["rules"]
            if (not kind or rule["type"] == kind) and (not names or rule["name"] in names)
        ]
        if rules or not is_chosen:
            found.append({**group, "rules": rules})
    return found
