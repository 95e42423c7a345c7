"""prometheus-distributed-client, which writes each sample to Redis. Runs in the peers' environment.

    python peer_distributed.py SOCKET KIND SERIES EACH

Prints the seconds that EACH samples of each of SERIES series took.
"""

import sys
import time

from prometheus_distributed_client import setup
from prometheus_distributed_client.redis import Counter, Gauge, Histogram
from redis import Redis

socket, kind, series, each = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
setup(redis=Redis(unix_socket_path=socket))
make, method = {
    "counter": (Counter, "inc"),
    "gauge": (Gauge, "set"),
    "histogram": (Histogram, "observe"),
}[kind]
metric = make(f"through_{kind}", "-", ["series"], registry=None)
calls = [getattr(metric.labels(str(number)), method) for number in range(series)]
began = time.perf_counter()
for call in calls:
    for value in range(each):
        call(1.5 + value)
print(time.perf_counter() - began)
