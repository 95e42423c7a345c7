"""Which notifications are due: groups, waits, repeats and resolved alerts."""

from itertools import pairwise

import pytest

from redismetrics.alerts.label_matchers import parse_matchers
from redismetrics.alerts.notify.config import NotifyReceiver, Route, Webhook
from redismetrics.alerts.notify.groups import Sent, due_notifications, group_alerts
from redismetrics.alerts.states import FIRING, RESOLVED, Alert

MINUTE = 60_000
RECEIVERS = {
    "team": NotifyReceiver("team", (Webhook("http://team"),)),
    "quiet": NotifyReceiver("quiet", (Webhook("http://quiet", send_resolved=False),)),
}


def alert(state: str = FIRING, **labels: str) -> Alert:
    return Alert(labels, {}, 1.0, state, 0, 1, 2 if state == RESOLVED else 0)


def route(receiver: str = "team", **fields: object) -> Route:
    return Route("{}", receiver, ("alertname",), 30_000, 5 * MINUTE, 240 * MINUTE, **fields)  # type: ignore[arg-type]


class History:
    """Steps of a dispatcher over time, each with its alerts."""

    def __init__(self, of: Route) -> None:
        self.route = of
        self.log: dict[str, Sent] = {}

    def at(self, now: int, *alerts: Alert) -> list[list[str]]:
        """Return what is sent at *now*: the states of each notification's alerts."""
        due, looked_at = due_notifications(
            group_alerts(self.route, alerts), RECEIVERS, self.log, now
        )
        self.log |= looked_at
        self.log |= {each.field: each.sent for each in due}
        return [[alert.state for alert in each.alerts] for each in due]


def test_a_group_waits_so_that_others_can_join() -> None:
    history = History(route())
    a, b = alert(alertname="A", n="1"), alert(alertname="A", n="2")
    assert history.at(1000, a) == []
    assert history.at(20_000, a, b) == []
    assert history.at(31_000, a, b) == [[FIRING, FIRING]]


def test_changes_of_a_group_wait_for_its_interval() -> None:
    history = History(route())
    a, b = alert(alertname="A", n="1"), alert(alertname="A", n="2")
    history.at(0 + 1, a)
    assert history.at(30_001, a) == [[FIRING]]
    assert history.at(60_000, a, b) == []
    assert history.at(30_001 + 5 * MINUTE, a, b) == [[FIRING, FIRING]]


def test_notifications_are_repeated_only_after_the_repeat_interval() -> None:
    history = History(route())
    a = alert(alertname="A")
    history.at(1, a)
    sent = [now for now in range(500) if history.at(1 + now * MINUTE, a)]
    assert len(sent) == 3
    assert all(240 <= b - a <= 246 for a, b in pairwise(sent))


def test_a_resolved_alert_is_sent_once() -> None:
    history = History(route())
    history.at(1, alert(alertname="A"))
    history.at(MINUTE, alert(alertname="A"))
    over = alert(RESOLVED, alertname="A")
    assert history.at(6 * MINUTE, over) == [[RESOLVED]]
    assert history.at(11 * MINUTE, over) == []
    assert history.at(30 * MINUTE) == []


def test_a_receiver_without_resolved_alerts_is_notified_the_next_time() -> None:
    history = History(route("quiet"))
    a, over = alert(alertname="A"), alert(RESOLVED, alertname="A")
    history.at(1, a)
    assert history.at(MINUTE, a) == [[FIRING]]
    assert history.at(6 * MINUTE, over) == []
    # It was over, so that it fires again is news.
    assert history.at(12 * MINUTE, a) == [[FIRING]]


def test_an_alert_that_was_never_sent_is_not_sent_as_resolved() -> None:
    history = History(route())
    assert history.at(1, alert(RESOLVED, alertname="A")) == []
    assert history.at(MINUTE, alert(RESOLVED, alertname="A")) == []


def test_groups_by_label() -> None:
    groups = group_alerts(
        route(), [alert(alertname=name, n=n) for name in "AB" for n in ("1", "2")]
    )
    assert [(group.key, len(group.alerts)) for group in groups] == [
        ('{}:{alertname="A"}', 2),
        ('{}:{alertname="B"}', 2),
    ]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"severity": "page", "team": "db"}, ["db"]),
        ({"severity": "page"}, ["page", "all"]),
        ({"severity": "info"}, ["all"]),
        ({"severity": "other"}, ["root"]),
    ],
)
def test_routes(labels: dict[str, str], expected: list[str]) -> None:
    db = Route("", "db", matchers=tuple(parse_matchers('team="db"')))
    page = Route(
        "", "page", matchers=tuple(parse_matchers("severity=page")), goes_on=True, routes=(db,)
    )
    everything = Route("", "all", matchers=tuple(parse_matchers('severity=~"page|info"')))
    root = Route("{}", "root", routes=(page, everything))
    found = [each.receiver for each in root.find(labels)]
    # A route that goes on lets those behind it see the alert too.
    assert found == (["db", "all"] if labels.get("team") else expected)


def test_all_labels() -> None:
    of = Route("{}", "team", ("...",))
    assert of.group_labels({"a": "1", "b": "2"}) == {"a": "1", "b": "2"}
