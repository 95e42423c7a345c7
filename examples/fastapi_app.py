"""A web application that is measured: requests by the middleware, baskets by a histogram of its own, /metrics for Prometheus.

    python examples/fastapi_app.py --seconds 3                       it serves itself, visits itself, and tells what was measured
    uvicorn --app-dir examples fastapi_app:app --workers 4           for real: however many processes, one set of figures

Needs redismetrics[embedded], fastapi and uvicorn. REDISMETRICS_URL says which store, else it is the embedded server.
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

# Bound once, used by every request. No I/O happens here, so that importing the module is safe in any process.
baskets = rm.Histogram("basket_euros")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # In each worker, before its first request: what the metric is, and its buckets on the Prometheus page.
    rm.declare("basket_euros", "histogram", unit="euros", help="Worth of an order", buckets=[1, 5, 10, 50, 100])
    async with rm.AsyncMetrics() as app.state.metrics:  # asks without holding up the event loop
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/orders/{customer}")
async def order(customer: int, items: list[str]) -> dict[str, float]:
    if not set(items) <= set(PRICES):
        raise HTTPException(404, "no such thing here")
    worth = sum(PRICES[item] for item in items)
    # A list append, nothing to await. The country is a good tag, the customer is not: each tag value makes a series.
    baskets.with_tags(country="de" if customer % 3 else "fr").record(worth)
    return {"euros": worth}


@app.get("/summary")
async def summary(request: Request) -> dict[str, dict[str, float]]:
    """What all workers of all machines sold in the last hour."""
    metrics: rm.AsyncMetrics = request.app.state.metrics
    return await metrics.rollup(
        "basket_euros", group_by="country", aggregations=["count", "sum", "p95"], window="last_hour"
    )


app.mount("/metrics", asgi_app())
app.add_middleware(MetricsMiddleware)  # last, so that it stands outermost and times everything


# -- a visit, so that the example shows something ------------------------------------------------------------------


def visit(address: str, seconds: float) -> int:
    """Order this and that, sometimes what isn't there; return how many orders were placed."""
    placed = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        items = random.choices([*PRICES, "caviar"], [30, 10, 5, 1], k=random.randint(1, 4))
        body = str(items).replace("'", '"').encode()
        wanted = urllib.request.Request(
            f"{address}/orders/{random.randrange(1000)}", body, {"Content-Type": "application/json"}
        )
        try:
            urllib.request.urlopen(wanted).close()
            placed += 1
        except urllib.error.HTTPError as error:
            error.close()
        time.sleep(0.01)
    return placed


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a shop, visit it, and tell what was measured.")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long (default: %(default)g)")
    parser.add_argument("--port", type=int, default=8000, help="on localhost (default: %(default)d)")
    given = parser.parse_args()
    address = f"http://127.0.0.1:{given.port}"

    began = time.time()
    server = uvicorn.Server(uvicorn.Config(app, port=given.port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    if not server.started:
        raise SystemExit(f"can't serve on {address}")

    placed = visit(address, given.seconds)
    with urllib.request.urlopen(f"{address}/metrics/") as page:
        lines = [line for line in page.read().decode().splitlines() if line.startswith("basket_euros_bucket")]
    server.should_exit = True
    thread.join()

    window = (began, None)  # of this run alone
    print(f"{placed} orders were placed.\n")
    print("requests by status:", rm.query("http_requests", aggregation="sum", group_by="status", window=window))
    p95 = rm.query(
        "http_request_duration_seconds", aggregation="p95", tags={"endpoint": "/orders/{customer}"}, window=window
    )
    print(f"95 % of the orders took at most {p95:.4f} s")
    for country, row in rm.rollup("basket_euros", group_by="country", window=window).items():
        print(f"{row['count']} orders from {country}, of {row['mean']:.2f} euros on average")
    print("\nWhat Prometheus reads of them:\n", *lines, sep="\n")


if __name__ == "__main__":
    main()
