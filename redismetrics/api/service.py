"""What every endpoint works with: the client's two faces, the limits, and how requests are worked on beside each other."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.responses import Response

from redismetrics.client.async_metrics import AsyncMetrics
from redismetrics.client.base import Client
from redismetrics.client.metrics import Metrics
from redismetrics.errors import InvalidSetting
from redismetrics.queries import catalog
from redismetrics.store import server
from redismetrics.store.driver import arun, run

from .sse import Streams

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for or bring; what is beyond is answered by 400 or 413 and a sentence with the limit.

    *window_seconds* is the longest window, *series* how many series a question may read, *points* how many rows an answer may
    have, *samples* how many of `/api/metrics`, *values* how often a parameter may be given. Of questions, and of requests that
    record, *at_once* are worked on and *waiting* wait for that. *streams* may be open at once, each with up to *stream_queue*
    events waiting for a slow reader, and a comment after *heartbeat* seconds of silence. *body_bytes* bounds what is sent, before
    and after decompression, *body_seconds* how long that may take, *batch* how many samples one request records.
    *recorded_names* and *recorded_series* are how many this process holds before no others may be brought, *otlp_streams* how
    many OpenTelemetry streams are remembered.
    """

    window_seconds: float = 366 * 86_400.0
    series: int = 20_000
    points: int = 50_000
    samples: int = 10_000
    values: int = 32
    at_once: int = 8
    waiting: int = 64
    streams: int = 100
    stream_queue: int = 1_000
    heartbeat: float = 15.0
    body_bytes: int = 4 << 20
    body_seconds: float = 30.0
    batch: int = 10_000
    recorded_names: int = 10_000
    recorded_series: int = 200_000
    otlp_streams: int = 100_000

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            whole = limit.type is int
            if (
                isinstance(value, bool)
                or not isinstance(value, int if whole else (int, float))
                or not value > 0
            ):
                wanted = "whole number" if whole else "number"
                raise InvalidSetting(f"{limit.name}: wanted a {wanted} above 0, got {value!r:.60}")


class ConcurrencyLimiter:
    """Lets requests of one kind be worked on in threads, so many at once; a few more wait, and others are sent away."""

    def __init__(self, what: str, limits: Limits) -> None:
        self._what = what
        self._most = limits.at_once + limits.waiting
        self._inside = 0
        self._at_once = limits.at_once
        self._threads: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> "ConcurrencyLimiter":
        if self._inside >= self._most:
            raise HTTPException(
                503,
                f"{self._what}: wanted at most {self._most} (the limits at_once and waiting), got one more",
            )
        self._inside += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._inside -= 1

    async def work(self, call: Callable[..., T], *args: Any) -> T:
        """Call it in a thread, for one that is inside."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._at_once, f"redismetrics-{self._what}")
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)

    def close(self) -> None:
        """End the threads that are idle, and the others when they are done."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False)


class Service:
    """One application's client, limits, gates and open streams.

    Questions are asked by the blocking face, in threads: to read and merge a day of 1,000 series, or to write 50,000 rows as
    JSON, takes tenths of a second, in which an event loop would answer nobody else. Streams go by the other face, in the loop.
    """

    def __init__(self, metrics: Client, limits: Limits) -> None:
        self.metrics = Metrics(metrics=metrics)
        self.metrics.internals.limit_rows(limits.points)
        self.ametrics = AsyncMetrics(metrics=metrics)
        self.limits = limits
        self.questions = ConcurrencyLimiter("questions", limits)
        self.recordings = ConcurrencyLimiter("recordings", limits)
        self.streams = Streams(limits.streams)

    async def aclose(self) -> None:
        """End what this holds; the client's recorder and connections are those of whoever made it."""
        self.streams.close()
        self.questions.close()
        self.recordings.close()
        await self.ametrics.aclose()

    async def ask(self, question: Callable[[], Any]) -> Response:
        """Ask in a thread; answer with what it returns, as JSON or, if it is one already, as the response that it is."""

        def work() -> Response:
            found = question()
            return found if isinstance(found, Response) else answer(found)

        async with self.questions as gate:
            return await gate.work(work)

    def now(self) -> float:
        """The client's clock, Unix seconds."""
        return self.metrics._recorder.clock()

    def check_store(self) -> None:
        """Raise `StoreUnavailable` where the store doesn't answer now; blocks."""
        run(self.metrics._store.client(), server.now())

    async def acheck_store(self) -> None:
        """`check_store` in the event loop, where no question is before it."""
        await arun(await self.ametrics._loops.client(), server.now())

    def check_series(self, name: str | None) -> None:
        """Refuse a question that would read too many series; blocks."""
        count = self.metrics._ask(catalog.series_count(self.metrics._context, name))
        if count > self.limits.series:
            of = "all metrics" if name is None else repr(name)
            raise HTTPException(
                413,
                f"{of}: wanted at most {self.limits.series} series (the limit series), got {count}",
            )


def answer(value: Any, status: int = 200) -> Response:
    """*value* as JSON."""
    return Response(
        Metrics.to_json(value).encode("utf-8", "replace"), status, media_type="application/json"
    )
