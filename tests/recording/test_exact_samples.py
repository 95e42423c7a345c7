"""Metrics with `exact_samples`: nothing is compressed on the way to Redis; memory is bounded."""

import math
from collections.abc import Callable

import pytest

from redismetrics import Metrics
from redismetrics.columnar import block_codec
from tests.fixtures.servers import Server
from tests.recording.helpers import NEVER, Make, balanced, collect


def declare(metrics: Metrics, kind: str = "gauge") -> None:
    metrics.declare("loss", kind, exact_samples=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("exact", [True, False])
def test_flush_with_many_samples_of_a_series_is_not_compressed(make: Make, exact: bool) -> None:
    metrics = make(flush_interval=NEVER, samples_per_flush=20)
    metrics.declare("loss", "gauge", exact_samples=exact)
    for number in range(500):
        metrics.gauge("loss", number / 7)
    found = metrics.query("loss")
    assert [sample.approximate for sample in found].count(True) == (0 if exact else len(found))
    assert ([sample.value for sample in found] == [number / 7 for number in range(500)]) is exact


def test_all_metadata_of_a_flush_is_kept(make: Make) -> None:
    metrics = make(flush_interval=NEVER)
    declare(metrics)
    for step in range(2_500):
        metrics.gauge("loss", 1 / (step + 1), metadata={"step": step})
    assert [sample.metadata["step"] for sample in metrics.query("loss")] == list(range(2_500))
    assert metrics.stats()["metadata_dropped"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gauge", "histogram"])
def test_more_samples_than_a_block_holds_become_several_blocks(make: Make, kind: str) -> None:
    metrics = make(flush_interval=NEVER)
    declare(metrics, kind)
    count = 2 * block_codec.MAX_ROWS + 100
    values = [math.sin(number) for number in range(count)]
    for number, value in enumerate(values):
        metrics.record("loss", value, tags={"run": number % 3}, type=kind)  # type: ignore[arg-type]
    assert metrics.flush().stored == count
    found = metrics.query("loss")
    assert sorted(sample.value for sample in found) == sorted(values)
    for run in range(3):
        of_run = metrics.query("loss", tags={"run": str(run)})
        assert [sample.value for sample in of_run] == values[run::3]
    (live,) = metrics.live("loss")
    if kind == "gauge":
        assert {series.value for series in live.series} == set(values[-3:])
    else:
        assert sum(series.count for series in live.series) == count
        assert sum(series.value for series in live.series) == pytest.approx(sum(values))
    assert balanced(metrics)["dropped"] == {}


def test_large_metadata_becomes_several_blocks(make: Make) -> None:
    metrics = make(flush_interval=NEVER)
    declare(metrics)
    for step in range(3_000):
        metrics.gauge("loss", step, metadata={"note": "x" * 4_000, "step": step})
    assert metrics.flush().stored == 3_000
    assert metrics.get_stats()["storage"]["blocks"] >= 3
    assert [sample.metadata["step"] for sample in metrics.query("loss")] == list(range(3_000))


def test_samples_wait_uncompressed_and_the_oldest_are_dropped_beyond_the_limit(
    make: Make, fresh_server: Callable[..., Server]
) -> None:
    server = fresh_server()
    server.pause()
    metrics = make(
        server.url,
        flush_interval=NEVER,
        buffer_bytes=1 << 16,
        samples_per_flush=20,
        socket_timeout=0.1,
    )
    declare(metrics)
    for flush in range(10):
        for number in range(500):  # 33 bytes each: 165 kB in all
            metrics.gauge("loss", flush * 500 + number)
        collect(metrics)
        assert balanced(metrics)["buffer_bytes"] <= 1 << 16
    server.resume()
    metrics.flush()
    dropped = balanced(metrics)["dropped"]
    assert dropped == {"buffer_full": 5_000 - metrics.stats()["stored"]}
    found = metrics.query("loss")
    assert [sample.value for sample in found] == list(range(dropped["buffer_full"], 5_000))
    assert len(found) >= 1_000


# -- limits of one metric -------------------------------------------------------------------------


def series(metrics: Metrics) -> dict[str, int]:
    return {row["name"]: row["series"] for row in metrics.list_metrics()}


def test_metric_may_have_more_values_of_a_tag_than_others(make: Make) -> None:
    metrics = make(flush_interval=NEVER)
    metrics.declare("loss", "gauge", max_tag_values=2_000)
    for run in range(1_200):
        metrics.gauge("loss", run, tags={"experiment_id": f"e{run}"})
        metrics.gauge("other", run, tags={"experiment_id": f"e{run}"})
    metrics.flush()
    assert metrics.query("loss", aggregation="count", tags={"experiment_id": "e1199"}) == 1
    assert series(metrics) == {"loss": 1_200, "other": 1_001}
    assert metrics.stats()["overflow"] == {"other": {"experiment_id": 200}}


def test_metric_may_have_fewer_series_than_others(make: Make) -> None:
    first, second = make(flush_interval=NEVER), make(flush_interval=NEVER)
    first.declare("loss", "gauge", max_series=10)
    for client, runs in ((first, range(8)), (second, range(8, 16))):
        for run in runs:
            client.gauge("loss", run, tags={"run": run})
            client.gauge("other", run, tags={"run": run})
        client.flush()
    # The overflow series is one more.
    assert series(second) == {"loss": 11, "other": 16}
    assert second.stats()["overflow"] == {"loss": {"": 6}}


def test_a_process_that_knows_the_limit_holds_no_additional_series(make: Make) -> None:
    metrics = make(flush_interval=NEVER)
    metrics.declare("loss", "gauge", max_series=10)
    for run in range(30):
        metrics.gauge("loss", run, tags={"run": run})
    assert metrics.stats()["buffered_series"] == 11
