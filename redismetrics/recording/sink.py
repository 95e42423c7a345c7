"""The interface between recording and the place where samples go.

`RedisSink` sends them, `NullSink` discards them, and `redismetrics.testing` keeps them in memory.
"""

import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from redismetrics.errors import InvalidQuery, StoreUnavailable

from .flush_result import FlushResult, SettledWatch


class Sink(Protocol):
    """Where the samples of one recorder go. Thread-safe.

    Attributes:
        discards: Recording calls do nothing, and check nothing.
    """

    discards: bool

    @property
    def closed(self) -> bool:
        """True after `close`: what is recorded is dropped."""

    def start(self) -> None:
        """Start the threads. Called at a process's first recording."""

    def flush(self, timeout: float) -> FlushResult:
        """Send all that was recorded before this call, and wait until it is stored or dropped.

        Return what was settled since the last flush.

        Raises:
            StoreUnavailable: If that takes longer than *timeout* seconds.
            ScriptFailed, FormatMismatch: If Redis can't store it.
            TypeMismatch: If a metric has another type in Redis.
        """

    async def aflush(self, timeout: float) -> FlushResult:
        """`flush`, for asyncio."""

    def settle(self, timeout: float) -> None:
        """`flush` without a report: the next flush reports these samples, and `TypeMismatch`."""

    async def asettle(self, timeout: float) -> None:
        """`settle`, for asyncio."""

    def watch(self, names: Iterable[str]) -> AbstractContextManager[SettledWatch]:
        """Count what is settled of metrics of these *names* inside the block."""

    def flush_before_query(self) -> None:
        """`flush`, without `TypeMismatch`, which is no fault of the query.

        Raises:
            StoreUnavailable: If there is nothing that answers queries.
        """

    async def aflush_before_query(self) -> None:
        """`flush_before_query`, for asyncio."""

    def check_queries(self) -> None:
        """Raise unless queries can be answered.

        Raises:
            InvalidQuery: Nothing is ever stored (``none://``).
            StoreUnavailable: Nothing is stored now (a capture).
        """

    def mismatched(self) -> set[str]:
        """Return the names of metrics that have another type in Redis than in this process."""

    def silence_mismatches(self, names: Iterable[str]) -> None:
        """Note that the mismatches of these metrics are reported, so that `flush` is not to."""

    def clear_mismatch(self, name: str) -> None:
        """Note that a metric has no other type in Redis any more."""

    def close(self, timeout: float) -> None:
        """Send what is left within *timeout* seconds; count the rest as dropped. Never raises."""

    def send_each_call(self) -> None:
        """Open again after `close`, at the end of the process: each call sends what it records."""

    def stop_worker(self, timeout: float) -> None:
        """Stop a worker in this process, within *timeout* s; the next recording starts it again."""

    def stats(self) -> dict[str, Any]:
        """Return the numbers that `Metrics.stats` describes, without contacting Redis."""

    def reset_after_fork(self) -> None:
        """Start empty in a forked child: the parent sends what it has recorded."""

    def pause(self) -> None:
        """Stop the threads and take what the recorder holds, before another sink is attached."""

    def resume(self) -> None:
        """Go on after `pause`, when this sink is attached again."""


def zero_stats() -> dict[str, Any]:
    """Return the stats of a process that has recorded nothing."""
    return {
        "recorded": 0,
        "stored": 0,
        "pending": 0,
        "in_doubt": 0,
        "dropped": {},
        "metadata_dropped": 0,
        "buffer_bytes": 0,
        "overflow": {},
        "batches": 0,
        "retries": 0,
        "lost_batches": 0,
        "unpublished": 0,
        "definition_conflicts": 0,
        "flush_seconds": 0,
        "buffered_series": 0,
        "worker": None,
        "writer": "",
        "last_error": None,
    }


def _ignore(*_: Any, **__: Any) -> None:
    """What recording methods do with a sink that discards everything."""


# They replace a client's own methods, so that a call costs as much as one of an empty function.
_SILENT_METHODS = dict.fromkeys(("increment", "gauge", "histogram", "record"), _ignore)


def _silent_gauge(client: Any) -> Callable[..., Any]:
    """Return what `gauge` does then: with ``per=`` it still returns an instrument."""
    # Not the client itself, which would never be freed.
    method, held = type(client).gauge, weakref.ref(client)

    def gauge(*arguments: Any, **options: Any) -> Any:
        return method(held(), *arguments, **options) if "per" in options else None

    return gauge


def set_silent(client: object, silent: bool) -> None:
    """Let the recording methods of *client* do nothing, or what they always do.

    Only for clients that are silent or become so: touching `__dict__` makes each later access to
    an attribute slower (25 % of an `increment`).
    """
    if silent:
        vars(client).update(_SILENT_METHODS, gauge=_silent_gauge(client))
    else:
        for name in _SILENT_METHODS:
            vars(client).pop(name, None)


class NullSink:
    """The sink of ``none://``: discards everything, starts nothing, loads nothing."""

    discards = True
    closed = False

    def start(self) -> None:
        """Do nothing."""

    def flush(self, timeout: float) -> FlushResult:
        return FlushResult()

    async def aflush(self, timeout: float) -> FlushResult:
        return FlushResult()

    def settle(self, timeout: float) -> None:
        """Do nothing."""

    async def asettle(self, timeout: float) -> None:
        """Do nothing."""

    def watch(self, names: Iterable[str]) -> AbstractContextManager[SettledWatch]:
        return nullcontext(SettledWatch(names))

    def flush_before_query(self) -> None:
        self.check_queries()

    async def aflush_before_query(self) -> None:
        self.check_queries()

    def check_queries(self) -> None:
        raise InvalidQuery("none:// stores nothing, so there is nothing to query")

    def mismatched(self) -> set[str]:
        return set()

    def silence_mismatches(self, names: Iterable[str]) -> None:
        """Do nothing."""

    def clear_mismatch(self, name: str) -> None:
        """Do nothing."""

    def close(self, timeout: float) -> None:
        """Do nothing."""

    def send_each_call(self) -> None:
        """Do nothing."""

    def stop_worker(self, timeout: float) -> None:
        """Do nothing."""

    def stats(self) -> dict[str, Any]:
        return zero_stats()

    def reset_after_fork(self) -> None:
        """Do nothing."""

    def pause(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""


class StartingSink(NullSink):
    """The sink of a client that is not ready yet; a signal handler may record meanwhile.

    What is recorded stays in the buffers until the next sink is attached.
    """

    discards = False

    def flush(self, timeout: float) -> FlushResult:
        self.settle(timeout)
        return FlushResult()

    async def aflush(self, timeout: float) -> FlushResult:
        return self.flush(timeout)

    def settle(self, timeout: float) -> None:
        self.check_queries()

    async def asettle(self, timeout: float) -> None:
        self.check_queries()

    def check_queries(self) -> None:
        raise StoreUnavailable(
            "the default client is still being created: a signal handler may record, "
            "but not wait for Redis"
        )
