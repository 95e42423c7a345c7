"""An archive in PostgreSQL: tables and views in one schema, see postgres_schema.py."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from redismetrics.errors import MissingExtra
from redismetrics.model.safe_url import safe_url
from redismetrics.model.time import DAY, HOUR

from .rows import RawRows, RollupRows, SeriesOf, storable_text
from .state import MetricState
from .target import ArchiveError, ArchiveTaken

try:
    import psycopg
    from psycopg import sql
    from psycopg.types.json import Jsonb

    from .postgres_connection import connect
    from .postgres_schema import Names, open_schema
except ImportError as _error:
    raise MissingExtra(
        "an archive in PostgreSQL needs: pip install 'redismetrics[archive]'"
    ) from _error

# Rows per statement: a few megabytes, with digests.
_ROWS_AT_ONCE = 10_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_COLUMNS = {
    "series": "uuid",
    "slot": "timestamptz",
    "count": "int8",
    "sum": "float8",
    "min": "float8",
    "max": "float8",
    "last": "float8",
    "last_time": "timestamptz",
    "m2": "float8",
    "p50": "float8",
    "p95": "float8",
    "p99": "float8",
    "digest": "bytea",
}
_RAW_COLUMNS = {
    "series": "uuid",
    "slot": "timestamptz",
    "number": "int8",
    "time": "timestamptz",
    "value": "float8",
    "count": "int8",
    "metadata": "text",
}


def _time(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)


def _ms(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(milliseconds=1)


class PostgresTarget:
    """The `Target` of a ``postgresql://`` URL. Reconnects after an error.

    Args:
        schema: The schema of its tables; None: the first of the connection's search path.
        prefix: Begins the name of each table and view.
    """

    def __init__(self, url: str, *, schema: str | None = None, prefix: str = "rm_") -> None:
        self._url = url
        self.names = Names(schema, prefix)
        self._connection: psycopg.Connection[Any] | None = None
        try:
            with self.transaction() as cursor:
                self.id = open_schema(cursor, self.names)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator["psycopg.Cursor[Any]"]:
        """Yield a cursor for one transaction."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = connect(self._url, "redismetrics archive", timeout=10)
            with self._connection.transaction(), self._connection.cursor() as cursor:
                yield cursor
        except psycopg.Error as error:
            if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
                self.close()
            text = " ".join(str(error).split())
            raise ArchiveError(f"the archive {safe_url(self._url)} failed: {text}") from error

    @contextmanager
    def claim(self, namespace: str, group: int) -> Iterator["PostgresSession"]:
        with self.transaction() as cursor:
            cursor.execute(
                self.names.filled(
                    "INSERT INTO {} AS old VALUES (%s, %s, 1) ON CONFLICT (namespace, number) "
                    "DO UPDATE SET run = old.run + 1 RETURNING run",
                    "groups",
                ),
                (namespace, group),
            )
            (run,) = cursor.fetchone() or (0,)
        yield PostgresSession(self, namespace, group, run)

    def totals(
        self, namespace: str, level: str, partition_ms: int, metric: str, series: Sequence[UUID]
    ) -> dict[tuple[UUID, int], tuple[int, float]]:
        added = "sum(r.value * r.count)" if level == "raw" else "sum(r.sum)"
        length = {"hour": DAY, "day": 32 * DAY}.get(level, HOUR)
        with self.transaction() as cursor:
            cursor.execute(
                self.names.filled(
                    f"SELECT r.series, r.slot, sum(r.count)::int8, {added} FROM {{}} r "
                    "WHERE r.series = ANY(%s) AND r.slot >= %s AND r.slot < %s GROUP BY 1, 2",
                    f"{level}_rows",
                ),
                (list(series), _time(partition_ms), _time(partition_ms + length)),
            )
            return {(row[0], _ms(row[1])): (row[2], row[3]) for row in cursor}

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class PostgresSession:
    """The `Session` of a group. Each transaction checks that no other archiver has taken over."""

    def __init__(self, target: PostgresTarget, namespace: str, group: int, run: int) -> None:
        self._target, self._names = target, target.names
        self._namespace, self._group, self._run = namespace, group, run
        self._known: set[UUID] = set()

    @contextmanager
    def _checked(self) -> Iterator["psycopg.Cursor[Any]"]:
        with self._target.transaction() as cursor:
            cursor.execute(
                self._names.filled(
                    "SELECT run FROM {} WHERE namespace = %s AND number = %s FOR UPDATE", "groups"
                ),
                (self._namespace, self._group),
            )
            if cursor.fetchone() != (self._run,):
                raise ArchiveTaken(f"another archiver has taken over group {self._group}")
            yield cursor

    def state(self, metric: str) -> MetricState:
        with self._checked() as cursor:
            cursor.execute(
                self._names.filled(
                    "SELECT state FROM {} WHERE namespace = %s AND metric = %s", "progress"
                ),
                (self._namespace, metric),
            )
            found = cursor.fetchone()
        return MetricState() if found is None else MetricState.from_dict(found[0])

    def save(self, metric: str, state: MetricState) -> None:
        with self._checked() as cursor:
            cursor.execute(
                self._names.filled(
                    "INSERT INTO {} VALUES (%s, %s, %s, now()) ON CONFLICT (namespace, metric) "
                    "DO UPDATE SET state = excluded.state, updated = excluded.updated",
                    "progress",
                ),
                (self._namespace, metric, Jsonb(state.to_dict())),
            )

    def finish(self) -> None:
        """Do nothing: each call is a transaction."""

    def write(self, level: str, partition_ms: int, rows: RollupRows | RawRows) -> None:
        with self._checked() as cursor:
            new = self._write_series(cursor, rows.of, rows)
            if isinstance(rows, RawRows):
                self._delete_raw(cursor, rows)
                statement = self._upsert("raw_rows", _RAW_COLUMNS, ["series", "slot", "number"])
                values = _raw_values(rows)
            else:
                statement = self._upsert(f"{level}_rows", _COLUMNS, ["series", "slot"])
                values = _rollup_values(rows)
            for begin in range(0, len(rows), _ROWS_AT_ONCE):
                part = slice(begin, begin + _ROWS_AT_ONCE)
                cursor.execute(statement, [value[part] for value in values], binary=True)
        # Only now, because the transaction might have been rolled back.
        self._known |= new

    def _upsert(self, table: str, columns: dict[str, str], keys: list[str]) -> Any:
        quoted = {name: sql.Identifier(name) for name in columns}
        return sql.SQL(
            "INSERT INTO {} ({}) SELECT * FROM unnest({}) ON CONFLICT ({}) DO UPDATE SET {}"
        ).format(
            self._names.table(table),
            sql.SQL(", ").join(quoted.values()),
            sql.SQL(", ").join(sql.SQL(f"%s::{kind}[]") for kind in columns.values()),
            sql.SQL(", ").join(quoted[name] for name in keys),
            sql.SQL(", ").join(
                sql.SQL("{0} = excluded.{0}").format(each)
                for name, each in quoted.items()
                if name not in keys
            ),
        )

    def _write_series(
        self, cursor: "psycopg.Cursor[Any]", of: SeriesOf, rows: RollupRows | RawRows
    ) -> set[UUID]:
        """Add the series of *rows* that are new to this session; return their ids."""
        used = sorted({*rows.series.tolist()})
        new = [position for position in used if of.ids[position] not in self._known]
        for begin in range(0, len(new), _ROWS_AT_ONCE):
            part = new[begin : begin + _ROWS_AT_ONCE]
            tags = [
                Jsonb({key: storable_text(value) for key, value in of.tags[each].items()})
                for each in part
            ]
            cursor.execute(
                self._names.filled(
                    "INSERT INTO {} (id, namespace, metric, type, tags) "
                    "SELECT id, %s, %s, %s, tags "
                    "FROM unnest(%s::uuid[], %s::jsonb[]) AS n(id, tags) "
                    "ON CONFLICT DO NOTHING",
                    "series",
                ),
                (of.namespace, of.metric, of.type, [of.ids[each] for each in part], tags),
            )
        return {of.ids[position] for position in new}

    def _delete_raw(self, cursor: "psycopg.Cursor[Any]", rows: RawRows) -> None:
        """Delete the samples of the series and minutes that *rows* replace."""
        series, slot = rows.replaced
        for begin in range(0, len(series), _ROWS_AT_ONCE):
            part = slice(begin, begin + _ROWS_AT_ONCE)
            cursor.execute(
                self._names.filled(
                    "DELETE FROM {} r "
                    "USING unnest(%s::uuid[], %s::timestamptz[]) AS n(series, slot) "
                    "WHERE r.series = n.series AND r.slot = n.slot",
                    "raw_rows",
                ),
                (
                    [rows.of.ids[each] for each in series[part].tolist()],
                    [_time(each) for each in slot[part].tolist()],
                ),
            )


def _rollup_values(rows: RollupRows) -> list[list[Any]]:
    """Return the values of each of `_COLUMNS`."""
    columns = rows.summaries
    return [
        [rows.of.ids[each] for each in rows.series.tolist()],
        [_time(each) for each in rows.slot.tolist()],
        columns.count.tolist(),
        columns.total.tolist(),
        columns.low.tolist(),
        columns.high.tolist(),
        columns.last.tolist(),
        [_time(each) for each in columns.last_ms.tolist()],
        columns.m2.tolist(),
        *rows.percentiles.T.tolist(),
        rows.digests,
    ]


def _raw_values(rows: RawRows) -> list[list[Any]]:
    """Return the values of each of `_RAW_COLUMNS`."""
    metadata = rows.metadata
    return [
        [rows.of.ids[each] for each in rows.series.tolist()],
        [_time(each) for each in rows.slot.tolist()],
        rows.number.tolist(),
        [_time(each) for each in rows.time.tolist()],
        rows.value.tolist(),
        rows.weight.tolist(),
        [
            storable_text(metadata[row].decode("utf-8", "replace")) if row in metadata else None
            for row in range(len(rows))
        ],
    ]
