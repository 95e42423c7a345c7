"""Read an archive in ClickHouse: one statement for what it has of a metric, and one for rows."""

import json
from typing import Any

import numpy as np

from redismetrics.errors import MissingExtra
from redismetrics.queries.older import OlderQuestion

from .reading import MAX_DIGESTS, MAX_ROWS, Found
from .reading_plan import WIDTHS, ReadingPlan
from .state import MetricState, group_of
from .target import ArchiveError

try:
    from .clickhouse_connection import Connection
    from .clickhouse_schema import VERSION, TableNames, read_meta
    from .reading_batches import NUMBERS, RowCollector, series_numbers
except ImportError as _error:
    raise MissingExtra(
        "an archive in ClickHouse needs: pip install 'redismetrics[clickhouse]'"
    ) from _error

# A question may take a minute. Rows of one series and slot are in one partition, so that partitions
# need not be merged to find the row that counts.
_SETTINGS = {"max_execution_time": 60, "do_not_merge_across_partitions_select_final": 1}

# The last second that fits into a DateTime: in 2106.
_MAX_SECONDS = (1 << 32) - 1

# Times in ms.
_TIMES = {
    "slot": "toInt64(toUnixTimestamp(r.slot)) * 1000",
    "last_time": "toUnixTimestamp64Milli(r.last_time)",
}

_METRIC = "namespace = {namespace:String} AND metric = {metric:String}"


class ClickHouseFinder:
    """The `ArchiveFinder` of a ``clickhouse://`` URL. Several threads may ask at a time."""

    def __init__(self, url: str, database: str | None, prefix: str, timeout: float) -> None:
        self._connection = Connection(url, "redismetrics queries", timeout, _SETTINGS)
        self._names = TableNames(database, prefix)
        self._is_checked = False

    def find(self, question: OlderQuestion, of: ReadingPlan) -> Found:
        with self._connection.errors():
            client = self._connection.client()
            if not self._is_checked:
                _check_version(read_meta(client, self._names))
                self._is_checked = True
            return self._find(client, question, of)

    def _find(self, client: Any, question: OlderQuestion, of: ReadingPlan) -> Found:
        condition, parameters = _condition(question)
        for name, ranges in of.ranges.items():
            parameters[f"{name}_begins"] = [_seconds(begin) for begin, _ in ranges]
            parameters[f"{name}_ends"] = [_seconds(end) for _, end in ranges]
        firsts, settled, series = self._about(client, question, of, condition, parameters)
        rows = RowCollector(question)
        if series:
            numbers = {each: number for number, (each, _, _) in enumerate(series)}
            most = MAX_DIGESTS if question.wanted.with_points else MAX_ROWS
            statement = " UNION ALL ".join(
                self._rows(name, condition, question) for name in of.ranges
            )
            with client.query_arrow_stream(
                f"SELECT * FROM ({statement}) LIMIT {most + 1}", parameters
            ) as batches:
                for batch in batches:
                    rows.add(
                        batch["width"].to_numpy(zero_copy_only=False).astype(np.int64),
                        batch,
                        # Series that appeared after the first statement are left out.
                        series_numbers(batch["series"], lambda each, _: numbers.get(each, -1)),
                    )
        return rows.found(firsts, settled, [(kind, tags) for _, kind, tags in series])

    def _about(
        self,
        client: Any,
        question: OlderQuestion,
        of: ReadingPlan,
        condition: str,
        parameters: dict[str, Any],
    ) -> tuple[dict[str, int], dict[str, int], list[tuple[str, str, dict[str, str]]]]:
        """Return three things: the oldest slot of each level, the time up to which each level is
        completely archived, and the series (id, type, tags). Times are in ms.
        """
        whole = _METRIC if question.type is None else _METRIC + " AND type = {type:String}"
        firsts = ", ".join(
            f"(SELECT toUnixTimestamp(minOrNull(slot)) FROM {self._table(name)} WHERE {whole})"
            for name in WIDTHS
        )
        parts = " UNION ALL ".join(
            f"SELECT series, type, tags FROM {self._table(name)} "
            f"WHERE {condition}{_in_ranges(name)}"
            for name in of.ranges
        )
        series = "[]"
        if parts:
            series = (
                "(SELECT groupArray((id, type, tags)) FROM (SELECT toString(series) AS id, "
                f"any(type) AS type, any(tags) AS tags FROM ({parts}) GROUP BY series))"
            )
        statement = (
            f"SELECT {firsts}, (SELECT argMax(state, run) FROM {self._names.table('progress')} "
            f"WHERE {_METRIC} AND number = {{number:UInt8}}), {series}"
        )
        *times, state, found = client.query(statement, parameters).result_rows[0]
        levels = MetricState.from_dict(json.loads(state)).levels if state else {}
        return (
            {
                name: int(first) * 1000
                for name, first in zip(WIDTHS, times, strict=True)
                if first is not None
            },
            {name: level.settled_ms for name, level in levels.items()},
            [(each, kind, dict(tags)) for each, kind, tags in found],
        )

    def _rows(self, name: str, condition: str, question: OlderQuestion) -> str:
        columns = [f"{_TIMES.get(each, f'r.{each}')} AS {each}" for each in ("slot", *NUMBERS)]
        if question.wanted.with_points:
            columns.append("r.digest AS digest")
        return (
            f"SELECT {WIDTHS[name]} AS width, toString(r.series) AS series, {', '.join(columns)} "
            f"FROM {self._table(name)} AS r FINAL WHERE {condition}{_in_ranges(name, 'r.')}"
        )

    def _table(self, level: str) -> str:
        return self._names.table(f"{level}_rows")

    def close(self) -> None:
        self._connection.close()


