"""How long do queries take that continue in a PostgreSQL archive?

    python -m benchmarks archive_read [--quick]

A histogram with 10 series and 100,000 samples a day. Redis has the last 90 days, as hours and days;
PostgreSQL on the same machine has the 310 days before, with digests of up to 200 points, as the
archiver writes them. Each question is about all 400 days. "warm" is a client that has asked it
before, so it has its connection, and the pages of Redis in its cache; "first" is a new client. The
archive's own cache is PostgreSQL's. What is found is compared with what was recorded.

Needs PostgreSQL (Debian package: postgresql).
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import redismetrics
from benchmarks.bench_query import NAMESPACE, Filled, latency
from benchmarks.common import Options, Row, in_turn, main, own_server, own_worker
from benchmarks.promql_data import hour_table, older_hours
from redismetrics.archive.rows import rollup_rows, series_of
from redismetrics.archive.state import LevelState, MetricState, group_of
from redismetrics.archive.target import open_target
from redismetrics.columnar import rollup_table
from redismetrics.model.retention import RetentionPolicy
from redismetrics.model.time import DAY, HOUR, SECOND, slot_of
from redismetrics.store import keys

QUESTION = "How long do queries take that continue in a PostgreSQL archive?"
MISSING = "PostgreSQL is not installed (Debian package: postgresql)"
TARGET_MS = 150.0
SAMPLES_A_DAY = 100_000
# Redis keeps hours for 90 days. Days share keys of 32, so that with 74 it has those of 74 to 106.
HOURS_KEPT, DAYS_KEPT = 90, 74


def _programs() -> Path | None:
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    return next((each.parent for each in Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)


@contextmanager
def own_postgres(programs: Path) -> Iterator[str]:
    """Yield the URL of a new PostgreSQL with its default settings, on a Unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="rm-bench-pg-"))
    # PostgreSQL refuses to run as root.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if user:
        shutil.chown(folder, "postgres", "postgres")

    def run(program: str, *args: str) -> None:
        command = [*user, str(programs / program), "-D", str(folder / "data"), *args]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)

    try:
        run("initdb", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8")
        options = f"-c listen_addresses= -c unix_socket_directories={folder}"
        run("pg_ctl", "-w", "-o", options, "-l", str(folder / "log"), "start")
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Archived:
    """What was archived: samples in all, and rows by level."""

    samples: int = 0
    hours: int = 0
    days: int = 0


def fill_archive(url: str, filled: Filled, since: int, until: int) -> Archived:
    """Archive hours and days of [since, until) ms."""
    load, found = filled.load, Archived()
    tags = dict(enumerate(load.tags))
    of = series_of(NAMESPACE, load.name, load.kind, tags)
    target = open_target(url)
    with target.claim(NAMESPACE, group_of(load.name)) as session:
        assert session is not None, "no other archiver"
        for day in range(since, until, DAY):
            hours = []
            for start in range(day, day + DAY, HOUR):
                samples = load.draw(start, start + HOUR)
                found.samples += len(samples)
                hours.append(hour_table(samples, start, 200))
            table = rollup_table.concat(hours)
            session.write("hour", day, rollup_rows(of, table))
            series, slot = np.arange(load.series), np.full(load.series, day)
            points = table.grouped_points(table.series)
            whole = rollup_table.merge(
                slot, series, table.series, table.summaries, points, budget=200
            )
            session.write("day", slot_of(day, 32 * DAY), rollup_rows(of, whole))
            found.hours += len(table)
            found.days += len(whole)
        done = {level: LevelState(filled.until) for level in ("hour", "day")}
        session.save(load.name, MetricState("", done))
        session.finish()
    target.close()
    return found


def ms_of(ask: Callable[[], Any]) -> float:
    began = time.perf_counter()
    ask()
    return (time.perf_counter() - began) * 1000


def measure(options: Options) -> Iterator[Row]:
    programs = _programs()
    if programs is None:
        print(MISSING)
        return
    older, all_days = (3, 5) if options.quick else (HOURS_KEPT - 2, 400)
    with own_server(options.server) as (url, _), own_postgres(programs) as archive:
        filled = Filled(url, own_worker(url, NAMESPACE), latency(SAMPLES_A_DAY))
        older_hours(filled, older)
        until = filled.until
        filled.recording.close()
        kept_days = 0 if options.quick else DAYS_KEPT
        kept_hours = 1 if options.quick else HOURS_KEPT
        day_s = DAY // SECOND
        # The namespace's own retention: what is older is the archive's.
        policy = RetentionPolicy.of(
            day_s, day_s, kept_hours * day_s, max(kept_days, kept_hours) * day_s
        )
        filled.client.hset(keys.config(NAMESPACE), "retentions", policy.describe())
        since = slot_of(until, DAY) - (all_days - 1) * DAY
        boundary = policy.resolutions[1].kept_from(until)
        archived = fill_archive(archive, filled, since, boundary)
        yield from _questions(options, url, archive, filled.load.name, since, policy, archived)


def _questions(
    options: Options,
    url: str,
    archive: str,
    name: str,
    since: int,
    policy: RetentionPolicy,
    archived: Archived,
) -> Iterator[Row]:
    window = since / SECOND, None

    def client() -> redismetrics.Metrics:
        return redismetrics.Metrics(url, namespace=NAMESPACE, archive=archive, socket_timeout=60)

    def by_day(metrics: redismetrics.Metrics) -> Any:
        return metrics.time_series(name, interval="day", aggregation="p95", window=window)

    def by_route(metrics: redismetrics.Metrics) -> Any:
        return metrics.query(name, aggregation="p95", group_by="route", window=window)

    def by_hour(metrics: redismetrics.Metrics) -> Any:
        return metrics.time_series(name, interval="hour", aggregation="sum", window=window)

    days_from = max(policy.coarsest.kept_from(round(time.time() * SECOND)), since)
    of_days = (days_from - since) // DAY
    notes = {
        "p95 of each day": (by_day, f"{10 * of_days:,} rows with digests of PostgreSQL"),
        "p95 of all, by a tag": (by_route, f"{10 * of_days:,} rows with digests of PostgreSQL"),
        "sum of each hour": (by_hour, f"{archived.hours:,} rows of PostgreSQL"),
    }
    with client() as metrics:
        counts = metrics.time_series(name, interval="hour", aggregation="count", window=window)
        found = sum(row["count"] for row in counts)
        assert found >= archived.samples, f"{found} samples, {archived.samples} were archived"
        for case, (ask, note) in notes.items():

            def first(ask: Callable[[redismetrics.Metrics], Any] = ask) -> float:
                with client() as other:
                    return ms_of(partial(ask, other))

            figures = in_turn(
                {"warm": partial(ms_of, partial(ask, metrics)), "first": first}, options.runs, 2
            )
            yield Row(
                f"{case} over 400 days, warm", "ms", figures["warm"], target=TARGET_MS, note=note
            )
            yield Row(f"{case} over 400 days, first", "ms", figures["first"])


if __name__ == "__main__":
    main(QUESTION, measure)
