"""What a capture captures, and what it leaves behind."""

import asyncio
import os
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

import redismetrics
from redismetrics import (
    AsyncMetrics,
    Counter,
    FlushResult,
    Gauge,
    InvalidTags,
    Metrics,
    StoreUnavailable,
)
from redismetrics.client import default
from redismetrics.telemetry import bus, handlers
from redismetrics.testing import Captured, capture
from tests.fixtures.servers import PATIENCE, Server
from tests.testing.application import (
    NOWHERE,
    aexplicit,
    depth,
    explicit,
    of_explicit,
    of_silent,
    refunds,
    silent,
    took,
)

# Names of the threads that a test has started.
Threads = Callable[[], set[str]]


def test_module_level_functions_are_captured(captured: Captured, threads: Threads) -> None:
    redismetrics.increment("refunds", 2, tags={"shop": "de"})
    redismetrics.increment("refunds", tags={"shop": "fr", "kind": "part"})
    redismetrics.gauge("queue_depth", 4)
    redismetrics.gauge("queue_depth", 3)
    redismetrics.histogram("latency", 0.25, metadata={"trace_id": "t-1"})
    redismetrics.record("experiment_result", {"value": 0.75, "model": "llama-3.1", "run": 7})
    with redismetrics.measure("job", outcome_tag="status"):
        pass
    assert captured.counter("refunds").increased_by(3)
    assert captured.counter("refunds", shop="de").increased_by(2)
    assert captured.counter("refunds", shop="fr").increased_by(1)
    assert captured.counter("refunds", {"kind": None}).increased_by(2)
    assert captured.counter("refunds", shop="at").increased_by(0)
    assert captured.gauge("queue_depth").is_now(3)
    assert captured.gauge("queue_depth").values == [4, 3]
    assert captured.histogram("latency").recorded(0.25)
    assert captured.histogram("latency").samples[0].metadata == {"trace_id": "t-1"}
    assert captured.histogram("experiment_result", model="llama-3.1").recorded(0.75)
    assert captured.histogram("job", status="ok").recorded_times(1)
    assert captured.names == ["experiment_result", "job", "latency", "queue_depth", "refunds"]
    assert threads() == set()


def test_instruments_and_clients_created_before_and_during_a_capture_are_captured(
    captured: Captured,
) -> None:
    refunds.increment(5)
    of_explicit.increment(2)
    of_silent.increment()
    explicit.increment("jobs")
    silent.increment("jobs", 10)
    Metrics(NOWHERE).increment("jobs", 100)  # no longer held by anybody
    Metrics("none://").increment("jobs", 1_000)
    assert captured.counter("refunds").total == 8
    assert captured.counter("jobs").total == 1_111
    took.record(1.5)
    took.record(0.5)
    assert captured.histogram("took").recorded(0.5, 1.5)
    depth.set(10.0)
    depth.add(-3.0)
    assert captured.gauge("depth").is_now(7)
    depth.add(1.0)
    assert captured.gauge("depth").values == [10, 7, 8]


def test_async_clients_are_captured(captured: Captured, threads: Threads) -> None:
    async def work() -> None:
        async with AsyncMetrics(NOWHERE) as inside:
            inside.increment("jobs", 4)
            await inside.flush(timeout=PATIENCE)
            with pytest.raises(StoreUnavailable, match="a capture keeps samples in memory"):
                await inside.query("jobs", aggregation="sum")
            with pytest.raises(StoreUnavailable, match="a capture keeps"):
                async with inside.subscribe("jobs"):
                    pass

    aexplicit.increment("jobs", 1)
    AsyncMetrics(metrics=explicit).increment("jobs", 2)
    asyncio.run(work())
    assert captured.counter("jobs").total == 7
    assert asyncio.run(aexplicit.flush()) == FlushResult(stored=1)
    assert threads() == set()