def _condition(question: OlderQuestion) -> tuple[str, dict[str, Any]]:
    """Return which rows of a level *question* asks for, as SQL, and its parameters."""
    parameters: dict[str, Any] = {
        "namespace": question.namespace,
        "metric": question.name,
        "number": group_of(question.name),
    }
    parts = [_METRIC]
    if question.type is not None:
        parts.append("type = {type:String}")
        parameters["type"] = question.type
    for number, (key, value) in enumerate(question.wanted.tags.items()):
        parameters[f"key{number}"] = key
        if value is None:
            parts.append(f"NOT mapContains(tags, {{key{number}:String}})")
        else:
            parameters[f"value{number}"] = value
            parts.append(
                f"mapContains(tags, {{key{number}:String}}) "
                f"AND tags[{{key{number}:String}}] = {{value{number}:String}}"
            )
    return " AND ".join(parts), parameters


def _in_ranges(name: str, table: str = "") -> str:
    """Return the condition that a slot is in the ranges of a level."""
    begins, ends = f"{{{name}_begins:Array(UInt32)}}", f"{{{name}_ends:Array(UInt32)}}"
    slot = f"{table}slot"
    # The first two conditions use the primary key.
    return (
        f" AND {slot} >= toDateTime({begins}[1], 'UTC') AND {slot} < toDateTime({ends}[-1], 'UTC')"
        f" AND arrayExists((b, e) -> toUnixTimestamp({slot}) >= b AND toUnixTimestamp({slot}) < e,"
        f" {begins}, {ends})"
    )


def _seconds(ms: int) -> int:
    """Return a time in seconds, within the range of ClickHouse's DateTime."""
    return min(ms // 1000, _MAX_SECONDS)


def _check_version(stored: dict[str, str]) -> None:
    if not stored:
        raise ArchiveError(
            "the archive has no tables yet, or they have another database or prefix; "
            "start `redismetrics archive`"
        )
    if stored["version"] != str(VERSION):
        raise ArchiveError(
            f"the archive must have version {VERSION}, got {stored['version']}; "
            "run the newest version of redismetrics"
        )
