"""Exemplars: the newest of each series and bucket, on the OpenMetrics page and in a list."""

import asyncio
import math
import re
from typing import Any

import msgpack
import pytest
import redis
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from redismetrics import AsyncMetrics, Counter, Histogram, InvalidTags, Metrics, TypeMismatch
from redismetrics.export import export
from redismetrics.model.exemplar import Exemplar
from redismetrics.recording import drain
from redismetrics.store import keys
from redismetrics.testing import Captured
from tests.fixtures.clients import MakeMetrics, MakeWorker

BUCKETS = [0.1, 1, 10]


def listed(
    metrics: Metrics, name: str, **tags: str
) -> dict[float | None, tuple[dict[str, str], float]]:
    """Return labels and value of each exemplar by the bound of its bucket."""
    return {each.le: (each.labels, each.value) for each in metrics.exemplars(name, tags=tags)}


def shown(metrics: Metrics) -> dict[tuple[str, str | None], tuple[dict[str, str], float]]:
    """Return the exemplars of the OpenMetrics page, by name of the sample and bucket."""
    found = {}
    for family in parse_openmetrics(export(metrics=metrics, openmetrics=True)):
        for sample in family.samples:
            if sample.exemplar:
                key = (sample.name, sample.labels.get("le"))
                found[key] = (sample.exemplar.labels, sample.exemplar.value)
    return found


def trace(number: int | str) -> dict[str, str]:
    return {"trace_id": f"t{number}"}


def test_newest_of_each_bucket_is_on_the_page_and_listed(
    metrics: Metrics, other: Metrics, make_worker: MakeWorker
) -> None:
    metrics.declare("took", "histogram", buckets=BUCKETS)
    for number, value in enumerate((0.05, 0.5, 0.7, 70)):
        metrics.histogram("took", value, exemplar=trace(number))
    metrics.histogram("took", 5)
    metrics.increment("jobs", 3, exemplar=trace("a"))
    metrics.increment("jobs", 2)
    metrics.flush()
    other.histogram("took", 0.06, exemplar=trace("other"))
    other.flush()
    make_worker().pass_once()
    assert listed(metrics, "took") == {
        0.1: (trace("other"), 0.06),
        1: (trace(2), 0.7),
        math.inf: (trace(3), 70),
    }
    assert listed(metrics, "jobs") == {None: (trace("a"), 3)}
    assert shown(metrics) == {
        ("took_bucket", "0.1"): (trace("other"), 0.06),
        ("took_bucket", "1.0"): (trace(2), 0.7),
        ("took_bucket", "+Inf"): (trace(3), 70),
        ("jobs_total", None): (trace("a"), 3),
    }
    assert " # {" not in export(metrics=metrics)
    assert "exemplar" not in repr(metrics.query("took"))


def test_line_of_a_page(metrics: Metrics) -> None:
    metrics.declare("took", "histogram", buckets=[1])
    labels = {"trace_id": 'a"b\\c\nd', "n": 7}
    metrics.histogram("took", 0.25, tags={"q": "x"}, exemplar=labels)
    metrics.histogram("took", 0.5, tags={"q": "y"})
    metrics.flush()
    page = export(metrics=metrics, openmetrics=True)
    line = r'took_bucket\{q="x",le="1.0"\} 1 # \{trace_id="a\\"b\\\\c\\nd",n="7"\} 0.25 \d+\.\d{3}'
    assert re.search(f"^{line}$", page, re.MULTILINE)
    assert page.count(" # {") == 1
    # The parser of prometheus_client does not read an escaped quote here.
    metrics.histogram("took", 0.25, tags={"q": "x"}, exemplar={"trace_id": "b\\c\nd"})
    metrics.flush()
    assert shown(metrics)["took_bucket", "1.0"] == ({"trace_id": "b\\c\nd"}, 0.25)


def test_bound_instruments_and_record(metrics: Metrics) -> None:
    counter = Counter("jobs", {"queue": "mail"}, metrics=metrics)
    histogram = Histogram("took", metrics=metrics)
    for number in range(3):
        counter.increment(exemplar=trace(number))
        histogram.record(0.5, exemplar=trace(number))
    counter.increment()
    metrics.record("size", 2.5, type="histogram", exemplar=trace(9))
    metrics.flush()
    assert listed(metrics, "jobs", queue="mail") == {None: (trace(2), 1)}
    assert listed(metrics, "jobs", queue="audio") == {}
    assert list(listed(metrics, "took").values()) == [(trace(2), 0.5)]
    assert list(listed(metrics, "size").values()) == [(trace(9), 2.5)]
    assert metrics.query("jobs", aggregation="sum") == 4
    assert metrics.exemplars("nothing") == []


