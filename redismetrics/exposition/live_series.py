"""The current values of a metric's series, from its totals and series in Redis."""

from collections.abc import Mapping
from itertools import compress

import numpy as np

from redismetrics.columnar.small_columns import NotSmall
from redismetrics.columnar.small_totals import Row, add_few
from redismetrics.columnar.totals import TotalsTable, split_live, unpack_change
from redismetrics.model.definition import Definition
from redismetrics.model.label_sets import LABEL_TYPES
from redismetrics.store import keys

from .newest_values import newest_values
from .process_rows import read_process_rows
from .series_table import SeriesTable, unpack_tags


def read_live_series(
    name: str,
    definition: Definition,
    tags_by_id: Mapping[int, bytes],
    live: Mapping[bytes, bytes],
    now_ms: float = 0,
) -> SeriesTable:
    """Return the series in the hash `live` (see keys.py) of metric *name*, ordered by id.

    For an info or state set, return the result of `newest_values`.

    *tags_by_id* are packed tags. Series without tags or without a value are left out. So are
    changes and fields from a newer version: `skipped` is their number. The server's time *now_ms*
    determines which processes are dead, for gauges with a value per process. Damaged bytes raise
    errors of many types; call it inside `reading`.
    """
    width, per_field = keys.totals_shape(definition.type, len(definition.buckets))
    found = split_live(live)
    if definition.options.per is not None:
        names = found.values
        skipped = found.skipped - sum(map(len, names.values()))
        return read_process_rows(definition, tags_by_id, names, live, now_ms, skipped)
    try:
        rows_by_id, unknown = add_few(width, per_field, found.rows, found.changes)
    except NotSmall:
        pass
    else:
        if definition.type in LABEL_TYPES:
            skipped = found.skipped + unknown
            return newest_values(name, definition, tags_by_id, rows_by_id, skipped)
        return _few_series(definition, tags_by_id, rows_by_id, found.skipped + unknown)
    table = TotalsTable(width, per_field, found.rows, list(map(unpack_change, found.changes)))
    skipped = found.skipped + table.unknown
    if definition.type in LABEL_TYPES:
        all_rows = zip(table.ids.tolist(), table.values.tolist(), strict=True)
        used = {number: row for number, row in all_rows if row[0]}
        return newest_values(name, definition, tags_by_id, used, skipped)
    tags = list(map(tags_by_id.get, table.ids.tolist()))
    present = np.fromiter(map(bool, tags), np.bool_, len(tags)) & (table.values[:, 0] != 0)
    values = table.values[present]
    texts, tag_keys, has_empty = unpack_tags(
        [packed for packed in compress(tags, present.tolist()) if packed]
    )
    seen_ms = values[:, 0].astype(np.int64).tolist()
    if definition.type == "gauge":
        gauges = values[:, 1].tolist()
        return SeriesTable(texts, seen_ms, gauges, [], [], tag_keys, has_empty, skipped)
    if definition.type == "counter":
        # A sum is stored as total + remainder, so that no digits are lost.
        sums = (values[:, 1] + values[:, 2]).tolist()
        return SeriesTable(texts, seen_ms, sums, [], [], tag_keys, has_empty, skipped)
    counts = values[:, 1].astype(np.int64).tolist()
    buckets = list(map(tuple, values[:, 4:].astype(np.int64).tolist()))
    sums = (values[:, 2] + values[:, 3]).tolist()
    return SeriesTable(texts, seen_ms, sums, counts, buckets, tag_keys, has_empty, skipped)


def _few_series(
    definition: Definition,
    tags_by_id: Mapping[int, bytes],
    rows_by_id: Mapping[int, Row],
    skipped: int,
) -> SeriesTable:
    """`read_live_series` for few series, without numpy."""
    shown = [(tags, row) for number, row in rows_by_id.items() if (tags := tags_by_id.get(number))]
    texts, tag_keys, has_empty = unpack_tags([tags for tags, _ in shown])
    rows = [row for _, row in shown]
    seen_ms = [int(row[0]) for row in rows]
    if definition.type == "gauge":
        gauges = [row[1] for row in rows]
        return SeriesTable(texts, seen_ms, gauges, [], [], tag_keys, has_empty, skipped)
    if definition.type == "counter":
        sums = [row[1] + row[2] for row in rows]
        return SeriesTable(texts, seen_ms, sums, [], [], tag_keys, has_empty, skipped)
    counts, buckets = [int(row[1]) for row in rows], [tuple(map(int, row[4:])) for row in rows]
    sums = [row[2] + row[3] for row in rows]
    return SeriesTable(texts, seen_ms, sums, counts, buckets, tag_keys, has_empty, skipped)
