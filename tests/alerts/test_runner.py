"""Groups of rules that several processes evaluate, on a real server."""

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import msgpack
import pytest
import redis

from redismetrics.admin import examine
from redismetrics.alerts.evaluate import Surroundings
from redismetrics.alerts.listing import findings, list_alerts, list_rules
from redismetrics.alerts.packing import GroupStatus, SavedAlert, StateChange
from redismetrics.alerts.rules import Group, Rule
from redismetrics.alerts.runner import Runner, group_name, slot_before
from redismetrics.alerts.states import Alert
from redismetrics.alerts.store import (
    SavedGroup,
    history,
    load_group,
    note_other_text,
    save_group,
)
from redismetrics.alerts.times import time_text
from redismetrics.store import keys
from redismetrics.store.connection import Store
from redismetrics.store.driver import Client, run
from redismetrics.store.lease import take

from .engines import ScriptedEngine

MINUTE = 60_000
START = 1_700_000_000_000
ALERT = Rule("Down", "down", True, for_ms=2 * MINUTE, labels={"severity": "page"})

Make = Callable[..., "Process"]


class Process:
    """A process that evaluates one group, and what it sent."""

    def __init__(
        self, client: Client, namespace: str, holder: str, *rules: Rule, resend: int = MINUTE
    ) -> None:
        self.client = client
        self.sent: list[dict[str, Any]] = []
        self.engine = ScriptedEngine()
        self.group = Group("g", rules or (ALERT,), MINUTE, file="/etc/rules/a.yml")
        self.runner = Runner(
            namespace,
            [self.group],
            holder,
            around=Surroundings(external_url="http://here"),
            default_interval_ms=MINUTE,
            lease_ms=15_000,
            resend_delay_ms=resend,
            send=self.sent.extend,
        )

    def pass_at(self, now: int, *series: tuple[dict[str, str], float]) -> bool:
        self.engine.give("down", *series)
        self.runner.take_leases(self.client)
        return self.runner.evaluate_next(self.client, self.engine, now)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    store = Store(url, 5.0)
    yield store.client()
    store.close()


@pytest.fixture
def make(client: Client, namespace: str) -> Make:
    def process(holder: str = "a", *rules: Rule, resend: int = MINUTE) -> Process:
        return Process(client, namespace, holder, *rules, resend=resend)

    return process


def end_lease(admin: redis.Redis, namespace: str) -> None:
    """Let the group's lease end, as after its holder was killed."""
    key = keys.alerts(namespace).leases
    for name, data in admin.hgetall(key).items():
        holder, fence, _ = msgpack.unpackb(data)
        admin.hset(key, name, msgpack.packb([holder, fence, 1]))


def states(client: Client, namespace: str) -> list[str]:
    group = run(client, load_group(namespace, "a.yml;g"))
    return sorted(saved.alert.state for saved in group.alerts.values())


def test_a_group_is_due_once_each_interval() -> None:
    times = {slot_before("a.yml;g", MINUTE, START + each) for each in range(0, 10 * MINUTE, 500)}
    assert len(times) in (10, 11)
    assert {b - a for a, b in pairwise(sorted(times))} == {MINUTE}


def test_an_alert_waits_fires_and_is_resolved(make: Make, client: Client, namespace: str) -> None:
    process = make()
    seen = []
    for minute, count in enumerate([0, 1, 1, 1, 0]):
        assert process.pass_at(START + minute * MINUTE, *[({"job": "x"}, 1.0)] * count)
        seen += [*states(client, namespace), "|"]
    assert "".join(f"{each} " for each in seen) == "| pending | pending | firing | inactive | "
    sent = [(each["labels"], each["endsAt"] > each["startsAt"]) for each in process.sent]
    labels = {"alertname": "Down", "job": "x", "severity": "page"}
    assert sent == [(labels, True), (labels, True)]
    found = run(client, history(namespace, 0, 10))
    assert [(each.before, each.after) for each in found] == [
        ("firing", "inactive"),
        ("pending", "firing"),
        ("inactive", "pending"),
    ]


def test_it_is_evaluated_once_however_often_it_is_retried(make: Make) -> None:
    process = make()
    assert process.pass_at(START)
    assert not process.pass_at(START)
    assert not process.pass_at(slot_before(group_name(process.group), MINUTE, START) + MINUTE - 1)