def test_late_exemplar_does_not_replace_a_newer_one(metrics: Metrics) -> None:
    metrics.increment("jobs", exemplar=trace("new"))
    metrics.flush()
    (newest,) = metrics.exemplars("jobs")
    at = newest.timestamp.timestamp()
    metrics.increment("jobs", timestamp=at - 60, exemplar=trace("late"))
    metrics.flush()
    assert metrics.exemplars("jobs") == [newest]
    # A time that is ahead is cut to that of the batch, so that newer ones replace it.
    metrics.increment("jobs", timestamp=at + 30, exemplar=trace("ahead"))
    metrics.flush()
    (found,) = metrics.exemplars("jobs")
    assert found.labels == trace("ahead")
    assert found.timestamp.timestamp() < at + 20
    metrics.increment("jobs", exemplar=trace("newest"))
    metrics.flush()
    assert listed(metrics, "jobs") == {None: (trace("newest"), 1)}


def test_exemplars_of_samples_that_wait_are_merged(make_metrics: MakeMetrics, url: str) -> None:
    metrics = make_metrics()
    metrics.declare("took", "histogram", buckets=BUCKETS)
    for number in range(3):
        for queue in "abc":
            metrics.histogram(
                "took", 0.5, tags={"queue": queue}, exemplar=trace(f"{queue}{number}")
            )
        # Drained, and not sent.
        metrics._sink.collector.collect_now()
    metrics.flush()
    assert {each.tags["queue"]: each.labels for each in metrics.exemplars("took")} == {
        queue: trace(f"{queue}2") for queue in "abc"
    }


