"""Fixtures of the archive's tests: a PostgreSQL of our own, and recordings with late samples."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
import redis

from redismetrics import Metrics
from redismetrics.worker import Worker
from tests.archive.tools import Seal, settle
from tests.fixtures.clients import MakeMetrics, MakeWorker

pytest.importorskip("psycopg", reason="no psycopg: pip install 'redismetrics[archive]'")
pytest.importorskip("pyarrow", reason="no pyarrow: pip install 'redismetrics[archive]'")


class Postgres:
    """A PostgreSQL server on a Unix socket, whose data need not survive a crash of the machine."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        # PostgreSQL refuses to run as root.
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8")
        self.start()

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self._folder}"

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self._folder} -c fsync=off"
        self._run(
            "pg_ctl", "-D", self._data, "-w", "-o", options, "-l", self._data + ".log", "start"
        )

    def stop(self, mode: str = "immediate") -> None:
        self._run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def _run(self, program: str, *args: str) -> None:
        subprocess.run(
            [*self._as, str(self._programs / program), *args],
            check=True,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )


def _programs() -> Path | None:
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    # Not under pytest's own folder, which only its user may enter. Sockets need short paths.
    folder = Path(tempfile.mkdtemp(prefix="rm-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    try:
        server = Postgres(programs, folder)
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["postgresql", "parquet"])
def to(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty archive of each kind; of PostgreSQL, with tables for this test alone."""
    if request.param == "parquet":
        return f"file://{tmp_path}/archive"
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
