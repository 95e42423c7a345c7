"""The tables of an archive in ClickHouse, and their versions.

    <prefix>meta      version of the tables, and the archive's own id
    <prefix>hour_rows, day_rows, minute_rows
                      rows of each series and slot
    <prefix>raw_rows  rows of each series and minute, with all samples of the minute
    <prefix>hour, day, minute, raw
                      views for people: one row for each series and slot, or for each sample
    <prefix>groups    number of the run that may write to a group of metrics
    <prefix>progress  what is archived of each metric, see state.py

ClickHouse has no transactions and replaces no rows. Each row carries the number of the run that
wrote it. Of rows with the same key, only the one with the highest run counts: reading with FINAL
returns no other, and merges remove the others eventually.
"""

import secrets
from typing import Any

from .clickhouse_connection import quoted
from .target import ArchiveError

VERSION = 1

_OF_SERIES = """
    namespace LowCardinality(String),
    metric LowCardinality(String),
    type LowCardinality(String),
    tags Map(LowCardinality(String), String),
    series UUID,
    slot DateTime('UTC')"""

# Ordered by series, so that its tags, which are the same in all rows, take hardly any space.
_REPLACING = """
ENGINE = ReplacingMergeTree(run)
PARTITION BY toYYYYMM(slot)
ORDER BY (namespace, metric, series, slot)"""

_ROLLUP = f"""
CREATE TABLE IF NOT EXISTS {{rows}} ({_OF_SERIES},
    count Int64,
    sum Float64,
    min Float64,
    max Float64,
    last Float64,
    last_time DateTime64(3, 'UTC'),
    m2 Float64,
    p50 Float64,
    p95 Float64,
    p99 Float64,
    digest String CODEC(ZSTD(1)),
    run UInt64
) {_REPLACING}"""

_ROLLUP_VIEW = """
CREATE VIEW IF NOT EXISTS {view} AS
SELECT namespace, metric, type, tags, slot, count, sum, min, max, last, last_time,
    sum / count AS mean, sqrt(m2 / count) AS stddev, m2, p50, p95, p99, digest
FROM {rows} FINAL"""

_RAW = f"""
CREATE TABLE IF NOT EXISTS {{rows}} ({_OF_SERIES},
    time Array(DateTime64(3, 'UTC')),
    value Array(Float64),
    count Array(Int64),
    metadata Array(Nullable(String)),
    run UInt64
) {_REPLACING}"""

_RAW_VIEW = """
CREATE VIEW IF NOT EXISTS {view} AS
SELECT namespace, metric, type, tags, time, value, count, metadata
FROM {rows} FINAL ARRAY JOIN time, value, count, metadata"""

_GROUPS = """
CREATE TABLE IF NOT EXISTS {groups} (namespace String, number UInt8, run UInt64)
ENGINE = ReplacingMergeTree(run)
ORDER BY (namespace, number)"""

_PROGRESS = """
CREATE TABLE IF NOT EXISTS {progress} (
    namespace String,
    number UInt8,
    metric String,
    state String,
    updated DateTime('UTC') DEFAULT now(),
    run UInt64
) ENGINE = ReplacingMergeTree(run)
ORDER BY (namespace, number, metric)"""

_META = """
CREATE TABLE IF NOT EXISTS {meta} (name String, value String)
ENGINE = MergeTree
ORDER BY name"""


class TableNames:
    """The names of the archive's tables and views, as SQL."""

    def __init__(self, database: str | None, prefix: str) -> None:
        self.database, self.prefix = database, prefix

    def table(self, name: str) -> str:
        """Return the name of a table or view."""
        full = quoted(self.prefix + name)
        return full if self.database is None else f"{quoted(self.database)}.{full}"


def open_schema(client: Any, names: TableNames) -> str:
    """Create the tables if there are none; return the archive's id.

    Several processes may do so at the same time.

    Raises:
        ArchiveError: If the tables are of a newer version.
    """
    stored = read_meta(client, names)
    if not stored:
        _create(client, names)
        stored = read_meta(client, names)
    version = int(stored["version"])
    if version > VERSION:
        raise ArchiveError(
            f"the archive must have version {VERSION} or lower, got {version}; "
            "run the newest version of redismetrics"
        )
    return stored["id"]


def read_meta(client: Any, names: TableNames) -> dict[str, str]:
    """Return version and id of the archive; nothing if there are no tables."""
    if not client.command(f"EXISTS TABLE {names.table('meta')}"):
        return {}
    # If two processes created the tables at the same time, there are two ids.
    found = client.query(f"SELECT name, min(value) FROM {names.table('meta')} GROUP BY name")
    return dict(found.result_rows)


def _create(client: Any, names: TableNames) -> None:
    if names.database is not None:
        client.command(f"CREATE DATABASE IF NOT EXISTS {quoted(names.database)}")
    for level in ("minute", "hour", "day"):
        rows, view = names.table(f"{level}_rows"), names.table(level)
        client.command(_ROLLUP.format(rows=rows))
        client.command(_ROLLUP_VIEW.format(rows=rows, view=view))
    rows, view = names.table("raw_rows"), names.table("raw")
    client.command(_RAW.format(rows=rows))
    client.command(_RAW_VIEW.format(rows=rows, view=view))
    client.command(_GROUPS.format(groups=names.table("groups")))
    client.command(_PROGRESS.format(progress=names.table("progress")))
    # Last, because its content means that all other tables exist.
    client.command(_META.format(meta=names.table("meta")))
    client.insert(
        names.table("meta"),
        [["version", str(VERSION)], ["id", secrets.token_hex(8)]],
        column_names=["name", "value"],
    )
