"""Unreadable data of alerts in Redis does not affect the rest."""

from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import redis

from redismetrics.alerts.label_matchers import check_matcher
from redismetrics.alerts.listing import findings, list_rules
from redismetrics.alerts.notify.groups import Sent
from redismetrics.alerts.notify.log_store import read_log
from redismetrics.alerts.silences import check_silence, list_silences, save_silence
from redismetrics.alerts.store import history, load_group, load_groups, note_other_text
from redismetrics.store import keys
from redismetrics.store.connection import Store
from redismetrics.store.driver import Client, run

from .test_runner import MINUTE, START, Process, states

HOSTILE = [
    b"",
    b"\xc1",
    b"\xff" * 40,
    msgpack.packb(7),
    msgpack.packb([]),
    msgpack.packb({"rules": 3}),
    msgpack.packb([[1], 2, "x", "gone", -1, 1 << 60, None, 0, 0]),
    msgpack.packb([{"a": 1}, {}, 1.0, "firing", 0, 0, 0, 0, 0]),
    msgpack.packb([{"a": "b"}, {}, 1.0, "firing", 1 << 60, 0, 0, 0, 0]),
]


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    store = Store(url, 5.0)
    yield store.client()
    store.close()


@pytest.fixture
def process(client: Client, namespace: str) -> Process:
    """A process that has seen an alert fire."""
    process = Process(client, namespace, "a")
    for minute in range(3):
        assert process.pass_at(START + minute * MINUTE, ({"job": "x"}, 1.0))
    assert states(client, namespace) == ["firing"]
    return process


def fields(admin: redis.Redis, namespace: str) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = admin.hgetall(keys.alert_group(namespace, "a.yml;g"))
    return found


def go_on(client: Client, namespace: str) -> None:
    """Continue in another process, as after a restart, and check everything that shows alerts."""
    other = Process(client, namespace, "a")
    assert other.pass_at(START + 3 * MINUTE, ({"job": "x"}, 1.0), ({"job": "y"}, 1.0))
    groups = run(client, load_groups(namespace))
    assert len(run(client, list_rules(namespace))[0]["rules"]) == 1
    findings(groups, START)
    assert not groups["a.yml;g"].unreadable
    assert not run(client, note_other_text(namespace, "a.yml;g", other_digest(groups), START))


def other_digest(groups: Any) -> str:
    text: str = groups["a.yml;g"].status.text
    return text


@pytest.mark.parametrize("value", HOSTILE)
def test_an_alert_that_cannot_be_read_is_forgotten(
    process: Process, client: Client, admin: redis.Redis, namespace: str, value: bytes
) -> None:
    key = keys.alert_group(namespace, "a.yml;g")
    admin.hset(key, "Down 0123", value)
    go_on(client, namespace)
    # The alert that can be read keeps its state, and the new one gets its own.
    assert states(client, namespace) == ["firing", "pending"]
    assert b"Down 0123" not in fields(admin, namespace)


@pytest.mark.parametrize("name", [b"", b"rules", b"other"])
@pytest.mark.parametrize("value", HOSTILE)
def test_fields_of_a_group_that_cannot_be_read_are_written_again(
    process: Process,
    client: Client,
    admin: redis.Redis,
    namespace: str,
    name: bytes,
    value: bytes,
) -> None:
    before = fields(admin, namespace)
    admin.hset(keys.alert_group(namespace, "a.yml;g"), name, value)
    assert run(client, load_group(namespace, "a.yml;g")).alerts
    go_on(client, namespace)
    assert states(client, namespace) == ["firing", "pending"]
    assert before.keys() <= fields(admin, namespace).keys()


@pytest.mark.parametrize("value", [*HOSTILE, msgpack.packb([1, 2, 3, 4, 5, 6, 7, 8])])
def test_an_entry_of_the_history_that_cannot_be_read_is_left_out(
    process: Process, client: Client, admin: redis.Redis, namespace: str, value: bytes
) -> None:
    admin.zadd(keys.alerts(namespace).history, {value: START})
    assert [each.after for each in run(client, history(namespace, 0, 10))] == ["firing", "pending"]


@pytest.mark.parametrize(
    "value", [*HOSTILE, msgpack.packb([[["a", "(", True, True]], 0, 1 << 41, "me", "why", 0])]
)
def test_a_silence_that_cannot_be_read_hides_no_other(
    client: Client, admin: redis.Redis, namespace: str, value: bytes
) -> None:
    silence = check_silence(
        [check_matcher("job", "x", is_regex=False, is_equal=True)],
        starts_at=START,
        ends_at=START + MINUTE,
        author="me",
        comment="why",
        now=START,
    )
    run(client, save_silence(namespace, silence, START))
    admin.hset(keys.alerts(namespace).silences, "broken", value)
    assert run(client, list_silences(namespace, START)) == [silence]
    run(client, save_silence(namespace, silence, START))
    assert list(admin.hgetall(keys.alerts(namespace).silences)) == [silence.id.encode()]


@pytest.mark.parametrize("value", [*HOSTILE, msgpack.packb([1, 2, 3, [[4]], []])])
def test_an_unreadable_entry_of_the_notification_log_hides_no_other(
    client: Client, admin: redis.Redis, namespace: str, value: bytes
) -> None:
    known = msgpack.packb([1, 2, 3, ["abc"], []])
    admin.hset(keys.alerts(namespace).sent, mapping={"team/webhook[0] 1": known, "b": value})
    assert run(client, read_log(namespace)) == {
        "team/webhook[0] 1": Sent(1, 2, 3, frozenset({"abc"}), frozenset())
    }
