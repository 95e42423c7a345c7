"""Send alerts to Alertmanagers, like Prometheus: repeatedly until they are resolved.

https://prometheus.io/docs/alerting/latest/clients/
"""

from collections.abc import Iterable, Mapping
from typing import Any

from redismetrics.alerts.states import PENDING, Alert
from redismetrics.alerts.times import time_text

from .http import post_json
from .outbox import Outbox
from .texts import generator_url

# Maximum number of alerts per request.
BATCH = 64


def needs_sending(alert: Alert, sent_at: int, now: int, resend_delay_ms: int) -> bool:
    """Return whether an alert last sent at *sent_at* must be sent now; times in ms."""
    if alert.state == PENDING:
        return False
    # As in Prometheus: not yet when exactly the delay has passed.
    return alert.resolved_at > sent_at or sent_at + resend_delay_ms < now


def alert_payload(
    alert: Alert, valid_until: int, external_labels: Mapping[str, str], external_url: str
) -> dict[str, Any]:
    """Return an alert for `/api/v2/alerts`. It expires at *valid_until* unless it is sent again."""
    return {
        "labels": {**external_labels, **alert.labels},
        "annotations": alert.annotations,
        "startsAt": time_text(alert.fired_at),
        "endsAt": time_text(alert.resolved_at or valid_until),
        "generatorURL": generator_url(external_url),
    }


class Alertmanagers:
    """All Alertmanagers. Each gets all alerts, and a failing one does not delay the others."""

    def __init__(self, urls: Iterable[str], timeout_s: float) -> None:
        self._timeout = timeout_s
        self.outboxes = [
            Outbox(f"alertmanager[{number}]", self._post(url)) for number, url in enumerate(urls)
        ]
        self._number = 0

    def _post(self, url: str) -> Any:
        target = f"{url.rstrip('/')}/api/v2/alerts"
        return lambda alerts: post_json(target, alerts, self._timeout)

    def send(self, alerts: list[dict[str, Any]]) -> None:
        """Queue *alerts* for sending, in batches of 64."""
        for first in range(0, len(alerts), BATCH):
            self._number += 1
            for outbox in self.outboxes:
                outbox.put(self._number, alerts[first : first + BATCH])

    def stop(self, timeout: float) -> None:
        """Stop after one more attempt to send what is waiting."""
        for outbox in self.outboxes:
            outbox.stop(timeout)
