"""Infos: the labels that were set last for some tags, whatever process set them."""

import pytest

from redismetrics import InvalidTags, InvalidValue, Metrics, TypeMismatch
from redismetrics.export import export
from redismetrics.model.label_sets import LABELS_TAG
from redismetrics.testing import Captured
from tests.export.pages import at, both_formats, page
from tests.fixtures.clients import MakeMetrics, MakeWorker
from tests.fixtures.exposition import needs_promtool, promtool


@both_formats
def test_the_newest_labels_replace_those_before(
    metrics: Metrics, other: Metrics, openmetrics: bool
) -> None:
    metrics.info("build").set({"version": "1", "commit": "a1"}, app="shop")
    metrics.info("build").set({"version": "7"}, app="mail")
    metrics.flush()
    other.info("build").with_tags(app="shop").set({"version": 2})
    other.flush()
    expected = {
        at("build_info", app="shop", version="2"): 1,
        at("build_info", app="mail", version="7"): 1,
    }
    assert page(metrics, openmetrics=openmetrics) == expected
    kind = "info" if openmetrics else "gauge"
    name = "build" if openmetrics else "build_info"
    assert f"# TYPE {name} {kind}\n" in export(metrics=metrics, openmetrics=openmetrics)


def test_the_last_of_several_in_one_flush_is_shown(
    metrics: Metrics, make_worker: MakeWorker
) -> None:
    worker = make_worker()
    info = metrics.info("build")
    for number in range(30):
        info.set({"version": str(number % 7)})
    metrics.flush()
    for _ in range(2):
        assert page(metrics) == {at("build_info", version="1"): 1}
        worker.pass_once()
    # More than fits into the fast path of few series.
    for number in range(100):
        info.set({"version": str(number)}, host=str(number))
    metrics.flush()
    assert len(page(metrics)) == 101
    assert page(metrics)[at("build_info", version="99", host="99")] == 1


def test_late_labels_do_not_replace_newer_ones(metrics: Metrics, other: Metrics) -> None:
    metrics.record("build", {"version": "2"}, type="info")
    metrics.flush()
    other.record("build", {"version": "1"}, type="info", timestamp=1)
    assert other.flush().dropped == {"too_old": 1}
    (sample,) = metrics.query("build")
    early = sample.timestamp.timestamp() - 60
    other.record("build", {"version": "1"}, type="info", timestamp=early)
    other.flush()
    assert page(metrics) == {at("build_info", version="2"): 1}


def test_queries_see_labels_as_tags(metrics: Metrics) -> None:
    info = metrics.info("build")
    info.set({"version": "1"}, app="shop")
    info.set({"version": "2"}, app="shop")
    metrics.flush()
    assert metrics.query("build", aggregation="last", group_by=("app", "version")) == [
        {"app": "shop", "version": "1", "last": 0},
        {"app": "shop", "version": "2", "last": 1},
    ]
    assert metrics.tag_values("build", "version") == ["1", "2"]
    (row,) = metrics.cardinality()
    assert row["tags"] == {"version": 2, "app": 1}
    (listed,) = metrics.list_metrics()
    assert (listed["type"], listed["series"]) == ("info", 2)


def test_overflow_leaves_a_valid_page(metrics: Metrics, make_metrics: MakeMetrics) -> None:
    other = make_metrics(max_tag_values=3)
    for number in range(5):
        other.info("build").set({"version": str(number)}, host=str(number))
    other.flush()
    for openmetrics in (False, True):
        found = page(metrics, openmetrics=openmetrics)
        assert len(found) == 4
        assert found[at("build_info", otel_metric_overflow="true")] == 1


@needs_promtool
def test_promtool_accepts_an_info(metrics: Metrics) -> None:
    metrics.declare("build_info", "info", help="What runs")
    metrics.info("build_info").set({"version": 'a"b\\c\nd', "commit": ""})
    metrics.flush()
    status, said = promtool(export(metrics=metrics))
    assert (status, said) == (0, "")


def test_deleted_series_leaves_the_page(metrics: Metrics) -> None:
    metrics.info("build").set({"version": "1"}, app="shop")
    metrics.info("build").set({"version": "1"}, app="mail")
    metrics.flush()
    assert metrics.delete_series("build", {"app": "shop"}) == 1
    assert page(metrics) == {at("build_info", app="mail", version="1"): 1}


@pytest.mark.parametrize(
    ("labels", "tags", "error", "says"),
    [
        ("1.2", {}, InvalidValue, "its value must be a mapping of labels, got '1.2'"),
        (1, {}, InvalidValue, "its value must be a mapping of labels, got 1"),
        ({"app": "x"}, {"app": "shop"}, InvalidTags, "other names than its tags, got .'app'"),
        ({LABELS_TAG: "x"}, {}, InvalidTags, "other names than its tags"),
        ({"version": object()}, {}, InvalidTags, "must be a str"),
        ({"version": "x" * 5000}, {}, InvalidTags, "at most 4096 bytes"),
    ],
)
def test_wrong_labels_raise_and_record_nothing(
    metrics: Metrics, labels: object, tags: dict[str, str], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        metrics.record("build", labels, type="info", tags=tags)
    assert metrics.stats()["recorded"] == 0
    lenient = Metrics("none://")
    lenient.info("build").set(labels, **tags)  # type: ignore[arg-type]


def test_an_info_is_not_a_number(metrics: Metrics, other: Metrics) -> None:
    metrics.info("build").set({"version": "1"})
    with pytest.raises(InvalidValue, match="'build' is an info"):
        metrics.record("build", 1)
    with pytest.raises(TypeMismatch, match="'build' is a info"):
        metrics.gauge("build", 1)
    with pytest.raises(InvalidTags, match="has no metadata"):
        metrics.record("build", {"version": "1"}, metadata={"a": 1})
    with pytest.raises(TypeMismatch, match="unit is for numbers"):
        metrics.declare("other", "info", unit="seconds")
    metrics.flush()
    # The type is guessed, and Redis knows better.
    other.record("build", 7)
    assert other.flush().dropped == {"type_mismatch": 1}
    assert page(other) == {at("build_info", version="1"): 1}


def test_captured(captured: Captured) -> None:
    with Metrics("none://") as metrics:
        metrics.info("build").set({"version": 1}, app="shop")
        metrics.info("build").set({"version": 2}, app="shop")
    assert captured.info("build", app="shop").is_now({"version": 2})
    with pytest.raises(AssertionError, match=r"expected .*3.*, got .*2"):
        captured.info("build").is_now({"version": 3})
    assert captured.info("other").labels is None
