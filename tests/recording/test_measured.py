"""Measured functions do what they did without `measure`, and each run is measured to its end."""

import asyncio
import contextlib
import functools
import inspect
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.testing import Captured, capture

Decorate = Callable[[Any], Any]


def plain(function: Any) -> Any:
    return function


@pytest.fixture
def captured() -> Iterator[Captured]:
    with capture() as captured:
        yield captured


@pytest.fixture
def metrics(captured: Captured) -> Metrics:
    del captured
    return Metrics("none://")


@pytest.fixture(params=["plain", "measured"])
def decorate(request: pytest.FixtureRequest, metrics: Metrics) -> Decorate:
    """Return `measure`, or a decorator that changes nothing: both must show the same."""
    return plain if request.param == "plain" else metrics.measure("took", outcome_tag="outcome")


def runs(captured: Captured, name: str = "took") -> list[tuple[float, str | None]]:
    """Return the durations in ms and outcomes that were recorded."""
    samples = captured.samples(name, {})
    return [(round(sample.value, 6), sample.tags.get("outcome")) for sample in samples]


# -- generators -----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("wrong"), asyncio.CancelledError(), StopIteration()])
def test_async_generator_handles_what_is_thrown_into_it(
    decorate: Decorate, error: BaseException
) -> None:
    seen: list[BaseException] = []

    @decorate
    async def session() -> AsyncIterator[int]:
        try:
            yield 1
        except BaseException as thrown:  # noqa: BLE001 - the test throws any
            seen.append(thrown)
        yield 2
        assert inspect.currentframe() is not None
        assert seen[0].__context__ is None

    async def main() -> None:
        items: Any = session()
        assert await anext(items) == 1
        assert await items.athrow(error) == 2
        with pytest.raises(StopAsyncIteration):
            await anext(items)

    asyncio.run(main())
    assert seen == [error]


def test_async_context_manager_rolls_back(decorate: Decorate, metrics: Metrics) -> None:
    seen: list[str] = []

    async def session() -> AsyncIterator[None]:
        try:
            yield
        except ValueError:
            seen.append("rolled back")
            raise

    async def main() -> None:
        async with contextlib.asynccontextmanager(decorate(session))():
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        asyncio.run(main())
    assert seen == ["rolled back"]


def test_async_generator_receives_what_is_sent(decorate: Decorate) -> None:
    @decorate
    async def doubled() -> AsyncIterator[int]:
        sent = 0
        while True:
            sent = yield sent * 2

    async def main() -> list[int]:
        items: Any = doubled()
        found = [await items.asend(None), await items.asend(3), await anext(items_of_none(items))]
        await items.aclose()
        return found

    async def items_of_none(items: Any) -> AsyncIterator[int]:
        yield await items.asend(5)

    assert asyncio.run(main()) == [0, 6, 10]


def test_async_generator_is_closed_at_once(decorate: Decorate) -> None:
    seen: list[str] = []

    @decorate
    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        except GeneratorExit:
            seen.append("exit")
            raise
        finally:
            await asyncio.sleep(0)
            seen.append("closed")

    async def main() -> None:
        items: Any = endless()
        assert await anext(items) == 1
        await items.aclose()
        assert seen == ["exit", "closed"]
        with pytest.raises(StopAsyncIteration):
            await anext(items)

    asyncio.run(main())


def test_async_generator_that_ignores_its_end_is_reported(decorate: Decorate) -> None:
    @decorate
    async def stubborn() -> AsyncIterator[int]:
        try:
            yield 1
        except GeneratorExit:
            yield 2

    async def main() -> None:
        items: Any = stubborn()
        await anext(items)
        with pytest.raises(RuntimeError, match="async generator ignored GeneratorExit"):
            await items.aclose()

    asyncio.run(main())


def test_generator_keeps_send_throw_close_and_its_result(decorate: Decorate) -> None:
    seen: list[str] = []

    @decorate
    def generator() -> Iterator[Any]:
        try:
            sent = yield "first"
            try:
                yield sent
            except KeyError:
                yield "caught"
            return "result"
        finally:
            seen.append("closed")

    items: Any = generator()
    assert next(items) == "first"
    assert items.send("sent") == "sent"
    assert items.throw(KeyError()) == "caught"
    with pytest.raises(StopIteration) as end:
        next(items)
    assert (end.value.value, seen) == ("result", ["closed"])
    early: Any = generator()
    next(early)
    early.close()
    assert seen == ["closed"] * 2


def test_async_generator_is_measured_to_its_end(
    metrics: Metrics, captured: Captured, ticks: Callable[[float], None]
) -> None:
    @metrics.measure("took", outcome_tag="outcome")
    async def items() -> AsyncIterator[int]:
        ticks(1)
        try:
            yield 1
        except KeyError:
            ticks(2)
        ticks(4)

    async def main() -> None:
        running: Any = items()
        await anext(running)
        with pytest.raises(StopAsyncIteration):
            await running.athrow(KeyError())

    asyncio.run(main())
    assert runs(captured) == [(7000, "ok")]


# -- what is to be awaited ------------------------------------------------------------------------


class Fetch:
    """An object that is called as a coroutine function."""

    def __init__(self, fetch: Any) -> None:
        self.fetch = fetch

    async def __call__(self) -> Any:
        return await self.fetch()


