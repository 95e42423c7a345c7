"""The query methods of `Metrics`. Those of `AsyncMetrics` are in async_query_methods.py.

Each method builds a checked query, passes it to the function of `redismetrics.queries` that returns
the operation, and runs that. Modules that need numpy or redis are imported on the first call, so
that a process that only records loads neither.
"""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from redismetrics.exposition.families import Family
from redismetrics.model.exemplar import Exemplar
from redismetrics.model.validation import MetricType, Tags
from redismetrics.model.windows import Window
from redismetrics.queries.query import Query, SamplesQuery
from redismetrics.settings import Settings

from .aggregate_methods import AggregateMethods
from .heat_map_methods import HeatMapMethods
from .operations import OperationMethods

if TYPE_CHECKING:
    from redismetrics.columnar.digest import Digest


class QueryMethods(OperationMethods):
    """What the query methods of both clients need from a client."""

    settings: Settings

    if TYPE_CHECKING:

        def stats(self) -> dict[str, Any]: ...

    @property
    def _idle_ms(self) -> int:
        """How long a series may be idle before it is left out of the Prometheus page."""
        return round(self.settings.series_idle * 1000)

    @staticmethod
    def to_json(data: Any) -> str:
        """Return any result as JSON text: times as ISO text, samples as in `get_metrics`."""
        from redismetrics.queries.json_ready import to_json_ready

        return json.dumps(to_json_ready(data), ensure_ascii=False, allow_nan=False)


