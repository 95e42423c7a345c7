"""Dramatiq's workers with its own prometheus middleware, unmodified, over Redis."""

import os
import signal
import sys
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from tests.fixtures.jobs import RUN, Jobs
from tests.fixtures.programs import INSTALL, Page, Programs, parse_page
from tests.fixtures.servers import PROCESS_PATIENCE, free_port

pytest.importorskip("dramatiq")

# Each starts several processes, which takes long where others do so too.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

APP = """
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware.prometheus import Prometheus
broker = RedisBroker(url=os.environ["BROKER"])
broker.add_middleware(Prometheus())
class Record(dramatiq.Middleware):
    def after_enqueue(self, broker, message, delay):
        if "retries" in message.options:
            done("retried")
    def after_nack(self, broker, message):
        done("rejected")
broker.add_middleware(Record())
dramatiq.set_broker(broker)
@dramatiq.actor
def works():
    done("works")
    meet(3)
@dramatiq.actor(max_retries=2, min_backoff=1, max_backoff=1)
def fails():
    done("fails")
    raise ZeroDivisionError("mine")
"""
WORKER = (
    *(sys.executable, "-m", "dramatiq", "jobs", "--processes", "3", "--threads", "2"),
    # Milliseconds. Without all processes by then, it starts no server for its page.
    *("--worker-fork-timeout", "300000"),
)
SEND = """
for _ in range(20): jobs.works.send()
for _ in range(3): jobs.fails.send()
"""


@pytest.fixture
def environment(programs: Programs, broker: str, tmp_path: Path) -> dict[str, str]:
    return {
        **programs.environment,
        "BROKER": broker,
        "dramatiq_prom_host": "127.0.0.1",
        "dramatiq_prom_port": str(free_port()),
        "dramatiq_prom_db": str(tmp_path / "files"),
    }


def counts(page: Page) -> dict[str, Counter[str]]:
    """Return dramatiq's counts of a page by name and actor, of all queues together."""
    found: dict[str, Counter[str]] = {}
    for sample, value in page.items():
        name, _, labels = sample.partition("{")
        # Without the gauge of delayed messages, which dramatiq increments in one process and
        # decrements in another.
        if not value or "delayed" in name:
            continue
        if name.endswith(("_total", "_count", "_inprogress")):
            actor = labels.split('actor_name="')[1].split('"')[0]
            found.setdefault(name.removeprefix("dramatiq_"), Counter())[actor] += int(value)
    return found


def expected(done: Counter[str]) -> dict[str, dict[str, int]]:
    """Return the counts after what was recorded."""
    messages = {"works": done["works"], "fails": done["fails"]}
    return {
        "messages_total": messages,
        "message_errors_total": {"fails": done["fails"]},
        "message_retries_total": {"fails": done["retried"]},
        "message_rejects_total": {"fails": done["rejected"]},
        "message_duration_milliseconds_count": messages,
    }


def are_done(jobs: Jobs, rounds: int) -> bool:
    """Return whether all messages of *rounds* of SEND have left the queues."""
    done = jobs.done()
    return (done["works"], done["fails"], done["rejected"]) == (20 * rounds, 9 * rounds, 3 * rounds)


@pytest.mark.parametrize("how", ["install", "run, spawned"])
def test_processes_that_end_lose_nothing(
    programs: Programs, environment: dict[str, str], tmp_path: Path, how: str
) -> None:
    # So that what is counted is sent only when a process ends.
    environment["REDISMETRICS_FLUSH_INTERVAL"] = "3600"
    jobs = Jobs(tmp_path, (INSTALL if how == "install" else "") + APP, environment)
    begin = () if how == "install" else RUN
    jobs.send(SEND, begin=begin)
    with jobs.workers(*begin, *WORKER, *(["--use-spawn"] if "spawned" in how else [])) as process:
        jobs.wait_until(lambda: are_done(jobs, 1), "the tasks are done")
    assert process.returncode == 0
    assert len(jobs.processes()) == 3
    assert counts(programs.page()) == expected(jobs.done())


def test_its_page_shows_all_processes_also_after_a_kill_and_a_restart(
    programs: Programs, environment: dict[str, str], tmp_path: Path
) -> None:
    environment["REDISMETRICS_FLUSH_INTERVAL"] = "0.2"
    jobs = Jobs(tmp_path, APP, environment)

    def shows(rounds: int) -> bool:
        if not are_done(jobs, rounds):
            return False
        try:
            address = f"http://127.0.0.1:{environment['dramatiq_prom_port']}"
            with urllib.request.urlopen(address, timeout=PROCESS_PATIENCE) as answer:
                page = parse_page(answer.read().decode())
        except OSError:
            return False
        return counts(page) == expected(jobs.done())

    jobs.send(SEND, begin=RUN)
    with jobs.workers(*RUN, *WORKER) as process:
        jobs.wait_until(lambda: shows(1), "the page shows all messages")
        os.kill(min(jobs.processes()), signal.SIGKILL)
        # Dramatiq ends the others then.
        process.wait(PROCESS_PATIENCE)
        assert process.returncode
    jobs.send(SEND, begin=RUN)
    with jobs.workers(*RUN, *WORKER):
        jobs.wait_until(lambda: shows(2), "the page shows all messages")
    assert counts(programs.page()) == expected(jobs.done())
