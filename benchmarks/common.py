"""What the benchmarks share: an own server, the machine's and versions' names, and how a result is printed."""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import redis

from redismetrics import embedded


def server_binary(wanted: str | None) -> str:
    """The server to start: *wanted*, or redis-server, or the embedded one's."""
    found = wanted or shutil.which("redis-server") or shutil.which("valkey-server")
    return found or str(embedded._binary())


@contextmanager
def own_server(binary: str | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server without persistence on a unix socket in a temporary folder: its URL and its process."""
    folder = Path(tempfile.mkdtemp(prefix="rm-bench-"))
    socket = folder / "s"
    command = [server_binary(binary), "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    client = redis.Redis(unix_socket_path=str(socket))
    try:
        for _ in range(500):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.01)
        yield f"unix://{socket}", process
    finally:
        client.close()
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def machine(url: str) -> dict[str, Any]:
    """What the figures depend on."""
    client = redis.Redis.from_url(url)
    info: Any = client.info("server")
    client.close()
    packages = ("redis", "hiredis", "numpy", "fastdigest")
    return {
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "server": f"{info.get('server_name', 'redis')} {info.get('valkey_version', info['redis_version'])}",
        **{name: version(name) for name in packages},
    }


def rounds(measure: Callable[[], float], times: int) -> list[float]:
    """The figures of several rounds, sorted; the first, which warms up, is left out."""
    return sorted([measure() for _ in range(times + 1)][1:])


def median(figures: list[float]) -> float:
    return statistics.median(figures)


def arguments(text: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: to see that it runs")
    parser.add_argument(
        "--server", help="the server program to measure with (default: redis-server, else the embedded)"
    )
    return parser.parse_args()


def show(options: argparse.Namespace, where: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Print the rows as a table, or as JSON."""
    if options.json:
        print(json.dumps({"machine": where, "results": rows}, indent=2))
        return
    print("  ".join(f"{key} {value}" for key, value in where.items()))
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = [columns, *([_text(row.get(key, "")) for key in columns] for row in rows)]
    widths = [max(len(line[at]) for line in table) for at in range(len(columns))]
    for line in table:
        print(
            "  ".join(
                cell.ljust(width) if at == 0 else cell.rjust(width)
                for at, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
        )


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
