"""Measure redismetrics and what one would use instead.

    python -m benchmarks                        all questions: about 50 minutes on two cores
    python -m benchmarks record flush           only these two
    python -m benchmarks --quick                tiny sizes: shows that all run, measures nothing
    python -m benchmarks --fill                 also write benchmarks/results.json, and from it
                                                benchmarks/RESULTS.md, README.md,
                                                docs/performance.md and docs/performance.svg
    python -m benchmarks --from FILE [--fill]   measure nothing: show (and fill in) an earlier FILE

Each question runs in its own process and on its own servers, one after the other. Needs the extra
`bench`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import pages, report
from benchmarks.common import add_options, machine, options_of, own_server
from benchmarks.results import ROOT, Results, TopicResult

# These come first, the others by name.
FIRST = ("record", "flush")


def topics() -> list[str]:
    found = {path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py")}
    return [*FIRST, *sorted(found - set(FIRST))]


def measure(topic: str, found: argparse.Namespace, where: dict[str, object]) -> TopicResult | None:
    """Run one question; return None if it failed. Its process has printed the reason."""
    options = options_of(found)
    command = [sys.executable, "-m", f"benchmarks.bench_{topic}", "--runs", str(options.runs)]
    command += ["--quick"] * options.quick + (
        ["--server", options.server] if options.server else []
    )
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="rm-bench-") as folder:
        file = Path(folder) / "result.json"
        done = subprocess.run([*command, "--json", str(file)], cwd=ROOT, check=False)
        if done.returncode:
            return None
        measured = json.loads(file.read_text())
    day = datetime.now(UTC).date().isoformat()
    how = {"quick": options.quick, "runs": options.runs, "day": day, "load": load, "machine": where}
    return TopicResult.of(measured | how)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "topics", nargs="*", metavar="QUESTION", help=f"one of {', '.join(topics())} (default: all)"
    )
    add_options(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="draw the ratios (SVG, PNG or PDF, by the suffix)",
    )
    parser.add_argument(
        "--fill", action="store_true", help="write the results into the pages of the repository"
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="measure nothing: read results from FILE",
    )
    found = parser.parse_args()
    unknown = sorted(set(found.topics) - set(topics()))
    if unknown:
        parser.error(f"QUESTION must be one of {', '.join(topics())}; got {', '.join(unknown)}")
    chosen = found.topics or topics()
    if found.source is not None:
        known = Results.read(found.source).topics
        results, failed = Results({topic: known[topic] for topic in chosen if topic in known}), []
        for result in results.topics.values():
            report.show(result.question, result.rows, result.seconds)
    else:
        results, failed = measure_all(chosen, found)
    if found.plot is not None:
        pages.plot(results, found.plot)
    if found.fill and results.topics:
        older = Results.read(pages.RESULTS) if pages.RESULTS.exists() else Results({})
        pages.fill(older.updated(results, topics()))
    if failed:
        print(f"FAILED: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def measure_all(chosen: list[str], found: argparse.Namespace) -> tuple[Results, list[str]]:
    """Run these questions one after the other and print each; also return those that failed."""
    with own_server(found.server) as (url, _):
        where = machine(url)
    report.show_machine(where)
    results, failed, began = Results({}), [], time.perf_counter()
    for number, topic in enumerate(chosen, 1):
        took = time.perf_counter() - began
        print(f"[{number}/{len(chosen)}, {took:.0f} s] {topic} ...", file=sys.stderr, flush=True)
        result = measure(topic, found, where)
        if result is None:
            failed.append(topic)
            continue
        results.topics[topic] = result
        report.show(result.question, result.rows, result.seconds)
        if found.json is not None:
            results.write(found.json)
    return results, failed


if __name__ == "__main__":
    sys.exit(main())
