"""Celery, with real workers and Redis as their broker."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redismetrics import Metrics
from tests.fixtures.servers import PROCESS_PATIENCE, Server, wait_until

pytest.importorskip("celery")

ROOT = Path(__file__).parents[2]

APP = """
import os, signal, time
from celery import Celery
from celery.exceptions import Ignore, Reject
import redismetrics
from redismetrics.integrations.celery import instrument
broker = os.environ["BROKER"]
app = Celery("jobs", broker=broker)
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_hijack_root_logger = False
app.conf.task_ignore_result = True
instrument(); instrument()
@app.task
def works(): redismetrics.increment("inside")
@app.task
def fails(): raise ZeroDivisionError("mine")
@app.task(bind=True, max_retries=1)
def retries(self):
    if self.request.retries == 0:
        raise self.retry(countdown=0)
@app.task
def ignored(): raise Ignore()
@app.task
def killed(): os.kill(os.getpid(), signal.SIGKILL)
"""

SEND = """
import sys, jobs
for _ in range(int(sys.argv[1])): jobs.works.delay()
for name in sys.argv[2:]: getattr(jobs, name).delay()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jobs.py").write_text(APP)
    return tmp_path


@pytest.fixture
def environ(
    url: str, namespace: str, folder: Path, fresh_server: Callable[..., Server]
) -> dict[str, str]:
    # A server of its own, because the keys of a broker belong to no namespace.
    broker = fresh_server().url
    return {
        **os.environ,
        "REDISMETRICS_URL": url,
        "REDISMETRICS_NAMESPACE": namespace,
        # So that samples are sent only when a process ends.
        "REDISMETRICS_FLUSH_INTERVAL": "3600",
        "BROKER": broker.replace("unix://", "redis+socket://").replace("?db=0", ""),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
    }


def work(folder: Path, environ: dict[str, str], done: Callable[[], bool], *options: str) -> None:
    """Run a worker until *done*, then shut it down."""
    command = [sys.executable, "-m", "celery", "-A", "jobs", "worker", "-l", "info", *options]
    with (folder / "log").open("w") as log:
        worker = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)
        try:
            wait_until(done, "the tasks to be done", PROCESS_PATIENCE)
        except Exception:
            print((folder / "log").read_text())
            raise
        finally:
            worker.terminate()
            worker.wait(PROCESS_PATIENCE)


def send(folder: Path, environ: dict[str, str], *what: str) -> None:
    subprocess.run(
        [sys.executable, "-c", SEND, *what],
        cwd=folder,
        env=environ,
        check=True,
        timeout=PROCESS_PATIENCE,
    )


def counted(metrics: Metrics, name: str, *tags: str) -> dict[Any, float]:
    rows = metrics.query(name, aggregation="sum", group_by=list(tags))
    return {tuple(row[tag] for tag in tags): row["sum"] for row in rows}


def logged(folder: Path, text: str) -> int:
    return (folder / "log").read_text().count(text) if (folder / "log").exists() else 0


@pytest.mark.slow
def test_short_lived_children_lose_nothing_and_killed_ones_count_as_failure(
    folder: Path, environ: dict[str, str], metrics: Metrics
) -> None:
    send(folder, environ, "12", "fails", "retries", "ignored", "killed")
    work(
        folder,
        environ,
        lambda: (
            counted(metrics, "celery_tasks", "task", "state").get(("jobs.works", "SUCCESS")) == 12
            and sum(counted(metrics, "celery_tasks", "task").values()) == 16
            and logged(folder, "WorkerLostError") > 0
        ),
        "--pool",
        "prefork",
        "--concurrency",
        "2",
        "--max-tasks-per-child",
        "1",
    )
    states = {
        ("jobs.works", "SUCCESS"): 12,
        ("jobs.fails", "FAILURE"): 1,
        ("jobs.retries", "RETRY"): 1,
        ("jobs.retries", "SUCCESS"): 1,
        ("jobs.ignored", "IGNORED"): 1,
    }
    assert counted(metrics, "celery_tasks", "task", "state") == {
        **states,
        ("jobs.killed", "FAILURE"): 1,
    }
    assert metrics.query("inside", aggregation="sum") == 12
    rows = metrics.query(
        "celery_task_duration_seconds", aggregation="count", group_by=["task", "state"]
    )
    assert {(row["task"], row["state"]): row["count"] for row in rows} == states
    assert counted(metrics, "celery_tasks_sent", "task") == {
        ("jobs.works",): 12,
        ("jobs.fails",): 1,
        ("jobs.retries",): 2,
        ("jobs.ignored",): 1,
        ("jobs.killed",): 1,
    }


@pytest.mark.slow
def test_children_send_when_the_worker_ends(
    folder: Path, environ: dict[str, str], metrics: Metrics
) -> None:
    send(folder, environ, "10")
    work(
        folder,
        environ,
        lambda: logged(folder, "succeeded in") == 10,
        "--pool",
        "prefork",
        "--concurrency",
        "2",
    )
    assert counted(metrics, "celery_tasks", "task", "state") == {("jobs.works", "SUCCESS"): 10}
    assert metrics.query("inside", aggregation="sum") == 10


@pytest.mark.slow
def test_thread_pool_sends_when_it_ends(
    folder: Path, environ: dict[str, str], metrics: Metrics
) -> None:
    send(folder, environ, "10", "fails")
    work(
        folder,
        environ,
        lambda: logged(folder, "succeeded in") == 10 and logged(folder, "raised unexpected") == 1,
        "--pool",
        "threads",
        "--concurrency",
        "4",
    )
    assert counted(metrics, "celery_tasks", "task", "state") == {
        ("jobs.works", "SUCCESS"): 10,
        ("jobs.fails", "FAILURE"): 1,
    }


def test_missing_celery_is_named() -> None:
    code = "import sys; sys.modules['celery'] = None; import redismetrics.integrations.celery"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "MissingExtra" in done.stderr
    assert "pip install 'redismetrics[celery]'" in done.stderr
