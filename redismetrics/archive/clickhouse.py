"""An archive in ClickHouse: tables and views in one database, see clickhouse_schema.py.

ClickHouse has no transactions. Each claim of a group gets a run, a number that is higher than those
before it, and everything that is written carries it. What an archiver writes after it has lost its
group is therefore ignored, however late it arrives: its successor has the higher run. An archiver
looks for a successor before each insert, and saves the progress of a metric after its rows. So
wherever it is killed, the next one writes the same rows again. tests/archive/clickhouse_model.py
checks all orders of these steps.
"""

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import numpy as np

from redismetrics.errors import MissingExtra
from redismetrics.model.time import DAY, HOUR

from .rows import RawRows, RollupRows
from .state import MetricState
from .target import ArchiveTaken

try:
    import pyarrow as pa

    from .arrow_tables import minute_table, rollup_table
    from .clickhouse_connection import Connection
    from .clickhouse_schema import TableNames, open_schema
except ImportError as _error:
    raise MissingExtra(
        "an archive in ClickHouse needs: pip install 'redismetrics[clickhouse]'"
    ) from _error

# Rows, and their bytes, that wait to be inserted: ClickHouse handles a few large inserts much
# better than many small ones. Progress is saved after as many rows.
_WAITING_ROWS, _WAITING_BYTES = 200_000, 32 << 20

# Series of one comparison, whose ids are part of its URL.
_SERIES_AT_ONCE = 1_000


class ClickHouseTarget:
    """The `Target` of a ``clickhouse://`` URL.

    Args:
        database: The database of its tables; None: that of the URL.
        prefix: Begins the name of each table and view.
    """

    def __init__(self, url: str, *, database: str | None = None, prefix: str = "rm_") -> None:
        self.connection = Connection(url, "redismetrics archive", 10, {})
        self.names = TableNames(database, prefix)
        with self.connection.errors():
            self.id = open_schema(self.connection.client(), self.names)

    @contextmanager
    def claim(self, namespace: str, group: int) -> Iterator["ClickHouseSession"]:
        with self.connection.errors():
            # Higher than all before, and different from that of a simultaneous claim.
            run = (self.run_of(namespace, group) >> 32) + 1 << 32 | secrets.randbits(32)
            self.connection.client().insert(
                self.names.table("groups"),
                [[namespace, group, run]],
                column_names=["namespace", "number", "run"],
            )
            session = ClickHouseSession(self, namespace, group, run)
        yield session

    def run_of(self, namespace: str, group: int) -> int:
        """Return the run that may write to a group; 0 if there was none."""
        found = self.connection.client().query(
            f"SELECT max(run) FROM {self.names.table('groups')} "
            "WHERE namespace = {namespace:String} AND number = {number:UInt8}",
            {"namespace": namespace, "number": group},
        )
        return int(found.result_rows[0][0])

    def totals(
        self, namespace: str, level: str, partition_ms: int, metric: str, series: Sequence[UUID]
    ) -> dict[tuple[UUID, int], tuple[int, float]]:
        count, added = "count", "sum"
        if level == "raw":
            count = "arraySum(count)"
            added = "arraySum(arrayMap((v, c) -> v * c, value, count))"
        length = {"hour": DAY, "day": 32 * DAY}.get(level, HOUR)
        found: dict[tuple[UUID, int], tuple[int, float]] = {}
        for begin in range(0, len(series), _SERIES_AT_ONCE):
            with self.connection.errors():
                result = self.connection.client().query(
                    f"SELECT series, toUnixTimestamp(r.slot), {count}, {added} "
                    f"FROM {self.names.table(f'{level}_rows')} AS r FINAL "
                    "WHERE namespace = {namespace:String} AND metric = {metric:String} "
                    "AND slot >= {since:UInt32} AND slot < {until:UInt32} "
                    "AND series IN {series:Array(UUID)}",
                    {
                        "namespace": namespace,
                        "metric": metric,
                        "since": partition_ms // 1000,
                        "until": (partition_ms + length) // 1000,
                        "series": list(series[begin : begin + _SERIES_AT_ONCE]),
                    },
                )
            for each, slot, samples, total in result.result_rows:
                # Minutes without samples had too many to be stored one by one.
                if samples:
                    found[each, slot * 1000] = samples, total
        return found

    def close(self) -> None:
        self.connection.close()


class ClickHouseSession:
    """The `Session` of a group. Rows are collected, so that inserts are large."""

    def __init__(self, target: ClickHouseTarget, namespace: str, group: int, run: int) -> None:
        self._target, self._names = target, target.names
        self._namespace, self._group, self._run = namespace, group, run
        self._waiting: dict[str, list[Any]] = {}
        self._rows = self._bytes = self._rows_since_save = 0
        self._unsaved: set[str] = set()
        self._states = self._read_states()

    def _read_states(self) -> dict[str, MetricState]:
        found = self._target.connection.client().query(
            f"SELECT metric, state FROM {self._names.table('progress')} FINAL "
            "WHERE namespace = {namespace:String} AND number = {number:UInt8}",
            {"namespace": self._namespace, "number": self._group},
        )
        return {
            metric: MetricState.from_dict(json.loads(state)) for metric, state in found.result_rows
        }

    def state(self, metric: str) -> MetricState:
        return self._states.get(metric) or MetricState()

    def write(self, level: str, partition_ms: int, rows: RollupRows | RawRows) -> None:
        table = minute_table(rows) if isinstance(rows, RawRows) else rollup_table(rows)
        self._waiting.setdefault(f"{level}_rows", []).append(table)
        self._rows += len(table)
        self._rows_since_save += len(table)
        self._bytes += table.nbytes
        if self._rows >= _WAITING_ROWS or self._bytes >= _WAITING_BYTES:
            self._insert_rows()

    def save(self, metric: str, state: MetricState) -> None:
        self._states[metric] = state
        self._unsaved.add(metric)
        if self._rows_since_save >= _WAITING_ROWS:
            self.finish()

    def finish(self) -> None:
        self._insert_rows()
        self._rows_since_save = 0
        if not self._unsaved:
            return
        with self._target.connection.errors():
            self._check()
            self._target.connection.client().insert(
                self._names.table("progress"),
                [
                    [
                        self._namespace,
                        self._group,
                        metric,
                        json.dumps(self._states[metric].to_dict()),
                        self._run,
                    ]
                    for metric in sorted(self._unsaved)
                ],
                column_names=["namespace", "number", "metric", "state", "run"],
            )
        self._unsaved.clear()

    def _insert_rows(self) -> None:
        waiting, self._waiting = self._waiting, {}
        self._rows = self._bytes = 0
        with self._target.connection.errors():
            for name, tables in waiting.items():
                self._check()
                table = pa.concat_tables(tables)
                run = pa.array(np.full(len(table), self._run, np.uint64))
                self._target.connection.client().insert_arrow(
                    self._names.table(name), table.append_column("run", run)
                )

    def _check(self) -> None:
        """Raise `ArchiveTaken` if another archiver has the group, so that our rows do not count."""
        if self._target.run_of(self._namespace, self._group) != self._run:
            raise ArchiveTaken(f"another archiver has taken over group {self._group}")
