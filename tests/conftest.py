"""The server that tests run on: real, private, one for the session. A test keeps to its own namespace on it."""

import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from redismetrics.testing import pytest_plugin
from tests.fixtures.servers import (
    ENVIRONMENT,
    Server,
    ServerFailed,
    default_binary,
    faketime_library,
    version,
)

# A server's first example may wait for a start or a save: time is judged by pytest-timeout alone.
hypothesis.settings.register_profile("redismetrics", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("redismetrics")

_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Take away what could lead a test to a server, or to data, that it did not make; have our own plugin, installed or not."""
    if not config.pluginmanager.is_registered(pytest_plugin):
        config.pluginmanager.register(pytest_plugin, "redismetrics")
    for name in list(os.environ):
        if name.startswith("REDISMETRICS_") and name != ENVIRONMENT:
            del os.environ[name]
    folder = _short_folder()
    os.environ["XDG_DATA_HOME"] = str(folder)
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_report_header() -> str:
    try:
        binary = default_binary()
    except ServerFailed as error:
        return f"server: {error}"
    return f"server: {version(binary)} ({binary})"


def _short_folder() -> Path:
    """Return a new folder whose path leaves room for a socket's name."""
    folder = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="rm-", dir=folder if len(folder) <= 60 else "/tmp"))


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The session's server. Whoever pauses, kills, fills or configures one takes `fresh_server`."""
    folder = _short_folder()
    try:
        with Server.start(folder) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def fresh_server() -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server for this test alone; it takes what `Server.start` takes after the folder."""
    servers: list[Server] = []
    folders: list[Path] = []

    def start(*args: Any, **options: Any) -> Server:
        folders.append(_short_folder())
        servers.append(Server.start(folders[-1], *args, **options))
        return servers[-1]

    try:
        yield start
    finally:
        for server in servers:
            server.kill()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def moving_server() -> Iterator[Server]:
    """A server for this module, whose time stands still until a test moves it by `set_time` or `advance`."""
    if faketime_library() is None:
        pytest.skip("no libfaketime for a server with a movable clock: apt-get install faketime")
    folder = _short_folder()
    try:
        with Server.start(folder, movable_clock=True) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def url(server: Server) -> str:
    return server.url


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """A namespace that no other test of this session has, with the test's name in it: at most 60 of `[A-Za-z0-9_.-]`."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', request.node.name)[:50]}-{next(_numbers)}"
