"""Asking, held to plain Python: aggregations, windows, intervals, groups, and the JSON-ready answers."""

import json
import math
import re
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from redismetrics import (
    Counter,
    FormatMismatch,
    Gauge,
    Histogram,
    InvalidQuery,
    Metrics,
    Sample,
    ScriptFailed,
    StoreUnavailable,
    UnknownAggregation,
    UnknownWindow,
)
from redismetrics.store.keys import FORMAT, config, metric, shard
from tests.fixtures.servers import Server, wait_until

HOUR, DAY = 3600, 86_400
BASE = time.time() // HOUR * HOUR - 3 * HOUR  # a whole hour, 3 to 4 hours ago

NAIVE = (datetime(2026, 1, 1), None)  # noqa: DTZ001
VALUES = [5.0, 1.0, 4.0, 1.5, 9.25, 2.0, 6.5]
EVERY = (
    "count",
    "sum",
    "mean",
    "min",
    "max",
    "last",
    "stddev",
    "median",
    "p0",
    "p5",
    "p50",
    "p95",
    "p99.9",
    "p100",
    "rate",
)


def at(seconds: float) -> float:
    """Unix seconds, so long after BASE."""
    return BASE + seconds


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(BASE, UTC) + timedelta(seconds=seconds)


def expected(
    aggregation: str, values: list[float], seconds: float, *, counter: bool = False
) -> Any:
    """What *aggregation* of *values*, in order of time, over so many seconds must be. Written the dumb way."""
    if aggregation == "rate":
        return (math.fsum(values) if counter else len(values)) / seconds
    if aggregation.startswith("p"):
        return np.percentile(values, float(aggregation[1:]))
    plain: dict[str, Callable[[list[float]], float]] = {
        "count": len, "sum": math.fsum, "mean": statistics.fmean, "min": min, "max": max, "last": lambda some: some[-1],
        "stddev": statistics.pstdev, "median": statistics.median,
    }  # fmt: skip
    return plain[aggregation](values)


@pytest.fixture
def metrics(url: str, namespace: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=namespace) as metrics:
        yield metrics


@pytest.fixture
def other(url: str, namespace: str) -> Iterator[Metrics]:
    """A second client of the same namespace, as in another process."""
    with Metrics(url, namespace=namespace) as metrics:
        yield metrics


@pytest.fixture
def nowhere() -> Iterator[Metrics]:
    """A client whose server isn't there."""
    with socket.socket() as probe:
        probe.bind(
            ("127.0.0.1", 0)
        )  # bound and not listening: nobody else gets the port, and a connection is refused
        metrics = Metrics(f"redis://127.0.0.1:{probe.getsockname()[1]}/0", socket_timeout=0.2)
        yield metrics
        metrics.close(timeout=0)


# -- aggregations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregation", EVERY)
@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram"])
def test_every_aggregation_of_every_type_is_that_of_plain_python(
    metrics: Metrics, kind: Any, aggregation: str
) -> None:
    for number, value in enumerate(VALUES):
        metrics.record("m", value, type=kind, timestamp=at(number))
    found = metrics.query("m", aggregation=aggregation, window=(at(0), at(50)))
    assert found == pytest.approx(
        expected(aggregation, VALUES, 50, counter=kind == "counter"), rel=1e-13
    )


@pytest.mark.parametrize("aggregation", EVERY)
def test_equal_increments_count_one_by_one(metrics: Metrics, aggregation: str) -> None:
    for amount in (1, 1, 1, 2, 2, 5):
        metrics.increment("jobs", amount)
    now = time.time()
    found = metrics.query("jobs", aggregation=aggregation, window=(now - 60, now + 60))
    values = [1.0, 1.0, 1.0, 2.0, 2.0, 5.0]
    if aggregation == "rate":  # up to now, since the rest of the window has not been
        assert 12 / 60 >= found > 12 / 70
    else:
        assert found == pytest.approx(expected(aggregation, values, 60), rel=1e-13)


@pytest.mark.parametrize(
    "aggregation",
    ["p-1", "p101", "p100.1", "p", "P50", "p5e1", "avg", "", "p50 ", "p٥", 5, None, ["mean"]],
    ids=repr,
)
def test_there_is_no_other_aggregation(nowhere: Metrics, aggregation: Any) -> None:
    message = (
        rf"unknown aggregation {re.escape(repr(aggregation))}(; did you mean '\w+'\?)? "
        r"\(allowed: count, sum, mean, .*, and percentiles from p0 to p100\)"
    )
    with pytest.raises(UnknownAggregation, match=message):
        nowhere.rollup("m", aggregations=[aggregation])
    # query() without an aggregation returns samples.
    if aggregation is not None:
        with pytest.raises(UnknownAggregation, match=message):
            nowhere.query("m", aggregation=aggregation)


@pytest.mark.parametrize(
    ("aggregation", "suggestion"),
    [
        ("avg", "mean"),
        ("Mean", "mean"),
        ("meen", "mean"),
        ("maximum", "max"),
        ("std", "stddev"),
        ("P95", "p95"),
        ("counts", "count"),
    ],
)
def test_near_miss_of_an_aggregation_is_suggested(
    nowhere: Metrics, aggregation: str, suggestion: str
) -> None:
    with pytest.raises(UnknownAggregation, match=f"; did you mean '{suggestion}'"):
        nowhere.query("m", aggregation=aggregation)


def test_the_sum_of_whole_increments_is_a_whole_number(metrics: Metrics) -> None:
    metrics.increment("jobs", 2)
    metrics.increment("jobs", 3)
    metrics.histogram("size", 5.0)
    assert repr(metrics.query("jobs", aggregation="sum")) == "5"
    assert repr(metrics.query("jobs", aggregation="count")) == "2"
    assert repr(metrics.query("size", aggregation="sum")) == "5.0"


def test_the_rate_of_an_open_window_is_from_the_first_sample_to_now(metrics: Metrics) -> None:
    began = time.time()
    metrics.increment("jobs", 6, timestamp=at(0))
    metrics.increment("jobs", 4, timestamp=at(60))
    least = 10 / (time.time() + 1 - BASE)
    assert least < metrics.query("jobs", aggregation="rate") <= 10 / (began - BASE)


def test_last_is_the_newest_by_its_timestamp_not_by_arrival(metrics: Metrics) -> None:
    metrics.gauge("depth", 2, timestamp=at(20))
    metrics.flush()
    metrics.gauge("depth", 1, timestamp=at(10))
    assert metrics.query("depth", aggregation="last") == 2
    assert metrics.query("depth", aggregation="last", window=(None, at(20))) == 1


@pytest.mark.parametrize("flush_between", [False, True])
def test_of_equal_timestamps_the_latest_to_arrive_is_last(
    metrics: Metrics, flush_between: bool
) -> None:
    for value in (3, 1, 2):
        metrics.gauge("depth", value, timestamp=at(0))
        if flush_between:
            metrics.flush()
    assert metrics.query("depth", aggregation="last") == 2


@pytest.mark.parametrize("first", ["many", "one"])
def test_of_equal_timestamps_the_latest_to_arrive_is_last_also_beside_compacted_ones(
    metrics: Metrics, first: str
) -> None:
    flushes = [
        [float(value) for value in range(150)],
        [7.5],
    ]  # 150 in one flush are more than are kept one by one
    for values in flushes if first == "many" else reversed(flushes):
        for value in values:
            metrics.gauge("depth", value, timestamp=at(0))
        metrics.flush()
    assert metrics.query("depth", aggregation="last") == (7.5 if first == "many" else 149)