def test_all_clients_of_one_none_url_are_captured_and_then_silent_again() -> None:
    asilent, shared = AsyncMetrics("none://"), AsyncMetrics(metrics=silent)
    for _ in range(2):
        with capture() as captured:
            within = Metrics(metrics=asilent)
            for each in (silent, asilent, shared, within):
                each.increment("jobs")
                each.gauge("depth", 3)
            Gauge("depth", metrics=shared).add(2)
            assert captured.counter("jobs").total == 4
            assert (
                captured.gauge("depth").values.count(5) == 1
            )  # 3 + 2: one client changes what the other set
            with capture() as inner:
                within.increment("jobs")
                Metrics(metrics=within).increment("jobs")
                assert inner.counter("jobs").total == 2
            assert captured.counter("jobs").total == 4
        for each in (silent, asilent, shared, within):
            each.increment("jobs")
            assert each.settings.url == "none://"
            assert each.stats()["recorded"] == 0
            assert not each.internals.has_store
    asyncio.run(asilent.aclose())


def test_connections_opened_before_a_capture_are_not_used_in_it(
    url: str, namespace: str, server: Server
) -> None:
    """A query in a capture reaches no Redis, even over a connection opened before."""

    async def scenario() -> None:
        async with AsyncMetrics(url, namespace=namespace) as ametrics:
            ametrics.increment("jobs", 2)
            metrics = Metrics(metrics=ametrics)
            assert (
                await ametrics.query("jobs", aggregation="sum")
                == metrics.query("jobs", aggregation="sum")
                == 2
            )
            assert ametrics._loops._clients
            with capture() as captured:
                asked = commands(server)
                for client in (ametrics, AsyncMetrics(metrics=metrics)):
                    client.increment("jobs", 10)
                    for question in (
                        client.query("jobs"),
                        client.get_stats(),
                        client.delete_metric("jobs"),
                    ):
                        with pytest.raises(StoreUnavailable, match="a capture keeps"):
                            await question
                    with pytest.raises(StoreUnavailable, match="a capture keeps"):
                        async with client.subscribe():
                            pass
                with pytest.raises(StoreUnavailable, match="a capture keeps"):
                    metrics.query("jobs")
                with pytest.raises(StoreUnavailable, match="a capture keeps"):
                    metrics.subscribe()
                assert commands(server) == asked
                assert captured.counter("jobs").total == 20
            assert await ametrics.query("jobs", aggregation="sum") == 2
            ametrics.increment("jobs")
            assert await ametrics.query("jobs", aggregation="sum") == 3

    asyncio.run(scenario())


def commands(server: Server) -> int:
    with server.client() as client:
        found = client.info("commandstats").items()
        return sum(
            each["calls"]
            for name, each in found
            if not re.match("cmdstat_(client|info|hello|select)", name)
        )


def test_a_decorated_function_and_an_event_are_captured(captured: Captured) -> None:
    with capture():  # what is imported inside a test makes the default client there

        @redismetrics.measure("run")
        def run() -> int:
            return 7

    assert run() == 7
    handler = handlers.attach_telemetry([(("work", "done"), "counter")])
    bus.execute(("work", "done"), {"count": 2}, {"tenant": "cns"})
    bus.detach(handler)
    assert captured.histogram("run").recorded_times(1)
    assert captured.counter("work_done", tenant="cns").increased_by(2)


def test_a_none_url_from_the_environment_is_captured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(default, "_arguments", ((), {}))
    monkeypatch.setenv("REDISMETRICS_URL", "none://")
    for _ in range(2):
        with capture() as captured:
            redismetrics.increment("jobs")
            refunds.increment()
            captured.counter("jobs").increased_by(1)
            captured.counter("refunds").increased_by(1)
        refunds.increment()
        redismetrics.increment("jobs")
    assert redismetrics.stats()["recorded"] == 0


def test_invalid_data_raises_or_is_dropped_as_without_a_capture(captured: Captured) -> None:
    with pytest.raises(InvalidTags):
        redismetrics.increment("jobs", tags={"a": []})
    lenient = Metrics(NOWHERE, on_invalid="drop", tags={"host": "a"})
    lenient.increment("jobs", tags={"a": []})
    lenient.increment("jobs")
    lenient.histogram("took", 1, timestamp=datetime(2020, 1, 1, tzinfo=UTC))
    lenient.histogram("took", 2, timestamp=datetime.now(UTC) + timedelta(days=1))
    assert captured.dropped == {"invalid": 1, "too_old": 1, "in_future": 1}
    assert captured.counter("jobs", host="a").increased_by(1)
    assert captured.histogram("took").not_recorded()
    captured.clear()
    assert captured.dropped == {}
    assert captured.nothing_recorded()


