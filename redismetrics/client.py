"""Metrics: the verbs joined. Recording never waits; asking sends first what this process has not sent yet."""

import json
import weakref
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import InvalidQuery, InvalidSetting
from .model import Family, MetricType, Tags, check_name
from .recorder import NullRecorder, Recorder
from .settings import OnInvalid, Settings, resolve
from .slots import Clock, Window, system_clock
from .verbs import Recording

if TYPE_CHECKING:
    from .digest import Digest
    from .drive import Operation
    from .operations import Place
    from .stream import Subscription

T = TypeVar("T")


class Metrics(Recording):
    """A client of one namespace of one store: records, asks, subscribes. Thread-safe; a forked child may go on using it.

    Construction makes no connection and doesn't fail because Redis is away. Every argument is a setting, see
    docs/settings.md for units, defaults and environment variables; *clock* returns Unix seconds, for tests.

    Raises:
        InvalidSetting: a setting that is not usable.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
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
        if not callable(clock):
            raise InvalidSetting(f"clock: wanted a function that returns Unix seconds, got {clock!r:.60}")
        self.settings: Settings = resolve(
            url=url,
            namespace=namespace,
            tags=tags,
            worker=worker,
            on_invalid=on_invalid,
            promoted_tags=promoted_tags,
            flush_interval=flush_interval,
            socket_timeout=socket_timeout,
            samples_per_flush=samples_per_flush,
            buffer_bytes=buffer_bytes,
            buffer_age=buffer_age,
            max_age=max_age,
            max_future=max_future,
            max_series=max_series,
            log_bytes=log_bytes,
            log_age=log_age,
            raw_retention=raw_retention,
            minute_retention=minute_retention,
            hour_retention=hour_retention,
            day_retention=day_retention,
            cache_bytes=cache_bytes,
            series_idle=series_idle,
        )
        self._recorder: Recorder
        if (self.settings.url or "").startswith("none:"):
            self._flusher = None
            self._recorder = NullRecorder(self.settings, lambda: None, clock)
            self.__dict__.update(dict.fromkeys(("increment", "gauge", "histogram", "record"), _nothing))
            silent.add(self)
            return
        # Here and not in a thread: a fork while a thread imports leaves the child with a locked import.
        from .connect import Store
        from .flusher import Flusher
        from .operations import Place
        from .worker import Thread

        self._place = Place(self.settings.namespace, self.settings.cache_bytes)
        self._store = Store(self.settings.url, self.settings.socket_timeout)
        self._flusher = Flusher(self.settings, self._store, clock, Thread(self.settings, self._store))
        self._recorder = self._flusher.recorder

    @property
    def _used(self) -> bool:
        """Was anything recorded or asked yet?"""
        return self._recorder.started or self._recorder.closed or (self._flusher is not None and self._store.used)

    def _become(self, other: "Metrics") -> None:
        """Take over *other*'s settings and connections, before the first use; what was declared stays."""
        for name, metric in self._recorder.metrics.items():
            if metric.declared:
                other._recorder.declare(name, metric.definition)
        self.__dict__.update(other.__dict__)

    # -- asking -------------------------------------------------------------------------------------------------

    def _ask(self, make: "Callable[[Place], Operation[T]]") -> T:
        """Check the question by making its operation, send what is not sent yet, then ask."""
        if self._flusher is None:
            raise InvalidQuery("none:// records nothing: there is nothing to ask")
        from .drive import run

        operation = make(self._place)
        self._flusher.flush_for_asking()
        return run(self._store.client(), operation)

    def query(
        self,
        name: str,
        *,
        aggregation: str | None = None,
        group_by: str | Iterable[str] = (),
        window: Window = None,
        tags: Tags | None = None,
    ) -> Any:
        """Aggregate a metric over a window.

        Args:
            name: the metric.
            aggregation: count, sum, mean, min, max, last, stddev (population), median, rate (per second: of the sum for
                counters, of samples else), or a percentile from ``p0`` to ``p100`` such as ``p99.9``.
            group_by: tags to group by; a plain str means one.
            window: ``last_hour``, ``last_24h``, ``last_7d``, ``last_30d``, text such as ``15m``, a timedelta,
                ``(since, until)`` (half-open, each may be None), or None for all that is kept.
            tags: only series with these; a value of None means that the tag is missing.

        Returns:
            A number, or None where there are no samples (count, sum and rate: 0); with *group_by* a list of dicts of the tags
            and the aggregation, sorted, a missing tag (None) first; without *aggregation* a list of `Sample`, oldest first.

        Raises:
            InvalidQuery: a branch of it, before anything is read.
            StoreError: a branch of it.
        """
        from . import reader

        options: Any = {"aggregation": aggregation, "group_by": group_by, "window": window, "tags": tags}
        return self._ask(lambda place: reader.query(place, name, **options))

    def time_series(
        self,
        name: str,
        *,
        interval: Any = "hour",
        aggregation: str = "count",
        aggregations: str | Iterable[str] | None = None,
        window: Window = "last_24h",
        group_by: str | Iterable[str] = (),
        tags: Tags | None = None,
        fill: bool = False,
    ) -> list[dict[str, Any]]:
        """One dict for each interval (``minute``, ``hour``, ``day``, text such as ``5m``, a timedelta) that holds samples.

        Each has `timestamp` (the start of the interval, aligned to UTC), the tags of *group_by*, and the aggregation, or all
        of *aggregations*. With *fill* there is one for every interval of the window: 0 for count, sum and rate, else None.
        Raises as `query` does.
        """
        from . import reader

        options: Any = {
            "interval": interval, "aggregation": aggregation, "aggregations": aggregations, "window": window,
            "group_by": group_by, "tags": tags, "fill": fill,
        }  # fmt: skip
        return self._ask(lambda place: reader.time_series(place, name, **options))

    def rollup(
        self,
        name: str,
        *,
        group_by: str | Iterable[str] = (),
        aggregations: str | Iterable[str] = ("mean", "count"),
        window: Window = "last_24h",
        tags: Tags | None = None,
        keys: str = "text",
    ) -> dict[Any, dict[str, Any]]:
        r"""Several aggregations for each group: ``{"llama-3.1/scifact": {"mean": 0.72, "count": 150}}``.

        The key joins the group's values by ``/`` in the order of *group_by*; a ``/`` inside a value is written ``\/``, a
        backslash ``\\``, an empty value ``\0``, and a missing tag as nothing. ``keys="tuple"`` gives tuples, with None for
        missing. Raises as `query` does.
        """
        from . import reader

        options: Any = {
            "group_by": group_by,
            "aggregations": aggregations,
            "window": window,
            "tags": tags,
            "keys": keys,
        }
        return self._ask(lambda place: reader.rollup(place, name, **options))

    def digest(self, name: str, *, window: Window = None, tags: Tags | None = None) -> "Digest":
        """The distribution of all values in the window, as a t-digest: `.percentile(p)`, `.to_tdigest()`."""
        from . import reader

        return self._ask(lambda place: reader.digest(place, name, window=window, tags=tags))

    def list_metrics(self) -> list[dict[str, Any]]:
        """All metrics by name, each with type, unit, help, series (how many) and last_seen (aware UTC)."""
        from . import reader

        return self._ask(reader.list_metrics)

    def tag_values(self, name: str, key: str) -> list[str]:
        """The values that a tag has over all series of a metric, sorted."""
        from . import reader

        return self._ask(lambda place: reader.tag_values(place, name, key))

    def live(self, name: str | None = None) -> list[Family]:
        """What the Prometheus page shows: all metrics, or one, with the running state of their series.

        Series not recorded for `series_idle` seconds are left out; the order is that in which the metrics were first recorded.
        """
        from . import reader

        idle_ms = round(self.settings.series_idle * 1000)
        return self._ask(lambda place: reader.live(place, name, idle_ms))

    # -- the original's JSON-ready answers ------------------------------------------------------------------------

    def get_metrics(
        self,
        *,
        name: str | None = None,
        type: MetricType | None = None,
        tags: Tags | None = None,
        since: Any = None,
        until: Any = None,
        limit: int = 1000,
    ) -> dict[str, Any]:
        """The newest samples first, as recorded: ``{"metrics": [...], "count": n, "timestamp": iso}``.

        Increments that were counted together are listed one by one again. *since* and *until* are half-open.
        """
        from . import reader

        options: Any = {"name": name, "type": type, "tags": tags, "since": since, "until": until, "limit": limit}
        found = self._ask(lambda place: reader.get_metrics(place, **options))
        return {"metrics": [sample.to_dict() for sample in found], "count": len(found), "timestamp": _now()}

    def get_aggregation(
        self,
        name: str,
        *,
        aggregation: str | None = None,
        group_by: str | Iterable[str] = (),
        window: Window = None,
        tags: Tags | None = None,
    ) -> dict[str, Any]:
        """`query`, as ``{"results", "aggregation", "group_by", "window", "timestamp"}``, ready for JSON."""
        from . import reader

        results = self.query(name, aggregation=aggregation, group_by=group_by, window=window, tags=tags)
        return {
            "results": reader.to_json_ready(results),
            "aggregation": aggregation,
            "group_by": _listed(group_by),
            "window": reader.describe_window(window),
            "timestamp": _now(),
        }

    def get_time_series(
        self,
        name: str,
        *,
        interval: Any = "hour",
        aggregation: str = "count",
        aggregations: str | Iterable[str] | None = None,
        window: Window = "last_24h",
        group_by: str | Iterable[str] = (),
        tags: Tags | None = None,
        fill: bool = False,
    ) -> dict[str, Any]:
        """`time_series`, as ``{"series", "interval", "aggregation", "window", "timestamp"}``, times as ISO text."""
        from . import reader

        series = self.time_series(
            name, interval=interval, aggregation=aggregation, aggregations=aggregations, window=window,
            group_by=group_by, tags=tags, fill=fill,
        )  # fmt: skip
        return {
            "series": reader.to_json_ready(series),
            "interval": interval if isinstance(interval, str) else str(interval),
            "aggregation": aggregation if aggregations is None else _listed(aggregations),
            "window": reader.describe_window(window),
            "timestamp": _now(),
        }

    def get_rollups(
        self,
        name: str,
        *,
        group_by: str | Iterable[str] = (),
        aggregations: str | Iterable[str] = ("mean", "count"),
        window: Window = "last_24h",
        tags: Tags | None = None,
    ) -> dict[str, Any]:
        """`rollup`, as ``{"rollups", "group_by", "aggregations", "window", "timestamp"}``."""
        from . import reader

        return {
            "rollups": self.rollup(name, group_by=group_by, aggregations=aggregations, window=window, tags=tags),
            "group_by": _listed(group_by),
            "aggregations": _listed(aggregations),
            "window": reader.describe_window(window),
            "timestamp": _now(),
        }

    def get_stats(self) -> dict[str, Any]:
        """``{"storage", "recorder", "timestamp"}``: the store's figures, and this process's, which are those of `stats`."""
        from . import reader

        storage = self._ask(reader.get_stats)
        recorder = self.stats()
        return {
            "storage": storage,
            "recorder": {"metrics_recorded": recorder["recorded"], **recorder},
            "timestamp": _now(),
        }

    @staticmethod
    def to_json(data: Any) -> str:
        """JSON text of any answer: times as ISO text, samples as the dicts of `get_metrics`."""
        from . import reader

        return json.dumps(reader.to_json_ready(data), ensure_ascii=False, allow_nan=False)

    # -- the stream, deleting, the end ----------------------------------------------------------------------------

    def subscribe(
        self,
        names: str | Iterable[str] | None = None,
        *,
        tags: Tags | None = None,
        types: MetricType | Iterable[MetricType] | None = None,
    ) -> "Subscription":
        """The live stream of all metrics, or of these names and patterns (``jobs_*``); subscribed when this returns."""
        if self._flusher is None:
            raise InvalidQuery("none:// records nothing: there is nothing to subscribe to")
        from .stream import Subscription

        return Subscription(self._store, self.settings.namespace, names, tags=tags, types=types)

    def delete_metric(self, name: str) -> bool:
        """Delete a metric with all it holds; False when there was none. Recorded again, it starts from nothing."""
        from . import operations

        check_name(name)

        def delete(place: "Place") -> "Operation[int]":
            return (yield from operations.delete(place.namespace, (yield from place.shards()), [name]))

        return self._ask(delete) > 0

    def clear(self, *, confirm: bool = False) -> int:
        """Delete all metrics of this namespace, and return how many there were; asks for ``confirm=True``."""
        from . import operations

        if confirm is not True:
            raise InvalidQuery(f"clear() deletes all of {self.settings.namespace!r}: say so by confirm=True")

        def delete(place: "Place") -> "Operation[int]":
            shards = yield from place.shards()
            known = yield from operations.catalogue(place.namespace, shards)
            return (yield from operations.delete(place.namespace, shards, list(known)))

        return self._ask(delete)

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
            rest = ("lost_batches", "unpublished", "definition_conflicts", "flush_seconds")
            return {**dict.fromkeys(whole + rest, 0), "dropped": {}, "writer": "", "last_error": None}
        return self._flusher.stats()

    def flush(self, timeout: float = 10.0) -> None:
        """Send all that was recorded before this call, and wait until it is stored.

        Raises:
            StoreUnavailable: not confirmed within *timeout* seconds; the samples are kept and sent later, once.
            ScriptFailed, FormatMismatch: Redis refused, or holds another format; kept likewise.
            TypeMismatch: a metric is of another type in the store; once a metric, its samples are counted as dropped.
        """
        if self._flusher is not None:
            self._flusher.flush(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Send what is left within *timeout* seconds and close the connections; the rest is counted as dropped, and logged.

        Recording after it is counted as dropped (``closed``), never raised. Runs by itself at the end of the process, for 2 s
        at most.
        """
        if self._flusher is not None:
            self._flusher.close(timeout)
            self._store.close()

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        url = self.settings.url
        if url is not None:
            from .connect import safe_url

            url = safe_url(url)
        return f"Metrics({url!r}, namespace={self.settings.namespace!r})"


silent: "weakref.WeakSet[Metrics]" = weakref.WeakSet()  # those of none://, which testing.py lets speak


def _nothing(*_: Any, **__: Any) -> None:
    """What the recording verbs of `none://` do."""


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _listed(given: str | Iterable[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)
