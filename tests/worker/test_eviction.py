"""Workers warn about servers that evict keys."""

from collections.abc import Callable

import pytest
import redis

from tests.fixtures.servers import Server
from tests.worker.tools import Make

# Far above what a test stores.
LIMIT = str(1 << 30)
RIGHTS = ("resetchannels", "~rm:*", "+@read", "+@write", "+time", "+evalsha", "+script|load")


@pytest.fixture
def limited(fresh_server: Callable[..., Server]) -> Server:
    """A server with a memory limit."""
    server = fresh_server()
    with server.client() as client:
        client.config_set("maxmemory", LIMIT)
    return server


@pytest.mark.parametrize(
    ("policy", "limit", "count"),
    [("allkeys-lru", LIMIT, 1), ("noeviction", LIMIT, 0), ("allkeys-lru", "0", 0)],
)
def test_a_worker_warns_once_about_a_server_that_evicts(
    make: Make,
    limited: Server,
    caplog: pytest.LogCaptureFixture,
    policy: str,
    limit: str,
    count: int,
) -> None:
    with limited.client() as client:
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", limit)
    worker = make(limited.url)
    worker.pass_once()
    worker.pass_once()
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == count
    assert all(policy in text and "noeviction" in text for text in warnings)


def test_a_worker_needs_no_right_to_info(
    make: Make, limited: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with limited.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.execute_command("ACL", "SETUSER", "default", "reset", "on", "nopass", *RIGHTS)
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.info("memory")
    make(limited.url).pass_once()
    assert caplog.records == []
