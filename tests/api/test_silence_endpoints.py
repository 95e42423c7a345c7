"""Silences and alerts over HTTP, in Alertmanager's and Prometheus' forms, also by amtool."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("promql_parser", reason="needs redismetrics[promql]")
pytest.importorskip("re2", reason="needs redismetrics[promql]")

from redismetrics import Metrics
from redismetrics.alerts.evaluate import Surroundings
from redismetrics.alerts.rules import Group, Rule
from redismetrics.alerts.runner import Runner
from redismetrics.api.app import create_app
from redismetrics.store.connection import Store
from tests.alerts.engines import ScriptedEngine
from tests.fixtures.servers import PATIENT, PROCESS_PATIENCE
from tests.fixtures.webserver import running

AMTOOL = shutil.which("amtool")


@pytest.fixture
def address(metrics: Metrics) -> Iterator[str]:
    with running(create_app(metrics, allow_write=True)) as at:
        yield at


@pytest.fixture
def web(address: str) -> Iterator[Any]:
    httpx = pytest.importorskip("httpx", reason="needs httpx")
    with httpx.Client(base_url=address, **PATIENT) as client:
        yield client


def silence(**fields: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "matchers": [{"name": "alertname", "value": "Down", "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(hours=1)).isoformat(),
        "createdBy": "me",
        "comment": "deploying",
        **fields,
    }


def evaluate(url: str, namespace: str, *rules: Rule) -> None:
    """Evaluate rules once, the expression `down` with one series."""
    engine = ScriptedEngine()
    engine.give("down", ({"job": "x"}, 1.0))
    engine.give("broken", error="query timed out")
    store = Store(url, 5.0)
    runner = Runner(
        namespace,
        [Group("g", rules, 60_000, file="a.yml")],
        "me",
        around=Surroundings(),
        default_interval_ms=60_000,
        lease_ms=60_000,
        resend_delay_ms=60_000,
        send=lambda _: None,
    )
    runner.take_leases(store.client())
    assert runner.evaluate_next(store.client(), engine, round(1000 * time.time()))
    store.close()


def test_a_silence_is_created_read_and_ended(web: Any) -> None:
    posted = web.post("/api/v2/silences", json=silence())
    assert posted.status_code == 200
    made = posted.json()["silenceID"]
    (listed,) = web.get("/api/v2/silences").json()
    assert (listed["id"], listed["status"], listed["comment"]) == (
        made,
        {"state": "active"},
        "deploying",
    )
    assert listed["matchers"] == silence()["matchers"]
    assert web.get(f"/api/v2/silence/{made}").json()["id"] == made
    assert web.delete(f"/api/v2/silence/{made}").status_code == 200
    assert web.get(f"/api/v2/silence/{made}").json()["status"] == {"state": "expired"}


def test_silences_are_filtered(web: Any) -> None:
    web.post("/api/v2/silences", json=silence())
    for text, count in (('alertname="Down"', 1), ('alertname="Up"', 0), ("alertname=~D.*", 1)):
        found = web.get("/api/v2/silences", params={"filter": text})
        assert len(found.json()) == count
    assert web.get("/api/v2/silences", params={"filter": "((("}).status_code == 400


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (silence(matchers=[]), "must have 1 to 100 matchers"),
        (silence(matchers=[{"name": "a", "value": ".*", "isRegex": True}]), "at least one matcher"),
        (silence(matchers=[{"name": "a", "value": "(", "isRegex": True}]), "error parsing regexp"),
        (silence(endsAt="2020-01-01T00:00:00Z"), "the end of a silence must be"),
        (silence(startsAt="soon"), "must be a JSON object"),
        (silence(comment=""), "comment of a silence must have 1 to 1000 characters"),
        (silence(createdBy="x" * 2000), "author of a silence must have"),
        (silence(comment="\ud800"), "must be valid Unicode"),
        # Nobody could read or end a silence with a slash in its id.
        (silence(id="x/y"), "id of a silence must be 1 to 100 letters, digits and -"),
        (silence(id="\ud800"), "id of a silence must be"),
        (silence(id={"a": 1}), "id of a silence must be"),
        (silence(matchers=[{"name": "a", "value": "\ud800"}]), "must be valid Unicode"),
        ([], "must be a JSON object"),
        ({"matchers": "a"}, "must be a JSON object"),
    ],
)
def test_invalid_silences_are_rejected(web: Any, body: Any, problem: str) -> None:
    # As ASCII, which can hold half of a surrogate pair.
    headers = {"Content-Type": "application/json"}
    answer = web.post("/api/v2/silences", content=json.dumps(body), headers=headers)
    assert answer.status_code == 400
    assert problem in answer.text


def test_an_unknown_silence_is_not_found(web: Any) -> None:
    assert web.get("/api/v2/silence/nosuch").status_code == 404
    assert web.delete("/api/v2/silence/nosuch").status_code == 404


def test_a_long_body_is_refused(web: Any) -> None:
    assert web.post("/api/v2/silences", json=silence(comment="x" * 100_000)).status_code == 413


def test_nothing_is_written_without_permission(metrics: Metrics) -> None:
    httpx = pytest.importorskip("httpx", reason="needs httpx")
    with running(create_app(metrics)) as at:
        assert httpx.post(f"{at}/api/v2/silences", json=silence(), **PATIENT).status_code == 405
        assert httpx.delete(f"{at}/api/v2/silence/a", **PATIENT).status_code == 405
        assert httpx.get(f"{at}/api/v2/silences", **PATIENT).json() == []


def test_alerts_have_the_forms_of_prometheus_and_alertmanager(
    web: Any, url: str, namespace: str
) -> None:
    evaluate(url, namespace, Rule("Down", "down", True, labels={"severity": "page"}))
    (alert,) = web.get("/api/v1/alerts").json()["data"]["alerts"]
    assert alert["labels"] == {"alertname": "Down", "job": "x", "severity": "page"}
    assert (alert["state"], alert["value"]) == ("firing", "1")
    web.post("/api/v2/silences", json=silence())
    (found,) = web.get("/api/v2/alerts").json()
    assert (found["labels"], found["status"]["state"]) == (alert["labels"], "suppressed")


def test_rules_have_the_form_of_prometheus(web: Any, url: str, namespace: str) -> None:
    rules = (Rule("Down", "down", True, for_ms=60_000), Rule("a", "broken", False))
    evaluate(url, namespace, *rules)
    (group,) = web.get("/api/v1/rules").json()["data"]["groups"]
    assert (group["name"], group["file"], group["interval"]) == ("g", "a.yml", 60.0)
    alerting, recording = group["rules"]
    assert (alerting["type"], alerting["state"], alerting["duration"], alerting["health"]) == (
        *("alerting", "pending", 60.0),
        "ok",
    )
    assert [each["state"] for each in alerting["alerts"]] == ["pending"]
    assert (recording["type"], recording["health"], recording["lastError"]) == (
        *("recording", "err"),
        "query timed out",
    )


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("type=alert", ["Down"]),
        ("type=record", ["a"]),
        ("rule_name[]=a", ["a"]),
        ("rule_group[]=nosuch", []),
        ("file[]=a.yml", ["Down", "a"]),
    ],
)
def test_rules_are_chosen(web: Any, url: str, namespace: str, query: str, names: list[str]) -> None:
    evaluate(url, namespace, Rule("Down", "down", True), Rule("a", "broken", False))
    groups = web.get(f"/api/v1/rules?{query}").json()["data"]["groups"]
    assert [rule["name"] for group in groups for rule in group["rules"]] == names
    without = web.get("/api/v1/rules?exclude_alerts=true").json()["data"]["groups"]
    assert without[0]["rules"][0]["alerts"] == []
    assert web.get("/api/v1/rules?type=x").status_code == 400


@pytest.mark.slow
@pytest.mark.skipif(AMTOOL is None, reason="needs amtool (package prometheus-alertmanager)")
def test_amtool_works(address: str, url: str, namespace: str) -> None:
    evaluate(url, namespace, Rule("Down", "down", True))

    def amtool(*arguments: str) -> str:
        command = [str(AMTOOL), f"--alertmanager.url={address}", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PROCESS_PATIENCE, check=True
        )
        return done.stdout

    made = amtool("silence", "add", "alertname=Down", "--comment=x", "--author=me").strip()
    found = json.loads(amtool("silence", "query", "-o", "json"))
    assert [(each["id"], each["createdBy"]) for each in found] == [(made, "me")]
    assert "Down" in amtool("alert", "query", "alertname=Down", "--silenced")
    amtool("silence", "expire", made)
    assert json.loads(amtool("silence", "query", "-o", "json")) == []
