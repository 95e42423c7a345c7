"""Steps of an operation that are not commands to Redis."""

import asyncio
import threading
from typing import Any

import pytest

from redismetrics.store.connection import Store
from redismetrics.store.driver import BlockingCall, Operation, arun, gather, run
from redismetrics.store.loop_clients import LoopClients

CALL = BlockingCall(threading.get_ident)


def operation(*commands: tuple[Any, ...]) -> Operation[list[Any]]:
    return (yield list(commands))


def both() -> Operation[list[list[Any]]]:
    first = operation(("ECHO", "a"), CALL, ("ECHO", "b"))
    return gather([first, operation(CALL), operation(("ECHO", "c"))])


def test_their_replies_are_in_the_places_of_the_calls(url: str) -> None:
    store, here = Store(url, 5.0), threading.get_ident()
    assert run(store.client(), both()) == [[b"a", here, b"b"], [here], [b"c"]]
    store.close()


def test_asyncio_runs_them_in_a_thread(url: str) -> None:
    async def ask() -> list[list[Any]]:
        store = Store(url, 5.0)
        loops = LoopClients(store)
        try:
            return await arun(await loops.client(), both())
        finally:
            await loops.aclose()
            store.close()

    (a, first, b), (second,), (c,) = asyncio.run(ask())
    assert [a, b, c] == [b"a", b"b", b"c"]
    assert threading.get_ident() not in (first, second)


def test_their_errors_end_the_operation(url: str) -> None:
    def fail() -> None:
        raise ValueError("no")

    store = Store(url, 5.0)
    with pytest.raises(ValueError, match="no"):
        run(store.client(), operation(BlockingCall(fail)))
    store.close()
