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
    """The destination of one recorder's samples. Thread-safe.

    Attributes:
        discards: Recording calls do nothing and check nothing.
    """

    discards: bool

    @property
    def closed(self) -> bool:
        """True after `close`: further samples are dropped."""

    def start(self) -> None:
        """Start the threads. Called when a process first records."""

    def flush(self, timeout: float) -> FlushResult:
        """Send everything recorded before this call, and wait until it is stored or dropped.

        Return what was stored and dropped since the last flush.

        Raises:
            StoreUnavailable: If this takes longer than *timeout* seconds.
            ScriptFailed, FormatMismatch: If Redis can't store it.
            TypeMismatch: If a metric has another type in Redis.
        """

    async def aflush(self, timeout: float) -> FlushResult:
        """`flush`, for asyncio."""

    def settle(self, timeout: float) -> None:
        """`flush` without a report: the next flush reports the samples and any `TypeMismatch`."""

    async def asettle(self, timeout: float) -> None:
        """`settle`, for asyncio."""

    def watch(self, names: Iterable[str]) -> AbstractContextManager[SettledWatch]:
        """Count samples of metrics with these *names* that are settled inside the block."""

    def flush_before_query(self) -> None:
        """`flush` without `TypeMismatch`, which has nothing to do with the query.

        Raises:
            StoreUnavailable: If nothing can answer queries.
        """

    async def aflush_before_query(self) -> None:
        """`flush_before_query`, for asyncio."""

    def check_queries(self) -> None:
        """Raise unless queries can be answered.

        Raises:
            InvalidQuery: If nothing is ever stored (``none://``).
            StoreUnavailable: If nothing is stored now (in a capture).
        """

    def mismatched(self) -> set[str]:
        """Return the names of metrics that have another type in Redis than in this process."""

    def silence_mismatches(self, names: Iterable[str]) -> None:
        """Note that the mismatches have been reported, so that `flush` does not raise them."""

    def clear_mismatch(self, name: str) -> None:
        """Note that a metric no longer has another type in Redis."""

    def close(self, timeout: float) -> None:
        """Send what is left within *timeout* seconds; count the rest as dropped. Never raises."""

    def send_each_call(self) -> None:
        """Reopen after `close`, when the process is exiting: each call sends what it records."""

    def stop_worker(self, timeout: float) -> None:
        """Stop a worker in this process within *timeout* s; the next recording restarts it."""

    def stats(self) -> dict[str, Any]:
        """Return the numbers described in `Metrics.stats`, without contacting Redis."""

    def reset_after_fork(self) -> None:
        """Start empty in a forked child: the parent sends its own samples."""

    def pause(self) -> None:
        """Stop the threads and take the recorder's samples, before another sink is attached."""

    def resume(self) -> None:
        """Continue after `pause`, when this sink is attached again."""


def zero_stats() -> dict[str, Any]:
    """Return the stats of a process that has not recorded anything."""
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
    """The recording methods of a client whose sink discards everything."""


# These replace a client's methods, so that a call costs no more than an empty function.
_SILENT_METHODS = dict.fromkeys(("increment", "gauge", "histogram", "record"), _ignore)


def _silent_gauge(client: Any) -> Callable[..., Any]:
    """The `gauge` method of such a client: with ``per=``, it still returns an instrument."""
    # Not the client itself, which would never be freed.
    method, held = type(client).gauge, weakref.ref(client)

    def gauge(*arguments: Any, **options: Any) -> Any:
        return method(held(), *arguments, **options) if "per" in options else None

    return gauge


def set_silent(client: object, silent: bool) -> None:
    """Make the recording methods of *client* do nothing, or restore them.

    Only for clients that are or become silent: touching `__dict__` makes each later attribute
    access slower (25 % of an `increment`).
    """
    if silent:
        vars(client).update(_SILENT_METHODS, gauge=_silent_gauge(client))
    else:
        for name in _SILENT_METHODS:
            vars(client).pop(name, None)


class NullSink:
    """The sink of ``none://``: discards everything; starts and loads nothing."""

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
    """The sink of a client that is still being created, while a signal handler may already record.

    Samples stay in the buffers until the next sink is attached.
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
