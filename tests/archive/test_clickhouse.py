"""What is special about archives in ClickHouse: no transactions, HTTP, and an engine in process."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from redismetrics import ArchiveUnavailable, InvalidSetting, Metrics
from redismetrics.archive.rows import RawRows, RollupRows, rollup_rows, series_of
from redismetrics.archive.service import ArchiveService
from redismetrics.archive.state import LevelState, MetricState, group_of
from redismetrics.archive.target import ArchiveError, ArchiveTaken, open_target, target_opener
from redismetrics.columnar.rollup_table import UNIFORM, Points, Table
from redismetrics.columnar.summaries import of_points
from redismetrics.model.time import HOUR
from redismetrics.settings import resolve
from redismetrics.store.connection import Store
from tests.archive.clickhouse_model import Rules, explore
from tests.archive.tools import Recording, Seal, check, rows
from tests.fixtures.clickhouse import ClickHouse
from tests.fixtures.servers import PROCESS_PATIENCE, wait_until

pytest.importorskip("clickhouse_connect", reason="no clickhouse-connect")

# An hour that Redis does not hold any more: its days are kept for five years.
START = 18_000 * 24 * HOUR
SERIES = series_of("app", "jobs", "counter", {0: {"queue": "mail"}})


@pytest.fixture
def to(clickhouse: ClickHouse) -> str:
    return clickhouse.new_database()


def hour_of(value: float, namespace: str = "app") -> RollupRows:
    """Return the row of an hour with one sample."""
    of = series_of(namespace, "jobs", "counter", {0: {"queue": "mail"}})
    slot, zero = np.array([START]), np.zeros(1, np.int64)
    summaries = of_points(np.array([value]), np.ones(1, np.int64), slot)
    kinds = np.full(1, UNIFORM, np.uint8)
    return rollup_rows(of, Table(slot, zero, summaries, kinds, zero, Points(np.zeros(0), zero[:0])))


def minute_of(*values: float) -> RawRows:
    """Return all samples of a minute."""
    zero, count = np.zeros(len(values), np.int64), np.ones(len(values), np.int64)
    number = np.arange(len(values))
    replaced = np.zeros(1, np.int64), np.array([START])
    return RawRows(
        SERIES,
        zero,
        zero + START,
        number,
        START + number,
        np.array(values),
        count,
        {0: b"\0"} if values else {},
        replaced,
    )


def statement(to: str, text: str) -> None:
    import clickhouse_connect

    with clickhouse_connect.get_client(dsn=to) as client:
        client.command(text)


def test_all_orders_of_two_archivers_end_with_what_redis_holds() -> None:
    worlds, wrong = explore(Rules())
    assert worlds > 1_000
    assert wrong == []


@pytest.mark.parametrize("rule", ["unique", "by_run", "rows_first", "checked"])
def test_each_rule_of_the_model_is_needed(rule: str) -> None:
    assert explore(Rules(**{rule: False}))[1] != []


@pytest.mark.slow
def test_what_a_late_archiver_writes_is_ignored(to: str) -> None:
    late_target, target = open_target(to), open_target(to)
    with late_target.claim("app", 3) as late, target.claim("app", 3) as new:
        # As if it had looked for a successor just before there was one.
        late._check = lambda: None
        late.write("hour", START, hour_of(1.0))
        late.write("raw", START, minute_of(1.0, 2.0, 3.0))
        late.save("jobs", MetricState("late"))
        new.write("hour", START, hour_of(7.0))
        new.write("raw", START, minute_of(7.0))
        new.save("jobs", MetricState("new"))
        new.finish()
        late.finish()
    for merged in (False, True):
        if merged:
            for table in ("hour_rows", "raw_rows", "progress"):
                statement(to, f"OPTIMIZE TABLE rm_{table} FINAL")
        assert [row["sum"] for row in rows(to, "hour")] == [7.0]
        assert [row["value"] for row in rows(to, "raw")] == [7.0]
        assert target.totals("app", "hour", START, "jobs", SERIES.ids) == {
            (SERIES.ids[0], START): (1, 7.0)
        }
        with target.claim("app", 3) as next_one:
            assert next_one.state("jobs").stamp == "new"
    late_target.close()
    target.close()


@pytest.mark.slow
def test_an_archiver_that_lost_its_group_stops(to: str) -> None:
    target = open_target(to)
    with target.claim("app", 3) as late, target.claim("app", 3) as new:
        late.write("hour", START, hour_of(1.0))
        with pytest.raises(ArchiveTaken, match="another archiver has taken over group 3"):
            late.finish()
        new.write("hour", START, hour_of(7.0))
        new.save("jobs", MetricState("new"))
        new.finish()
    target.close()
    assert [row["sum"] for row in rows(to, "hour")] == [7.0]


@pytest.mark.slow
def test_a_minute_with_too_many_samples_loses_those_that_it_had(to: str) -> None:
    target = open_target(to)
    with target.claim("app", 3) as session:
        session.write("raw", START, minute_of(1.0, 2.0))
        session.finish()
    assert [(row["value"], row["metadata"]) for row in rows(to, "raw")] == [
        (1.0, "\0"),
        (2.0, None),
    ]
    with target.claim("app", 3) as session:
        session.write("raw", START, minute_of())
        session.finish()
    assert rows(to, "raw") == []
    assert target.totals("app", "raw", START // HOUR * HOUR, "jobs", SERIES.ids) == {}
    target.close()


@pytest.mark.slow
def test_rows_are_inserted_in_large_blocks(to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from redismetrics.archive import clickhouse as module

    target = open_target(to)
    client, inserted = target.connection.client(), []
    insert = client.insert_arrow

    def counted(table: str, data: Any) -> Any:
        inserted.append(len(data))
        return insert(table, data)

    monkeypatch.setattr(client, "insert_arrow", counted)
    monkeypatch.setattr(module, "_WAITING_ROWS", 5)
    with target.claim("app", 3) as session:
        for number in range(12):
            session.write("hour", START, hour_of(number))
            session.save(f"jobs_{number}", MetricState("1"))
        # A killed archiver would not begin with the first of these rows again.
        (saved,) = client.query("SELECT count() FROM rm_progress FINAL").result_rows[0]
        assert saved == 10
        session.finish()
    assert inserted == [5, 5, 2]
    target.close()


@pytest.mark.slow
def test_tables_are_in_the_given_database_with_the_given_prefix(
    url: str, namespace: str, to: str, clickhouse: ClickHouse
) -> None:
    name = to.rpartition("/")[2]
    elsewhere = clickhouse.url()
    target = open_target(elsewhere, schema=f"{name} `x`", prefix="a.b ")
    with target.claim(namespace, 3) as session:
        session.write("hour", START, hour_of(7.0))
        session.finish()
    target.close()
    names = {"archive_schema": f"{name} `x`", "archive_prefix": "a.b "}
    with Metrics(url, namespace=namespace, archive=elsewhere, **names) as client:
        assert client.query("jobs", aggregation="sum") == 0


@pytest.mark.slow
def test_the_archiver_goes_on_when_the_server_is_back(
    metrics: Metrics, url: str, namespace: str, to: str, clickhouse: ClickHouse, seal: Seal
) -> None:
    recording, now = Recording(metrics, 6), time.time()
    recording.add(20, since=now - 5 * 3_600, until=now)
    seal()
    clickhouse.stop()
    store = Store(resolve({}, url=url).url, 5.0)
    service = ArchiveService(store, namespace, target_opener(to), ("hour",), interval=0.1)
    reports: list[Any] = []

    def seen(report: Any) -> None:
        reports.append(report)
        service.stop.set()

    service._report = seen
    import threading

    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        wait_until(lambda: service.counts.failures, "a pass fails", PROCESS_PATIENCE)
        assert "clickhouse://default:***@127.0.0.1" in service.error
        assert "secret" not in service.error
    finally:
        clickhouse.start()
        thread.join(PROCESS_PATIENCE)
    assert reports[0].rows == {"hour": len(recording.slots("hour"))}
    check(to, recording, "hour")
    store.close()


@pytest.mark.slow
def test_a_wrong_password_is_an_error_that_does_not_show_it(to: str) -> None:
    with pytest.raises(ArchiveError, match="Authentication failed") as caught:
        open_target(to.replace("secret", "hidden"))
    assert "hidden" not in str(caught.value)


@pytest.mark.slow
def test_readers_need_tables_of_the_same_version(url: str, namespace: str, to: str) -> None:
    with Metrics(url, namespace=namespace, archive=to) as client:
        with pytest.raises(ArchiveUnavailable, match="no tables yet, or they have another data"):
            client.query("jobs", aggregation="sum")
        open_target(to).close()
        statement(to, "TRUNCATE TABLE rm_meta")
        statement(to, "INSERT INTO rm_meta VALUES ('version', '9'), ('id', 'x')")
        with pytest.raises(ArchiveUnavailable, match="must have version 1, got 9"):
            client.query("jobs", aggregation="sum")


@pytest.mark.slow
def test_a_question_takes_two_statements(
    url: str, namespace: str, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clickhouse_connect.driver._backend.http_sync import HttpSyncBackend

    target, sent = open_target(to), []
    with target.claim(namespace, group_of("jobs")) as session:
        session.write("hour", START, hour_of(7.0, namespace))
        session.save("jobs", MetricState("", {"hour": LevelState(START + 10 * HOUR)}))
        session.finish()
    target.close()
    request = HttpSyncBackend.request

    def counted(*args: Any, **options: Any) -> Any:
        sent.append(args)
        return request(*args, **options)

    window = START / 1000, START / 1000 + 3_600
    with Metrics(url, namespace=namespace, archive=to) as client:
        for aggregation, expected in (("sum", 7), ("p50", 7)):
            assert client.query("jobs", aggregation=aggregation, window=window) == expected
        monkeypatch.setattr(HttpSyncBackend, "request", counted)
        assert client.query("jobs", aggregation="p50", window=window) == 7
    assert len(sent) == 2


@pytest.mark.slow
def test_a_forked_child_does_not_use_the_sockets_of_its_parent(to: str) -> None:
    target = open_target(to)
    client = target.connection.client()
    assert target.connection.client() is client
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        try:
            own = target.connection.client()
            is_shared = own is client or own.http is client.http
            os.write(writes, f"{is_shared} {target.run_of('app', 3)}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reads, 20) == b"False 0"
    os.close(reads)
    os.close(writes)
    target.close()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("verfy=false", "one of clickhouse_connect.get_client, got 'verfy'; did you mean 'verify'"),
        (
            "connect_timeout=soon",
            "must be a valid URL, got 'clickhouse://me:\\*\\*\\*@127.0.0.1:1/d",
        ),
    ],
)
def test_options_of_the_url_are_checked(options: str, text: str) -> None:
    with pytest.raises(InvalidSetting, match=text) as caught:
        open_target(f"clickhouse://me:hidden@127.0.0.1:1/d?{options}")
    assert "hidden" not in str(caught.value)


@pytest.mark.slow
def test_a_server_that_is_gone_is_one_line_of_output(url: str) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "redismetrics", "archive", "--once", "--url", url),
            *("--to", "clickhouse://me:hidden@127.0.0.1:1/d"),
        ],
        capture_output=True,
        cwd=Path(__file__).parents[2],
        text=True,
        timeout=PROCESS_PATIENCE,
        check=False,
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith("redismetrics: the archive clickhouse://me:***@127.0.0.1:1/d failed:")
    assert "Connection refused" in line


_IN_PROCESS = """
import sys, time
from redismetrics import ArchiveUnavailable, InvalidSetting, Metrics
from tests.archive.tools import archive, compared
url, namespace, to = sys.argv[1:]
print(archive(url, namespace, to, "raw", "hour").rows, archive(url, namespace, to, "hour").rows)
print(compared(url, namespace, to, "raw", "hour").different)
from redismetrics.archive.reading import ArchiveReader
from redismetrics.queries.older import OlderQuestion, Share, Wanted
hour = 3_600_000
reader = ArchiveReader(to, None, "rm_", 5.0)
wanted = Wanted((Share((hour,), 1 << 50),), False, {"route": "a"}, None, True)
found = reader.read(OlderQuestion(namespace, "jobs", "counter", {}, None, 0, 1 << 50, wanted))
((table, width),) = found.tables
print(width, table.summaries.total.tolist(), found.series)
"""


@pytest.mark.slow
def test_the_engine_in_process_takes_the_same_path(
    metrics: Metrics, url: str, namespace: str, seal: Seal, tmp_path: Path
) -> None:
    pytest.importorskip("chdb", reason="no chDB: pip install 'redismetrics[chdb]'")
    metrics.increment("jobs", 3, tags={"route": "a"}, timestamp=time.time() - 2 * 3_600)
    seal()
    to = f"clickhouse:///archive?interface=chdb&path={tmp_path}/data"
    done = subprocess.run(
        [sys.executable, "-c", _IN_PROCESS, url, namespace, to],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        timeout=PROCESS_PATIENCE,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "{'raw': 1, 'hour': 1} {}",
        "0",
        "3600000 [3.0] {0: {'route': 'a'}}",
    ]
