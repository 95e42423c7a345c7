"""Draw what the ready-made rules of docs/alerts.md see: docs/alerts.svg.

The rules are evaluated by the engine of unit tests on series that are made up here.

    python -m benchmarks.alert_pictures
"""

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from redismetrics.alerts import ready_made
from redismetrics.alerts.evaluate import RuleState, Surroundings, evaluate_group
from redismetrics.alerts.expressions import check_expression
from redismetrics.alerts.rule_file import parse_rules
from redismetrics.alerts.states import FIRING
from redismetrics.alerts.unit_tests.memory import MemoryEngine

PICTURE = Path(__file__).parents[1] / "docs" / "alerts.svg"
HOUR = 3_600_000

# A line to draw: its label, and the value at a time in ms.
Line = tuple[str, Callable[[int], float]]


def firing(
    rules: str,
    series: Sequence[tuple[dict[str, str], Callable[[int], float | None]]],
    times: Sequence[int],
    alert: str,
    severity: str,
) -> list[int]:
    """Return the times at which *alert* fires with that severity, evaluated at all *times*."""
    engine = MemoryEngine()
    step = times[1] - times[0]
    for labels, value in series:
        samples = [(t, value(t)) for t in range(0, times[-1] + 1, step)]
        engine.add(labels, [(t, v, False) for t, v in samples if v is not None])
    groups = parse_rules(rules.encode(), check_expression)
    states = [[RuleState() for _ in group.rules] for group in groups]
    found = []
    for at in times:
        for group, of in zip(groups, states, strict=True):
            of[:] = [o.state for o in evaluate_group(group, at, engine, of, Surroundings())]
        if any(
            (each.state, each.labels["alertname"], each.labels["severity"])
            == (FIRING, alert, severity)
            for of in states
            for state in of
            for each in state.alerts.values()
        ):
            found.append(at)
    return found


def burn_rate() -> tuple[str, list[int], list[int], list[Line]]:
    """Errors of 20 % for an hour: the alert of the fast windows fires, and ends soon after."""

    def share(t: int) -> float:
        return 0.2 if 3 * HOUR <= t < 4 * HOUR else 0.0005

    total: dict[int, float] = {}
    errors: dict[int, float] = {}
    step, sums = 300_000, [0.0, 0.0]
    for t in range(0, 8 * HOUR + 1, step):
        total[t], errors[t] = sums
        sums = [sums[0] + 300, sums[1] + 300 * share(t)]
    rules = ready_made.slo("api", "errors_total", "requests_total", 99.9)
    times = list(range(0, 8 * HOUR + 1, step))
    series = [
        ({"__name__": "errors_total"}, errors.get),
        ({"__name__": "requests_total"}, total.get),
    ]
    found = firing(rules, series, times, "ErrorBudgetBurns", "page")
    return "slo: errors use up the budget", times, found, [("share of errors", share)]


def anomaly() -> tuple[str, list[int], list[int], list[Line]]:
    """A day like all others, but for a dip at noon."""
    chance = random.Random(1)
    noise = {t: chance.gauss(0, 3) for t in range(0, 23 * 24 * HOUR, HOUR)}

    def visitors(t: int) -> float:
        daily = 100 + 60 * math.sin((t / HOUR % 24 - 6) / 24 * 2 * math.pi)
        dip = 0.4 if 22 * 24 + 11 <= t / HOUR < 22 * 24 + 15 else 1.0
        return daily * dip + noise.get(t, 0.0)

    times = list(range(21 * 24 * HOUR, 23 * 24 * HOUR, HOUR))
    rules = ready_made.anomaly("visitors", "visitors", "avg_over_time", weeks=3, width=6)
    found = firing(rules, [({"__name__": "visitors"}, visitors)], times, "FarFromUsual", "ticket")

    def usual(t: int) -> float:
        return sum(visitors(t - week * 168 * HOUR) for week in (1, 2, 3)) / 3

    lines = [("visitors", visitors), ("mean of the last 3 weeks", usual)]
    return "anomaly: far from the same hour of the last weeks", times, found, lines


def absent() -> tuple[str, list[int], list[int], list[Line]]:
    """Nothing is recorded for an hour."""

    def jobs(t: int) -> float | None:
        return None if 2 * HOUR <= t < 3 * HOUR else t / 60_000

    times = list(range(0, 5 * HOUR, 60_000))
    rules = ready_made.absent("jobs", "jobs_total")
    found = firing(rules, [({"__name__": "jobs_total"}, jobs)], times, "MetricIsAbsent", "page")
    line = ("jobs_total", lambda t: math.nan if jobs(t) is None else float(jobs(t) or 0))
    return "absent: no more samples", times, found, [line]


def forecast() -> tuple[str, list[int], list[int], list[Line]]:
    """A disk that fills evenly."""

    def used(t: int) -> float:
        return min(20 + 2 * t / HOUR, 100)

    times = list(range(0, 40 * HOUR, 600_000))
    rules = ready_made.forecast("disk", "disk_used_percent", 90, ahead="12h")
    found = firing(
        rules, [({"__name__": "disk_used_percent"}, used)], times, "LimitIsNear", "ticket"
    )
    return (
        "forecast: the limit is reached within 12 hours",
        times,
        found,
        [("disk used, percent", used), ("limit", lambda _: 90.0)],
    )


def draw(path: Path = PICTURE) -> None:
    """Draw all four into one picture."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "redismetrics"}
    figure, axes = plt.subplots(4, 1, figsize=(8, 10), constrained_layout=True)
    for axis, (title, times, found, lines) in zip(
        axes, (burn_rate(), anomaly(), absent(), forecast()), strict=True
    ):
        hours = [(t - times[0]) / HOUR for t in times]
        for number, (label, value) in enumerate(lines):
            style = "-" if number == 0 else "--"
            axis.plot(hours, [value(t) for t in times], style, label=label, linewidth=1.4)
        step = (times[1] - times[0]) / HOUR
        for number, at in enumerate(found):
            start = (at - times[0]) / HOUR
            # A label that begins with _ is not in the legend.
            label = "the alert fires" if number == 0 else "_"
            axis.axvspan(start, start + step, color="tab:red", alpha=0.25, linewidth=0, label=label)
        axis.set_title(title, fontsize=10, loc="left")
        axis.legend(fontsize=8, loc="upper left")
        axis.tick_params(labelsize=8)
    axes[-1].set_xlabel("hours", fontsize=9)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    draw()
