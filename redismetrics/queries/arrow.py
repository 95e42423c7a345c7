"""Query results as Arrow tables, for notebooks: built by column, without a loop over samples."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from redismetrics.columnar import metadata_columns
from redismetrics.columnar.arrays import Ints
from redismetrics.errors import MissingExtra
from redismetrics.store.driver import Operation

from .aggregate import GroupKey, aggregate_groups, columns_of, empty_result
from .context import QueryContext
from .fetch import fetch
from .query import Query
from .selection import SeriesData
from .time_series import series_cells

try:
    import pyarrow as pa
except ImportError as _error:
    raise MissingExtra(
        "tables of Arrow need: pip install 'redismetrics[arrow]', or 'redismetrics[pandas]' with "
        "pandas"
    ) from _error

_TIME = pa.timestamp("ms", tz="UTC")
_TAG = pa.dictionary(pa.int32(), pa.string())
# Columns of samples that are not tags.
_SAMPLE_COLUMNS = ("timestamp", "value", "count", "approximate", "metadata")


def arrow_table(context: QueryContext, query: Query) -> Operation[Any]:
    """Return the table of a query.

    With an interval, it is a time series; with aggregations only, it has a row per group; with
    neither, it holds the samples.
    """
    if query.interval is not None:
        return _time_series(context, query)
    return _groups(context, query) if query.aggregations else _samples(context, query)


def _time_series(context: QueryContext, query: Query) -> Operation[Any]:
    columns = series_cells(context, query)

    def read() -> Operation[Any]:
        found = yield from columns
        starts = np.array(found.starts, np.int64) * found.width
        tags = _group_columns(found.groups, query.group_by)
        numbers = pa.array(found.group_numbers, pa.int32())
        return pa.table(
            {
                "timestamp": pa.array(starts).cast(_TIME),
                **{key: column.take(numbers) for key, column in tags.items()},
                **_value_columns(found.values),
            }
        )

    return read()


def _groups(context: QueryContext, query: Query) -> Operation[Any]:
    data, _ = yield from fetch(context, query, columns=columns_of(query.aggregations))
    groups, values = aggregate_groups(data, query, context)
    if not groups and not query.group_by:
        groups = [()]
        values = {name: [empty_result(name)] for name in query.aggregations}
    return pa.table(_group_columns(groups, query.group_by) | _value_columns(values))


def _samples(context: QueryContext, query: Query) -> Operation[Any]:
    data, _ = yield from fetch(context, query, exact=True)
    if data is None:
        nothing: Ints = np.zeros(0, np.int64)
        tags = {_name(key): _texts([]) for key in query.group_by}
        return _sample_table(nothing, nothing, nothing, nothing.astype(np.bool_), pa.nulls(0), tags)
    points = data.points()
    order = np.argsort(points.time, kind="stable")
    metadata = pa.nulls(len(order))
    if points.metadata:
        metadata = pa.array(metadata_columns.texts(points.metadata, order), pa.binary())
    return _sample_table(
        points.time[order],
        points.value[order],
        points.weight[order],
        ~points.exact[order],
        metadata,
        _tag_columns(data, points.series[order], query.group_by),
    )


def _sample_table(
    time: Ints, value: Any, weight: Ints, approximate: Any, metadata: Any, tags: dict[str, Any]
) -> Any:
    return pa.table(
        {
            "timestamp": pa.array(time).cast(_TIME),
            **tags,
            "value": pa.array(value, pa.float64()),
            "count": pa.array(weight),
            "approximate": pa.array(approximate),
            "metadata": metadata.cast(pa.string()),
        }
    )


def _tag_columns(data: SeriesData, series: Ints, keys: Sequence[str]) -> dict[str, Any]:
    """Return a column for each of these tags (all without *keys*); *series* has shape (n,)."""
    rows = pa.array(series)
    chosen = keys or sorted({key for tags in data.tags for key in tags})
    return {_name(key): _texts(tags.get(key) for tags in data.tags).take(rows) for key in chosen}


def _name(key: str) -> str:
    """Return a column name for a tag that no sample column has. Tag keys have no brackets."""
    return f"tags[{key}]" if key in _SAMPLE_COLUMNS else key


def _group_columns(groups: Sequence[GroupKey], keys: Sequence[str]) -> dict[str, Any]:
    """Return a column per key, with its value in each of *groups*."""
    return {key: _texts(group[at] for group in groups) for at, key in enumerate(keys)}


def _texts(values: Iterable[str | None]) -> Any:
    """Return a dictionary-encoded column of text."""
    return pa.array(list(values), pa.string()).dictionary_encode().cast(_TAG)


def _value_columns(values: dict[str, list[Any]]) -> dict[str, Any]:
    """Return columns of aggregations: counts as integers, others as floats or null."""
    return {
        name: pa.array(column, pa.int64())
        if name == "count"
        else pa.array(np.array(column, np.float64), from_pandas=True)
        for name, column in values.items()
    }


def data_frame(table: Any) -> Any:
    """Return an Arrow table as a pandas data frame.

    Raises:
        MissingExtra: If pandas is not installed.
    """
    try:
        import pandas as pd  # noqa: F401
    except ImportError as error:
        raise MissingExtra("to_pandas needs: pip install 'redismetrics[pandas]'") from error
    return table.to_pandas()
