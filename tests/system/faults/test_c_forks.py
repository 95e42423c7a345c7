"""Processes forked by C code, as uWSGI forks: Python's fork hooks don't run."""

import ctypes
import os

import pytest

from redismetrics import Metrics
from redismetrics.store import embedded_locks
from tests.system.faults.test_processes import ended

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="fork() is needed"),
]


def test_a_child_forked_by_c_stores_its_samples_once(url: str, namespace: str) -> None:
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
            metrics.flush(10)
            stats = metrics.stats()
            code = 0 if stats["stored"] == 100 and stats["writer"] != parent else 2
        finally:
            os._exit(code)
    assert ended(pid) == 0
    assert metrics.query("handled", aggregation="sum") == 100
    assert metrics.query("loaded", aggregation="sum") == 1
    metrics.close()


def test_the_hook_of_the_child_alone_raises_nothing() -> None:
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
