"""The verbs that ask, each written once: its signature, its words, its checks, and its answer as an operation.

A client has them all from one of two bases: `Blocking` makes each a function that returns the answer, `Awaiting` a coroutine
function. So a verb added here is one of both.
"""

import inspect
import json
from collections.abc import Callable, Coroutine, Iterable
from datetime import UTC, datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from redismetrics.errors import InvalidQuery
from redismetrics.exposition.families import Family
from redismetrics.model.validation import MetricType, Tags, check_name
from redismetrics.model.windows import Window
from redismetrics.settings import Settings

if TYPE_CHECKING:
    from redismetrics.columnar.digest import Digest
    from redismetrics.queries.context import QueryContext
    from redismetrics.store.driver import Operation


P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")
B = TypeVar("B", bound="SyncQueries")
A = TypeVar("A", bound="AsyncQueries")


class _Verb(Generic[P, T]):
    """Makes the operation that answers. What a client has in its place is told to type checkers here."""

    def __init__(self, make: "Callable[Concatenate[Any, P], Operation[T]]") -> None:
        self.make = make

    @overload
    def __get__(self, client: "SyncQueries", kind: Any) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: "AsyncQueries", kind: Any) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, client: None, kind: type[B]) -> Callable[Concatenate[B, P], T]: ...
    @overload
    def __get__(
        self, client: None, kind: type[A]
    ) -> Callable[Concatenate[A, P], Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Any, kind: Any) -> Any:
        raise AttributeError("BUG: a verb of a class that is neither Blocking nor Awaiting")


