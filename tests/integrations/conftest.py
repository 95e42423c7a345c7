"""A client for tests of the middleware, which need no server."""

from collections.abc import Iterator

import pytest

from redismetrics import Metrics


@pytest.fixture
def offline_metrics() -> Iterator[Metrics]:
    """A client of a server that does not exist."""
    metrics = Metrics("redis://127.0.0.1:1", flush_interval=3600)
    yield metrics
    metrics.close(0)
