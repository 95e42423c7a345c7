"""The garbage collector is paused while replies are decoded, and never longer."""

import gc
import os
import threading
from collections.abc import Iterator

import pytest

from redismetrics import Metrics
from redismetrics.store.pausing_gc import pausing_gc


@pytest.fixture(autouse=True)
def _collecting() -> Iterator[None]:
    assert gc.isenabled()
    yield
    gc.enable()


def test_the_collector_rests_inside_and_no_longer() -> None:
    with pausing_gc():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_an_error_ends_the_pause() -> None:
    with pytest.raises(ValueError, match="damaged"), pausing_gc():
        raise ValueError("damaged")
    assert gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork() is needed")
@pytest.mark.parametrize("is_wanted", [True, False], ids=["collecting", "not collecting"])
def test_a_child_that_is_forked_in_a_pause_of_another_thread_collects(is_wanted: bool) -> None:
    """Unless the application itself has turned the collector off."""
    if not is_wanted:
        gc.disable()
    entered, end = threading.Event(), threading.Event()

    def pause() -> None:
        with pausing_gc():
            entered.set()
            end.wait(60)

    thread = threading.Thread(target=pause)
    thread.start()
    assert entered.wait(60)
    child = os.fork()
    if not child:
        os._exit(0 if gc.isenabled() == is_wanted else 1)
    end.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert gc.isenabled() == is_wanted


def test_the_first_to_enter_ends_the_pause() -> None:
    first, second = pausing_gc(), pausing_gc()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with pausing_gc():
        pass
    assert not gc.isenabled()


def test_it_runs_whenever_redis_is_waited_for(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        metrics.increment(f"jobs_{number}", tags={"queue": "mail"})
    metrics.flush()
    seen: list[bool] = []
    from redismetrics.store import pipelines

    send = pipelines.send

    def watched(*arguments: object, **named: object) -> object:
        seen.append(gc.isenabled())
        return send(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(pipelines, "send", watched)
    assert len(metrics.live()) == 20
    metrics.get_metrics(limit=3)
    metrics.get_stats()
    assert len(seen) > 3
    assert all(seen)
    assert gc.isenabled()


def test_a_pause_that_begins_while_another_ends_is_ended_in_a_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = pausing_gc(), pausing_gc()
    real = gc.enable

    def enable() -> None:
        real()
        # Another thread, in the middle of the end of the first one.
        second.__enter__()

    first.__enter__()
    monkeypatch.setattr(gc, "enable", enable)
    first.__exit__()
    monkeypatch.undo()
    assert not gc.isenabled()
    child = os.fork()
    if not child:
        os._exit(0 if gc.isenabled() else 1)
    assert os.waitpid(child, 0)[1] == 0
    second.__exit__()
