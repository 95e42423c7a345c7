"""Bound instruments: Counter, Gauge and Histogram."""

import copy
import pickle
import time
from collections.abc import Callable
from typing import Any

import pytest

import redismetrics
from redismetrics import (
    AsyncMetrics,
    Counter,
    Gauge,
    Histogram,
    Metrics,
)
from redismetrics.client import default
from redismetrics.testing import capture
from tests.recording.helpers import Make, python


class JobCounter(Counter):
    """A counter with an attribute of its own, and another in its `__dict__`."""

    __slots__ = ("__dict__", "seen")

    def __init__(self, shop: str) -> None:
        super().__init__("jobs", {"shop": shop})
        self.shop = shop
        self.seen = ["first"]


def test_instruments_record_what_the_methods_do(
    metrics: Metrics, ticks: Callable[[float], None]
) -> None:
    jobs, depth, took = (
        kind(name, {"a": "b"}, metrics=metrics)
        for kind, name in ((Counter, "jobs"), (Gauge, "depth"), (Histogram, "took"))
    )
    jobs.increment()
    jobs.increment(2)
    jobs.increment(0.5)
    depth.set(4)
    depth.set(4.5)
    took.record(3)
    took.record(1.5)
    with took.time():
        ticks(0.002)
    took.time()(lambda: ticks(0.005))()
    assert metrics.query("jobs", aggregation="sum", tags={"a": "b"}) == 3.5
    assert [sample.value for sample in metrics.query("depth", tags={"a": "b"})] == [4, 4.5]
    assert sorted(
        sample.value for sample in metrics.query("took", tags={"a": "b"})
    ) == pytest.approx([1.5, 2, 3, 5])


def test_instruments_and_methods_share_their_series(metrics: Metrics) -> None:
    instrument = Counter("jobs", {"b": 1, "a": "x"}, metrics=metrics)
    instrument.increment()
    metrics.increment("jobs", tags={"a": "x", "b": "1"})
    Counter("jobs", {"a": "x", "b": "1"}, metrics=metrics).increment()
    assert metrics.query("jobs", aggregation="sum") == 3
    assert metrics.list_metrics()[0]["series"] == 1


def test_with_tags_adds_changes_and_removes(metrics: Metrics) -> None:
    base = Counter("jobs", {"a": "1", "b": "2"}, metrics=metrics)
    other = base.with_tags({"b": "3", "x.y": "z"}, a=None, c=4)
    assert (type(other), other.tags, base.tags) == (
        Counter,
        {"b": "3", "c": "4", "x.y": "z"},
        {"a": "1", "b": "2"},
    )
    base.increment()
    other.increment(2)
    assert metrics.query("jobs", aggregation="sum", tags={"b": "3"}) == 2
    assert metrics.query("jobs", aggregation="sum") == 3


def test_gauge_add_changes_the_value_shared_by_all_processes(make: Make) -> None:
    first, second = make(), make()
    one, two = Gauge("connections", metrics=first), Gauge("connections", metrics=second)
    one.set(10)
    first.flush()
    two.add(5.0)
    two.add(-2)
    second.flush()
    assert first.query("connections", aggregation="last") == 13
    one.add(1)
    one.set(100.0)
    one.add(0.5)
    assert first.query("connections", aggregation="last") == 100.5
    two.add(1)
    assert second.query("connections", aggregation="last") == 101.5
    (family,) = first.live("connections")
    assert family.series[0].value == 101.5


def test_the_last_value_of_a_gauge_is_the_shared_one_whatever_the_order_of_flushes(
    make: Make,
) -> None:
    now = [time.time()]
    first, second = make(clock=lambda: now[0]), make(clock=lambda: now[0])
    one, two = Gauge("connections", metrics=first), Gauge("connections", metrics=second)
    one.add(10)
    now[0] += 0.05
    two.add(-4)
    second.flush()
    first.flush()  # older, but what it makes of the value is the newest
    (family,) = first.live("connections")
    assert family.series[0].value == 6
    assert first.query("connections", aggregation="last") == 6


def test_gauge_add_starts_at_0(metrics: Metrics) -> None:
    gauge = Gauge("connections", metrics=metrics)
    gauge.add(3)
    gauge.add(-1.0)
    assert [(sample.value, sample.count) for sample in metrics.query("connections")] == [(2, 1)]


def test_an_instrument_survives_a_change_of_its_metric(metrics: Metrics) -> None:
    metrics.record("took", 1)  # guessed a counter
    instrument = Histogram("took", metrics=metrics)
    instrument.record(2.0)
    metrics.declare("took", "histogram", unit="seconds")
    instrument.record(3.0)
    assert sorted(sample.value for sample in metrics.query("took")) == [1, 2, 3]
    assert metrics.list_metrics()[0]["unit"] == "seconds"


COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda instrument: pickle.loads(pickle.dumps(instrument)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=list(COPIES))
def test_copy_of_a_used_handle_records_into_the_same_series(duplicate: Any) -> None:
    with capture() as captured:
        counter = Counter("jobs", {"shop": "de"})
        gauge, histogram = Gauge("depth"), Histogram("took")
        counter.increment()
        gauge.set(1.0)
        histogram.record(1.0)
        duplicate(counter).increment(2)
        duplicate(gauge).set(3.0)
        duplicate(histogram).record(4.0)
        with duplicate(duplicate(histogram).time("s")):
            pass
        assert captured.counter("jobs", shop="de").total == 3
        assert captured.gauge("depth").values == [1, 3]
        assert captured.samples("took", {})[1].value == 4
        assert len(captured.samples("took", {})) == 3


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copy_of_a_handle_has_the_same_client(metrics: Metrics, duplicate: Any) -> None:
    counter = Counter("jobs", metrics=metrics)
    counter.increment()
    duplicate(counter).increment(2)
    assert metrics.query("jobs", aggregation="sum") == 3


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=list(COPIES))
def test_copy_of_an_instrument_of_a_subclass_keeps_its_attributes(duplicate: Any) -> None:
    found = duplicate(JobCounter("de"))
    assert (type(found), found.name, found.tags) == (JobCounter, "jobs", {"shop": "de"})
    assert (found.shop, found.seen) == ("de", ["first"])


def test_copied_handle_records_in_the_process_that_uses_it(url: str, namespace: str) -> None:
    code = f"""
import copy, os, json, redismetrics as rm
rm.configure({url!r}, namespace={namespace!r})
instrument = rm.Counter("jobs")
instrument.increment()
copied = copy.copy(instrument)
rm.flush()
if not (pid := os.fork()):
    copied.increment(10)
    rm.close()
    os._exit(0)
os.waitpid(pid, 0)
copied.increment(100)
print(json.dumps([rm.query("jobs", aggregation="sum"), rm.stats()["dropped"]]))
"""
    assert python(code) == [111, {}]


def test_clients_are_never_copied(metrics: Metrics) -> None:
    holder = {"metrics": metrics, "loop": AsyncMetrics(metrics=metrics)}
    assert copy.copy(metrics) is metrics
    assert copy.deepcopy(holder) == holder
    for client in holder.values():
        with pytest.raises(TypeError, match=r"can't be pickled.*create a client in each process"):
            pickle.dumps(client)
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(Counter("jobs", metrics=metrics))
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(metrics.measure("took"))


def test_default_client_is_pickled_as_the_default_client_of_the_reader() -> None:
    with capture():
        found = default.client()
        assert pickle.loads(pickle.dumps(found)) is found
        timer = pickle.loads(pickle.dumps(redismetrics.measure("took", tags={"a": "b"})))
        with timer:
            pass
