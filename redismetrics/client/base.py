"""Metrics: the verbs joined. Recording never waits; asking sends first what this process has not sent yet."""

import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from redismetrics.errors import InvalidSetting
from redismetrics.model.time import Clock, system_clock
from redismetrics.recording.methods import Recording
from redismetrics.recording.recorder import NullRecorder, Recorder
from redismetrics.settings import OnInvalid, Settings, resolve

from .internals import ClientInternals

if TYPE_CHECKING:
    from redismetrics.queries.context import QueryContext
    from redismetrics.recording.flusher import Flusher
    from redismetrics.store.connection import Store
    from redismetrics.stream.feed import Feed


T = TypeVar("T")

QUEUE = 1 << 16  # items a stream holds for a slow reader: about 25 MB of samples


class Client(Recording):
    """What `Metrics` and `AsyncMetrics` have in common: settings, the recorder, the flusher; all but how they wait."""

    settings: Settings
    internals: ClientInternals
    _recorder: Recorder
    _flusher: "Flusher | None"
    _store: "Store"

    def __init__(
        self,
        url: str | None = None,
        *,
        metrics: "Client | None" = None,
        namespace: str | None = None,
        tags: Mapping[str, str] | None = None,
        worker: bool | None = None,
        on_invalid: OnInvalid | None = None,
        promoted_tags: Iterable[str] | None = None,
        flush_interval: float | None = None,
        socket_timeout: float | None = None,
        samples_per_flush: int | None = None,
        buffer_bytes: int | None = None,
        buffer_age: float | None = None,
        max_age: float | None = None,
        max_future: float | None = None,
        max_series: int | None = None,
        max_tag_values: int | None = None,
        log_bytes: int | None = None,
        log_age: float | None = None,
        raw_retention: float | None = None,
        minute_retention: float | None = None,
        hour_retention: float | None = None,
        day_retention: float | None = None,
        cache_bytes: int | None = None,
        series_idle: float | None = None,
        clock: Clock = system_clock,
    ) -> None:
        given = {
            name: value for name, value in locals().items() if name in Settings.__dataclass_fields__
        }
        self._own = metrics is None  # else whoever made *metrics* closes it
        if metrics is not None:
            self._share(
                metrics, [name for name, value in given.items() if value is not None], clock
            )
            return
        if not callable(clock):
            raise InvalidSetting(
                f"clock: wanted a function that returns Unix seconds, got {clock!r:.60}"
            )
        self.settings = resolve(**given)
        if (self.settings.url or "").startswith("none:"):
            self._flusher = None
            self._recorder = NullRecorder(self.settings, lambda: None, clock)
            self.__dict__.update(
                dict.fromkeys(("increment", "gauge", "histogram", "record"), _nothing)
            )
            self.internals = ClientInternals(self._recorder)
            silent.add(self)
            return
        # Here and not in a thread: a fork while a thread imports leaves the child with a locked import.
        from redismetrics.queries.cache import Cache
        from redismetrics.queries.context import QueryContext
        from redismetrics.recording.flusher import Flusher
        from redismetrics.store.connection import LoopClients, Store
        from redismetrics.store.namespace import Namespace
        from redismetrics.worker.thread import Thread

        self._store = Store(self.settings.url, self.settings.socket_timeout)
        self._loops = LoopClients(self._store)
        self._flusher = Flusher(
            self.settings, self._store, clock, Thread(self.settings, self._store)
        )
        self._recorder = self._flusher.recorder
        context = QueryContext(Namespace(self.settings.namespace), Cache(self.settings.cache_bytes))
        self.internals = ClientInternals(
            self._recorder, self._flusher, self._store, self._loops, context
        )

    def _share(self, metrics: "Client", given: list[str], clock: Clock) -> None:
        """Be another face of *metrics*."""
        if not isinstance(metrics, Client):
            raise InvalidSetting(
                f"metrics: wanted a Metrics or AsyncMetrics to share, got {metrics!r:.60}"
            )
        if clock is not system_clock:
            given = [*given, "clock"]
        if given:
            raise InvalidSetting(
                f"metrics: what is shared has its settings already; got {', '.join(given)} as well"
            )
        self.__dict__.update(metrics.__dict__, _own=False)
        if self._flusher is None:
            silent.add(self)
        else:
            from redismetrics.store.connection import LoopClients

            self._loops = LoopClients(self._store)
            self.internals = ClientInternals(
                self._recorder,
                self._flusher,
                self._store,
                self._loops,
                metrics.internals.query_context,
            )

    @property
    def _context(self) -> "QueryContext":
        return self.internals.query_context

    def _feed(self, names: Any, tags: Any, types: Any, every: Any, queue: Any) -> "Feed":
        """What a subscription is to deliver, checked."""
        from redismetrics.stream.feed import Feed

        return Feed(
            self._context.namespace.name, names, tags=tags, types=types, every=every, queue=queue
        )

    @property
    def _used(self) -> bool:
        """Was anything recorded or asked yet?"""
        return (
            self._recorder.started
            or self._recorder.closed
            or (self._flusher is not None and self._store.used)
        )

    def _become(self, other: "Client") -> None:
        """Take over *other*'s settings and connections, before the first use; what was declared stays."""
        for name, metric in self._recorder.metrics.items():
            if metric.declared:
                other._recorder.declare(name, metric.definition)
        self.__dict__.update(other.__dict__)

    def _close(self, timeout: float) -> None:
        if self._flusher is not None and self._own:
            self._flusher.close(timeout)
            self._store.close()

    def stats(self) -> dict[str, Any]:
        """This process's figures, without asking Redis: recorded = stored + pending + dropped (by reason)."""
        if self._flusher is None:
            whole = (
                "recorded",
                "stored",
                "pending",
                "in_doubt",
                "metadata_dropped",
                "buffer_bytes",
                "batches",
                "retries",
            )
            rest = (
                "lost_batches",
                "unpublished",
                "definition_conflicts",
                "flush_seconds",
                "buffered_series",
            )
            return {
                **dict.fromkeys(whole + rest, 0),
                "dropped": {},
                "overflow": {},
                "worker": None,
                "writer": "",
                "last_error": None,
            }
        return self._flusher.stats()

    def __repr__(self) -> str:
        url = self.settings.url
        if url is not None:
            from redismetrics.store.urls import safe_url

            url = safe_url(url)
        return f"{type(self).__name__}({url!r}, namespace={self.settings.namespace!r})"


silent: "weakref.WeakSet[Client]" = (
    weakref.WeakSet()
)  # those of none://, which testing.py lets speak


def _nothing(*_: Any, **__: Any) -> None:
    """What the recording verbs of `none://` do."""
