"""Helpers shared by the tests of `AsyncMetrics`."""

from collections.abc import Callable, Coroutine
from typing import Any

from tests.fixtures.servers import Server

# A flush interval longer than any test: only the test flushes.
NEVER = 3_600.0

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def clients(server: Server) -> set[str]:
    """Return the ids of all connections but the one that asks.

    Those of earlier tests may be closing meanwhile.
    """
    with server.client() as client:
        return {each["id"] for each in client.client_list()} - {str(client.client_id())}