class SyncQueries(QueryMethods, AggregateMethods, HeatMapMethods):
    """The blocking query methods."""

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
        """Aggregate a metric by interval over a window.

        Args:
            name: The metric.
            interval: ``minute``, ``hour``, ``day``, text such as ``5m``, or a timedelta; in whole
                seconds.
            aggregation: The aggregation, as for `query`.
            aggregations: Several aggregations, instead of *aggregation*.
            window: The window, as for `query`.
            group_by: Tags to group by; a str means one tag.
            tags: Only series with these tags, as for `query`.
            fill: Also return intervals without samples: 0 for count, sum and rate, otherwise None.

        Returns:
            One dict per interval and group, ordered by time, then by group: `timestamp` (the start
            of the interval, aligned to UTC), the tags of *group_by*, and the aggregations.

        Raises:
            InvalidQuery: If an argument is invalid; nothing was read.
            OutsideRetention: If *interval* is finer than what the window still holds.
            StoreError: As for `query`.
        """
        from redismetrics.queries.time_series import time_series

        query = Query(
            name,
            interval=interval,
            aggregation=aggregation,
            aggregations=aggregations,
            window=window,
            group_by=group_by,
            tags=tags,
            fill=fill,
        )
        return self._ask(time_series(self._context, query))

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
        r"""Return several aggregations of each group.

        For example ``{"llama-3.1/scifact": {"mean": 0.72, "count": 150}}``. The key joins the
        group's values with ``/`` in the order of *group_by*. Inside a value, ``/`` is written
        ``\/`` and a backslash ``\\``; an empty value is written ``\0``, a missing tag as nothing.
        With ``keys="tuple"``, the keys are tuples, with None for a missing tag. The other arguments
        and errors are those of `query`.
        """
        from redismetrics.queries.evaluate import rollup

        query = Query(
            name,
            group_by=group_by,
            aggregations=aggregations,
            window=window,
            tags=tags,
            keys=keys,
        )
        return self._ask(rollup(self._context, query))

    def digest(self, name: str, *, window: Window = None, tags: Tags | None = None) -> "Digest":
        """Return the distribution of all values in the window, as a t-digest.

        The result has the methods `percentile` and `to_tdigest`. The arguments and errors are those
        of `query`.
        """
        from redismetrics.queries.evaluate import digest

        return self._ask(digest(self._context, Query(name, window=window, tags=tags)))

    def promql_query(self, expr: str, at: Any = None) -> Any:
        """Evaluate a PromQL expression at a single time. Needs the extra ``promql``.

        Series have the same names and labels as on the Prometheus page; see docs/promql.md.

        Args:
            expr: The expression, such as ``sum by (queue) (rate(jobs_total[5m]))``.
            at: An aware datetime or Unix seconds; by default now.

        Returns:
            A number for a scalar, a str for a string, otherwise one dict per series: `labels`,
            `timestamp` (aware UTC) and `value`; for a distribution, `histogram` with count, sum and
            buckets; for a range such as ``depth[5m]``, only `labels` and `values`, which are pairs
            of time and value.

        Raises:
            InvalidQuery: If the expression or the time is invalid, or the expression cannot be
                evaluated.
            StoreError: As for `query`.
            MissingExtra: If the extra is not installed.
        """
        from redismetrics.promql.mapping import ask

        prepared = ask.instant_query(expr, at, self._now_ms)
        return ask.plain_result(self._ask(ask.ask(self._context, prepared, self._idle_ms)))

    def promql_range(
        self, expr: str, *, since: Any = None, until: Any = None, step: Any = None
    ) -> Any:
        """Evaluate a PromQL expression at each of *since*, *since* + *step*, ... *until*.

        Args:
            expr: The expression.
            since: Start, an aware datetime or Unix seconds; by default the first multiple of the
                step within the hour before *until*.
            until: End, inclusive; by default now.
            step: ``minute``, ``hour``, ``day``, text such as ``5m``, or a timedelta; by default one
                minute.

        Returns:
            One dict per series: `labels`, and `values`, pairs of time (aware UTC) and value; for a
            distribution, `histograms`.

        Raises:
            InvalidQuery, StoreError, MissingExtra: As for `promql_query`.
        """
        from redismetrics.promql.mapping import ask

        prepared = ask.range_query(expr, since, until, step, self._now_ms)
        return ask.plain_result(self._ask(ask.ask(self._context, prepared, self._idle_ms)))

    def list_metrics(self) -> list[dict[str, Any]]:
        """Return all metrics as dicts, sorted by name.

        The keys are name, type, unit, help, series (their number), last_seen (aware UTC) and
        options (a dict of the options given to `declare`, without defaults).
        """
        from redismetrics.queries.catalog import list_metrics

        return self._ask(list_metrics(self._context))

    def tag_values(self, name: str, key: str) -> list[str]:
        """Return the values that a tag has over all series of a metric, sorted."""
        from redismetrics.queries.catalog import tag_values

        return self._ask(tag_values(self._context, name, key))

    def exemplars(self, name: str, *, tags: Tags | None = None) -> list[Exemplar]:
        """Return the newest exemplar of each series and bucket of a metric, newest first.

        With *tags*, only of series with these tags; a value of None means that the tag must be
        missing.
        """
        from redismetrics.queries.exemplars import exemplars

        return self._ask(exemplars(self._context, name, tags))

    def cardinality(self, *, limit: int = 20) -> list[dict[str, Any]]:
        """Return the *limit* metrics with the most series, and the number of values of each tag.

        For example ``{"name": "jobs", "series": 1204, "overflow": False, "tags": {"job_id": 1200,
        "queue": 4}}``, the metric with the most series first, and the tag with the most values.
        *overflow* is True if some series were merged into the overflow series: see the settings
        `max_series` and `max_tag_values` of the recording processes.
        """
        from redismetrics.queries.catalog import cardinality

        return self._ask(cardinality(self._context, limit))

    def live(self, name: str | None = None, *, exemplars: bool = False) -> list[Family]:
        """Return all metrics, or one, with the current state of their series.

        Series not recorded for `series_idle` seconds are left out. The metrics are in the order in
        which they were first recorded. With *exemplars*, each series includes its exemplars.
        """
        from redismetrics.queries.live import live

        return self._ask(live(self._context, name, self._idle_ms, exemplars=exemplars))

    def self_metrics(self) -> list[Family]:
        """Return redismetrics' own metrics on the Prometheus page.

        They cover the namespace and, if it recorded, this process. Their names begin with
        ``redismetrics_``; docs/operating.md lists them. `stats` returns the counters of this
        process without contacting Redis.
        """
        from redismetrics.queries.stats import self_metrics

        return self._ask(self_metrics(self._context, self.stats))

    # -- JSON-ready results ------------------------------------------------------------------------

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
        """Return the newest samples first: ``{"metrics": [...], "count": n, "skipped": {...}}``.

        Increments that were counted together are listed one by one. Without *name*, metrics that
        cannot be read are left out; ``skipped`` has their names and errors. *since* (inclusive) and
        *until* (exclusive) are Unix seconds or datetimes with a time zone.
        """
        from redismetrics.queries.json_results import get_metrics

        query = SamplesQuery(name=name, type=type, tags=tags, since=since, until=until, limit=limit)
        return self._ask(get_metrics(self._context, query))

    def get_aggregation(
        self,
        name: str,
        *,
        aggregation: str | None = None,
        group_by: str | Iterable[str] = (),
        window: Window = None,
        tags: Tags | None = None,
    ) -> dict[str, Any]:
        """Return the result of `query` as a JSON-ready dict.

        Its keys are results, aggregation, group_by, window and timestamp.
        """
        from redismetrics.queries.json_results import get_aggregation

        query = Query(name, aggregation=aggregation, group_by=group_by, window=window, tags=tags)
        return self._ask(get_aggregation(self._context, query))

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
        """Return the result of `time_series` as a JSON-ready dict, with times as ISO text.

        Its keys are series, interval, aggregation, window and timestamp.
        """
        from redismetrics.queries.json_results import get_time_series

        query = Query(
            name,
            interval=interval,
            aggregation=aggregation,
            aggregations=aggregations,
            window=window,
            group_by=group_by,
            tags=tags,
            fill=fill,
        )
        return self._ask(get_time_series(self._context, query))

    def get_rollups(
        self,
        name: str,
        *,
        group_by: str | Iterable[str] = (),
        aggregations: str | Iterable[str] = ("mean", "count"),
        window: Window = "last_24h",
        tags: Tags | None = None,
    ) -> dict[str, Any]:
        """Return the result of `rollup` as a JSON-ready dict.

        Its keys are rollups, group_by, aggregations, window and timestamp.
        """
        from redismetrics.queries.json_results import get_rollups

        query = Query(
            name,
            group_by=group_by,
            aggregations=aggregations,
            window=window,
            tags=tags,
            keys="text",
        )
        return self._ask(get_rollups(self._context, query))

    def get_stats(self) -> dict[str, Any]:
        """Return statistics of the namespace (storage) and of this process (recorder).

        The keys are storage, recorder and timestamp; recorder is the result of `stats`. The totals
        in storage leave out metrics that cannot be read; its ``skipped`` has their names and
        errors.
        """
        from redismetrics.queries.json_results import get_stats

        return self._ask(get_stats(self._context, self.stats))

    # -- deleting ----------------------------------------------------------------------------------

    def delete_metric(self, name: str) -> bool:
        """Delete a metric with all its data; return False if it does not exist.

        If it is recorded again, it starts from zero.
        """
        from .deletion import delete_metric

        return self._ask(delete_metric(self._context, name))

    def delete_series(self, name: str, tags: Tags) -> int:
        """Delete the series of a metric that have all of these tags; return their number.

        A value of None means that the tag must be missing. The series disappear at once from all
        results and from the Prometheus page, and no longer count towards `max_series` and
        `max_tag_values`; their memory is freed as their data expires. A series that is recorded
        again starts from zero.

        Raises:
            InvalidQuery: If no tags are given: use `delete_metric` to delete all series.
            StoreError: As for `query`; also if the metric is recorded too often to delete its
                series safely.
        """
        from .deletion import delete_series

        return self._ask(delete_series(self._context, name, tags))

    def mark_process_dead(self, pid: int, host: str | None = None) -> int:
        """Drop the live values of the dead process *pid*; return their number.

        Live values belong to gauges declared with ``per="process"`` and a merge mode that begins
        with ``live``. A process that exits normally drops them itself; those of a killed process
        are dropped 30 seconds after its last sign of life. *host* is the name of its host, if it is
        not this one.
        """
        from .deletion import mark_process_dead

        return self._ask(mark_process_dead(self._context, pid, host))

    def clear(self, *, confirm: bool = False) -> int:
        """Delete all metrics of the namespace; return their number. Requires ``confirm=True``."""
        from .deletion import clear

        return self._ask(clear(self._context, confirm=confirm))