def test_only_one_process_evaluates_a_group(make: Make) -> None:
    first, second = make("a"), make("b")
    assert first.pass_at(START)
    assert not second.pass_at(START + MINUTE)
    assert first.pass_at(START + MINUTE)


def test_another_process_continues_where_one_was_killed(
    make: Make, admin: redis.Redis, client: Client, namespace: str
) -> None:
    first, second = make("a"), make("b")
    series = ({"job": "x"}, 1.0)
    first.pass_at(START, series)
    first.pass_at(START + MINUTE, series)
    end_lease(admin, namespace)
    assert second.pass_at(START + 2 * MINUTE, series)
    # `for` is over: it began with the first process.
    assert states(client, namespace) == ["firing"]
    assert len(second.sent) == 1


def test_a_process_that_was_stopped_too_long_changes_and_sends_nothing(
    make: Make, admin: redis.Redis, namespace: str
) -> None:
    first, second = make("a"), make("b")
    series = ({"job": "x"}, 1.0)
    for minute in range(2):
        first.pass_at(START + minute * MINUTE, series)
    end_lease(admin, namespace)
    second.pass_at(START + 2 * MINUTE, series)
    before = admin.hgetall(keys.alert_group(namespace, "a.yml;g"))
    # The first one continues, and does not know yet that its lease is over.
    first.engine.give("down")
    assert first.runner.evaluate_next(first.client, first.engine, START + 3 * MINUTE)
    assert admin.hgetall(keys.alert_group(namespace, "a.yml;g")) == before
    assert first.sent == []
    assert not first.runner.evaluate_next(first.client, first.engine, START + 4 * MINUTE)


def test_an_alert_is_not_sent_again_after_a_takeover_within_the_delay(
    make: Make, admin: redis.Redis, client: Client, namespace: str
) -> None:
    first, second = make("a"), make("b")
    series = ({"job": "x"}, 1.0)
    for minute in range(3):
        first.pass_at(START + minute * MINUTE, series)
    assert len(first.sent) == 1
    end_lease(admin, namespace)
    group = run(client, load_group(namespace, "a.yml;g"))
    (saved,) = group.alerts.values()
    second.runner.take_leases(second.client)
    assert saved.sent_at == group.status.evaluated_at
    assert not second.runner.evaluate_next(second.client, second.engine, START + 2 * MINUTE)
    assert second.sent == []


def test_missed_evaluations_are_counted(make: Make, client: Client, namespace: str) -> None:
    process = make()
    process.pass_at(START)
    process.pass_at(START + 4 * MINUTE)
    assert process.runner.counts.missed == 3
    assert run(client, load_group(namespace, "a.yml;g")).status.missed == 3


def test_a_clock_that_is_a_little_behind_waits(
    make: Make, admin: redis.Redis, namespace: str
) -> None:
    first, second = make("a"), make("b")
    first.pass_at(START)
    end_lease(admin, namespace)
    assert not second.pass_at(START - 30_000)
    assert second.pass_at(START + MINUTE)


def test_a_clock_that_was_set_back_far_is_followed(make: Make) -> None:
    process = make()
    process.pass_at(START)
    assert process.pass_at(START - 3_600_000)


def test_a_reload_during_for_keeps_the_pending_time(
    make: Make, client: Client, namespace: str
) -> None:
    process = make()
    series = ({"job": "x"}, 1.0)
    process.pass_at(START, series)
    process.pass_at(START + MINUTE, series)
    edited = Group("g", (Rule("New", "new", True), ALERT), MINUTE, file="/etc/rules/a.yml")
    process.runner.replace([edited])
    process.pass_at(START + 2 * MINUTE, series)
    assert states(client, namespace) == ["firing"]


def test_alerts_of_a_rule_that_was_removed_end(make: Make, client: Client, namespace: str) -> None:
    process = make()
    process.pass_at(START, ({"job": "x"}, 1.0))
    process.runner.replace([Group("g", (Rule("B", "b", True),), MINUTE, file="a.yml")])
    process.pass_at(START + MINUTE)
    assert states(client, namespace) == []


