"""What every endpoint works with: the client, the limits, and how a question is asked without holding up the event loop."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from redismetrics import operations, reader
from redismetrics.client import Metrics
from redismetrics.drive import run
from redismetrics.errors import InvalidSetting

from .sse import Streams

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for or bring; what is beyond is answered by 400 or 413 and a sentence with the limit.

    *window_seconds* is the longest window, *series* how many series a question may read, *points* how many rows an answer may
    have, *samples* how many of `/api/metrics`. *streams* may be open at once, each with up to *stream_queue* samples waiting
    for a slow reader, and a comment after *heartbeat* seconds of silence. *body_bytes* bounds what is sent, before and after
    decompression, *batch* how many samples one request records. *otlp_streams* is how many OpenTelemetry streams are
    remembered.
    """

    window_seconds: float = 366 * 86_400.0
    series: int = 20_000
    points: int = 50_000
    samples: int = 10_000
    streams: int = 100
    stream_queue: int = 1_000
    heartbeat: float = 15.0
    body_bytes: int = 4 << 20
    batch: int = 10_000
    otlp_streams: int = 100_000

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            whole = limit.type is int
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not value > 0:
                wanted = "whole number" if whole else "number"
                raise InvalidSetting(f"{limit.name}: wanted a {wanted} above 0, got {value!r:.60}")


class Service:
    """One application's client, limits and open streams."""

    def __init__(self, metrics: Metrics, limits: Limits) -> None:
        self.metrics = metrics
        self.limits = limits
        self.streams = Streams(limits.streams)

    async def ask(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Ask or record in a thread: the client waits for its socket."""
        return await run_in_threadpool(call, *args, **kwargs)

    def now(self) -> float:
        """The client's clock, Unix seconds."""
        return self.metrics._recorder.clock()

    def check_store(self) -> None:
        """Raise `StoreUnavailable` where the store doesn't answer now; blocks."""
        run(self.metrics._store.client(), operations.now())

    async def check_series(self, name: str | None) -> None:
        """Refuse a question that would read too many series."""
        count = await self.ask(self.metrics._ask, reader.series_count(self.metrics._place, name))
        if count > self.limits.series:
            of = "all metrics" if name is None else repr(name)
            raise HTTPException(
                413, f"{of}: wanted at most {self.limits.series} series (the limit series), got {count}"
            )

    def check_rows(self, count: int) -> None:
        """Refuse an answer of too many rows."""
        if count > self.limits.points:
            raise HTTPException(
                413, f"answer: wanted at most {self.limits.points} rows (the limit points), got {count}: ask a shorter "
                "window, a wider interval or fewer groups",
            )  # fmt: skip


def answer(value: Any, status: int = 200) -> Response:
    """*value* as JSON."""
    return Response(Metrics.to_json(value).encode("utf-8", "replace"), status, media_type="application/json")
