"""The collector: the timestamps of counters, and draining from many threads."""

import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from redismetrics.recording import collector
from redismetrics.recording import drain as drain_module
from redismetrics.recording.drain import drain as drain_drain
from tests.fixtures.servers import PATIENCE, wait_until
from tests.recording.helpers import NEVER, Make, balanced, collect, only


def test_increments_have_a_time_one_millisecond_before_their_flush(
    make: Make,
) -> None:
    metrics = make(flush_interval=0.05)
    metrics.increment("jobs")
    wait_until(lambda: metrics.stats()["stored"] == 1, "the interval's flush")
    assert round(only(metrics, "jobs").timestamp.timestamp() * 1000) % 50 == 49


def test_the_last_interval_of_a_minute_stays_in_it_after_a_long_pause(
    make: Make,
) -> None:
    minute = datetime.now(UTC).timestamp() // 60 * 60 - 120
    now = [minute + 59.97]
    metrics = make(flush_interval=0.1, clock=lambda: now[0])
    metrics._recorder.steady_clock = lambda: now[0]
    metrics.increment("jobs")
    now[0] = minute + 75  # the process is stopped for 15 s just before its flush is due
    wait_until(lambda: metrics.stats()["stored"] == 1, "the late flush")
    assert only(metrics, "jobs").timestamp == datetime.fromtimestamp(minute + 59.999, UTC)


def test_increments_have_the_time_of_an_explicit_flush(make: Make) -> None:
    now = int(datetime.now(UTC).timestamp()) - 60.0
    metrics = make(clock=lambda: now)
    metrics.increment("jobs")
    metrics.flush()
    assert only(metrics, "jobs").timestamp == datetime.fromtimestamp(now, UTC)


# -- from many threads -----


def test_flush_waits_for_a_drain_under_way(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = make(flush_interval=NEVER)
    taken, go_on = threading.Event(), threading.Event()
    drain = drain_drain

    def slow_drain(*args: Any) -> Any:
        result = drain(*args)  # the buffers are empty, and nothing is in the queue yet
        taken.set()
        assert go_on.wait(PATIENCE)
        return result

    monkeypatch.setattr(drain_module, "drain", slow_drain)
    metrics.increment("jobs")
    collector = threading.Thread(target=collect, args=(metrics,))
    collector.start()
    assert taken.wait(PATIENCE)
    answers: list[int] = []
    asker = threading.Thread(
        target=lambda: answers.append(metrics.query("jobs", aggregation="sum"))
    )
    asker.start()
    asker.join(0.2)
    go_on.set()
    asker.join()
    collector.join()
    assert answers == [1]


def test_flushes_from_many_threads_at_once(make: Make) -> None:
    metrics = make(flush_interval=0.01)
    problems: list[BaseException] = []

    def run(number: int) -> None:
        try:
            for _ in range(30):
                metrics.increment("jobs", tags={"t": number})
                metrics.flush()
                found = metrics.query("jobs", aggregation="sum", tags={"t": number})
                assert found == _ + 1
        except BaseException as error:  # noqa: BLE001 - the test's own thread raises it
            problems.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert metrics.query("jobs", aggregation="sum") == 180


@pytest.mark.slow
def test_stats_are_balanced_at_any_moment(make: Make) -> None:
    metrics = make(flush_interval=0.01)
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            metrics.increment("jobs")
            metrics.gauge("depth", 1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for _ in range(100):
            balanced(metrics)
            time.sleep(0.0005)
    finally:
        stop.set()
        thread.join()
    metrics.flush()
    stats = balanced(metrics)
    assert stats["stored"] == stats["recorded"]
    assert (
        metrics.query("jobs", aggregation="sum") == metrics.query("depth", aggregation="count") > 0
    )
    assert stats["stored"] == 2 * metrics.query("jobs", aggregation="sum")


def test_idle_series_with_many_bytes_of_tags_are_forgotten(make: Make) -> None:
    metrics = make(flush_interval=NEVER)
    wide = {f"tag_{number:02}": "x" * 1_000 for number in range(30)}
    for number in range(600):
        metrics.increment("jobs", tags={**wide, "n": str(number)})
    # Such tags are in no cache.
    assert len(metrics._recorder.counters) == 0
    known = metrics._recorder.metrics["jobs"]
    assert known.nbytes == sum(map(len, known.buffers)) > collector.CACHED_BYTES
    metrics.flush()
    assert len(known.known_series.ids) == 600
    for _ in range(collector.IDLE_FLUSHES + collector.IDLE_CHECK_FLUSHES):
        collect(metrics)
    assert (len(known.buffers), known.nbytes, len(known.known_series.ids)) == (0, 0, 0)
    # A series that returns is counted on.
    metrics.increment("jobs", tags={**wide, "n": "7"})
    assert metrics.query("jobs", aggregation="sum", tags={"n": "7"}) == 2
