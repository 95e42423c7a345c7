"""Jobs done by several processes: how long they take, which fail, how many wait. Any process may ask for all of them.

    python examples/job_runner.py --seconds 3 --processes 4

Needs redismetrics[embedded]. REDISMETRICS_URL says which store, else it is the embedded server.
"""

import argparse
import multiprocessing
import random
import time
from typing import Any

import redismetrics as rm

# Made at import, so every process has them, whether it is forked or spawned; each records by itself, and the store adds up.
depth = rm.Gauge("queue_depth")
failures = rm.Counter("job_failures")


class Unlucky(Exception):
    """A job failed."""


# Records the time of each run in milliseconds, also of those that raise: with status="ok", or the error's class.
@rm.measure("job_duration", outcome_tag="status")
def do(kind: str) -> None:
    time.sleep(random.uniform(0.001, 0.004) if kind == "mail" else random.uniform(0.005, 0.015))
    if random.random() < 0.05:
        raise Unlucky(kind)


def work(jobs: Any) -> None:
    """Do jobs until there are no more; runs in a process of its own."""
    while (kind := jobs.get()) is not None:
        try:
            do(kind)
        except Unlucky:
            failures.with_tags(kind=kind).increment()
    # Nothing to close: at its end a process sends what it still holds.


def main() -> None:
    parser = argparse.ArgumentParser(description="Do jobs in several processes, and tell how it went.")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long jobs come in (default: %(default)g)")
    parser.add_argument("--processes", type=int, default=4, help="that work (default: %(default)d)")
    given = parser.parse_args()

    rm.declare("job_duration", "histogram", unit="ms", help="Time that a job took")
    began = time.time()
    jobs: Any = multiprocessing.Queue()
    workers = [multiprocessing.Process(target=work, args=(jobs,)) for _ in range(given.processes)]
    for worker in workers:
        worker.start()

    submitted = 0
    until = time.monotonic() + given.seconds
    while time.monotonic() < until:
        for _ in range(random.randint(1, 2 * given.processes)):  # they come in bursts, so that some have to wait
            jobs.put(random.choice(["mail", "report"]))
            submitted += 1
        depth.set(jobs.qsize())  # one process tells, since all would tell the same
        time.sleep(0.02)
    for _ in workers:
        jobs.put(None)
    for worker in workers:
        worker.join()
    depth.set(jobs.qsize())

    window = (began, None)  # of this run alone
    print(f"{submitted} jobs were submitted to {given.processes} processes.\n")
    print(f"{'status':<10}{'jobs':>8}{'mean ms':>10}{'p95 ms':>10}")
    rows = rm.rollup("job_duration", group_by="status", aggregations=["count", "mean", "p95"], window=window)
    for status, row in rows.items():
        print(f"{status:<10}{row['count']:>8}{row['mean']:>10.1f}{row['p95']:>10.1f}")
    print("\nfailed, by kind:      ", rm.query("job_failures", aggregation="sum", group_by="kind", window=window))
    print(f"waiting at the worst:  {rm.query('queue_depth', aggregation='max', window=window):.0f}")
    print(f"waiting now:           {rm.query('queue_depth', aggregation='last', window=window):.0f}")


if __name__ == "__main__":
    main()
