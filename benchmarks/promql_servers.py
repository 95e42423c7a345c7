"""The servers of the PromQL benchmark, as processes that are asked over HTTP."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench_query import NAMESPACE

_CONFIG = """
global: {scrape_interval: 15s}
scrape_configs: [{job_name: new, static_configs: [{targets: ['%s']}]}]
"""


@dataclass(frozen=True)
class Server:
    """A server that answers PromQL.

    Attributes:
        at: Its address.
        pid: The process.
        start_ms: From its start to its first answer.
    """

    at: str
    pid: int
    start_ms: float

    def ask(self, path: str, **form: Any) -> tuple[float, Any]:
        """Return the milliseconds of a query, and the data of its answer."""
        body = urllib.parse.urlencode(form).encode()
        began = time.perf_counter()
        with urllib.request.urlopen(f"{self.at}/api/v1/{path}", body) as response:
            text = response.read()
        return (time.perf_counter() - began) * 1e3, json.loads(text)["data"]

    def memory(self) -> float:
        """Return the MB of the process without mapped files, of which others may make room."""
        return memory_of(self.pid)


def cpu_of(*pids: int) -> float:
    """Return the CPU that all threads of these processes have used, in ms. Linux only."""
    tasks = (task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir())
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


def memory_of(pid: int) -> float:
    """Return the anonymous memory of a process in MB. Linux only."""
    status = Path(f"/proc/{pid}/status").read_text()
    return float(status.partition("RssAnon:")[2].split()[0]) / 1e3


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Server]:
    """Run Prometheus over the blocks in `data` of *folder*; it also scrapes *target*."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "prometheus.yml"
    config.write_text(_CONFIG % target)
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=60d",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            at = f"http://127.0.0.1:{port}"
            yield Server(at, process.pid, _first_answer(at, began))
        finally:
            process.terminate()


@contextmanager
def serving(url: str, cache_bytes: int) -> Iterator[Server]:
    """Run `redismetrics serve`."""
    command = [sys.executable, "-m", "redismetrics", "serve", "--port", "0", "--url", url]
    environ = {
        **os.environ,
        "REDISMETRICS_NAMESPACE": NAMESPACE,
        "REDISMETRICS_CACHE_BYTES": str(cache_bytes),
        "REDISMETRICS_WORKER": "false",
    }
    began = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ) as process:
        try:
            assert process.stderr is not None
            line = next(each for each in process.stderr if each.startswith("serving on "))
            at = line.removeprefix("serving on ").strip()
            yield Server(at, process.pid, _first_answer(at, began))
        finally:
            process.terminate()


def _first_answer(at: str, began: float) -> float:
    for _ in range(6000):
        try:
            with urllib.request.urlopen(f"{at}/api/v1/query?query=1"):
                return (time.perf_counter() - began) * 1e3
        except OSError:
            time.sleep(0.01)
    raise RuntimeError(f"{at} does not answer")