def test_the_current_value_of_a_gauge_is_its_last(metrics: Metrics, other: Metrics) -> None:
    metrics.gauge("depth", 10)
    metrics.flush()
    other.gauge("depth", 20)
    assert (
        other.query("depth", aggregation="last") == metrics.query("depth", aggregation="last") == 20
    )


def test_a_change_of_a_gauge_is_added_to_the_value_all_clients_share(
    metrics: Metrics, other: Metrics
) -> None:
    mine, theirs = Gauge("depth", metrics=metrics), Gauge("depth", metrics=other)
    mine.set(10)
    metrics.flush()
    theirs.add(5)
    theirs.add(2.5)
    other.flush()
    mine.add(-1)
    assert metrics.query("depth", aggregation="last") == 16.5
    assert [sample.value for sample in other.query("depth")] == [
        10,
        17.5,
        16.5,
    ]  # one sample a flush
    assert other.live("depth")[0].series[0].value == 16.5


def test_values_near_the_largest_float_are_answered_without_a_warning(metrics: Metrics) -> None:
    for value in (1.7e308, -1.7e308, 1.6e308):
        metrics.histogram("big", value)
    found = metrics.rollup(
        "big", aggregations=("count", "min", "max", "last", "stddev", "p50"), window=None
    )[""]
    wanted = {
        "count": 3,
        "min": -1.7e308,
        "max": 1.7e308,
        "last": 1.6e308,
        "stddev": math.inf,
        "p50": 1.6e308,
    }
    assert found == wanted


# -- windows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "wanted"),
    [
        ("last_hour", 1), ("last_24h", 2), ("last_7d", 3), ("last_30d", 4), (None, 5), ("15m", 0), ("31m", 1), ("121m", 2),
        ("1w", 3), (timedelta(hours=3), 2), ((None, None), 5), ("999999999w", 5),
    ],
    ids=str,
)  # fmt: skip
def test_a_window_reaches_back_from_now(url: str, namespace: str, window: Any, wanted: int) -> None:
    with Metrics(url, namespace=namespace, max_age=50 * DAY, minute_retention=60 * DAY) as metrics:
        for age in (30 * 60, 2 * HOUR, 3 * DAY, 20 * DAY, 40 * DAY):
            metrics.increment("jobs", timestamp=time.time() - age)
        assert metrics.query("jobs", aggregation="count", window=window) == wanted
        assert metrics.rollup("jobs", aggregations="sum", window=window) == (
            {"": {"sum": wanted}} if wanted else {}
        )
        assert sum(row["count"] for row in metrics.time_series("jobs", window=window)) == wanted


@pytest.mark.parametrize(
    ("since", "until", "wanted"),
    [
        (at(10), at(20), [2, 3]), (at(10), None, [2, 3, 4]), (None, at(20), [1, 2, 3]), (at(10.001), at(20.001), [3, 4]),
        (moment(10), moment(20), [2, 3]), (moment(10).astimezone(timezone(timedelta(hours=-5))), at(20), [2, 3]),
        (at(10), at(10), []), (at(20), at(10), []), (at(10), at(10.001), [2]), (at(20), at(20.001), [4]),
    ],
)  # fmt: skip
def test_a_window_holds_its_beginning_and_not_its_end(
    metrics: Metrics, since: Any, until: Any, wanted: list[int]
) -> None:
    for value, seconds in enumerate((9.999, 10, 19.999, 20), start=1):
        metrics.gauge("depth", value, timestamp=at(seconds))
    window = (since, until)
    assert [sample.value for sample in metrics.query("depth", window=window)] == wanted
    assert metrics.query("depth", aggregation="count", window=window) == len(wanted)
    assert sum(
        row["sum"] for row in metrics.time_series("depth", aggregation="sum", window=window)
    ) == sum(wanted)
    found = metrics.get_metrics(name="depth", since=since, until=until)
    assert [row["value"] for row in found["metrics"]] == wanted[::-1]


def test_a_window_takes_of_one_flush_the_compacted_minutes_that_lie_in_it(metrics: Metrics) -> None:
    for number in range(150):  # more than are kept one by one
        for minute in range(3):
            metrics.histogram("size", 1000 * minute + number, timestamp=at(60 * minute + 5))
    for minute in range(3):
        values = [1000.0 * minute + number for number in range(150)]
        found = metrics.rollup(
            "size", aggregations=EVERY[:7], window=(at(60 * minute), at(60 * minute + 60))
        )[""]
        wanted = {name: expected(name, values, 60) for name in EVERY[:7]}
        assert found == pytest.approx(wanted, rel=1e-13)
        assert (
            metrics.query("size", aggregation="count", window=(None, at(60 * minute)))
            == 150 * minute
        )
        assert metrics.query("size", aggregation="count", window=(at(60 * minute), None)) == 150 * (
            3 - minute
        )


def test_a_window_that_begins_at_a_moment_holds_what_is_recorded_after_it(metrics: Metrics) -> None:
    gauge, counter = Gauge("depth", metrics=metrics), Counter("jobs", metrics=metrics)
    missed = []
    for number in range(20):  # a moment lies anywhere within its millisecond
        began = time.time()
        gauge.set(1.0)
        counter.increment()
        edge = datetime.fromtimestamp(began, UTC) if number % 2 else began
        missed += [
            (name, edge)
            for name in ("depth", "jobs")
            if not metrics.query(name, window=(edge, None))
        ]
    assert missed == []


@pytest.mark.parametrize(
    "window", ["yesterday", "0m", 3600, [1, 2], ("15m", None), timedelta(0), NAIVE]
)
@pytest.mark.parametrize(
    "ask",
    [
        "query",
        "time_series",
        "rollup",
        "digest",
        "get_aggregation",
        "get_time_series",
        "get_rollups",
    ],
)
def test_a_window_that_is_not_understood_is_refused_before_anything_is_read(
    nowhere: Metrics, ask: str, window: Any
) -> None:
    with pytest.raises(UnknownWindow, match=r"^window(:| must) "):
        getattr(nowhere, ask)("m", window=window)