class _QueryMethods:
    settings: Settings

    if TYPE_CHECKING:

        def stats(self) -> dict[str, Any]: ...

    @property
    def _context(self) -> "QueryContext":
        raise NotImplementedError

    @_Verb
    def query(
        self,
        name: str,
        *,
        aggregation: str | None = None,
        group_by: str | Iterable[str] = (),
        window: Window = None,
        tags: Tags | None = None,
    ) -> "Operation[Any]":
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
        from redismetrics.queries.query import query as query_query

        return query_query(
            self._context,
            name,
            aggregation=aggregation,
            group_by=group_by,
            window=window,
            tags=tags,
        )

    @_Verb
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
    ) -> "Operation[list[dict[str, Any]]]":
        """One dict for each interval (``minute``, ``hour``, ``day``, text such as ``5m``, a timedelta) that holds samples.

        Each has `timestamp` (the start of the interval, aligned to UTC), the tags of *group_by*, and the aggregation, or all
        of *aggregations*. With *fill* there is one for every interval of the window: 0 for count, sum and rate, else None.
        Raises as `query` does.
        """
        from redismetrics.queries.time_series import time_series as time_series_time_series

        return time_series_time_series(
            self._context, name, interval=interval, aggregation=aggregation, aggregations=aggregations, window=window,
            group_by=group_by, tags=tags, fill=fill,
        )  # fmt: skip

    @_Verb
    def rollup(
        self,
        name: str,
        *,
        group_by: str | Iterable[str] = (),
        aggregations: str | Iterable[str] = ("mean", "count"),
        window: Window = "last_24h",
        tags: Tags | None = None,
        keys: str = "text",
    ) -> "Operation[dict[Any, dict[str, Any]]]":
        r"""Several aggregations for each group: ``{"llama-3.1/scifact": {"mean": 0.72, "count": 150}}``.

        The key joins the group's values by ``/`` in the order of *group_by*; a ``/`` inside a value is written ``\/``, a
        backslash ``\\``, an empty value ``\0``, and a missing tag as nothing. ``keys="tuple"`` gives tuples, with None for
        missing. Raises as `query` does.
        """
        from redismetrics.queries.query import rollup as query_rollup

        return query_rollup(
            self._context,
            name,
            group_by=group_by,
            aggregations=aggregations,
            window=window,
            tags=tags,
            keys=keys,
        )

    @_Verb
    def digest(
        self, name: str, *, window: Window = None, tags: Tags | None = None
    ) -> "Operation[Digest]":
        """The distribution of all values in the window, as a t-digest: `.percentile(p)`, `.to_tdigest()`."""
        from redismetrics.queries.query import digest as query_digest

        return query_digest(self._context, name, window=window, tags=tags)

    @_Verb
    def list_metrics(self) -> "Operation[list[dict[str, Any]]]":
        """All metrics by name, each with type, unit, help, series (how many) and last_seen (aware UTC)."""
        from redismetrics.queries import catalog

        return catalog.list_metrics(self._context)

    @_Verb
    def tag_values(self, name: str, key: str) -> "Operation[list[str]]":
        """The values that a tag has over all series of a metric, sorted."""
        from redismetrics.queries import catalog

        return catalog.tag_values(self._context, name, key)

    @_Verb
    def cardinality(self, *, limit: int = 20) -> "Operation[list[dict[str, Any]]]":
        """The *limit* metrics with the most series: name, series, overflow (do some share one?), and of each tag its values.

        ``{"name": "jobs", "series": 1204, "overflow": False, "tags": {"job_id": 1200, "queue": 4}}``, the worst metric and tag
        first. What the limits are is a matter of each recording process: `max_series`, `max_tag_values`.
        """
        from redismetrics.queries import catalog

        return catalog.cardinality(self._context, limit)

    @_Verb
    def live(self, name: str | None = None) -> "Operation[list[Family]]":
        """What the Prometheus page shows: all metrics, or one, with the running state of their series.

        Series not recorded for `series_idle` seconds are left out; the order is that in which the metrics were first recorded.
        """
        from redismetrics.queries.live import live as live_live

        return live_live(self._context, name, round(self.settings.series_idle * 1000))

    @_Verb
    def self_metrics(self) -> "Operation[list[Family]]":
        """What redismetrics says of itself on the Prometheus page: this process's figures, if it recorded, and the store's.

        Their names begin with ``redismetrics_``; docs/operating.md lists them. `stats` tells this process's without the store.
        """
        from redismetrics.exposition.self_metrics import process_families, store_families
        from redismetrics.queries.stats import figures

        return _then(
            figures(self._context),
            lambda found: [*process_families(self.stats()), *store_families(found)],
        )

    # -- the original's JSON-ready answers ------------------------------------------------------------------------

    @_Verb
    def get_metrics(
        self,
        *,
        name: str | None = None,
        type: MetricType | None = None,
        tags: Tags | None = None,
        since: Any = None,
        until: Any = None,
        limit: int = 1000,
    ) -> "Operation[dict[str, Any]]":
        """The newest samples first, as recorded: ``{"metrics": [...], "count": n, "timestamp": iso}``.

        Increments that were counted together are listed one by one again. *since* and *until* are half-open.
        """
        from redismetrics.queries import samples

        found = samples.get_metrics(
            self._context, name=name, type=type, tags=tags, since=since, until=until, limit=limit
        )
        return _then(
            found,
            lambda found: {
                "metrics": [sample.to_dict() for sample in found],
                "count": len(found),
                "timestamp": _now(),
            },
        )

    @_Verb
    def get_aggregation(
        self,
        name: str,
        *,
        aggregation: str | None = None,
        group_by: str | Iterable[str] = (),
        window: Window = None,
        tags: Tags | None = None,
    ) -> "Operation[dict[str, Any]]":
        """`query`, as ``{"results", "aggregation", "group_by", "window", "timestamp"}``, ready for JSON."""
        from redismetrics.queries import json_ready
        from redismetrics.queries.query import query as query_query

        group_by = _listed(group_by)
        return _then(
            query_query(
                self._context,
                name,
                aggregation=aggregation,
                group_by=group_by,
                window=window,
                tags=tags,
            ),
            lambda results: {
                "results": json_ready.to_json_ready(results),
                "aggregation": aggregation,
                "group_by": group_by,
                "window": json_ready.describe_window(window),
                "timestamp": _now(),
            },
        )

    @_Verb
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
    ) -> "Operation[dict[str, Any]]":
        """`time_series`, as ``{"series", "interval", "aggregation", "window", "timestamp"}``, times as ISO text."""
        from redismetrics.queries import json_ready
        from redismetrics.queries.time_series import time_series as time_series_time_series

        several = None if aggregations is None else _listed(aggregations)
        series = time_series_time_series(
            self._context, name, interval=interval, aggregation=aggregation, aggregations=several, window=window,
            group_by=group_by, tags=tags, fill=fill,
        )  # fmt: skip
        return _then(
            series,
            lambda series: {
                "series": json_ready.to_json_ready(series),
                "interval": interval if isinstance(interval, str) else str(interval),
                "aggregation": aggregation if several is None else several,
                "window": json_ready.describe_window(window),
                "timestamp": _now(),
            },
        )

    @_Verb
    def get_rollups(
        self,
        name: str,
        *,
        group_by: str | Iterable[str] = (),
        aggregations: str | Iterable[str] = ("mean", "count"),
        window: Window = "last_24h",
        tags: Tags | None = None,
    ) -> "Operation[dict[str, Any]]":
        """`rollup`, as ``{"rollups", "group_by", "aggregations", "window", "timestamp"}``."""
        from redismetrics.queries import json_ready
        from redismetrics.queries.query import rollup as query_rollup

        group_by, aggregations = _listed(group_by), _listed(aggregations)
        return _then(
            query_rollup(
                self._context,
                name,
                group_by=group_by,
                aggregations=aggregations,
                window=window,
                tags=tags,
            ),
            lambda rollups: {
                "rollups": rollups,
                "group_by": group_by,
                "aggregations": aggregations,
                "window": json_ready.describe_window(window),
                "timestamp": _now(),
            },
        )

    @_Verb
    def get_stats(self) -> "Operation[dict[str, Any]]":
        """``{"storage", "recorder", "timestamp"}``: the store's figures, and this process's, which are those of `stats`."""
        from redismetrics.queries.stats import get_stats as stats_get_stats

        def answer(storage: dict[str, Any]) -> dict[str, Any]:
            recorder = self.stats()
            recorder = {"metrics_recorded": recorder["recorded"], **recorder}
            return {"storage": storage, "recorder": recorder, "timestamp": _now()}

        return _then(stats_get_stats(self._context), answer)

    # -- deleting -------------------------------------------------------------------------------------------------

    @_Verb
    def delete_metric(self, name: str) -> "Operation[bool]":
        """Delete a metric with all it holds; False when there was none. Recorded again, it starts from nothing."""
        from redismetrics.store import deletion

        check_name(name)
        namespace = self._context.namespace

        def delete() -> "Operation[bool]":
            return (
                yield from deletion.delete(namespace.name, (yield from namespace.shards()), [name])
            ) > 0

        return delete()

    @_Verb
    def delete_series(self, name: str, tags: Tags) -> "Operation[int]":
        """Delete the series of a metric that have all of these tags (None: without that tag); return how many there were.

        They are gone from all answers and from the Prometheus page at once, and their places under `max_series` and
        `max_tag_values` are free; what they take in the store goes with its retention. Recorded again, one starts from nothing.

        Raises:
            InvalidQuery: no tags: `delete_metric` deletes all.
            StoreError: a branch of it; also where the metric is recorded so fast that no moment for it is found.
        """
        from redismetrics.queries import question
        from redismetrics.worker import cleanup

        check_name(name)
        wanted = question.checked_filter(tags)
        if not wanted:
            raise InvalidQuery(
                f"tags: wanted at least one, got {tags!r:.60}: delete_metric({name!r}) deletes all series"
            )
        namespace = self._context.namespace
        return cleanup.delete_series(namespace, name, wanted)

    @_Verb
    def clear(self, *, confirm: bool = False) -> "Operation[int]":
        """Delete all metrics of this namespace, and return how many there were; asks for ``confirm=True``."""
        from redismetrics.store import deletion
        from redismetrics.store.catalog import catalogue

        if confirm is not True:
            raise InvalidQuery(
                f"clear() deletes all of {self.settings.namespace!r}: say so by confirm=True"
            )
        namespace = self._context.namespace

        def delete() -> "Operation[int]":
            shards = yield from namespace.shards()
            known = yield from catalogue(namespace.name, shards)
            return (yield from deletion.delete(namespace.name, shards, list(known)))

        return delete()

    @staticmethod
    def to_json(data: Any) -> str:
        """JSON text of any answer: times as ISO text, samples as the dicts of `get_metrics`."""
        from redismetrics.queries import json_ready

        return json.dumps(json_ready.to_json_ready(data), ensure_ascii=False, allow_nan=False)


