"""What the doctor finds about a namespace: format, scripts, workers, losses, sizes."""

import time
from collections.abc import Callable
from typing import Any

from redismetrics import Metrics
from redismetrics.admin.doctor import examine
from tests.fixtures.diagnoses import by_check, statuses
from tests.fixtures.recorded import change_recorded
from tests.fixtures.servers import Server


def test_a_missing_worker_is_a_warning_and_later_a_failure(
    fresh_server: Callable[..., Server],
) -> None:
    server = fresh_server()
    with server.client() as client, Metrics(server.url) as metrics:
        metrics.increment("jobs")
        metrics.flush()
        assert statuses(examine(server.url)) == {"workers": "warning"}
        change_recorded(client, "default", "jobs", waiting=int((time.time() - 900) * 1e6))
        assert statuses(examine(server.url)) == {"workers": "failure"}
        assert "jobs has waited longest, 900 s" in by_check(examine(server.url))["workers"].found
        client.zadd("rm:default:workers", {"another": time.time() * 1000})
        assert statuses(examine(server.url)) == {"workers": "failure"}
        change_recorded(client, "default", "jobs", waiting=int((time.time() - 90) * 1e6))
        assert statuses(examine(server.url)) == {"workers": "warning"}


def test_losses_and_a_metric_near_its_limit_are_reported(
    server: Server, namespace: str, monkeypatch: Any
) -> None:
    with server.client() as client, Metrics(server.url, namespace=namespace) as metrics:
        for number in range(9):
            metrics.increment("jobs", tags={"id": str(number)})
        metrics.flush()
        change_recorded(client, namespace, "jobs", never_sealed=7)
        monkeypatch.setenv("REDISMETRICS_MAX_SERIES", "10")
        found = by_check(examine(server.url, namespace=namespace))
    assert found["losses"].status == found["metrics"].status == "warning"
    assert found["losses"].details == {"never_sealed": 7, "late": 0, "metric": "jobs"}
    assert "max_series=10" in found["metrics"].advice


def test_another_format_is_a_failure(server: Server, namespace: str) -> None:
    with server.client() as client:
        client.hset(f"rm:{namespace}:config", mapping={"format": 99, "shards": 1})
    found = by_check(examine(server.url, namespace=namespace))
    assert found["format"].status == "failure"
    assert "got 99" in found["format"].found


def test_a_script_that_fails_is_a_failure(server: Server, namespace: str) -> None:
    with server.client() as client:
        client.set(f"rm:{{{namespace}:0}}:writers", "not a hash")
    assert by_check(examine(server.url, namespace=namespace))["scripts"].status == "failure"
