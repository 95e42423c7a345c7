"""Queries as values: `Query` for one metric, `SamplesQuery` for the newest samples.

The clients' methods, the HTTP endpoints and the commands build a query, which checks all arguments,
and pass it to a function of this package.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from redismetrics.errors import InvalidQuery, UnknownAggregation, shown
from redismetrics.model.time import to_ms
from redismetrics.model.validation import MetricType, Tags, check_type
from redismetrics.model.windows import Window, interval_ms, window_ms

from .arguments import (
    as_query_error,
    check_aggregation,
    check_aggregations,
    check_group_by,
    check_limit,
    check_metric_name,
    check_tag_filter,
)


@dataclass(frozen=True, slots=True, init=False)
class Query:
    """A query of one metric.

    `evaluate` and `digest` accept any query, `time_series` one with an interval, `rollup` one with
    *keys*. The arguments have the same meaning as in the client's methods of these names.
    """

    name: str
    # The aggregation if it was given alone, because JSON results repeat it in that form.
    aggregation: str | None
    # All aggregations; none means samples.
    aggregations: tuple[str, ...]
    group_by: tuple[str, ...]
    window: Window
    # None: the tag must be missing.
    tags: Mapping[str, str | None]
    # The interval as given, and in ms; None unless the result is a time series.
    interval: Any
    interval_ms: int | None
    fill: bool
    # "text" or "tuple"; None unless the result is a rollup.
    keys: str | None

    def __init__(
        self,
        name: str,
        *,
        aggregation: str | None = None,
        aggregations: str | Iterable[str] | None = None,
        group_by: str | Iterable[str] = (),
        window: Window = None,
        tags: Tags | None = None,
        interval: Any = None,
        fill: bool = False,
        keys: str | None = None,
    ) -> None:
        """Check and store the arguments. *aggregations* takes precedence over *aggregation*.

        Raises:
            InvalidQuery: If an argument is invalid, or a tag in *group_by* has the same name as
                another column of the result.
            UnknownAggregation: If an aggregation does not exist, or a time series or rollup has
                none.
            UnknownWindow: If the window or the interval has an unknown form.
        """
        name = check_metric_name(name)
        window_ms(window, 0)
        groups = check_group_by(group_by)
        needs_aggregation = interval is not None or keys is not None
        if aggregations is not None or (needs_aggregation and aggregation is None):
            aggregation, checked = None, check_aggregations(aggregations)
        else:
            checked = () if aggregation is None else (check_aggregation(aggregation),)
        if needs_aggregation and not checked:
            raise UnknownAggregation("aggregations must have at least one element, got none")
        columns = {*checked}
        if interval is not None:
            columns.add("timestamp")
        elif not checked:
            columns.add("samples")
        for key in sorted(columns.intersection(groups)):
            raise InvalidQuery(
                f"group_by must not contain {key!r}: another column of the result has that name"
            )
        if keys is not None:
            check_keys(keys)
        _set(
            self,
            name=name,
            aggregation=aggregation,
            aggregations=checked,
            group_by=groups,
            window=window,
            tags=check_tag_filter(tags),
            interval=interval,
            interval_ms=None if interval is None else interval_ms(interval),
            fill=fill,
            keys=keys,
        )


@dataclass(frozen=True, slots=True, init=False)
class SamplesQuery:
    """A query for the newest samples of one metric, or of all (*name* None)."""

    name: str | None
    type: MetricType | None
    tags: Mapping[str, str | None]
    since_ms: int | None
    until_ms: int | None
    limit: int

    def __init__(
        self,
        *,
        name: str | None = None,
        type: str | None = None,
        tags: Tags | None = None,
        since: Any = None,
        until: Any = None,
        limit: int = 1000,
    ) -> None:
        """Check and store the arguments; *since* and *until* are half-open.

        Raises:
            InvalidQuery: If an argument is invalid.
        """
        _set(
            self,
            name=None if name is None else check_metric_name(name),
            type=None if type is None else as_query_error(check_type, type),
            tags=check_tag_filter(tags),
            since_ms=None if since is None else as_query_error(to_ms, since),
            until_ms=None if until is None else as_query_error(to_ms, until),
            limit=check_limit(limit, 0),
        )

    def of_metric(self, name: str, since_ms: int) -> Query:
        """Return the query for the samples of one metric that are not older than *since_ms*."""
        until = None if self.until_ms is None else self.until_ms / 1000
        return Query(name, window=(since_ms / 1000, until), tags=self.tags)


def check_keys(keys: object) -> str:
    """Return *keys* if it is a valid form of rollup keys."""
    if keys == "text" or keys == "tuple":
        return keys
    raise InvalidQuery(f"keys must be 'text' or 'tuple', got {shown(keys, 80)}")


def _set(instance: object, **values: Any) -> None:
    """Set the fields of a frozen dataclass under construction."""
    for field, value in values.items():
        object.__setattr__(instance, field, value)
