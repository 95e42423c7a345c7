"""Handlers do not outlive their test; a handler that keeps what it was called with."""

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
    """What a plain function that is attached to every event of these tests was called with."""
    seen: list[tuple[Any, ...]] = []
    bus.attach(
        "seen",
        [COMPLETED, *(("db", "query", end) for end in ("start", "stop", "exception"))],
        lambda *given: seen.append(given),
    )
    return seen
