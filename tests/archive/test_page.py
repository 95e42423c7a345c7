"""The SQL of docs/archive.md."""

import re
import time
from pathlib import Path

import psycopg
import pytest

from redismetrics import Metrics
from tests.archive.conftest import KINDS
from tests.archive.tools import HOUR, Seal, archive

PAGE = (Path(__file__).parents[2] / "docs" / "archive.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found
    return found


def record(metrics: Metrics) -> None:
    at = (time.time() // HOUR - 30) * HOUR
    for number in range(10):
        metrics.increment("requests", tags={"endpoint": "/a"}, timestamp=at + number)
        metrics.histogram(
            "response_ms", float(number), tags={"endpoint": "/a"}, timestamp=at + number
        )


@pytest.mark.parametrize("to", ["postgresql"], indirect=True)
def test_the_examples_are_valid(
    metrics: Metrics, url: str, namespace: str, to: str, seal: Seal
) -> None:
    record(metrics)
    seal()
    archive(url, namespace, to)
    with psycopg.connect(to) as connection:
        results = []
        for each in blocks("sql"):
            # The example is of a quarter; this one's samples are of now.
            text = re.sub(r"slot >= '2026-01-01Z' AND slot < '2026-04-01Z'", "true", each)
            cursor = connection.execute(text)
            results.append(cursor.fetchall() if cursor.description else cursor.rowcount)
    days, spread, panel, deleted = results
    assert [row[1:] for row in days] == [("/a", 10.0)]
    assert spread == [("/a", 4.5, pytest.approx(2.8722813, rel=1e-6))]
    assert [row[1:] for row in panel] == [("/a", pytest.approx(8.55))]
    assert deleted == 0


@pytest.mark.parametrize("to", ["parquet"], indirect=True)
def test_duckdb_reads_the_files(
    metrics: Metrics, url: str, namespace: str, to: str, seal: Seal
) -> None:
    duckdb = pytest.importorskip("duckdb", reason="no duckdb: pip install duckdb")
    record(metrics)
    seal()
    archive(url, namespace, to)
    _, text = blocks("text")
    folder = to.removeprefix("file://") + f"/{namespace}"
    (row,) = duckdb.sql(text.replace("/srv/metrics/shop", folder)).fetchall()
    assert row[1:] == ("/a", 10.0)


@pytest.mark.parametrize("to", KINDS[1:2], indirect=True)
def test_the_examples_for_clickhouse_are_valid(
    metrics: Metrics, url: str, namespace: str, to: str, seal: Seal
) -> None:
    import clickhouse_connect

    record(metrics)
    seal()
    archive(url, namespace, to)
    text, _ = blocks("text")
    changes = re.findall(r"`(ALTER TABLE [^`]*)`", PAGE.replace("\n  ", " "))
    assert len(changes) == 2
    with clickhouse_connect.get_client(dsn=to) as client:
        (row,) = client.query(text.rstrip(";\n")).result_rows
        assert row[1:] == ("/a", 10.0)
        for each in changes:
            client.command(each)
        assert len(client.query("SELECT * FROM rm_hour").result_rows) == 2
