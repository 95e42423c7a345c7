"""Messages of notifications, also by Apprise to a real server."""

from collections.abc import Iterator

import pytest

from redismetrics.alerts.notify.config import (
    BODY,
    TITLE,
    Apprise,
    NotifyConfig,
    NotifyReceiver,
    Route,
)
from redismetrics.alerts.notify.groups import AlertGroup, Notification, Sent
from redismetrics.alerts.notify.http import SendingFailed
from redismetrics.alerts.notify.send import sender
from redismetrics.alerts.notify.texts import harmless, message, webhook_payload
from redismetrics.alerts.states import FIRING, RESOLVED, Alert
from redismetrics.errors import InvalidSetting

from .receivers import Receiver, receiving

ROUTE = Route("{}", "team", ("alertname",))

# One of its plugins imports a module that Python 3.13 has no more.
apprise_warns = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def web() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def notification(*alerts: Alert, receiver: NotifyReceiver | None = None) -> Notification:
    group = AlertGroup(ROUTE, {"alertname": "Down"}, list(alerts))
    to = receiver or NotifyReceiver("team")
    return Notification("x", to, "apprise[0]", group, alerts, Sent(0))


def alert(state: str = FIRING, summary: str = "it is down", **labels: str) -> Alert:
    at = 1_700_000_000_000
    annotations = {"summary": summary}
    return Alert(
        {"alertname": "Down", **labels}, annotations, 1.0, state, at, at, at * (state == RESOLVED)
    )


def test_the_default_message() -> None:
    found = notification(alert(job="api"), alert(job="web"), alert(RESOLVED, job="db"))
    title, body = message(found, TITLE, BODY, (), "")
    assert title == "[FIRING:2] Down"
    assert body.splitlines() == [
        "firing: Down: it is down",
        "  alertname = Down",
        "  job = api",
        "firing: Down: it is down",
        "  alertname = Down",
        "  job = web",
        "resolved: Down: it is down",
        "  alertname = Down",
        "  job = db",
    ]


def test_own_templates() -> None:
    templates = (
        '{{ define "short" }}{{ range .Alerts.Firing }}{{ .Labels.job }};{{ end }}{{ end }}',
    )
    title, body = message(
        notification(alert(job="api"), alert(job="web")),
        "{{ .Receiver }}: {{ .CommonLabels.alertname }} {{ .GroupLabels.Names | join `,` }}",
        '{{ template "short" . }}',
        templates,
        "http://here",
    )
    assert (title, body) == ("team: Down alertname", "api;web;")


def test_a_failing_template_does_not_lose_the_alert() -> None:
    title, body = message(notification(alert()), "{{ .Nope }}", "x", (), "")
    assert title == "[firing] Down"
    assert "can't evaluate field Nope" in body


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\r\nc\x00", "a b  c "),
        ("@everyone and @here", "@\u200beveryone and @\u200bhere"),
        ("me@example.com", "me@example.com"),
        ("<!channel> <@U123> <b>", "<\u200b!channel> <\u200b@\u200bU123> <b>"),
        ("\u202egnp.exe", " gnp.exe"),
    ],
)
def test_hostile_values_are_made_harmless(text: str, expected: str) -> None:
    assert harmless(text) == expected
    _, body = message(notification(alert(summary=text, job=text)), TITLE, BODY, (), "")
    assert expected in body
    assert len(body.splitlines()) == 3


def test_long_messages_are_cut() -> None:
    many = [alert(job="x" * 500, n=str(number)) for number in range(60)]
    title, body = message(notification(*many), "{{ .CommonLabels.job }}", BODY, (), "")
    assert (len(title), len(body)) == (200, 16_000)


def test_a_payload_lists_at_most_max_alerts() -> None:
    found = webhook_payload(notification(alert(job="a"), alert(job="b")), "", max_alerts=1)
    assert (len(found["alerts"]), found["truncatedAlerts"]) == (1, 1)


@apprise_warns
@pytest.mark.slow
def test_apprise_delivers(web: Receiver) -> None:
    pytest.importorskip("apprise", reason="needs redismetrics[alerts]")
    receiver = NotifyReceiver("team", apprises=(Apprise(web.url.replace("http", "json")),))
    config = NotifyConfig(ROUTE, {"team": receiver})
    send = sender(config, "")
    send(notification(alert(job="api"), receiver=receiver))
    (body,) = web.bodies
    assert (body["title"], body["type"]) == ("[FIRING:1] Down", "failure")
    assert "job = api" in body["message"]
    web.status = 500
    with pytest.raises(SendingFailed, match="apprise could not deliver") as raised:
        send(notification(alert(), receiver=receiver))
    assert web.url not in str(raised.value)


@apprise_warns
@pytest.mark.slow
@pytest.mark.parametrize(
    ("apprise", "templates", "problem"),
    [
        (Apprise("nosuch://secret"), (), "url of team/.* must be one that apprise recognises"),
        (Apprise("json://secret", title="{{ .Foo"), (), "templates of team/.* unclosed action"),
        (Apprise("json://secret"), ("{{ nosuch 1 }}",), '"nosuch" not defined'),
    ],
)
def test_a_receiver_that_cannot_work_is_refused_at_the_start(
    apprise: Apprise, templates: tuple[str, ...], problem: str
) -> None:
    pytest.importorskip("apprise", reason="needs redismetrics[alerts]")
    receiver = NotifyReceiver("team", apprises=(apprise,))
    with pytest.raises(InvalidSetting, match=problem) as raised:
        sender(NotifyConfig(ROUTE, {"team": receiver}, templates), "")
    assert "secret" not in str(raised.value)
