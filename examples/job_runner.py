"""Measure jobs in several processes: durations, failures, queue depth.

Any process can query the metrics of all processes.

    python examples/job_runner.py --seconds 3 --processes 4

Needs redismetrics[embedded]. Uses the server in REDISMETRICS_URL, otherwise the embedded server.
"""

import argparse
import multiprocessing
import random
import time
from typing import Any

import redismetrics as rm

# Created at import, so that every process has them, forked or spawned. Each process records for
# itself, and Redis adds up the values.
depth = rm.Gauge("queue_depth")
failures = rm.Counter("job_failures")


class Unlucky(Exception):
    """A job failed."""


# Records the duration of each call in milliseconds. The tag `status` is "ok" or the class of the
# exception.
@rm.measure("job_duration", outcome_tag="status")
def do(kind: str) -> None:
    time.sleep(random.uniform(0.001, 0.004) if kind == "mail" else random.uniform(0.005, 0.015))
    if random.random() < 0.05:
        raise Unlucky(kind)


def work(jobs: Any) -> None:
    """Do jobs until the queue ends; runs in its own process."""
    while (kind := jobs.get()) is not None:
        try:
            do(kind)
        except Unlucky:
            failures.with_tags(kind=kind).increment()
    # No close() needed: a process sends its unsent samples when it ends.


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Do jobs in several processes and print their metrics."
    )
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="how long to submit jobs (default: %(default)g)"
    )
    parser.add_argument(
        "--processes", type=int, default=4, help="worker processes (default: %(default)d)"
    )
    given = parser.parse_args()

    rm.declare("job_duration", "histogram", unit="ms", help="Duration of a job")
    began = time.time()
    jobs: Any = multiprocessing.Queue()
    workers = [multiprocessing.Process(target=work, args=(jobs,)) for _ in range(given.processes)]
    for worker in workers:
        worker.start()

    submitted = 0
    until = time.monotonic() + given.seconds
    while time.monotonic() < until:
        # Jobs come in bursts, so that some have to wait.
        for _ in range(random.randint(1, 2 * given.processes)):
            jobs.put(random.choice(["mail", "report"]))
            submitted += 1
        # Only this process records the depth: it is the same for all.
        depth.set(jobs.qsize())
        time.sleep(0.02)
    for _ in workers:
        jobs.put(None)
    for worker in workers:
        worker.join()
    depth.set(jobs.qsize())

    # Only this run.
    window = (began, None)
    print(f"{submitted} jobs were submitted to {given.processes} processes.\n")
    print(f"{'status':<10}{'jobs':>8}{'mean ms':>10}{'p95 ms':>10}")
    rows = rm.rollup(
        "job_duration", group_by="status", aggregations=["count", "mean", "p95"], window=window
    )
    for status, row in rows.items():
        print(f"{status:<10}{row['count']:>8}{row['mean']:>10.1f}{row['p95']:>10.1f}")
    print(
        "\nfailed, by kind:      ",
        rm.query("job_failures", aggregation="sum", group_by="kind", window=window),
    )
    print(f"waiting at the worst:  {rm.query('queue_depth', aggregation='max', window=window):.0f}")
    print(
        f"waiting now:           {rm.query('queue_depth', aggregation='last', window=window):.0f}"
    )


if __name__ == "__main__":
    main()
