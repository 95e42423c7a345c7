"""The blocking client, `Metrics`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from redismetrics.model.sample import Sample, Summary
from redismetrics.model.validation import MetricType, Tags
from redismetrics.recording.flush_result import FlushResult

from .alert_methods import AlertMethods
from .base import QUEUE, Client
from .mark_methods import MarkMethods
from .query_methods import SyncQueries
from .run_methods import RunMethods
from .table_methods import TableMethods

if TYPE_CHECKING:
    from redismetrics.store.driver import Operation
    from redismetrics.stream.subscription import Subscription

T = TypeVar("T")


class Metrics(Client, SyncQueries, AlertMethods, MarkMethods, RunMethods, TableMethods):
    """A client of one namespace in one Redis: records, queries and subscribes.

    Thread-safe; a forked child may keep using it. Creating a client makes no connection, and works
    while Redis is unreachable.

    Every argument is a setting: see docs/settings.md for units, defaults and environment variables.
    *clock* returns Unix seconds, for tests. With *metrics*, another client, it shares that client's
    recorder and settings; then close that client instead of this one.

    Raises:
        InvalidSetting: If a setting is invalid.
    """

    def _ask(self, operation: "Operation[T]") -> T:
        """Send recorded samples, then run *operation*."""
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
        by: Literal["series", "name"] = ...,
        queue: int = ...,
    ) -> "Subscription[Summary]": ...

    def subscribe(
        self,
        names: str | Iterable[str] | None = None,
        *,
        tags: Tags | None = None,
        types: MetricType | Iterable[MetricType] | None = None,
        every: float | None = None,
        by: Literal["series", "name"] = "series",
        queue: int = QUEUE,
    ) -> "Subscription[Any]":
        """Subscribe to all metrics, or to these names and patterns (``jobs_*``).

        The subscription delivers every `Sample`, or, with *every*, a `Summary` of each series
        recorded in the last *every* seconds (at least 0.1). With ``by="name"``, a summary covers
        all series of a metric, without tags. At most *queue* items are buffered for a slow reader;
        then the oldest are dropped, and a `Gap` says how many.

        Raises:
            InvalidQuery: If an argument is invalid, before anything is connected.
            StoreError: A subclass of it.
        """
        from redismetrics.stream.subscription import Subscription

        feed = self._feed(names, tags, types, every, by, queue)
        return Subscription(self._store, feed)

    def flush(self, timeout: float = 10.0) -> FlushResult:
        """Send everything recorded before this call, and wait until it is stored or dropped.

        Return how many samples were stored, and how many were dropped by reason, since the last
        `flush`, by this call and by the background threads. If `dropped` is empty, all are stored.
        Overlapping calls report the same samples.

        Raises:
            StoreUnavailable: If Redis does not confirm the samples within *timeout* seconds. They
                are kept, and stored once later.
            ScriptFailed, FormatMismatch: If Redis can't store them. They are kept as well.
            TypeMismatch: If a metric has another type in Redis; once for each metric. Its samples
                are counted as dropped.
        """
        return self._sink.flush(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Send what is left within *timeout* seconds and close the connections.

        Samples that could not be sent are counted as dropped, and logged with everything else
        dropped since the last `flush`. Samples recorded afterwards are counted as dropped too
        (``closed``). This runs automatically when the process exits, for at most 2 s.
        """
        self._close(timeout)

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