class SyncQueries(_QueryMethods):
    """Has every verb as a function that returns the answer."""

    def _ask(self, operation: "Operation[T]") -> T:
        raise NotImplementedError


class AsyncQueries(_QueryMethods):
    """Has every verb as a coroutine function; nothing is checked or done before it is awaited."""

    async def _ask(self, operation: "Operation[T]") -> T:
        raise NotImplementedError


def _blocking(make: "Callable[..., Operation[Any]]") -> Callable[..., Any]:
    @wraps(make)
    def verb(self: SyncQueries, *args: Any, **options: Any) -> Any:
        return self._ask(make(self, *args, **options))

    return verb


def _awaiting(make: "Callable[..., Operation[Any]]") -> Callable[..., Any]:
    @wraps(make)
    async def verb(self: AsyncQueries, *args: Any, **options: Any) -> Any:
        return await self._ask(make(self, *args, **options))

    return verb


def _give(base: type, verb: Callable[..., Any], make: "Callable[..., Operation[Any]]") -> None:
    """Make *verb* a method of *base*, in the eyes of `help` too."""
    answer = make.__annotations__["return"].removeprefix("Operation[").removesuffix("]")
    verb.__annotations__ = {**make.__annotations__, "return": answer}
    verb.__signature__ = inspect.signature(make).replace(return_annotation=answer)  # type: ignore[attr-defined]
    verb.__qualname__ = f"{base.__name__}.{make.__name__}"
    setattr(base, make.__name__, verb)


for _verb in list(vars(_QueryMethods).values()):
    if isinstance(_verb, _Verb):
        _give(SyncQueries, _blocking(_verb.make), _verb.make)
        _give(AsyncQueries, _awaiting(_verb.make), _verb.make)


def _then(operation: "Operation[T]", answer: Callable[[T], U]) -> "Operation[U]":
    """*operation*, which was checked already, with its result put into another shape."""
    return answer((yield from operation))


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _listed(given: Any) -> Any:
    """Text means one. What is no iterable stays as it is, for the reader to refuse."""
    return (
        [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else given
    )
