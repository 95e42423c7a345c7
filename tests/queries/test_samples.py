"""Samples one by one, as they were recorded."""

import json
import statistics
import time
from datetime import UTC, timedelta, timezone
from typing import Any

import pytest

from redismetrics import (
    Metrics,
    Sample,
)
from tests.fixtures.queries import (
    DAY,
    HOUR,
    at,
    moment,
)


def test_query_without_aggregation_returns_samples_oldest_first(metrics: Metrics) -> None:
    metrics.histogram("score", 2.5, tags={"model": "b"}, timestamp=at(20))
    metrics.histogram(
        "score", 1.5, tags={"model": "a"}, timestamp=at(10), metadata={"note": [1, {"x": None}]}
    )
    assert metrics.query("score") == [
        Sample(
            "score",
            "histogram",
            1.5,
            1,
            {"model": "a"},
            moment(10),
            {
                "note": [1, {"x": None}],
            },
        ),
        Sample("score", "histogram", 2.5, 1, {"model": "b"}, moment(20), {}),
    ]


def test_samples_can_be_grouped(grouped: Metrics) -> None:
    found = grouped.query("score", group_by="model")
    assert [(row["model"], [sample.value for sample in row["samples"]]) for row in found] == [
        (None, [16]),
        ("llama-3.1", [2, 4, 8]),
        ("qwen", [1, 32]),
    ]


def test_equal_increments_of_a_flush_are_one_sample_with_a_count(metrics: Metrics) -> None:
    for _ in range(352):
        metrics.increment("jobs")
    (sample,) = metrics.query("jobs")
    assert (sample.value, sample.count, sample.approximate) == (1, 352, False)


def test_compressed_samples_are_marked_approximate(metrics: Metrics) -> None:
    values = [float(value) for value in range(1000)]
    for value in values:
        metrics.histogram("size", value)
    samples = metrics.query("size")
    assert len(samples) <= 2 * 100  # the values may lie in two minutes
    assert sum(sample.count for sample in samples) == 1000
    assert all(sample.approximate == (sample.count > 1) for sample in samples)
    assert any(sample.approximate for sample in samples)
    assert metrics.query("size", aggregation="sum") == sum(values)
    assert metrics.query("size", aggregation="stddev") == pytest.approx(
        statistics.pstdev(values), rel=1e-12
    )


def test_timestamp_is_kept_to_the_millisecond(metrics: Metrics) -> None:
    given: list[Any] = [
        at(1.234),
        moment(5),
        moment(6.001).astimezone(timezone(timedelta(hours=9))),
        int(at(7)),
    ]
    for timestamp in given:
        metrics.increment("jobs", timestamp=timestamp)
    found = metrics.query("jobs")
    assert [sample.timestamp for sample in found] == [
        moment(1.234),
        moment(5),
        moment(6.001),
        moment(7),
    ]
    assert {sample.timestamp.tzinfo for sample in found} == {UTC}


def test_default_timestamp_is_the_time_of_recording(url: str, namespace: str) -> None:
    now = [at(1.5)]
    with Metrics(url, namespace=namespace, clock=lambda: now[0], flush_interval=HOUR) as metrics:
        metrics.gauge("depth", 1)
        metrics.increment("jobs")
        now[0] = at(2.5)
        metrics.histogram("size", 1, metadata={"a": 1})
        assert metrics.query("depth")[0].timestamp == moment(1.5)
        assert metrics.query("size")[0].timestamp == moment(2.5)
        assert metrics.query("jobs")[0].timestamp == moment(2.5)  # a counter's is that of its flush


def test_timestamps_of_a_fast_clock_are_limited_to_the_server_time(
    url: str, namespace: str
) -> None:
    with Metrics(url, namespace=namespace, clock=lambda: time.time() + DAY) as metrics:
        metrics.gauge("depth", 1)
        metrics.increment("jobs")
        metrics.histogram("size", 1, metadata={"a": 1})
        for name in ("depth", "jobs", "size"):
            assert metrics.query(name, aggregation="count", window="1m") == 1


def test_samples_with_metadata_are_kept_one_by_one(metrics: Metrics) -> None:
    given = {"id": "x" * 4000, "nested": {"list": [1, 2.5, None, True, "ü\n\"'{}🦊"]}, "": 0}
    for value in range(300):  # many more than are kept one by one of a series
        metrics.histogram(
            "score", value, metadata={**given, "n": value} if value < 2 else {"n": value}
        )
    found = metrics.query("score")
    assert [sample.metadata["n"] for sample in found] == list(range(300))
    assert found[1].metadata == {**given, "n": 1}
    assert not any(sample.approximate for sample in found)


HOSTILE = [
    "",
    " ",
    '"',
    "'",
    "`",
    "\\",
    "\\n",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "a\0b",
    "{",
    "}",
    "{}",
    "{x}:{y}",
    "a/b",
    "//",
    "\\/",
    "%s%d",
    "*?[a]",
    "a=b,c=d",
    "null",
    "None",
    "0",
    "true",
    "ü",
    "中文",
    "🦊",
    "e\u0301",
    "é",
    "\u202eright to left",
    "\x7f\x80",
    "</script>",
    "'; FLUSHALL; --",
    "x" * 1024,
    "🦊" * 256,
]


def test_any_text_survives_in_tags_and_metadata(metrics: Metrics) -> None:
    for number, text in enumerate(HOSTILE):
        metrics.gauge(
            "depth",
            number,
            tags={"text": text},
            metadata={"text": text, text: 1},
            timestamp=at(number),
        )
    expected = dict(enumerate(HOSTILE))
    assert {sample.value: sample.tags["text"] for sample in metrics.query("depth")} == expected
    assert {sample.value: sample.metadata["text"] for sample in metrics.query("depth")} == expected
    assert all(
        sample.metadata[sample.tags["text"]] == 1
        for sample in metrics.query("depth")
        if sample.tags["text"] != "text"
    )
    grouped = metrics.query("depth", aggregation="last", group_by="text")
    assert [(row["text"], row["last"]) for row in grouped] == sorted(
        (text, number) for number, text in expected.items()
    )
    assert {
        row["value"]: row["tags"]["text"] for row in metrics.get_metrics()["metrics"]
    } == expected
    assert metrics.tag_values("depth", "text") == sorted(HOSTILE)
    rollup = metrics.rollup("depth", group_by="text", aggregations="last", keys="tuple")
    assert {row["last"]: key[0] for key, row in rollup.items()} == expected
    assert {series.tags["text"]: series.value for series in metrics.live("depth")[0].series} == {
        text: number for number, text in expected.items()
    }
    for number, text in expected.items():
        assert metrics.query("depth", aggregation="last", tags={"text": text}) == number
    decoded = json.loads(metrics.to_json(metrics.get_metrics()))
    assert {row["value"]: row["metadata"]["text"] for row in decoded["metrics"]} == expected


@pytest.mark.parametrize("name", ["a:log", "a/b", "a.b-c", "_", "clock", "config", "N" * 200])
def test_any_valid_name_can_be_queried(metrics: Metrics, name: str) -> None:
    metrics.increment(name, tags={name: name})
    metrics.increment("a")
    assert metrics.query(name, aggregation="count", group_by=name) == [{name: name, "count": 1}]
    assert metrics.query("a", aggregation="sum") == 1
    assert {row["name"] for row in metrics.list_metrics()} == {"a", name}