def test_alerts_of_a_rule_that_was_removed_are_resolved(
    make: Make, client: Client, namespace: str
) -> None:
    process = make()
    for minute in range(3):
        process.pass_at(START + minute * MINUTE, ({"job": "x"}, 1.0))
    process.runner.replace([Group("g", (Rule("B", "b", True),), MINUTE, file="a.yml")])
    process.pass_at(START + 3 * MINUTE)
    assert states(client, namespace) == ["inactive"]
    assert process.sent[-1]["labels"]["job"] == "x"
    assert process.sent[-1]["endsAt"] <= time_text(START + 3 * MINUTE)
    (change,) = run(client, history(namespace, START + 3 * MINUTE - MINUTE + 1, 10))
    assert (change.rule, change.before, change.after) == ("Down", "firing", "inactive")
    process.pass_at(START + 20 * MINUTE)
    assert states(client, namespace) == []


def test_alerts_of_a_group_that_nobody_evaluates_are_not_listed(
    make: Make, client: Client, namespace: str
) -> None:
    process = make("a", Rule("Down", "down", True))
    for at, count in ((START, 0), (round(1000 * time.time()), 1)):
        process.pass_at(at, ({"job": "x"}, 1.0))
        assert states(client, namespace) == ["firing"]
        assert len(run(client, list_alerts(namespace))) == count
        (group,) = run(client, list_rules(namespace))
        assert len(group["rules"][0]["alerts"]) == count


def test_a_rule_that_fails_keeps_its_alerts(make: Make, client: Client, namespace: str) -> None:
    process = make()
    for minute in range(3):
        process.pass_at(START + minute * MINUTE, ({"job": "x"}, 1.0))
    process.runner.take_leases(process.client)
    process.engine.give("down", error="query timed out")
    process.runner.evaluate_next(process.client, process.engine, START + 3 * MINUTE)
    assert states(client, namespace) == ["firing"]
    (rule,) = run(client, load_group(namespace, "a.yml;g")).status.rules
    assert rule.error == "query timed out"


@pytest.mark.parametrize(
    ("annotation", "policy", "expected"),
    [
        ("redismetrics_no_data", "ok", ["inactive"]),
        ("redismetrics_no_data", "keep", ["firing"]),
        ("redismetrics_no_data", "alert", ["firing", "inactive"]),
        ("redismetrics_on_error", "ok", ["inactive"]),
        ("redismetrics_on_error", "keep", ["firing"]),
        ("redismetrics_on_error", "alert", ["firing", "inactive"]),
    ],
)
def test_policies(
    make: Make,
    client: Client,
    namespace: str,
    annotation: str,
    policy: str,
    expected: list[str],
) -> None:
    process = make("a", Rule("Down", "down", True, annotations={annotation: policy}))
    process.pass_at(START, ({"job": "x"}, 1.0))
    is_error = annotation.endswith("error")
    process.engine.give("down", has_data=is_error, error="broken" if is_error else "")
    process.runner.evaluate_next(process.client, process.engine, START + MINUTE)
    assert states(client, namespace) == expected


def test_only_what_changed_is_written(make: Make, admin: redis.Redis, namespace: str) -> None:
    process = make("a", Rule("Down", "down", True), resend=10 * MINUTE)
    series = [({"job": str(number)}, 1.0) for number in range(5)]
    process.pass_at(START, *series)
    key = keys.alert_group(namespace, "a.yml;g")
    admin.hdel(key, *[name for name in admin.hkeys(key) if b" " in name])
    process.pass_at(START + MINUTE, *series[1:], ({"job": "0"}, 2.0))
    assert len([name for name in admin.hkeys(key) if b" " in name]) == 1


def test_rules_see_what_earlier_rules_record(make: Make) -> None:
    rules = (
        Rule("a", "x", False),
        Rule("b", "y", False),
        Rule("c", "a", False),
        Rule("d", "z", False),
    )
    process = make("a", *rules)
    process.engine.give("x", ({"job": "1"}, 3.0))
    process.runner.take_leases(process.client)
    process.runner.evaluate_next(process.client, process.engine, START)
    # Evaluated in one call as far as they do not depend on each other.
    assert [asked for asked, _ in process.engine.asked] == [["x", "y"], ["a", "z"]]
    (series, ended, _), *_ = process.engine.written
    assert (series, ended) == ([({"job": "1", "__name__": "a"}, 3.0)], [])


