"""Celery's workers with tasks that count with prometheus_client, over Redis."""

import sys
from pathlib import Path

import pytest

from tests.fixtures.jobs import RUN, Jobs
from tests.fixtures.programs import INSTALL, Programs

pytest.importorskip("celery")

from celery.app.defaults import NAMESPACES

# Each starts several processes, which takes long where others do so too.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

APP = """
import signal, sys
from celery import Celery
from prometheus_client import Counter, Gauge, Histogram
app = Celery("jobs", broker=os.environ["BROKER"])
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_hijack_root_logger = False
app.conf.task_ignore_result = True
app.conf.worker_proc_alive_timeout = 300
app.conf.worker_pool_start_method = os.environ.get("START_METHOD", "fork")
runs = Counter("task_runs", "Tasks that were started", ["task"])
pages = Histogram("task_pages", "Pages", buckets=[1, 10])
busy = Gauge("tasks_busy", "Tasks that are running", multiprocess_mode="livesum")
sent = Counter("tasks_sent", "Tasks sent")
@app.task
def works(count):
    with busy.track_inprogress():
        runs.labels("works").inc()
        pages.observe(count)
    done("works")
@app.task
def fails():
    with busy.track_inprogress():
        runs.labels("fails").inc()
        done("fails")
        raise ZeroDivisionError("mine")
@app.task
def killed():
    runs.labels("killed").inc()
    done("killed")
    os.kill(os.getpid(), signal.SIGKILL)
@app.task
def leaves():
    runs.labels("leaves").inc()
    done("leaves")
    sys.exit(3)
"""
WORKER = (sys.executable, "-m", "celery", "-A", "jobs", "worker", "-l", "info", "--pool", "prefork")


@pytest.fixture
def environment(programs: Programs, broker: str) -> dict[str, str]:
    return {
        **programs.environment,
        "BROKER": broker.replace("unix://", "redis+socket://").replace("?db=0", ""),
        # So that what is counted is sent only when a process ends.
        "REDISMETRICS_FLUSH_INTERVAL": "3600",
    }


# The methods of billiard, Celery's multiprocessing.
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_recycled_children_lose_nothing(
    programs: Programs, environment: dict[str, str], tmp_path: Path, method: str
) -> None:
    if method == "spawn" and "pool_start_method" not in NAMESPACES["worker"]:
        pytest.skip("this Celery has no worker_pool_start_method")
    environment["START_METHOD"] = method
    jobs = Jobs(tmp_path, APP, environment)
    jobs.send(
        "for each in range(10): jobs.works.delay(2 * each); jobs.sent.inc()\n"
        "for _ in range(2): jobs.fails.delay(); jobs.sent.inc()",
        begin=RUN,
    )
    with jobs.workers(*RUN, *WORKER, "--concurrency", "2", "--max-tasks-per-child", "3"):
        jobs.wait_until(lambda: jobs.done().total() == 12, "the tasks are done")
    # Three tasks in each process.
    assert len(jobs.processes()) >= 4
    assert programs.page() == {
        'task_runs_total{task="works"}': 10,
        'task_runs_total{task="fails"}': 2,
        "tasks_sent_total": 12,
        'task_pages_bucket{le="1.0"}': 1,
        'task_pages_bucket{le="10.0"}': 6,
        'task_pages_bucket{le="+Inf"}': 10,
        "task_pages_count": 10,
        "task_pages_sum": 90,
    }


def test_children_that_die_lose_only_their_own_counts(
    programs: Programs, environment: dict[str, str], tmp_path: Path
) -> None:
    jobs = Jobs(tmp_path, INSTALL + APP, environment)
    jobs.send("for _ in range(2): jobs.works.delay(1); jobs.killed.delay(); jobs.leaves.delay()")

    def ended() -> bool:
        return jobs.done().total() == 6 and jobs.log.count(": WorkerLostError") >= 4

    with jobs.workers(*WORKER, "--concurrency", "2", "--max-tasks-per-child", "1"):
        jobs.wait_until(ended, "the tasks are done")
    page = programs.page()
    assert {sample: value for sample, value in page.items() if "runs" in sample} == {
        'task_runs_total{task="works"}': 2,
        'task_runs_total{task="leaves"}': 2,
    }
    assert page["task_pages_count"] == 2
