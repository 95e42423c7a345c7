"""Helpers shared by the tests of gauges per process."""

from redismetrics import Metrics
from redismetrics.columnar.process_values import BEAT_SECONDS, GONE_MS
from redismetrics.model.time import monotonic
from tests.fixtures.servers import PATIENCE

GONE = GONE_MS / 1000 + 1


def pass_time(metrics: Metrics, seconds: float) -> None:
    """Let time pass for a client's decision on when values are repeated."""
    recorder = metrics._recorder
    now = recorder.steady_clock() + seconds
    recorder.steady_clock = lambda: now


def send(metrics: Metrics) -> None:
    """Send what is due now, as the client's threads do at their next check."""
    assert metrics._sink._send_once(monotonic() + PATIENCE)


def beat(metrics: Metrics) -> None:
    pass_time(metrics, BEAT_SECONDS)
    send(metrics)


def set_in(metrics: Metrics, value: float, name: str = "jobs", **tags: str) -> None:
    metrics.gauge(name, value, tags=tags)
    metrics.flush()


def shown(metrics: Metrics, name: str = "jobs") -> dict[tuple[str, ...], float]:
    """Return the values that the page shows, by tag values without the pid."""
    found = {}
    for family in metrics.live(name):
        for row in family.series:
            found[tuple(text for key, text in sorted(row.tags.items()) if key != "pid")] = row.value
    return found


def rows(metrics: Metrics, name: str = "jobs") -> dict[str, float]:
    """Return the values of one series by pid."""
    return {row.tags["pid"]: row.value for row in metrics.live(name)[0].series}


def declare(clients: list[Metrics], mode: str | None, name: str = "jobs") -> None:
    for metrics in clients:
        metrics.declare(name, "gauge", per="process", merge=mode)
