"""What a subscription delivers: the samples as recorded, once and in order."""

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from redismetrics import (
    FormatMismatch,
    Gauge,
    Metrics,
    Sample,
)
from redismetrics.store import keys
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.exposition import HOSTILE_VALUES
from tests.fixtures.servers import PATIENCE, Server
from tests.fixtures.streams import send, take, values
from tests.system.faults.proxy import Proxy

ROOT = Path(__file__).parents[2]


def test_equal_increments_arrive_as_one_sample_with_their_count(
    metrics: Metrics, other: Metrics
) -> None:
    with metrics.subscribe("jobs") as stream:
        for _ in range(352):
            other.increment("jobs", tags={"queue": "mail"})
        other.increment("jobs", 5, tags={"queue": "audio"})
        before = time.time()
        other.flush()
        one, five = take(stream, 2)
        after = time.time()
    assert (one.name, one.type, one.value, one.count, one.tags) == (
        "jobs",
        "counter",
        1,
        352,
        {"queue": "mail"},
    )
    assert (five.value, five.count, five.tags) == (5, 1, {"queue": "audio"})
    assert one.metadata == {}
    assert not one.approximate
    assert one.timestamp.tzinfo is UTC
    assert before - 1 <= one.timestamp.timestamp() <= after + 1


def test_a_change_of_a_gauge_arrives_as_its_resulting_value(
    metrics: Metrics, other: Metrics
) -> None:
    with metrics.subscribe("depth") as stream:
        for client, change in ((metrics, 5), (other, 2.5), (metrics, -1)):
            handle = Gauge("depth", {"queue": "mail"}, metrics=client)
            handle.add(change)
            handle.add(1)
            client.flush()
        assert [sample.value for sample in take(stream, 3)] == [6, 9.5, 9.5]


