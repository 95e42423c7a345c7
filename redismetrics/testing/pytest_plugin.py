"""The fixtures that pytest has wherever redismetrics is installed. Light: nothing is loaded before a test asks for one."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .captured import Captured
    from .clock import Clock


@pytest.fixture
def captured(request: pytest.FixtureRequest) -> "Iterator[Captured]":
    """What is recorded during this test, kept in memory instead of sent; see `redismetrics.testing.Captured`.

    Goes by the fixture `metrics_clock` where the test asks for that too.
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
    """A clock that the test moves: `metrics_clock.advance(60)`."""
    from .clock import Clock

    return Clock()
