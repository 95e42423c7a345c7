"""`worker` and `export` on the command line."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import redismetrics
from redismetrics import Metrics
from tests.fixtures.home import Home, needs_server
from tests.fixtures.servers import Server
from tests.fixtures.shell import Shell


@pytest.mark.slow
def test_worker_once_shows_a_bar_at_a_terminal_only(
    fresh_server: Callable[..., Server], namespace: str
) -> None:
    server = fresh_server()
    shell = Shell(server.url, namespace)
    with Metrics(server.url, namespace=namespace, flush_interval=3600) as metrics:
        for number in range(30):
            metrics.increment(f"jobs_{number}", 2)
        metrics.flush()
        status, out, err = shell.process("worker", "--once", "--json")
        assert (status, json.loads(out)["samples"]) == (0, 30)
        assert "\x1b" not in err
        assert all(re.match(r"\d{4}-\d\d-\d\d \S+ INFO ", line) for line in err.splitlines())
        for number in range(30):
            metrics.increment(f"jobs_{number}", 3)
        metrics.flush()
        status, out = shell.at_a_terminal("worker", "--once")
    assert status == 0
    assert re.search(r"working +━+ +30/30 +30 samples sealed", out), out
    assert re.search(r"[\r\n]\d{4}-\d\d-\d\d \S+ INFO 30 samples sealed", out), out


def test_the_help_of_worker_and_export_names_the_command(shell: Shell) -> None:
    for command in ("worker", "export"):
        status, out, _ = shell(command, "--help")
        assert status == 0
        assert out.startswith(f"usage: redismetrics {command} ")


def test_the_help_of_worker_says_where_the_options_of_alerts_are(shell: Shell) -> None:
    status, out, _ = shell("worker", "--help")
    assert status == 0
    assert "--rules" in out
    assert "options of `redismetrics alerts run`" in " ".join(out.split())


def test_a_wrong_duration_names_its_option(shell: Shell) -> None:
    status, _, err = shell("alerts", "run", "--rules", "rules.yml", "--lease", "15")
    assert (status, "--lease must be a duration such as 15s: " in err) == (2, True), err


@pytest.mark.slow
@needs_server
def test_export_passes_its_options_on(
    home: Home, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home.folder))
    url = f"embedded://{folder}"
    with redismetrics.Metrics(url, namespace="here") as metrics:
        metrics.declare("jobs", "counter", help="Jobs.")
        metrics.increment("jobs", 3)
        metrics.gauge("queue_depth", 42)
        metrics.flush()
        store = (f"--url={url}", "--namespace", "here")
        text = "# HELP jobs_total Jobs.\n# TYPE jobs_total counter\njobs_total 3\n"
        assert home.run("export", *store, "--metric", "jobs") == (0, text, "")
        text = "# TYPE jobs counter\n# HELP jobs Jobs.\njobs_total 3\n# EOF\n"
        assert home.run("export", "--metric", "jobs", *store, "--openmetrics") == (0, text, "")
