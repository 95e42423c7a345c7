"""Notifications that are really sent, from states in a real Redis."""

import logging
from base64 import b64decode
from collections.abc import Iterator

import msgpack
import pytest
import redis

from redismetrics.alerts.label_matchers import parse_matchers
from redismetrics.alerts.notify.config import Callback, NotifyConfig, NotifyReceiver, Route, Webhook
from redismetrics.alerts.notify.http import SendingFailed, post_json
from redismetrics.alerts.notify.log_store import read_log
from redismetrics.alerts.notify.notifier import Notifier
from redismetrics.alerts.notify.outbox import Outbox
from redismetrics.alerts.notify.send import sender
from redismetrics.alerts.packing import GroupStatus, SavedAlert
from redismetrics.alerts.silences import check_silence, save_silence
from redismetrics.alerts.states import FIRING, RESOLVED, Alert, fingerprint
from redismetrics.alerts.store import SavedGroup, alert_field, load_group, save_group
from redismetrics.errors import ScriptFailed
from redismetrics.store import keys
from redismetrics.store.connection import Store
from redismetrics.store.driver import Client, run
from redismetrics.store.lease import take
from tests.fixtures.servers import wait_until

from .receivers import Receiver as Server
from .receivers import receiving

NOW = 1_700_000_000_000
FINGERPRINT = fingerprint({"": '{}:{alertname="A"}'})
MINUTE = 60_000


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    store = Store(url, 5.0)
    yield store.client()
    store.close()


@pytest.fixture
def web() -> Iterator[Server]:
    with receiving() as found:
        yield found


def alert(state: str = FIRING, **labels: str) -> Alert:
    resolved = NOW if state == RESOLVED else 0
    return Alert(
        {"alertname": "A", **labels}, {"summary": "it is down"}, 1.0, state, NOW, NOW, resolved
    )


def save(client: Client, namespace: str, *alerts: Alert, at: int = NOW) -> None:
    """Write the states of a group as the process that evaluates it does."""
    lease = run(client, take(keys.alerts(namespace).leases, "g", "evaluator", MINUTE))
    fields = {alert_field("r", each): SavedAlert(each) for each in alerts}
    group = SavedGroup(GroupStatus(name="g", evaluated_at=at), fields)
    before = run(client, load_group(namespace, "g"))
    assert run(client, save_group(namespace, "g", lease.fence, before, group, []))


def notifier(namespace: str, url: str, holder: str = "a", **options: object) -> Notifier:
    receiver = NotifyReceiver("team", (Webhook(url, **options),))  # type: ignore[arg-type]
    config = NotifyConfig(Route("{}", "team", ("alertname",), group_wait=0), {"team": receiver})
    return Notifier(namespace, config, sender(config, "http://here"), holder, 15_000)


def test_the_payload_is_alertmanagers(client: Client, namespace: str, web: Server) -> None:
    save(client, namespace, alert(job="x"), alert(job="y"))
    assert notifier(namespace, f"{web.url}/hook").step(client, NOW) == 1
    web.wait_for(1)
    ((path, body, headers),) = web.posts
    assert (path, headers["Content-Type"]) == ("/hook", "application/json")
    alerts = sorted(body.pop("alerts"), key=lambda each: each["labels"]["job"])
    assert body == {
        "version": "4",
        "groupKey": '{}:{alertname="A"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "team",
        "groupLabels": {"alertname": "A"},
        "commonLabels": {"alertname": "A"},
        "commonAnnotations": {"summary": "it is down"},
        "externalURL": "http://here",
    }
    assert {name: alerts[0][name] for name in ("status", "labels", "startsAt", "endsAt")} == {
        "status": "firing",
        "labels": {"alertname": "A", "job": "x"},
        "startsAt": "2023-11-14T22:13:20.000Z",
        "endsAt": "0001-01-01T00:00:00Z",
    }


