"""Results as tables of Arrow and data frames of pandas: the same as those of the other methods."""

import json
import random
import sys
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="no pyarrow: pip install 'redismetrics[arrow]'")

import pyarrow as pa

from redismetrics import AsyncMetrics, InvalidQuery, Metrics, MissingExtra
from redismetrics.worker import Worker
from tests.fixtures.clients import MakeWorker
from tests.fixtures.queries import HOUR, at


@pytest.fixture
def worker(make_worker: MakeWorker) -> Worker:
    return make_worker()


def rows(table: Any) -> list[dict[str, Any]]:
    assert isinstance(table, pa.Table)
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def record(metrics: Metrics) -> None:
    draw = random.Random(7)
    for number in range(120):
        tags = {"queue": draw.choice("abc")} | ({"host": "é"} if number % 3 else {})
        seconds = draw.uniform(-2 * HOUR, HOUR)
        metadata = {"step": number} if number % 4 == 0 else None
        value = draw.lognormvariate(0, 1)
        metrics.histogram("took", value, tags=tags, timestamp=at(seconds), metadata=metadata)
        metrics.increment("jobs", tags=tags, timestamp=at(seconds))


@pytest.mark.parametrize("sealed", [False, True])
def test_samples_are_those_of_query(metrics: Metrics, worker: Worker, sealed: bool) -> None:
    record(metrics)
    metrics.flush()
    if sealed:
        worker.pass_once()
    table = metrics.to_arrow("took")
    assert table.schema.names == [
        *("timestamp", "host", "queue"),
        *("value", "count", "approximate", "metadata"),
    ]
    assert table.schema.field("timestamp").type == pa.timestamp("ms", tz="UTC")
    assert table.schema.field("queue").type == pa.dictionary(pa.int32(), pa.string())
    expected = [
        {
            "timestamp": sample.timestamp,
            "host": sample.tags.get("host"),
            "queue": sample.tags["queue"],
            "value": sample.value,
            "count": sample.count,
            "approximate": sample.approximate,
            "metadata": sample.metadata,
        }
        for sample in metrics.query("took")
    ]
    found = [
        {**row, "metadata": json.loads(row["metadata"]) if row["metadata"] else {}}
        for row in rows(table)
    ]
    assert found == expected
    assert len(found) == 120
    assert sum(row["metadata"] != {} for row in found) == 30


def test_tags_of_group_by_are_the_only_ones_of_samples(metrics: Metrics) -> None:
    metrics.gauge("depth", 2, tags={"value": "x", "queue": "mail"}, timestamp=at(0))
    table = metrics.to_arrow("depth", group_by="value", tags={"queue": "mail"})
    assert rows(table.select(["tags[value]", "value"])) == [{"tags[value]": "x", "value": 2.0}]
    assert "queue" not in table.schema.names
    assert table.schema.names == metrics.to_arrow("nothing", group_by="value").schema.names


def test_groups_are_those_of_query(metrics: Metrics) -> None:
    record(metrics)
    table = metrics.to_arrow("took", aggregation="p95", group_by=["host", "queue"])
    assert rows(table) == metrics.query("took", aggregation="p95", group_by=["host", "queue"])
    assert len(table) == 6
    table = metrics.to_arrow("took", aggregations=["count", "max"])
    (row,) = rows(table)
    assert row == {name: metrics.query("took", aggregation=name) for name in ("count", "max")}
    assert [str(each.type) for each in table.schema] == ["int64", "double"]
    assert rows(metrics.to_arrow("nothing", aggregations=["count", "sum", "max"])) == [
        {"count": 0, "sum": 0.0, "max": None}
    ]
    assert rows(metrics.to_arrow("nothing", aggregation="sum", group_by="queue")) == []


@pytest.mark.parametrize("fill", [False, True])
def test_time_series_equal_those_of_the_method(metrics: Metrics, fill: bool) -> None:
    record(metrics)
    options: Any = {
        "interval": "5m",
        "aggregations": ["sum", "count", "p50"],
        "window": (at(-2 * HOUR), at(2 * HOUR)),
        "group_by": ["queue", "host"],
        "fill": fill,
    }
    table = metrics.to_arrow("jobs", **options)
    assert rows(table) == metrics.time_series("jobs", **options)
    assert len(table) == 48 * 6 if fill else len(table) > 10
    assert [str(each.type) for each in table.schema][3:] == ["double", "int64", "double"]
    assert rows(metrics.to_arrow("nothing", **options)) == []
    window = options["window"]
    counts = metrics.to_arrow("jobs", interval="hour", window=window)
    assert rows(counts) == metrics.time_series("jobs", interval="hour", window=window)


def test_invalid_arguments_of_rules_are_rejected(metrics: Metrics) -> None:
    with pytest.raises(InvalidQuery, match="aggregations must be a string or a list"):
        metrics.to_arrow("jobs", aggregations=5, interval="hour")  # type: ignore[arg-type]
    with pytest.raises(InvalidQuery, match="group_by must not contain 'sum'"):
        metrics.to_arrow("jobs", aggregation="sum", group_by="sum")


@pytest.mark.slow
def test_data_frames_have_the_columns_of_the_table(metrics: Metrics) -> None:
    pandas = pytest.importorskip("pandas", reason="no pandas: pip install 'redismetrics[pandas]'")
    record(metrics)
    frame = metrics.to_pandas("took", aggregations=["mean", "count"], group_by="queue")
    assert isinstance(frame, pandas.DataFrame)
    assert (
        frame.to_dict("records")
        == metrics.to_arrow("took", aggregations=["mean", "count"], group_by="queue").to_pylist()
    )
    frame = metrics.to_pandas("took")
    assert str(frame["timestamp"].dt.tz) == "UTC"
    assert str(frame["queue"].dtype) == "category"
    by_queue = frame.groupby("queue", observed=True)["value"].sum()
    for row in metrics.query("took", aggregation="sum", group_by="queue"):
        assert by_queue[row["queue"]] == pytest.approx(row["sum"])


@pytest.mark.slow
def test_the_asynchronous_client_returns_the_same(metrics: Metrics) -> None:
    import asyncio

    pytest.importorskip("pandas", reason="no pandas: pip install 'redismetrics[pandas]'")
    record(metrics)

    async def ask() -> tuple[Any, Any]:
        async with AsyncMetrics(metrics=metrics) as client:
            table = await client.to_arrow("took", aggregation="sum", group_by="queue")
            counts = await client.to_arrow("took", interval="hour")
            assert counts.equals(metrics.to_arrow("took", interval="hour"))
            return table, await client.to_pandas("took")

    table, frame = asyncio.run(ask())
    assert table.equals(metrics.to_arrow("took", aggregation="sum", group_by="queue"))
    assert frame.equals(metrics.to_pandas("took"))


def test_without_its_extra_the_message_says_what_to_install(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics.increment("jobs")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"pip install 'redismetrics\[pandas\]'"):
        metrics.to_pandas("jobs")
    monkeypatch.delitem(sys.modules, "redismetrics.queries.arrow")
    monkeypatch.delattr("redismetrics.queries.arrow")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'redismetrics\[arrow\]'"):
        metrics.to_arrow("jobs")
