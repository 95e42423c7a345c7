"""Which metrics and series a subscription delivers."""

from typing import Any

import pytest

from redismetrics import (
    InvalidQuery,
    Metrics,
)
from tests.fixtures.servers import PATIENCE
from tests.fixtures.streams import send, take, values

NAMES = ("jobs", "jobs_done", "jobs.done", "job", "queue/depth", "a:b", "zz")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, NAMES),
        ("jobs", ("jobs",)),
        (["jobs", "zz"], ("jobs", "zz")),
        (("zz", "nobody"), ("zz",)),
        ("jobs*", ("jobs", "jobs_done", "jobs.done")),
        ("jobs?done", ("jobs_done", "jobs.done")),
        ("job[s]", ("jobs",)),
        ("*[^sz]", ("jobs_done", "jobs.done", "job", "queue/depth", "a:b")),
        ("a:*", ("a:b",)),
        ("*/*", ("queue/depth",)),
        (["zz", "j*_*"], ("jobs_done", "zz")),
        (iter(["zz"]), ("zz",)),
    ],
)
def test_names_and_patterns_select_metrics(
    metrics: Metrics, other: Metrics, names: Any, expected: tuple[str, ...]
) -> None:
    with metrics.subscribe(names) as stream:
        for value, name in enumerate(NAMES):
            send(other, name, value)
        assert values(take(stream, len(expected))) == [
            (name, NAMES.index(name)) for name in NAMES if name in expected
        ]
        last = expected[0]
        send(other, last, 99)  # so nothing came between
        assert values(take(stream)) == [(last, 99)]


@pytest.mark.parametrize(
    "names",
    [["jobs", "jobs*"], ["j*", "*s"], ["jobs", "jobs"], ["jobs", "*", "j*", "?obs", "[a-z]obs"]],
)
def test_names_and_patterns_that_overlap_deliver_once(
    metrics: Metrics, other: Metrics, names: list[str]
) -> None:
    with metrics.subscribe(names) as stream:
        for value in range(3):
            other.gauge("jobs", value)
            other.gauge("j_s", value)  # between, in the same batch
            other.flush()
        found = [
            sample for sample in take(stream, 6 if "j*" in names else 3) if sample.name == "jobs"
        ]
        assert values(found) == [("jobs", 0), ("jobs", 1), ("jobs", 2)]
        send(other, "jobs", 9)
        assert values(take(stream)) == [("jobs", 9)]


def test_another_namespace_is_not_received(url: str, metrics: Metrics, other: Metrics) -> None:
    with (
        metrics.subscribe("*") as stream,
        Metrics(url, namespace=f"{metrics.settings.namespace}2") as longer,
        Metrics(url, namespace=metrics.settings.namespace[:-1]) as shorter,
    ):
        send(longer, "depth", 1)
        send(shorter, "depth", 2)
        send(other, "depth", 3)
        assert values(take(stream)) == [("depth", 3)]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"queue": "mail"}, [0, 1]),
        ({"queue": "mail", "n": 1}, [0]),
        ({"n": 1}, [0, 2]),
        ({"n": None}, [1, 3]),  # as in queries: without the tag
        ({"queue": "mail", "n": None}, [1]),
        ({}, [0, 1, 2, 3]),
        (None, [0, 1, 2, 3]),
        ({"queue": "nobody"}, []),
    ],
)
def test_tags_select_series(
    metrics: Metrics, other: Metrics, tags: Any, expected: list[int]
) -> None:
    series: list[dict[str, Any]] = [
        {"queue": "mail", "n": 1},
        {"queue": "mail"},
        {"queue": "audio", "n": 1},
        {},
    ]
    with metrics.subscribe("depth", tags=tags) as stream, metrics.subscribe("depth") as all_of_them:
        for value, of_series in enumerate(series):
            other.gauge("depth", value, tags=of_series)
        other.flush()
        take(all_of_them, 4)
        found: list[Any] = []
        while len(found) < len(expected) or (item := stream.get(0.05)) is not None:
            found.append(stream.get(PATIENCE) if len(found) < len(expected) else item)
        assert [sample.value for sample in found] == expected
        assert [sample.value for sample in metrics.query("depth", tags=tags)] == expected


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (None, ["counter", "gauge", "histogram"]),
        ("gauge", ["gauge"]),
        (["counter", "histogram"], ["counter", "histogram"]),
        (iter(["gauge"]), ["gauge"]),
    ],
)
def test_types_select_metrics(
    metrics: Metrics, other: Metrics, types: Any, expected: list[str]
) -> None:
    with metrics.subscribe(types=types) as stream:
        for value in (1, 2):
            other.increment("jobs", value)
            other.gauge("depth", value)
            other.histogram("took", value)
            other.flush()
        assert [(sample.type, sample.value) for sample in take(stream, 2 * len(expected))] == [
            (kind, value) for value in (1, 2) for kind in expected
        ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"names": []}, "at least one"),
        ({"names": ""}, "names"),
        ({"names": "a b"}, "names"),
        ({"names": "jobs\\*"}, "names"),
        ({"names": "jöbs"}, "names"),
        ({"names": "jobs\n"}, "names"),
        ({"names": "9"}, "metric name"),
        ({"names": "a]"}, "metric name"),
        ({"names": "x" * 201}, "names"),
        ({"names": 5}, "names"),
        ({"names": [5]}, "names"),
        ({"names": ["jobs", None]}, "names"),
        ({"names": b"jobs"}, "names"),
        ({"types": "meter"}, "type"),
        ({"types": ["gauge", "Gauge"]}, "type"),
        ({"types": []}, "type"),
        ({"types": 5}, "type"),
        ({"types": [None]}, "type"),
        ({"tags": "a=b"}, "tags"),
        ({"tags": {"a b": "c"}}, "tag key"),
        ({"tags": {"a b": None}}, "tag key"),
        ({"tags": {"a": []}}, "tag"),
        ({"tags": {5: "x"}}, "tag key"),
        ({"every": 0}, "every"),
        ({"every": "5"}, "every"),
        ({"every": float("inf")}, "every"),
        ({"every": float("nan")}, "every"),
        ({"queue": 0}, "queue"),
        ({"queue": 1.5}, "queue"),
        ({"queue": True}, "queue"),
    ],
)
def test_a_wrong_argument_raises_before_anything_connects(
    options: dict[str, Any], says: str
) -> None:
    with Metrics("redis://127.0.0.1:1/0") as metrics, pytest.raises(InvalidQuery, match=says):
        metrics.subscribe(**options)
