"""Archives that questions cannot reach, and what they need: round trips, rights, packages."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import redis

from redismetrics import ArchiveUnavailable, AsyncMetrics, InvalidSetting, Metrics
from redismetrics.archive.reading_postgres import PostgresFinder
from redismetrics.archive.rows import RollupRows, rollup_rows, series_of
from redismetrics.archive.state import LevelState, MetricState, group_of
from redismetrics.archive.target import open_target
from redismetrics.columnar.rollup_table import UNIFORM, Points, Table
from redismetrics.columnar.summaries import of_points
from redismetrics.store import keys
from tests.archive.conftest import Postgres
from tests.archive.tools import DAY
from tests.fixtures.servers import PATIENT
from tests.fixtures.shell import Shell
from tests.fixtures.webserver import error_message, running

np = pytest.importorskip("numpy")

# A day that Redis does not hold any more: its days are kept for five years.
OLD = 18_000 * DAY


def archived(
    namespace: str, to: str, *, metric: str = "jobs", days: int = 3, settled: int | None = None
) -> None:
    """Put a counter into the archive that is recorded once a day: 1, 2, 3 and so on."""
    slot = (OLD + np.arange(days) * DAY) * 1000
    zero, value = np.zeros(days, np.int64), np.arange(1.0, days + 1)
    summaries = of_points(value, np.ones(days, np.int64), slot)
    kinds = np.full(days, UNIFORM, np.uint8)
    table = Table(slot, zero, summaries, kinds, zero, Points(np.zeros(0), zero[:0]))
    rows: RollupRows = rollup_rows(
        series_of(namespace, metric, "counter", {0: {"queue": "é\0"}}), table
    )
    target = open_target(to)
    with target.claim(namespace, group_of(metric)) as session:
        assert session is not None
        partitions = slot // (32 * DAY * 1000)
        (partition,) = np.unique(partitions).tolist()
        session.write("day", partition * 32 * DAY * 1000, rows)
        settled = round(time.time() * 1000) if settled is None else settled
        session.save(metric, MetricState("stamp", {"day": LevelState(settled)}))
        session.finish()
    target.close()


@pytest.fixture
def client(url: str, namespace: str, to: str) -> Iterator[Metrics]:
    archived(namespace, to)
    with Metrics(url, namespace=namespace, archive=to) as made:
        yield made


def test_tags_are_those_of_redis(client: Metrics) -> None:
    client.increment("jobs", 10, tags={"queue": "é\0"})
    rows = client.query("jobs", aggregation="sum", group_by="queue")
    assert rows == [{"queue": "é\0", "sum": 16}]
    assert client.query("jobs", aggregation="sum", tags={"queue": "é\0"}) == 16
    assert client.query("jobs", aggregation="count", tags={"queue": "e"}) == 0


@pytest.mark.parametrize("to", ["postgresql"], indirect=True)
@pytest.mark.skipif(sys.platform != "linux", reason="psycopg traces on Linux only")
def test_a_question_is_one_round_trip(client: Metrics, tmp_path: Path) -> None:
    def ask() -> None:
        assert client.query("jobs", aggregation="p50") == 2

    ask()
    finder = client.internals.query_context.older._finder  # type: ignore[union-attr]
    assert isinstance(finder, PostgresFinder)
    ((_, connection),) = finder._idle
    for _ in range(12):
        with (tmp_path / "trace").open("w+b") as trace:
            connection.pgconn.trace(trace.fileno())
            ask()
            connection.pgconn.untrace()
            trace.seek(0)
            sent = [
                line.split(b"\t")[3:4] for line in trace.read().splitlines() if b"\tF\t" in line
            ]
        assert sent.count([b"Sync"]) == 1
        assert sent.count([b"Execute"]) == 1
    assert [each for _, each in finder._idle] == [connection]


@pytest.mark.parametrize("to", ["postgresql"], indirect=True)
def test_an_archive_that_is_out_of_reach_is_an_error(
    client: Metrics, postgres: Postgres, url: str, namespace: str, to: str
) -> None:
    client.increment("jobs", 10, tags={"queue": "é\0"})
    assert client.query("jobs", aggregation="sum") == 16

    async def ask() -> None:
        async with AsyncMetrics(url, namespace=namespace, archive=to) as other:
            await other.query("jobs", aggregation="sum")

    postgres.stop()
    try:
        with pytest.raises(ArchiveUnavailable, match="before what Redis holds, and the archive"):
            client.query("jobs", aggregation="sum")
        with pytest.raises(ArchiveUnavailable):
            client.time_series("jobs", interval="day", window=(OLD, None))
        with pytest.raises(ArchiveUnavailable):
            client.rollup("jobs", window=(OLD, None))
        with pytest.raises(ArchiveUnavailable):
            client.digest("jobs")
        with pytest.raises(ArchiveUnavailable):
            asyncio.run(ask())
        if _has_promql():
            with pytest.raises(ArchiveUnavailable):
                client.promql_query("increase(jobs_total[1d])", OLD + DAY)
        # What Redis holds, it answers alone.
        assert client.query("jobs", aggregation="sum", window="last_hour") == 10
    finally:
        postgres.start()
    assert client.query("jobs", aggregation="sum") == 16


def _has_promql() -> bool:
    from importlib.util import find_spec

    return find_spec("promql_parser") is not None and find_spec("re2") is not None


def test_a_folder_that_is_not_there_is_an_error(url: str, namespace: str, tmp_path: Path) -> None:
    with (
        Metrics(url, namespace=namespace, archive=f"file://{tmp_path}/away") as client,
        pytest.raises(ArchiveUnavailable, match="there is no archive in"),
    ):
        client.query("jobs", aggregation="sum")


@pytest.mark.parametrize("to", ["postgresql"], indirect=True)
def test_a_database_without_tables_or_with_newer_ones_is_an_error(
    url: str, namespace: str, to: str
) -> None:
    with Metrics(url, namespace=namespace, archive=to) as client:
        with pytest.raises(ArchiveUnavailable, match="no tables yet"):
            client.query("jobs", aggregation="sum")
        open_target(to).close()
        with psycopg.connect(to) as connection:
            connection.execute("UPDATE rm_meta SET value = '9' WHERE name = 'version'")
        with pytest.raises(ArchiveUnavailable, match="must have version 1, got 9"):
            client.query("jobs", aggregation="sum")


def test_an_archiver_that_is_far_behind_is_an_error(
    url: str, namespace: str, to: str, admin: redis.Redis
) -> None:
    with Metrics(url, namespace=namespace, archive=to) as client:
        client.increment("jobs", 10, tags={"queue": "é\0"})
        client.flush()
        archived(namespace, to, settled=(OLD + 3 * DAY) * 1000)
        # Redis had nothing of that time.
        assert client.query("jobs", aggregation="sum") == 16
        state = keys.rollup(namespace, 0, "jobs").state
        admin.hset(state, mapping={"oldest": OLD, "newest": int(time.time())})
        with pytest.raises(ArchiveUnavailable, match="does not have all of 'jobs' before 20"):
            client.query("jobs", aggregation="sum")
        # All of this window is there.
        window = OLD, OLD + 2 * DAY
        assert client.query("jobs", aggregation="sum", window=window) == 3
        archived(namespace, to)
        assert client.query("jobs", aggregation="sum") == 16


def test_a_password_is_never_shown(url: str, namespace: str) -> None:
    to = "postgresql://me:hidden@127.0.0.1:1/x?sslpassword=hidden2"
    with Metrics(url, namespace=namespace, archive=to) as client:
        with pytest.raises(ArchiveUnavailable) as caught:
            client.query("jobs", aggregation="sum")
        for text in (str(caught.value), repr(client), repr(client.settings)):
            assert "hidden" not in text
    assert "postgresql://me:***@127.0.0.1:1/x" in str(caught.value)
    with pytest.raises(InvalidSetting, match="archive must be postgresql://") as refused:
        Metrics(url, archive="mysql://me:hidden@db")
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("to", ["postgresql"], indirect=True)
def test_reading_needs_the_right_to_select(
    client: Metrics, url: str, namespace: str, to: str
) -> None:
    with psycopg.connect(to, autocommit=True) as connection:
        connection.execute(
            "DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN; "
            "GRANT SELECT ON rm_meta, rm_series, rm_progress, rm_hour_rows, rm_day_rows TO reader"
        )
    other = to.replace("postgres@", "reader@")
    with Metrics(url, namespace=namespace, archive=other) as reader:
        with pytest.raises(ArchiveUnavailable, match="permission denied for table rm_minute_rows"):
            reader.query("jobs", aggregation="sum")
        with psycopg.connect(to, autocommit=True) as connection:
            connection.execute("GRANT SELECT ON rm_minute_rows TO reader")
        assert reader.query("jobs", aggregation="sum") == 6


@pytest.mark.parametrize("to", ["postgresql"], indirect=True)
def test_tables_may_be_in_another_schema(url: str, namespace: str, to: str) -> None:
    open_target(to, schema="Metrics", prefix="x_").close()
    with Metrics(
        url, namespace=namespace, archive=to, archive_schema="Metrics", archive_prefix="x_"
    ) as client:
        assert client.query("jobs", aggregation="sum") == 0


def test_http_reads_through(client: Metrics, to: str) -> None:
    httpx = pytest.importorskip("httpx", reason="needs httpx")
    from redismetrics.api.app import create_app
    from redismetrics.api.limits import Limits

    limits = Limits(window_seconds=time.time())
    window = {"since": str(OLD), "until": str(OLD + 3 * DAY)}
    with (
        running(create_app(client, limits=limits)) as at,
        httpx.Client(base_url=at, **PATIENT) as web,
    ):
        found = web.get("/api/query", params={**window, "name": "jobs", "aggregation": "sum"})
        assert found.json()["results"] == 6
        if not to.startswith("postgresql"):
            return
        with psycopg.connect(to, autocommit=True) as connection:
            connection.execute("DROP VIEW rm_day; DROP TABLE rm_day_rows")
        found = web.get("/api/query", params={**window, "name": "jobs", "aggregation": "sum"})
        assert 'relation "rm_day_rows" does not exist' in error_message(found, 503)


@pytest.mark.usefixtures("client")
def test_commands_read_through(url: str, namespace: str, to: str, tmp_path: Path) -> None:
    shell = Shell(url, namespace)
    since = ("--since", str(OLD), "--archive", to)
    assert shell("query", "jobs", "-a", "sum", *since) == (0, "6\n", "")
    rows = shell.json("time-series", "jobs", "-a", "sum", "-i", "day", *since)
    assert [row["sum"] for row in rows] == [1, 2, 3]
    assert shell.json("rollup", "jobs", "-a", "sum", *since) == {"": {"sum": 6}}
    status, out, err = shell("query", "jobs", "--archive", f"file://{tmp_path}/away")
    assert (status, out) == (1, "")
    assert err.endswith("set another archive with --archive or REDISMETRICS_ARCHIVE\n")


def test_the_command_promql_reads_through(
    client: Metrics, url: str, namespace: str, to: str
) -> None:
    if not _has_promql():
        pytest.skip("no promql: pip install 'redismetrics[promql]'")
    client.increment("jobs", tags={"queue": "é\0"})
    client.flush()
    args = ("promql", "sum(increase(jobs_total[2d]))", "--at", str(OLD + 3 * DAY), "--archive", to)
    assert [row["value"] for row in Shell(url, namespace).json(*args)] == [5]


_WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from redismetrics import Metrics
metrics = Metrics(sys.argv[2], namespace=sys.argv[3], archive=sys.argv[4])
metrics.increment("jobs")
assert metrics.query("jobs", aggregation="sum", window="last_hour") == 1
metrics.query("jobs", aggregation="sum")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "to", "extra"),
    [
        ("psycopg", "postgresql://h/d", "archive"),
        ("pyarrow", "file:///f", "archive"),
        ("clickhouse_connect", "clickhouse://h/d", "clickhouse"),
        ("chdb", "clickhouse:///d?interface=chdb", "chdb"),
    ],
)
def test_a_driver_is_needed_by_what_is_read_only(
    url: str, namespace: str, package: str, to: str, extra: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, package, url, namespace, to],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    last = done.stderr.strip().rpartition("\n")[2]
    assert last.startswith("redismetrics.errors.MissingExtra: ")
    assert f"pip install 'redismetrics[{extra}]'" in last


def test_threads_ask_at_the_same_time(client: Metrics) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: client.query("jobs", aggregation="sum"), range(40)))
    assert found == [6] * 40


@pytest.mark.parametrize("to", ["postgresql"], indirect=True)
def test_a_forked_child_has_connections_of_its_own(client: Metrics) -> None:
    assert client.query("jobs", aggregation="sum") == 6
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writes, str(client.query("jobs", aggregation="sum")).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reads, 10) == b"6"
    os.close(reads)
    os.close(writes)
    # The child has not closed ours.
    assert client.query("jobs", aggregation="sum") == 6
