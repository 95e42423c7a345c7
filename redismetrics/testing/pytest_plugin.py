"""Pytest fixtures, available wherever redismetrics is installed. Loaded on first use."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .captured import Captured
    from .clock import Clock


@pytest.fixture
def captured(request: pytest.FixtureRequest) -> "Iterator[Captured]":
    """Keep everything that this test records in memory; see `redismetrics.testing.Captured`.

    Uses the clock of the fixture `metrics_clock` if the test requests that too.
    """
    from .capturing import capture

    clock = (
        request.getfixturevalue("metrics_clock")
        if "metrics_clock" in request.fixturenames
        else None
    )
    with capture(clock=clock) as found:
        yield found


@pytest.fixture
def metrics_clock() -> "Clock":
    """A clock that the test can move: `metrics_clock.advance(60)`."""
    from .clock import Clock

    return Clock()
