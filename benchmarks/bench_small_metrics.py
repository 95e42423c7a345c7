"""What do many small metrics cost?

    [REDISMETRICS_BEFORE=FOLDER] python -m benchmarks small_metrics [--quick]

5,000 metrics of two series each on one server, a third of each type, one sample of each series in a
flush. Most of the cost of such a namespace is per metric and not per series. Ours takes turns with
the version before FORMAT 2 (see before.py), each on its own server:

    flush         of all metrics, until Redis has confirmed
    pass          of a worker, behind each flush
    newest ten    get_metrics(limit=10) over all metrics
    page          the Prometheus page
    list          list_metrics()
    doctor        examine()

"server CPU" is that of the whole server process meanwhile.
"""

from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.before import compared, versions
from benchmarks.common import Options, Row, main

QUESTION = "What do many small metrics cost?"
# What write_load.py calls each step, its title, and the target in seconds.
STEPS = {
    "flush": ("flush of all", 0.3),
    "work": ("a worker's pass", 1.5),
    "newest": ("newest ten over all", 0.1),
    "page": ("page", 0.2),
    "listing": ("list_metrics", 0.1),
    "doctor": ("doctor", None),
}


def measure(options: Options) -> Iterator[Row]:
    metrics = 60 if options.quick else 5_000
    seconds: dict[str, dict[str, list[float]]] = {}
    cpu: dict[str, dict[str, list[float]]] = {}
    with versions(options.server) as found, ExitStack() as stack:
        loads = {name: stack.enter_context(version.load()) for name, version in found.items()}
        for name in found:
            loads[name]("open_small", metrics)
        for number in range(options.runs + 1):
            for name, version in found.items():
                loads[name]("record")
                for step in STEPS:
                    version.reset_statistics()
                    took = loads[name](step)
                    if number:
                        seconds.setdefault(step, {}).setdefault(name, []).append(took * 1000)
                        used = version.cpu_us() / 1000
                        cpu.setdefault(step, {}).setdefault(name, []).append(used)
    for step, (title, target) in STEPS.items():
        case = f"{metrics:,} metrics of 2 series: {title}"
        limit = None if target is None or options.quick else target * 1000
        yield compared(f"{case}, time", "ms", seconds[step], target=limit)
        yield compared(f"{case}, server CPU", "ms", cpu[step])


if __name__ == "__main__":
    main(QUESTION, measure)
