"""The HTTP application with an OTLP receiver."""

from collections.abc import Iterator

import pytest

from redismetrics import Metrics


@pytest.fixture
def at(metrics: Metrics) -> Iterator[str]:
    """The address of an application that records with `metrics`."""
    from redismetrics.api.app import create_app
    from tests.fixtures.webserver import running

    with running(create_app(metrics, allow_write=True)) as address:
        yield address
