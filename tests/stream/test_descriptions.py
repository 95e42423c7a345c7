"""What the streams of a client know of the metrics, and when it is forgotten."""

from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.store.catalog import Described
from redismetrics.store.driver import run
from redismetrics.stream import descriptions
from redismetrics.stream.descriptions import Descriptions
from redismetrics.stream.steps import Describe, WantedMetric


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    moment = [0.0]
    monkeypatch.setattr(descriptions, "monotonic", lambda: moment[0])
    return moment


def describe(*names: str) -> Any:
    return [WantedMetric(0, name, [0], b"") for name in names]


def read(known: Descriptions, metrics: Metrics, *names: str) -> list[Described]:
    step = Describe(metrics.settings.namespace, describe(*names))
    return run(metrics._store.client(), known.read(step))


def knows(known: Descriptions, metrics: Metrics, name: str) -> bool:
    return known.get(Describe(metrics.settings.namespace, describe(name))) is not None


def test_descriptions_that_are_not_used_for_long_are_forgotten(
    metrics: Metrics, now: list[float]
) -> None:
    for name in ("often", "once"):
        metrics.gauge(name, 1)
    metrics.flush()
    known = Descriptions()
    assert len(read(known, metrics, "often", "once")) == 2
    for _ in range(3):
        now[0] += descriptions._KEEP + 1
        assert knows(known, metrics, "often")
    assert not knows(known, metrics, "once")


def test_what_was_read_before_the_connection_was_lost_is_not_kept(metrics: Metrics) -> None:
    """The server may have lost its data meanwhile, and number its series from 0 again."""
    metrics.gauge("depth", 1)
    metrics.flush()
    known = Descriptions()
    reading = known.read(Describe(metrics.settings.namespace, describe("depth")))
    client = metrics._store.client()
    commands = next(reading)
    replies = [client.execute_command(*command) for command in commands]
    known.clear()
    with pytest.raises(StopIteration):
        reading.send(replies)
    assert not knows(known, metrics, "depth")
    read(known, metrics, "depth")
    assert knows(known, metrics, "depth")
