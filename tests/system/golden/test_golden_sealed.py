"""What workers of each FORMAT ever released have stored, read by today's code.

`python -m tests.system.golden.test_golden_sealed` writes the file of the current FORMAT,
tests/system/golden/sealed<format>.json, again. After a release it must not change.
"""

import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from redismetrics import Metrics
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

NAMESPACE = "golden_sealed"
# 2025-06-16 00:00 UTC, the start of a day and an hour.
START = 1_750_032_000
AGES: Any = {
    "max_age": 1e9,
    "raw_retention": 2e9,
    "minute_retention": 2e9,
    "hour_retention": 2e9,
    "day_retention": 2e9,
}
NEVER = 3_600.0

# One every 10 s from START on: exact.
FEW = [round(0.1 * number, 3) for number in range(1, 41)]
# All in one minute, an hour later: clustered.
MANY = [float(number * 7 % 500) for number in range(500)]
BIG = [2.0**53, 1.0, 1.0]


def record(metrics: Metrics) -> None:
    """Record rows of every kind: exact with metadata, clustered, uniform, negative, beyond 2^53."""
    for number, value in enumerate(FEW):
        text = {"trace_id": f"t{number}", "ü": [1, None]} if number % 10 == 0 else None
        metrics.histogram(
            "took", value, tags={"queue": "mail"}, timestamp=START + 10 * number, metadata=text
        )
    for number, value in enumerate(MANY):
        metrics.histogram(
            "took", value, tags={"queue": "audio"}, timestamp=START + 3_600 + number / 10
        )
    for number in range(140):
        metrics.histogram("took", -1.5, tags={"queue": f"q{number}"}, timestamp=START + 7_200)
    for number, value in enumerate(BIG):
        metrics.increment("bytes", value, timestamp=START + 60 * number)
    metrics.gauge("depth", 3, timestamp=START + 5)
    metrics.gauge("depth", -4, timestamp=START + 86_400)


def write(server: Server) -> None:
    """Record, seal, and downsample the first hours and the first day."""
    with Metrics(
        server.url, namespace=NAMESPACE, flush_interval=NEVER, samples_per_flush=10_000, **AGES
    ) as metrics:
        record(metrics)
        metrics.flush()
    client = Store(server.url, 5).connect(retries=0)
    with client:
        kept = run(
            client, open_namespace(NAMESPACE, retention_policy(resolve({}, **AGES)))
        ).retention
        for name in ("took", "bytes", "depth"):
            metric = MetricLocation(NAMESPACE, 0, name, kept)
            run(client, seal(metric))
            for chunk in range(2 if name == "took" else 1):
                for hour in (START, START + 3_600, START + 7_200):
                    run(client, downsample(metric, DueSlot("hour", hour * 1000, chunk)))
                run(client, downsample(metric, DueSlot("day", START * 1000, chunk)))


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    return dump(NAMESPACE, write)


@pytest.fixture(params=["sealed2.json", "today"])
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


def test_file_has_every_kind_of_key_that_workers_write(content: dict[str, Any]) -> None:
    words = {part for key in content for part in key.split(":")}
    assert {
        "raw",
        "minute",
        "hour",
        "day",
        "due",
        "held",
        "touched",
        "pending",
        "state",
        "log",
    } <= words
    fields = {
        bytes.fromhex(field).decode().partition("/")[0]
        for key, of_key in content.items()
        if ":minute:" in key
        for field in of_key["content"]
    }
    assert "segment" in fields
    # A field beside the segment.
    assert str(START + 86_400) in fields


def test_results_from_days_hours_minutes_and_samples_equal_the_samples(metrics: Metrics) -> None:
    day = (START, START + 86_400)
    found = metrics.rollup(
        "took", group_by="queue", window=day, aggregations=["count", "sum", "min", "max", "last"]
    )
    assert found["mail"] == {
        "count": 40,
        "sum": pytest.approx(sum(FEW)),
        "min": 0.1,
        "max": 4.0,
        "last": 4.0,
    }
    assert found["audio"] == {
        "count": 500,
        "sum": sum(MANY),
        "min": 0.0,
        "max": 499.0,
        "last": MANY[-1],
    }
    assert found["q139"] == {"count": 1, "sum": -1.5, "min": -1.5, "max": -1.5, "last": -1.5}
    hours = metrics.time_series("took", interval="hour", window=day)
    assert [row["count"] for row in hours] == [40, 500, 140]
    minutes = metrics.time_series("took", interval="minute", window=day, tags={"queue": "mail"})
    assert [row["count"] for row in minutes] == [6] * 6 + [4]
    cut = metrics.query("took", window=(START + 15, START + 200), tags={"queue": "mail"})
    assert [sample.value for sample in cut] == FEW[2:20]
    assert metrics.query(
        "took", aggregation="stddev", window=day, tags={"queue": "audio"}
    ) == pytest.approx(statistics.pstdev(MANY), rel=1e-6)


def test_metadata_stays_with_exact_samples(metrics: Metrics) -> None:
    texts = [
        sample.metadata
        for sample in metrics.query("took", window=(START + 1, START + 399), tags={"queue": "mail"})
    ]
    assert [text for text in texts if text] == [
        {"trace_id": f"t{number}", "ü": [1, None]} for number in (10, 20, 30)
    ]


@pytest.mark.parametrize("p", [1, 50, 95, 99])
def test_percentiles_are_those_of_the_digest(metrics: Metrics, p: int) -> None:
    found = metrics.query(
        "took", aggregation=f"p{p}", window=(START, START + 86_400), tags={"queue": "audio"}
    )
    assert found == pytest.approx(np.percentile(MANY, p), abs=5)


def test_sums_beyond_two_to_the_53_and_values_below_zero(metrics: Metrics) -> None:
    assert metrics.query(
        "bytes", aggregation="sum", window=(START, START + 86_400)
    ) == pytest.approx(sum(BIG), rel=1e-15)
    assert metrics.query("depth", aggregation="min") == -4
    assert metrics.query("depth", aggregation="last", window=(START, START + 86_400)) == 3
    assert metrics.query("depth", aggregation="count") == 2


def test_recording_and_sealing_continue(metrics: Metrics, server: Server) -> None:
    metrics.histogram("took", 9.0, tags={"queue": "mail"}, timestamp=START + 11)
    metrics.flush()
    with Store(server.url, 5).connect(retries=0) as client:
        metric = MetricLocation(NAMESPACE, 0, "took", retention_policy(resolve({}, **AGES)))
        run(client, seal(metric))
        for what in (
            DueSlot("hour", START * 1000, 0),
            DueSlot("day", START * 1000, 0),
        ):
            assert metrics.query("took", aggregation="count", tags={"queue": "mail"}) == 41
            run(client, downsample(metric, what))
    found = metrics.rollup(
        "took",
        window=(START, START + 86_400),
        tags={"queue": "mail"},
        aggregations=["count", "max"],
    )
    assert found == {"": {"count": 41, "max": 9.0}}
    samples = metrics.query("took", window=(START + 10, START + 20), tags={"queue": "mail"})
    assert [sample.value for sample in samples] == [
        FEW[1],
        9.0,
    ]


if __name__ == "__main__":
    save(f"sealed{keys.FORMAT}.json", dump(NAMESPACE, write))