def test_flush_stats_and_close_work_and_queries_raise(captured: Captured) -> None:
    redismetrics.increment("jobs", 2)
    redismetrics.flush(timeout=PATIENCE)
    assert redismetrics.stats()["stored"] == 1
    assert redismetrics.stats()["pending"] == 0
    with pytest.raises(StoreUnavailable, match="a capture keeps samples in memory"):
        redismetrics.query("jobs")
    with Metrics(NOWHERE) as metrics:
        metrics.increment("jobs")
    metrics.increment("jobs")
    redismetrics.close()
    redismetrics.increment("jobs")
    assert captured.counter("jobs").total == 3
    assert captured.dropped == {"closed": 2}


def test_ten_thousand_values_are_captured(captured: Captured) -> None:
    for number in range(10_000):
        took.record(float(number))
        refunds.increment()
    assert captured.histogram("took").count == 10_000
    assert captured.histogram("took").values[-1] == 9_999
    assert captured.counter("refunds").count == 10_000


def test_threads_are_captured(captured: Captured) -> None:
    def work() -> None:
        for _ in range(1_000):
            refunds.increment()
            redismetrics.gauge("depth", 1)

    running = [threading.Thread(target=work) for _ in range(4)]
    for thread in running:
        thread.start()
    while any(thread.is_alive() for thread in running):
        captured.samples()
    assert captured.counter("refunds").increased_by(4_000)
    assert len(captured.gauge("depth").values) == 4_000


# -- nothing is left behind -----


def test_each_capture_begins_empty() -> None:
    with capture() as first:
        redismetrics.configure(NOWHERE, namespace="first", tags={"host": "a"})
        redismetrics.increment("x")
        refunds.increment()
        redismetrics.close()
    with capture() as second:
        redismetrics.configure(NOWHERE, namespace="second")  # not too late
        redismetrics.gauge("x", 1)  # it was a counter before
        refunds.increment(2)
        assert second.gauge("x", host=None).is_now(1)
    assert second.counter("refunds").increased_by(2)
    assert first.counter("x", host="a").increased_by(1)
    assert first.names == ["refunds", "x"]
    assert first.dropped == {}


def test_declarations_during_a_capture_stay() -> None:
    """A module declares its metrics once, when the first test imports it."""
    explicit.declare("before", "histogram", unit="seconds")
    for _ in range(2):
        with capture():
            explicit.declare("within", "histogram", unit="seconds")
            explicit.gauge("guess", 1)
            assert explicit._recorder.metrics["before"].definition.unit == "seconds"
    assert set(explicit._recorder.metrics) == {"before", "within"}


def test_the_outer_capture_continues_after_an_inner_one(captured: Captured) -> None:
    refunds.increment(1)
    depth.set(5.0)
    with capture() as inner:
        refunds.increment(10)
        depth.add(1.0)
    refunds.increment(100)
    depth.add(2.0)
    assert inner.counter("refunds").increased_by(10)
    assert inner.gauge("depth").is_now(1)
    assert captured.counter("refunds").increased_by(101)
    assert captured.gauge("depth").is_now(7)


def test_a_real_client_sends_before_and_after_but_not_what_was_captured(
    url: str, namespace: str, threads: Threads
) -> None:
    with Metrics(url, namespace=namespace, flush_interval=0.05) as metrics:
        jobs, level = Counter("jobs", metrics=metrics), Gauge("level", metrics=metrics)
        jobs.increment(1)
        level.set(1.0)
        metrics.increment("jobs", 10, tags={"a": "b"})
        with capture() as captured:
            jobs.increment(100)
            level.set(2.0)
            metrics.increment("jobs", 100, tags={"a": "b"})
            metrics.close()
            assert threads() == set()
            assert captured.counter("jobs").total == 200
        jobs.increment(2)
        metrics.increment("jobs", 20, tags={"a": "b"})
        metrics.flush()
        assert metrics.query("jobs", aggregation="sum") == 33
        assert metrics.query("level", aggregation="last") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_sends_nothing(captured: Captured, threads: Threads) -> None:
    refunds.increment()
    pid = os.fork()
    if pid == 0:
        refunds.increment()
        redismetrics.flush(5)
        os._exit(len(threads()))
    assert os.waitpid(pid, 0)[1] == 0
    assert captured.counter("refunds").increased_by(1)
