"""Fixtures of the tests of captures: each test has its own default client."""

import threading
from collections.abc import Callable, Iterator

import pytest

import redismetrics
from redismetrics.client import default
from tests.testing.application import NOWHERE, depth, refunds, took


@pytest.fixture(autouse=True)
def _own_default_client(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(default, "_client", None)
    monkeypatch.setattr(default, "_arguments", ((NOWHERE,), {}))
    yield
    for instrument in (refunds, depth, took):
        instrument.unbind()
    redismetrics.close(0)


@pytest.fixture
def threads() -> Callable[[], set[str]]:
    """Return a function that names the threads of clients that this test has started."""
    # Clients that tests of other files left open have threads too.
    others = set(threading.enumerate())

    def started() -> set[str]:
        mine = set(threading.enumerate()) - others
        return {thread.name for thread in mine if thread.name.startswith("redismetrics")}

    return started
