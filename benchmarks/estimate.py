"""Calculations that start from measured figures, with every number shown.

`text` asks what 10,000 processes need, `sizing` what 200 processes on 20 hosts need, and `fleet`
how many processes one primary can serve.
"""

import math
import statistics
from collections.abc import Iterable

from benchmarks.results import Results
from benchmarks.rows import Row, number

PROCESS = "a process's flush (20 metrics, 100 series, 1,000 samples)"
SHARDS = "16 shards"
ONE_SHARD = "1 shard"
WORKER = "one worker: histogram, 1,000 series x 10, every 5 s"
FLEET_CPU = "fleet of 64 writers, a worker every 5 s: server CPU per flush"
KEPT = "full history of a {kind}, 60 per minute"

# A primary is planned to be at most this busy: the rest is for queries, workers and peaks.
BUSY = 0.5
# Seconds between two passes of a worker, and how long processed blocks stay in the log.
PASS_SECONDS, REPLAY_SECONDS = 5, 60
# The default of `log_bytes`, per metric.
LOG_MIB = 64

# How busy a primary may be that does nothing but record and serve a worker.
FLEET_BUSY = 0.7

# 10,000 processes.
PROCESSES, SAMPLES, METRICS = 10_000, 1_000, 20
INTERVALS = (1, 10)  # seconds between two flushes of a process

# The example of the README: 1,000 series in the proportions of PROCESS.
FLEET, HOSTS = 200, 20
SERIES = {"counter": 500, "gauge": 250, "histogram": 250}


def text(results: Results) -> str:
    """Return the calculation for 10,000 processes as Markdown."""
    needed = {
        "cpu": f"{PROCESS}, {SHARDS}: server CPU",
        "bytes": f"{PROCESS}, {SHARDS}: bytes to the server",
        "worker": WORKER,
    }
    found, missing = _measured(results, needed)
    if missing:
        return missing
    head = ("", *(f"a flush every {seconds} s" for seconds in INTERVALS))
    columns = [_column(found, seconds) for seconds in INTERVALS]
    rows = [(title, *(column[title] for column in columns)) for title in columns[0]]
    known = (
        f"Measured: a flush takes {number(found['cpu'].median)} ms of server CPU and "
        f"{number(found['bytes'].median)} bytes ({needed['cpu']}), "
        f"and a worker merges {number(found['worker'].median)} samples/s ({WORKER})."
    )
    return f"{known}\n\n{_table(head, rows)}"


def sizing(results: Results) -> str:
    """Return the calculation for the README's example as Markdown."""
    found, missing = _measured(results, _sizing_needs())
    if missing:
        return missing
    size = _Size(found)
    cpu, received = number(found["cpu"].median), number(found["bytes"].median)
    kept = " + ".join(
        f"{count} x {number(found[kind].median)} kB" for kind, count in SERIES.items()
    )
    each = number(size.traffic / HOSTS / 1e6)
    rows = [
        ("samples per second", f"{FLEET} x {SAMPLES:,}", f"{size.samples:,}"),
        ("Redis CPU for recording", f"{FLEET} x {cpu} ms per s", f"{number(size.cores)} cores"),
        (
            "network into Redis",
            f"{FLEET} x {received} bytes per second",
            f"{number(size.traffic / 1e6)} MB/s, {each} MB/s from each of {HOSTS} hosts",
        ),
        (
            "logs in Redis, at most",
            f"{number(size.traffic / 1e6)} MB/s x {size.log_seconds} s",
            f"{number(size.logs / 1e6)} MB",
        ),
        ("five years of history", kept, f"{number(size.history / 1e6)} MB"),
        ("Redis memory", "logs and history", f"{number(size.memory / 1e9)} GB"),
        (
            "one worker",
            f"{size.samples:,} / {number(found['worker'].median)} per second",
            f"{number(size.worker)} cores",
        ),
    ]
    return _table(("", "calculation", "result"), rows)


