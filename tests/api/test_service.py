"""The thread pools that run requests."""

import asyncio
import threading
from collections.abc import Callable

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")

httpx = pytest.importorskip("httpx", reason="needs httpx")

from starlette.exceptions import HTTPException

from redismetrics import Metrics
from redismetrics.api.app import create_app
from redismetrics.api.limits import Limits
from redismetrics.api.service import ConcurrencyLimiter
from tests.fixtures.servers import PATIENCE, PATIENT, Server, wait_until
from tests.fixtures.webserver import error_message, running

NEVER = 3600.0


def test_slow_queries_are_limited_and_block_no_other_requests(
    fresh_server: Callable[..., Server],
) -> None:
    server = fresh_server()
    limits = Limits(max_concurrent=2, max_queued=1)
    with Metrics(server.url, flush_interval=NEVER, socket_timeout=3) as metrics:
        app = create_app(metrics, limits=limits)
        with running(app) as at, httpx.Client(base_url=at, **PATIENT) as web:
            server.pause()
            codes: list[int] = []
            threads = [
                threading.Thread(
                    target=lambda: codes.append(httpx.get(f"{at}/api/names", **PATIENT).status_code)
                )
                for _ in range(3)
            ]
            for thread in threads:
                thread.start()
            wait_until(lambda: len(app.state.service.queries) == 3, "all places are taken")
            refused = web.get("/api/names")
            assert "too many queries: 2 are running (limit max_concurrent)" in error_message(
                refused, 503
            )
            assert refused.headers["retry-after"] == "1"
            assert web.get("/healthz").status_code == 200
            server.resume()
            for thread in threads:
                thread.join(PATIENCE)
            assert set(codes) <= {200, 503}
            assert len(codes) == 3
            assert web.get("/api/names").status_code == 200


def test_cancelled_and_finished_calls_free_their_slots() -> None:
    async def scenario() -> None:
        limiter = ConcurrencyLimiter("things", Limits(max_concurrent=1, max_queued=1))
        release = threading.Event()

        async def hold() -> bool:
            async with limiter:
                return await limiter.run(release.wait, PATIENCE)

        held = [asyncio.create_task(hold()) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(HTTPException, match="too many things"):
            await hold()
        held[1].cancel()
        await asyncio.wait([held[1]])
        release.set()
        assert await hold()
        assert await held[0]
        limiter.close()
        assert await hold()
        limiter.close()

    asyncio.run(scenario())
