"""What do a telemetry event and a request through the middleware cost?

    python -m benchmarks events [--quick]

Microseconds per event without a handler and with one, and microseconds that the ASGI and the WSGI
middleware add to a request: each run calls the application with and without the middleware and
takes the difference.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import redismetrics
from benchmarks.common import Options, Row, in_turn, main, own_server
from redismetrics.integrations import asgi, wsgi
from redismetrics.telemetry import bus, handlers

QUESTION = "What do a telemetry event and a request through the middleware cost?"
EVENT, GAUGE, NOBODY = ("work", "job", "completed"), ("queue", "depth"), ("nobody", "listens")


def events(metrics: redismetrics.Metrics, runs: int, calls: int) -> Iterator[Row]:
    handlers.attach_telemetry([(EVENT, "counter"), (GAUGE, "gauge")], metrics=metrics)
    execute, measured, depth, metadata = (
        bus.execute,
        {"count": 1},
        {"depth": 4.0},
        {"tenant": "cns", "n": 7},
    )

    def loop(event: tuple[str, ...], measurements: dict[str, Any]) -> float:
        began = time.perf_counter()
        for _ in range(calls):
            execute(event, measurements, metadata)
        took = time.perf_counter() - began
        metrics.flush(60)
        return took / calls * 1e6

    cases = {
        "event without a handler": lambda: loop(NOBODY, measured),
        "event to a counter": lambda: loop(EVENT, measured),
        "event to a gauge": lambda: loop(GAUGE, depth),
    }
    for title, figures in in_turn(cases, runs).items():
        yield Row(title, "us", figures)


class Route:
    path = "/users/{id}"


async def served(scope: Any, receive: Any, send: Any) -> None:
    scope["route"] = Route
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def answered(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [])
    return iter([b"hello"])


async def _nothing(message: Any) -> None:
    pass


def asgi_requests(app: Any, calls: int) -> float:
    async def run() -> float:
        began = time.perf_counter()
        for _ in range(calls):
            await app(
                {"type": "http", "method": "GET", "path": "/users/7", "root_path": ""},
                None,
                _nothing,
            )
        return time.perf_counter() - began

    return asyncio.run(run()) / calls * 1e6


def wsgi_requests(app: Any, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        body = app({"REQUEST_METHOD": "GET"}, lambda *_: _nothing)
        list(body)
        if hasattr(body, "close"):
            body.close()
    return (time.perf_counter() - began) / calls * 1e6


def added(
    title: str,
    requests: Callable[[Any, int], float],
    plain: Any,
    wrapped: Any,
    runs: int,
    calls: int,
) -> Row:
    """Return what the middleware of *wrapped* adds to a request."""

    def difference() -> float:
        return requests(wrapped, calls) - requests(plain, calls)

    return Row(title, "us", in_turn({"added": difference}, runs)["added"])


def measure(options: Options) -> Iterator[Row]:
    calls = 2_000 if options.quick else 20_000
    with own_server(options.server) as (url, _):
        metrics = redismetrics.Metrics(url, namespace="events", flush_interval=3600)
        yield from events(metrics, options.runs, calls)
        through = asgi.MetricsMiddleware(served, metrics=metrics)
        yield added(
            "ASGI middleware, added per request",
            asgi_requests,
            served,
            through,
            options.runs,
            calls,
        )
        around = wsgi.MetricsMiddleware(
            answered, metrics=metrics, endpoint=lambda environ: "/users/<id>"
        )
        yield added(
            "WSGI middleware, added per request",
            wsgi_requests,
            answered,
            around,
            options.runs,
            calls,
        )
        metrics.close()


if __name__ == "__main__":
    main(QUESTION, measure)
