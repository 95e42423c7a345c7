"""What the benchmarks share: the command of a question, a server, a worker, a clock, versions."""

import argparse
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import redis

import redismetrics
from benchmarks import report
from benchmarks.rows import Row
from redismetrics.model.retention import DEFAULT_RETENTION
from redismetrics.settings import resolve
from redismetrics.store import due_slot
from redismetrics.store.connection import Store
from redismetrics.store.driver import run
from redismetrics.store.due_slot import DueSlot
from redismetrics.store.embedded_paths import server_program
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.worker import Worker, downsample, due
from redismetrics.worker.commit import Outcome


def server_binary(chosen: str | None) -> str:
    """Return the server program: *chosen*, or redis-server, or that of the embedded server."""
    found = chosen or shutil.which("redis-server") or shutil.which("valkey-server")
    return found or str(server_program())


@contextmanager
def own_server(
    binary: str | None = None, *more: str, environ: Mapping[str, str] | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Yield the URL and the process of a new server, which stores nothing on disk.

    It listens on a unix socket in a temporary folder. *more* are arguments of the server.

    Raises:
        RuntimeError: If it ends at once.
    """
    folder = Path(tempfile.mkdtemp(prefix="rm-bench-"))
    socket = folder / "s"
    command = [
        server_binary(binary),
        "--port",
        "0",
        "--unixsocket",
        str(socket),
        "--save",
        "",
        "--dir",
        str(folder),
    ]
    process = subprocess.Popen(
        [*command, *more], stdout=subprocess.DEVNULL, env={**os.environ, **(environ or {})}
    )
    client = redis.Redis(unix_socket_path=str(socket))
    try:
        for _ in range(500):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                if process.poll() is not None:
                    raise RuntimeError(
                        f"the server ended at once: {' '.join(map(str, process.args))}"
                    ) from None
                time.sleep(0.01)
        yield f"unix://{socket}", process
    finally:
        client.close()
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


# Libraries that the results depend on, and peers, by their names on PyPI.
PACKAGES = (
    "redis",
    "hiredis",
    "numpy",
    "fastdigest",
    "prometheus_client",
    "opentelemetry-sdk",
    "datadog",
    "statsd",
)


def machine(url: str) -> dict[str, Any]:
    """Return what the results depend on: cores, processor and versions."""
    client = redis.Redis.from_url(url)
    info: Any = client.info("server")
    client.close()
    release = info.get("valkey_version", info["redis_version"])
    return {
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "server": f"{info.get('server_name', 'redis')} {release}",
        **dict(_versions(PACKAGES)),
    }


def _versions(packages: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in packages:
        with suppress(PackageNotFoundError):
            yield name, version(name)


class Past:
    """A client's clock that moves only when it is set, so that an hour is recorded in seconds."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def tags_of(series: int) -> list[dict[str, str]]:
    return [{"host": str(at // 100), "route": str(at % 100)} for at in range(series)]


def bound(
    metrics: redismetrics.Metrics, kind: str, name: str, series: int | Iterable[Mapping[str, str]]
) -> list[Callable[..., None]]:
    """Return the recording methods of bound instruments, one for each series.

    *series* is a number or the tags of each series. The instruments are bound at once: an unbound
    one takes the time of its first sample from the system's clock instead of the client's.
    """
    make: Any = {
        "counter": redismetrics.Counter,
        "gauge": redismetrics.Gauge,
        "histogram": redismetrics.Histogram,
    }[kind]
    method = {"counter": "increment", "gauge": "set", "histogram": "record"}[kind]
    tags = tags_of(series) if isinstance(series, int) else series
    handles = [make(name, each, metrics=metrics) for each in tags]
    for handle in handles:
        metrics._recorder.bind(handle)
    return [getattr(handle, method) for handle in handles]


def own_worker(url: str, namespace: str) -> Worker:
    """Return a worker whose passes the caller runs, with time for long scripts."""
    return Worker(resolve(url=url, namespace=namespace, socket_timeout=60), Store(url, 60))


def metric_of(namespace: str, name: str) -> MetricLocation:
    return MetricLocation(namespace, 0, name, DEFAULT_RETENTION)


def make_due(
    client: redis.Redis, metric: MetricLocation, until_ms: int | None = None
) -> list[float]:
    """Downsample a metric without waiting, finer slots first; return the seconds of each slot.

    Without *until_ms* only hours, else all slots that ended by then and the segments that are due.
    The worker does the same one minute after the end of a slot, or after late data. *client* comes
    from `Store.connect`.
    """
    retention = metric.retention
    widths = dict(due_slot.coarser(retention, retention.raw))
    widths |= {
        DueSlot.merge(each.name, 0, 0).resolution: each.partition // due.MERGES
        for each in retention.resolutions
    }
    taken = []
    for name, width in widths.items():
        for field in sorted(
            client.hkeys(metric.worked.due), key=lambda field: int(field.split()[1])
        ):
            slot = DueSlot.parse(field)
            if slot.resolution != name or (
                name != "hour" if until_ms is None else slot.slot_ms + width > until_ms
            ):
                continue
            began = time.perf_counter()
            while (
                outcome := run(client, downsample.downsample(metric, slot)).outcome
            ) is Outcome.AGAIN:
                pass
            taken.append(time.perf_counter() - began)
            if outcome is not Outcome.DONE:
                raise AssertionError(f"{metric.name}: {field!r} ended as {outcome}")
    return taken


def usage(client: redis.Redis, names: list[str] | list[bytes]) -> int:
    """Return the bytes of these keys by MEMORY USAGE: exact, including the allocator's rounding."""
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.execute_command("MEMORY", "USAGE", name, "SAMPLES", 0)
        return sum(size or 0 for size in pipeline.execute())


@dataclass(frozen=True)
class Options:
    """How to measure a question."""

    quick: bool = False  # tiny sizes, to show that it runs
    runs: int = 5
    server: str | None = None  # the server program; None: redis-server, else the embedded one


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `options_of` reads."""
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes and two runs, to show that it runs"
    )
    parser.add_argument("--runs", type=int, help="runs of each case (default: 5; 2 with --quick)")
    parser.add_argument(
        "--server",
        help="server program (default: redis-server, else the embedded server)",
    )


def options_of(found: argparse.Namespace) -> Options:
    return Options(found.quick, found.runs or (2 if found.quick else 5), found.server)


def in_turn(
    measures: Mapping[str, Callable[[], float]], runs: int, warm: int = 1
) -> dict[str, list[float]]:
    """Measure each in turn, one figure per run, so that a slower machine affects all of them.

    *warm* rounds before do not count.
    """
    figures: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(runs + warm):
        for name, measure in measures.items():
            figure = measure()
            if number >= warm:
                figures[name].append(figure)
    return figures


def main(question: str, measure: Callable[[Options], Iterable[Row]]) -> None:
    """Run the command of one question: print its table, or write its JSON."""
    parser = argparse.ArgumentParser(description=question)
    add_options(parser)
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="print one JSON object, or write it to FILE",
    )
    found = parser.parse_args()
    began = time.perf_counter()
    rows = list(measure(options_of(found)))
    took = time.perf_counter() - began
    if found.json:
        text = json.dumps(
            {"question": question, "seconds": took, "rows": [row.as_dict() for row in rows]}
        )
        if found.json == "-":
            print(text)
        else:
            Path(found.json).write_text(text)
        return
    with own_server(found.server) as (url, _):
        where = machine(url)
    report.show_machine(where)
    report.show(question, rows, took)
