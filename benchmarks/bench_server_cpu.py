"""How much server CPU does a flush cost, and how many processes can one primary serve?

    [REDISMETRICS_BEFORE=FOLDER] python -m benchmarks server_cpu [--quick]

The CPU is that of the whole server process by INFO cpu: parsing, scripts, their commands, a
worker's reads and commits, and what Redis does by itself. It is divided by flushes. Ours takes
turns with the version before FORMAT 2 (see before.py), each on its own server:

    ordinary flush     20 metrics of three types x 5 series x 10 samples
    100 series         of one metric, with one or ten samples each
    no worker          the script itself adds up the totals now and then
    with a worker      that passes after each fifth flush: few flushes share a pass
    fleet              64 writers in four processes, each with an ordinary flush a second, and a
                       worker that passes every 5 s, for a minute; BENCHMARK_FLEET_SECONDS
                       changes how long

"EVALSHA" is the time that the server's statistics give to scripts, which is part of the CPU.
"commands" are those of INFO commandstats, which includes the calls of a script. The 99.9th
percentile of a script's time in the fleet (INFO latencystats; of records and commits alike) is
wall time, in which a shared machine may also run something else.

"processes per primary" divides 70 % of one core by the fleet's CPU per flush. With a flush every
10 s a process sends a tenth of the flushes.
"""

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

from benchmarks.before import Load, Version, compared, shares, versions
from benchmarks.common import Options, Row, main

QUESTION = "How much server CPU does a flush cost, and how many processes can one primary serve?"
# Of the number of a mix in write_load.py: its name, and the targets as shares of before, without
# and with a worker.
CASES = {
    "ordinary": ("ordinary flush (20 metrics, 100 series, 1,000 samples)", 0.5, 0.35),
    "histogram 1": ("1 histogram, 100 series x 1", 0.45, 0.25),
    "histogram 10": ("1 histogram, 100 series x 10", None, None),
    "counter 10": ("1 counter, 100 series x 10", 0.5, 0.5),
    "gauge 1": ("1 gauge, 100 series x 1", None, None),
}
COMMANDS_TARGET = 80.0
FLUSHES, WARM = 100, 20  # WARM: until the first changes of the totals were folded
WRITERS, PROCESSES, PASS_SECONDS = 64, 4, 5
FLEET_SECONDS, FLEET_RUNS = float(os.environ.get("BENCHMARK_FLEET_SECONDS", "60")), 2
FLEET_TARGET, SCRIPT_MS = 0.45, 3.0
SCRIPT_NOTE = "wall time, in which other programs on the two cores may also have run"
BUSY = 0.7  # of one core


def of_mix(mix: str, passes: bool, found: dict[str, Version], options: Options) -> Iterator[Row]:
    """Measure one mix, with or without a worker."""
    flushes, warm = (5, 5) if options.quick else (FLUSHES, WARM)
    figures: dict[str, dict[str, list[float]]] = {
        what: {name: [] for name in found} for what in ("cpu", "script", "commands")
    }
    with ExitStack() as stack:
        loads = {name: stack.enter_context(version.load()) for name, version in found.items()}
        for name, version in found.items():
            version.reset()
            loads[name]("open", mix, 1)
            loads[name]("flushes", warm, passes)
        for _ in range(options.runs):
            for name, version in found.items():
                version.reset_statistics()
                loads[name]("flushes", flushes, passes)
                figures["cpu"][name].append(version.cpu_us() / flushes)
                commands = version.commands()
                figures["script"][name].append(commands["evalsha"][1] / flushes)
                calls = sum(calls for calls, _ in commands.values())
                figures["commands"][name].append(calls / flushes)
    title, alone, shared = CASES[mix]
    case = f"{title}, {'with a worker' if passes else 'no worker'}"
    whole = compared(f"{case}: server CPU", "us", figures["cpu"])
    yield whole
    yield from shares(case, whole, shared if passes else alone)
    yield compared(f"{case}: EVALSHA", "us", figures["script"])
    target = COMMANDS_TARGET if mix == "ordinary" and not passes else None
    yield compared(f"{case}: commands", "commands", figures["commands"], target=target)


def fleet(found: dict[str, Version], options: Options) -> Iterator[Row]:
    """Measure a fleet of writers while a worker passes."""
    seconds, every = (3.0, 1.0) if options.quick else (FLEET_SECONDS, float(PASS_SECONDS))
    writers, processes = (8, 2) if options.quick else (WRITERS, PROCESSES)
    runs = min(options.runs, FLEET_RUNS)
    cpu: dict[str, list[float]] = {name: [] for name in found}
    longest: dict[str, list[float]] = {name: [] for name in found}
    slow: dict[str, list[float]] = {name: [] for name in found}
    flushed, late = 0, 0
    for _ in range(runs):
        for name, version in found.items():
            version.reset()
            with ExitStack() as stack:
                loads = [stack.enter_context(version.load()) for _ in range(processes + 1)]
                worker, *recording = loads
                for load in recording:
                    load("open", "ordinary", writers // processes)
                    load("fleet", 1.0, time.time() + 1)
                worker("work")
                count, missed = _minute(version, worker, recording, seconds, every)
            cpu[name].append(version.cpu_us() / count)
            commands = version.commands()
            over_us = sum(entry["duration"] > 1e3 * SCRIPT_MS for entry in _slow(version))
            slow[name].append(over_us / commands["evalsha"][0] * 1e6)
            longest[name].append(version.script_p999_ms())
            flushed, late = flushed + count, late + missed
    case = f"fleet of {writers} writers, a worker every {every:.0f} s"
    whole = compared(f"{case}: server CPU per flush", "us", cpu)
    yield whole
    yield from shares(case, whole, FLEET_TARGET)
    for interval in (1, 10):
        served = {
            name: [BUSY * 1e6 / each * interval for each in figures]
            for name, figures in cpu.items()
        }
        title = f"processes per primary at {BUSY:.0%} of one core, a flush every {interval} s"
        yield compared(title, "processes", served, more_is_better=True)
    if all(each == each for figures in longest.values() for each in figures):
        row = compared(f"{case}: a script's time, p99.9", "ms", longest, target=SCRIPT_MS)
        yield replace(row, note=row.note or SCRIPT_NOTE)
    title = f"{case}: scripts over {SCRIPT_MS:.0f} ms per million"
    note = f"{statistics.median(slow['before']):.0f} before FORMAT 2" if "before" in slow else ""
    yield Row(title, "scripts", slow["ours"], note=note)
    yield Row(
        f"{case}: flushes that were left out",
        "flushes",
        [float(late)],
        note=(
            f"of {flushed + late} in all rounds, because the machine was too busy to record in time"
        ),
    )


def _minute(
    version: Version, worker: Load, recording: list[Load], seconds: float, every: float
) -> tuple[int, int]:
    """Let all of them run at once; return flushes and those left out."""
    version.reset_statistics()
    until = time.time() + seconds
    worker.start("passes", every, until)
    for load in recording:
        load.start("fleet", seconds, until)
    counts = [load.wait() for load in recording]
    worker.wait()
    return sum(count for count, _ in counts), sum(missed for _, missed in counts)


def _slow(version: Version) -> list[dict[str, int]]:
    entries: list[dict[str, int]] = version.client.slowlog_get(100_000)
    return entries


def measure(options: Options) -> Iterator[Row]:
    with versions(options.server) as found:
        for mix in CASES:
            for passes in (False, True):
                yield from of_mix(mix, passes, found, options)
        yield from fleet(found, options)


if __name__ == "__main__":
    main(QUESTION, measure)
