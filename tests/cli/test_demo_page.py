"""`demo --web`: it keeps recording, serves the page, opens it, and leaves nothing behind."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.cli.demo_traffic import RULES, Traffic
from tests.fixtures.home import Home, needs_server
from tests.fixtures.shell import Shell

PATIENCE = 60.0
NAMES = {
    "bytes_sent",
    "cache_hit_ratio",
    "jobs_completed",
    "queue_depth",
    "response_time_seconds",
    "training_loss",
    "worker_memory_bytes",
}


@pytest.fixture
def opened(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file to which a browser that the demo starts writes the address."""
    browser, file = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" >"{file}.new"\nmv "{file}.new" "{file}"\n')
    browser.chmod(0o755)
    monkeypatch.setitem(home.environment, "BROWSER", f"{browser} %s")
    return file


@pytest.fixture
def served(home: Home, opened: Path) -> Any:
    pytest.importorskip("uvicorn", reason="needs redismetrics[server]")
    with home.start("demo", "--web", start_new_session=True) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            ready = next(line for line in lines if line.startswith("serving on "))
            yield process, ready.split()[-1]
        finally:
            process.kill()


def eventually(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + PATIENCE
    while not (found := holds()) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def ask(address: str, path: str) -> Any:
    with urllib.request.urlopen(f"{address}/api/{path}", timeout=PATIENCE) as response:
        return json.load(response)


# Five processes start: on a busy machine that takes long.
@pytest.mark.timeout(400)
@pytest.mark.slow
@needs_server
@pytest.mark.parametrize(
    ("number", "send", "code", "message"),
    [
        (signal.SIGINT, os.killpg, 130, "Stopped. Nothing is left behind.\n"),
        (signal.SIGTERM, os.kill, 128 + signal.SIGTERM, ""),
    ],
    ids=["ctrl-c", "terminated"],
)
def test_the_page_shows_an_hour_and_runs_until_a_signal(
    home: Home, served: Any, opened: Path, number: int, send: Any, code: int, message: str
) -> None:
    process, address = served
    assert eventually(opened.exists)
    assert opened.read_text() == f"{address}\n"
    found = ask(address, "overview?window=1h")
    assert {each["name"] for each in found["metrics"]} >= NAMES
    (jobs,) = (each for each in found["metrics"] if each["name"] == "jobs_completed")
    # Minutes that pass while the machine is too busy to start are missing.
    assert sum(value is not None for value in jobs["trend"]) > 40
    assert [mark["text"] for mark in ask(address, "marks")["marks"]] == [
        "Roll back to 2.3.9",
        "Deploy 2.4.0",
    ]
    recorded = ask(address, "stats")["storage"]["total_metrics"]
    assert eventually(lambda: ask(address, "stats")["storage"]["total_metrics"] > recorded)
    rules = ask(address, "v1/rules")["data"]["groups"][0]["rules"]
    assert [rule["name"] for rule in rules] == ["JobsFail", "QueueTooLong", "CacheMisses"]
    send(process.pid, number)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (code, message)
    home.assert_nothing_is_left()


def test_without_the_extra_it_says_what_to_install(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "starlette.py").write_text("raise ImportError('no')\n")
    monkeypatch.setitem(
        home.environment, "PYTHONPATH", f"{tmp_path}:{home.environment['PYTHONPATH']}"
    )
    code, out, err = home.run("demo", "--web")
    assert (code, out) == (1, "")
    assert err == "redismetrics: the HTTP API needs: pip install 'redismetrics[server]'\n"


@pytest.mark.parametrize("more", [("--json",), ("--seconds", "2")])
def test_web_is_not_combined_with_options_of_the_other_demo(
    shell: Shell, more: tuple[str, ...]
) -> None:
    status, out, err = shell("demo", "--web", *more)
    assert (status, out) == (2, "")
    assert "--web must not be given with --json or --seconds" in err


@pytest.mark.slow
def test_the_history_is_the_same_for_the_same_seed(url: str, namespace: str) -> None:
    pytest.importorskip("promql_parser", reason="needs redismetrics[alerts]")
    now = time.time() // 60 * 60
    found = []
    for part in ("a", "b"):
        with Metrics(url, namespace=f"{namespace}-{part}", flush_interval=3600) as metrics:
            Traffic(now).record_history(metrics, 1800)
            totals = {name: metrics.query(name, aggregation="sum") for name in NAMES}
            failed = metrics.promql_query(
                'sum by (tenant) (rate(jobs_completed_total{status="failed"}[5m]))', now - 1750
            )
            found.append((totals, failed))
    assert found[0] == found[1]
    assert "jobs_completed_total" in RULES
