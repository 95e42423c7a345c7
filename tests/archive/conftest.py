"""Fixtures of the archive's tests: databases of our own, and recordings with late samples."""

import os
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
import redis

from redismetrics import Metrics
from redismetrics.worker import Worker
from tests.archive.tools import Seal, settle
from tests.fixtures.clickhouse import ClickHouse, is_installed, running_clickhouse
from tests.fixtures.clients import MakeMetrics, MakeWorker
from tests.fixtures.postgres import Postgres, programs, running_postgres

pytest.importorskip("psycopg", reason="no psycopg: pip install 'redismetrics[archive]'")
pytest.importorskip("pyarrow", reason="no pyarrow: pip install 'redismetrics[archive]'")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    if programs() is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def clickhouse() -> Iterator[ClickHouse]:
    if not is_installed():
        pytest.skip("no chDB: pip install 'redismetrics[chdb]'")
    with running_clickhouse() as server:
        yield server


# A claim, a read and an insert in ClickHouse take a few ms each, which add up.
KINDS = ["postgresql", pytest.param("clickhouse", marks=pytest.mark.slow), "parquet"]


@pytest.fixture(params=KINDS)
def to(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty archive of each kind, for this test alone."""
    return new_archive(request, tmp_path, request.param)


def new_archive(request: pytest.FixtureRequest, folder: Path, kind: str) -> str:
    """Return the URL of a new, empty archive of this kind."""
    if kind == "parquet":
        return f"file://{folder}/archive"
    if kind == "clickhouse":
        server: ClickHouse = request.getfixturevalue("clickhouse")
        return server.new_database()
    return new_database(request.getfixturevalue("postgres"))


def new_database(server: Postgres) -> str:
    """Return the URL of a new, empty database."""
    import psycopg

    name = f"test_{os.getpid()}_{int(monotonic() * 1e6)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.url.replace("/postgres?", f"/{name}?")


@pytest.fixture
def seal(metrics: Metrics, make_worker: MakeWorker, admin: redis.Redis, namespace: str) -> Seal:
    """Return a function that flushes, and lets a worker build all that is due or will be."""
    worker: Worker = make_worker()
    return lambda: settle(metrics, worker, admin, namespace)


@pytest.fixture
def metrics(make_metrics: MakeMetrics) -> Metrics:
    """A client that accepts samples of the last 60 hours."""
    return make_metrics(max_age=60 * 3_600)
