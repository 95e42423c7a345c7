"""A shell and a client of the test's namespace."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from redismetrics import Metrics
from redismetrics.store import embedded
from tests.fixtures.home import Home
from tests.fixtures.shell import Shell


@pytest.fixture
def shell(url: str, namespace: str) -> Shell:
    return Shell(url, namespace)


@pytest.fixture
def metrics(url: str, namespace: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=namespace) as client:
        yield client


@pytest.fixture
def filled(metrics: Metrics) -> Metrics:
    """A client whose namespace holds a few metrics."""
    now = time.time()
    for number in range(10):
        tags = {"shop": "de" if number % 2 else "f/r", "till": str(number % 3)}
        metrics.increment("orders", number, tags=tags, timestamp=now - 60 * number)
        metrics.histogram(
            "paid",
            10.5 * number,
            tags=tags,
            timestamp=now - 60 * number,
            metadata={"order": number},
        )
    metrics.gauge("queue_depth", 4)
    metrics.flush()
    return metrics


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="rm") as short:  # a socket's path is short
        yield Home(Path(short).resolve())


@pytest.fixture
def folder(home: Home) -> Iterator[Path]:
    yield home.folder / "data"
    embedded.stop(home.folder / "data")
    shutil.rmtree(home.folder / "data", ignore_errors=True)
