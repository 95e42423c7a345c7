"""Helpers shared by the tests of recording."""

import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redismetrics import Metrics, Sample
from redismetrics.recording.backoff import Backoff
from tests.fixtures.servers import PROCESS_PATIENCE

ROOT = Path(__file__).parents[2]
# No server listens there.
NOWHERE = "redis://127.0.0.1:1/0"
# A flush interval longer than any test: only the test flushes.
NEVER = 3_600.0
# Lets the sender try again sooner than by default.
QUICK = Backoff(0.01)

Make = Callable[..., Metrics]


def python(code: str) -> Any:
    """Run *code* in a new interpreter and return what it printed, read as JSON."""
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PROCESS_PATIENCE, check=False
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def only(metrics: Metrics, name: str) -> Sample:
    """Return the one sample of a metric."""
    (sample,) = metrics.query(name)
    return sample


def client_threads() -> set[threading.Thread]:
    """Return the threads that clients have started, without the one that all clients share."""
    return {
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("redismetrics") and thread.name != "redismetrics-helper"
    }


def collect(metrics: Metrics) -> None:
    """Drain the buffers now, as the collector does at a multiple of the interval."""
    metrics._sink.collector.collect_now()


def balanced(metrics: Metrics) -> dict[str, Any]:
    """Return the stats; assert that each sample is stored, pending or dropped."""
    stats = metrics.stats()
    assert stats["recorded"] == stats["stored"] + stats["pending"] + sum(
        stats["dropped"].values()
    ), stats
    return stats


def spread(metrics: Metrics, name: str, count: int, seed: int = 0) -> None:
    """Record *count* different values, so that nothing can be counted together."""
    generator = random.Random(seed)
    for _ in range(count):
        metrics.histogram(name, generator.random())
