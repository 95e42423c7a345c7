"""A metric with options whose samples are all kept, as workers stored it, read by today's code.

`python -m tests.system.golden.test_golden_exact` writes tests/system/golden/exact<format>.json
again. After a release it must not change.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.model.options import Options
from redismetrics.settings import resolve, retention_policy
from redismetrics.store import keys
from redismetrics.store.connection import Store
from redismetrics.store.driver import run
from redismetrics.store.due_slot import DueSlot
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.namespace import open_namespace
from redismetrics.worker.downsample import downsample
from redismetrics.worker.seal import seal
from tests.fixtures.servers import Server
from tests.system.golden.dumps import dump, load, restored_dump, save

NAMESPACE = "golden_exact"
# 2025-06-16 00:00 UTC, the start of an hour.
START = 1_750_032_000
NEVER = 3_600.0
AGES: Any = {
    "max_age": 1e9,
    "raw_retention": 2e9,
    "minute_retention": 2e9,
    "hour_retention": 2e9,
    "day_retention": 2e9,
}
OPTIONS: dict[str, Any] = {
    "exact_samples": True,
    "retention": 2_500_000_000.0,
    "lookback": 60.0,
    "max_tag_values": 5_000,
    "max_series": 6_000,
}
STEPS = 300


def loss(run: int, step: int) -> float:
    return (run * 7919 + step * 104_729) % 1_009 / 64


def metadata(run: int, step: int) -> dict[str, Any]:
    """Templates with whole and real numbers, one without, text that differs, and none at all."""
    if step % 50 == 7:
        return {"note": "checkpoint"}
    if step % 50 == 9:
        return {"file": f"model-{step:04}.bin", "ü": [1, None, -0.5]}
    if step % 50 == 11:
        return {}
    return {"step": step, "lr": 0.1 / (step + 1), "phase": "train"}


def record(metrics: Metrics) -> None:
    """Record two crowded minutes of one run and a few samples of another, one in another hour."""
    metrics.declare("loss", "gauge", help="Loss", tag_keys=["run"], **OPTIONS)
    for step in range(STEPS):
        for number in (0, 1) if step < 10 else (0,):
            metrics.gauge(
                "loss",
                loss(number, step),
                tags={"run": f"r{number}"},
                timestamp=START + step * 0.4,
                metadata=metadata(number, step),
            )
    metrics.gauge("loss", 0.5, tags={"run": "r0"}, timestamp=START + 3_600)


def write(server: Server) -> None:
    """Record and seal; merge the first hour into its segment."""
    with Metrics(server.url, namespace=NAMESPACE, flush_interval=NEVER, **AGES) as metrics:
        record(metrics)
        metrics.flush()
    client = Store(server.url, 5).connect(retries=0)
    with client:
        kept = run(
            client, open_namespace(NAMESPACE, retention_policy(resolve({}, **AGES)))
        ).retention
        metric = MetricLocation(NAMESPACE, 0, "loss", kept)
        run(client, seal(metric))
        run(client, downsample(metric, DueSlot("hour", START * 1000, 0)))


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    return dump(NAMESPACE, write)


@pytest.fixture(params=["exact2.json", "today"])
def content(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "today":
        found: dict[str, Any] = request.getfixturevalue("written")
        return found
    return load(request.param)


@pytest.fixture
def metrics(server: Server, url: str, content: dict[str, Any]) -> Iterator[Metrics]:
    with (
        restored_dump(server, NAMESPACE, content),
        Metrics(url, namespace=NAMESPACE, flush_interval=NEVER, cache_bytes=0, **AGES) as metrics,
    ):
        yield metrics


@pytest.mark.parametrize(("number", "steps"), [(0, STEPS), (1, 10)])
def test_every_sample_is_returned_with_its_metadata(
    metrics: Metrics, number: int, steps: int
) -> None:
    found = metrics.query("loss", tags={"run": f"r{number}"}, window=(START, START + 3_600))
    assert [
        (sample.value, sample.timestamp.timestamp(), sample.metadata, sample.approximate)
        for sample in found
    ] == [
        (
            loss(number, step),
            pytest.approx(START + step * 0.4, abs=0.001),
            metadata(number, step),
            False,
        )
        for step in range(steps)
    ]


def test_options_are_returned(metrics: Metrics) -> None:
    (row,) = metrics.list_metrics()
    assert row["options"] == OPTIONS
    assert metrics.query("loss", aggregation="count", window=None) == STEPS + 11


def test_recording_and_sealing_continue(metrics: Metrics, server: Server) -> None:
    metrics.gauge("loss", 9.0, tags={"run": "r1"}, timestamp=START + 5, metadata={"step": 99})
    metrics.flush()
    with Store(server.url, 5).connect(retries=0) as client:
        metric = MetricLocation(NAMESPACE, 0, "loss", retention_policy(resolve({}, **AGES)))
        run(client, seal(metric))
        run(client, downsample(metric, DueSlot("hour", START * 1000, 0)))
    found = metrics.query("loss", tags={"run": "r1"}, window=(START, START + 3_600))
    assert len(found) == 11
    assert found[-1].metadata == {"step": 99}
    first = metrics.query("loss", tags={"run": "r0"}, window=(START, START + 3_600))
    assert [sample.metadata for sample in first] == [metadata(0, step) for step in range(STEPS)]
    definition = metrics.internals.definition("loss")
    assert definition is not None
    assert definition.options == Options(**OPTIONS)


if __name__ == "__main__":
    save(f"exact{keys.FORMAT}.json", dump(NAMESPACE, write))
