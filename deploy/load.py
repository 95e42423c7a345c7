"""Record demo data of a small shop until stopped, so that a new dashboard has data to show.

    python deploy/load.py [--seconds 10] [--per-second 40]

Needs redismetrics without extras.
"""

import argparse
import math
import random
import time

import redismetrics as rm

# Median duration of a request, in seconds.
ENDPOINTS = {"/orders": 0.040, "/orders/{id}": 0.012, "/search": 0.120, "/upload": 0.450}
# Median duration of a job, in seconds.
QUEUES = {"mail": 0.08, "reports": 0.9, "thumbnails": 0.25}


def declare() -> None:
    rm.declare("http_requests", "counter", help="Requests")
    rm.declare(
        "http_request_duration_seconds", "histogram", unit="seconds", help="Duration of a request"
    )
    rm.declare("jobs", "counter", help="Finished jobs")
    rm.declare("job_duration_seconds", "histogram", unit="seconds", help="Duration of a job")
    rm.declare("queue_depth", "gauge", help="Waiting jobs")


def request(wave: float) -> None:
    endpoint = random.choice(list(ENDPOINTS))
    status = random.choices(["200", "404", "500"], [95, 3, 2])[0]
    tags = {
        "method": "POST" if endpoint == "/upload" else "GET",
        "endpoint": endpoint,
        "status": status,
    }
    rm.increment("http_requests", tags=tags)
    rm.histogram(
        "http_request_duration_seconds",
        random.lognormvariate(math.log(ENDPOINTS[endpoint] * wave), 0.5),
        tags=tags,
    )


def job(wave: float) -> None:
    queue = random.choice(list(QUEUES))
    status = "error" if random.random() < 0.04 else "ok"
    rm.increment("jobs", tags={"queue": queue, "status": status})
    rm.histogram(
        "job_duration_seconds",
        random.lognormvariate(math.log(QUEUES[queue] * wave), 0.6),
        tags={"queue": queue},
    )
    rm.gauge("queue_depth", round(random.gauss(20 * wave, 3)), tags={"queue": queue})


def main() -> None:
    parser = argparse.ArgumentParser(description="Record demo data of a small shop.")
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="how long (default: until stopped)"
    )
    parser.add_argument(
        "--per-second", type=float, default=40, help="requests per second (default: %(default)g)"
    )
    given = parser.parse_args()
    declare()
    began = time.monotonic()
    while (passed := time.monotonic() - began) < given.seconds:
        # Half a minute is busy, half a minute is quiet.
        wave = 1 + 0.5 * math.sin(passed / 60 * math.tau)
        request(wave)
        if random.random() < 0.25:
            job(wave)
        time.sleep(1 / (given.per_second * wave))
    rm.close()


if __name__ == "__main__":
    main()
