"""Count with prometheus_client in several processes, and show one page of all of them.

The code is that of prometheus_client; only `install()` is new. Half of the workers end before the
others begin, as recycled workers of gunicorn do, and the page has the jobs of all.

    python examples/prometheus_workers.py --seconds 2 --processes 4

Needs redismetrics[embedded,prometheus]. Uses the server in REDISMETRICS_URL, otherwise the embedded
server.
"""

import argparse
import multiprocessing
import os
import random
import time

from prometheus_client import Counter, Gauge, Histogram, Info, generate_latest

from redismetrics.compat.prometheus_client import install

install(os.environ.get("REDISMETRICS_URL", "embedded://"), os.environ.get("REDISMETRICS_NAMESPACE"))

jobs = Counter("jobs_total", "Jobs done", ["kind"])
took = Histogram("job_seconds", "Duration of a job", buckets=(0.001, 0.005, 0.01))
busy = Gauge("busy_workers", "Workers at work", multiprocess_mode="livesum")
build = Info("build", "What runs")


def work(seconds: float) -> int:
    """Do jobs for some time; return how many. Runs in its own process."""
    until, number = time.monotonic() + seconds, 0
    with busy.track_inprogress():
        while time.monotonic() < until:
            number += 1
            with took.time():
                time.sleep(random.uniform(0.0005, 0.004))
            jobs.labels(random.choice(["mail", "report"])).inc()
    return number


def main() -> None:
    """Run the workers, and print the page without its comments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2, help="how long it runs")
    parser.add_argument("--processes", type=int, default=4, help="how many workers")
    options = parser.parse_args()
    build.info({"version": "1.2"})
    half = (options.processes + 1) // 2
    with multiprocessing.Pool(half, maxtasksperchild=1) as pool:
        done = pool.map(work, [options.seconds / 2] * options.processes, chunksize=1)
        pool.close()
        pool.join()
    print(sum(done), "jobs were done; the page of this process:")
    mine = ("jobs", "job_", "busy", "build")
    for line in generate_latest().decode().splitlines():
        if line.startswith(mine):
            print(line)


if __name__ == "__main__":
    main()
