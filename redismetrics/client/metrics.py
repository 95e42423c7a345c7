"""The blocking client, `Metrics`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from redismetrics.model.sample import Sample, Summary
from redismetrics.model.validation import MetricType, Tags

from .base import QUEUE, Client
from .query_methods import SyncQueries

if TYPE_CHECKING:
    from redismetrics.store.driver import Operation
    from redismetrics.stream.subscription import Subscription

T = TypeVar("T")


class Metrics(Client, SyncQueries):
    """A client of one namespace of one store: records, asks, subscribes. Thread-safe; a forked child may go on using it.

    Construction makes no connection and doesn't fail because Redis is away. Every argument is a setting, see
    docs/settings.md for units, defaults and environment variables; *clock* returns Unix seconds, for tests. Or *metrics* is
    another client, an `AsyncMetrics` perhaps, whose recorder and settings are shared; that one is to be closed then, not this.

    Raises:
        InvalidSetting: a setting that is not usable.
    """

    def _ask(self, operation: "Operation[T]") -> T:
        """Send what was recorded, then run *operation*."""
        return self.internals.run(operation, flush=True)

    @overload
    def subscribe(
        self,
        names: str | Iterable[str] | None = None,
        *,
        tags: Tags | None = ...,
        types: MetricType | Iterable[MetricType] | None = ...,
        every: None = None,
        queue: int = ...,
    ) -> "Subscription[Sample]": ...

    @overload
    def subscribe(
        self,
        names: str | Iterable[str] | None = None,
        *,
        tags: Tags | None = ...,
        types: MetricType | Iterable[MetricType] | None = ...,
        every: float,
        queue: int = ...,
    ) -> "Subscription[Summary]": ...

    def subscribe(
        self,
        names: str | Iterable[str] | None = None,
        *,
        tags: Tags | None = None,
        types: MetricType | Iterable[MetricType] | None = None,
        every: float | None = None,
        queue: int = QUEUE,
    ) -> "Subscription[Any]":
        """The live stream of all metrics, or of these names and patterns (``jobs_*``); subscribed when this returns.

        With *every* it yields a `Summary` of each series that was recorded in the last so many seconds (from 0.1), in place of
        every `Sample`. At most *queue* items wait for a slow reader: beyond it the oldest go, and a `Gap` tells how many.

        Raises:
            InvalidQuery: a name, pattern, tag, type or number that is none, before anything is connected.
            StoreError: a branch of it.
        """
        from redismetrics.stream.subscription import Subscription

        feed = self._feed(names, tags, types, every, queue)
        return Subscription(self._store, feed)

    def flush(self, timeout: float = 10.0) -> None:
        """Send all that was recorded before this call, and wait until it is stored.

        Raises:
            StoreUnavailable: not confirmed within *timeout* seconds; the samples are kept and sent later, once.
            ScriptFailed, FormatMismatch: Redis refused, or holds another format; kept likewise.
            TypeMismatch: a metric is of another type in the store; once a metric, its samples are counted as dropped.
        """
        self._sink.flush(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Send what is left within *timeout* seconds and close the connections; the rest is counted as dropped, and logged.

        Recording after it is counted as dropped (``closed``), never raised. Runs by itself at the end of the process, for 2 s
        at most.
        """
        self._close(timeout)

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
