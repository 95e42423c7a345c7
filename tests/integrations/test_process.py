"""What is sampled of the process itself."""

import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import prometheus_client
import pytest

from redismetrics import InvalidMetric, Metrics
from redismetrics.integrations import process_slot
from redismetrics.integrations.process import ProcessMetrics, watch_process
from redismetrics.testing import Captured
from tests.fixtures.servers import wait_until

ROOT = Path(__file__).parents[2]
linux = pytest.mark.skipif(sys.platform != "linux", reason="no /proc here")


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    metrics = Metrics("redis://127.0.0.1:1", flush_interval=3600)
    yield metrics
    metrics.close(0)


@linux
def test_the_figures_are_prometheus_client_s(captured: Captured, metrics: Metrics) -> None:
    ProcessMetrics(metrics).sample()
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


def test_counters_grow_by_what_was_added_since(captured: Captured, metrics: Metrics) -> None:
    watching = ProcessMetrics(metrics)
    watching.sample()
    captured.clear()
    for _ in range(3):
        gc.collect()
    began, before = time.process_time(), sum(os.times()[:2])
    while time.process_time() < began + 0.05:
        pass
    watching.sample()
    assert 3 <= captured.counter("python_gc_collections", generation="2").total < 10
    assert 0 < captured.counter("process_cpu_seconds").total < sum(os.times()[:2]) - before + 1


def test_series_are_told_apart_by_host_and_slot_or_as_one_says(
    captured: Captured, metrics: Metrics
) -> None:
    ProcessMetrics(metrics).sample()
    tags = captured.gauge("process_open_fds").samples[0].tags
    assert set(tags) == {"host", "slot"}
    assert tags["slot"].isdigit()
    captured.clear()
    ProcessMetrics(metrics, tags={"slot": None, "role": "web"}).sample()
    assert set(captured.gauge("process_open_fds").samples[0].tags) == {"host", "role"}


def test_it_samples_with_the_flushes_and_at_most_every_interval(url: str, namespace: str) -> None:
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_children_have_slots_of_their_own_and_those_of_the_dead_are_used_again(
    url: str, namespace: str
) -> None:
    code = """
import os, sys, gc
from redismetrics import Metrics
from redismetrics.integrations.process import watch_process
from redismetrics.integrations.process_slot import process_slot
metrics = Metrics(sys.argv[1], namespace=sys.argv[2])
watching = watch_process(metrics)
mine = process_slot()
seen = []
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        watching.sample()
        metrics.close()
        os._exit(int(process_slot()))
    seen.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
assert str(seen[0]) != mine, (seen, mine)
assert len(set(seen)) == 1, seen
assert process_slot() == mine
metrics.flush()
collected = sum(generation["collections"] for generation in gc.get_stats())
assert metrics.query("python_gc_collections", aggregation="sum") <= collected + 5
assert len(metrics.tag_values("process_open_fds", "slot")) == 2
"""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    environ["TMPDIR"] = os.environ.get("TMPDIR", "/tmp")
    done = subprocess.run(
        [sys.executable, "-c", code, url, namespace],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_folder_of_another_user_gives_no_slot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"redismetrics-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    assert process_slot.take_slot(tmp_path) is None
    assert "no slot" in caplog.text


@pytest.mark.parametrize(
    "options", [{"interval": 0}, {"interval": "often"}, {"tags": {"a": []}}], ids=repr
)
def test_wrong_options_raise(metrics: Metrics, options: dict[str, object]) -> None:
    with pytest.raises(InvalidMetric):
        watch_process(metrics, **options)  # type: ignore[arg-type]
