"""Series that have ended: staleness markers of remote write, points without a value of OTLP."""

import struct
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cramjam", reason="needs redismetrics[promql]")
pytest.importorskip("opentelemetry.proto", reason="needs redismetrics[otel]")

from redismetrics import Metrics
from redismetrics.exposition.remote_write_message import decode
from redismetrics.push import otlp, remote_write
from redismetrics.push.credentials import Credentials
from redismetrics.push.sender import PushSender
from redismetrics.push.snapshot import TotalsSnapshot
from redismetrics.push.targets import parse_targets
from tests.fixtures.servers import PROCESS_PATIENCE, free_port, wait_until
from tests.push.receivers import otlp_points
from tests.push.test_against_receivers import RECEIVERS, asked, page, pushing
from tests.push.test_requests import snapshot_of

Names = set[tuple[str, frozenset[tuple[str, str]]]]


def record(metrics: Metrics) -> None:
    metrics.declare("took", "histogram", buckets=[0.5, 2])
    for queue in "ab":
        metrics.increment("jobs", 3, tags={"queue": queue})
        metrics.histogram("took", 1, tags={"queue": queue})
    metrics.gauge("depth", 4)
    metrics.info("build").set({"version": "1"})


def end(metrics: Metrics) -> None:
    metrics.delete_series("jobs", {"queue": "a"})
    metrics.delete_series("took", {"queue": "a"})
    metrics.delete_metric("depth")
    metrics.info("build").set({"version": "2"})


def markers(now: TotalsSnapshot, before: TotalsSnapshot | None) -> tuple[Names, Names]:
    """Return the series of remote write that have a value, and those that have a marker."""
    values: Names = set()
    ended: Names = set()
    for request in remote_write.make_requests(now, {"job": "shop"}, before):
        message = decode(request.body, 1 << 30)
        assert sum(len(each.samples) for each in message.timeseries) == request.samples
        for series in message.timeseries:
            labels = {label.name: label.value for label in series.labels}
            assert labels.pop("job") == "shop"
            (sample,) = series.samples
            assert sample.timestamp == now.time_ms
            is_marker = struct.pack("<d", sample.value) == struct.pack("<Q", 0x7FF0000000000002)
            name = labels.pop("__name__")
            (ended if is_marker else values).add((name, frozenset(labels.items())))
    assert not values & ended
    return values, ended


def test_remote_write_marks_each_series_that_has_ended(metrics: Metrics) -> None:
    record(metrics)
    before = snapshot_of(metrics)
    assert markers(before, None)[1] == markers(before, before)[1] == set()
    end(metrics)
    after = snapshot_of(metrics)
    values, ended = markers(after, before)
    a = ("queue", "a")
    assert ended == {
        ("jobs_total", frozenset({a})),
        *(("took_bucket", frozenset({a, ("le", bound)})) for bound in ("0.5", "2.0", "+Inf")),
        ("took_sum", frozenset({a})),
        ("took_count", frozenset({a})),
        ("depth", frozenset()),
        ("build_info", frozenset({("version", "1")})),
    }
    assert values == markers(after, None)[0]
    # Once: the next snapshot has lost nothing more.
    assert markers(snapshot_of(metrics), after)[1] == set()


def test_a_series_with_the_labels_of_another_one_does_not_end(metrics: Metrics) -> None:
    metrics.increment("jobs", tags={"queue": "a", "empty": ""})
    metrics.increment("jobs", tags={"queue": "a"})
    before = snapshot_of(metrics)
    metrics.delete_series("jobs", {"queue": "a", "empty": ""})
    assert markers(snapshot_of(metrics), before)[1] == set()


def test_otlp_has_points_without_a_value(metrics: Metrics) -> None:
    record(metrics)
    before = snapshot_of(metrics)
    end(metrics)
    (request,) = otlp.make_requests(snapshot_of(metrics), {}, before)
    points = otlp_points(request.body)
    ended = {key for key, (_, point) in points.items() if point.flags == 1}
    assert ended == {
        ("jobs_total", (("queue", "a"),)),
        ("took", (("queue", "a"),)),
        ("depth", ()),
        ("build_info", (("version", "1"),)),
    }
    assert points["jobs_total", (("queue", "b"),)][1].as_double == 3


def test_a_sender_remembers_what_it_pushed_last(metrics: Metrics) -> None:
    record(metrics)
    (target,) = parse_targets(["remote-write+http://127.0.0.1:1"], Credentials())
    sender = PushSender(target, {})
    counts: list[Any] = []
    for change in (lambda: None, lambda: end(metrics), lambda: None):
        change()
        counts.append(sum(request.samples for request in sender.requests(snapshot_of(metrics))))
    # Eight markers: of a counter, a histogram of five series, a gauge and an info.
    assert counts[1] - counts[2] == 8


@pytest.mark.slow
@pytest.mark.parametrize("program", RECEIVERS)
def test_receivers_show_no_series_that_has_ended(
    metrics: Metrics, tmp_path: Path, program: str
) -> None:
    pytest.importorskip("httpx", reason="needs httpx")
    run: Any = RECEIVERS[program]
    record(metrics)
    port = free_port()
    with run(tmp_path, port) as at, pushing(metrics, f"http://127.0.0.1:{port}/api/v1/write"):
        wait_until(lambda: asked(at) == page(metrics), "all series are there", PROCESS_PATIENCE)
        before = len(page(metrics))
        end(metrics)
        wait_until(lambda: asked(at) == page(metrics), "what has ended is gone", PROCESS_PATIENCE)
        assert len(page(metrics)) == before - 7
