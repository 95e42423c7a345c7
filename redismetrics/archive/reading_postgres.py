"""Read an archive in PostgreSQL: one statement for each question, its columns as binary arrays."""

import json
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np

from redismetrics.columnar.summaries import Deferred
from redismetrics.errors import MissingExtra
from redismetrics.model.safe_url import safe_url
from redismetrics.queries.older import OlderQuestion

from .reading import MAX_DIGEST_BYTES, MAX_DIGESTS, MAX_ROWS, Found, RowColumns, too_many
from .reading_plan import WIDTHS, ReadingPlan
from .rows import storable_text
from .target import ArchiveError

try:
    import psycopg
    from psycopg import sql
    from psycopg.types.json import Jsonb

    from .postgres_connection import connect
    from .postgres_schema import VERSION, Names, read_meta
except ImportError as _error:
    raise MissingExtra(
        "an archive in PostgreSQL needs: pip install 'redismetrics[archive]'"
    ) from _error

# How many connections to keep open between questions.
_MAX_IDLE = 4

# A question may take a minute. JIT compilation would take longer than most questions do.
_OPTIONS = "-c statement_timeout=60000 -c jit=off -c default_transaction_read_only=on"

# PostgreSQL counts microseconds from 2000-01-01.
_EPOCH_US = 946_684_800_000_000

# An element of an array of numbers: its length, which is 8, and the number.
_WHOLE = np.dtype([("length", ">i4"), ("value", ">i8")])
_REAL = np.dtype([("length", ">i4"), ("value", ">f8")])
# Number of dimensions, whether there are NULLs, type; length and lower bound of the one dimension.
_ARRAY_HEAD = 20

# How the arrays of the rows that were found are read: those that say what a row is about, and the
# columns of summaries, with their names in the tables.
_ABOUT = {"width": _WHOLE, "number": _WHOLE, "slot": _WHOLE}
_SUMMARIES = {
    "count": ("count", _WHOLE),
    "total": ("sum", _REAL),
    "m2": ("m2", _REAL),
    "low": ("min", _REAL),
    "high": ("max", _REAL),
    "last": ("last", _REAL),
    "last_ms": ("last_time", _WHOLE),
}

# All series of the metric, then those that are asked for, then their rows in the ranges. One series
# and one range after the other, so that each is found by the primary key.
_STATEMENT = """
WITH s AS MATERIALIZED (
    SELECT id, type, tags FROM {series}
    WHERE namespace = %(namespace)s AND metric = %(name)s
        AND (%(type)s::text IS NULL OR type = %(type)s)
), chosen AS MATERIALIZED (
    SELECT id, type, tags, row_number() OVER (ORDER BY id) - 1 AS number FROM s
    WHERE tags @> %(having)s AND NOT tags ?| %(lacking)s::text[]
)
SELECT
    jsonb_build_object(
        'series', (SELECT jsonb_agg(jsonb_build_array(type, tags) ORDER BY number) FROM chosen),
        'firsts', jsonb_build_object({firsts}),
        'settled', (
            SELECT jsonb_object_agg(key, value -> 'settled')
            FROM {progress}, jsonb_each(state -> 'levels')
            WHERE namespace = %(namespace)s AND metric = %(name)s
        )
    )::text,
    {columns},
    {digests}
FROM (SELECT * FROM ({rows}) x LIMIT %(most)s + 1) r
HAVING count(*) <= %(most)s
    AND coalesce(sum(octet_length(digest)), 0) <= %(most_bytes)s
"""
_FIRST = """
{name}, (
    SELECT extract(epoch FROM min(x.slot)) FROM s CROSS JOIN LATERAL (
        SELECT slot FROM {rows} WHERE series = s.id ORDER BY slot LIMIT 1
    ) x
)"""
_ROWS = """
SELECT {width}::bigint AS width, c.number, d.*
FROM chosen c
CROSS JOIN unnest({begins}::timestamptz[], {ends}::timestamptz[]) w(since, until)
CROSS JOIN LATERAL (
    SELECT {columns}, {digest} AS digest FROM {rows}
    WHERE series = c.id AND slot >= w.since AND slot < w.until OFFSET 0
) d"""