# -- time series --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "width"),
    [("minute", 60), ("hour", HOUR), ("day", DAY), ("5m", 300), ("90s", 90), ("2h", 2 * HOUR), (timedelta(minutes=7), 420)],
    ids=str,
)  # fmt: skip
def test_a_time_series_is_cut_at_multiples_of_its_interval(
    metrics: Metrics, interval: Any, width: int
) -> None:
    offsets = [-0.001, 0, 59.999, 60, 61, 299.999, 300, 3599.999, 3600, 5000, 7199.999, 7200]
    for value, seconds in enumerate(offsets):
        metrics.gauge("depth", value, timestamp=at(seconds))
    wanted: dict[float, list[float]] = {}
    for value, seconds in enumerate(offsets):
        wanted.setdefault(at(seconds) // width * width, []).append(value)
    assert metrics.time_series("depth", interval=interval, aggregations=["count", "sum", "last", "p50", "rate"]) == [
        {
            "timestamp": datetime.fromtimestamp(start, UTC), "count": len(values), "sum": sum(values), "last": values[-1],
            "p50": statistics.median(values), "rate": pytest.approx(len(values) / width),
        }
        for start, values in sorted(wanted.items())
    ]  # fmt: skip


def test_a_time_series_counts_by_the_hour_of_the_last_day_unless_told_otherwise(
    url: str, namespace: str
) -> None:
    with Metrics(url, namespace=namespace, max_age=50 * DAY, minute_retention=60 * DAY) as metrics:
        for timestamp in (at(0), at(10), at(HOUR), at(-2 * DAY)):
            metrics.increment("jobs", 5, timestamp=timestamp)
        assert metrics.time_series("jobs") == [
            {"timestamp": moment(0), "count": 2},
            {"timestamp": moment(HOUR), "count": 1},
        ]


def test_intervals_without_samples_are_left_out_or_filled(metrics: Metrics) -> None:
    metrics.gauge("depth", 4, timestamp=at(61))
    metrics.gauge("depth", 6, timestamp=at(200))
    options: Any = {
        "interval": "minute",
        "window": (at(30), at(241)),
        "aggregations": ["count", "sum", "rate", "mean", "last"],
    }
    assert [row["timestamp"] for row in metrics.time_series("depth", **options)] == [
        moment(60),
        moment(180),
    ]
    empty = {"count": 0, "sum": 0, "rate": 0, "mean": None, "last": None}
    one = {"count": 1, "rate": pytest.approx(1 / 60)}
    assert metrics.time_series("depth", **options, fill=True) == [
        {"timestamp": moment(0), **empty},
        {"timestamp": moment(60), **one, "sum": 4, "mean": 4, "last": 4},
        {"timestamp": moment(120), **empty},
        {"timestamp": moment(180), **one, "sum": 6, "mean": 6, "last": 6},
        {"timestamp": moment(240), **empty},
    ]


def test_a_filled_series_of_an_open_window_goes_from_the_first_sample_to_the_last(
    metrics: Metrics,
) -> None:
    for seconds in (0, 180):
        metrics.increment("jobs", timestamp=at(seconds))
    found = metrics.time_series("jobs", interval="minute", window=None, fill=True)
    assert [row["count"] for row in found] == [1, 0, 0, 1]
    found = metrics.time_series("jobs", interval="minute", window=(at(-60), None), fill=True)
    assert [row["count"] for row in found] == [0, 1, 0, 0, 1]


def test_a_filled_last_24_hours_has_every_hour_up_to_now(metrics: Metrics) -> None:
    metrics.increment("jobs")
    found = metrics.time_series("jobs", fill=True)
    assert len(found) == 25  # the first one is partial
    assert found[-1]["count"] == 1
    starts = [row["timestamp"] for row in found]
    assert starts == [starts[0] + timedelta(hours=number) for number in range(25)]


@pytest.mark.parametrize("known", [True, False])
def test_a_filled_series_of_no_samples_is_zeros(metrics: Metrics, known: bool) -> None:
    if known:
        metrics.increment("jobs")
    window = (at(0), at(120))
    assert metrics.time_series("jobs", interval="minute", window=window, fill=True) == [
        {"timestamp": moment(0), "count": 0},
        {"timestamp": moment(60), "count": 0},
    ]
    assert (
        metrics.time_series("jobs", window=window)
        == metrics.time_series("jobs", window=None, tags={"no": "1"})
        == []
    )


def test_a_grouped_series_is_sorted_by_time_then_by_group_and_filled_for_each(
    metrics: Metrics,
) -> None:
    for seconds, tenant in ((0, "b"), (1, None), (60, "b"), (61, "a"), (180, "a")):
        metrics.increment("jobs", tags={"tenant": tenant}, timestamp=at(seconds))
    options: Any = {"interval": "minute", "group_by": "tenant", "window": (at(0), at(240))}
    assert metrics.time_series("jobs", **options) == [
        {"timestamp": moment(0), "tenant": None, "count": 1},
        {"timestamp": moment(0), "tenant": "b", "count": 1},
        {"timestamp": moment(60), "tenant": "a", "count": 1},
        {"timestamp": moment(60), "tenant": "b", "count": 1},
        {"timestamp": moment(180), "tenant": "a", "count": 1},
    ]
    filled = metrics.time_series("jobs", **options, fill=True)
    assert [(row["timestamp"], row["tenant"]) for row in filled] == [
        (moment(60 * minute), tenant) for minute in range(4) for tenant in (None, "a", "b")
    ]
    assert [row["count"] for row in filled] == [1, 0, 1, 0, 1, 1, 0, 0, 0, 0, 1, 0]


def test_a_filled_series_of_too_many_intervals_is_refused(metrics: Metrics) -> None:
    metrics.increment("jobs")
    day_and_more = (time.time() - 7 * 3600, time.time() + 23 * 3600)
    with pytest.raises(
        InvalidQuery,
        match=r"fill must yield at most 100000 intervals, got 10800[01]; use a wider interval",
    ):
        metrics.time_series("jobs", interval="1s", window=day_and_more, fill=True)
    assert len(metrics.time_series("jobs", interval="1s", window=day_and_more)) == 1


# -- groups and tags ----------------------------------------------------------------------------------------------


@pytest.fixture
def grouped(metrics: Metrics) -> Metrics:
    """Values by model and dataset; one without a dataset, one without both, one with an empty one."""
    rows: list[tuple[str | None, str | None, float]] = [
        ("qwen", "fever", 1), ("llama-3.1", "scifact", 2), ("llama-3.1", "scifact", 4), ("llama-3.1", None, 8), (None, None, 16),
        ("qwen", "", 32),
    ]  # fmt: skip
    for number, (model, dataset, value) in enumerate(rows):
        metrics.gauge(
            "score", value, tags={"model": model, "dataset": dataset}, timestamp=at(number)
        )
    return metrics


@pytest.mark.parametrize(
    "group_by", ["model", ["model"], ("model", "model"), iter(["model"])], ids=type
)
def test_groups_are_sorted_with_the_missing_tag_first(grouped: Metrics, group_by: Any) -> None:
    assert grouped.query("score", aggregation="sum", group_by=group_by) == [
        {"model": None, "sum": 16},
        {"model": "llama-3.1", "sum": 14},
        {"model": "qwen", "sum": 33},
    ]


def test_groups_by_two_tags_are_sorted_by_the_first_then_by_the_second(grouped: Metrics) -> None:
    found = grouped.query("score", aggregation="sum", group_by=["model", "dataset"])
    assert [tuple(row.values()) for row in found] == [
        (None, None, 16), ("llama-3.1", None, 8), ("llama-3.1", "scifact", 6), ("qwen", "", 32), ("qwen", "fever", 1),
    ]  # fmt: skip
    assert list(found[0]) == ["model", "dataset", "sum"]
    found = grouped.query("score", aggregation="sum", group_by=["dataset", "model"])
    assert [tuple(row.values()) for row in found] == [
        (None, None, 16), (None, "llama-3.1", 8), ("", "qwen", 32), ("fever", "qwen", 1), ("scifact", "llama-3.1", 6),
    ]  # fmt: skip


def test_a_tag_that_no_series_has_is_one_group(grouped: Metrics) -> None:
    assert grouped.query("score", aggregation="count", group_by="nobody") == [
        {"nobody": None, "count": 6}
    ]


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ({"model": "llama-3.1"}, 14), ({"model": "llama-3.1", "dataset": "scifact"}, 6), ({"model": None}, 16),
        ({"dataset": None}, 24), ({"model": "llama-3.1", "dataset": None}, 8), ({"dataset": ""}, 32), ({"model": "nobody"}, 0),
        ({"nobody": None}, 63), ({}, 63), (None, 63),
    ],
    ids=str,
)  # fmt: skip
def test_a_filter_takes_the_series_that_have_these_tags_or_lack_those_that_are_none(
    grouped: Metrics, tags: Any, wanted: int
) -> None:
    assert grouped.query("score", aggregation="sum", tags=tags) == wanted
    assert (
        sum(
            row["sum"]
            for row in grouped.query("score", aggregation="sum", group_by="model", tags=tags)
        )
        == wanted
    )
    assert (
        sum(row["value"] for row in grouped.get_metrics(name="score", tags=tags)["metrics"])
        == wanted
    )
    assert (
        sum(row["sum"] for row in grouped.time_series("score", aggregation="sum", tags=tags))
        == wanted
    )
    points = grouped.digest("score", tags=tags)
    assert points.values @ points.weights == wanted


