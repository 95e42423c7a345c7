"""The event bus: handlers of any kind, in any thread."""

import logging
import os
import threading
from typing import Any

import pytest

from redismetrics import (
    InvalidMetric,
    Metrics,
    attach_telemetry,
    list_handlers,
)
from redismetrics.telemetry import bus, execute
from tests.fixtures.servers import PATIENCE
from tests.telemetry.helpers import COMPLETED


def test_function_gets_event_measurements_and_metadata(
    events: list[tuple[Any, ...]],
) -> None:
    execute(COMPLETED, {"count": 1}, {"tenant": "cns"})
    execute(list(COMPLETED))
    execute(("nobody", "listens"), {"count": 1})
    assert events == [(COMPLETED, {"count": 1}, {"tenant": "cns"}), (COMPLETED, {}, {})]


@pytest.mark.parametrize("event", ["work.job", ["work", 1], None, [], 5], ids=repr)
def test_invalid_event_raises(event: Any) -> None:
    with pytest.raises(InvalidMetric, match="event must be a tuple of text"):
        execute(event)


def test_failing_handler_is_detached_and_logged(
    events: list[tuple[Any, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> None:
        raise ZeroDivisionError("mine")

    bus.attach("fails", [COMPLETED], fails)
    bus.attach("after", [COMPLETED], lambda *given: events.append(given))
    with caplog.at_level(logging.ERROR, "redismetrics"):
        execute(COMPLETED)
        execute(COMPLETED)
    assert len(events) == 4
    assert [found["id"] for found in list_handlers()] == ["seen", "after"]
    (record,) = caplog.records
    assert "'fails'" in record.getMessage()
    assert "ZeroDivisionError: mine" in (record.exc_text or "")


def test_handler_may_attach_detach_and_execute(events: list[tuple[Any, ...]]) -> None:
    def once(*_: Any) -> None:
        bus.detach("once")
        bus.attach("later", [COMPLETED], lambda *given: events.append(("later",)))
        execute(COMPLETED, {"nested": 1})

    bus.attach("once", [COMPLETED], once)
    execute(COMPLETED)
    assert events == [(COMPLETED, {}, {}), (COMPLETED, {"nested": 1}, {}), ("later",)]


def test_concurrent_attach_and_execute_lose_no_event(metrics: Metrics) -> None:
    attach_telemetry([(COMPLETED, "counter")], metrics=metrics)
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            bus.attach("churn", [COMPLETED], lambda *_: None)
            bus.detach("churn")

    threads = [
        threading.Thread(target=lambda: [execute(COMPLETED) for _ in range(2_000)])
        for _ in range(4)
    ]
    churning = threading.Thread(target=churn)
    churning.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    churning.join()
    assert metrics.query("work_job_completed", aggregation="sum") == 8_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_child_forked_while_the_lock_is_held_can_attach() -> None:
    with bus.event_bus.lock:
        pid = os.fork()
        if pid == 0:
            done = threading.Thread(
                target=bus.attach, args=("child", [COMPLETED], print), daemon=True
            )
            done.start()
            done.join(PATIENCE)
            os._exit(0 if list_handlers() else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_execute_takes_no_lock(events: list[tuple[Any, ...]]) -> None:
    with bus.event_bus.lock:
        thread = threading.Thread(target=execute, args=(COMPLETED,), daemon=True)
        thread.start()
        thread.join(PATIENCE)
    assert events == [(COMPLETED, {}, {})]