class PostgresFinder:
    """The `ArchiveFinder` of a ``postgresql://`` URL. Several threads may ask at a time."""

    def __init__(self, url: str, schema: str | None, prefix: str, timeout: float) -> None:
        self._url, self._timeout = url, timeout
        self._names = Names(schema, prefix)
        # Connections with the process that made them, because a forked child must not use them.
        self._idle: list[tuple[int, psycopg.Connection[Any]]] = []
        self._statements: dict[tuple[tuple[str, ...], bool], bytes] = {}

    def find(self, question: OlderQuestion, of: ReadingPlan) -> Found:
        tags = question.wanted.tags
        parameters: dict[str, Any] = {
            "namespace": question.namespace,
            "name": question.name,
            "type": question.type,
            "having": Jsonb(
                {key: storable_text(value) for key, value in tags.items() if value is not None}
            ),
            "lacking": [key for key, value in tags.items() if value is None],
            "most": MAX_DIGESTS if question.wanted.with_points else MAX_ROWS,
            "most_bytes": MAX_DIGEST_BYTES,
        }
        for name in WIDTHS:
            ranges = of.ranges.get(name, [])
            parameters[f"{name}_begins"] = [_time(begin) for begin, _ in ranges]
            parameters[f"{name}_ends"] = [_time(end) for _, end in ranges]
        wanted = question.wanted
        columns = tuple(name for name in _SUMMARIES if name in wanted.columns)
        statement = self._statement(columns, with_points=wanted.with_points)
        with self._connection() as connection, connection.cursor(binary=True) as cursor:
            # Preparing would take another round trip; planning takes only a few milliseconds.
            cursor.execute(statement, parameters, prepare=False)
            found = cursor.pgresult
        assert found is not None, "BUG: no result of a SELECT"
        if not found.ntuples:
            raise too_many(question.name)
        return _found(found, columns)

    def _statement(self, columns: tuple[str, ...], *, with_points: bool) -> bytes:
        key = columns, with_points
        if key not in self._statements:
            self._statements[key] = self._make_statement(columns, with_points=with_points)
        return self._statements[key]

    def _make_statement(self, columns: tuple[str, ...], *, with_points: bool) -> bytes:
        names = [_SUMMARIES[name][0] for name in columns]
        firsts, parts = [], []
        for name, width in WIDTHS.items():
            rows = self._names.table(f"{name}_rows")
            firsts.append(sql.SQL(_FIRST).format(name=sql.Literal(name), rows=rows))
            parts.append(
                sql.SQL(_ROWS).format(
                    width=sql.Literal(width),
                    rows=rows,
                    columns=sql.SQL(", ").join(map(sql.Identifier, ("slot", *names))),
                    digest=sql.SQL("digest" if with_points else "NULL::bytea"),
                    begins=sql.Placeholder(f"{name}_begins"),
                    ends=sql.Placeholder(f"{name}_ends"),
                )
            )
        arrays = [
            sql.SQL("array_agg({})").format(sql.Identifier(name)) for name in (*_ABOUT, *names)
        ]
        digests = "array_agg(octet_length(digest)::bigint), string_agg(digest, ''::bytea)"
        statement: bytes = (
            sql.SQL(_STATEMENT)
            .format(
                series=self._names.table("series"),
                progress=self._names.table("progress"),
                firsts=sql.SQL(", ").join(firsts),
                columns=sql.SQL(", ").join(arrays),
                digests=sql.SQL(digests if with_points else "NULL, NULL"),
                rows=sql.SQL(" UNION ALL ").join(parts),
            )
            .as_bytes(None)
        )
        return statement

    @contextmanager
    def _connection(self) -> Iterator["psycopg.Connection[Any]"]:
        """Yield a connection for exclusive use; keep it if no error occurs."""
        try:
            connection = self._take() or self._connect()
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
        except psycopg.Error as error:
            text = " ".join(str(error).split())
            raise ArchiveError(f"the archive {safe_url(self._url)} failed: {text}") from error
        if len(self._idle) < _MAX_IDLE:
            self._idle.append((os.getpid(), connection))
        else:
            connection.close()

    def _take(self) -> "psycopg.Connection[Any] | None":
        """Return an idle connection that is still open."""
        while self._idle:
            try:
                process, connection = self._idle.pop()
            except IndexError:
                # Another thread took the last one.
                return None
            if process == os.getpid() and _is_alive(connection):
                return connection
        return None

    def _connect(self) -> "psycopg.Connection[Any]":
        connection = connect(self._url, "redismetrics queries", self._timeout, _OPTIONS)
        try:
            with connection.cursor() as cursor:
                _check_version(read_meta(cursor, self._names))
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        while self._idle:
            process, connection = self._idle.pop()
            if process == os.getpid():
                connection.close()


def _check_version(stored: dict[str, str]) -> None:
    if not stored:
        raise ArchiveError(
            "the archive has no tables yet, or they have another schema or prefix; "
            "start `redismetrics archive`"
        )
    if stored["version"] != str(VERSION):
        raise ArchiveError(
            f"the archive must have version {VERSION}, got {stored['version']}; "
            "run the newest version of redismetrics"
        )


def _is_alive(connection: "psycopg.Connection[Any]") -> bool:
    """Return whether an idle connection is still open, without a round trip."""
    if connection.closed:
        return False
    # On an idle connection, the server sends nothing unless it closes it.
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    if waiting.poll(0):
        connection.close()
        return False
    return True


def _found(result: Any, columns: tuple[str, ...]) -> Found:
    described = json.loads(result.get_value(0, 0))
    kinds = [*_ABOUT.values(), *(_SUMMARIES[name][1] for name in columns)]
    width, number, slot, *found = (
        _numbers(result.get_value(0, at), kind) for at, kind in enumerate(kinds, 1)
    )
    after = 1 + len(kinds)
    firsts = {
        name: round(float(first) * 1000)
        for name, first in described["firsts"].items()
        if first is not None
    }
    summaries = dict(zip(columns, found, strict=True))
    if "last_ms" in summaries:
        summaries["last_ms"] = _ms(summaries["last_ms"])
    rows = RowColumns(
        width,
        number,
        _ms(slot),
        # Columns that were not asked for are missing.
        Deferred(len(slot), summaries.__getitem__),
        _numbers(result.get_value(0, after), _WHOLE),
        bytes(result.get_value(0, after + 1) or b""),
    )
    series = [(kind, tags) for kind, tags in described["series"] or ()]
    return Found(firsts, described["settled"] or {}, series, rows)


def _numbers(data: Any, kind: Any) -> Any:
    """Return an array of numbers, which has no NULL; nothing for no array."""
    native = kind["value"].newbyteorder("=")
    if data is None:
        return np.zeros(0, native)
    return np.frombuffer(data, kind, offset=_ARRAY_HEAD)["value"].astype(native)


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _ms(times: Any) -> Any:
    return (times + _EPOCH_US) // 1000