class Later:
    """An object that can only be awaited."""

    def __init__(self, fetch: Any) -> None:
        self.fetch = fetch

    def __await__(self) -> Any:
        return self.fetch().__await__()


class Service:
    """Coroutine functions of a class."""

    def __init__(self, fetch: Any) -> None:
        self.fetch = fetch

    async def get(self) -> Any:
        return await self.fetch()


def old_style(fetch: Any) -> Any:
    """Return a coroutine function as Python had them before `async def`."""

    @types.coroutine
    def wait() -> Any:
        return (yield from fetch().__await__())

    return wait


@pytest.mark.parametrize(
    "make",
    [
        plain,
        Fetch,
        lambda fetch: lambda *_: fetch(),
        functools.partial,
        lambda fetch: functools.partial(lambda fetch: fetch(), fetch),
        lambda fetch: functools.partial(Fetch(fetch)),
        lambda fetch: lambda: Later(fetch),
        lambda fetch: lambda: asyncio.ensure_future(fetch()),
        lambda fetch: Service(fetch).get,
        old_style,
        lambda fetch: lambda *_: old_style(fetch)(),
    ],
    ids=[
        "function",
        "object",
        "lambda",
        "partial",
        "partial of lambda",
        "partial of object",
        "awaitable",
        "task",
        "method",
        "old style",
        "lambda of old style",
    ],
)
@pytest.mark.parametrize("form", ["call", "decorate"])
def test_coroutine_is_measured_until_it_returns(
    metrics: Metrics, captured: Captured, ticks: Callable[[float], None], make: Any, form: str
) -> None:
    async def fetch() -> str:
        ticks(0.1)
        await asyncio.sleep(0)
        ticks(0.1)
        if captured.samples("took", {}):
            raise TimeoutError
        return "fetched"

    def call() -> Any:
        if form == "call":
            return metrics.measure("took", make(fetch), outcome_tag="outcome")
        return metrics.measure("took", outcome_tag="outcome")(make(fetch))()

    async def main() -> None:
        assert await call() == "fetched"
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await call()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert runs(captured) == [(200, "ok"), (200, "TimeoutError")]


def test_time_between_making_and_awaiting_a_coroutine_does_not_count(
    metrics: Metrics, captured: Captured, ticks: Callable[[float], None]
) -> None:
    async def fetch() -> None:
        ticks(0.25)

    def begin() -> Any:
        ticks(0.5)
        return fetch()

    async def main() -> None:
        waiting = metrics.measure("took", begin)
        ticks(60)
        await waiting

    asyncio.run(main())
    assert runs(captured) == [(750, None)]


def test_a_task_stays_the_same_task(metrics: Metrics, captured: Captured) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(asyncio.sleep(60))
        assert metrics.measure("took", lambda: task, outcome_tag="outcome") is task
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    asyncio.run(main())
    assert [outcome for _, outcome in runs(captured)] == ["CancelledError"]


def test_error_of_a_task_that_nobody_awaits_is_still_reported(metrics: Metrics) -> None:
    reported: list[Any] = []

    async def fail() -> None:
        raise KeyError("nobody looks")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: reported.append(what))
        metrics.measure("took", lambda: asyncio.ensure_future(fail()))
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert [str(what["exception"]) for what in reported] == ["'nobody looks'"]


def test_an_awaitable_with_other_capabilities_is_returned_unchanged(
    metrics: Metrics, captured: Captured
) -> None:
    class Request(Later):
        async def __aenter__(self) -> str:
            return "entered"

    request = Request(None)
    assert metrics.measure("took", lambda: request) is request
    assert len(runs(captured)) == 1


# -- kinds of functions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        inspect.iscoroutinefunction,
        inspect.isasyncgenfunction,
        inspect.isgeneratorfunction,
    ],
)
def test_kind_of_a_function_stays(metrics: Metrics, kind: Any) -> None:
    async def coroutine() -> None: ...

    async def async_generator() -> AsyncIterator[None]:
        yield

    def generator() -> Iterator[None]:
        yield

    for function in (coroutine, async_generator, generator):
        assert kind(metrics.measure("took")(function)) == kind(function)


def test_static_and_class_methods_keep_their_kind(decorate: Decorate) -> None:
    class Shop:
        @decorate
        @staticmethod
        def static(amount: int) -> int:
            return amount

        @decorate
        @classmethod
        def of_class(cls, amount: int) -> tuple[type, int]:
            return cls, amount

        @staticmethod
        @decorate
        def inner(amount: int) -> int:
            return amount

    shop = Shop()
    assert (shop.static(1), shop.of_class(2), shop.inner(3)) == (1, (Shop, 2), 3)
    assert (Shop.static(1), Shop.of_class(2)) == (1, (Shop, 2))


def test_error_whose_class_has_a_long_name_passes_through(
    metrics: Metrics, captured: Captured
) -> None:
    error = type("E" * 5000, (Exception,), {})("as it was")
    with (
        pytest.raises(Exception, match="as it was"),
        metrics.measure("took", outcome_tag="outcome"),
    ):
        raise error
    assert runs(captured)[0][1] == "E" * 200
