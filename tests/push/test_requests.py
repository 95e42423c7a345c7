"""Requests of both protocols hold what the Prometheus page shows."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("cramjam", reason="needs redismetrics[promql]")
pytest.importorskip("opentelemetry.proto", reason="needs redismetrics[otel]")

from redismetrics import Metrics
from redismetrics.export import export
from redismetrics.exposition.families import Family
from redismetrics.exposition.named_families import named_families
from redismetrics.exposition.remote_write_message import decode
from redismetrics.exposition.text import render
from redismetrics.push import otlp, remote_write
from redismetrics.push.request import MAX_SAMPLES
from redismetrics.push.snapshot import TotalsSnapshot, read_snapshot
from tests.fixtures.exposition import hostile_families, samples
from tests.push.receivers import otlp_points

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def snapshot_of(metrics: Metrics) -> TotalsSnapshot:
    metrics.flush()
    return metrics.internals.run(read_snapshot(metrics.internals.query_context, 86_400_000))


def written(snapshot: TotalsSnapshot, labels: dict[str, str] | None = None) -> Samples:
    """Return the samples of the requests of remote write; check what the protocol demands."""
    found: Samples = {}
    for request in remote_write.make_requests(snapshot, labels or {}):
        message = decode(request.body, 1 << 30)
        assert sum(len(each.samples) for each in message.timeseries) == request.samples
        for series in message.timeseries:
            names = [label.name for label in series.labels]
            assert names == sorted(set(names))
            assert all(label.value for label in series.labels)
            (sample,) = series.samples
            assert sample.timestamp == snapshot.time_ms == request.time_ms
            all_labels = {label.name: label.value for label in series.labels}
            name = all_labels.pop("__name__")
            key = (name, frozenset(all_labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def shown(page: str) -> Samples:
    """Return the samples of a page without empty labels, which are no labels for Prometheus."""
    return {
        (name, frozenset(pair for pair in labels if pair[1])): value
        for (name, labels), value in samples(page, openmetrics=False).items()
    }


@pytest.fixture
def recorded(metrics: Metrics) -> Metrics:
    metrics.declare("took_seconds", "histogram", unit="seconds", help="Time.", buckets=[0.5, 2])
    metrics.declare("change", "histogram", buckets=[-1, 1])
    for value in (0.1, 0.5, 1, 7):
        metrics.histogram("took_seconds", value, tags={"path": 'a"\\\n'})
    metrics.histogram("change", -5)
    metrics.increment("jobs", 3, tags={"queue": "mail"})
    metrics.increment("jobs", 4, tags={"queue": "mail", "empty": ""})
    metrics.increment("redismetrics_recorded", 1)
    metrics.gauge("depth.now", 4.25, tags={"a.b": "1", "a_b": "2"})
    metrics.summary("size").record(4)
    metrics.info("build").set({"version": "1"})
    metrics.state_set("mode", states=["a", "b"]).set("a")
    return metrics


def test_remote_write_has_the_samples_of_the_page(recorded: Metrics) -> None:
    page = shown(export(metrics=recorded))
    assert ("redismetrics_recorded_2_total", frozenset()) in page
    assert len(page) > 15
    assert written(snapshot_of(recorded)) == page


def families() -> list[Family]:
    return [family for family in hostile_families() if family.series]


def test_remote_write_keeps_hostile_names_and_values() -> None:
    snapshot = TotalsSnapshot(1_790_000_000_000, named_families(families()), {})
    page = shown(render(families()))
    found = written(snapshot)
    assert found.keys() == page.keys()
    assert [repr(found[key]) for key in page] == [repr(value) for value in page.values()]


def test_labels_are_added_to_series_that_lack_them(metrics: Metrics) -> None:
    metrics.increment("jobs", 1, tags={"job": "own"})
    metrics.increment("jobs", 2)
    assert written(snapshot_of(metrics), {"job": "shop"}) == {
        ("jobs_total", frozenset({("job", "own")})): 1,
        ("jobs_total", frozenset({("job", "shop")})): 2,
    }


def test_remote_write_describes_each_family(recorded: Metrics) -> None:
    (request,) = remote_write.make_requests(snapshot_of(recorded), {})
    found = {
        each.metric_family_name: (each.type, each.help, each.unit)
        for each in decode(request.body, 1 << 30).metadata
    }
    assert found["took_seconds"] == (3, "Time.", "seconds")
    assert found["jobs_total"] == (1, "Jobs", "")
    assert {name: kind for name, (kind, _, _) in found.items()} == {
        "took_seconds": 3,
        "change": 3,
        "jobs_total": 1,
        "redismetrics_recorded_2_total": 1,
        "depth_now": 2,
        "size": 5,
        "build_info": 6,
        "mode": 7,
    }


@pytest.mark.parametrize("protocol", [remote_write, otlp])
def test_large_snapshots_are_divided(metrics: Metrics, protocol: Any) -> None:
    count = 2 * MAX_SAMPLES + 1
    tags = [{"a": str(number // 100), "b": str(number % 100)} for number in range(count)]
    for number, each in enumerate(tags):
        metrics.gauge("depth", number, tags=each)
    snapshot = snapshot_of(metrics)
    requests = list(protocol.make_requests(snapshot, {}))
    assert [each.samples for each in requests] == [MAX_SAMPLES, MAX_SAMPLES, 1]
    if protocol is otlp:
        found = {
            key: point.as_double
            for each in requests
            for key, (_, point) in otlp_points(each.body).items()
        }
        assert found == {("depth", tuple(each.items())): float(n) for n, each in enumerate(tags)}
    else:
        assert len(written(snapshot)) == count


def test_otlp_has_the_richest_form_of_each_type(recorded: Metrics) -> None:
    before_ns = 1_000_000_000 * int(time.time() - 60)
    snapshot = snapshot_of(recorded)
    (request,) = otlp.make_requests(snapshot, {"job": "shop", "zone": "a"})
    found = otlp_points(request.body)
    assert len(found) == request.samples
    assert all(point.time_unix_nano == snapshot.time_ms * 1_000_000 for _, point in found.values())

    kind, point = found["jobs_total", (("queue", "mail"),)]
    assert (kind, point.as_double) == ("sum", 7)
    assert before_ns < point.start_time_unix_nano < point.time_unix_nano
    kind, point = found["took_seconds", (("path", 'a"\\\n'),)]
    assert (kind, point.count, point.sum) == ("histogram", 4, 8.6)
    assert (list(point.explicit_bounds), list(point.bucket_counts)) == ([0.5, 2], [2, 1, 1])
    assert before_ns < point.start_time_unix_nano < point.time_unix_nano
    # A sum of negative values does not only grow.
    kind, point = found["change", ()]
    assert (point.count, point.HasField("sum"), list(point.bucket_counts)) == (1, False, [1, 0, 0])
    kind, point = found["size", ()]
    assert (kind, point.count, point.sum) == ("summary", 1, 4)
    kind, point = found["depth_now", (("a_b", "2"), ("tag_a_b", "1"))]
    assert (kind, point.as_double, point.start_time_unix_nano) == ("gauge", 4.25, 0)
    assert found["build_info", (("version", "1"),)][1].as_double == 1
    assert found["mode", (("mode", "a"),)][1].as_double == 1
    assert found["mode", (("mode", "b"),)][1].as_double == 0


def test_otlp_identifies_the_source_of_totals(recorded: Metrics) -> None:
    import gzip

    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
        ExportMetricsServiceRequest,
    )

    def resource(labels: dict[str, str]) -> dict[str, str]:
        (request,) = otlp.make_requests(snapshot_of(recorded), labels)
        message = ExportMetricsServiceRequest.FromString(gzip.decompress(request.body))
        (one,) = message.resource_metrics
        (metric,) = [each for each in one.scope_metrics[0].metrics if each.name == "jobs_total"]
        assert (metric.sum.is_monotonic, metric.sum.aggregation_temporality) == (True, 2)
        return {each.key: each.value.string_value for each in one.resource.attributes}

    assert resource({}) == {"service.name": "redismetrics"}
    assert resource({"job": "shop", "instance": "a", "zone": "b"}) == {
        "service.name": "shop",
        "service.instance.id": "a",
        "zone": "b",
    }


def test_the_start_of_a_total_stays_until_the_metric_is_deleted(metrics: Metrics) -> None:
    def start() -> int:
        (request,) = otlp.make_requests(snapshot_of(metrics), {})
        _, point = otlp_points(request.body)["jobs_total", ()]
        return int(point.start_time_unix_nano)

    metrics.increment("jobs")
    first = start()
    metrics.increment("jobs")
    assert start() == first
    metrics.delete_metric("jobs")
    metrics.increment("jobs")
    assert start() > first


def test_series_that_are_idle_are_left_out(metrics: Metrics) -> None:
    metrics.increment("jobs")
    metrics.flush()
    context = metrics.internals.query_context
    assert metrics.internals.run(read_snapshot(context, -60_000)).families == []


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import sys

    for name in list(sys.modules):
        if name.startswith(("redismetrics.push.", "redismetrics.exposition.remote_write")):
            monkeypatch.delitem(sys.modules, name)
    for name in ("cramjam", "opentelemetry.proto.metrics.v1.metrics_pb2"):
        monkeypatch.setitem(sys.modules, name, None)
    return


@pytest.mark.parametrize(("protocol", "extra"), [("remote_write", "promql"), ("otlp", "otel")])
def test_a_missing_package_is_named(no_packages: None, protocol: str, extra: str) -> None:
    import importlib

    with pytest.raises(ImportError, match=rf"pip install 'redismetrics\[{extra}\]'"):
        importlib.import_module(f"redismetrics.push.{protocol}")
