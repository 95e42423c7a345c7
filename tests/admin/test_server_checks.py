"""What the doctor finds about servers: setup, memory, eviction, clock, passwords."""

import time
from collections.abc import Callable

import pytest

from redismetrics.admin.doctor import examine
from redismetrics.admin.server_checks import is_password_exposed
from tests.fixtures.diagnoses import by_check, statuses
from tests.fixtures.servers import Server


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"), {"eviction": "failure"}),
        (("--maxmemory-policy", "volatile-ttl"), {"eviction": "warning"}),
        (("--appendonly", "no", "--save", ""), {"persistence": "warning"}),
        (("--appendonly", "no", "--save", "3600", "1"), {}),
    ],
)
def test_the_setup_of_the_server_is_judged(
    fresh_server: Callable[..., Server], args: tuple[str, ...], expected: dict[str, str]
) -> None:
    report = examine(fresh_server(args=args).url)
    assert statuses(report) == expected
    assert report.healthy == ("failure" not in expected.values())


@pytest.mark.parametrize(("share", "expected"), [(0.99, "failure"), (0.88, "warning"), (0.5, "ok")])
def test_a_server_that_fills_up_is_reported(
    fresh_server: Callable[..., Server], share: float, expected: str
) -> None:
    server = fresh_server(
        args=("--appendonly", "no", "--save", "3600", "1000")
    )  # no buffer that comes and goes
    with server.client() as client:
        client.set("ballast", b"x" * 30_000_000)
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", round(used / share))
        assert by_check(examine(server.url))["memory"].status == expected


def test_evicted_keys_are_reported_after_the_policy_was_corrected(
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
    ("seconds", "expected"),
    [(0, "ok"), (5, "warning"), (-5, "warning"), (400, "failure"), (-400, "failure")],
)
def test_different_clocks_are_reported(
    url: str, namespace: str, seconds: int, expected: str
) -> None:
    finding = by_check(examine(url, namespace=namespace, clock=lambda: time.time() + seconds))[
        "clock"
    ]
    assert finding.status == expected
    assert finding.details["skew_seconds"] == pytest.approx(-seconds, abs=3)


def test_a_replica_is_reported(fresh_server: Callable[..., Server]) -> None:
    primary = fresh_server(port=True, args=("--repl-diskless-sync-delay", "0"))
    replica = fresh_server(args=("--replicaof", "127.0.0.1", str(primary.port)))
    found = by_check(examine(replica.url))
    assert found["server"].status == "warning"
    assert found["scripts"].status == "ok"


@pytest.mark.parametrize(
    ("url", "exposed"),
    [
        ("redis+cluster://:pw@10.255.0.1:1,10.255.0.2:2", True),
        ("redis+cluster://:pw@127.0.0.1:1,localhost:2", False),
        ("rediss+cluster://:pw@10.255.0.1:1", False),
        ("redis+sentinel://10.255.0.1:1/store?sentinel_password=pw", True),
        ("redis+cluster://10.255.0.1:1", False),
    ],
)
def test_a_password_without_tls_is_detected_in_any_url(url: str, exposed: bool) -> None:
    assert is_password_exposed(url) is exposed
