"""Archivers that are killed, that meet each other, and archives that go away."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from redismetrics import Metrics
from redismetrics.archive.archiver import Archiver
from redismetrics.archive.parquet import ParquetTarget
from redismetrics.archive.postgres import PostgresTarget
from redismetrics.archive.rows import RawRows, series_of
from redismetrics.archive.service import ArchiveService
from redismetrics.archive.state import MetricState, group_of
from redismetrics.archive.target import ArchiveError, ArchiveTaken, open_target
from redismetrics.settings import resolve
from redismetrics.store import keys, lease
from redismetrics.store.connection import Store
from redismetrics.store.driver import run
from tests.archive.conftest import Postgres
from tests.archive.tools import HOUR, Recording, Seal, archive, check, compared, rows
from tests.fixtures.servers import Server

# Runs one pass, and kills itself at the given call of a step.
_KILLED = """
import os, signal, sys
from redismetrics.archive import {module} as module
url, namespace, to, step, number = sys.argv[1:]
left = [int(number)]
owner = module.{session} if hasattr(module.{session}, step) else module
whole = getattr(owner, step)
def killed(*args, **options):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*args, **options)
setattr(owner, step, killed)
from tests.archive.tools import archive
archive(url, namespace, to, "minute", "hour", "day")
"""


# The module and the session of each kind of archive, and what ends in the middle of its work.
SESSIONS = {
    "postgresql": ("postgres", "PostgresSession"),
    "clickhouse": ("clickhouse", "ClickHouseSession"),
    "file": ("parquet", "ParquetSession"),
}
INSIDE = {"postgresql": "_upsert", "clickhouse": "_insert_rows", "file": "write_file"}


def killed_pass(url: str, namespace: str, to: str, step: str, number: int) -> int:
    module, session = SESSIONS[to.partition(":")[0]]
    code = _KILLED.format(module=module, session=session)
    done = subprocess.run(
        [sys.executable, "-c", code, url, namespace, to, step, str(number)],
        cwd=Path(__file__).parents[2],
        check=False,
        timeout=60,
    )
    return done.returncode


@pytest.mark.slow
def test_an_archiver_that_is_killed_at_any_step_goes_on(
    metrics: Metrics, url: str, namespace: str, to: str, seal: Seal, admin: redis.Redis
) -> None:
    recording, now = Recording(metrics, 5), time.time()
    # In the middle of a transaction; between the rows and what says that they are there.
    inside = INSIDE[to.partition(":")[0]]
    steps = [("write", 2), (inside, 0), ("save", 0), ("save", 1), ("finish", 1)]
    for step, number in steps:
        recording.add(40, since=now - 30 * HOUR, until=now)
        seal()
        assert killed_pass(url, namespace, to, step, number) == -signal.SIGKILL
        # The killed process still has its leases.
        admin.delete(keys.archive_leases(namespace))
    archive(url, namespace, to, "minute", "hour", "day")
    check(to, recording, "minute", "hour", "day")
    assert compared(url, namespace, to, "minute", "hour", "day").different == 0


def test_a_group_that_another_archiver_has_the_lease_of_is_left_to_it(
    metrics: Metrics, url: str, namespace: str, to: str, seal: Seal, admin: redis.Redis
) -> None:
    metrics.increment("jobs", tags={"route": "a"}, timestamp=time.time() - 2 * HOUR)
    seal()
    target = open_target(to)
    target.close()
    name = f"{target.id} {group_of('jobs')}"
    key = keys.archive_leases(namespace)
    run(Store(url, 5.0).client(), lease.take(key, name, "other", 60_000))
    assert archive(url, namespace, to, "hour").elsewhere == 1
    assert rows(to, "hour") == []
    run(Store(url, 5.0).client(), lease.release(key, name, "other"))
    assert archive(url, namespace, to, "hour").elsewhere == 0
    assert len(rows(to, "hour")) == 1
    # The lease is given back.
    assert archive(url, namespace, to, "hour").elsewhere == 0


def test_the_rights_of_the_page_are_enough(
    metrics: Metrics, server: Server, namespace: str, tmp_path: Path, seal: Seal, admin: redis.Redis
) -> None:
    metrics.increment("jobs", tags={"route": "a"}, timestamp=time.time() - 2 * HOUR)
    seal()
    page = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
    (reader,) = re.findall(r"ACL SETUSER reader (.*)", page)
    (more,) = re.findall(r"leases also `([^`]*)`", page)
    rules = f"{reader} {more}".replace("prod", namespace).split()
    admin.execute_command("ACL", "SETUSER", "archiver", "reset", *rules)
    try:
        login = "username=archiver&password=password"
        url = server.url + ("&" if "?" in server.url else "?") + login
        to = f"file://{tmp_path}/archive"
        assert archive(url, namespace, to, "raw", "hour").rows == {"raw": 1, "hour": 1}
        assert compared(url, namespace, to, "raw", "hour").different == 0
    finally:
        admin.execute_command("ACL", "DELUSER", "archiver")


def test_what_an_archiver_writes_too_late_is_refused(postgres: Postgres, to: str) -> None:
    if not to.startswith("postgresql"):
        pytest.skip("a lock keeps others out of a folder; for ClickHouse see test_clickhouse.py")
    target = PostgresTarget(to)
    with target.claim("app", 3) as late, target.claim("app", 3) as new:
        new.save("jobs", MetricState("new"))
        for call in (lambda: late.save("jobs", MetricState("old")), lambda: late.state("jobs")):
            with pytest.raises(ArchiveTaken, match="another archiver has taken over group 3"):
                call()
        assert new.state("jobs").stamp == "new"
    target.close()


def test_a_folder_s_group_is_locked_while_it_is_written(tmp_path: Path) -> None:
    target = ParquetTarget(f"file://{tmp_path}")
    with target.claim("app", 3) as first:
        assert first is not None
        with target.claim("app", 3) as second, target.claim("app", 4) as other:
            assert second is None
            assert other is not None
    with target.claim("app", 3) as again:
        assert again is not None


def test_the_archiver_goes_on_when_the_database_is_back(
    metrics: Metrics, url: str, namespace: str, postgres: Postgres, seal: Seal
) -> None:
    recording, now = Recording(metrics, 6), time.time()
    recording.add(20, since=now - 5 * HOUR, until=now)
    seal()
    to = postgres.url + "&options=-csearch_path%3Dpublic"
    target, store = PostgresTarget(to, prefix="away_"), Store(resolve({}, url=url).url, 5.0)
    archiver = Archiver(store.client, namespace, target, ("hour",), "test")
    postgres.stop()
    try:
        with pytest.raises(ArchiveError, match="the archive postgresql://"):
            archiver.pass_once()
    finally:
        postgres.start()
    reports = []

    def seen(report: Any) -> None:
        reports.append(report)
        service.stop.set()

    service = ArchiveService(store, namespace, lambda: target, ("hour",), report=seen)
    service.run()
    assert reports[0].rows == service.counts.rows == {"hour": len(recording.slots("hour"))}
    store.close()


def test_tables_of_a_newer_version_are_refused(to: str) -> None:
    target = open_target(to)
    target.close()
    if isinstance(target, ParquetTarget):
        (target.folder / "archive.json").write_text('{"version": 2, "id": "x"}')
    elif to.startswith("clickhouse"):
        import clickhouse_connect

        with clickhouse_connect.get_client(dsn=to) as client:
            client.command("TRUNCATE TABLE rm_meta")
            client.command("INSERT INTO rm_meta VALUES ('version', '2'), ('id', 'x')")
    else:
        import psycopg

        with psycopg.connect(to) as connection:
            connection.execute("UPDATE rm_meta SET value = '2' WHERE name = 'version'")
    with pytest.raises(ArchiveError, match="must have version 1 or lower, got 2"):
        open_target(to)


def test_an_archive_keeps_its_id(to: str) -> None:
    first, second = open_target(to), open_target(to)
    assert first.id == second.id
    first.close()
    second.close()


def test_tables_are_in_the_given_schema_with_the_given_prefix(postgres: Postgres, to: str) -> None:
    if not to.startswith("postgresql"):
        pytest.skip("of PostgreSQL alone")
    import psycopg

    open_target(to, schema="Metrics", prefix="x ").close()
    # Again, by a role that may use these tables and nothing else.
    with psycopg.connect(to, autocommit=True) as connection:
        found = connection.execute(
            "SELECT count(*), bool_and(left(relname, 2) = 'x ') FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE nspname = 'Metrics' AND relkind = 'r'"
        ).fetchone()
        assert found == (8, True)
        connection.execute(
            "DROP ROLE IF EXISTS writer; CREATE ROLE writer LOGIN; "
            'GRANT USAGE ON SCHEMA "Metrics" TO writer; '
            'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "Metrics" TO writer'
        )
    target = open_target(to.replace("postgres@", "writer@"), schema="Metrics", prefix="x ")
    with target.claim("app", 1) as session:
        session.save("jobs", MetricState("1"))
    target.close()


def test_progress_that_is_not_finished_is_forgotten(tmp_path: Path) -> None:
    target = ParquetTarget(f"file://{tmp_path}")
    with target.claim("app", 1) as session:
        session.save("jobs", MetricState("1"))
        session.finish()
        session.save("jobs", MetricState("2"))
    with target.claim("app", 1) as session:
        assert session.state("jobs").stamp == "1"


def test_groups_do_not_change() -> None:
    """Files of an archive are named by them."""
    assert [group_of(name) for name in ("jobs", "latency")] == [5, 8]


def test_metadata_with_a_character_that_postgresql_lacks_is_archived(
    postgres: Postgres, to: str
) -> None:
    if not to.startswith("postgresql"):
        pytest.skip("files take every character")
    one, series = np.ones(1, np.int64), series_of("app", "jobs", "histogram", {0: {}})
    zero = np.zeros(1, np.int64)
    found = RawRows(series, zero, zero, zero, one, np.ones(1), one, {0: b"a\0b"}, (zero, zero))
    target = PostgresTarget(to)
    with target.claim("app", 3) as session:
        session.write("raw", 0, found)
    target.close()
    assert [row["metadata"] for row in rows(to, "raw")] == ["a\N{SYMBOL FOR NULL}b"]
