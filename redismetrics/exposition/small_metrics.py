"""The current values of many metrics with few series each, decoded together.

Only handles totals that consist of rows and nothing else. Metrics with waiting changes, rows of
removed series, or possibly damaged bytes are left to `read_live_series`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from redismetrics.columnar.arrays import Floats
from redismetrics.model.definition import Definition
from redismetrics.model.label_sets import LABEL_TYPES
from redismetrics.model.validation import MetricType
from redismetrics.store import keys
from redismetrics.store.replies import DECODING_ERRORS, series_by_id

from .series_table import SeriesTable, unpack_tags_of_each

# Maximum number of fields in a reply for a metric to be decoded together with others.
_MOST_FIELDS = 50
# Whole numbers are below this, unless damaged.
_MOST_WHOLE = 2.0**62


class StoredMetric(NamedTuple):
    """A metric, and the replies to HGETALL of its totals and of its series: flat lists."""

    definition: Definition
    live: list[bytes]
    series: list[bytes]


class _StoredRows(NamedTuple):
    """The rows of a metric: its position, its fields by number, and the tags of its series."""

    place: int
    fields: list[tuple[int, bytes]]
    tags_by_id: dict[int, bytes]


def is_small(live: list[bytes], series: list[bytes]) -> bool:
    """Return whether these replies may be decoded together with those of other metrics."""
    return len(live) <= 2 * _MOST_FIELDS and len(series) <= 2 * _MOST_FIELDS


def read_small_metrics(metrics: Sequence[StoredMetric | None]) -> list[SeriesTable | None]:
    """Return the series of each metric, like `read_live_series`; None for a metric left to that."""
    found: list[SeriesTable | None] = [None] * len(metrics)
    alike: dict[tuple[MetricType, int, int], list[_StoredRows]] = {}
    try:
        for place, stored in enumerate(metrics):
            rows = None if stored is None else _rows_of(place, stored)
            if stored is not None and rows is not None:
                kind, buckets = stored.definition.type, len(stored.definition.buckets)
                alike.setdefault((kind, *keys.totals_shape(kind, buckets)), []).append(rows)
        for (kind, width, per_field), some in alike.items():
            for rows, table in zip(some, _tables(kind, width, per_field, some), strict=True):
                found[rows.place] = table
    except DECODING_ERRORS:
        # One of them is damaged. Read each separately, which finds it.
        return [None] * len(metrics)
    return found


def _rows_of(place: int, stored: StoredMetric) -> _StoredRows | None:
    """Return the rows of a metric; None if its totals are not only rows."""
    definition, live, series = stored
    if definition.type in LABEL_TYPES or (definition.rest and definition.options.per is not None):
        return None
    names = live[::2]
    fields = [
        (int(name), data) for name, data in zip(names, live[1::2], strict=True) if name.isdigit()
    ]
    if not fields or len(names) - len(fields) != names.count(b"first"):
        return None
    fields.sort()
    return _StoredRows(place, fields, series_by_id(series))


def _tables(
    kind: MetricType, width: int, per_field: int, some: list[_StoredRows]
) -> list[SeriesTable | None]:
    """Return the series of metrics with the same type and the same shape of rows."""
    packed = [data for rows in some for _, data in rows.fields]
    if set(map(len, packed)) != {8 * width * per_field}:
        raise ValueError(f"fields of totals must have {8 * width * per_field} bytes")
    values = np.frombuffer(b"".join(packed), "<f8").reshape(-1, width)
    numbers = np.array([number for rows in some for number, _ in rows.fields])
    used = np.flatnonzero(values[:, 0])
    ids = (numbers[:, None] * per_field + np.arange(per_field)).ravel()[used].tolist()
    ends = np.cumsum([len(rows.fields) * per_field for rows in some])
    seen_ms, shown, counts, buckets = _columns(kind, values[used])
    runs, begin = [], 0
    for rows, end in zip(some, np.searchsorted(used, ends).tolist(), strict=True):
        by_id = rows.tags_by_id
        tags = [by_id[number] for number in ids[begin:end] if number in by_id]
        runs.append((slice(begin, end), tags))
        begin = end
    found: list[SeriesTable | None] = []
    unpacked = unpack_tags_of_each([tags for _, tags in runs])
    for (run, tags), (texts, tag_keys, has_empty) in zip(runs, unpacked, strict=True):
        is_whole = len(tags) == run.stop - run.start
        table = SeriesTable(
            texts, seen_ms[run], shown[run], counts[run], buckets[run], tag_keys, has_empty
        )
        # Otherwise a series has been removed.
        found.append(table if is_whole else None)
    return found


def _columns(
    kind: MetricType, values: Floats
) -> tuple[list[int], list[float], list[int], list[tuple[int, ...]]]:
    """Return the columns of a `SeriesTable` other than its texts."""
    seen = _whole(values[:, 0]).tolist()
    if kind == "gauge":
        return seen, values[:, 1].tolist(), [], []
    # A sum is stored as total + remainder, so that no digits are lost.
    with np.errstate(all="ignore"):
        if kind == "counter":
            return seen, (values[:, 1] + values[:, 2]).tolist(), [], []
        sums = (values[:, 2] + values[:, 3]).tolist()
    buckets = list(map(tuple, _whole(values[:, 4:]).tolist()))
    return seen, sums, _whole(values[:, 1]).tolist(), buckets


def _whole(values: Floats) -> NDArray[np.int64]:
    if not (np.abs(values) < _MOST_WHOLE).all():
        raise ValueError("whole numbers of totals must be finite")
    return values.astype(np.int64)
