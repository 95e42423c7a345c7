"""Programs that use prometheus_client over Redis, each in a process of its own."""

from collections.abc import Callable

import pytest

from tests.fixtures.programs import Programs
from tests.fixtures.servers import Server

pytest.importorskip("prometheus_client")


@pytest.fixture
def programs(url: str, namespace: str) -> Programs:
    """Run Python code with the wrapper installed, in this test's namespace."""
    return Programs(url, namespace)


@pytest.fixture
def broker(fresh_server: Callable[..., Server]) -> str:
    """The URL of a server for tasks alone: the keys of a broker belong to no namespace."""
    return fresh_server().url
