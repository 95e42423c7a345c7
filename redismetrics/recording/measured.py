"""Wrap a function so that each run is measured, and nothing else changes for its callers."""

import functools
import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .timer import Body

# Capabilities, besides public methods, of objects that are more than a result to wait for.
_MORE_THAN_AWAITABLE = ("__aenter__", "__aiter__", "__enter__", "__iter__", "__call__")


def measured(begin: "Callable[[], Body]", function: Any) -> Any:
    """Return a callable of the same kind as *function* whose runs are measured.

    *begin* starts the measurement of one run.
    """
    if isinstance(function, staticmethod | classmethod):
        return type(function)(measured(begin, function.__func__))
    wrapped: Any
    if _is(inspect.iscoroutinefunction, function):

        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            with begin():
                return await function(*args, **kwargs)

    elif _is(inspect.isasyncgenfunction, function):

        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            with begin():
                # The equivalent of `yield from`, which async generators don't have.
                items = function(*args, **kwargs)
                thrown: BaseException | None = None
                sent = None
                while True:
                    try:
                        if thrown is None:
                            item = await items.asend(sent)
                        else:
                            item = await items.athrow(thrown)
                    except StopAsyncIteration:
                        return
                    finally:
                        thrown = sent = None
                    try:
                        sent = yield item
                    except BaseException as error:  # noqa: BLE001 - the function gets it
                        thrown = error

    elif _is(inspect.isgeneratorfunction, function):

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with begin():
                return (yield from function(*args, **kwargs))

        if getattr(_code(function), "co_flags", 0) & inspect.CO_ITERABLE_COROUTINE:
            wrapped = types.coroutine(wrapped)
    else:

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            body = begin()
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                body.end(error)
                raise
            return _measure_to_end(body, result)

    return functools.wraps(function)(wrapped)


def _is(kind: Callable[[Any], bool], function: Any) -> bool:
    """Return whether *function*, or the `__call__` of its class, is of this *kind*."""
    while isinstance(function, functools.partial):
        function = function.func
    return kind(function) or kind(inspect.getattr_static(type(function), "__call__", None))


def _code(function: Any) -> Any:
    while isinstance(function, functools.partial | types.MethodType):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    return getattr(function, "__code__", None)


def _measure_to_end(body: "Body", result: Any) -> Any:
    """End the measurement when *result* is complete: now, unless it must be awaited.

    A coroutine is wrapped in another one. An asyncio future or task stays the same object. Any
    other awaitable is returned unchanged, and only the time to create it is measured.
    """
    kind = type(result)
    if kind is not types.GeneratorType and not hasattr(kind, "__await__"):  # the fast path
        body.end(None)
        return result
    if getattr(kind, "_asyncio_future_blocking", None) is not None:
        if not result.done():
            result.add_done_callback(lambda future: body.end(_failure(future)))
            return result
        body.end(_failure(result))
        return result
    if (
        isinstance(result, Coroutine)
        or _is_iterable_coroutine(result)
        or _is_awaitable_only(result)
    ):
        body.pause()
        waiting: Any = _await(body, result)
        # For Python's warning about a coroutine that was never awaited.
        waiting.__name__ = getattr(result, "__name__", type(result).__name__)
        waiting.__qualname__ = getattr(result, "__qualname__", waiting.__name__)
        return waiting
    body.end(None)
    return result


async def _await(body: "Body", result: Any) -> Any:
    body.resume()
    with body:
        return await result


def _failure(future: Any) -> BaseException | None:
    """Return the error of a future, if it failed."""
    if future.cancelled():
        from asyncio import CancelledError

        return CancelledError()
    # Not `exception()`: after that, asyncio would not report an error that is never retrieved.
    error: BaseException | None = future._exception
    return error


def _is_iterable_coroutine(result: Any) -> bool:
    return isinstance(result, types.GeneratorType) and bool(
        result.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE
    )


def _is_awaitable_only(result: Any) -> bool:
    kind = type(result)
    return isinstance(result, Awaitable) and not any(
        name in _MORE_THAN_AWAITABLE or name[0] != "_" for name in dir(kind)
    )
