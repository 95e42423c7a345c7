"""What the measured figures make of 10,000 processes: arithmetic, with every number shown."""

import math

from benchmarks.results import Results
from benchmarks.rows import Row, number

PROCESS = "a process's flush (20 metrics, 100 series, 1,000 samples)"
SHARDS = "16 shards"
WORKER = "one worker: histogram, 1,000 series x 10, every 5 s"
PROCESSES, SAMPLES, METRICS = 10_000, 1_000, 20
INTERVALS = (1, 10)  # seconds between a process's flushes
BUSY = 0.5  # of a primary's core: the rest is for questions, workers, peaks
PASS_SECONDS, REPLAY_SECONDS = 5, 60  # between a worker's passes; how long sealed blocks stay
LOG_MIB = 64  # of a metric, the default of log_bytes


def text(results: Results) -> str:
    """The arithmetic as Markdown; a sentence where a figure that it needs was not measured."""
    rows = {row.case: row for answer in results.answers.values() for row in answer.rows}
    needed = {
        "cpu": f"{PROCESS}, {SHARDS}: server CPU",
        "bytes": f"{PROCESS}, {SHARDS}: bytes to the server",
        "worker": WORKER,
    }
    missing = [case for case in needed.values() if case not in rows]
    if missing:
        return f"Not worked out: not measured were {'; '.join(missing)}."
    found = {name: rows[case] for name, case in needed.items()}
    lines = [("", *(f"a flush every {seconds} s" for seconds in INTERVALS)), ("---", *["---:"] * len(INTERVALS))]
    columns = [_column(found, seconds) for seconds in INTERVALS]
    lines += [(title, *(column[title] for column in columns)) for title in columns[0]]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    known = (
        f"Measured: {number(found['cpu'].median)} ms of server CPU and {number(found['bytes'].median)} bytes a flush "
        f"({needed['cpu']}), and {number(found['worker'].median)} samples/s of a worker ({WORKER})."
    )
    return f"{known}\n\n{table}"


def _column(found: dict[str, Row], seconds: int) -> dict[str, str]:
    flushes = PROCESSES / seconds
    cores = flushes * found["cpu"].median / 1000
    received = flushes * found["bytes"].median
    samples = flushes * SAMPLES
    unsealed = received * PASS_SECONDS / METRICS / 2**20
    return {
        f"samples/s: {PROCESSES:,} x {SAMPLES:,} / s": number(samples),
        f"servers' CPU, cores: {PROCESSES:,} x {number(found['cpu'].median)} ms / s": number(cores),
        f"primaries, each at most {BUSY:.0%} busy": f"{max(math.ceil(cores / BUSY), 1)}",
        f"to the servers, MB/s: {PROCESSES:,} x {number(found['bytes'].median)} bytes / s": number(received / 1e6),
        f"logs of the last {REPLAY_SECONDS} s, GB at most": number(received * REPLAY_SECONDS / 1e9),
        f"unsealed of a metric between passes of {PASS_SECONDS} s, MiB ({LOG_MIB} is the limit)": number(unsealed),
        f"workers, at {number(found['worker'].median)} samples/s": f"{max(math.ceil(samples / found['worker'].median), 1)}",
    }
