"""What the doctor finds about metrics that keep every sample, and about tags that count steps."""

import pytest

from redismetrics import Metrics
from redismetrics.admin.doctor import examine
from redismetrics.admin.findings import Finding
from redismetrics.admin.sample_checks import MANY
from tests.fixtures.clients import MakeWorker
from tests.fixtures.diagnoses import by_check
from tests.fixtures.servers import Server
from tests.fixtures.training import start, train


def found(server: Server, namespace: str) -> dict[str, Finding]:
    return by_check(examine(server.url, namespace=namespace))


def test_cost_of_exact_samples_is_reported(
    metrics: Metrics, make_worker: MakeWorker, server: Server, namespace: str
) -> None:
    metrics.increment("jobs")
    metrics.flush()
    assert found(server, namespace)["samples"].found == "no metric has exact_samples"
    metrics.declare("loss", "gauge", exact_samples=True, retention=30 * 86_400)
    metrics.declare("accuracy", "gauge", exact_samples=True)
    train(metrics, range(2), range(2_000), start(600))
    metrics.gauge("accuracy", 0.5)
    metrics.flush()
    make_worker().pass_once(alone=True)
    finding = found(server, namespace)["samples"]
    assert finding.status == "ok"
    assert finding.found.startswith("2 with exact_samples: loss 4,000 samples, ")
    assert "kept for 30 d; accuracy 1 samples" in finding.found
    assert finding.found.endswith("kept for 1 d")
    loss, accuracy = finding.details["exact_samples"]
    assert (loss["samples"], accuracy["samples"]) == (4_000, 1)
    assert 2 < loss["bytes_per_sample"] <= 12
    assert loss["bytes"] == pytest.approx(4_000 * loss["bytes_per_sample"])


@pytest.mark.slow
def test_metric_beyond_its_bytes_is_a_warning(
    metrics: Metrics, make_worker: MakeWorker, server: Server, namespace: str
) -> None:
    metrics.declare("loss", "gauge", exact_samples=True)
    worker = make_worker(exact_bytes=1 << 16)
    for first in range(0, 20_000, 5_000):
        train(metrics, [0], range(first, first + 5_000), start(1_800))
        metrics.flush()
        worker.pass_once(alone=True)
    finding = found(server, namespace)["samples"]
    assert finding.status == "warning"
    assert "Raise exact_bytes where workers run, or give loss a shorter" in finding.advice


def test_step_as_a_tag_is_a_warning(metrics: Metrics, server: Server, namespace: str) -> None:
    for step in range(MANY):
        metrics.gauge("loss", 1 / (step + 1), tags={"run": "a", "step": step})
    metrics.flush()
    finding = found(server, namespace)["tags"]
    assert finding.found == "loss has a series for each step"
    assert finding.advice.startswith("Pass step as metadata instead of a tag, and declare loss")


def test_merged_runs_are_a_warning(metrics: Metrics, server: Server, namespace: str) -> None:
    for run in range(MANY + 10):
        metrics.gauge("other", run, tags={"run": run})
    metrics.declare("loss", "gauge", max_tag_values=MANY)
    for run in range(MANY + 10):
        metrics.gauge("loss", run, tags={"run": run})
    metrics.flush()
    finding = found(server, namespace)["tags"]
    assert finding.found == "new series are merged into one: loss"
    assert "max_tag_values" in finding.advice


def test_own_limit_of_series_counts(metrics: Metrics, server: Server, namespace: str) -> None:
    metrics.declare("loss", "gauge", max_series=50)
    for run in range(48):
        metrics.gauge("loss", run, tags={"run": run})
    metrics.flush()
    finding = found(server, namespace)["metrics"]
    assert finding.status == "warning"
    assert "max_series=50" in finding.advice
