"""The drivers perform the steps of a feed: results and errors go back into it, in both alike."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from redismetrics.errors import StoreUnavailable
from redismetrics.store.connection import Store
from redismetrics.store.driver import Operation
from redismetrics.store.loop_clients import LoopClients
from redismetrics.stream.delivery import ThreadQueue
from redismetrics.stream.steps import (
    Connect,
    Disconnect,
    Pause,
    Ping,
    Read,
    Run,
    Steps,
    Subscribe,
    SubscribePatterns,
)
from redismetrics.stream.transport import AsyncTransport, Transport

Drive = Callable[[str, Steps[Any]], Any]


def drive(url: str, steps: Steps[Any]) -> Any:
    store = Store(url, 1.0)
    try:
        return Transport(store, ThreadQueue(1)).drive(steps)
    finally:
        store.close()


def drive_async(url: str, steps: Steps[Any]) -> Any:
    async def run() -> Any:
        store = Store(url, 1.0)
        loops = LoopClients(store)
        try:
            return await AsyncTransport(store, loops).drive(steps)
        finally:
            await loops.aclose()
            store.close()

    return asyncio.run(run())


both = pytest.mark.parametrize("drive", [drive, drive_async])


def echo(text: str) -> Operation[bytes]:
    (reply,) = yield [("ECHO", text)]
    return bytes(reply)


@both
def test_results_are_sent_to_the_steps(drive: Drive, url: str) -> None:
    def steps() -> Steps[list[Any]]:
        yield Connect(1.0)
        yield Subscribe(["here"])
        yield SubscribePatterns(["there*"])
        messages = [(yield Read(1.0)), (yield Read(1.0))]
        yield Ping()
        messages.append((yield Read(1.0)))
        yield Pause(0.01)
        nothing = yield Read(0.01)
        reply = yield Run(echo("hello"))
        yield Disconnect()
        yield Disconnect()
        return [*(message["type"] for message in messages), nothing, reply]

    assert drive(url, steps()) == ["subscribe", "psubscribe", "pong", None, b"hello"]


@both
def test_errors_are_thrown_into_the_steps(drive: Drive) -> None:
    def steps() -> Steps[str]:
        try:
            yield Connect(1.0)
            yield Subscribe(["here"])
        except StoreUnavailable as error:
            yield Disconnect()
            return str(error)
        return "no error"

    assert drive("redis://127.0.0.1:1/0", steps()).startswith("Redis did not answer")


@both
def test_an_error_of_the_steps_is_raised(drive: Drive, url: str) -> None:
    def steps() -> Steps[None]:
        yield Pause(0)
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        drive(url, steps())


def test_a_cancelled_task_still_performs_the_last_steps(url: str) -> None:
    performed: list[str] = []
    subscribed = asyncio.Event()

    def steps() -> Steps[None]:
        try:
            yield Connect(1.0)
            yield Subscribe(["here"])
            performed.append("subscribed")
            subscribed.set()
            yield Pause(60)
        finally:
            yield Disconnect()
            performed.append("disconnected")

    async def run() -> None:
        store = Store(url, 1.0)
        loops = LoopClients(store)
        task = asyncio.create_task(AsyncTransport(store, loops).drive(steps()))
        await subscribed.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await loops.aclose()
        store.close()

    asyncio.run(run())
    assert performed == ["subscribed", "disconnected"]
