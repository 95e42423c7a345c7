"""Rules with unforeseen texts or evaluations do not affect other rules."""

from collections.abc import Iterator
from typing import Any

import pytest

from redismetrics.alerts.listing import list_rules
from redismetrics.alerts.rules import Rule
from redismetrics.alerts.store import load_group
from redismetrics.store.connection import Store
from redismetrics.store.driver import Client, run

from .test_runner import ALERT, MINUTE, START, Process, states


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    store = Store(url, 5.0)
    yield store.client()
    store.close()


@pytest.mark.parametrize(
    ("labels", "annotations"),
    [
        # Bytes in an expression that are no UTF-8 become halves of pairs of surrogates.
        ({"job": "\udcff"}, {}),
        ({}, {"summary": '{{ printf "%c" 55296 }}'}),
        # A digit of no number.
        ({}, {"summary": '{{ reReplaceAll "a" "$²" "a" }}'}),
    ],
)
def test_texts_of_one_alert_do_not_delay_other_rules(
    client: Client, namespace: str, labels: dict[str, str], annotations: dict[str, str]
) -> None:
    process = Process(
        client, namespace, "a", Rule("Odd", "odd", True, annotations=annotations), ALERT
    )
    process.engine.give("odd", (labels, 1.0))
    assert process.pass_at(START, ({"job": "x"}, 1.0))
    alerts = run(client, load_group(namespace, "a.yml;g")).alerts.values()
    assert sorted(saved.alert.labels["alertname"] for saved in alerts) == ["Down", "Odd"]


def test_an_error_of_odd_characters_is_kept(client: Client, namespace: str) -> None:
    process = Process(client, namespace, "a")
    process.engine.give("down", error="it has \udcff")
    process.runner.take_leases(client)
    assert process.runner.evaluate_next(client, process.engine, START)
    ((rule,),) = (group["rules"] for group in run(client, list_rules(namespace)))
    assert rule["lastError"] == "it has ?"


def test_a_rule_that_fails_by_a_bug_keeps_its_alerts_and_delays_no_other(
    client: Client, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(client, namespace, "a", Rule("Odd", "odd", True), ALERT)
    process.engine.give("odd", ({"job": "y"}, 1.0))
    process.pass_at(START, ({"job": "x"}, 1.0))

    def fail(*_: Any) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr("redismetrics.alerts.evaluate.next_states", fail)
    process.pass_at(START + MINUTE, ({"job": "x"}, 1.0))
    monkeypatch.undo()
    assert states(client, namespace) == ["firing", "pending"]
    (group,) = run(client, list_rules(namespace))
    assert [rule["lastError"] for rule in group["rules"]] == ["BUG: a bug", "BUG: a bug"]
    process.pass_at(START + 2 * MINUTE, ({"job": "x"}, 1.0))
    assert states(client, namespace) == ["firing", "firing"]
