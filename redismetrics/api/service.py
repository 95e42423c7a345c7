"""Shared by all endpoints: the client, the limits, and the thread pools that run requests."""

import asyncio
import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from redismetrics.client.async_metrics import AsyncMetrics
from redismetrics.client.base import Client
from redismetrics.client.metrics import Metrics
from redismetrics.errors import RedisMetricsError
from redismetrics.exposition.compression import compress
from redismetrics.queries import catalog

from .cached_answers import CachedAnswers
from .idempotency import IdempotencyKeys
from .limits import Limits
from .log_limits import log
from .request_body import Bodies
from .sending import HeldResponse, UnsentBytes
from .sse import OpenStreams
from .unsettled import UnsettledRequests

T = TypeVar("T")

# Seconds to wait for samples to be stored at shutdown. Container runtimes kill after 10 s.
SHUTDOWN_SECONDS = 5.0
# Rows of a result above which results are rendered one after another.
_MANY_ROWS = 1_000


class ConcurrencyLimiter:
    """Bounded thread pool for requests of one kind.

    Runs `max_concurrent` requests, queues up to `max_queued` more, and rejects the rest with 503. A
    request takes a slot (``async with``, or `enter` and `leave`) after its body has been read, so
    that slow senders do not block others. A query keeps its slot until its response is sent.
    """

    def __init__(self, kind: str, limits: Limits, max_concurrent: int | None = None) -> None:
        self._kind = kind
        self._max_concurrent = max_concurrent or limits.max_concurrent
        self._max_queued = limits.max_queued
        self._inside = 0
        self._threads: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        """Return the number of running and waiting requests."""
        return self._inside

    async def __aenter__(self) -> "ConcurrencyLimiter":
        self.enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    def enter(self) -> None:
        """Take a slot.

        Raises:
            HTTPException: 503 if no slot is free.
        """
        if self._inside >= self._max_concurrent + self._max_queued:
            raise HTTPException(
                503,
                f"too many {self._kind}: {self._max_concurrent} are running "
                "(limit max_concurrent) "
                f"and {self._max_queued} are waiting (limit max_queued); retry later",
            )
        self._inside += 1

    def leave(self) -> None:
        """Release a slot."""
        self._inside -= 1

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Run *call* in a thread; only inside ``async with``."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(
                self._max_concurrent, f"redismetrics-{self._kind}".replace(" ", "-")
            )
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    def close(self) -> None:
        """Stop the idle threads, without waiting for busy ones."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False)


class Service:
    """The client, limits, thread pools and open streams of one application.

    Queries use the blocking client in threads. Reading and merging a day of 1,000 series, or
    writing 50,000 rows as JSON, takes tenths of a second; in the event loop, it would block all
    other requests for that time. Streams use the async client in the event loop.
    """

    def __init__(self, metrics: Client, limits: Limits) -> None:
        self.metrics = Metrics(metrics=metrics)
        self.metrics.internals.limit_rows(limits.max_rows)
        self.ametrics = AsyncMetrics(metrics=metrics)
        self.limits = limits
        self.queries = ConcurrencyLimiter("queries", limits)
        # One at a time, because each may take a lot of memory, and separate from other queries, so
        # that those need not wait.
        self.large_queries = ConcurrencyLimiter("large queries", limits, 1)
        self.pages = ConcurrencyLimiter("pages", limits, 1)
        self.recordings = ConcurrencyLimiter("recordings", limits)
        self.bodies = Bodies(limits)
        self.unsent = UnsentBytes(limits.unsent_bytes)
        self._rendering = threading.Lock()
        self.cached_answers = CachedAnswers()
        self.open_streams = OpenStreams(limits.max_streams)
        self.keys = IdempotencyKeys(self.metrics, limits.max_idempotency_keys)
        self.unsettled = UnsettledRequests(self.ametrics, self.keys)

    async def aclose(self) -> None:
        """Send recorded samples; close the streams, threads and own connections.

        The client that was passed in stays open. Many servers end their process right afterwards
        with a signal, without running exit handlers, so this is the last chance to send.
        """
        self.open_streams.close()
        for limiter in (self.queries, self.large_queries, self.pages, self.recordings):
            limiter.close()
        try:
            await self.ametrics.internals.asettle(SHUTDOWN_SECONDS)
        except RedisMetricsError as error:
            log.warning(
                "%d recorded samples are not stored yet at shutdown: %s",
                self.metrics.stats()["pending"],
                error,
            )
        await self.unsettled.aclose()
        await self.ametrics.aclose()
        await asyncio.to_thread(self.metrics.internals.leave_embedded, SHUTDOWN_SECONDS)

    async def run_query(
        self,
        request: Request,
        query: Callable[[], Any],
        limiter: ConcurrencyLimiter | None = None,
    ) -> HeldResponse:
        """Run *query* in a thread; return its result as JSON, or unchanged if it is a `Response`.

        *limiter* defaults to that of ordinary queries. The request keeps its slot, and the bytes of
        its response count, until they are sent.
        """
        # Not `or`: a limiter without requests is false.
        limiter = self.queries if limiter is None else limiter
        limiter.enter()
        key = self.unsent.open()

        def release() -> None:
            limiter.leave()
            self.unsent.close(key)

        def work() -> Response:
            if limiter is not self.queries:
                self.unsent.check()
            result = query()
            # Large results one after another: their text takes a lot of memory, and they hold the
            # GIL anyway.
            if _is_large(result):
                with self._rendering:
                    text = encode_and_free(result)
                    response = Response(text, media_type="application/json")
                    del text
                    response = compressed(request, response)
            else:
                response = result if isinstance(result, Response) else json_response(result)
                response = compressed(request, response)
            try:
                self.unsent.claim(key, len(response.body))
            except HTTPException:
                # The traceback keeps this frame, until the garbage collector finds it.
                del response, result
                raise
            return response

        try:
            response = await limiter.run(work)
        except BaseException:
            release()
            raise
        return HeldResponse(response, release)

    def now(self) -> float:
        """Return the time of the client's clock, in Unix seconds."""
        return self.metrics.internals.clock()

    def check_store(self) -> None:
        """Raise `StoreUnavailable` if Redis does not answer. Blocks."""
        self.metrics.internals.check_store()

    async def acheck_store(self) -> None:
        """Raise `StoreUnavailable` if Redis does not answer. Does not wait for queries."""
        await self.ametrics.internals.acheck_store()

    def check_series(self, name: str | None) -> None:
        """Raise 413 if a query of *name*, or of all metrics, would read too many series. Blocks."""
        internals = self.metrics.internals
        count = internals.run(catalog.series_count(internals.query_context, name), flush=True)
        if count > self.limits.max_series:
            queried = "all metrics" if name is None else repr(name)
            raise HTTPException(
                413,
                f"{queried}: a query must read at most {self.limits.max_series} series "
                f"(limit max_series), got {count}",
            )


