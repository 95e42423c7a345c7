"""A web application with metrics: requests, a custom histogram, and /metrics for Prometheus.

Start it, send it requests, and print what was measured:

    python examples/fastapi_app.py --seconds 3

Serve it with several processes, which share one set of metrics:

    uvicorn --app-dir examples fastapi_app:app --workers 4

Needs redismetrics[embedded], fastapi and uvicorn. Uses the server in REDISMETRICS_URL, otherwise
the embedded server.
"""

import argparse
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, HTTPException, Request

import redismetrics as rm
from redismetrics.export import asgi_app
from redismetrics.integrations.asgi import MetricsMiddleware

PRICES = {"apple": 0.4, "bread": 2.8, "wine": 12.5}

# Bound once, used by every request. This does no I/O, so importing the module is safe.
baskets = rm.Histogram("basket_euros")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Runs in each worker process before its first request: define the metric and its buckets.
    rm.declare(
        "basket_euros",
        "histogram",
        unit="euros",
        help="Value of an order",
        buckets=[1, 5, 10, 50, 100],
    )
    # Queries of this client do not block the event loop.
    async with rm.AsyncMetrics() as app.state.metrics:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/orders/{customer}")
async def order(customer: int, items: list[str]) -> dict[str, float]:
    if not set(items) <= set(PRICES):
        raise HTTPException(404, "no such thing here")
    worth = sum(PRICES[item] for item in items)
    # A list append, nothing to await. Each tag value creates a series, so the country is a good
    # tag and the customer is not.
    baskets.with_tags(country="de" if customer % 3 else "fr").record(worth)
    return {"euros": worth}


@app.get("/summary")
async def summary(request: Request) -> dict[str, dict[str, float]]:
    """Return what all processes on all machines sold in the last hour."""
    metrics: rm.AsyncMetrics = request.app.state.metrics
    return await metrics.rollup(
        "basket_euros", group_by="country", aggregations=["count", "sum", "p95"], window="last_hour"
    )


app.mount("/metrics", asgi_app())
# Added last, so that it is the outermost middleware and measures everything.
app.add_middleware(MetricsMiddleware)


# -- send requests, so that the example shows something --------------------------------------------


def visit(address: str, seconds: float) -> int:
    """Place random orders, some of unknown items; return how many succeeded."""
    placed = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        items = random.choices([*PRICES, "caviar"], [30, 10, 5, 1], k=random.randint(1, 4))
        body = str(items).replace("'", '"').encode()
        request = urllib.request.Request(
            f"{address}/orders/{random.randrange(1000)}", body, {"Content-Type": "application/json"}
        )
        try:
            urllib.request.urlopen(request).close()
            placed += 1
        except urllib.error.HTTPError as error:
            error.close()
        time.sleep(0.01)
    return placed


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Serve a shop, place orders, and print the metrics."
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="how long (default: %(default)g)"
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="on localhost (default: %(default)d)"
    )
    given = parser.parse_args()
    address = f"http://127.0.0.1:{given.port}"

    began = time.time()
    server = uvicorn.Server(uvicorn.Config(app, port=given.port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    if not server.started:
        raise SystemExit(f"cannot serve on {address}")

    placed = visit(address, given.seconds)
    with urllib.request.urlopen(f"{address}/metrics/") as page:
        lines = [
            line
            for line in page.read().decode().splitlines()
            if line.startswith("basket_euros_bucket")
        ]
    server.should_exit = True
    thread.join()

    # Only this run.
    window = (began, None)
    print(f"{placed} orders were placed.\n")
    print(
        "requests by status:",
        rm.query("http_requests", aggregation="sum", group_by="status", window=window),
    )
    p95 = rm.query(
        "http_request_duration_seconds",
        aggregation="p95",
        tags={"endpoint": "/orders/{customer}"},
        window=window,
    )
    print(f"95 % of the orders took at most {p95:.4f} s")
    for country, row in rm.rollup("basket_euros", group_by="country", window=window).items():
        print(f"{row['count']} orders from {country}, of {row['mean']:.2f} euros on average")
    print("\nThe buckets on the Prometheus page:\n", *lines, sep="\n")


if __name__ == "__main__":
    main()
