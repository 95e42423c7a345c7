"""The query methods of `Metrics`. Those of `AsyncMetrics` are in async_query_methods.py.

Each method builds a checked query, passes it to the function of `redismetrics.queries` that returns
the operation, and runs that. What needs numpy or redis is imported at the first call, so that a
process that only records loads neither.
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

from .heat_map_methods import HeatMapMethods
from .operations import OperationMethods

if TYPE_CHECKING:
    from redismetrics.columnar.digest import Digest


class QueryMethods(OperationMethods):
    """What the query methods of both clients need of a client."""

    settings: Settings

    if TYPE_CHECKING:

        def stats(self) -> dict[str, Any]: ...

    @property
    def _idle_ms(self) -> int:
        """How long a series must not have been recorded to leave the Prometheus page."""
        return round(self.settings.series_idle * 1000)

    @staticmethod
    def to_json(data: Any) -> str:
        """Return any result as JSON text: times as ISO text, samples as in `get_metrics`."""
        from redismetrics.queries.json_ready import to_json_ready

        return json.dumps(to_json_ready(data), ensure_ascii=False, allow_nan=False)


class SyncQueries(QueryMethods, HeatMapMethods):
    """The query methods that block."""

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
            name: The metric.
            aggregation: count, sum, mean, min, max, last, stddev (population), median, rate (per
                second: of the sum for counters, of the number of samples otherwise), or a
                percentile from ``p0`` to ``p100`` such as ``p99.9``.
            group_by: Tags to group by; a str means one tag.
            window: ``last_hour``, ``last_24h``, ``last_7d``, ``last_30d``, text such as ``15m``, a
                timedelta, ``(since, until)`` (half-open, each may be None), or None for everything
                that is stored.
            tags: Only series with these tags; a value of None means that the tag must be missing.

        Returns:
            A number, or None if there are no samples (count, sum and rate: 0). With *group_by* a
            list of dicts of the tags and the aggregation, sorted, a missing tag (None) first.
            Without *aggregation* a list of `Sample`, oldest first.

        Raises:
            InvalidQuery: If an argument is invalid; nothing was read.
            StoreError: If Redis does not answer, refuses, or holds data that can't be read.
        """
        from redismetrics.queries.evaluate import evaluate

        query = Query(name, aggregation=aggregation, group_by=group_by, window=window, tags=tags)
        return self._ask(evaluate(self._context, query))

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
        """Aggregate a metric by intervals of a window.

        Args:
            name: The metric.
            interval: ``minute``, ``hour``, ``day``, text such as ``5m``, or a timedelta; in whole
                seconds.
            aggregation: The aggregation, as for `query`.
            aggregations: Several aggregations, in place of *aggregation*.
            window: The window, as for `query`.
            group_by: Tags to group by; a str means one tag.
            tags: Only series with these tags, as for `query`.
            fill: Return intervals without samples too: 0 for count, sum and rate, otherwise None.

        Returns:
            One dict for each interval and group, by time, then by group: `timestamp` (the start of
            the interval, aligned to UTC), the tags of *group_by*, and the aggregations.

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
        group's values by ``/`` in the order of *group_by*. Inside a value ``/`` is written ``\/``
        and a backslash ``\\``; an empty value is written ``\0``, a missing tag as nothing. With
        ``keys="tuple"`` the keys are tuples, with None for a missing tag. The other arguments and
        errors are those of `query`.
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

        It has the methods `percentile` and `to_tdigest`. The arguments and errors are those of
        `query`.
        """
        from redismetrics.queries.evaluate import digest

        return self._ask(digest(self._context, Query(name, window=window, tags=tags)))

    def promql_query(self, expr: str, at: Any = None) -> Any:
        """Evaluate a PromQL expression at one moment. Needs the extra ``promql``.

        Names and labels of series are those of the Prometheus page; see docs/promql.md.

        Args:
            expr: The expression, such as ``sum by (queue) (rate(jobs_total[5m]))``.
            at: An aware datetime or Unix seconds; by default now.

        Returns:
            A number for a scalar, text for a string, otherwise one dict for each series: `labels`,
            `timestamp` (aware UTC) and `value`; of a distribution `histogram`, with count, sum and
            buckets; of a range such as ``depth[5m]`` only `labels` and `values`, pairs of time and
            value.

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
        """Evaluate a PromQL expression at many moments: *since*, *since* + *step*, ... *until*.

        Args:
            expr: The expression.
            since: First time, an aware datetime or Unix seconds; by default a multiple of the step
                within the hour before *until*.
            until: Last time at most, inclusive; by default now.
            step: ``minute``, ``hour``, ``day``, text such as ``5m``, or a timedelta; by default one
                minute.

        Returns:
            One dict for each series: `labels`, and `values`, pairs of time (aware UTC) and value;
            of a distribution `histograms`.

        Raises:
            InvalidQuery, StoreError, MissingExtra: As for `promql_query`.
        """
        from redismetrics.promql.mapping import ask

        prepared = ask.range_query(expr, since, until, step, self._now_ms)
        return ask.plain_result(self._ask(ask.ask(self._context, prepared, self._idle_ms)))

    def list_metrics(self) -> list[dict[str, Any]]:
        """Return all metrics by name, as dicts.

        Their keys are name, type, unit, help, series (how many), last_seen (aware UTC) and options
        (a dict of what `declare` gave, apart from the defaults).
        """
        from redismetrics.queries.catalog import list_metrics

        return self._ask(list_metrics(self._context))

    def tag_values(self, name: str, key: str) -> list[str]:
        """Return the values that a tag has over all series of a metric, sorted."""
        from redismetrics.queries.catalog import tag_values

        return self._ask(tag_values(self._context, name, key))

    def exemplars(self, name: str, *, tags: Tags | None = None) -> list[Exemplar]:
        """Return the newest exemplar of each series and bucket of a metric, the newest first.

        Of the series that have these *tags*; None as a value: not that tag.
        """
        from redismetrics.queries.exemplars import exemplars

        return self._ask(exemplars(self._context, name, tags))

    def cardinality(self, *, limit: int = 20) -> list[dict[str, Any]]:
        """Return the *limit* metrics with the most series, and the number of values of each tag.

        For example ``{"name": "jobs", "series": 1204, "overflow": False, "tags": {"job_id": 1200,
        "queue": 4}}``, the metric with the most series first, and the tag with the most values.
        *overflow* is True if further series were merged into the overflow series: see the settings
        `max_series` and `max_tag_values` of the recording processes.
        """
        from redismetrics.queries.catalog import cardinality

        return self._ask(cardinality(self._context, limit))

    def live(self, name: str | None = None, *, exemplars: bool = False) -> list[Family]:
        """Return all metrics, or one, with the state of their series, as the Prometheus page shows.

        Series not recorded for `series_idle` seconds are left out. The metrics are in the order in
        which they were first recorded. With *exemplars*, the series have these too.
        """
        from redismetrics.queries.live import live

        return self._ask(live(self._context, name, self._idle_ms, exemplars=exemplars))

    def self_metrics(self) -> list[Family]:
        """Return redismetrics' own metrics on the Prometheus page.

        They are those of this process, if it recorded, and of the namespace. Their names begin with
        ``redismetrics_``; docs/operating.md lists them. `stats` returns those of this process
        without contacting Redis.
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
        cannot be read are left out; ``skipped`` has their names and the errors. *since* and
        *until* are half-open: Unix seconds or datetimes with a zone.
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
        """Return the result of `query` ready for JSON.

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
        """Return the result of `time_series` ready for JSON, with times as ISO text.

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
        """Return the result of `rollup` ready for JSON.

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

        The keys are storage, recorder and timestamp; recorder is what `stats` returns. The totals
        in storage leave out metrics that cannot be read; ``skipped`` there has their names and the
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
        """Delete the series of a metric that have all of these tags; return how many there were.

        A value of None means that the tag must be missing. The series are gone from all results and
        from the Prometheus page at once, and no longer count towards `max_series` and
        `max_tag_values`; their memory is freed as their data passes its retention. A series that is
        recorded again starts from zero.

        Raises:
            InvalidQuery: If no tags are given: use `delete_metric` to delete all series.
            StoreError: As for `query`; also if the metric is recorded too often to delete safely.
        """
        from .deletion import delete_series

        return self._ask(delete_series(self._context, name, tags))

    def mark_process_dead(self, pid: int, host: str | None = None) -> int:
        """End the live values of process *pid*, which is dead; return how many it had.

        They are those of gauges declared with ``per="process"`` and a merge mode that begins with
        ``live``. A process that ends normally ends them itself, and those of one that was killed
        end 30 seconds after its last sign of life. *host* is the name of its host, if it is not
        this one.
        """
        from .deletion import mark_process_dead

        return self._ask(mark_process_dead(self._context, pid, host))

    def clear(self, *, confirm: bool = False) -> int:
        """Delete all metrics of the namespace; return how many. Requires ``confirm=True``."""
        from .deletion import clear

        return self._ask(clear(self._context, confirm=confirm))