def fleet(results: Results) -> str:
    """Return how many processes one primary can serve, as Markdown."""
    found, missing = _measured(results, {"cpu": FLEET_CPU})
    if missing:
        return missing
    row = found["cpu"]
    columns = {"now": row.ours, **({row.peer: row.theirs} if row.theirs else {})}
    cpu = {name: statistics.median(figures) for name, figures in columns.items()}
    rows = [("server CPU per flush, µs", *map(number, cpu.values()))]
    for seconds in INTERVALS:
        title = f"processes per primary, a flush every {seconds} s: {FLEET_BUSY:.0%} of {seconds} s"
        served = (number(FLEET_BUSY * 1e6 * seconds / each) for each in cpu.values())
        rows.append((title, *served))
    return _table(("", *cpu), rows)


def sizing_line(results: Results) -> str:
    """Return the result of `sizing` as a paragraph for the README."""
    found, missing = _measured(results, _sizing_needs())
    if missing:
        return missing
    size = _Size(found)
    return (
        f"**Size.** For {FLEET} processes on {HOSTS} hosts, {sum(SERIES.values()):,} series and "
        f"{size.samples:,} samples per second,\nrecording takes {size.cores:.0%} of a Redis core, "
        f"one worker takes {size.worker:.0%} of a core, and Redis needs\n"
        f"{size.memory / 1e9:.2g} GB once five years of history are full "
        "([calculation](docs/performance.md#sizing))."
    )


class _Size:
    """The figures of the README's example. *found* holds the measured rows by name."""

    log_seconds = REPLAY_SECONDS + PASS_SECONDS

    def __init__(self, found: dict[str, Row]) -> None:
        self.samples = FLEET * SAMPLES
        self.cores = FLEET * found["cpu"].median / 1000
        self.traffic = FLEET * found["bytes"].median
        self.logs = self.traffic * self.log_seconds
        self.history = sum(count * found[kind].median * 1000 for kind, count in SERIES.items())
        self.memory = self.logs + self.history
        self.worker = self.samples / found["worker"].median


def _sizing_needs() -> dict[str, str]:
    return {
        "cpu": f"{PROCESS}, {ONE_SHARD}: server CPU",
        "bytes": f"{PROCESS}, {ONE_SHARD}: bytes to the server",
        "worker": WORKER,
        **{kind: KEPT.format(kind=kind) for kind in SERIES},
    }


def _measured(results: Results, needed: dict[str, str]) -> tuple[dict[str, Row], str]:
    """Return the rows *needed* by name, or a sentence that names those that were not measured."""
    rows = {row.case: row for result in results.topics.values() for row in result.rows}
    missing = [case for case in needed.values() if case not in rows]
    if missing:
        return {}, f"Not calculated, because these were not measured: {'; '.join(missing)}."
    return {name: rows[case] for name, case in needed.items()}, ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---", *["---:"] * (len(head) - 1)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _column(found: dict[str, Row], seconds: int) -> dict[str, str]:
    flushes = PROCESSES / seconds
    cpu, received = found["cpu"].median, found["bytes"].median
    worker = found["worker"].median
    cores = flushes * cpu / 1000
    traffic = flushes * received
    samples = flushes * SAMPLES
    unprocessed = traffic * PASS_SECONDS / METRICS / 2**20
    waiting = f"waiting in a metric's log between passes of {PASS_SECONDS} s, MiB (limit {LOG_MIB})"
    return {
        f"samples/s: {PROCESSES:,} x {SAMPLES:,} / s": number(samples),
        f"servers' CPU, cores: {PROCESSES:,} x {number(cpu)} ms / s": number(cores),
        f"primaries, each at most {BUSY:.0%} busy": f"{max(math.ceil(cores / BUSY), 1)}",
        f"to the servers, MB/s: {PROCESSES:,} x {number(received)} bytes / s": number(
            traffic / 1e6
        ),
        f"logs of the last {REPLAY_SECONDS} s, GB at most": number(traffic * REPLAY_SECONDS / 1e9),
        waiting: number(unprocessed),
        f"workers, at {number(worker)} samples/s": f"{max(math.ceil(samples / worker), 1)}",
    }
