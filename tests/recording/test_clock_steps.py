"""The clock of a recording process, or the server's, is set while samples are recorded.

Once the clocks agree, all samples are stored, with and without explicit timestamps.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.recording import fitting
from redismetrics.recording.collector import Collector
from redismetrics.recording.recorder import Recorder
from redismetrics.recording.send_queue import SendQueue
from redismetrics.settings import resolve
from redismetrics.store import server as store_server
from tests.fixtures.servers import Server
from tests.recording.helpers import NEVER, NOWHERE, Make, balanced, collect

DAY = 86_400.0
STEPS = [-30 * DAY, -25 * 3_600, -600, 600, 3_600, 2 * DAY, 30 * DAY]


def record(metrics: Metrics, *, own_time: bool) -> None:
    more: dict[str, Any] = {"timestamp": metrics._recorder.clock()} if own_time else {}
    metrics.increment("jobs", **more)
    metrics.gauge("depth", 1, **more)
    metrics.histogram("took", 1, **more)
    metrics.flush()


@pytest.mark.parametrize("own_time", [False, True])
@pytest.mark.parametrize("first", STEPS)
def test_samples_are_stored_once_the_clock_of_the_process_is_right(
    make: Make, first: float, own_time: bool
) -> None:
    offset = [first]
    metrics = make(flush_interval=NEVER, clock=lambda: time.time() + offset[0])
    record(metrics, own_time=own_time)
    before = balanced(metrics)
    offset[0] = 0.0
    for _ in range(3):
        record(metrics, own_time=own_time)
    after = balanced(metrics)
    assert after["stored"] - before["stored"] == 9
    assert after["dropped"] == before["dropped"]


@pytest.mark.parametrize("own_time", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_samples_are_stored_after_a_wrong_step_is_undone(
    make: Make, step: float, own_time: bool
) -> None:
    offset = [0.0]
    metrics = make(flush_interval=NEVER, clock=lambda: time.time() + offset[0])
    record(metrics, own_time=own_time)
    offset[0] = step
    for _ in range(2):
        record(metrics, own_time=own_time)
    before = balanced(metrics)
    offset[0] = 0.0
    for _ in range(3):
        record(metrics, own_time=own_time)
    after = balanced(metrics)
    assert after["stored"] - before["stored"] == 9
    assert after["dropped"] == before["dropped"]


@pytest.mark.parametrize("own_time", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_samples_are_stored_after_the_clock_of_the_server_is_right_again(
    make: Make, step: float, own_time: bool
) -> None:
    metrics = make(flush_interval=NEVER)
    record(metrics, own_time=own_time)
    # What the process remembers of a server whose clock was wrong when it replied last.
    metrics._sink.sender.fitting.offset_ms = step * 1000
    for _ in range(3):
        record(metrics, own_time=own_time)
    stats = balanced(metrics)
    assert (stats["stored"], stats["dropped"]) == (12, {})


@pytest.mark.slow
@pytest.mark.parametrize("own_time", [False, True])
@pytest.mark.parametrize("when", ["before", "during"])
@pytest.mark.parametrize("step", STEPS)
def test_samples_are_stored_once_the_clock_of_a_real_server_is_right(
    moving_server: Server, make: Make, step: float, when: str, own_time: bool
) -> None:
    right = moving_server.time
    metrics = make(moving_server.url, flush_interval=NEVER, clock=lambda: right)
    if when == "during":
        record(metrics, own_time=own_time)
    moving_server.set_time(right + step)
    try:
        for _ in range(2):
            record(metrics, own_time=own_time)
    finally:
        moving_server.set_time(right)
    before = balanced(metrics)
    for _ in range(3):
        record(metrics, own_time=own_time)
    after = balanced(metrics)
    assert after["stored"] - before["stored"] == 9
    assert after["dropped"] == before["dropped"]


def test_samples_too_old_by_the_server_clock_are_dropped_after_a_step_too(
    make: Make,
) -> None:
    offset = [-30 * DAY]
    metrics = make(flush_interval=NEVER, clock=lambda: time.time() + offset[0])
    record(metrics, own_time=False)
    metrics.increment("jobs", timestamp=time.time())
    offset[0] = 0.0
    metrics.increment("jobs", timestamp=time.time() - 30 * DAY)
    metrics.increment("jobs", timestamp=time.time() + 30 * DAY)
    metrics.flush()
    stats = balanced(metrics)
    assert (stats["stored"], stats["dropped"]) == (1, {"too_old": 4, "in_future": 1})


def test_the_server_is_asked_for_its_time_only_before_something_is_dropped(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[None] = []

    def now(real: Callable[[], Any] = store_server.now) -> Any:
        asked.append(None)
        return real()

    monkeypatch.setattr(fitting.server, "now", now)
    metrics = make(flush_interval=NEVER)
    record(metrics, own_time=True)
    assert not asked
    metrics.increment("jobs", timestamp=time.time() - 30 * DAY)
    metrics.flush()
    assert len(asked) == 1


class ClockSetForward(threading.Event):
    """A stop event that lets the clock be set while the collector waits for its first flush."""

    def __init__(self, during_wait: Callable[[], None]) -> None:
        super().__init__()
        self._during_wait: Callable[[], None] | None = during_wait

    def wait(self, timeout: float | None = None) -> bool:
        during_wait, self._during_wait = self._during_wait, None
        if during_wait is None:
            return True
        during_wait()
        return False


def test_samples_recorded_after_a_step_forward_have_the_new_time() -> None:
    now = time.time()
    clock = [now - 30 * DAY]
    recorder = Recorder(resolve(url=NOWHERE), lambda: clock[0])
    recorder.steady_clock = lambda: 0.0
    queue = SendQueue(recorder)

    def step() -> None:
        clock[0] = now
        recorder.add("counter", "jobs", 1)

    Collector(recorder, queue).run(ClockSetForward(step))
    (batch,) = queue.lines[0]
    assert now - 1 - 0.001 <= batch.samples.time[0] / 1000 <= now


@pytest.mark.parametrize("step", STEPS)
def test_a_clock_step_does_not_expire_samples_that_have_just_been_recorded(
    make: Make, step: float
) -> None:
    offset = [0.0]
    metrics = make(
        NOWHERE, flush_interval=NEVER, buffer_age=60, clock=lambda: time.time() + offset[0]
    )
    metrics.increment("jobs")
    collect(metrics)
    offset[0] = step
    collect(metrics)
    stats = balanced(metrics)
    assert (stats["pending"], stats["dropped"]) == (1, {})
