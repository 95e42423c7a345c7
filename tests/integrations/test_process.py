"""Samples of the process itself."""

import gc
import os
import sys
import time

import prometheus_client
import pytest

from redismetrics import AsyncMetrics, InvalidMetric, Metrics
from redismetrics.integrations.process import ProcessMetrics, watch_process
from redismetrics.testing import Captured
from tests.fixtures.servers import wait_until
from tests.recording.helpers import python

linux = pytest.mark.skipif(sys.platform != "linux", reason="no /proc here")


@linux
def test_values_equal_those_of_prometheus_client(
    captured: Captured, offline_metrics: Metrics
) -> None:
    ProcessMetrics(offline_metrics).sample()
    families = list(prometheus_client.ProcessCollector(registry=None).collect())
    theirs = {sample.name: sample.value for family in families for sample in family.samples}
    for name, tolerance in (
        ("process_resident_memory_bytes", 0.1),
        ("process_virtual_memory_bytes", 0.1),
        ("process_start_time_seconds", 1e-9),
        ("process_max_fds", 0),
        ("process_open_fds", 0.3),
    ):
        assert captured.gauge(name).last == pytest.approx(theirs[name], rel=tolerance)
    cpu = captured.counter("process_cpu_seconds").total
    assert cpu == pytest.approx(theirs["process_cpu_seconds_total"], abs=0.5)
    stats = gc.get_stats()
    for generation in range(3):
        counted = captured.counter("python_gc_collections", generation=str(generation)).total
        assert counted == pytest.approx(stats[generation]["collections"], abs=2)
    version = ".".join(map(str, sys.version_info[:3]))
    assert captured.gauge("python_info", version=version, implementation="CPython").is_now(1)


@pytest.mark.slow
def test_counters_grow_by_the_difference_to_the_last_sample(
    captured: Captured, offline_metrics: Metrics
) -> None:
    watching = ProcessMetrics(offline_metrics)
    before = sum(os.times()[:2])
    watching.sample()
    captured.clear()
    for _ in range(3):
        gc.collect()
    began = time.process_time()
    while time.process_time() < began + 0.05:
        pass
    watching.sample()
    used = sum(os.times()[:2]) - before
    assert 3 <= captured.counter("python_gc_collections", generation="2").total < 10
    assert 0 < captured.counter("process_cpu_seconds").total < used + 0.1


def test_tags_are_host_and_slot_unless_replaced(
    captured: Captured, offline_metrics: Metrics
) -> None:
    ProcessMetrics(offline_metrics).sample()
    tags = captured.gauge("process_open_fds").samples[0].tags
    assert set(tags) == {"host", "slot"}
    assert tags["slot"].isdigit()
    captured.clear()
    ProcessMetrics(offline_metrics, tags={"slot": None, "role": "web"}).sample()
    assert set(captured.gauge("process_open_fds").samples[0].tags) == {"host", "role"}


def test_samples_with_flushes_at_most_once_per_interval(url: str, namespace: str) -> None:
    with Metrics(url, namespace=namespace, flush_interval=0.02) as metrics:
        watching = watch_process(metrics, interval=0.01)
        wait_until(
            lambda: (metrics.query("process_open_fds", aggregation="count") or 0) >= 3,
            "three samples",
        )
        watching.stop()
        slow = watch_process(metrics, interval=3600)
        metrics.flush()
        count = metrics.query("process_open_fds", aggregation="count")
        drained = metrics.stats()["batches"]
        for _ in range(3):
            metrics.increment("other")
            wait_until(lambda before=drained: metrics.stats()["batches"] > before, "a flush")
            drained = metrics.stats()["batches"]
        assert metrics.query("process_open_fds", aggregation="count") <= count + 1
        slow.stop()


@pytest.mark.parametrize(
    "options", [{"interval": 0}, {"interval": "often"}, {"tags": {"a": []}}], ids=repr
)
def test_invalid_options_raise(offline_metrics: Metrics, options: dict[str, object]) -> None:
    with pytest.raises(InvalidMetric):
        watch_process(offline_metrics, **options)  # type: ignore[arg-type]


def test_watching_twice_counts_once(captured: Captured, offline_metrics: Metrics) -> None:
    first = watch_process(offline_metrics)
    second = watch_process(offline_metrics, interval=3600, tags={"role": "web"})
    assert first is second
    counted = captured.counter("process_cpu_seconds").total
    assert counted == pytest.approx(sum(os.times()[:2]), abs=0.5)
    assert captured.counter("process_cpu_seconds", role="web").samples
    first.stop()


def test_clients_of_one_namespace_count_the_process_once(url: str, namespace: str) -> None:
    """Also after `stop`, and with clients that are made again."""
    before = sum(os.times()[:2])
    for _ in range(3):
        with Metrics(url, namespace=namespace) as metrics:
            watching = watch_process(metrics)
            watch_process(AsyncMetrics(metrics=metrics))
            watching.stop()
            again = watch_process(metrics)
            assert again is not watching
            metrics.flush()
            counted = metrics.query("process_cpu_seconds", aggregation="sum")
            collections = metrics.query("python_gc_collections", tags={"generation": 2})
    assert before <= counted <= sum(os.times()[:2])
    assert sum(each.value * each.count for each in collections) <= gc.get_stats()[2]["collections"]


def test_a_forked_child_counts_its_own_time(url: str, namespace: str) -> None:
    code = f"""
import json, os, redismetrics as rm
from redismetrics.integrations.process import watch_process
rm.configure({url!r}, namespace={namespace!r})
while sum(os.times()[:2]) < 0.5:
    pass
watch_process(tags={{"role": "parent"}})
rm.flush()
if not (pid := os.fork()):
    watch_process(tags={{"role": "child"}})
    rm.close()
    os._exit(0)
os.waitpid(pid, 0)
print(json.dumps([
    rm.query("process_cpu_seconds", aggregation="sum", tags={{"role": role}})
    for role in ("parent", "child")
]))
"""
    parent, child = python(code)
    assert parent >= 0.5
    assert child < parent
