"""States, history and silences of alerts are copied, and removed by clear."""

import redis

from redismetrics import Metrics
from redismetrics.admin import copy
from redismetrics.alerts.notify.groups import Sent
from redismetrics.alerts.notify.log_store import LEASE, read_log, write_log
from redismetrics.alerts.packing import GroupStatus, SavedAlert, StateChange
from redismetrics.alerts.states import FIRING, Alert
from redismetrics.alerts.store import SavedGroup, alert_field, load_groups, save_group
from redismetrics.store import keys
from redismetrics.store.lease import take
from tests.fixtures.servers import Server

NOW = 1_790_000_000_000


def fill(metrics: Metrics) -> None:
    """Write a group, 1,500 changes of states, a silence, and the log of a notification."""
    run, namespace = metrics.internals.run, metrics.settings.namespace
    metrics.increment("jobs")
    metrics.flush()
    fence = run(take(keys.alerts(namespace).leases, "g", "me", 60_000)).fence
    alert = Alert({"alertname": "A"}, {"summary": "x"}, 1.0, FIRING, NOW, NOW)
    changes = [StateChange(NOW, "g", "A", {"n": str(n)}, "a", "b", 1.0) for n in range(1500)]
    status = GroupStatus(name="g", evaluated_at=NOW)
    group = SavedGroup(status, {alert_field("r", alert): SavedAlert(alert, NOW)})
    assert run(save_group(namespace, "g", fence, SavedGroup(), group, changes))
    fence = run(take(keys.alerts(namespace).leases, LEASE, "me", 60_000)).fence
    assert run(write_log(namespace, fence, {"a": Sent(NOW, NOW, NOW)}, []))
    metrics.silence_alerts("a=b", comment="x", author="y")


def alerts_of(metrics: Metrics) -> list[object]:
    run, namespace = metrics.internals.run, metrics.settings.namespace
    return [
        run(load_groups(namespace)),
        metrics.alert_history(since=0, limit=10_000),
        metrics.list_silences(),
        run(read_log(namespace)),
    ]


def test_alerts_are_copied(metrics: Metrics, second_server: Server, namespace: str) -> None:
    fill(metrics)
    copy(metrics.settings.url, second_server.url, namespace=namespace, allow_active=True)
    with Metrics(second_server.url, namespace=namespace) as there:
        before, after = alerts_of(metrics), alerts_of(there)
        # Changes of one time have no order.
        for each in (before, after):
            each[1] = sorted(each[1], key=str)  # type: ignore[call-overload]
        assert after == before
        assert len(there.alert_history(since=0, limit=10_000)) == 1500
    with second_server.client() as client:
        for key in client.keys(f"rm:{{{namespace}:alerts}}:*"):
            assert client.pttl(key) > 0


def test_clear_removes_alerts(metrics: Metrics, admin: redis.Redis, namespace: str) -> None:
    fill(metrics)
    metrics.clear(confirm=True)
    assert admin.keys(f"*{namespace}*alerts*") == []
