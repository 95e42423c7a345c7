"""The worker as a command: arguments, exit codes, signals, and its HTTP page."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from redismetrics import Metrics
from redismetrics.exposition import http_server
from redismetrics.store import keys
from redismetrics.store.driver import run
from redismetrics.worker import __main__, queue
from tests.fixtures.servers import PATIENCE, PROCESS_PATIENCE, Server, wait_until
from tests.fixtures.workers import pull_forward
from tests.system.faults.proxy import Proxy
from tests.worker.tools import (
    COMMAND,
    MODULE,
    NOWHERE,
    ROOT,
    Make,
    command,
    due,
    start,
    waiting,
)


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.slow
@pytest.mark.parametrize("how", [MODULE, COMMAND], ids=["module", "command"])
def test_once_does_all_due_work_and_exits(
    metrics: Metrics, admin: redis.Redis, make: Make, url: str, namespace: str, how: tuple[str, ...]
) -> None:
    before = time.time() - 3 * 3600
    metrics.increment("jobs", 2, timestamp=before)
    metrics.flush()
    first = make()
    first.pass_once()
    first.leave()
    pull_forward(admin, namespace)
    for name in ("jobs", "sent"):
        metrics.increment(name, 3, tags={"a": "b"}, timestamp=before)
    metrics.gauge("depth", 4)
    metrics.histogram("took", 2.5, timestamp=before)
    metrics.flush()
    dead = make()
    # As if it was killed a moment ago.
    run(dead.client(), queue.heartbeat(namespace, dead.id))

    code, out, err = command("--url", url, "--namespace", namespace, "--once", "--json", how=how)
    assert code == 0, err
    done = json.loads(out)
    assert (
        done["samples"],
        done["blocks"],
        done["late"],
        done["failures"],
        done["last_error"],
    ) == (4, 4, 0, 0, None)
    # Of jobs: its hour, its day, and the segment of 32 days.
    assert done["slots"] == 3
    assert waiting(admin, namespace) == []
    assert due(admin, namespace, "jobs") == set()
    # Its own heartbeat is removed.
    assert admin.zrange(keys.workers(namespace), 0, -1) == [dead.id.encode()]
    assert [
        metrics.query(name, aggregation="sum") for name in ("jobs", "sent", "depth", "took")
    ] == [5, 3, 4, 2.5]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--interval", "0"], "--interval must be from 0.1 to 3600 seconds, got 0"),
        (["--interval", "nan"], "--interval must be from 0.1 to 3600 seconds, got nan"),
        (["--interval", "often"], "--interval"),
        (["--metrics-port", "http"], "must be HOST:PORT"),
        (["--metrics-port", "65536"], "must be HOST:PORT"),
        (["--namespace", "a b"], "namespace must be 1 to 64 characters of"),
        (["--url", "http://x"], "url must start with one of redis://"),
        (["--url", "redis://:secret@x:port"], "url must have a port from 0 to 65535"),
        (
            ["--url", "redis://:secret@x?socket_timeout=soon", "--once"],
            "url must not have option socket_timeout: set socket_timeout as a setting",
        ),
        (["--url", "none://"], "none://"),
        (["--json"], "--once"),
        (["--twice"], "--twice"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_arguments_print_one_sentence(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as raised:
        __main__.main(args)
    assert raised.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    *_, last = err.strip().splitlines()
    assert last.startswith("python -m redismetrics.worker: error: ")
    assert message.replace("***:***", ":***") in last
    assert "secret" not in err


def test_port_in_use_prints_one_line(url: str, namespace: str, server: Server) -> None:
    with (
        pytest.MonkeyPatch.context() as patch,
        http_server.listen("127.0.0.1", 0, lambda *_: []) as taken,
    ):
        patch.setattr(signal, "signal", lambda *_: None)
        where = f"127.0.0.1:{taken.server_port}"
        assert __main__.main(["--url", url, "--namespace", namespace, "--metrics-port", where]) == 1
        assert (
            __main__.main(["--url", url, "--namespace", namespace, "--metrics-port", "a..b:1"]) == 1
        )


@pytest.mark.slow
def test_unreachable_redis_prints_one_line() -> None:
    code, out, err = command("--url", NOWHERE, "--once", "--json")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"Redis did not answer: .*\n", err)
    assert "secret" not in err


@pytest.mark.slow
def test_worker_waits_for_redis_and_healthz_says_so(
    fresh_server: Callable[..., Server], namespace: str, tmp_path: Path
) -> None:
    store = fresh_server()
    with Metrics(store.url, namespace=namespace) as metrics:
        metrics.increment("jobs", 5)
    store.kill()
    log = tmp_path / "log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            [
                sys.executable,
                "-W",
                "error",
                "-m",
                *MODULE,
                "--url",
                store.url,
                "--namespace",
                namespace,
                "--interval",
                "0.1",
                "--metrics-port",
                "0",
            ],
            cwd=ROOT,
            stderr=output,
        ) as process,
    ):
        try:
            wait_until(lambda: "is waiting for" in log.read_text(), "it logs that it waits")
            found = re.search(r"serving on http://127\.0\.0\.1:(\d+)/metrics", log.read_text())
            assert found is not None
            port = int(found[1])
            status, why = get(port, "/healthz")
            assert status == 503
            assert "Redis did not answer" in why
            store.restart()
            wait_until(lambda: get(port, "/healthz") == (200, "ok\n"), "it is healthy")
            wait_until(
                lambda: "redismetrics_worker_samples_total 1\n" in get(port, "/metrics")[1],
                "it has sealed",
            )
            assert get(port, "/")[0] == 404
            store.kill()
            wait_until(lambda: get(port, "/healthz")[0] == 503, "it is not healthy")
            assert get(port, "/metrics")[0] == 200
            # It retries meanwhile without logging.
            time.sleep(0.7)
            store.restart()
            wait_until(lambda: get(port, "/healthz")[0] == 200, "it is healthy again")
        finally:
            process.terminate()
            assert process.wait(PATIENCE) == 0
    lines = log.read_text().splitlines()
    assert [
        sum(what in line for line in lines) for what in ("is waiting for", "answers again")
    ] == [
        2,
        2,
    ]
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_signal_lets_the_worker_finish_its_commits(
    metrics: Metrics, admin: redis.Redis, server: Server, namespace: str, number: signal.Signals
) -> None:
    for metric in range(100):
        metrics.increment(f"jobs_{metric}")
    metrics.flush()
    running: list[subprocess.Popen[str]] = []
    sent: list[int] = []

    def commit(request: bytes) -> bool:
        # The first commits, of 32 metrics.
        if b":touched" in request and not sent:
            sent.append(number)
            wait_until(lambda: running, "it has started")
            running[0].send_signal(number)
        return False

    with Proxy(server) as proxy:
        proxy.cut_requests(1, when=commit)
        with start("--url", proxy.url, "--namespace", namespace, "--interval", "0.1") as process:
            running.append(process)
            try:
                _, err = process.communicate(timeout=PROCESS_PATIENCE)
            finally:
                process.kill()
    assert (process.returncode, "Traceback" in err) == (0, False)
    # The call in hand was answered and counted. How many metrics it committed is the server's
    # choice: a call ends early at its time bound.
    assert 0 < 100 - len(waiting(admin, namespace)) <= 100
    assert admin.zcard(keys.workers(namespace)) == 0
    assert sum(metrics.query(f"jobs_{metric}", aggregation="sum") for metric in range(100)) == 100


@pytest.mark.slow
def test_signal_while_the_lock_of_the_event_is_held(url: str, namespace: str) -> None:
    code = f"""if True:
        import os, signal, sys
        from redismetrics.worker import Worker, __main__
        def pass_once(self, **how):
            with self.stop._cond:
                os.kill(os.getpid(), signal.SIGTERM)
                for _ in range(1000): pass
            return 0
        Worker.pass_once = pass_once
        arguments = ["--url", {url!r}, "--namespace", {namespace!r}, "--interval", "3600"]
        sys.exit(__main__.main(arguments))
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, timeout=PROCESS_PATIENCE, check=False
    )
    assert done.returncode == 0
