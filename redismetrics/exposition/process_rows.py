"""The rows of a gauge with a separate value per process."""

from collections.abc import Mapping

from redismetrics.columnar.process_values import SeriesValues, merge_mode, pid_tags, read_values
from redismetrics.model.definition import Definition
from redismetrics.model.validation import pack_tags
from redismetrics.model.validation import unpack_tags as unpack_canonical

from .series_table import SeriesTable, unpack_tags

# Packed tags, when the value was last set or repeated, and the value.
_Row = tuple[bytes, int, float]


def read_process_rows(
    definition: Definition,
    tags_by_id: Mapping[int, bytes],
    names: Mapping[int, list[bytes]],
    live: Mapping[bytes, bytes],
    now_ms: float,
    skipped: int,
) -> SeriesTable:
    """Return the per-process values, merged as the definition says, ordered by series id.

    *names* are the fields of *live* with values, by series. Damaged bytes raise errors of many
    types; call it inside `reading`.
    """
    mode = merge_mode(definition.options.merge)
    found = {
        tags_by_id[series]: values
        for series, values in sorted(read_values(names, live).items())
        if series in tags_by_id
    }
    if mode in ("all", "liveall"):
        rows = _rows_of_each(found, mode, now_ms)
    else:
        rows = [
            (tags, seen_ms, value)
            for tags, values in found.items()
            for value, seen_ms in filter(None, [values.one(mode, now_ms)])
        ]
    texts, tag_keys, has_empty = unpack_tags([tags for tags, _, _ in rows])
    seen = [seen_ms for _, seen_ms, _ in rows]
    gauges = [value for _, _, value in rows]
    return SeriesTable(texts, seen, gauges, [], [], tag_keys, has_empty, skipped)


def _rows_of_each(found: Mapping[bytes, SeriesValues], mode: str, now_ms: float) -> list[_Row]:
    """Return one row per process, with the tag ``pid``."""
    shown = {tags: values.each(mode, now_ms) for tags, values in found.items()}
    pids = pid_tags(each.process for values in shown.values() for each in values)
    rows = []
    for packed, values in shown.items():
        tags, key = unpack_canonical(packed), "pid"
        while key in tags:
            key = f"process_{key}"
        rows += [
            (pack_tags({**tags, key: pids[each.process]}), each.clock // 1000, each.value)
            for each in values
        ]
    return rows
