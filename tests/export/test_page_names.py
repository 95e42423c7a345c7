"""Names and tags that collide or are hostile, recorded in Redis and read from the page."""

import itertools
from typing import Any

import pytest

from redismetrics import Metrics
from redismetrics.export import export
from tests.export.pages import at, both_formats, histogram_of, page
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.exposition import (
    HOSTILE_VALUES,
    needs_promtool,
    promtool,
    read,
)


def names_on_page(metrics: Metrics) -> dict[float, str]:
    """Return the name of each sample by its value."""
    return {value: name for (name, _), value in page(metrics).items()}


@pytest.mark.parametrize("order", list(itertools.permutations(["a.b", "a_b", "a/b"])))
@pytest.mark.parametrize("together", [False, True])
def test_the_metric_recorded_first_keeps_its_name(
    metrics: Metrics,
    other: Metrics,
    make_metrics: MakeMetrics,
    order: tuple[str, ...],
    together: bool,
) -> None:
    for number, name in enumerate(order):
        client = metrics if together else (metrics, other)[number % 2]
        client.gauge(name, number)
        if not together:
            client.flush()
    metrics.flush()
    for number, name in reversed(list(enumerate(order))):  # who comes again changes nothing
        other.gauge(name, number)
        other.flush()
    assert names_on_page(make_metrics()) == {0: "a_b", 1: "a_b_2", 2: "a_b_3"}


def test_a_metric_that_was_deleted_comes_last(metrics: Metrics) -> None:
    for number, name in enumerate(("a.b", "a_b")):
        metrics.gauge(name, number)
    metrics.flush()
    metrics.delete_metric("a.b")
    assert names_on_page(metrics) == {1: "a_b"}
    metrics.gauge("a.b", 0)
    assert names_on_page(metrics) == {1: "a_b", 0: "a_b_2"}


@both_formats
@pytest.mark.parametrize("first", ["lat", "lat_count"])
def test_a_histogram_beside_a_metric_named_like_its_count(
    metrics: Metrics, first: str, openmetrics: bool
) -> None:
    metrics.declare("lat", "histogram", buckets=(1, 2))
    for name in sorted(["lat", "lat_count"], reverse=first != "lat"):
        if name == "lat":
            metrics.histogram("lat", 1.5)
        else:
            metrics.gauge("lat_count", 77)
        metrics.flush()
    histogram, gauge = ("lat", "lat_count_2") if first == "lat" else ("lat_2", "lat_count")
    assert page(metrics, openmetrics=openmetrics) == {
        **histogram_of(histogram, [1.5], (1, 2)),
        at(gauge): 77,
    }


def test_a_counter_has_one_total(metrics: Metrics) -> None:
    metrics.increment("bytes_total", 2)
    metrics.flush()
    metrics.increment("bytes", 3)
    assert page(metrics) == {at("bytes_total"): 2, at("bytes_2_total"): 3}


@both_formats
def test_tags_that_collide_or_are_reserved_get_a_prefix(
    metrics: Metrics, openmetrics: bool
) -> None:
    metrics.declare("took", "histogram", buckets=(1,))
    metrics.histogram("took", 0.5, tags={"le": "mine", "queue": "mail"})
    metrics.gauge("depth", 4, tags={"le": "mine", "a.b": "dot", "a_b": "line"})
    assert page(metrics, openmetrics=openmetrics) == {
        **histogram_of("took", [0.5], (1,), tag_le="mine", queue="mail"),
        at("depth", le="mine", a_b="line", tag_a_b="dot"): 4,
    }


@both_formats
def test_any_tag_value_comes_back_exactly(
    metrics: Metrics, other: Metrics, openmetrics: bool
) -> None:
    for number, value in enumerate(HOSTILE_VALUES):
        (metrics, other)[number % 2].increment(
            "jobs", number + 1, tags={"value": value, "n": str(number)}
        )
    other.flush()
    assert page(metrics, openmetrics=openmetrics) == {
        at("jobs_total", value=value, n=str(number)): number + 1
        for number, value in enumerate(HOSTILE_VALUES)
    }


def record_hostile(metrics: Metrics) -> int:
    """Record metrics with hostile names, tags and values; return how many."""
    for number, value in enumerate(HOSTILE_VALUES):
        metrics.gauge("values", number, tags={"value": value, "n": number})
    keys = [
        f"{start}{middle}{end}"
        for start in ("le", "__a", "tag_")
        for middle in "_./:-"
        for end in ("", "b")
    ]
    tags = {key: str(number) for number, key in enumerate(keys)}
    names = [
        start + end
        for start in ("a", "_", "a.b", "a-b", "a_b", "B:", "quantile", "go_", "up")
        for end in (
            "",
            "_total",
            "/total",
            "_bucket",
            "_count",
            "_sum",
            "_created",
            "_info",
            "_2",
            "_total_total",
        )
    ]
    for number, name in enumerate(names):
        kind: Any = ("counter", "gauge", "histogram")[number % 3]
        metrics.declare(
            name,
            kind,
            help=f'{number} "help\\n" \r\0\u2028 \n# EOF',
            unit=("", "total", "b")[number % 3],
        )
        for value in (0.5, 7.0) if kind == "counter" else (0.5, -1e6):
            metrics.record(
                name, value, type=kind, tags=tags if number % 7 == 0 else {"x": str(number)}
            )
        if number % 10 == 0:
            metrics.flush()
    return 1 + len(names)


@needs_promtool
def test_promtool_reads_a_hostile_page(metrics: Metrics) -> None:
    record_hostile(metrics)
    code, said = promtool(export(metrics=metrics))
    assert code in (0, 3), said  # 3: bad style of names


@both_formats
def test_python_reads_a_hostile_page(metrics: Metrics, openmetrics: bool) -> None:
    count = record_hostile(metrics)
    assert len(read(export(metrics=metrics, openmetrics=openmetrics), openmetrics)) == count


@needs_promtool
def test_promtool_accepts_an_ordinary_page(metrics: Metrics, other: Metrics) -> None:
    metrics.declare(
        "request_duration_seconds", "histogram", unit="seconds", help="How long requests take"
    )
    for client in (metrics, other):
        client.histogram("request_duration_seconds", 0.3, tags={"method": "GET"})
        client.increment("jobs_completed", 2, tags={"queue": "mail"})
        client.gauge("queue_depth", 7, tags={"queue": "mail"})
        client.flush()
    assert promtool(export(metrics=metrics)) == (0, "")
