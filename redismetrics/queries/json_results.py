"""JSON-ready results, for the clients' `get_...` methods and the HTTP endpoints.

Each is a dict of the result, the arguments of the query, and a timestamp.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from redismetrics.store.driver import Operation
from redismetrics.store.unreadable import Skipped

from .columns import Largest, rollup_columns, time_series_columns
from .context import QueryContext
from .evaluate import evaluate, rollup
from .exemplars import exemplars
from .heat_map import heat_map
from .json_ready import describe_window, to_json_ready
from .overview import OverviewQuery, overview
from .query import Query, SamplesQuery
from .runs import RunsQuery, runs
from .samples import newest_samples
from .stats import store_stats
from .tags import tags
from .time_series import time_series


def get_metrics(context: QueryContext, query: SamplesQuery) -> Operation[dict[str, Any]]:
    """Return the result of `newest_samples` ready for JSON."""
    skipped: Skipped = {}
    samples = yield from newest_samples(context, query, skipped)
    return _with_timestamp(
        metrics=to_json_ready(samples), count=len(samples), skipped=to_json_ready(skipped)
    )


def get_aggregation(context: QueryContext, query: Query) -> Operation[dict[str, Any]]:
    """Return the result of `evaluate` ready for JSON."""
    results = yield from evaluate(context, query)
    return _with_timestamp(
        results=to_json_ready(results),
        aggregation=query.aggregation,
        group_by=list(query.group_by),
        window=describe_window(query.window),
    )


def get_time_series(context: QueryContext, query: Query) -> Operation[dict[str, Any]]:
    """Return the result of `time_series` ready for JSON."""
    operation = time_series(context, query)

    def read() -> Operation[dict[str, Any]]:
        series = yield from operation
        interval, aggregation = query.interval, query.aggregation
        return _with_timestamp(
            series=to_json_ready(series),
            interval=interval if isinstance(interval, str) else str(interval),
            aggregation=list(query.aggregations) if aggregation is None else aggregation,
            window=describe_window(query.window),
        )

    return read()


def get_rollups(context: QueryContext, query: Query) -> Operation[dict[str, Any]]:
    """Return the result of `rollup` ready for JSON."""
    operation = rollup(context, query)

    def read() -> Operation[dict[str, Any]]:
        return _with_timestamp(
            rollups=to_json_ready((yield from operation)),
            group_by=list(query.group_by),
            aggregations=list(query.aggregations),
            window=describe_window(query.window),
        )

    return read()


def get_time_series_columns(
    context: QueryContext, query: Query, largest: Largest
) -> Operation[dict[str, Any]]:
    """Return the result of `time_series_columns` ready for JSON."""
    return _with_timestamp(**(yield from time_series_columns(context, query, largest)))


def get_rollup_columns(
    context: QueryContext, query: Query, largest: Largest
) -> Operation[dict[str, Any]]:
    """Return the result of `rollup_columns` ready for JSON."""
    return _with_timestamp(**(yield from rollup_columns(context, query, largest)))


def get_heat_map(context: QueryContext, query: Query, buckets: int) -> Operation[dict[str, Any]]:
    """Return the result of `heat_map` ready for JSON, with times in Unix seconds."""
    found = yield from heat_map(context, query, buckets)
    times = [int(time.timestamp()) for time in found["times"]]
    return _with_timestamp(**{**found, "times": times})


def get_exemplars(context: QueryContext, query: SamplesQuery) -> Operation[dict[str, Any]]:
    """Return the result of `exemplars` ready for JSON."""
    assert query.name is not None, "BUG: exemplars of no metric"
    found = yield from exemplars(context, query.name, query.tags)
    return _with_timestamp(exemplars=to_json_ready(found))


def get_overview(context: QueryContext, query: OverviewQuery) -> Operation[dict[str, Any]]:
    """Return the result of `overview` ready for JSON."""
    found = yield from overview(context, query)
    # Only these contain times; the lists of figures are long.
    for row in found["metrics"]:
        row["last_seen"] = row["last_seen"].isoformat()
        row["options"] = to_json_ready(row["options"])
    return _with_timestamp(**found)


def get_runs(context: QueryContext, query: RunsQuery) -> Operation[dict[str, Any]]:
    """Return the result of `runs` ready for JSON."""
    found = yield from runs(context, query)
    # Only these contain times; the curves are long.
    for row in found.rows:
        row["since"], row["until"] = row["since"].isoformat(), row["until"].isoformat()
    return _with_timestamp(
        runs=found.rows,
        left_off=found.left_off,
        x=query.x,
        group_by=list(query.query.group_by),
        window=describe_window(query.query.window),
    )


def get_tags(
    context: QueryContext, query: Query, keys: tuple[str, ...], limit: int
) -> Operation[dict[str, Any]]:
    """Return the result of `tags` ready for JSON."""
    found = yield from tags(context, query, keys, limit)
    return _with_timestamp(**found, window=describe_window(query.window))


def get_stats(
    context: QueryContext, process_stats: Callable[[], dict[str, Any]]
) -> Operation[dict[str, Any]]:
    """Return `store_stats` and the statistics of this process, from *process_stats*."""
    storage = yield from store_stats(context)
    recorder = process_stats()
    recorder = {"metrics_recorded": recorder["recorded"], **recorder}
    return _with_timestamp(storage=storage, recorder=recorder)


def _with_timestamp(**result: Any) -> dict[str, Any]:
    return {**result, "timestamp": datetime.now(UTC).isoformat()}
