"""Transitions of alerts, one evaluation a minute."""

import math

import pytest

from redismetrics.alerts.listing import alert_row
from redismetrics.alerts.rules import Rule
from redismetrics.alerts.states import (
    FIRING,
    PENDING,
    RESOLVED,
    Alert,
    Key,
    RuleFailed,
    label_alerts,
    label_records,
    next_states,
)

MINUTE = 60_000


def rule(for_minutes: int = 0, keep_minutes: int = 0, **labels: str) -> Rule:
    return Rule("A", "x", True, for_minutes * MINUTE, keep_minutes * MINUTE, labels)


def states(of: Rule, minutes: str, limit: int = 0) -> str:
    """Return the states after each evaluation; *minutes* are the numbers of series."""
    alerts: dict[Key, Alert] = {}
    seen = []
    for minute, count in enumerate(minutes):
        series = [({"n": str(number)}, 1.0) for number in range(int(count))]
        found = label_alerts(of, series, lambda labels, value: lambda template: template)
        alerts = next_states(of, limit, minute * MINUTE, found, alerts)
        letters = {PENDING: "p", FIRING: "f", RESOLVED: "r"}
        seen.append("".join(sorted(letters[each.state] for each in alerts.values())) or "-")
    return " ".join(seen)


@pytest.mark.parametrize(
    ("of", "minutes", "expected"),
    [
        (rule(), "011010", "- f f r f r"),
        (rule(2), "01111", "- p p f f"),
        (rule(2), "0110111", "- p p - p p f"),
        (rule(0, 2), "010000", "- f f f r r"),
        (rule(0, 2), "0100100", "- f f f f f f"),
        (rule(1, 1), "0110", "- p f f"),
        (rule(1), "0120", "- p fp r"),
        (rule(), "02", "- ff"),
    ],
)
def test_states(of: Rule, minutes: str, expected: str) -> None:
    assert states(of, minutes) == expected


def test_a_resolved_alert_is_forgotten_after_15_minutes() -> None:
    assert states(rule(), "10" + "0" * 15).split() == ["f", *["r"] * 16]
    assert states(rule(), "10" + "0" * 16).endswith("r -")


def test_an_alert_that_returns_begins_again() -> None:
    of = rule(1)
    found = label_alerts(of, [({}, 1.0)], lambda labels, value: lambda template: template)
    alerts: dict[Key, Alert] = {}
    for minute, series in enumerate([found, found, {}, found]):
        alerts = next_states(of, 0, minute * MINUTE, series, alerts)
    (alert,) = alerts.values()
    assert (alert.state, alert.active_since, alert.fired_at) == (PENDING, 3 * MINUTE, 0)


def test_value_and_annotations_follow_the_series() -> None:
    of = Rule("A", "x", True, annotations={"note": "{{ $value }}"})
    alerts: dict[Key, Alert] = {}
    for minute, value in enumerate([1.0, 2.0]):
        found = label_alerts(of, [({}, value)], lambda labels, value: lambda _: str(value))
        alerts = next_states(of, 0, minute * MINUTE, found, alerts)
    (alert,) = alerts.values()
    assert (alert.value, alert.annotations, alert.active_since) == (2.0, {"note": "2.0"}, 0)


def test_limit_counts_pending_alerts() -> None:
    with pytest.raises(RuleFailed, match="exceeded limit of 1 with 2 alerts"):
        states(rule(5), "2", limit=1)


def test_limit_counts_alerts_that_are_kept() -> None:
    with pytest.raises(RuleFailed, match="exceeded limit of 1 with 2 alerts"):
        states(rule(0, 5), "21", limit=1)


def test_labels_of_alerts() -> None:
    of = rule(severity="page", alertname="other", empty="")
    found = label_alerts(
        of,
        [({"__name__": "m", "job": "x", "empty": "before"}, 1.0)],
        lambda labels, value: lambda template: template,
    )
    ((alert),) = found.values()
    assert alert.labels == {"job": "x", "severity": "page", "alertname": "A"}


def test_series_that_differ_only_by_name_are_refused() -> None:
    series = [({"__name__": name}, 1.0) for name in "ab"]
    with pytest.raises(RuleFailed, match="after applying alert labels"):
        label_alerts(rule(), series, lambda labels, value: lambda template: template)


def test_records() -> None:
    of = Rule("job:rate", "x", False, labels={"kind": "a", "gone": ""})
    series = [({"__name__": "m", "gone": "x", "job": job}, 2.0) for job in "ab"]
    found = label_records(of, series)
    assert [each.labels for each in found.values()] == [
        {"__name__": "job:rate", "kind": "a", "job": job} for job in "ab"
    ]
    with pytest.raises(RuleFailed, match="after applying rule labels"):
        label_records(of, [({"kind": kind}, 1.0) for kind in "ab"])


@pytest.mark.parametrize(
    ("value", "text"), [(math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN"), (0.1, "0.1")]
)
def test_values_are_written_as_prometheus_writes_them(value: float, text: str) -> None:
    assert alert_row(Alert({}, {}, value, "firing", 1))["value"] == text
