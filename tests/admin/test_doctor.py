"""The doctor tells what is wrong with real servers, whoever asks, and hides passwords."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from redismetrics import InvalidSetting, Metrics
from redismetrics.admin.doctor import examine
from redismetrics.admin.findings import Diagnosis, Finding
from redismetrics.admin.server_checks import is_password_exposed
from redismetrics.settings import resolve
from redismetrics.store.connection import Store
from redismetrics.worker import Worker
from tests.cli.test_commands import Shell
from tests.fixtures.clusters import Cluster
from tests.fixtures.servers import Server, wait_until

CHECKS = [
    "connection", "server", "memory", "eviction", "persistence", "clock", "scripts", "format", "workers", "losses", "metrics",
]  # fmt: skip


def by_check(report: Diagnosis) -> dict[str, Finding]:
    found = {finding.check: finding for finding in report.findings}
    assert len(found) == len(report.findings)
    for finding in report.findings:
        assert bool(finding.advice) == (finding.status != "ok"), finding
    return found


def statuses(report: Diagnosis) -> dict[str, str]:
    return {
        check: finding.status
        for check, finding in by_check(report).items()
        if finding.status != "ok"
    }


def work(url: str, namespace: str = "default") -> Worker:
    settings = resolve(url=url, namespace=namespace)
    worker = Worker(settings, Store(settings.url, settings.socket_timeout))
    worker.pass_once()
    return worker


def test_a_store_that_is_well_has_nothing_to_tell(fresh_server: Callable[..., Server]) -> None:
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


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"), {"eviction": "failure"}),
        (("--maxmemory-policy", "volatile-ttl"), {"eviction": "warning"}),
        (("--appendonly", "no", "--save", ""), {"persistence": "warning"}),
        (("--appendonly", "no", "--save", "3600", "1"), {}),
    ],
)
def test_how_the_server_is_set_up_is_told(
    fresh_server: Callable[..., Server], args: tuple[str, ...], wanted: dict[str, str]
) -> None:
    report = examine(fresh_server(args=args).url)
    assert statuses(report) == wanted
    assert report.healthy == ("failure" not in wanted.values())


@pytest.mark.parametrize(("share", "wanted"), [(0.99, "failure"), (0.88, "warning"), (0.5, "ok")])
def test_a_server_that_fills_up_is_told(
    fresh_server: Callable[..., Server], share: float, wanted: str
) -> None:
    server = fresh_server(
        args=("--appendonly", "no", "--save", "3600", "1000")
    )  # no buffer that comes and goes
    with server.client() as client:
        client.set("ballast", b"x" * 30_000_000)
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", round(used / share))
        assert by_check(examine(server.url))["memory"].status == wanted


def test_keys_that_were_evicted_are_told_after_the_policy_was_mended(
    fresh_server: Callable[..., Server],
) -> None:
    server = fresh_server()
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-random")
        client.set("ballast", b"x" * 5_000_000)
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) - 2_000_000)
        client.set("more", "1")
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")
    finding = by_check(examine(server.url))["eviction"]
    assert (finding.status, finding.details["evicted_keys"] > 0) == ("warning", True)


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [(0, "ok"), (5, "warning"), (-5, "warning"), (400, "failure"), (-400, "failure")],
)
def test_clocks_that_differ_are_told(url: str, namespace: str, seconds: int, wanted: str) -> None:
    finding = by_check(examine(url, namespace=namespace, clock=lambda: time.time() + seconds))[
        "clock"
    ]
    assert finding.status == wanted
    assert finding.details["skew_seconds"] == pytest.approx(-seconds, abs=0.5)


def test_nobody_who_seals_is_told_and_soon_a_failure(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server()
    with server.client() as client, Metrics(server.url) as metrics:
        metrics.increment("jobs")
        metrics.flush()
        assert statuses(examine(server.url)) == {"workers": "warning"}
        state = "rm:{default:0}:jobs:state"
        client.hset(state, "waiting", int((time.time() - 900) * 1e6))
        assert statuses(examine(server.url)) == {"workers": "failure"}
        assert "jobs waits longest, 900 s" in by_check(examine(server.url))["workers"].found
        client.zadd("rm:default:workers", {"another": time.time() * 1000})
        assert statuses(examine(server.url)) == {"workers": "failure"}
        client.hset(state, "waiting", int((time.time() - 90) * 1e6))
        assert statuses(examine(server.url)) == {"workers": "warning"}


def test_what_was_lost_and_a_metric_near_its_limit_are_told(
    server: Server, namespace: str, monkeypatch: Any
) -> None:
    with server.client() as client, Metrics(server.url, namespace=namespace) as metrics:
        for number in range(9):
            metrics.increment("jobs", tags={"id": str(number)})
        metrics.flush()
        client.hset(f"rm:{{{namespace}:0}}:jobs:state", "never_sealed", 7)
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


def test_a_reader_is_told_all_it_may_ask_and_what_it_may_not(
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
    asked_not = ("server", "memory", "eviction", "persistence", "scripts")
    assert statuses(report) == dict.fromkeys(asked_not, "warning")
    assert {found[check].found for check in asked_not} == {"this user has no permission"}
    assert "+info" in found["memory"].advice
    assert "+script|load" in found["scripts"].advice
    assert found["metrics"].details["series"] == 1
    assert "sec" not in json.dumps(report.to_dict()).replace("seconds", "")


def test_a_replica_is_told(fresh_server: Callable[..., Server]) -> None:
    primary = fresh_server(port=True, args=("--repl-diskless-sync-delay", "0"))
    replica = fresh_server(args=("--replicaof", "127.0.0.1", str(primary.port)))
    found = by_check(examine(replica.url))
    assert found["server"].status == "warning"
    assert found["scripts"].status == "ok"


def test_a_store_that_does_not_answer_is_one_failure(fresh_server: Callable[..., Server]) -> None:
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


def test_a_wrong_setting_is_raised() -> None:
    with pytest.raises(InvalidSetting, match="url"):
        examine("http://elsewhere")


def test_the_command_shows_the_report_and_ends_with_its_verdict(
    fresh_server: Callable[..., Server],
) -> None:
    server = fresh_server(args=("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"))
    shell = Shell(server.url, "default")
    status, out, err = shell("doctor")
    assert (status, err) == (1, "")
    lines = [line.split("\t") for line in out.splitlines()]
    assert [line[1] for line in lines] == CHECKS
    assert next(line for line in lines if line[1] == "eviction")[0] == "failure"
    status, out, _ = shell("doctor", "--json")
    told = json.loads(out)
    assert (status, told["healthy"]) == (1, False)
    assert set(told["findings"][0]) == {"check", "status", "found", "advice", "details"}
    with server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
    assert shell("doctor")[0] == 0
    status, screen = shell.at_a_terminal("doctor")
    assert status == 0
    assert "ok" in screen
    assert "noeviction" in screen


# -- a cluster ------------------------------------------------------------------------------------------------------


def test_of_a_cluster_every_primary_is_looked_at(
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
        found = by_check(examine(cluster.url, namespace=namespace, socket_timeout=0.3))
        assert found["connection"].status == "ok"
        for check in ("server", "memory", "eviction", "persistence", "clock"):
            assert found[check].status == "failure"
            assert found[check].found.startswith(
                f"127.0.0.1:{cluster.nodes[1].port}: Redis did not answer"
            )
        metrics.close(0.1)


@pytest.mark.parametrize(
    ("url", "overheard"),
    [
        ("redis+cluster://:pw@10.255.0.1:1,10.255.0.2:2", True),
        ("redis+cluster://:pw@127.0.0.1:1,localhost:2", False),
        ("rediss+cluster://:pw@10.255.0.1:1", False),
        ("redis+sentinel://10.255.0.1:1/store?sentinel_password=pw", True),
        ("redis+cluster://10.255.0.1:1", False),
    ],
)
def test_a_password_that_crosses_the_network_is_noticed_whatever_the_url(
    url: str, overheard: bool
) -> None:
    assert is_password_exposed(url) is overheard
