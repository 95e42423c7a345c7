"""Distributions of values that tests of digests and percentiles share."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from redismetrics import Metrics

RANKS = (0, 1, 5, 12.5, 25, 50, 75, 90, 95, 99, 99.9, 100)


VALUES, FLUSHES = 100_000, 20


FINITE = st.floats(-1e12, 1e12) | st.integers(-5, 5).map(float)


def bimodal(rng: np.random.Generator) -> Any:
    return np.concatenate(
        [rng.normal(10, 1, VALUES * 7 // 10), rng.normal(1000, 50, VALUES * 3 // 10)]
    )


DISTRIBUTIONS: dict[str, Any] = {
    "normal": lambda rng: rng.normal(100, 15, VALUES),
    "lognormal": lambda rng: rng.lognormal(3, 1, VALUES),
    "pareto": lambda rng: 1 + rng.pareto(1.5, VALUES),
    "uniform": lambda rng: rng.uniform(0, 1000, VALUES),
    "bimodal": bimodal,
}


@pytest.fixture(scope="module")
def metrics(request: pytest.FixtureRequest) -> Iterator[Metrics]:
    server = request.getfixturevalue("server")
    with Metrics(server.url, namespace="test_digest", flush_interval=3600) as metrics:
        yield metrics


def recorded(metrics: Metrics, name: str) -> Any:
    """Record a distribution as a histogram in several flushes; return its values in order."""
    rng = np.random.default_rng(20)
    values = DISTRIBUTIONS[name](rng)
    rng.shuffle(values)
    for part in np.array_split(values, FLUSHES):
        for value in part.tolist():
            metrics.histogram(name, value)
        metrics.flush()
    return values