def test_a_filter_takes_numbers_and_bools_as_recording_does(metrics: Metrics) -> None:
    metrics.increment("jobs", tags={"retry": 3, "ok": True})
    assert metrics.query("jobs", aggregation="sum", tags={"retry": 3, "ok": True}) == 1
    assert metrics.query("jobs", aggregation="sum", tags={"retry": "3", "ok": "true"}) == 1
    assert metrics.query("jobs", aggregation="sum", tags={"retry": 3.5}) == 0


def test_the_tags_of_a_client_are_on_all_its_samples_and_yield_to_a_sample_s_own(
    url: str, namespace: str
) -> None:
    with Metrics(url, namespace=namespace, tags={"host": "a", "zone": "z"}) as metrics:
        metrics.increment("jobs", tags={"host": "b"})
        assert [sample.tags for sample in metrics.query("jobs")] == [{"host": "b", "zone": "z"}]


def test_beyond_the_limit_series_share_one_and_the_totals_stay_right(
    url: str, namespace: str
) -> None:
    with Metrics(url, namespace=namespace, max_series=3) as metrics:
        for number in range(10):
            metrics.increment("jobs", number, tags={"id": number})
        assert metrics.query("jobs", aggregation="sum") == 45
        assert metrics.query("jobs", aggregation="count") == 10
        overflow = {"otel.metric.overflow": "true"}
        assert metrics.query("jobs", aggregation="count", tags=overflow) == 10 - 3
        assert metrics.list_metrics()[0]["series"] == 4


# -- rollups ------------------------------------------------------------------------------------------------------


def test_a_rollup_has_the_group_values_in_the_order_asked_for(grouped: Metrics) -> None:
    assert grouped.rollup("score", group_by=["model", "dataset"]) == {
        "/": {"mean": 16, "count": 1},
        "llama-3.1/": {"mean": 8, "count": 1},
        "llama-3.1/scifact": {"mean": 3, "count": 2},
        r"qwen/\0": {"mean": 32, "count": 1},
        "qwen/fever": {"mean": 1, "count": 1},
    }
    by_dataset = grouped.rollup(
        "score", group_by=["dataset", "model"], aggregations="sum", keys="tuple"
    )
    assert list(by_dataset.items()) == [
        ((None, None), {"sum": 16}), ((None, "llama-3.1"), {"sum": 8}), (("", "qwen"), {"sum": 32}),
        (("fever", "qwen"), {"sum": 1}), (("scifact", "llama-3.1"), {"sum": 6}),
    ]  # fmt: skip


def test_a_rollup_without_groups_has_one_key(grouped: Metrics) -> None:
    assert grouped.rollup("score") == {"": {"mean": 10.5, "count": 6}}
    assert grouped.rollup("score", keys="tuple") == {(): {"mean": 10.5, "count": 6}}


def test_different_groups_never_get_the_same_key(metrics: Metrics) -> None:
    values = [None, "", "/", "\\", "\\/", "\\0", "0", "a/", "/a", "a", "//"]
    for number, (one, two) in enumerate((one, two) for one in values for two in values):
        metrics.gauge("score", number, tags={"one": one, "two": two})
    text = metrics.rollup("score", group_by=["one", "two"], aggregations=["sum"])
    tuples = metrics.rollup("score", group_by=["one", "two"], aggregations=["sum"], keys="tuple")
    assert len(text) == len(tuples) == len(values) ** 2
    assert list(text.values()) == list(tuples.values())  # the same groups in the same order
    assert text[r"a\//\\0"] == tuples["a/", "\\0"] == {"sum": 7 * len(values) + 5}


# -- nothing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_no_samples_are_zero_or_none_or_an_empty_list(metrics: Metrics, known: bool) -> None:
    if known:
        metrics.increment("jobs")
    window = (at(0), at(1))
    for aggregation in EVERY:
        zero = 0 if aggregation in ("count", "sum", "rate") else None
        assert metrics.query("jobs", aggregation=aggregation, window=window) == zero, aggregation
        assert (
            metrics.query("jobs", aggregation=aggregation, window=window, group_by="tenant") == []
        )
    assert metrics.query("jobs", window=window) == []
    assert metrics.query("jobs", window=window, group_by="tenant") == []
    assert metrics.rollup("jobs", window=window) == {}
    assert metrics.get_metrics(name="jobs", since=at(0), until=at(1))["metrics"] == []
    digest = metrics.digest("jobs", window=window)
    assert digest.count == 0
    assert math.isnan(digest.percentile(50))
    assert metrics.tag_values("jobs", "tenant") == []
    assert metrics.live("jobs" if not known else "other") == []


def test_an_empty_namespace_has_nothing_to_list(metrics: Metrics) -> None:
    assert metrics.list_metrics() == metrics.live() == metrics.get_metrics()["metrics"] == []
    assert metrics.clear(confirm=True) == 0
    assert metrics.delete_metric("jobs") is False
    assert metrics.get_stats()["storage"]["total_metrics"] == 0


# -- samples ------------------------------------------------------------------------------------------------------


def test_without_an_aggregation_the_samples_come_oldest_first(metrics: Metrics) -> None:
    metrics.histogram("score", 2.5, tags={"model": "b"}, timestamp=at(20))
    metrics.histogram(
        "score", 1.5, tags={"model": "a"}, timestamp=at(10), metadata={"note": [1, {"x": None}]}
    )
    assert metrics.query("score") == [
        Sample("score", "histogram", 1.5, 1, {"model": "a"}, moment(10), {"note": [1, {"x": None}], }),
        Sample("score", "histogram", 2.5, 1, {"model": "b"}, moment(20), {}),
    ]  # fmt: skip


def test_samples_can_be_grouped(grouped: Metrics) -> None:
    found = grouped.query("score", group_by="model")
    assert [(row["model"], [sample.value for sample in row["samples"]]) for row in found] == [
        (None, [16]), ("llama-3.1", [2, 4, 8]), ("qwen", [1, 32]),
    ]  # fmt: skip


def test_equal_increments_of_one_flush_are_one_sample_that_says_how_many(metrics: Metrics) -> None:
    for _ in range(352):
        metrics.increment("jobs")
    (sample,) = metrics.query("jobs")
    assert (sample.value, sample.count, sample.approximate) == (1, 352, False)