def test_series_that_are_gone_are_ended(make: Make) -> None:
    process = make("a", Rule("a", "down", False))
    process.pass_at(START, ({"job": "1"}, 3.0))
    process.pass_at(START + MINUTE)
    assert process.engine.written[-1][:2] == ([], [{"job": "1", "__name__": "a"}])


def test_a_released_group_is_taken_at_once(make: Make) -> None:
    first, second = make("a"), make("b")
    first.pass_at(START)
    first.runner.release(first.client)
    assert second.pass_at(START + MINUTE)


def test_another_text_of_a_group_is_noted(make: Make, client: Client, namespace: str) -> None:
    first, second = make("a"), make("b", Rule("Down", "down > 1", True))
    first.pass_at(START)
    second.runner.take_leases(client, START)
    found = run(client, load_group(namespace, "a.yml;g"))
    assert found.other_seen_at == START
    assert "two processes have different rules" in " ".join(findings({"g": found}, START))
    assert "different" not in " ".join(findings({"g": found}, START + 2 * MINUTE))
    # The same text is not another one.
    third = make("c")
    third.runner.take_leases(client, START + MINUTE)
    assert run(client, load_group(namespace, "a.yml;g")).other_seen_at == START


def test_the_doctor_sees_rules_that_fail(make: Make, url: str, namespace: str) -> None:
    process = make("a")
    process.pass_at(START)
    process.runner.take_leases(process.client)
    process.engine.give("down", error="query timed out")
    process.runner.evaluate_next(process.client, process.engine, START + MINUTE)
    (finding,) = [
        each for each in examine(url, namespace=namespace).findings if each.check == "alerts"
    ]
    assert finding.status == "warning"
    assert "Down: query timed out" in finding.found
    # The evaluation was long ago by the server's clock.
    assert "was last evaluated" in finding.found


def test_changes_that_are_saved_again_after_a_lost_reply_are_in_the_history_once(
    client: Client, namespace: str
) -> None:
    fence = run(client, take(keys.alerts(namespace).leases, "a.yml;g", "a", MINUTE)).fence
    group = SavedGroup(GroupStatus(name="g", evaluated_at=START))
    change = StateChange(START, "g", "Down", {}, "inactive", "pending", 1.0)
    for _ in range(2):
        saving = save_group(namespace, "a.yml;g", fence, SavedGroup(), group, [change, change])
        assert run(client, saving)
    assert run(client, history(namespace, 0, 10)) == [change, change]


def test_state_of_a_group_lost_in_a_failover_is_written_again(
    make: Make, client: Client, admin: redis.Redis, namespace: str
) -> None:
    process, key = make("a"), keys.alert_group(namespace, "a.yml;g")
    series = ({"job": "x"}, 1.0)
    process.pass_at(START)
    before = admin.dump(key)
    for minute in (1, 2, 3):
        process.pass_at(START + minute * MINUTE, series)
    assert states(client, namespace) == ["firing"]
    # The replica that was promoted has the lease, but not the last writes.
    admin.restore(key, 0, before, replace=True)
    process.pass_at(START + 4 * MINUTE, series)
    assert states(client, namespace) == ["firing"]
    assert len(run(client, load_group(namespace, "a.yml;g")).rules) == 1


def test_a_resolved_alert_that_was_saved_without_a_reply_is_removed(
    make: Make, client: Client, namespace: str
) -> None:
    process = make("a")
    process.pass_at(START)
    fence = run(client, take(keys.alerts(namespace).leases, "a.yml;g", "a", MINUTE)).fence
    known = run(client, load_group(namespace, "a.yml;g"))
    saved = SavedAlert(Alert({"alertname": "Down"}, {}, 1.0, "firing", START, START, 0, 0))
    lost = SavedGroup(GroupStatus(name="g", evaluated_at=START + 1), {b"Down 01": saved})
    assert run(client, save_group(namespace, "a.yml;g", fence, known, lost, []))
    process.pass_at(START + MINUTE)
    assert states(client, namespace) == []


def test_a_note_of_another_text_lets_the_group_expire(
    make: Make, client: Client, admin: redis.Redis, namespace: str
) -> None:
    assert make("a").pass_at(START)
    key = keys.alert_group(namespace, "a.yml;g")
    admin.persist(key)
    assert run(client, note_other_text(namespace, "a.yml;g", "other", START))
    assert admin.pttl(key) > 0
