"""The processes of a run: writers and workers. Each is this module with other arguments."""

import contextlib
import hashlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redismetrics import Gauge, Metrics, StoreUnavailable
from redismetrics.model.time import DAY
from redismetrics.store import scripts
from redismetrics.worker import __main__
from redismetrics.worker.limits import WorkerLimits

from .facts import Book, facts

ROOT = Path(__file__).parents[4]
NAMESPACE = "chaos"
PATIENCE = 60.0
# Seconds. Longer than the clock of the server is moved.
RETENTION = 7 * 86_400.0
GUARD = "if last_sequence and sequence <= last_sequence then\n  return last_reply\nend\n"


@dataclass
class Writer:
    """A writing process, running or ended.

    Attributes:
        killed: Ended by SIGKILL.
        exposed: It lived while the clocks were so far apart that samples were dropped.
        settled: How many were dropped when all that it had recorded by then was settled.
    """

    number: int
    book: Book
    process: "subprocess.Popen[bytes]"
    killed: bool = False
    exposed: bool = False
    settled: int | None = None

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.book.end.read_text())
        return found


def exits(number: int) -> bool:
    """True if SIGTERM raises SystemExit in this writer, in whatever it does at that moment.

    In the others, SIGTERM ends the loop.
    """
    return number // 2 % 2 == 1


def write(url: str, path: str, seed: int, number: int, base_ms: int) -> None:
    """Record until SIGTERM, then close the client and leave its statistics."""
    terminated = threading.Event()
    book = Book(Path(path))
    metrics = Metrics(
        url,
        namespace=NAMESPACE,
        flush_interval=0.05,
        socket_timeout=0.5,
        raw_retention=RETENTION,
        minute_retention=RETENTION,
        clock=lambda: time.time() + book.offset_ms / 1000,
    )

    def on_sigterm(*_: object) -> None:
        # Once: a second signal must not interrupt `close`.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if exits(number):
            sys.exit()
        terminated.set()

    try:
        signal.signal(signal.SIGTERM, on_sigterm)
        _record(metrics, book, seed, number, base_ms, terminated)
    finally:
        metrics.close(PATIENCE / 2)
        book.end.write_text(json.dumps(metrics.stats(), default=str))


def _record(
    metrics: Metrics, book: Book, seed: int, number: int, base_ms: int, stop: threading.Event
) -> None:
    chance = random.Random()
    gauge = Gauge("depth", {"writer": number, "tag": "x"}, metrics=metrics)
    for count, fact in enumerate(facts(seed, number, base_ms), 1):
        book.recorded = count
        if fact.metric == "depth":
            gauge.add(fact.value)
        else:
            record = metrics.histogram if "took" in fact.metric else metrics.increment
            at = None if fact.time_ms is None else fact.time_ms / 1000
            record(fact.metric, fact.value, tags={"writer": number, "tag": fact.tag}, timestamp=at)
        if stop.is_set():
            return
        if not chance.randrange(50):
            time.sleep(chance.random() * 0.01)
        if not chance.randrange(400):
            with contextlib.suppress(StoreUnavailable):
                metrics.flush(chance.random())
                book.dropped = sum(metrics.stats()["dropped"].values())
                book.confirmed = count


def work(url: str) -> int:
    """Run a worker for which every coarse slot is due as soon as something is sealed into it."""
    limits = WorkerLimits(grace_ms=-40 * DAY)
    arguments = ["--url", url, "--namespace", NAMESPACE, "--interval", "0.1"]
    return __main__.main(arguments, limits=limits)


def without_guard() -> None:
    """Remove the guard from record.lua in this process, so that a resent batch counts again."""
    whole = scripts.script("record")
    assert whole.text.count(GUARD) == 1
    text = whole.text.replace(GUARD, "")
    unguarded = scripts.Script(
        "record", text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    )
    guarded = scripts.script
    scripts.script = lambda name: unguarded if name == "record" else guarded(name)  # type: ignore[assignment]


def spawn(*arguments: Any, errors: Path) -> "subprocess.Popen[bytes]":
    with errors.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.system.faults.chaos", *map(str, arguments)],
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )


def kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