def test_compacted_samples_say_that_they_are_approximate(metrics: Metrics) -> None:
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


def test_a_sample_keeps_its_own_timestamp_to_the_millisecond(metrics: Metrics) -> None:
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


def test_a_sample_without_a_time_gets_that_of_its_recording(url: str, namespace: str) -> None:
    now = [at(1.5)]
    with Metrics(url, namespace=namespace, clock=lambda: now[0], flush_interval=HOUR) as metrics:
        metrics.gauge("depth", 1)
        metrics.increment("jobs")
        now[0] = at(2.5)
        metrics.histogram("size", 1, metadata={"a": 1})
        assert metrics.query("depth")[0].timestamp == moment(1.5)
        assert metrics.query("size")[0].timestamp == moment(2.5)
        assert metrics.query("jobs")[0].timestamp == moment(2.5)  # a counter's is that of its flush


def test_a_clock_ahead_is_cut_to_the_server_s(url: str, namespace: str) -> None:
    with Metrics(url, namespace=namespace, clock=lambda: time.time() + DAY) as metrics:
        metrics.gauge("depth", 1)
        metrics.increment("jobs")
        metrics.histogram("size", 1, metadata={"a": 1})
        for name in ("depth", "jobs", "size"):
            assert metrics.query(name, aggregation="count", window="1m") == 1


def test_metadata_comes_back_and_keeps_samples_apart(metrics: Metrics) -> None:
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
    "", " ", '"', "'", "`", "\\", "\\n", "\n", "\r\n", "\t", "\0", "a\0b", "{", "}", "{}", "{x}:{y}", "a/b", "//", "\\/", "%s%d",
    "*?[a]", "a=b,c=d", "null", "None", "0", "true", "ü", "中文", "🦊", "e\u0301", "é", "\u202eright to left", "\x7f\x80",
    "</script>", "'; FLUSHALL; --", "x" * 1024, "🦊" * 256,
]  # fmt: skip


def test_any_text_comes_back_exactly_from_every_way_to_ask(metrics: Metrics) -> None:
    for number, text in enumerate(HOSTILE):
        metrics.gauge(
            "depth",
            number,
            tags={"text": text},
            metadata={"text": text, text: 1},
            timestamp=at(number),
        )
    wanted = dict(enumerate(HOSTILE))
    assert {sample.value: sample.tags["text"] for sample in metrics.query("depth")} == wanted
    assert {sample.value: sample.metadata["text"] for sample in metrics.query("depth")} == wanted
    assert all(
        sample.metadata[sample.tags["text"]] == 1
        for sample in metrics.query("depth")
        if sample.tags["text"] != "text"
    )
    grouped = metrics.query("depth", aggregation="last", group_by="text")
    assert [(row["text"], row["last"]) for row in grouped] == sorted(
        (text, number) for number, text in wanted.items()
    )
    assert {row["value"]: row["tags"]["text"] for row in metrics.get_metrics()["metrics"]} == wanted
    assert metrics.tag_values("depth", "text") == sorted(HOSTILE)
    rollup = metrics.rollup("depth", group_by="text", aggregations="last", keys="tuple")
    assert {row["last"]: key[0] for key, row in rollup.items()} == wanted
    assert {series.tags["text"]: series.value for series in metrics.live("depth")[0].series} == {
        text: number for number, text in wanted.items()
    }
    for number, text in wanted.items():
        assert metrics.query("depth", aggregation="last", tags={"text": text}) == number
    decoded = json.loads(metrics.to_json(metrics.get_metrics()))
    assert {row["value"]: row["metadata"]["text"] for row in decoded["metrics"]} == wanted


@pytest.mark.parametrize("name", ["a:log", "a/b", "a.b-c", "_", "clock", "config", "N" * 200])
def test_any_name_can_be_asked_for(metrics: Metrics, name: str) -> None:
    metrics.increment(name, tags={name: name})
    metrics.increment("a")
    assert metrics.query(name, aggregation="count", group_by=name) == [{name: name, "count": 1}]
    assert metrics.query("a", aggregation="sum") == 1
    assert {row["name"] for row in metrics.list_metrics()} == {"a", name}


# -- JSON-ready answers -------------------------------------------------------------------------------------------


def test_get_metrics_lists_the_newest_of_all_metrics_first(metrics: Metrics) -> None:
    metrics.gauge("depth", 1, timestamp=at(1))
    metrics.histogram("size", 2.5, timestamp=at(3), tags={"a": "b"}, metadata={"note": "x"})
    metrics.increment("jobs", 3, timestamp=at(2))
    found = metrics.get_metrics()
    assert found["metrics"] == [
        {
            "name": "size", "type": "histogram", "value": 2.5, "tags": {"a": "b"}, "timestamp": moment(3).isoformat(),
            "metadata": {"note": "x"},
        },
        {"name": "jobs", "type": "counter", "value": 3, "tags": {}, "timestamp": moment(2).isoformat(), "metadata": {}},
        {"name": "depth", "type": "gauge", "value": 1, "tags": {}, "timestamp": moment(1).isoformat(), "metadata": {}},
    ]  # fmt: skip
    assert found["count"] == 3
    assert abs(datetime.fromisoformat(found["timestamp"]) - datetime.now(UTC)) < timedelta(
        minutes=1
    )
    assert json.loads(metrics.to_json(found)) == found


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, [5, 4, 3, 2, 1]), ({"limit": 2}, [5, 4]), ({"limit": 0}, []), ({"limit": 10**9}, [5, 4, 3, 2, 1]),
        ({"name": "depth"}, [5, 3, 1]), ({"type": "histogram"}, [4, 2]), ({"type": "counter"}, []),
        ({"name": "depth", "type": "histogram"}, []), ({"tags": {"odd": True}}, [5, 3, 1]), ({"tags": {"odd": None}}, [4, 2]),
        ({"since": at(2), "until": at(4)}, [3, 2]), ({"since": moment(4)}, [5, 4]), ({"until": at(2), "limit": 5}, [1]),
        ({"name": "nobody"}, []),
    ],
    ids=str,
)  # fmt: skip
def test_get_metrics_takes_filters_and_a_limit(
    metrics: Metrics, options: dict[str, Any], wanted: list[int]
) -> None:
    for value in range(1, 6):
        if value % 2:
            metrics.gauge("depth", value, tags={"odd": True}, timestamp=at(value))
        else:
            metrics.histogram("size", value, timestamp=at(value))
    found = metrics.get_metrics(**options)
    assert [row["value"] for row in found["metrics"]] == wanted
    assert found["count"] == len(wanted)


def test_get_metrics_lists_increments_one_by_one_up_to_the_limit(metrics: Metrics) -> None:
    for _ in range(3):
        metrics.increment("jobs")
    metrics.increment("jobs", 5, timestamp=at(0))
    assert [row["value"] for row in metrics.get_metrics(name="jobs")["metrics"]] == [1, 1, 1, 5]
    assert [row["value"] for row in metrics.get_metrics(name="jobs", limit=2)["metrics"]] == [1, 1]
    for _ in range(5000):
        metrics.increment("jobs")
    assert metrics.get_metrics()["count"] == 1000  # the limit unless told otherwise