def test_sent_notifications_are_not_sent_again(client: Client, namespace: str, web: Server) -> None:
    save(client, namespace, alert())
    first = notifier(namespace, web.url)
    first.step(client, NOW)
    web.wait_for(1)
    first.stop(client, 10)
    # Another process reads the log.
    second = notifier(namespace, web.url, "b")
    assert second.step(client, NOW + 6 * MINUTE) == 0
    assert len(web.posts) == 1


def test_it_is_sent_again_if_the_process_was_killed_before_it_was_logged(
    client: Client, admin: redis.Redis, namespace: str, web: Server
) -> None:
    save(client, namespace, alert())
    notifier(namespace, web.url).step(client, NOW)
    web.wait_for(1)
    # The first process does nothing more, and its lease ends.
    key = keys.alerts(namespace).leases
    holder, fence, _ = msgpack.unpackb(admin.hget(key, "notify"))
    admin.hset(key, "notify", msgpack.packb([holder, fence, 1]))
    second = notifier(namespace, web.url, "b")
    assert second.step(client, NOW + 1000) == 1
    web.wait_for(2)
    second.stop(client, 10)
    assert notifier(namespace, web.url, "c").step(client, NOW + 2000) == 0


def test_only_one_process_notifies(client: Client, namespace: str, web: Server) -> None:
    save(client, namespace, alert())
    first, second = notifier(namespace, web.url), notifier(namespace, web.url, "b")
    assert first.step(client, NOW) == 1
    assert second.step(client, NOW) == 0


def test_a_silenced_alert_is_not_sent(client: Client, namespace: str, web: Server) -> None:
    save(client, namespace, alert(job="x"), alert(job="y"))
    silence = check_silence(
        parse_matchers('job="x"'),
        starts_at=NOW - 1,
        ends_at=NOW + MINUTE,
        author="me",
        comment="deploying",
        now=NOW,
    )
    run(client, save_silence(namespace, silence, NOW))
    assert notifier(namespace, web.url).step(client, NOW) == 1
    web.wait_for(1)
    assert [each["labels"]["job"] for each in web.bodies[0]["alerts"]] == ["y"]


def test_resolved_alerts_are_sent(client: Client, namespace: str, web: Server) -> None:
    save(client, namespace, alert())
    sending = notifier(namespace, web.url)
    sending.step(client, NOW)
    web.wait_for(1)
    save(client, namespace, alert(RESOLVED))
    sending.outboxes["team", "webhook[0]"].stop(10)
    sending.stop(client, 10)
    after = notifier(namespace, web.url, "b")
    assert after.step(client, NOW + 5 * MINUTE) == 1
    web.wait_for(2)
    assert [(each["status"], len(each["alerts"])) for each in web.bodies] == [
        ("firing", 1),
        ("resolved", 1),
    ]


def taken(sending: Notifier) -> None:
    """Wait until the outboxes are empty."""
    for outbox in sending.outboxes.values():
        wait_until(lambda: not outbox.holds(f"team/webhook[0] {FINGERPRINT}"), "it is sent")  # noqa: B023


def test_a_resolved_alert_is_sent_even_if_its_state_is_gone(
    client: Client, namespace: str, web: Server
) -> None:
    save(client, namespace, alert())
    sending = notifier(namespace, web.url)
    sending.step(client, NOW)
    web.wait_for(1)
    taken(sending)
    # Within the interval of the group.
    save(client, namespace, alert(RESOLVED))
    assert sending.step(client, NOW + MINUTE) == 0
    save(client, namespace, at=NOW + 20 * MINUTE)
    assert sending.step(client, NOW + 2 * MINUTE) == 0
    assert sending.step(client, NOW + 20 * MINUTE) == 1
    web.wait_for(2)
    taken(sending)
    assert [each["status"] for each in web.bodies] == ["firing", "resolved"]
    assert sending.step(client, NOW + 300 * MINUTE) == 0