def _is_large(result: Any) -> bool:
    """Return whether a result has so many rows that rendering it needs much memory."""
    return isinstance(result, dict) and any(
        isinstance(each, list | dict) and len(each) > _MANY_ROWS for each in result.values()
    )


def compressed(request: Request, response: Response) -> Response:
    """Return *response*, with its body compressed if the client accepts that."""
    response.headers.add_vary_header("Accept-Encoding")
    accepted = ",".join(request.headers.getlist("accept-encoding"))
    body = compress(bytes(response.body), accepted)
    if body is not None:
        response.body = body
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Content-Length"] = str(len(body))
    return response


def json_response(value: Any, status: int = 200) -> Response:
    """Return *value* as a JSON response."""
    return Response(_encode(value), status, media_type="application/json")


def _encode(value: Any) -> bytes:
    return Metrics.to_json(value).encode("utf-8", "replace")


def encode_and_free(result: dict[str, Any]) -> bytes:
    """Return *result* as JSON, emptying its lists on the way.

    This keeps a large result and its text from being in memory at the same time.
    """
    text = io.BytesIO()
    for number, (key, value) in enumerate(result.items()):
        text.write(b"%b%b: " % (b", " if number else b"{", _encode(key)))
        if not isinstance(value, list):
            text.write(_encode(value))
            continue
        text.write(b"[")
        value.reverse()
        while value:
            text.write(_encode(value.pop()))
            text.write(b", " if value else b"")
        text.write(b"]")
    text.write(b"}")
    return text.getvalue()


def error_response(code: int, name: str, message: str, headers: Any = None) -> Response:
    """Return an error in the form used by all JSON endpoints: `error` and `message`."""
    response = json_response({"error": name, "message": message}, code)
    response.headers.update(headers or {})
    return response