def test_get_aggregation_is_the_query_and_what_was_asked(grouped: Metrics) -> None:
    found = grouped.get_aggregation("score", aggregation="sum", group_by="model", window="last_24h")
    datetime.fromisoformat(found.pop("timestamp"))
    assert found == {
        "results": grouped.query("score", aggregation="sum", group_by="model"),
        "aggregation": "sum", "group_by": ["model"], "window": "last_24h",
    }  # fmt: skip
    assert grouped.get_aggregation("score", aggregation="count")["results"] == 6
    samples = grouped.get_aggregation("score", window=(at(0), moment(1)))
    assert samples["window"] == [moment(0).isoformat(), moment(1).isoformat()]
    assert samples["results"] == [
        {
            "name": "score", "type": "gauge", "value": 1, "tags": {"dataset": "fever", "model": "qwen"},
            "timestamp": moment(0).isoformat(), "metadata": {},
        }
    ]  # fmt: skip
    assert json.loads(grouped.to_json(samples)) == samples  # the original could not encode these


def test_get_time_series_has_its_times_as_text(grouped: Metrics) -> None:
    found = grouped.get_time_series(
        "score", aggregation="max", group_by="dataset", tags={"model": "qwen"}
    )
    datetime.fromisoformat(found.pop("timestamp"))
    assert found == {
        "series": [
            {"timestamp": moment(0).isoformat(), "dataset": "", "max": 32},
            {"timestamp": moment(0).isoformat(), "dataset": "fever", "max": 1},
        ],
        "interval": "hour", "aggregation": "max", "window": "last_24h",
    }  # fmt: skip
    several = grouped.get_time_series(
        "score", aggregations=["min", "max"], interval=timedelta(hours=1), window=None
    )
    assert several["aggregation"] == ["min", "max"]
    assert json.loads(grouped.to_json(several)) == several


def test_get_rollups_is_the_rollup_and_what_was_asked(grouped: Metrics) -> None:
    found = grouped.get_rollups(
        "score", group_by=["model"], aggregations=["count", "p95"], window="2d"
    )
    datetime.fromisoformat(found.pop("timestamp"))
    assert found == {
        "rollups": grouped.rollup("score", group_by=["model"], aggregations=["count", "p95"]),
        "group_by": ["model"], "aggregations": ["count", "p95"], "window": "2d",
    }  # fmt: skip
    assert grouped.get_rollups("score")["aggregations"] == ["mean", "count"]


def test_get_stats_counts_what_is_stored_and_what_this_process_recorded(
    metrics: Metrics, other: Metrics
) -> None:
    for number in range(3):
        metrics.increment("jobs", tags={"n": number})
    other.gauge("depth", 1)
    other.flush()
    found = metrics.get_stats()
    assert found.keys() == {"storage", "recorder", "timestamp"}
    storage, recorder = found["storage"], found["recorder"]
    assert (storage["total_metrics"], storage["metrics_stored"], storage["metrics_pruned"]) == (
        4,
        4,
        0,
    )
    assert (storage["names"], storage["series"], storage["blocks"], storage["writers"]) == (
        2,
        4,
        2,
        2,
    )
    assert storage["retention_hours"] == 24
    assert storage["memory_bytes"] > 0 < storage["bytes"]["log"]
    assert recorder["metrics_recorded"] == recorder["recorded"] == recorder["stored"] == 3
    assert json.loads(metrics.to_json(found)) == found


def test_to_json_takes_every_answer(grouped: Metrics) -> None:
    grouped.increment("jobs", tags={"model": "ü"})
    assert json.loads(grouped.to_json(grouped.query("score", aggregation="mean"))) == 10.5
    assert json.loads(grouped.to_json(grouped.query("jobs")))[0]["tags"] == {"model": "ü"}
    assert "ü" in grouped.to_json(grouped.query("jobs"))
    for answer in (
        grouped.time_series("score"),
        grouped.rollup("score", group_by="model"),
        grouped.list_metrics(),
    ):
        assert len(json.loads(grouped.to_json(answer))) == len(answer) > 0
    groups = json.loads(grouped.to_json(grouped.query("score", group_by="model")))
    assert groups[0]["samples"][0]["value"] == 16


# -- the catalogue and deleting -----------------------------------------------------------------------------------


def test_list_metrics_tells_each_by_name(metrics: Metrics) -> None:
    began = datetime.now(UTC)
    metrics.declare("size", "histogram", help="How big.", unit="bytes")
    metrics.histogram("size", 1)
    metrics.increment("jobs", tags={"a": 1})
    metrics.increment("jobs", tags={"a": 2})
    size, jobs = sorted(metrics.list_metrics(), key=lambda row: row["name"] != "size")
    assert [row["name"] for row in metrics.list_metrics()] == ["jobs", "size"]
    for row in (size, jobs):
        assert began - timedelta(milliseconds=1) <= row.pop("last_seen") <= datetime.now(UTC)
    assert size == {
        "name": "size",
        "type": "histogram",
        "unit": "bytes",
        "help": "How big.",
        "series": 1,
    }
    assert jobs == {"name": "jobs", "type": "counter", "unit": "", "help": "", "series": 2}


def test_list_metrics_counts_a_hundred_series_as_a_hundred(metrics: Metrics) -> None:
    for number in range(100):
        metrics.increment("jobs", tags={"n": number})
    assert metrics.list_metrics()[0]["series"] == 100
    assert metrics.get_stats()["storage"]["series"] == 100


def test_tag_values_are_sorted(grouped: Metrics) -> None:
    assert grouped.tag_values("score", "dataset") == ["", "fever", "scifact"]
    assert grouped.tag_values("score", "nobody") == []


def test_delete_metric_deletes_one(metrics: Metrics, other: Metrics) -> None:
    metrics.increment("jobs", 5, tags={"a": 1})
    metrics.increment("kept")
    other.increment("jobs", 7, tags={"a": 2})
    other.flush()
    assert metrics.delete_metric("jobs") is True
    assert metrics.delete_metric("jobs") is False
    assert metrics.query("jobs", aggregation="sum") == other.query("jobs", aggregation="sum") == 0
    assert metrics.tag_values("jobs", "a") == []
    assert [family.name for family in metrics.live()] == ["kept"]
    assert metrics.query("kept", aggregation="sum") == 1
    other.increment("jobs", 1, tags={"a": 2})
    assert other.live("jobs")[0].series[0].value == 1  # from nothing


def test_a_deleted_metric_may_come_back_as_another_type(metrics: Metrics, other: Metrics) -> None:
    metrics.increment("jobs")
    metrics.delete_metric("jobs")
    other.gauge("jobs", 3)
    assert other.query("jobs", aggregation="last") == 3
    assert [row["type"] for row in metrics.list_metrics()] == ["gauge"]


def test_clear_deletes_all_of_this_namespace_and_nothing_else(metrics: Metrics, url: str) -> None:
    with Metrics(url, namespace=metrics.settings.namespace + ".2") as neighbour:
        neighbour.increment("jobs")
        neighbour.flush()
        metrics.increment("jobs")
        metrics.gauge("depth", 1)
        metrics.flush()
        assert metrics.clear(confirm=True) == 2
        assert metrics.list_metrics() == []
        assert metrics.query("jobs", aggregation="sum") == 0
        assert neighbour.query("jobs", aggregation="sum") == 1


def test_clear_deletes_what_was_recorded_before_it_and_not_sent_yet(metrics: Metrics) -> None:
    metrics.increment("jobs")
    metrics.clear(confirm=True)
    assert metrics.query("jobs", aggregation="sum") == 0


