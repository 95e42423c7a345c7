"""The command `doctor`: output and exit status."""

import json
from collections.abc import Callable

import pytest

from tests.fixtures.diagnoses import CHECKS
from tests.fixtures.servers import Server
from tests.fixtures.shell import Shell


@pytest.mark.slow
def test_doctor_prints_the_report_and_its_exit_status_says_if_healthy(
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
    report = json.loads(out)
    assert (status, report["healthy"]) == (1, False)
    assert set(report["findings"][0]) == {"check", "status", "found", "advice", "details"}
    with server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
    assert shell("doctor")[0] == 0
    status, screen = shell.at_a_terminal("doctor")
    assert status == 0
    assert "ok" in screen
    assert "noeviction" in screen
