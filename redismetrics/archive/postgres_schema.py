"""The tables of an archive in PostgreSQL, and their versions.

    <prefix>meta      version of the tables, and the archive's own id
    <prefix>series    namespace, metric, type and tags of each series
    <prefix>hour_rows, day_rows, minute_rows
                      one row for each series and slot
    <prefix>raw_rows  one row for each sample
    <prefix>hour, day, minute, raw
                      views: these rows with metric, type and tags, for people
    <prefix>groups    number of the archiver that may write to a group of metrics
    <prefix>progress  what is archived of each metric, see state.py

Raise `VERSION` when a table changes, and add what changes it to `_MIGRATIONS`.
"""

import secrets
from typing import TYPE_CHECKING, Any

from psycopg import sql

from .target import ArchiveError

if TYPE_CHECKING:
    import psycopg

VERSION = 1

_ROLLUP = """
CREATE TABLE {rows} (
    series uuid NOT NULL REFERENCES {series} (id),
    slot timestamptz NOT NULL,
    count bigint NOT NULL,
    sum double precision NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL,
    last double precision NOT NULL,
    last_time timestamptz NOT NULL,
    m2 double precision NOT NULL,
    p50 double precision NOT NULL,
    p95 double precision NOT NULL,
    p99 double precision NOT NULL,
    digest bytea NOT NULL,
    PRIMARY KEY (series, slot)
);
CREATE INDEX ON {rows} (slot);
CREATE VIEW {view} AS
SELECT s.namespace, s.metric, s.type, s.tags, r.slot, r.count, r.sum, r.min, r.max, r.last,
    r.last_time, r.sum / r.count AS mean, sqrt(r.m2 / r.count) AS stddev, r.m2, r.p50, r.p95,
    r.p99, r.digest
FROM {rows} r JOIN {series} s ON s.id = r.series
"""

_TABLES = """
CREATE TABLE {series} (
    id uuid PRIMARY KEY,
    namespace text NOT NULL,
    metric text NOT NULL,
    type text NOT NULL,
    tags jsonb NOT NULL
);
CREATE INDEX ON {series} (metric, namespace);
CREATE TABLE {raw_rows} (
    series uuid NOT NULL REFERENCES {series} (id),
    slot timestamptz NOT NULL,
    number bigint NOT NULL,
    time timestamptz NOT NULL,
    value double precision NOT NULL,
    count bigint NOT NULL,
    metadata text,
    PRIMARY KEY (series, slot, number)
);
CREATE INDEX ON {raw_rows} (time);
CREATE VIEW {raw} AS
SELECT s.namespace, s.metric, s.type, s.tags, r.time, r.value, r.count, r.metadata
FROM {raw_rows} r JOIN {series} s ON s.id = r.series;
CREATE TABLE {groups} (
    namespace text NOT NULL,
    number integer NOT NULL,
    run bigint NOT NULL,
    PRIMARY KEY (namespace, number)
);
CREATE TABLE {progress} (
    namespace text NOT NULL,
    metric text NOT NULL,
    state jsonb NOT NULL,
    updated timestamptz NOT NULL,
    PRIMARY KEY (namespace, metric)
)
"""

# Statements that bring the tables from each version to the next.
_MIGRATIONS: dict[int, str] = {}


class Names:
    """The names of the archive's tables and views, as SQL."""

    def __init__(self, schema: str | None, prefix: str) -> None:
        self.schema, self.prefix = schema, prefix

    def table(self, name: str) -> sql.Identifier:
        """Return the name of a table or view."""
        full = self.prefix + name
        return sql.Identifier(full) if self.schema is None else sql.Identifier(self.schema, full)

    def filled(self, text: Any, *names: str) -> sql.Composed:
        """Return *text* with the *names* of tables in place of ``{}``."""
        return sql.SQL(text).format(*map(self.table, names))

    def named(self, text: Any, **names: str) -> sql.Composed:
        """Return *text* with tables in place of ``{key}``."""
        return sql.SQL(text).format(**{key: self.table(name) for key, name in names.items()})


def open_schema(cursor: "psycopg.Cursor[Any]", names: Names) -> str:
    """Create the tables if there are none, bring old ones up to date; return the archive's id.

    Raises:
        ArchiveError: If the tables are of a newer version.
    """
    stored = read_meta(cursor, names)
    if stored.get("version") == str(VERSION):
        return stored["id"]
    # Only one process creates or changes tables. The lock ends with the transaction.
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext('redismetrics archive'))")
    stored = read_meta(cursor, names)
    if not stored:
        return _create(cursor, names)
    version = int(stored["version"])
    if version > VERSION:
        raise ArchiveError(
            f"the archive must have version {VERSION} or lower, got {version}; "
            "run the newest version of redismetrics"
        )
    for each in range(version, VERSION):
        cursor.execute(names.filled(_MIGRATIONS[each]))
    cursor.execute(
        names.filled("UPDATE {} SET value = %s WHERE name = 'version'", "meta"), (str(VERSION),)
    )
    return stored["id"]


def read_meta(cursor: "psycopg.Cursor[Any]", names: Names) -> dict[str, str]:
    """Return version and id of the archive; nothing if there are no tables."""
    cursor.execute("SELECT to_regclass(%s)", (names.table("meta").as_string(cursor),))
    if cursor.fetchone() == (None,):
        return {}
    cursor.execute(names.filled("SELECT name, value FROM {}", "meta"))
    return dict(cursor.fetchall())


def _create(cursor: "psycopg.Cursor[Any]", names: Names) -> str:
    if names.schema is not None:
        cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (names.schema,))
        if cursor.fetchone() is None:
            cursor.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(names.schema)))
    tables = ("series", "raw_rows", "raw", "groups", "progress")
    cursor.execute(names.named(_TABLES, **{name: name for name in tables}))
    for level in ("minute", "hour", "day"):
        cursor.execute(names.named(_ROLLUP, rows=f"{level}_rows", view=level, series="series"))
    cursor.execute(
        names.filled("CREATE TABLE {} (name text PRIMARY KEY, value text NOT NULL)", "meta")
    )
    own_id = secrets.token_hex(8)
    cursor.execute(
        names.filled("INSERT INTO {} VALUES ('version', %s), ('id', %s)", "meta"),
        (str(VERSION), own_id),
    )
    return own_id