@pytest.mark.parametrize("options", [{}, {"confirm": False}, {"confirm": 1}, {"confirm": "yes"}])
def test_clear_asks_for_a_confirmation(nowhere: Metrics, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidQuery, match="confirm=True"):
        nowhere.clear(**options)


def test_after_a_clear_every_client_goes_on_recording_into_the_right_series(
    metrics: Metrics, other: Metrics
) -> None:
    for client in (metrics, other):
        for tenant in ("a", "b", "c"):
            client.increment("jobs", tags={"tenant": tenant})
        client.flush()
    metrics.clear(confirm=True)
    metrics.increment(
        "jobs", 10, tags={"tenant": "c"}
    )  # in another order, so that a number used again would show
    metrics.flush()
    other.increment("jobs", 20, tags={"tenant": "b"})
    other.increment("jobs", 30, tags={"tenant": "a"})
    other.flush()
    wanted = [{"tenant": "a", "sum": 30}, {"tenant": "b", "sum": 20}, {"tenant": "c", "sum": 10}]
    assert metrics.query("jobs", aggregation="sum", group_by="tenant") == wanted
    assert other.query("jobs", aggregation="sum", group_by="tenant") == wanted


def test_series_numbers_are_never_used_again(server: Server, metrics: Metrics) -> None:
    used: list[int] = []
    of = metric(metrics.settings.namespace, 0, "jobs")
    with server.client() as client:
        for _ in range(3):
            for tenant in ("a", "b"):
                metrics.increment("jobs", tags={"tenant": tenant})
            metrics.flush()
            used += [int(number) for number in client.hvals(of.series)]
            metrics.clear(confirm=True)
    assert len(used) == len(set(used)) == 6


# -- digest and live ----------------------------------------------------------------------------------------------


def test_digest_holds_the_distribution_of_the_window(metrics: Metrics) -> None:
    for number, value in enumerate(VALUES):
        metrics.histogram("size", value, timestamp=at(number))
    digest = metrics.digest("size", window=(at(1), None))
    assert digest.count == len(VALUES) - 1
    assert (digest.low, digest.high) == (1.0, 9.25)
    for p in (0, 12.5, 50, 99, 100):
        assert digest.percentile(p) == pytest.approx(np.percentile(VALUES[1:], p))


def test_live_is_the_running_state_of_all_series_since_they_began(
    metrics: Metrics, other: Metrics
) -> None:
    metrics.declare("size", "histogram", buckets=[1, 2, 5])
    for client in (metrics, other):
        client.increment("jobs", 5, tags={"a": 1}, timestamp=at(0))
        for value in (0.5, 1.0, 1.5, 7.0):
            client.histogram("size", value)
        client.gauge("depth", 3 if client is metrics else 4)
        client.flush()
    families = {family.name: family for family in metrics.live()}
    assert families.keys() == {"jobs", "size", "depth"}
    (jobs,), (size,), (depth,) = (families[name].series for name in ("jobs", "size", "depth"))
    assert (jobs.value, jobs.tags) == (10, {"a": "1"})
    assert (size.value, size.count, size.buckets) == (20, 8, (4, 2, 0))
    assert depth.value == 4
    assert metrics.live("jobs")[0].series == [jobs]


def test_live_takes_a_late_value_of_a_gauge_for_what_it_is(metrics: Metrics) -> None:
    metrics.gauge("depth", 2, timestamp=at(20))
    metrics.flush()
    metrics.gauge("depth", 1, timestamp=at(10))
    metrics.flush()
    assert (
        metrics.live("depth")[0].series[0].value == metrics.query("depth", aggregation="last") == 2
    )


def test_live_counts_beyond_what_a_float_holds_exactly(metrics: Metrics) -> None:
    for amount in (2.0**53, 1.0, 1.0):
        metrics.increment("jobs", amount)
        metrics.flush()
    assert metrics.live("jobs")[0].series[0].value == 2**53 + 2


def test_live_leaves_out_series_that_are_idle(url: str, namespace: str) -> None:
    with Metrics(url, namespace=namespace, series_idle=1) as metrics:
        metrics.increment("jobs", tags={"a": 1})
        metrics.flush()
        assert len(metrics.live("jobs")[0].series) == 1
        wait_until(lambda: metrics.live("jobs")[0].series == [], "a series is idle for a second")
        metrics.increment("jobs", tags={"a": 1})
        assert metrics.live("jobs")[0].series[0].value == 2  # it goes on from its total


# -- wrong questions ----------------------------------------------------------------------------------------------

WRONG: list[tuple[str, tuple[Any, ...], dict[str, Any], type[InvalidQuery]]] = [
    *(
        (ask, (name,), {}, InvalidQuery)
        for ask in ("query", "time_series", "rollup", "digest", "live", "get_aggregation", "get_time_series", "get_rollups")
        for name in ("", "a b", 5)
    ),
    *(
        (ask, ("m",), options, InvalidQuery)
        for ask in ("query", "time_series", "rollup", "get_aggregation", "get_time_series", "get_rollups")
        for options in (
            {"group_by": 5}, {"group_by": None}, {"group_by": [5]}, {"group_by": "a b"}, {"group_by": [["a"]]}, {"tags": "a=b"},
            {"tags": {"a b": 1}}, {"tags": {"a": []}}, {"tags": [("a", "b")]}, {"tags": {"a": "\ud800"}},
        )
    ),
    ("query", ("m",), {"aggregation": "sum", "group_by": "sum"}, InvalidQuery),
    ("query", ("m",), {"group_by": "samples"}, InvalidQuery),
    ("query", ("m",), {"aggregation": "avg"}, UnknownAggregation),
    ("get_aggregation", ("m",), {"aggregation": "avg"}, UnknownAggregation),
    ("time_series", ("m",), {"group_by": "timestamp"}, InvalidQuery),
    ("time_series", ("m",), {"group_by": "count"}, InvalidQuery),
    ("time_series", ("m",), {"aggregation": "avg"}, UnknownAggregation),
    ("time_series", ("m",), {"aggregations": ["count", "avg"]}, UnknownAggregation),
    ("time_series", ("m",), {"aggregations": []}, UnknownAggregation),
    *(("time_series", ("m",), {"interval": interval}, UnknownWindow) for interval in ("week", "0m", "1500ms", 60, None)),
    ("get_time_series", ("m",), {"interval": "week"}, UnknownWindow),
    ("rollup", ("m",), {"group_by": "mean"}, InvalidQuery),
    ("rollup", ("m",), {"aggregations": "avg"}, UnknownAggregation),
    ("rollup", ("m",), {"aggregations": ()}, UnknownAggregation),
    ("rollup", ("m",), {"aggregations": None}, InvalidQuery),
    *(("rollup", ("m",), {"keys": keys}, InvalidQuery) for keys in ("tuples", None, 1)),
    ("get_rollups", ("m",), {"aggregations": ["avg"]}, UnknownAggregation),
    *(("get_metrics", (), {"limit": limit}, InvalidQuery) for limit in (-1, 1.5, "10", None, True)),
    *(("get_metrics", (), {"since": since}, InvalidQuery) for since in ("yesterday", datetime(2026, 1, 1), -1)),  # noqa: DTZ001
    ("get_metrics", (), {"until": "now"}, InvalidQuery),
    ("get_metrics", (), {"type": "timer"}, InvalidQuery),
    ("get_metrics", (), {"name": "a b"}, InvalidQuery),
    ("get_metrics", (), {"tags": "a=b"}, InvalidQuery),
    ("digest", ("m",), {"tags": {"a": []}}, InvalidQuery),
    ("tag_values", ("a b", "k"), {}, InvalidQuery),
    ("tag_values", ("m", "a b"), {}, InvalidQuery),
]  # fmt: skip


