"""Fixtures for telemetry: detach all handlers after each test; a handler that keeps its calls."""

from collections.abc import Iterator
from typing import Any

import pytest

from redismetrics import list_handlers
from redismetrics.telemetry import bus
from tests.telemetry.helpers import COMPLETED


@pytest.fixture(autouse=True)
def _detach_all() -> Iterator[None]:
    yield
    for handler in list_handlers():
        bus.detach(handler["id"])


@pytest.fixture
def events() -> list[tuple[Any, ...]]:
    """The arguments of a function that is attached to the events of these tests."""
    seen: list[tuple[Any, ...]] = []
    bus.attach(
        "seen",
        [COMPLETED, *(("db", "query", end) for end in ("start", "stop", "exception"))],
        lambda *given: seen.append(given),
    )
    return seen
