"""Rows of an archive as tables of pyarrow."""

from typing import Any

import numpy as np
import pyarrow as pa

from redismetrics.columnar.arrays import Ints

from .rows import RawRows, RollupRows, SeriesOf

TIME = pa.timestamp("ms", tz="UTC")
_OF_SERIES = [
    ("namespace", pa.string()),
    ("metric", pa.string()),
    ("type", pa.string()),
    ("tags", pa.map_(pa.string(), pa.string())),
    ("series", pa.string()),
    ("slot", TIME),
]
ROLLUP = pa.schema(
    [
        *_OF_SERIES,
        ("count", pa.int64()),
        ("sum", pa.float64()),
        ("min", pa.float64()),
        ("max", pa.float64()),
        ("last", pa.float64()),
        ("last_time", TIME),
        ("m2", pa.float64()),
        ("p50", pa.float64()),
        ("p95", pa.float64()),
        ("p99", pa.float64()),
        ("digest", pa.binary()),
    ]
)
RAW = pa.schema(
    [
        *_OF_SERIES,
        ("number", pa.int64()),
        ("time", TIME),
        ("value", pa.float64()),
        ("count", pa.int64()),
        ("metadata", pa.string()),
    ]
)


# Samples of each minute in lists, see `minute_table`.
_SAMPLES = ("time", "value", "count", "metadata")
MINUTES = pa.schema([*_OF_SERIES, *((name, pa.list_(RAW.field(name).type)) for name in _SAMPLES)])


def series_texts(of: SeriesOf, series: Ints) -> Any:
    """Return the ids of *series*, which are positions in *of*, as texts."""
    return pa.array([str(of.ids[each]) for each in series.tolist()], pa.string())


def _of_series(of: SeriesOf, series: Ints, slot: Ints) -> list[Any]:
    """Return the columns of `_OF_SERIES`."""
    count = len(series)
    tags = [list(of.tags[each].items()) for each in series.tolist()]
    return [
        pa.array([of.namespace] * count, pa.string()),
        pa.array([of.metric] * count, pa.string()),
        pa.array([of.type] * count, pa.string()),
        pa.array(tags, pa.map_(pa.string(), pa.string())),
        series_texts(of, series),
        pa.array(slot).cast(TIME),
    ]


def rollup_table(rows: RollupRows) -> Any:
    """Return rows of slots as a table of pyarrow."""
    columns = rows.summaries
    numbers = [columns.count, columns.total, columns.low, columns.high, columns.last]
    return pa.Table.from_arrays(
        [
            *_of_series(rows.of, rows.series, rows.slot),
            *map(pa.array, numbers),
            pa.array(columns.last_ms).cast(TIME),
            pa.array(columns.m2),
            *(pa.array(np.ascontiguousarray(column)) for column in rows.percentiles.T),
            pa.array(rows.digests, pa.binary()),
        ],
        schema=ROLLUP,
    )


def raw_table(rows: RawRows) -> Any:
    """Return samples as a table of pyarrow."""
    metadata = rows.metadata
    texts = [
        metadata[row].decode("utf-8", "replace") if row in metadata else None
        for row in range(len(rows))
    ]
    return pa.Table.from_arrays(
        [
            *_of_series(rows.of, rows.series, rows.slot),
            pa.array(rows.number),
            pa.array(rows.time).cast(TIME),
            pa.array(rows.value),
            pa.array(rows.weight),
            pa.array(texts, pa.string()),
        ],
        schema=RAW,
    )


def minute_table(rows: RawRows) -> Any:
    """Return one row for each minute that *rows* replace, with its samples in lists."""
    series, slot = rows.replaced
    minutes = {key: at for at, key in enumerate(zip(series.tolist(), slot.tolist(), strict=True))}
    of_row = np.array(
        [minutes[key] for key in zip(rows.series.tolist(), rows.slot.tolist(), strict=True)],
        np.int64,
    )
    samples = raw_table(rows).take(pa.array(np.lexsort((rows.number, of_row))))
    ends = np.cumsum(np.bincount(of_row, minlength=len(series)))
    offsets = pa.array(np.concatenate(([0], ends)), pa.int32())
    lists = [pa.ListArray.from_arrays(offsets, samples[name].combine_chunks()) for name in _SAMPLES]
    return pa.Table.from_arrays([*_of_series(rows.of, series, slot), *lists], schema=MINUTES)