@pytest.mark.parametrize(
    ("ask", "arguments", "options", "error"), WRONG, ids=lambda value: repr(value)[:40]
)
def test_a_wrong_question_is_refused_before_anything_is_read(
    nowhere: Metrics,
    ask: str,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    error: type[InvalidQuery],
) -> None:
    nowhere.increment("unsent")  # nor is anything sent
    began = time.monotonic()
    with pytest.raises(InvalidQuery) as caught:
        getattr(nowhere, ask)(*arguments, **options)
    assert type(caught.value) is error
    assert re.search(
        r" must (be|have|hold) .+, got |invalid .+: use |unknown aggregation .+ \(allowed: |"
        r"group_by must not hold '.+': another column",
        str(caught.value),
    )
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("ask", "arguments"),
    [
        ("query", ("m",)), ("time_series", ("m",)), ("rollup", ("m",)), ("digest", ("m",)), ("live", ()), ("get_metrics", ()),
        ("get_aggregation", ("m",)), ("get_time_series", ("m",)), ("get_rollups", ("m",)), ("get_stats", ()),
        ("list_metrics", ()), ("tag_values", ("m", "k")), ("delete_metric", ("m",)),
    ],
)  # fmt: skip
def test_a_right_question_to_nobody_says_that_the_store_is_unavailable(
    nowhere: Metrics, ask: str, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(StoreUnavailable):
        getattr(nowhere, ask)(*arguments)


def test_an_unknown_option_is_refused(metrics: Metrics) -> None:
    with pytest.raises(TypeError, match="time_range"):
        metrics.query("m", time_range=(1, 2))  # type: ignore[call-arg]


def test_a_client_of_no_store_has_nothing_to_ask() -> None:
    with Metrics("none://") as metrics:
        metrics.increment("jobs")
        with pytest.raises(InvalidQuery, match="none://"):
            metrics.query("jobs")
        assert metrics.stats()["recorded"] == 0


# -- what is sent -------------------------------------------------------------------------------------------------


def ask_everything(metrics: Metrics) -> dict[str, Any]:
    """Every question there is; answers without the time they were given at."""
    answers = {
        "query": metrics.query("score", aggregation="p95", group_by="model"),
        "samples": metrics.query("score"),
        "time_series": metrics.time_series("score"),
        "rollup": metrics.rollup("score", group_by="model"),
        "digest": metrics.digest("score").percentile(50),
        "live": metrics.live(),
        "get_metrics": metrics.get_metrics()["metrics"],
        "get_aggregation": metrics.get_aggregation("score", aggregation="sum")["results"],
        "get_time_series": metrics.get_time_series("score")["series"],
        "get_rollups": metrics.get_rollups("score")["rollups"],
        "list_metrics": metrics.list_metrics(),
        "tag_values": metrics.tag_values("score", "model"),
        "stored": metrics.get_stats()["storage"]["metrics_stored"],
        "nobody": metrics.query("nobody", aggregation="count"),
    }
    assert len(answers["query"]) == 3
    return answers


def test_a_reader_sends_nothing_but_reads(
    fresh_server: Callable[..., Server], grouped: Metrics
) -> None:
    server = fresh_server(port=True)
    rights = "on >secret resetkeys %R~rm:{*}:* %R~rm:*:config %R~rm:*:workers resetchannels -@all +@read +time +info +hello +auth"
    if server.release < (7,):
        rights = rights.replace("%R~", "~")
    with server.client() as client, Metrics(server.url, namespace="shop") as writer:
        for sample in grouped.query("score"):
            writer.gauge("score", sample.value, tags=sample.tags, timestamp=sample.timestamp)
        writer.flush()
        client.execute_command("ACL", "SETUSER", "reader", *rights.split())
        url = f"redis://reader:secret@127.0.0.1:{server.port}/0"
        with Metrics(url, namespace="shop") as reader:
            assert ask_everything(reader) == ask_everything(writer)
            assert reader.query("score", aggregation="sum") == 63
            logged = client.execute_command("ACL", "LOG")
            with pytest.raises(
                ScriptFailed, match=r"(?i)permission"
            ):  # the rights above do forbid writing
                reader.delete_metric("score")
        refused = {entry[b"object"] if isinstance(entry, dict) else entry[5] for entry in logged}
        assert all(what.startswith(b"client") for what in refused), (
            refused
        )  # redis-py's greeting, which may fail


def test_a_replica_answers_as_its_master_does(
    fresh_server: Callable[..., Server], grouped: Metrics
) -> None:
    master = fresh_server(port=True, args=("--repl-diskless-sync-delay", "0"))
    replica = fresh_server(port=True, args=("--replicaof", "127.0.0.1", str(master.port)))
    with (
        Metrics(master.url, namespace="shop") as writer,
        Metrics(replica.url, namespace="shop") as reader,
    ):
        for sample in grouped.query("score"):
            writer.gauge("score", sample.value, tags=sample.tags, timestamp=sample.timestamp)
        writer.flush()
        with master.client() as client, replica.client() as follower:
            wait_until(
                lambda: follower.info("replication")["master_link_status"] == "up",
                "the replica has followed",
            )
            client.set("written", 1)
            wait_until(lambda: follower.get("written"), "the replica has everything")
        assert ask_everything(reader) == ask_everything(writer)
        with pytest.raises(ScriptFailed, match=r"(?i)read.?only"):
            reader.delete_metric("score")


def test_what_is_unsent_is_sent_before_a_question(url: str, namespace: str, other: Metrics) -> None:
    with Metrics(url, namespace=namespace, flush_interval=HOUR) as metrics:
        handle = Histogram("size", metrics=metrics)
        for number in range(1, 4):
            handle.record(float(number))
            assert metrics.query("size", aggregation="count") == number
            assert metrics.stats()["pending"] == 0
        handle.record(4.0)
        assert (
            other.query("size", aggregation="count") == 3
        )  # not of this client: it waits for its flush


# -- damage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damaged", [b"", b"junk", b"\x99" * 50, b"\xff" * 500])
def test_a_damaged_block_is_told_and_not_skipped(
    server: Server, metrics: Metrics, damaged: bytes
) -> None:
    metrics.gauge("depth", 1)
    metrics.flush()
    of = metric(metrics.settings.namespace, 0, "depth")
    with server.client() as client:
        client.zadd(
            of.log, {damaged: int(client.get(shard(metrics.settings.namespace, 0).clock) or 0)}
        )
    with pytest.raises(FormatMismatch, match=r"^block: "):
        metrics.query("depth", aggregation="count")


def test_a_namespace_of_another_format_is_told(server: Server, url: str, namespace: str) -> None:
    with server.client() as client:
        client.hset(config(namespace), mapping={"format": FORMAT + 1, "shards": 1})
    with (
        Metrics(url, namespace=namespace) as metrics,
        pytest.raises(FormatMismatch, match=r"must have format 1, got 2"),
    ):
        metrics.query("depth")