def test_no_exemplar_is_sent_before_its_sample(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    drained = drain.drain

    def drain_and_record(*arguments: Any) -> Any:
        found = drained(*arguments)
        # Another thread records after the samples were taken.
        metrics.increment("jobs", exemplar=trace("late"))
        return found

    metrics.increment("jobs", exemplar=trace("early"))
    with monkeypatch.context() as patch:
        patch.setattr(drain, "drain", drain_and_record)
        metrics._sink.collector.collect_now()
    batches = metrics._sink.send_queue.take(0)
    assert [
        (batch.samples.count, [each.unpacked() for each in batch.exemplars]) for batch in batches
    ] == [(1, [trace("early")])]
    metrics._sink.send_queue.put_back(batches)
    metrics.flush()
    assert listed(metrics, "jobs") == {None: (trace("late"), 1)}


def test_key_expires_and_is_deleted_with_series_and_metric(
    metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    key = keys.exemplars(namespace, 0, "jobs")
    for queue in "ab":
        metrics.increment("jobs", tags={"queue": queue}, exemplar=trace(queue))
    metrics.increment("other")
    metrics.flush()
    assert 86_000 < admin.ttl(key) <= 86_400
    assert not admin.exists(keys.exemplars(namespace, 0, "other"))
    metrics.delete_series("jobs", {"queue": "a"})
    assert [each.labels for each in metrics.exemplars("jobs")] == [trace("b")]
    metrics.delete_metric("jobs")
    assert not admin.exists(key)
    metrics.increment("jobs", exemplar=trace("c"))
    metrics.flush()
    metrics.clear(confirm=True)
    assert not admin.exists(key)


def test_many_exemplars_of_one_flush_are_bounded(
    metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    for number in range(1_500):
        metrics.increment("jobs", tags={"n": number}, exemplar=trace(number))
    metrics.flush()
    assert admin.hlen(keys.exemplars(namespace, 0, "jobs")) == 1_000
    assert metrics.query("jobs", aggregation="sum") == 1_500


def test_those_older_than_a_day_are_not_shown(
    metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    for queue in "ab":
        metrics.increment("jobs", tags={"queue": queue}, exemplar=trace(queue))
    metrics.flush()
    key = keys.exemplars(namespace, 0, "jobs")
    fields = admin.hgetall(key)
    field = next(name for name, data in fields.items() if trace("a")["trace_id"].encode() in data)
    value, time_ms, clock, labels = msgpack.unpackb(fields[field])
    admin.hset(key, field, msgpack.packb([value, time_ms - 86_400_001, clock, labels]))
    assert [each.labels for each in metrics.exemplars("jobs")] == [trace("b")]
    assert list(shown(metrics).values()) == [(trace("b"), 1)]


@pytest.mark.slow
def test_key_with_too_many_fields_is_deleted(
    metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    metrics.increment("jobs", exemplar=trace(1))
    metrics.flush()
    key = keys.exemplars(namespace, 0, "jobs")
    stored = admin.hget(key, "0 0")
    for more, left in ((99_999, 100_000), (1, 1)):
        first = admin.hlen(key)
        admin.hset(key, mapping={f"{first + number} 0": stored for number in range(more)})
        metrics.increment("jobs", exemplar=trace(2))
        metrics.flush()
        assert admin.hlen(key) == left
        assert listed(metrics, "jobs") == {None: (trace(2), 1)}


def test_key_of_another_type_is_refused(
    metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    admin.set(keys.exemplars(namespace, 0, "jobs"), "text")
    metrics.increment("jobs", exemplar=trace(1))
    metrics.increment("others", exemplar=trace(2))
    metrics.flush()
    assert metrics.stats()["dropped"] == {"refused": 1}
    assert listed(metrics, "others") == {None: (trace(2), 1)}
    admin.delete(keys.exemplars(namespace, 0, "jobs"))
    metrics.increment("jobs", exemplar=trace(3))
    metrics.flush()
    assert listed(metrics, "jobs") == {None: (trace(3), 1)}


@pytest.mark.parametrize(
    "damaged",
    [
        b"\xc1",
        msgpack.packb([1.0, 5, 5]),
        msgpack.packb([math.inf, 1 << 40, 5, {"a": "b"}]),
        msgpack.packb([1.0, 1 << 62, 5, {"a": "b"}]),
        # It would begin a line of the page.
        msgpack.packb([1.0, 1 << 40, 5, {'a"} 1\nforged_total 9\n# ': "b"}]),
    ],
)
def test_damaged_exemplar_hides_neither_totals_nor_others(
    metrics: Metrics, admin: redis.Redis, namespace: str, damaged: bytes
) -> None:
    metrics.increment("jobs", 2, tags={"a": "1"}, exemplar=trace(1))
    metrics.increment("jobs", 3, tags={"a": "2"}, exemplar=trace(2))
    metrics.flush()
    admin.hset(keys.exemplars(namespace, 0, "jobs"), mapping={"0 0": damaged, "x": damaged})
    page = export(metrics=metrics, openmetrics=True)
    (jobs,) = (each for each in parse_openmetrics(page) if each.name == "jobs")
    assert [(each.value, bool(each.exemplar)) for each in jobs.samples] == [(2, False), (3, True)]
    assert "forged" not in page
    assert [each.labels for each in metrics.exemplars("jobs")] == [trace(2)]


def test_damaged_exemplar_is_replaced(metrics: Metrics, admin: redis.Redis, namespace: str) -> None:
    metrics.increment("jobs", exemplar=trace(1))
    metrics.flush()
    for damaged in (b"\xc1", b"\x01", b"\xa1x", b"\x94\xa1x\xa1x\xa1x\xa1x"):
        admin.hset(keys.exemplars(namespace, 0, "jobs"), "0 0", damaged)
        metrics.increment("jobs", exemplar=trace(2))
        metrics.flush()
        assert listed(metrics, "jobs") == {None: (trace(2), 1)}


LONG = {"trace_id": "ä" * 120}


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ("abc", "exemplar must be a mapping of labels, got 'abc'"),
        ({}, "exemplar must be a mapping of labels, got {}"),
        ({"a-b": "x"}, "exemplar must have labels of letters"),
        ({1: "x"}, "exemplar must have labels of letters"),
        ({"a": object()}, "must be a str"),
        ({"trace_id": "ä" * 121}, "at most 128 characters .*, got 129"),
    ],
)
def test_wrong_labels_raise_at_the_call(metrics: Metrics, labels: Any, says: str) -> None:
    counter = Counter("jobs", metrics=metrics)
    counter.increment()
    for call in (
        lambda: metrics.increment("jobs", exemplar=labels),
        lambda: counter.increment(1, exemplar=labels),
        lambda: metrics.histogram("took", 1.0, exemplar=labels),
        lambda: metrics.check("took", 1.0, type="histogram", exemplar=labels),
    ):
        with pytest.raises(InvalidTags, match=says):
            call()
    assert metrics.stats()["recorded"] == 1
    metrics.increment("jobs", exemplar=LONG)


def test_only_counters_and_histograms_have_exemplars(metrics: Metrics) -> None:
    for kind in ("gauge", "summary"):
        with pytest.raises(TypeMismatch, match=f"counters and histograms, but 'size' is a {kind}"):
            metrics.record("size", 1, type=kind, exemplar=trace(1))  # type: ignore[arg-type]


def test_of_a_type_that_differs_in_redis(metrics: Metrics, other: Metrics) -> None:
    metrics.gauge("size", 1)
    metrics.flush()
    # Guessed to be a histogram.
    other.record("size", 2.5, exemplar=trace(1))
    other.flush()
    assert other.stats()["dropped"] == {}
    assert other.exemplars("size") == []


def test_captured(captured: Captured) -> None:
    with Metrics("none://") as metrics:
        for queue in "ab":
            metrics.increment("jobs", tags={"queue": queue}, exemplar=trace(queue))
        metrics.histogram("took", 0.5, exemplar=trace(1))
        metrics.histogram("took", 0.5)
    assert captured.counter("jobs").exemplars == [trace("a"), trace("b")]
    assert captured.counter("jobs", queue="b").exemplars == [trace("b")]
    assert captured.histogram("took").exemplars == [trace(1)]
    assert captured.histogram("took").recorded(0.5, 0.5)
    captured.clear()
    assert captured.histogram("took").exemplars == []


def test_with_asyncio(url: str, namespace: str) -> None:
    async def main() -> None:
        async with AsyncMetrics(url, namespace=namespace) as metrics:
            metrics.histogram("took", 20_000_000.0, exemplar=trace(1))
            (found,) = await metrics.exemplars("took")
            assert isinstance(found, Exemplar)
            assert found.to_dict() == {
                "name": "took",
                "tags": {},
                "labels": trace(1),
                "value": 20_000_000.0,
                "timestamp": found.timestamp.isoformat(),
                "le": "+Inf",
            }
            (family,) = await metrics.live("took", exemplars=True)
            assert [each.labels for each in family.series[0].exemplars.values()] == [trace(1)]

    asyncio.run(main())
