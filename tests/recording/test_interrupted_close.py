"""Ctrl-C in `close()`: the rest is counted and logged, and the next `close()` continues."""

import logging
from collections.abc import Callable

import pytest

from redismetrics.recording import lifecycle
from redismetrics.recording.redis_sink import RedisSink
from tests.fixtures.servers import Server
from tests.recording.helpers import NEVER, Make, balanced

STEPS = ["_stop_threads", "_send_rest", "collector", "send_all"]


def _interrupt(sink: RedisSink, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise KeyboardInterrupt in this step of `close`."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    target = {"collector": sink.collector, "send_all": sink.sender}.get(step, sink)
    name = {"collector": "collect_now"}.get(step, step)
    monkeypatch.setattr(target, name, interrupted)


@pytest.mark.parametrize("step", STEPS)
def test_a_second_close_continues_an_interrupted_one(
    make: Make, step: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = make(flush_interval=NEVER)
    for _ in range(50):
        metrics.increment("jobs")
    with monkeypatch.context() as patch:
        _interrupt(metrics._sink, step, patch)
        with pytest.raises(KeyboardInterrupt):
            metrics.close()
    assert balanced(metrics)["pending"] == 50
    assert any("interrupted by KeyboardInterrupt(): 50" in each for each in caplog.messages)
    metrics.close()
    stats = balanced(metrics)
    assert (stats["stored"], stats["pending"], stats["dropped"]) == (50, 0, {})


@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_exit_counts_and_logs_what_is_left(
    make: Make,
    fresh_server: Callable[..., Server],
    step: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = make(fresh_server().url, flush_interval=NEVER)
    for _ in range(50):
        metrics.increment("jobs")
    monkeypatch.setattr(lifecycle, "_sinks", {metrics._sink})
    real, calls = metrics._sink.close, []

    def close(timeout: float) -> None:
        calls.append(timeout)
        if len(calls) > 1:
            real(timeout)
            return
        with monkeypatch.context() as patch:
            _interrupt(metrics._sink, step, patch)
            real(timeout)

    monkeypatch.setattr(metrics._sink, "close", close)
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        lifecycle.close_at_exit()
    stats = balanced(metrics)
    assert (stats["pending"], stats["dropped"]) == (0, {"unsent": 50})
    assert any("closed with 50 samples never sent" in each for each in caplog.messages)