def test_a_receiver_that_was_down_for_long_gets_fired_and_resolved_alerts(
    client: Client, namespace: str, web: Server
) -> None:
    save(client, namespace, alert())
    web.answers.clear()
    sending = notifier(namespace, web.url)
    sending.step(client, NOW)
    web.wait_for(1)
    save(client, namespace, alert(RESOLVED), at=NOW + 20 * MINUTE)
    assert sending.step(client, NOW + 20 * MINUTE) == 0
    save(client, namespace, at=NOW + 60 * MINUTE)
    assert sending.step(client, NOW + 60 * MINUTE) == 0
    web.answers.set()
    taken(sending)
    assert sending.step(client, NOW + 90 * MINUTE) == 1
    web.wait_for(2)
    taken(sending)
    assert [each["status"] for each in web.bodies] == ["firing", "resolved"]


def test_alerts_of_a_group_that_nobody_evaluates_are_over(
    client: Client, namespace: str, web: Server
) -> None:
    save(client, namespace, alert())
    sending = notifier(namespace, web.url)
    sending.step(client, NOW)
    web.wait_for(1)
    taken(sending)
    assert sending.step(client, NOW + 14 * MINUTE) == 0
    assert sending.step(client, NOW + 21 * MINUTE) == 1
    web.wait_for(2)
    taken(sending)
    assert [each["status"] for each in web.bodies] == ["firing", "resolved"]
    # Not in a process that has just begun: all may have been away.
    sending.stop(client, 10)
    other = notifier(namespace, web.url, "b")
    save(client, namespace, alert(job="y"))
    assert other.step(client, NOW + 30 * MINUTE) == 1
    other.stop(client, 10)


def test_a_function_gets_the_payload(client: Client, namespace: str) -> None:
    save(client, namespace, alert())
    got: list[dict[str, object]] = []
    receiver = NotifyReceiver("default", functions=(Callback(got.append),))
    config = NotifyConfig(Route("{}", "default", group_wait=0), {"default": receiver})
    sending = Notifier(namespace, config, sender(config, ""), "a", 15_000)
    sending.step(client, NOW)
    sending.stop(client, 10)
    assert [each["status"] for each in got] == ["firing"]


def test_a_receiver_that_hangs_delays_no_other(client: Client, namespace: str, web: Server) -> None:
    save(client, namespace, alert())
    web.answers.clear()
    with receiving() as other:
        receiver = NotifyReceiver("team", (Webhook(web.url), Webhook(other.url)))
        config = NotifyConfig(Route("{}", "team", group_wait=0), {"team": receiver})
        sending = Notifier(namespace, config, sender(config, ""), "a", 15_000)
        assert sending.step(client, NOW) == 2
        other.wait_for(1)
        web.wait_for(1)
        # What hangs is not handed on again.
        assert sending.step(client, NOW + 1000) == 0


def test_a_failing_receiver_is_tried_again(web: Server) -> None:
    web.status = 503
    tries = []

    def send(thing: str) -> None:
        tries.append(thing)
        if len(tries) == 2:
            web.status = 200
        post_json(web.url, thing, 10)

    taken: list[str] = []
    times = iter(range(0, 10**6, 100))
    # Each look at the clock is 100 s later, so no pause takes time.
    outbox: Outbox[str] = Outbox("x", send, taken.append, clock=lambda: next(times))
    outbox.put("key", "alert")
    web.wait_for(2)
    outbox.stop(30)
    assert (taken, outbox.failed, outbox.sent) == (["alert"], 1, 1)


def test_a_newer_notification_replaces_a_waiting_one(web: Server) -> None:
    web.answers.clear()
    outbox: Outbox[str] = Outbox("x", lambda thing: post_json(web.url, thing, 10))
    outbox.put("first", "in hand")
    web.wait_for(1)
    outbox.put("key", "old")
    outbox.put("key", "new")
    web.answers.set()
    outbox.stop(30)
    assert web.bodies == ["in hand", "new"]


def test_the_oldest_is_dropped_beyond_the_bound(
    web: Server, caplog: pytest.LogCaptureFixture
) -> None:
    web.answers.clear()
    outbox: Outbox[int] = Outbox("x", lambda thing: post_json(web.url, thing, 10), size=3)
    outbox.put("first", 0)
    web.wait_for(1)
    with caplog.at_level(logging.ERROR, "redismetrics"):
        for number in range(1, 6):
            outbox.put(number, number)
    web.answers.set()
    outbox.stop(30)
    assert (web.bodies, outbox.dropped) == ([0, 3, 4, 5], 2)
    assert "was dropped" in caplog.text


