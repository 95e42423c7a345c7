"""When an alert is sent to Alertmanagers, and with what content."""

import pytest

from redismetrics.alerts.notify.alertmanager import alert_payload, needs_sending
from redismetrics.alerts.states import FIRING, PENDING, RESOLVED, Alert


def alert(state: str, resolved_at: int = 0) -> Alert:
    return Alert({"alertname": "A"}, {"summary": "x"}, 1.0, state, 1000, 2000, resolved_at)


@pytest.mark.parametrize(
    ("of", "sent_at", "now", "expected"),
    [
        (alert(PENDING), 0, 100_000, False),
        (alert(FIRING), 0, 100_000, True),
        # Every 2 s with a delay of 5 s: again after 6 s. Exactly the delay is not enough.
        (alert(FIRING), 100_000, 104_000, False),
        (alert(FIRING), 100_000, 105_000, False),
        (alert(FIRING), 100_000, 106_000, True),
        # That it is over is said at once.
        (alert(RESOLVED, 101_000), 100_000, 101_000, True),
        (alert(RESOLVED, 101_000), 101_000, 102_000, False),
        (alert(RESOLVED, 101_000), 101_000, 107_000, True),
    ],
)
def test_when_an_alert_is_sent(of: Alert, sent_at: int, now: int, expected: bool) -> None:
    assert needs_sending(of, sent_at, now, 5000) == expected


def test_a_firing_alert_ends_by_itself_if_no_more_comes() -> None:
    payload = alert_payload(alert(FIRING), 22_000, {"cluster": "eu", "alertname": "B"}, "http://x/")
    assert payload == {
        "labels": {"cluster": "eu", "alertname": "A"},
        "annotations": {"summary": "x"},
        "startsAt": "1970-01-01T00:00:02.000Z",
        "endsAt": "1970-01-01T00:00:22.000Z",
        "generatorURL": "http://x/#/alerts",
    }
    over = alert_payload(alert(RESOLVED, 5000), 22_000, {}, "")
    assert (over["endsAt"], over["generatorURL"]) == ("1970-01-01T00:00:05.000Z", "")
