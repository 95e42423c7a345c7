"""Notification messages: the data for their templates, and the webhook payload.

Both are described at https://prometheus.io/docs/alerting/latest/notifications/.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from redismetrics.alerts.states import FIRING, fingerprint
from redismetrics.alerts.templates.errors import TemplateError
from redismetrics.alerts.templates.execute import Expansion, LabelSet, Listing, Record
from redismetrics.alerts.templates.functions import FUNCTIONS, text
from redismetrics.alerts.templates.nodes import Node
from redismetrics.alerts.templates.parser import parse
from redismetrics.alerts.times import time_text

from .groups import Notification

MAX_TITLE = 200
MAX_BODY = 16_000

# A service may interpret these as mentions, markup or line breaks.
_MENTION = re.compile(r"(?<!\w)@(?=\w)|<(?=[!@#])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **FUNCTIONS,
    "join": lambda separator, values: text(separator).join(map(str, values)),
    "trimSpace": lambda value: text(value).strip(),
    "stringSlice": lambda *values: list(values),
}
NAMES = frozenset(_FUNCTIONS) | {"and", "or"}


def harmless(value: str) -> str:
    """Return text without line breaks, control characters, mentions and direction marks."""
    return _MENTION.sub(lambda found: found[0] + "\u200b", _CONTROL.sub(" ", value))


def common(sets: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the labels with the same value in all *sets*."""
    each = [set(labels.items()) for labels in sets]
    return dict(sorted(set.intersection(*each))) if each else {}


def generator_url(external_url: str) -> str:
    """Return a link to the alerts page; empty without a URL."""
    return f"{external_url.rstrip('/')}/#/alerts" if external_url else ""


def webhook_payload(
    notification: Notification, external_url: str, max_alerts: int = 0
) -> dict[str, Any]:
    """Return the version 4 payload. At most *max_alerts* are listed; 0 means all."""
    alerts = notification.alerts
    shown = alerts[:max_alerts] if max_alerts else alerts
    return {
        "version": "4",
        "groupKey": notification.group.key,
        "truncatedAlerts": len(alerts) - len(shown),
        "status": _status(notification),
        "receiver": notification.receiver.name,
        "groupLabels": notification.group.labels,
        "commonLabels": common(alert.labels for alert in alerts),
        "commonAnnotations": common(alert.annotations for alert in alerts),
        "externalURL": external_url,
        "alerts": [
            {
                "status": "firing" if alert.state == FIRING else "resolved",
                "labels": alert.labels,
                "annotations": alert.annotations,
                "startsAt": time_text(alert.fired_at),
                "endsAt": time_text(alert.resolved_at),
                "generatorURL": generator_url(external_url),
                "fingerprint": fingerprint(alert.labels),
            }
            for alert in shown
        ],
    }


def _status(notification: Notification) -> str:
    return "firing" if notification.is_firing else "resolved"


def message(
    notification: Notification, title: str, body: str, templates: Iterable[str], external_url: str
) -> tuple[str, str]:
    """Return the title and the body of a message, shortened to what services accept.

    Label values and annotations cannot mention people or begin lines. A template that cannot be
    expanded is replaced by plain text with the reason, so that the alert is not lost.
    """
    dot = _data(notification, external_url)
    try:
        defined: dict[str, list[Node]] = {}
        for each in templates:
            defined |= parse(each, NAMES)[1]
        texts = []
        for template in (title, body):
            nodes, own = parse(template, NAMES)
            texts.append(Expansion(_FUNCTIONS, defined | own).run(nodes, dot))
    except TemplateError as error:
        names = sorted({alert.labels.get("alertname", "") for alert in notification.alerts})
        texts = [
            f"[{_status(notification)}] {harmless(', '.join(names))}",
            f"The template of this message cannot be expanded: {error}",
        ]
    return _CONTROL.sub(" ", texts[0]).strip()[:MAX_TITLE], texts[1][:MAX_BODY]


def _labels(labels: Mapping[str, str]) -> LabelSet:
    return LabelSet({name: harmless(value) for name, value in sorted(labels.items())})


def _data(notification: Notification, external_url: str) -> Record:
    alerts = [
        Record(
            "template.Alert",
            Status="firing" if alert.state == FIRING else "resolved",
            Labels=_labels(alert.labels),
            Annotations=_labels(alert.annotations),
            StartsAt=time_text(alert.fired_at),
            EndsAt=time_text(alert.resolved_at),
            GeneratorURL=generator_url(external_url),
            Fingerprint=fingerprint(alert.labels),
        )
        for alert in notification.alerts
    ]
    firing = [each for each in alerts if each.fields["Status"] == "firing"]
    resolved = [each for each in alerts if each.fields["Status"] == "resolved"]
    return Record(
        "template.Data",
        Receiver=notification.receiver.name,
        Status=_status(notification),
        Alerts=Listing(alerts, Firing=firing, Resolved=resolved),
        GroupLabels=_labels(notification.group.labels),
        CommonLabels=_labels(common(alert.labels for alert in notification.alerts)),
        CommonAnnotations=_labels(common(alert.annotations for alert in notification.alerts)),
        ExternalURL=external_url,
    )
