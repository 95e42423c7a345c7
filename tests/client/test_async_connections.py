"""Connections of `AsyncMetrics`: event loops, forks, cancelled queries, an unreachable Redis."""

import asyncio
import gc
import os
import threading
import time
import warnings
from typing import Any

import pytest

from redismetrics import (
    AsyncMetrics,
    Metrics,
    Sample,
    ScriptFailed,
    StoreUnavailable,
    TypeMismatch,
)
from redismetrics.store import keys
from tests.client.async_helpers import NEVER, Run, clients
from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.system.faults.proxy import Proxy


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
            async with ametrics.subscribe() as stream:
                # Not before: what is stored by then is not delivered.
                ametrics.increment("jobs", 3)
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
def test_a_child_forked_from_a_running_loop_uses_its_own_connections(
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


# -- waiting -----


def test_the_loop_continues_while_a_flush_waits(server: Server, namespace: str, run: Run) -> None:
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

    # If the loop were blocked, there would be one or two.
    assert run(work()) > 3


def test_many_queries_wait_concurrently_for_an_unreachable_redis(namespace: str, run: Run) -> None:
    async def work() -> float:
        async with AsyncMetrics(
            "redis://127.0.0.1:1/0", namespace=namespace, socket_timeout=0.3
        ) as ametrics:
            ametrics.increment("jobs")
            with pytest.raises(StoreUnavailable):
                await ametrics.flush(0.3)
            began = time.monotonic()
            found = await asyncio.gather(
                *(ametrics.query("jobs") for _ in range(300)), return_exceptions=True
            )
            assert {type(each) for each in found} == {StoreUnavailable}
            took = time.monotonic() - began
            await ametrics.aclose(0.1)
            return took

    assert run(work()) < 60  # one after another they would take 90


def test_a_flush_raises_another_type_once(
    ametrics: AsyncMetrics, metrics: Metrics, run: Run
) -> None:
    metrics.gauge("depth", 1)
    metrics.flush()
    ametrics.increment("depth")
    with pytest.raises(TypeMismatch, match="depth"):
        run(ametrics.flush())
    run(ametrics.flush())


def test_redis_errors_are_translated_and_missing_scripts_are_loaded(
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


def test_cancelled_queries_leave_connections_usable(
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