@pytest.mark.parametrize(
    ("status", "may_retry"), [(400, False), (500, True), (429, True), (302, False)]
)
def test_refusals(web: Server, status: int, may_retry: bool) -> None:
    web.status = status
    with pytest.raises(SendingFailed, match=str(status)) as raised:
        post_json(f"{web.url}/secret-token", {}, 10)
    assert raised.value.may_retry == may_retry
    # A redirect is not followed, and the URL is not shown.
    assert len(web.posts) == 1
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/secret", "http://nosuch.invalid/secret"])
def test_unreachable_receivers(url: str) -> None:
    with pytest.raises(SendingFailed, match="cannot be reached") as raised:
        post_json(url, {}, 5)
    assert "secret" not in str(raised.value)


def test_a_user_and_password_in_the_url_are_sent_as_a_header(web: Server) -> None:
    address = web.url.removeprefix("http://")
    post_json(f"http://me:p%40ss@{address}/hook", {}, 10)
    ((path, _, headers),) = web.posts
    assert (path, headers["Host"]) == ("/hook", address)
    assert b64decode(headers["Authorization"].removeprefix("Basic ")) == b"me:p@ss"


def test_a_token_is_sent_as_a_header(web: Server) -> None:
    post_json(web.url, {}, 10, "s3cret")
    assert web.posts[0][2]["Authorization"] == "Bearer s3cret"


def test_failed_requests_are_not_retried_after_another_process_took_over(web: Server) -> None:
    web.status = 503
    web.answers.clear()
    outbox: Outbox[str] = Outbox("x", lambda thing: post_json(web.url, thing, 10))
    outbox.put("a", "old")
    web.wait_for(1)
    outbox.clear()
    outbox.put("b", "new")
    web.answers.set()
    web.wait_for(2)
    outbox.stop(10)
    assert web.bodies[:2] == ["old", "new"]
    assert "old" not in web.bodies[1:]


def test_accepted_notifications_are_logged_once_redis_is_back(
    client: Client, admin: redis.Redis, namespace: str, web: Server
) -> None:
    save(client, namespace, alert())
    one = notifier(namespace, web.url)
    assert one.step(client, NOW) == 1
    (outbox,) = one.outboxes.values()
    outbox.stop(10)
    sent = keys.alerts(namespace).sent
    admin.set(sent, "of another kind")
    with pytest.raises(ScriptFailed):
        one.step(client, NOW)
    admin.delete(sent)
    one.step(client, NOW)
    assert [each.sent_at for each in run(client, read_log(namespace)).values()] == [NOW]


def test_rejected_notifications_wait_for_the_group_interval(
    client: Client, namespace: str, web: Server
) -> None:
    save(client, namespace, alert())
    web.status = 400
    one = notifier(namespace, web.url)
    assert one.step(client, NOW) == 1
    (outbox,) = one.outboxes.values()
    outbox.stop(30)
    assert (outbox.dropped, outbox.holds("x")) == (1, False)
    # The service takes a step each second.
    assert [one.step(client, NOW + second * 1000) for second in range(1, 300)] == [0] * 299
    assert one.step(client, NOW + 5 * MINUTE) == 1


def test_a_new_holder_sends_nothing_before_it_has_read_the_log(
    client: Client, admin: redis.Redis, namespace: str, web: Server
) -> None:
    save(client, namespace, alert())
    first = notifier(namespace, web.url)
    first.step(client, NOW)
    first.stop(client, 30)
    sent = keys.alerts(namespace).sent
    admin.rename(sent, f"{sent}:away")
    admin.set(sent, "of another kind")
    second = notifier(namespace, web.url, "b")
    with pytest.raises(ScriptFailed):
        second.step(client, NOW + 1000)
    admin.rename(f"{sent}:away", sent)
    assert second.step(client, NOW + 2000) == 0
    assert len(web.posts) == 1
