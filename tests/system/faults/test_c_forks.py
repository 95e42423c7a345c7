"""Processes forked by C code, as uWSGI forks: Python's fork hooks don't run.

Each test forks from a fresh interpreter. A child of a busy process with threads, such as pytest's,
may wait for ever for a thread that it does not have to take over the interpreter's lock.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from redismetrics import Metrics
from redismetrics.store import embedded_locks
from tests.fixtures.servers import PATIENCE, PROCESS_PATIENCE
from tests.system.faults.test_processes import ended

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="fork() is needed"),
]
ROOT = Path(__file__).parents[3]


def in_new_process(function: str, *arguments: str) -> None:
    """Call a function of this module in a fresh interpreter; fail if it does."""
    code = f"import sys; from {__name__} import {function}; {function}(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PROCESS_PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_child_forked_by_c_stores_its_samples_once(url: str, namespace: str) -> None:
    in_new_process("store_in_the_child", url, namespace)


def store_in_the_child(url: str, namespace: str) -> None:
    metrics = Metrics(url, namespace=namespace)
    metrics.increment("loaded")
    metrics.flush()
    parent = metrics.stats()["writer"]
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        code = 1
        try:
            for _ in range(100):
                metrics.increment("handled")
            metrics.flush(PATIENCE)
            stats = metrics.stats()
            code = 0 if stats["stored"] == 100 and stats["writer"] != parent else 2
        finally:
            os._exit(code)
    assert ended(pid) == 0
    assert metrics.query("handled", aggregation="sum") == 100
    assert metrics.query("loaded", aggregation="sum") == 1
    metrics.close()


def test_the_hook_of_the_child_alone_raises_nothing() -> None:
    in_new_process("run_the_hook_of_the_child")


def run_the_hook_of_the_child() -> None:
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        code = 1
        try:
            embedded_locks._after_fork_in_child()
            code = 0
        finally:
            os._exit(code)
    assert ended(pid) == 0


def test_samples_that_may_be_the_parents_are_counted_as_dropped(url: str, namespace: str) -> None:
    in_new_process("drop_in_the_child", url, namespace)


def drop_in_the_child(url: str, namespace: str) -> None:
    metrics = Metrics(url, namespace=namespace)
    metrics.increment("jobs")
    metrics.flush()
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        code = 1
        try:
            for _ in range(10):
                metrics.increment("jobs")
            metrics.close()
            stats = metrics.stats()
            code = 0 if (stats["recorded"], stats["dropped"]) == (10, {"unsent": 10}) else 2
        finally:
            os._exit(code)
    assert ended(pid) == 0
    assert metrics.query("jobs", aggregation="sum") == 1
    metrics.close()
