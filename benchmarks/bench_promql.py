"""How long do PromQL queries take, beside Prometheus on the same data?

    python -m benchmarks promql [--quick]

1,000 counters in 8 groups, 14 increments on average every 15 s, for a day; quick: 100. Redis has
them as record.lua and the worker leave them (see bench_query.py). Prometheus has the running total
every 15 s, in blocks that `promtool tsdb create-blocks-from` made. Both are asked over HTTP, in
turn, for a day at a step of one minute, an hour, and one moment. "cold" is a server with
cache_bytes=0, "warm" one that has answered the query before; Prometheus is warm in both, as it
reads from the page cache.

The sums of all groups are compared: Prometheus extrapolates, so within 2 %.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_query import NAMESPACE, Filled, each_15_s
from benchmarks.common import Options, Row, in_turn, main, own_server, own_worker
from redismetrics.model.time import DAY, HOUR, MINUTE, SECOND

QUESTION = "How long do PromQL queries take?"

PEER = "Prometheus 2.42"
RATES = "sum by (region) (rate(jobs_total[5m]))"
# The targets: shares of Prometheus' time for a day of rates.
COLD, WARM = 0.6, 0.25


def write_openmetrics(path: Path, filled: Filled, until: int) -> None:
    """Write the running total of each series every 15 s, of the day before *until* (ms)."""
    samples = filled.since(0)
    first = until - DAY - HOUR
    step = 15 * SECOND
    count = (until - first) // step
    times = [f"{(first + step * (number + 1)) / 1000:.3f}" for number in range(count)]
    with path.open("w") as file:
        file.write("# TYPE jobs counter\n")
        for number, tags in enumerate(filled.load.tags):
            rows = samples.series == number
            amounts = samples.value[rows] * samples.weight[rows]
            slot = np.clip((samples.time[rows] - first) // step, 0, count)
            totals = np.cumsum(np.bincount(slot, amounts, count + 1)[:count]).astype(int).tolist()
            labels = ",".join(f'{key}="{value}"' for key, value in tags.items())
            file.writelines(
                f"jobs_total{{{labels}}} {total} {at}\n"
                for total, at in zip(totals, times, strict=True)
            )
        file.write("# EOF\n")


@contextmanager
def prometheus(folder: Path, text: Path) -> Iterator[str]:
    """Run Prometheus over blocks made of *text*; yield its address."""
    data = folder / "data"
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(text), str(data)]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "empty.yml").write_text("")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [
        "prometheus",
        f"--config.file={folder / 'empty.yml'}",
        f"--storage.tsdb.path={data}",
        f"--web.listen-address={address}",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(f"http://{address}/-/ready")
            yield f"http://{address}"
        finally:
            process.terminate()


@contextmanager
def serving(url: str, cache_bytes: int) -> Iterator[str]:
    """Run `redismetrics serve`; yield its address."""
    command = [sys.executable, "-m", "redismetrics", "serve", "--port", "0", "--url", url]
    environ = {
        **os.environ,
        "REDISMETRICS_NAMESPACE": NAMESPACE,
        "REDISMETRICS_CACHE_BYTES": str(cache_bytes),
        "REDISMETRICS_WORKER": "false",
    }
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ) as process:
        try:
            assert process.stderr is not None
            line = next(each for each in process.stderr if each.startswith("serving on "))
            yield line.removeprefix("serving on ").strip()
        finally:
            process.terminate()


def _wait(address: str) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(address):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{address} does not answer")


def ask(at: str, path: str, **form: Any) -> tuple[float, Any]:
    """Return the milliseconds of a query, and its result."""
    body = urllib.parse.urlencode(form).encode()
    began = time.perf_counter()
    with urllib.request.urlopen(f"{at}/api/v1/{path}", body) as response:
        text = response.read()
    return (time.perf_counter() - began) * 1e3, json.loads(text)["data"]["result"]


def total(result: Any) -> float:
    """Return the sum of all values of a result."""
    return sum(
        float(value)
        for each in result
        for _, value in each.get("values", [each.get("value", (0, 0))])
    )


def cases(until: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield name, path and parameters of each query."""
    for name, width in (("a day", DAY), ("an hour", HOUR)):
        form = {"query": RATES, "start": (until - width) / 1000, "end": until / 1000, "step": 60}
        yield f"rates of {name} by minute", "query_range", form
    yield "rates of a moment", "query", {"query": RATES, "time": until / 1000}


def measure(options: Options) -> Iterator[Row]:
    if shutil.which("promtool") is None or shutil.which("prometheus") is None:
        raise RuntimeError("this needs prometheus and promtool (Debian package: prometheus)")
    series = 100 if options.quick else 1_000
    with ExitStack() as stack:
        url, _ = stack.enter_context(own_server(options.server))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rm-bench-")))
        filled = Filled(url, own_worker(url, NAMESPACE), each_15_s("jobs", "counter", series))
        stack.callback(filled.close)
        filled.catch_up()
        until = filled.until // (5 * MINUTE) * 5 * MINUTE
        text = folder / "jobs.txt"
        write_openmetrics(text, filled, until)
        theirs = stack.enter_context(prometheus(folder, text))
        cold = stack.enter_context(serving(url, 0))
        warm = stack.enter_context(serving(url, 256 << 20))
        for name, path, form in cases(until):
            yield from compare(name, path, form, (cold, warm, theirs), options)


def compare(
    name: str, path: str, form: dict[str, Any], servers: tuple[str, str, str], options: Options
) -> Iterator[Row]:
    """Ask all three in turn."""
    sums = [total(ask(at, path, **form)[1]) for at in servers]
    if not np.allclose(sums, sums[2], rtol=0.02):
        raise AssertionError(f"{name}: the sums of cold, warm and Prometheus differ: {sums}")
    measures = {at: lambda at=at: ask(at, path, **form)[0] for at in servers}
    found = in_turn(measures, options.runs)
    is_day = "day" in name
    for kind, at, share in (("cold", servers[0], COLD), ("warm", servers[1], WARM)):
        target = share * float(np.median(found[servers[2]])) if is_day else None
        yield Row(f"{name}, {kind}", "ms", found[at], PEER, found[servers[2]], target=target)


if __name__ == "__main__":
    main(QUESTION, measure)
