"""The version before FORMAT 2, to compare with: a checkout of it, or figures that it had.

Set REDISMETRICS_BEFORE to the folder of a checkout of commit afbf2bb. Its processes then take turns
with ours, each on a server of its own. Without it, ours are compared with the figures that it had
in the published results.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from benchmarks.common import own_server
from benchmarks.results import ROOT, Results
from benchmarks.rows import Row

COMMIT = "afbf2bb"
PEER = f"before FORMAT 2 ({COMMIT})"
VARIABLE = "REDISMETRICS_BEFORE"

WHY_QUOTED = (
    f"quoted from the published results; set {VARIABLE} to measure a checkout of {COMMIT} in turn"
)


def checkout() -> Path | None:
    """Return the folder of the earlier version, or None.

    Raises:
        RuntimeError: The variable names a folder without the package.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        return None
    path = Path(folder).resolve()
    if not (path / "redismetrics" / "__init__.py").is_file():
        raise RuntimeError(f"{VARIABLE} must name a checkout of redismetrics, got {folder}")
    return path


class Load:
    """A process of one version that runs write_load.py. A failure there is raised here."""

    def __init__(self, source: Path, url: str) -> None:
        script = Path(__file__).with_name("write_load.py")
        # -P: the folder of the script holds modules whose names others use.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(script), url],
            env={**os.environ, "PYTHONPATH": str(source)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, method: str, *arguments: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps([method, *arguments])}\n")
        self._process.stdin.flush()

    def wait(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("write_load.py ended; it has printed the reason")
        return json.loads(line)

    def __call__(self, method: str, *arguments: Any) -> Any:
        self.start(method, *arguments)
        return self.wait()

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class Version:
    """One version: its server, what the server did, and processes on it."""

    def __init__(self, source: Path, url: str) -> None:
        self.source, self.url = source, url
        self.client = redis.Redis.from_url(url)

    def load(self) -> Load:
        return Load(self.source, self.url)

    def reset(self) -> None:
        self.client.flushall()
        self.reset_statistics()

    def reset_statistics(self) -> None:
        self.client.config_resetstat()
        self.client.slowlog_reset()
        self._cpu = self._used()

    def _used(self) -> float:
        found: Any = self.client.info("cpu")
        return float(found["used_cpu_user"] + found["used_cpu_sys"])

    def cpu_us(self) -> float:
        """Return the CPU time of the whole server process since `reset_statistics`."""
        return (self._used() - self._cpu) * 1e6

    def commands(self) -> dict[str, tuple[int, int]]:
        """Return calls and microseconds of each command since then, those of this client left out.

        A script's commands are counted too, and its time is that of EVALSHA.
        """
        found: Any = self.client.info("commandstats")
        ours = ("cmdstat_info", "cmdstat_config", "cmdstat_slowlog", "cmdstat_latency")
        return {
            name.removeprefix("cmdstat_"): (row["calls"], row["usec"])
            for name, row in found.items()
            if not name.startswith(ours)
        }

    def script_p999_ms(self) -> float:
        """Return the 99.9th percentile of a script's time, which Redis 7 keeps; else NaN."""
        found: Any = self.client.info("latencystats")
        row = found.get("latency_percentiles_usec_evalsha")
        return float("nan") if row is None else float(row["p99.9"]) / 1000


@contextmanager
def versions(server: str | None) -> Iterator[dict[str, Version]]:
    """Yield ours as "ours" and, if there is a checkout of it, the earlier version as "before"."""
    # A script's time above 1 ms goes to the slow log.
    settings = ("--slowlog-log-slower-than", "1000", "--slowlog-max-len", "100000")
    with own_server(server, *settings) as (url, _), own_server(server, *settings) as (other, _):
        found = {"ours": Version(ROOT, url)}
        path = checkout()
        if path is not None:
            found["before"] = Version(path, other)
        yield found


def compared(
    case: str,
    unit: str,
    found: dict[str, Sequence[float]],
    *,
    more_is_better: bool = False,
    target: float | None = None,
) -> Row:
    """Return a row with the earlier version's figures of the same rounds, or the quoted one."""
    ours, theirs, note = list(found["ours"]), list(found.get("before", ())), ""
    if not theirs:
        quoted = _quoted(case)
        if quoted is None:
            note = f"not measured: set {VARIABLE} to a checkout of {COMMIT}"
        else:
            theirs, note = [quoted] * len(ours), WHY_QUOTED
    return Row(case, unit, ours, PEER, theirs, more_is_better, target=target, note=note)


def _quoted(case: str) -> float | None:
    """Return the earlier version's median in the published results, or None."""
    for result in Results.read(ROOT / "benchmarks" / "results.json").topics.values():
        for row in result.rows:
            if (row.case, row.peer) == (case, PEER) and row.theirs:
                return statistics.median(row.theirs)
    return None


def shares(case: str, row: Row, target: float | None) -> Iterator[Row]:
    """Yield what ours takes as a share of before, in each round; nothing without such figures."""
    if row.theirs:
        found = [1 / ratio for ratio in row.ratios]
        yield Row(f"{case}: share of before", "", found, target=target, note=row.note)
