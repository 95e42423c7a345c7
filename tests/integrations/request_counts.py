"""Send requests to an ASGI application, and count what the middleware recorded."""

import asyncio
from collections import Counter as Tally
from typing import Any

from redismetrics.testing import Captured

RequestCounts = dict[tuple[str, str, str], int]


def request_counts(captured: Captured) -> RequestCounts:
    """Return the number of requests by method, endpoint and status.

    Assert that the counter and the histogram agree.
    """
    counted: Tally[tuple[str, str, str]] = Tally()
    timed: Tally[tuple[str, str, str]] = Tally()
    for sample in captured.samples():
        tags = sample.tags
        series = (tags["method"], tags["endpoint"], tags["status"])
        (counted if sample.name == "http_requests" else timed)[series] += sample.count
    assert counted == timed
    return dict(counted)


def run_asgi(app: Any, **more: Any) -> list[Any]:
    """Serve one request; return the messages that *app* sent. *more* is added to the scope."""
    sent: list[Any] = []

    async def serve() -> None:
        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/a",
            "root_path": "",
            "headers": [],
            **more,
        }
        await app(scope, None, send)

    asyncio.run(serve())
    return sent