def test_timestamp_and_metadata_arrive(metrics: Metrics, other: Metrics) -> None:
    when = datetime.fromtimestamp(time.time() // 1 - 600, UTC).replace(microsecond=123_000)
    with metrics.subscribe() as stream:
        other.increment("jobs", timestamp=when)
        other.gauge("depth", 2, metadata={"note": "ü", "n": [1, None]})
        other.histogram(
            "took", 0.25, timestamp=when, metadata={"trace_id": "a"}, tags={"queue": "mail"}
        )
        other.flush()
        jobs, depth, took = take(stream, 3)
    assert (jobs.timestamp, jobs.metadata) == (when, {})
    assert depth.metadata == {"note": "ü", "n": [1, None]}
    assert took == Sample("took", "histogram", 0.25, 1, {"queue": "mail"}, when, {"trace_id": "a"})


def test_streamed_samples_equal_stored_samples(metrics: Metrics, other: Metrics) -> None:
    with metrics.subscribe("took") as stream:
        for number in range(500):
            other.histogram("took", number / 8, tags={"n": number % 7})
        other.flush()
        found = take(stream, 500)
    key = lambda sample: (sample.tags["n"], sample.value)  # noqa: E731
    assert sorted(found, key=key) == sorted(metrics.query("took"), key=key)


def test_compressed_samples_arrive_as_centroids_that_count_every_sample(
    metrics: Metrics, make_metrics: MakeMetrics
) -> None:
    other = make_metrics(samples_per_flush=20)
    with metrics.subscribe("took") as stream:
        for number in range(1_000):
            other.histogram("took", number)
        other.flush()
        send(other, "end")
        found = take(stream)
        while sum(sample.count for sample in found) < 1_000:
            found += take(stream)
    assert len(found) <= 40  # the 1,000 may lie in two minutes
    assert sum(sample.count for sample in found) == 1_000
    assert sum(sample.count * sample.value for sample in found) == pytest.approx(sum(range(1_000)))
    assert all(sample.approximate == (sample.count > 1) for sample in found)
    assert any(sample.approximate for sample in found)


def test_any_tag_value_comes_back_exactly(metrics: Metrics, other: Metrics) -> None:
    assert len(HOSTILE_VALUES) > 10
    with metrics.subscribe() as stream:
        for value in HOSTILE_VALUES:
            other.gauge(
                "depth", 1, tags={"value": value, value if value in ("le", "a.b") else "key": "x"}
            )
        other.flush()
        assert [
            sample.tags["value"] for sample in take(stream, len(HOSTILE_VALUES))
        ] == HOSTILE_VALUES


CHILD = """
import sys
from redismetrics import Metrics
with Metrics(sys.argv[1], namespace=sys.argv[2], tags={"process": sys.argv[3]}) as metrics:
    for amount in range(1, 4):
        metrics.increment("jobs", amount)
        metrics.flush()
"""


@pytest.mark.slow
def test_the_samples_of_all_clients_and_processes_arrive_in_order(
    url: str, namespace: str, metrics: Metrics, other: Metrics
) -> None:
    with metrics.subscribe("jobs") as stream:
        children = [
            subprocess.Popen([sys.executable, "-c", CHILD, url, namespace, str(number)], cwd=ROOT)
            for number in range(2)
        ]
        for amount in (1, 2, 3):
            for client, process in ((metrics, "here"), (other, "there")):
                client.increment("jobs", amount, tags={"process": process})
                client.flush()
        assert [child.wait(PATIENCE) for child in children] == [0, 0]
        found = take(stream, 12)
    for process in ("0", "1", "here", "there"):
        assert [sample.value for sample in found if sample.tags["process"] == process] == [1, 2, 3]


def test_new_metrics_and_series_are_delivered(metrics: Metrics, other: Metrics) -> None:
    with metrics.subscribe() as stream:
        send(other, "depth", 1)
        send(other, "depth", 2, queue="mail")  # a new series of a metric it knows
        send(metrics, "took", 3, queue="audio")  # a new metric, from another client
        send(other, "depth", 4, queue="mail")
        assert [(sample.name, sample.value, sample.tags) for sample in take(stream, 4)] == [
            ("depth", 1, {}),
            ("depth", 2, {"queue": "mail"}),
            ("took", 3, {"queue": "audio"}),
            ("depth", 4, {"queue": "mail"}),
        ]


@pytest.mark.parametrize("how", ["delete_metric", "clear"])
def test_samples_recorded_after_a_deletion_have_the_right_tags(
    metrics: Metrics, other: Metrics, how: str
) -> None:
    with metrics.subscribe() as stream:
        send(other, "depth", 1, queue="mail")
        send(other, "depth", 2, queue="audio")
        take(stream, 2)
        assert (
            metrics.delete_metric("depth")
            if how == "delete_metric"
            else metrics.clear(confirm=True) == 1
        )
        send(metrics, "depth", 3, queue="audio")
        send(other, "depth", 4, queue="mail")
        send(other, "depth", 5, queue="new")
        assert [(sample.value, sample.tags["queue"]) for sample in take(stream, 3)] == [
            (3, "audio"),
            (4, "mail"),
            (5, "new"),
        ]


def test_a_deleted_metric_comes_back_as_another_type(
    metrics: Metrics, make_metrics: MakeMetrics
) -> None:
    with metrics.subscribe() as stream, metrics.subscribe(types="counter") as counters:
        send(make_metrics(), "jobs", 1)
        assert take(stream)[0].type == "gauge"
        assert metrics.delete_metric("jobs")
        with make_metrics() as other:
            other.increment("jobs", 2)
            other.flush()
            assert (found := take(stream)[0]).type == "counter"
            assert take(counters) == [found]


@pytest.mark.parametrize("junk", [b"junk", b"\x99" * 50, b"\xff" * 500, b"\0"])
@pytest.mark.parametrize("names", ["depth", None])
def test_an_unreadable_message_raises_once_and_the_stream_continues(
    server: Server, namespace: str, metrics: Metrics, other: Metrics, names: Any, junk: bytes
) -> None:
    with metrics.subscribe(names) as stream, server.client() as client:
        send(other, "depth", 1)
        assert client.publish(keys.channel(namespace, "depth"), junk) == 1
        send(other, "depth", 2)
        assert values(take(stream)) == [("depth", 1)]
        with pytest.raises(FormatMismatch, match=r"^corrupt block"):
            stream.get(PATIENCE)
        assert values(take(stream)) == [("depth", 2)]


def test_iteration_can_continue_after_an_unreadable_message(
    server: Server, namespace: str, metrics: Metrics, other: Metrics
) -> None:
    with metrics.subscribe() as stream, server.client() as client:
        client.publish(keys.channel(namespace, "depth"), b"junk")
        send(other, "depth", 2)
        with pytest.raises(FormatMismatch):
            next(iter(stream))
        item = next(iter(stream))
        assert isinstance(item, Sample)
        assert item.value == 2


def test_an_empty_message_is_ignored(
    server: Server, namespace: str, metrics: Metrics, other: Metrics
) -> None:
    """record.lua tests its permissions on Redis 6.2 with one."""
    with metrics.subscribe() as stream, server.client() as client:
        assert client.publish(keys.channel(namespace, "depth"), b"") == 1
        send(other, "depth", 2)
        assert values(take(stream)) == [("depth", 2)]


def test_samples_of_a_metric_deleted_in_the_meantime_are_skipped(
    server: Server, make_metrics: MakeMetrics, metrics: Metrics, other: Metrics
) -> None:
    """Their series can no longer be known."""
    with Proxy(server, unix=True) as proxy, make_metrics(proxy.url).subscribe() as stream:
        send(other, "other", 0)
        take(stream)
        proxy.deaf = True
        proxy.disconnect()
        send(other, "depth", 1, queue="mail")
        assert metrics.delete_metric("depth")
        send(other, "depth", 2, queue="mail")
        proxy.deaf = False
        proxy.disconnect()
        assert values(take(stream)) == [("depth", 2)]
