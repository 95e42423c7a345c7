"""Servers that fork, recycle and kill their workers; processes that end by `os._exit`; greenlets.

A killed process loses what it had not sent: at most what it recorded since its last flush, and
nothing that was stored before.
"""

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections import Counter as Tally
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from redismetrics import Metrics
from tests.fixtures.servers import wait_until
from tests.system.faults.test_processes import ended, in_child, script

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PATIENCE = 120.0
APP = """
import os, threading
import redismetrics
from redismetrics.integrations.wsgi import MetricsMiddleware
redismetrics.configure(flush_interval=0.2)
# If the master loads the application, its flusher starts there; the children must not need it.
redismetrics.increment("loaded")
handle = redismetrics.Counter("handled")
def application(environ, start_response):
    handle.increment()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
app = MetricsMiddleware(application)
"""


class Gunicorn:
    """A real gunicorn with two workers; each response is the process id of its worker."""

    def __init__(self, folder: Path, url: str, namespace: str, *options: str) -> None:
        self.requests, self.responses, self._lock = 0, Tally[int](), threading.Lock()
        (folder / "served.py").write_text(APP)
        self._log = folder / "log"
        environment = {**os.environ, "REDISMETRICS_URL": url, "REDISMETRICS_NAMESPACE": namespace}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(folder)])
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "served:app",
            "--bind",
            "127.0.0.1:0",
            "--workers",
            "2",
            *options,
        ]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=log, stderr=log
            )
        wait_until(
            lambda: self._port() or self.process.poll() is not None, "gunicorn listens", PATIENCE
        )
        assert self.process.poll() is None, self._log.read_text()
        self.port = self._port()

    def _port(self) -> str | None:
        found = re.search(r"http://127\.0\.0\.1:([1-9]\d*)", self._log.read_text())
        return found[1] if found else None

    def get(self) -> int | None:
        """Return the worker's process id; None if the connection was cut by its death."""
        with self._lock:
            self.requests += 1
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/", timeout=PATIENCE
            ) as answer:
                pid = int(answer.read())
        except (OSError, http.client.HTTPException):
            return None
        with self._lock:
            self.responses[pid] += 1
        return pid

    def burst(self, count: int) -> Tally[int]:
        with ThreadPoolExecutor(2) as pool:
            return Tally(
                pid for pid in pool.map(lambda _: self.get(), range(count)) if pid is not None
            )

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def log(self) -> str:
        return self._log.read_text()


@pytest.fixture
def reader(url: str, namespace: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=namespace) as reader:
        yield reader


def counted(reader: Metrics) -> tuple[int, int]:
    """Return what the middleware counted and what the application counted."""
    return (
        reader.query("http_requests", aggregation="sum", tags={"status": "200"}),
        reader.query("handled", aggregation="sum"),
    )


@pytest.mark.parametrize(
    "options",
    [(), ("--preload",), ("--worker-class", "gthread", "--threads", "3")],
    ids=["", "preload", "gthread"],
)
def test_recycled_gunicorn_workers_lose_nothing(
    url: str, namespace: str, tmp_path: Path, reader: Metrics, options: tuple[str, ...]
) -> None:
    pytest.importorskip("gunicorn", reason="pip install gunicorn")
    server = Gunicorn(tmp_path, url, namespace, "--max-requests", "20", *options)
    try:
        answers = server.burst(60)
    finally:
        server.stop()
    assert len(answers) > 2, "no worker was recycled"
    # A worker that ends may cut a connection without a response; all responses are counted.
    handled, inside = counted(reader)
    assert answers.total() <= handled == inside <= 60
    assert answers.total() > 45
    assert "Traceback" not in server.log()


def test_killed_gunicorn_workers_lose_at_most_unsent_samples(
    url: str, namespace: str, tmp_path: Path, reader: Metrics
) -> None:
    pytest.importorskip("gunicorn", reason="pip install gunicorn")
    server = Gunicorn(tmp_path, url, namespace, "--preload")
    unsent = 0
    try:
        for _ in range(3):
            server.burst(20)
            known = server.responses.total() - unsent
            wait_until(lambda: counted(reader)[1] >= known, "all is sent")  # noqa: B023
            last = server.burst(10)
            victim = max(last)
            os.kill(victim, signal.SIGKILL)
            unsent += last[victim]
            wait_until(lambda: (server.get() or victim) != victim, "another worker answers")  # noqa: B023
    finally:
        server.stop()
    handled, inside = counted(reader)
    assert handled == inside
    assert server.responses.total() - unsent <= handled <= server.requests


def test_a_process_that_ends_by_os_exit_loses_at_most_one_interval(
    url: str, namespace: str, reader: Metrics
) -> None:
    def run() -> None:  # in_child ends it with os._exit
        metrics = Metrics(url, namespace=namespace, flush_interval=0.1)
        for _ in range(1_000):
            metrics.increment("jobs")
        wait_until(lambda: metrics.stats()["stored"] == 1_000, "an interval has passed")
        for _ in range(10):
            metrics.increment("jobs")

    assert ended(in_child(run)) == 0
    assert 1_000 <= reader.query("jobs", aggregation="sum") <= 1_010


GREENLETS = """if True:
    from gevent import monkey
    monkey.patch_all()
    import gevent
    from redismetrics import Counter, Metrics
    metrics = Metrics({url!r}, namespace={namespace!r}, flush_interval=0.05)
    handle = Counter("jobs", metrics=metrics)
    def work(number):
        for turn in range(200):
            handle.increment()
            metrics.histogram("took", turn, tags={{"n": number}})
            if not turn % 20:
                gevent.sleep(0)
            if not turn % 100:
                metrics.flush()
    gevent.joinall([gevent.spawn(work, number) for number in range(20)], raise_error=True)
    assert metrics.query("jobs", aggregation="sum") == 4_000
    with metrics.subscribe("jobs") as stream:
        handle.increment()
        metrics.flush()
        assert stream.get(timeout={patience}).value == 1
    handle.increment(5)  # sent at the end of the interpreter
"""


def test_greenlets(url: str, namespace: str, reader: Metrics) -> None:
    pytest.importorskip("gevent", reason="pip install gevent")
    done = script(GREENLETS.format(url=url, namespace=namespace, patience=PATIENCE))
    assert (done.returncode, done.stderr) == (0, "")
    assert reader.query("jobs", aggregation="sum") == 4_006
    assert reader.query("took", aggregation="count") == 4_000


def test_gunicorn_with_greenlets_loses_nothing(
    url: str, namespace: str, tmp_path: Path, reader: Metrics
) -> None:
    pytest.importorskip("gunicorn", reason="pip install gunicorn")
    pytest.importorskip("gevent", reason="pip install gevent")
    server = Gunicorn(tmp_path, url, namespace, "--worker-class", "gevent", "--max-requests", "15")
    try:
        answers = server.burst(60)
    finally:
        server.stop()
    handled, inside = counted(reader)
    assert answers.total() <= handled == inside <= 60
    assert "Traceback" not in server.log()
