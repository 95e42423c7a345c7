"""What is recorded with none://, and after close."""

import subprocess
import sys
import textwrap
import timeit
from collections.abc import Callable
from typing import Any

import pytest

from redismetrics import (
    Counter,
    Gauge,
    Histogram,
    InvalidSetting,
    Metrics,
)
from tests.recording.helpers import NOWHERE, ROOT, client_threads, python


def every_recording_call(metrics: Metrics) -> list[Callable[[], Any]]:
    counter, gauge, histogram = (
        kind("h_" + kind.kind, metrics=metrics) for kind in (Counter, Gauge, Histogram)
    )
    return [
        lambda: metrics.increment("jobs"),
        lambda: metrics.increment("jobs", tags={"a": "b"}),
        lambda: metrics.increment("jobs", timestamp=1.0),
        lambda: metrics.gauge("depth", 1),
        lambda: metrics.histogram("took", 1.5, metadata={"a": 1}),
        lambda: metrics.record("guess", 1),
        lambda: metrics.record("guess", {"value": 1, "tags": {"a": "b"}}),
        lambda: metrics.measure("took", lambda: None),
        counter.increment,
        lambda: counter.increment(0.5),
        lambda: gauge.set(1),
        lambda: gauge.set(1.0),
        lambda: gauge.add(1),
        lambda: gauge.add(1.0),
        lambda: metrics.gauge("busy", per="process", merge="livesum").set(1.0),
        lambda: histogram.record(1),
        lambda: histogram.record(1.0),
        histogram.time()(lambda: None),
    ]


def test_none_records_nothing() -> None:
    before = client_threads()
    metrics = Metrics("none://")
    metrics.declare("jobs", "counter")
    for call in every_recording_call(metrics):
        call()
        call()
    stats = metrics.stats()
    assert (stats["recorded"], stats["stored"], stats["pending"], stats["dropped"]) == (0, 0, 0, {})
    assert stats.keys() == Metrics("redis://127.0.0.1:1").stats().keys()
    metrics.flush()
    metrics.close()
    for call in every_recording_call(metrics):
        call()
    assert client_threads() == before


def test_recording_after_close_is_counted_and_never_raises(metrics: Metrics) -> None:
    calls = every_recording_call(metrics)
    metrics.increment("before")
    for call in calls:
        call()
    metrics.close()
    recorded = metrics.stats()["recorded"]
    assert recorded == 1 + len(calls)
    for call in calls:
        call()
        call()
    stats = metrics.stats()
    assert stats["dropped"] == {"closed": 2 * len(calls), "too_old": 1}
    assert (stats["recorded"], stats["pending"]) == (recorded + 2 * len(calls), 0)
    metrics.flush()
    metrics.close()


def test_a_client_closed_before_it_was_used_records_nothing(url: str, namespace: str) -> None:
    before = client_threads()
    metrics = Metrics(url, namespace=namespace)
    calls = every_recording_call(metrics)
    metrics.close()
    for call in calls:
        call()
    assert metrics.stats()["dropped"] == {"closed": len(calls)}
    assert client_threads() == before


def test_invalid_settings_raise() -> None:
    for wrong in (
        {"on_invalid": "ignore"},
        {"namespace": ""},
        {"tags": {"a b": "c"}},
        {"max_series": 0.5},
    ):
        with pytest.raises(InvalidSetting):
            Metrics(NOWHERE, **wrong)  # type: ignore[arg-type]


def test_none_url_loads_nothing_starts_nothing_and_keeps_nothing() -> None:
    code = """
import sys, threading
import redismetrics
from redismetrics import Counter, Gauge, Histogram, Metrics
metrics = Metrics("none://")
instruments = [make(make.__name__, metrics=metrics) for make in (Counter, Gauge, Histogram)]
for _ in range(1000):
    metrics.increment("jobs", tags={"a": "b"}); metrics.gauge("x", 1)
    metrics.histogram("y", 1); metrics.record("z", 1)
    instruments[0].increment(); instruments[1].set(1.0); instruments[1].add(1.0)
    instruments[2].record(1)
    with metrics.measure("took"):
        pass
metrics.flush(); metrics.close()
assert metrics._recorder.waiting() == 0 and metrics.stats()["recorded"] == 0
assert threading.enumerate() == [threading.main_thread()]
sys.exit(",".join(sorted({"numpy", "pcodec", "fastdigest", "redis"} & set(sys.modules))) or None)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_none_url_costs_about_as_much_as_an_empty_function() -> None:
    def nothing(*_: Any, **__: Any) -> None:
        pass

    metrics, tags = Metrics("none://"), {"queue": "mail"}
    jobs = Counter("jobs", metrics=metrics)
    jobs.increment()

    def best(call: Any) -> float:
        return min(timeit.repeat(call, number=20_000, repeat=7))

    bare = best(lambda: nothing("jobs", 1, tags=tags))
    assert best(lambda: metrics.increment("jobs", 1, tags=tags)) < 3 * bare
    assert best(lambda: metrics.histogram("took", 1, tags=tags)) < 3 * bare
    assert best(jobs.increment) < 3 * bare


def test_the_default_client_records_after_it_was_silent() -> None:
    code = """
        import os
        os.environ["REDISMETRICS_URL"] = "none://"
        import json, redismetrics
        redismetrics.declare("jobs", "counter")
        redismetrics.configure("redis://127.0.0.1:1")
        redismetrics.increment("jobs")
        print(json.dumps(redismetrics.stats()["recorded"]))
        redismetrics.close(0)
    """
    assert python(textwrap.dedent(code)) == 1
