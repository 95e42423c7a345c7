"""The doctor examines real servers and a cluster, and changes nothing."""

import json
from collections.abc import Callable

import pytest

from redismetrics import InvalidSetting, Metrics
from redismetrics.admin.doctor import examine
from tests.fixtures.clusters import Cluster
from tests.fixtures.diagnoses import CHECKS, by_check, statuses, work
from tests.fixtures.servers import Server, wait_until


def test_a_healthy_server_has_no_warnings(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server()
    with Metrics(server.url) as metrics:
        metrics.increment("jobs", 3, tags={"queue": "mail"})
        metrics.flush()
        worker = work(server.url)
        report = examine(server.url)
    assert list(by_check(report)) == CHECKS
    assert statuses(report) == {}
    assert report.healthy
    details = {check: finding.details for check, finding in by_check(report).items()}
    assert details["connection"]["namespace"] == "default"
    assert details["scripts"] == {"ran": 2}
    assert details["workers"] == {"workers": 1, "silent": 0, "lag_seconds": 0, "writers": 1}
    assert details["metrics"]["series"] == 1
    assert details["metrics"]["most_series"] == [{"metric": "jobs", "series": 1}]
    assert details["metrics"]["bytes"] > 0
    worker.leave()


def test_examining_changes_nothing(server: Server, namespace: str) -> None:
    with server.client() as client, Metrics(server.url, namespace=namespace) as metrics:
        metrics.increment("jobs")
        metrics.flush()
        before = {key: client.dump(key) for key in client.keys(f"rm:*{namespace}*")}
        examine(server.url, namespace=namespace)
        assert {key: client.dump(key) for key in client.keys(f"rm:*{namespace}*")} == before
        examine(server.url, namespace=f"{namespace}-none")
        assert client.keys(f"rm:*{namespace}-none*") == []


def test_a_reader_gets_most_findings_and_the_missing_permissions(
    fresh_server: Callable[..., Server],
) -> None:
    server = fresh_server(port=True)
    with server.client() as client:
        client.execute_command(
            "ACL",
            "SETUSER",
            "reader",
            "on",
            ">sec:ret",
            "resetchannels",
            "~rm:*",
            "-@all",
            "+@read",
            "+time",
        )
    with Metrics(server.url) as metrics:
        metrics.increment("jobs")
        metrics.flush()
        work(server.url).leave()
        metrics.increment("jobs")
        metrics.flush()
        worker = work(server.url)
        report = examine(f"redis://reader:sec%3Aret@127.0.0.1:{server.port}/0")
        worker.leave()
    found = by_check(report)
    assert report.healthy
    assert list(found) == CHECKS
    not_permitted = ("server", "memory", "eviction", "persistence", "scripts")
    assert statuses(report) == dict.fromkeys(not_permitted, "warning")
    assert {found[check].found for check in not_permitted} == {"this user has no permission"}
    assert "+info" in found["memory"].advice
    assert "+script|load" in found["scripts"].advice
    assert found["metrics"].details["series"] == 1
    assert "sec" not in json.dumps(report.to_dict()).replace("seconds", "")


def test_a_server_that_does_not_answer_is_one_failure(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server(port=True)
    with server.client() as client:
        client.config_set("requirepass", "secret")
    (refused,) = examine(f"redis://:wr0ng@127.0.0.1:{server.port}/0").findings
    assert (refused.check, refused.status) == ("connection", "failure")
    assert "wr0ng" not in str(refused)
    assert "password" in refused.advice
    server.kill()
    report = examine(f"redis://:secret@127.0.0.1:{server.port}/0")
    (gone,) = report.findings
    assert not report.healthy
    assert (gone.check, gone.status) == ("connection", "failure")
    assert "secret" not in str(gone)
    assert f":***@127.0.0.1:{server.port}" in gone.found


def test_an_invalid_setting_is_raised() -> None:
    with pytest.raises(InvalidSetting, match="url"):
        examine("http://elsewhere")


@pytest.mark.slow
def test_every_primary_of_a_cluster_is_checked(
    server: Server, fresh_server: Callable[..., Server], namespace: str
) -> None:
    if server.release < (7,):
        pytest.skip(
            "before Redis 7 a node's second port can't be chosen, and so may be taken or none"
        )
    cluster = Cluster(fresh_server)
    with Metrics(cluster.url, namespace=namespace) as metrics:
        for number in range(20):
            metrics.increment(f"jobs_{number}")
        metrics.flush()
        worker = work(cluster.url, namespace)
        report = examine(cluster.url, namespace=namespace)
        assert list(by_check(report)) == CHECKS
        assert statuses(report) == {}
        addresses = {f"127.0.0.1:{node.port}" for node in cluster.nodes}
        for check in ("server", "memory", "eviction", "persistence", "clock"):
            assert set(by_check(report)[check].details["nodes"]) == addresses
        assert "on all 3 primaries" in by_check(report)["server"].found
        assert by_check(report)["format"].details["shards"] == 16
        for number in range(3):  # whichever of them it is
            with cluster.nodes[number].client() as client:
                client.config_set("maxmemory-policy", "allkeys-lru")
                used = int(client.info("memory")["used_memory"])
                client.config_set("maxmemory", used * 10)
                found = by_check(examine(cluster.url, namespace=namespace))
                assert found["eviction"].status == "failure"
                assert found["eviction"].found.startswith(
                    f"127.0.0.1:{cluster.nodes[number].port}: allkeys-lru"
                )
                client.config_set("maxmemory-policy", "noeviction")
                client.config_set("maxmemory", round(used / 0.9))
                found = by_check(examine(cluster.url, namespace=namespace))
                assert found["memory"].status in ("warning", "failure")
                assert str(cluster.nodes[number].port) in found["memory"].found
                client.config_set("maxmemory", 0)
                client.config_set("appendonly", "no")
                found = by_check(examine(cluster.url, namespace=namespace))
                assert found["persistence"].status == "warning"
                assert found["persistence"].found == f"127.0.0.1:{cluster.nodes[number].port}: none"
                client.config_set("appendonly", "yes")
                wait_until(
                    lambda: client.info("persistence")["aof_rewrite_in_progress"] == 0,
                    "it appends again",
                )
        assert statuses(examine(cluster.url, namespace=namespace)) == {}
        for number in range(3):
            cluster.command(
                number,
                "ACL",
                "SETUSER",
                "reader",
                "on",
                ">pw",
                "~rm:*",
                "+@read",
                "+time",
                "+cluster|slots",
            )
        asking = examine(cluster.url.replace("://", "://reader:pw@"), namespace=namespace)
        assert by_check(asking)["memory"].found == "this user has no permission, on all 3 primaries"
        worker.leave()
        cluster.nodes[1].kill()
        found = by_check(examine(cluster.url, namespace=namespace, socket_timeout=2))
        assert found["connection"].status == "ok"
        for check in ("server", "memory", "eviction", "persistence", "clock"):
            assert found[check].status == "failure"
            assert found[check].found.startswith(
                f"127.0.0.1:{cluster.nodes[1].port}: Redis did not answer"
            )
        metrics.close(0.1)
