"""Programs that use prometheus_client over Redis, each in a process of its own."""

import pytest

from tests.fixtures.programs import Programs

pytest.importorskip("prometheus_client")


@pytest.fixture
def programs(url: str, namespace: str) -> Programs:
    """Run Python code with the wrapper installed, in this test's namespace."""
    return Programs(url, namespace)
