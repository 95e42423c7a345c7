"""Training runs: thousands of runs and steps come back in order, each value with its step.

Also through a worker's passes, over the retention, in a cluster, and after a copy.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.admin.copying import copy
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.clusters import Cluster
from tests.fixtures.servers import PATIENCE, Server
from tests.fixtures.training import curve, expected, start, train
from tests.fixtures.workers import new_worker, pull_forward

pytestmark = pytest.mark.slow

DAY = 86_400
OPTIONS: dict[str, Any] = {
    "exact_samples": True,
    "retention": 30 * DAY,
    "max_tag_values": 5_000,
}


def work(server: Server | Cluster, namespace: str, *, all_due: bool = False) -> None:
    worker = new_worker(server.url, namespace)
    for _ in range(3):
        if all_due and isinstance(server, Server):
            with server.client() as admin:
                pull_forward(admin, namespace)
        worker.pass_once(alone=True)
    assert worker.counts.last_error is None
    worker.leave()
    worker.store.close()


def check(metrics: Metrics, runs: int, steps: int, window: str = "12h") -> None:
    """Assert that each run has all its steps in order, with the value of each."""
    rows = metrics.query("loss", group_by="experiment_id", window=window)
    found = {row["experiment_id"]: row["samples"] for row in rows}
    assert len(found) == runs
    for run in range(runs):
        samples = found[f"r{run}"]
        assert curve(samples) == expected(run, range(steps))
        assert not any(sample.approximate for sample in samples)


def record(
    metrics: Metrics, server: Server | Cluster, namespace: str, runs: int, steps: int
) -> None:
    """Record in several flushes, with passes of a worker between them."""
    metrics.declare("loss", "gauge", **OPTIONS)
    began = start(3_000)
    for first, after in itertools.pairwise(range(0, steps + 1, steps // 4)):
        train(metrics, range(runs), range(first, after), began, "experiment_id")
        metrics.flush()
        work(server, namespace)
    assert metrics.stats()["dropped"] == metrics.stats()["overflow"] == {}
    assert metrics.stats()["metadata_dropped"] == 0


@pytest.mark.parametrize(("runs", "steps"), [(20, 2_000), (1_500, 100)])
def test_runs_come_back_in_order_also_from_a_copy(
    make_metrics: MakeMetrics,
    server: Server,
    cluster: Cluster,
    namespace: str,
    runs: int,
    steps: int,
) -> None:
    metrics = make_metrics()
    record(metrics, server, namespace, runs, steps)
    check(metrics, runs, steps)
    work(server, namespace, all_due=True)
    check(make_metrics(), runs, steps)
    size = metrics.get_stats()["storage"]["bytes"]
    assert size["raw"] <= 12 * runs * steps
    report = copy(server.url, cluster.url, namespace=namespace, idle_seconds=0)
    assert report.complete
    there = make_metrics(cluster.url)
    check(there, runs, steps)
    assert there.list_metrics()[0]["options"] == OPTIONS


def test_runs_in_a_cluster(make_metrics: MakeMetrics, cluster: Cluster, namespace: str) -> None:
    metrics = make_metrics(cluster.url)
    record(metrics, cluster, namespace, 1_200, 40)
    check(metrics, 1_200, 40)


def test_runs_live_for_the_retention_of_the_metric(
    make_metrics: MakeMetrics, moving_server: Server, namespace: str
) -> None:
    metrics = make_metrics(moving_server.url, clock=lambda: moving_server.time)
    metrics.declare("loss", "gauge", **OPTIONS)
    began = moving_server.time // 3_600 * 3_600 + 600
    moving_server.set_time(began + 100)
    train(metrics, range(3), range(1_500), began, "experiment_id")
    metrics.flush()
    for day in (0, 4, 29):
        moving_server.set_time(began + 100 + day * DAY)
        work(moving_server, namespace)
        check(metrics, 3, 1_500, window="31d")
        assert metrics.query("loss", aggregation="count", window="31d") == 4_500
    moving_server.set_time(began + 31 * DAY)
    work(moving_server, namespace)
    # The hours and days remain.
    assert metrics.query("loss", aggregation="count", window="40d") == 4_500
    left = metrics.query("loss", window="40d")
    assert not any(sample.metadata for sample in left)
    assert sum(sample.count for sample in left) == 4_500


def test_metric_with_a_shorter_retention_leaves_nothing_when_it_is_deleted(
    make_metrics: MakeMetrics, moving_server: Server, namespace: str
) -> None:
    metrics = make_metrics(moving_server.url, clock=lambda: moving_server.time)
    metrics.declare("loss", "gauge", **OPTIONS)
    began = moving_server.time // 3_600 * 3_600 + 600
    for hour in range(3):
        moving_server.set_time(began + 100 + hour * 3_600)
        train(metrics, [0], range(200), moving_server.time - 50)
        metrics.flush()
        work(moving_server, namespace)
    metrics.declare("loss", "gauge", retention=3_600)
    # The samples of the first hours are past the new retention; their keys are not.
    for hour in range(5, 8):
        moving_server.set_time(began + 100 + hour * 3_600)
        train(metrics, [0], range(5), moving_server.time - 5)
        metrics.flush()
        work(moving_server, namespace)
    with moving_server.client() as admin:
        raw = f"rm:{{{namespace}:0}}:loss:raw:*"
        assert len(admin.keys(raw)) >= 5
        found = metrics.query("loss", window="30d")
        first = [each for each in found if each.timestamp.timestamp() < began + 4 * 3_600]
        # The samples of these hours, or if a new day has begun, the points of their day.
        assert sum(sample.count for sample in first) >= 600
        assert not any(sample.metadata for sample in first)
        assert metrics.delete_metric("loss")
        assert admin.keys(raw) == []


def test_runs_of_two_processes_keep_their_order(
    make_metrics: MakeMetrics, server: Server, namespace: str
) -> None:
    began, processes = start(600), [make_metrics(), make_metrics()]
    for client in processes:
        client.declare("loss", "gauge", **OPTIONS)
    for first in range(0, 1_000, 100):
        client = processes[first // 100 % 2]
        train(client, [0], range(first, first + 100), began, "experiment_id")
        client.flush()
        if first % 300 == 0:
            work(server, namespace)
    check(processes[0], 1, 1_000)


def steps_by_run(samples: Iterable[Any]) -> dict[str, list[int]]:
    found = defaultdict(list)
    for sample in samples:
        found[sample.tags["experiment_id"]].append(sample.metadata["step"])
    return dict(found)


def test_subscription_delivers_every_step(make_metrics: MakeMetrics, namespace: str) -> None:
    metrics = make_metrics()
    metrics.declare("loss", "gauge", **OPTIONS)
    with metrics.subscribe("loss") as stream:
        train(metrics, range(3), range(400), start(600), "experiment_id")
        metrics.flush()
        samples = [stream.get(PATIENCE) for _ in range(1_200)]
    assert steps_by_run(samples) == {f"r{run}": list(range(400)) for run in range(3)}
