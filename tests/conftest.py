"""Fixtures of all tests: a private server for the session, and a namespace for each test."""

import gc
import itertools
import os
import re
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from redismetrics.testing import pytest_plugin
from tests.fixtures.clients import admin, make_metrics, make_worker, metrics, other
from tests.fixtures.clusters import Cluster
from tests.fixtures.servers import (
    ENVIRONMENT,
    SECONDS,
    Server,
    ServerFailed,
    Servers,
    default_binary,
    faketime_library,
    release,
    short_folder,
    version,
)

__all__ = ["admin", "make_metrics", "make_worker", "metrics", "other"]

# No deadline for one example: the first may wait for a server's start. pytest-timeout limits tests.
hypothesis.settings.register_profile("redismetrics", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("redismetrics")

# Seconds that a test takes on average, to order the files; one with a time limit of its own takes
# a part of that.
SLOW, QUICK, OF_LIMIT = 3.0, 0.04, 1 / 30

_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Remove settings that point to other servers or data; register our plugin if not installed."""
    if not config.pluginmanager.is_registered(pytest_plugin):
        config.pluginmanager.register(pytest_plugin, "redismetrics")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts jobs in the background so. Programs that tests start would ignore it too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in list(os.environ):
        if name.startswith("REDISMETRICS_") and name not in (ENVIRONMENT, SECONDS):
            del os.environ[name]
    folder = short_folder()
    os.environ["XDG_DATA_HOME"] = str(folder)
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    # Tests start hundreds of processes: let the first keep what it compiles.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if hasattr(config.option, "loadscopereorder"):
        # pytest-xdist would start with the files of many tests, which are not those that take long.
        config.option.loadscopereorder = False


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Let `-n auto` start three processes for two cores: tests wait for a third of their time."""
    workers = yield
    chosen = "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ
    return workers if chosen else workers + workers // 2


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the tests themselves out of garbage collections, which some tests ask for."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take long, so that all processes end at about the same time."""
    if hasattr(config, "workerinput"):
        seconds: Counter[Path] = Counter()
        for item in items:
            seconds[item.path] += _expected_seconds(item)
        items.sort(key=lambda item: seconds[item.path], reverse=True)


def _expected_seconds(item: pytest.Item) -> float:
    if not item.get_closest_marker("slow"):
        return QUICK
    limit = item.get_closest_marker("timeout")
    return limit.args[0] * OF_LIMIT if limit else SLOW


def pytest_report_header() -> str:
    try:
        binary = default_binary()
    except ServerFailed as error:
        return f"server: {error}"
    return f"server: {version(binary)} ({binary})"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The session's server. To pause, kill, fill or configure one, use `fresh_server`."""
    with Servers() as servers:
        yield servers.start()


@pytest.fixture
def fresh_server() -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server for this test alone.

    It takes the arguments of `Server.start` after the folder.
    """
    with Servers() as servers:
        yield servers.start


@pytest.fixture(scope="module")
def second_server() -> Iterator[Server]:
    """Another server for this module, such as the target of a copy."""
    with Servers() as servers:
        yield servers.start(port=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster of three primaries for this module, for tests that break none of them."""
    if release(default_binary()) < (7,):
        pytest.skip("before Redis 7 a node's second port can't be chosen, and so may be taken")
    with Servers() as servers:
        yield Cluster(servers.start)


@pytest.fixture(scope="module")
def moving_server() -> Iterator[Server]:
    """A server for this module whose time moves only by `set_time` and `advance`."""
    if faketime_library() is None:
        pytest.skip("no libfaketime for a server with a movable clock: apt-get install faketime")
    with Servers() as servers:
        yield servers.start(movable_clock=True)


@pytest.fixture
def url(server: Server) -> str:
    return server.url


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """A namespace that no other test of this session has.

    It begins with the test's name and has at most 60 of `[A-Za-z0-9_.-]`.
    """
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', request.node.name)[:50]}-{next(_numbers)}"
