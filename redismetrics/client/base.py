"""The common base of `Metrics` and `AsyncMetrics`: settings, recorder and sink."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

from redismetrics.errors import InvalidSetting, shown
from redismetrics.model.safe_url import safe_url
from redismetrics.model.time import Clock, system_clock
from redismetrics.recording import lifecycle
from redismetrics.recording.instrument_methods import InstrumentMethods
from redismetrics.recording.recorder import Recorder
from redismetrics.recording.redirect import attach_sink
from redismetrics.recording.sink import NullSink, Sink, StartingSink
from redismetrics.settings import OnInvalid, Settings, resolve

from .internals import ClientInternals

if TYPE_CHECKING:
    from redismetrics.alerts.start import AlertThread
    from redismetrics.archive.reading import ArchiveReader
    from redismetrics.queries.context import QueryContext
    from redismetrics.recording.redis_sink import RedisSink
    from redismetrics.store.connection import Store
    from redismetrics.store.loop_clients import LoopClients
    from redismetrics.stream.feed import Feed

# Items that a subscription buffers for a slow reader: about 25 MB of samples.
QUEUE = 1 << 16


# Modules that a connection imports: for host names, and for the version of redis-py.
_IMPORTED_BY_THREADS = ("encodings.idna", "email.parser")


class Client(InstrumentMethods):
    """What `Metrics` and `AsyncMetrics` have in common: everything except how they wait."""

    settings: Settings
    internals: ClientInternals
    _recorder: Recorder
    # Clients of none:// have neither.
    _store: "Store"
    _loops: "LoopClients"
    # If false, `connect` is called later.
    _connects = True

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
        exact_bytes: int | None = None,
        cache_bytes: int | None = None,
        series_idle: float | None = None,
        archive: str | None = None,
        archive_schema: str | None = None,
        archive_prefix: str | None = None,
        rules: Any = None,
        clock: Clock = system_clock,
    ) -> None:
        given = {
            name: value for name, value in locals().items() if name in Settings.__dataclass_fields__
        }
        # If false, *metrics* is closed instead of this client.
        self._own = metrics is None
        if metrics is not None:
            self._share(
                metrics, [name for name, value in given.items() if value is not None], clock
            )
            return
        if not callable(clock):
            raise InvalidSetting(
                f"clock must be a function that returns Unix seconds, got {shown(clock)}"
            )
        self.settings = resolve(**given)
        self._recorder = Recorder(self.settings, clock)
        self._recorder.add_client(self)
        self.internals = ClientInternals(self._recorder)
        self._made: dict[str, tuple[Store, LoopClients, ClientInternals, RedisSink]] = {}
        if self._connects:
            self._connect()
        self._alerts = None if rules is None else self._start_alerts(rules)

    def _start_alerts(self, rules: Any) -> "AlertThread":
        """Evaluate alert rules in threads of this process, until the client is closed."""
        from redismetrics.alerts.start import AlertThread, alert_options, make_service

        return AlertThread(make_service(self, alert_options(rules)))

    @classmethod
    def _unconnected(cls, *args: Any, **kwargs: Any) -> Self:
        """Return a client that can only record until `_connect` is called."""
        made = cls.__new__(cls)
        made._connects = False
        cls.__init__(made, *args, **kwargs)
        return made

    def _connect(self) -> None:
        """Create the objects that connect to Redis, without connecting. Lock-free and idempotent.

        Therefore a signal handler may interrupt it and record, and several threads may call it.
        """
        if not self._own:
            return
        recorder = self._recorder
        if (self.settings.url or "").startswith("none:"):
            if isinstance(recorder.sink, StartingSink):
                attach_sink(recorder, NullSink())
            return
        lifecycle.allow_late_imports()
        # Here and not in a thread: a fork while a thread imports leaves the child with a locked
        # import.
        from redismetrics.queries.cache import Cache
        from redismetrics.queries.context import QueryContext
        from redismetrics.recording.redis_sink import RedisSink
        from redismetrics.store import scripts
        from redismetrics.store.connection import Store
        from redismetrics.store.loop_clients import LoopClients
        from redismetrics.store.namespace import Namespace
        from redismetrics.worker.thread import Thread

        for module in _IMPORTED_BY_THREADS:
            import_module(module)
        scripts.script("record")  # the first one imports modules that read resources
        store = Store(self.settings.url, self.settings.socket_timeout)
        loops = LoopClients(store)
        context = QueryContext(
            Namespace(self.settings.namespace),
            Cache(self.settings.cache_bytes),
            older=self._archive(),
        )
        internals = ClientInternals(recorder, store, loops, context)
        sink = RedisSink(recorder, store, Thread(self.settings, store))
        # All callers use the objects created by the first. `__dict__` is not used: see
        # `set_silent`.
        made = self._made.setdefault("connected", (store, loops, internals, sink))
        self._store, self._loops, self.internals, sink = made
        if isinstance(recorder.sink, StartingSink):
            attach_sink(recorder, sink)
        if recorder.started:
            recorder.sink.start()

    def _archive(self) -> "ArchiveReader | None":
        """Return the archive of older data. Its driver is imported on the first query."""
        settings = self.settings
        if settings.archive is None:
            return None
        from redismetrics.archive.reading import ArchiveReader

        return ArchiveReader(
            settings.archive,
            settings.archive_schema,
            settings.archive_prefix,
            settings.socket_timeout,
        )

    def _share(self, metrics: "Client", given: list[str], clock: Clock) -> None:
        """Use the recorder, sink, store and settings of *metrics*."""
        if not isinstance(metrics, Client):
            raise InvalidSetting(f"metrics must be a Metrics or AsyncMetrics, got {shown(metrics)}")
        if clock is not system_clock:
            given = [*given, "clock"]
        if given:
            raise InvalidSetting(
                "metrics must be the only setting, because that client has all others; "
                f"got {', '.join(given)} as well"
            )
        self.__dict__.update(metrics.__dict__, _own=False)
        self._recorder.add_client(self)
        if hasattr(self, "_store"):
            from redismetrics.store.loop_clients import LoopClients

            self._loops = LoopClients(self._store)
            self.internals = ClientInternals(
                self._recorder, self._store, self._loops, metrics.internals.query_context
            )
        else:
            self.internals = ClientInternals(self._recorder)

    @property
    def _sink(self) -> Sink:
        return self._recorder.sink

    @property
    def _context(self) -> "QueryContext":
        return self.internals.query_context

    def _feed(self, names: Any, tags: Any, types: Any, every: Any, by: Any, queue: Any) -> "Feed":
        """Check the arguments of a subscription; return its state machine."""
        from redismetrics.stream.feed import Feed

        namespace = self._context.namespace.name
        feed = Feed(namespace, names, tags=tags, types=types, every=every, by=by, queue=queue)
        self._sink.check_queries()
        return feed

    @property
    def _now_ms(self) -> int:
        """The time of this client's clock, in Unix ms."""
        return round(self.internals.clock() * 1000)

    @property
    def _used(self) -> bool:
        """True if anything has been recorded or queried yet."""
        store = getattr(self, "_store", None)
        return self._recorder.started or self._recorder.closed or (store is not None and store.used)

    def _become(self, other: "Client") -> None:
        """Take over the settings and connections of *other*; declarations made here are kept."""
        for name, definition in self._recorder.registry.declared().items():
            other._recorder.declare(name, definition)
        self._replace_attributes(other.__dict__)
        self._recorder.add_client(self)

    def _replace_attributes(self, attributes: dict[str, Any]) -> None:
        """Replace all attributes at once: a signal handler sees either the old or the new ones."""
        own = self.__dict__
        stale = own.keys() - attributes.keys()
        own.update(attributes)
        for name in stale:
            own.pop(name, None)

    def _close(self, timeout: float) -> None:
        if not self._own:
            return
        alerts = getattr(self, "_alerts", None)
        if alerts is not None:
            alerts.stop(timeout)
        self._sink.close(timeout)
        self.internals.close_archive()

    def stats(self) -> dict[str, Any]:
        """Return the counters of this process, without contacting Redis.

        recorded = stored + pending + dropped (by reason). See docs/settings.md.
        """
        return self._sink.stats()

    # -- copies -----------------------------------------------------------------------------------

    def __copy__(self) -> Self:
        # It has threads and connections, so there is only one instance, like a logger.
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> Any:
        from . import default

        if self is default.existing_client():
            # The default client of the process that reads it.
            return default.client, ()
        raise TypeError(
            f"{type(self).__name__} can't be pickled, because its connections belong to this "
            "process: create a client in each process, or use the default client, of which each "
            "process has its own (see configure)"
        )

    def __repr__(self) -> str:
        url = self.settings.url
        if url is not None:
            url = safe_url(url)
        return f"{type(self).__name__}({url!r}, namespace={self.settings.namespace!r})"
