"""Both drivers perform the steps of feeds and relays, and return results and errors alike."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from redismetrics.errors import ScriptFailed, StoreUnavailable
from redismetrics.store.catalog import MetricDescription
from redismetrics.store.connection import Store
from redismetrics.store.driver import Operation
from redismetrics.store.loop_clients import LoopClients
from redismetrics.stream.delivery import ThreadQueue
from redismetrics.stream.driving import adrive, drive
from redismetrics.stream.inbox import Interest
from redismetrics.stream.steps import (
    Compute,
    Confirmed,
    Connect,
    Database,
    Describe,
    Disconnect,
    Leave,
    Listen,
    Next,
    Pause,
    Ping,
    Read,
    Run,
    Steps,
    Subscribe,
    Unsubscribe,
    WantedMetric,
    WireSteps,
)
from redismetrics.stream.transport import AsyncTransport, Transport
from redismetrics.stream.wire import AsyncWire, Wire
from tests.fixtures.servers import Server

Drive = Callable[[str, Any], Any]


def drive_feed(url: str, steps: Steps[Any]) -> Any:
    store = Store(url, 1.0)
    try:
        return Transport(store, ThreadQueue(1)).drive(steps)
    finally:
        store.close()


def adrive_feed(url: str, steps: Steps[Any]) -> Any:
    async def run() -> Any:
        store = Store(url, 1.0)
        loops = LoopClients(store)
        try:
            return await AsyncTransport(store, loops).drive(steps)
        finally:
            await loops.aclose()
            store.close()

    return asyncio.run(run())


def drive_relay(url: str, steps: WireSteps[Any]) -> Any:
    return drive(steps, Wire(Store(url, 1.0)).perform)


def adrive_relay(url: str, steps: WireSteps[Any]) -> Any:
    async def run() -> Any:
        return await adrive(steps, AsyncWire(Store(url, 1.0)).perform)

    return asyncio.run(run())


both = pytest.mark.parametrize("drive", [drive_feed, adrive_feed])
both_wires = pytest.mark.parametrize("drive", [drive_relay, adrive_relay])


def interest(*channels: str, patterns: bool = False) -> Interest:
    return Interest(frozenset(map(str.encode, channels)), patterns, lambda _: True)


def echo(text: str) -> Operation[bytes]:
    (reply,) = yield [("ECHO", text)]
    return bytes(reply)


@both_wires
def test_results_are_sent_to_a_relay(drive: Drive, url: str) -> None:
    def steps() -> WireSteps[list[Any]]:
        yield Connect(1.0)
        yield Subscribe([b"here"], False)
        yield Subscribe([b"there*"], True)
        messages = [(yield Read(1.0)), (yield Read(1.0))]
        yield Ping()
        messages.append((yield Read(1.0)))
        nothing = yield Read(0.01)
        yield Unsubscribe([b"there*"], True)
        messages.append((yield Read(1.0)))
        yield Disconnect()
        yield Disconnect()
        return [*(message["type"] for message in messages), nothing]

    assert drive(url, steps()) == ["subscribe", "psubscribe", "pong", "punsubscribe", None]


@both_wires
def test_errors_are_thrown_into_a_relay(drive: Drive) -> None:
    def steps() -> WireSteps[str]:
        try:
            yield Connect(1.0)
            yield Subscribe([b"here"], False)
        except StoreUnavailable as error:
            yield Disconnect()
            return str(error)
        return "no error"

    assert drive("redis://127.0.0.1:1/0", steps()).startswith("Redis did not answer")


@both
def test_results_are_sent_to_a_feed(drive: Drive, url: str, server: Server) -> None:
    nothing_known = MetricDescription(None, {}, b"")

    def steps() -> Steps[list[Any]]:
        database = yield Database()
        yield Listen(interest("here", "there"), 1.0)
        assert (yield Confirmed(5.0))
        with server.client() as client:
            client.publish("there", b"hello")
        (message,) = yield Next(5.0)
        yield Pause(0.01)
        nothing = yield Next(0.01)
        reply = yield Run(echo("hello"))
        described = yield Describe(
            "ns", [WantedMetric(0, "jobs", [], b""), WantedMetric(1, "a", [2], b"")]
        )
        computed = [(yield Compute(lambda: 7, False)), (yield Compute(lambda: 8, True))]
        yield Leave()
        yield Leave()
        return [database, message.channel, message.data, nothing, reply, described, computed]

    found = drive(url, steps())
    assert found == [0, b"there", b"hello", [], b"hello", [nothing_known] * 2, [7, 8]]


@both
def test_errors_are_thrown_into_a_feed(drive: Drive) -> None:
    def steps() -> Steps[str]:
        try:
            yield Listen(interest("here"), 1.0)
            yield Confirmed(5.0)
        except StoreUnavailable as error:
            yield Leave()
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


@both
def test_an_error_of_a_computation_is_thrown_into_the_steps(drive: Drive, url: str) -> None:
    def fail() -> None:
        raise ScriptFailed("wrong")

    def steps() -> Steps[list[str]]:
        found = []
        for is_large in (False, True):
            try:
                yield Compute(fail, is_large)
            except ScriptFailed as error:
                found.append(str(error))
        return found

    assert drive(url, steps()) == ["wrong", "wrong"]


def test_a_cancelled_task_still_performs_the_last_steps(url: str) -> None:
    performed: list[str] = []
    subscribed = asyncio.Event()

    def steps() -> Steps[None]:
        try:
            yield Listen(interest("here"), 1.0)
            yield Confirmed(5.0)
            performed.append("subscribed")
            subscribed.set()
            yield Pause(60)
        finally:
            yield Leave()
            performed.append("left")

    async def run() -> None:
        store = Store(url, 1.0)
        loops = LoopClients(store)
        task = asyncio.create_task(AsyncTransport(store, loops).drive(steps()))
        await subscribed.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert {each.get_name() for each in asyncio.all_tasks()}.isdisjoint({"redismetrics-relay"})
        await loops.aclose()
        store.close()

    asyncio.run(run())
    assert performed == ["subscribed", "left"]
