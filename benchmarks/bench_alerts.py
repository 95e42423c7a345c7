"""What does evaluating alert rules cost?

    python -m benchmarks alerts [--quick]

Seconds of CPU of the evaluating process for one evaluation of a group: 1,000 rules over 20 metrics
of 1,000 series, of which 1 % are pending or fire. The rules of a group are evaluated in one call,
so that each metric is read once; beside it, each rule in a group of its own. And a group of ten
rules whose metrics have no series.
"""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import redismetrics
from benchmarks.common import Options, in_turn, main, own_server
from benchmarks.rows import Row
from redismetrics.alerts.options import AlertOptions
from redismetrics.alerts.start import make_service, store_engine
from redismetrics.store.connection import Store
from redismetrics.store.driver import Client

QUESTION = "What does evaluating alert rules cost?"
METRICS, SERIES, RULES = 20, 1000, 1000
INTERVAL_MS = 15_000


def record(metrics: redismetrics.Metrics) -> None:
    for metric in range(METRICS):
        metrics.declare(f"depth_{metric}", "gauge", max_tag_values=SERIES)
        for number in range(SERIES):
            metrics.gauge(f"depth_{metric}", number, tags={"queue": str(number)})
    metrics.flush(60)


def group(name: str, expressions: list[str]) -> str:
    rules = "".join(
        f"      - {{alert: A{number}, expr: '{each}', for: 1m}}\n"
        for number, each in enumerate(expressions)
    )
    return f"  - name: {name}\n    interval: 15s\n    rules:\n{rules}"


def evaluation(
    metrics: redismetrics.Metrics, client: Client, folder: Path, name: str, groups: list[str]
) -> Callable[[], float]:
    """Return a function that evaluates all *groups* once and returns seconds of CPU."""
    (folder / f"{name}.yml").write_text("groups:\n" + "".join(groups))
    runner = make_service(metrics, AlertOptions((str(folder / f"{name}.yml"),))).runner
    engine, at = store_engine(metrics), round(time.time() * 1000)

    def evaluate() -> float:
        nonlocal at
        runner.take_leases(client)
        at += INTERVAL_MS
        began = time.process_time()
        while runner.evaluate_next(client, engine, at):
            pass
        return time.process_time() - began

    # The first time expressions are parsed, and alerts begin.
    evaluate()
    return evaluate


def measure(options: Options) -> Iterator[Row]:
    # Alerts that begin to fire are logged as warnings.
    logging.getLogger("redismetrics").setLevel(logging.ERROR)
    count = 100 if options.quick else RULES
    some = [f"depth_{number % METRICS} >= {SERIES - 10}" for number in range(count)]
    with own_server(options.server) as (url, _), tempfile.TemporaryDirectory() as name:
        metrics = redismetrics.Metrics(url, namespace="alerts", flush_interval=3600)
        record(metrics)
        client = Store(url, 5.0).client()
        folder = Path(name)
        cases = {
            "together, in one group": [group("one", some)],
            "each in a group of its own": [
                group(f"g{number}", [each]) for number, each in enumerate(some)
            ],
            "ten rules on metrics without series": [
                group("silent", [f"nosuch_{number} > 0" for number in range(10)])
            ],
        }
        runs = {
            title: evaluation(metrics, client, folder, str(number), groups)
            for number, (title, groups) in enumerate(cases.items())
        }
        for title, figures in in_turn(runs, options.runs).items():
            rules = "" if title.startswith("ten") else f"{count} rules, "
            yield Row(f"{rules}{title}", "s CPU", figures)
        metrics.close()


if __name__ == "__main__":
    main(QUESTION, measure)
