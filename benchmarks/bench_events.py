"""What do a telemetry event and a request through the middleware cost?

    python benchmarks/bench_events.py [--json] [--quick]

One result a line: microseconds an event (median and best of rounds) with no handler and with one, and microseconds that the ASGI
and the WSGI middleware add to a request, beside the same application without them.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from common import arguments, machine, median, own_server, rounds, show

import redismetrics
from redismetrics import telemetry
from redismetrics.integrations import asgi, wsgi

EVENT, GAUGE, NOBODY = ("work", "job", "completed"), ("queue", "depth"), ("nobody", "listens")


def events(metrics: redismetrics.Metrics, times: int, calls: int) -> list[dict[str, Any]]:
    telemetry.attach_telemetry([(EVENT, "counter"), (GAUGE, "gauge")], metrics=metrics)
    execute, measured, depth, metadata = telemetry.execute, {"count": 1}, {"depth": 4.0}, {"tenant": "cns", "n": 7}

    def loop(event: tuple[str, ...], measurements: dict[str, Any]) -> float:
        began = time.perf_counter()
        for _ in range(calls):
            execute(event, measurements, metadata)
        took = time.perf_counter() - began
        metrics.flush(60)
        return took / calls * 1e6

    cases = {
        "event without a handler": (NOBODY, measured),
        "event to a counter": (EVENT, measured),
        "event to a gauge": (GAUGE, depth),
    }
    return [row(title, rounds(lambda of=of: loop(*of), times)) for title, of in cases.items()]


def row(title: str, figures: list[float]) -> dict[str, Any]:
    return {"what": title, "median us": median(figures), "best us": figures[0]}


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
    async def ask() -> float:
        began = time.perf_counter()
        for _ in range(calls):
            await app({"type": "http", "method": "GET", "path": "/users/7", "root_path": ""}, None, _nothing)
        return time.perf_counter() - began

    return asyncio.run(ask()) / calls * 1e6


def wsgi_requests(app: Any, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        body = app({"REQUEST_METHOD": "GET"}, lambda *_: _nothing)
        list(body)
        if hasattr(body, "close"):
            body.close()
    return (time.perf_counter() - began) / calls * 1e6


def added(
    title: str, ask: Callable[[Any, int], float], bare: Any, whole: Any, times: int, calls: int
) -> dict[str, Any]:
    return row(title, rounds(lambda: ask(whole, calls) - ask(bare, calls), times))


def main() -> None:
    options = arguments(__doc__)
    times, calls = (3, 2_000) if options.quick else (9, 20_000)
    with own_server(options.server) as (url, _):
        metrics = redismetrics.Metrics(url, namespace="events", flush_interval=3600)
        rows = events(metrics, times, calls)
        whole = asgi.MetricsMiddleware(served, metrics=metrics)
        rows.append(added("ASGI middleware, a request", asgi_requests, served, whole, times, calls))
        around = wsgi.MetricsMiddleware(answered, metrics=metrics, endpoint=lambda environ: "/users/<id>")
        rows.append(added("WSGI middleware, a request", wsgi_requests, answered, around, times, calls))
        metrics.close()
        show(options, machine(url), rows)


if __name__ == "__main__":
    main()
