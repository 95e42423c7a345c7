"""Draining: every value comes out once, in order, whatever threads append meanwhile."""

import threading
from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from redismetrics.columnar.samples import CHANGE, OWN_TIME, Samples
from redismetrics.model.definition import define
from redismetrics.recording import drain as drain_module
from redismetrics.recording.batch import MetricBatch, saturated_sum
from redismetrics.recording.buffers import Buffer
from redismetrics.recording.drain import COUNTED_FROM, SLICE, drain

DUE_MS = 1_800_000_000_123
Row = tuple[int, int, float, int, int]

AMOUNTS = st.sampled_from([1, 1, 1, 1.0, 2, 0.5, 0.0, -0.0, 1e308, 1 << 53])
VALUES = st.floats(-1.7e308, 1.7e308)
TIMES = st.integers(1, 10**10).map(lambda ms: ms / 1000)
EXTRA = st.tuples(st.integers(0, 10**10), st.booleans(), VALUES, st.none() | st.just(b"{}"))


def buffers_of(values: list[list[Any]], extras: list[list[Any]] | None = None) -> list[Buffer]:
    """Return a buffer of each list of values, with these samples that have a time of their own."""
    made = []
    for number, held in enumerate(values):
        buffer = Buffer(b"%d" % number)
        buffer.values += held
        buffer.extra += extras[number] if extras and number < len(extras) else []
        made.append(buffer)
    return made


def drained(kind: Any, buffers: list[Buffer]) -> MetricBatch | None:
    batch, lost = drain("metric", define("metric", kind), True, buffers, DUE_MS, 100)
    assert lost == 0
    assert all(buffer.is_empty for buffer in buffers)
    return batch


def rows_of(samples: Samples) -> list[tuple[Any, ...]]:
    """Return the rows; values as text, because -0.0 == 0.0."""
    columns = samples.series, samples.time, samples.value, samples.weight, samples.flags
    assert [column.dtype.str for column in columns] == ["<i8", "<i8", "<f8", "<i8", "|u1"]
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [(series, time, repr(value), *rest) for series, time, value, *rest in rows]


def counter_rows(number: int, amounts: list[float]) -> list[Row]:
    """Return one row for each distinct amount, counted one by one."""
    rows: list[Row] = []
    for begin in range(0, len(amounts), SLICE):
        counts: dict[float, int] = {}
        for amount in amounts[begin : begin + SLICE]:
            counts[amount] = counts.get(amount, 0) + 1
        rows += [(number, DUE_MS, float(each), count, 0) for each, count in counts.items()]
    return rows


def gauge_rows(number: int, pairs: list[float]) -> list[Row]:
    """Return one row for each set, and one for all changes before the first set."""
    rows: list[Row] = []
    value: float | None = None
    for time, amount in zip(pairs[::2], pairs[1::2], strict=True):
        ms = int(abs(time) * 1000)
        if time >= 0:
            value = amount
            rows.append((number, ms, value, 1, 0))
        elif value is not None:
            value = saturated_sum(value, amount)
            rows.append((number, ms, value, 1, 0))
        elif rows:
            rows = [(number, ms, saturated_sum(rows[0][2], amount), 1, CHANGE)]
        else:
            rows = [(number, ms, amount, 1, CHANGE)]
    return rows


def assert_drained(
    batch: MetricBatch | None,
    values: list[list[Any]],
    extras: list[list[Any]],
    rows_of_values: Callable[[int, list[Any]], list[Row]],
) -> None:
    """Assert that *batch* has the rows that the naive function gives, series after series."""
    extras = extras[: len(values)] + [[]] * (len(values) - len(extras))
    filled = [at for at in range(len(values)) if values[at] or extras[at]]
    if not filled:
        assert batch is None
        return
    assert batch is not None
    assert batch.canonicals == [b"%d" % at for at in filled]
    rows: list[Row] = []
    for number, at in enumerate(filled):
        rows += rows_of_values(number, values[at])
    metadata = {}
    for number, at in enumerate(filled):
        for time, own, value, text in extras[at]:
            if text is not None:
                metadata[len(rows)] = text
            rows.append((number, time, value, 1, OWN_TIME if own else 0))
    assert rows_of(batch.samples) == [
        (series, time, repr(value), *rest) for series, time, value, *rest in rows
    ]
    assert batch.samples.metadata == metadata


@hypothesis.given(
    st.lists(
        st.lists(AMOUNTS, max_size=3) | st.lists(AMOUNTS, max_size=3 * COUNTED_FROM), max_size=12
    ),
    st.lists(st.lists(EXTRA, max_size=2), max_size=12),
)
def test_amounts_of_counters_are_counted(
    values: list[list[float]], extras: list[list[Any]]
) -> None:
    batch = drained("counter", buffers_of(values, extras))
    assert_drained(batch, values, extras, counter_rows)


@hypothesis.given(
    st.lists(
        st.lists(st.tuples(TIMES, VALUES), max_size=4).map(lambda pairs: [*sum(pairs, ())]),
        max_size=12,
    ),
    st.lists(st.lists(EXTRA, max_size=2), max_size=12),
)
def test_values_keep_their_times_and_series(
    values: list[list[float]], extras: list[list[Any]]
) -> None:
    for kind in ("gauge", "histogram"):
        batch = drained(kind, buffers_of(values, extras))
        assert_drained(batch, values, extras, gauge_rows)


@hypothesis.given(
    st.lists(
        st.lists(st.tuples(st.sampled_from([1, -1]), TIMES, VALUES), max_size=5),
        max_size=6,
    )
)
def test_changes_of_gauges_add_up(changes: list[list[tuple[int, float, float]]]) -> None:
    values = [
        [item for sign, time, value in series for item in (sign * time, value)]
        for series in changes
    ]
    batch = drained("gauge", buffers_of(values))
    # The rows of several series come in the order of their first ones, which is by series.
    assert_drained(batch, values, [], gauge_rows)


@pytest.mark.parametrize("sizes", [[3, SLICE + 5, 0, 2], [SLICE, SLICE], [SLICE - 1, 3, 4, SLICE]])
def test_more_samples_than_are_taken_at_once(sizes: list[int]) -> None:
    values: list[list[Any]] = [[number % 5 for number in range(size)] for size in sizes]
    batch = drained("counter", buffers_of(values))
    assert_drained(batch, values, [], counter_rows)
    pairs: list[list[Any]] = [
        [item for number in range(size // 2) for item in (1.0 + number, float(number))]
        for size in sizes
    ]
    batch = drained("gauge", buffers_of(pairs))
    assert_drained(batch, pairs, [], gauge_rows)


class Appending(list[float]):
    """A list to which another thread appends while it is drained."""

    def __init__(self, values: list[float], more: list[float], when: str) -> None:
        super().__init__(values)
        self.more, self.when = more, when

    def _append(self, when: str) -> None:
        if when == self.when:
            self.extend(self.more)
            self.more = []

    def __iter__(self) -> Any:
        self._append("before reading")
        yield from super().__iter__()
        self._append("after reading")

    def __delitem__(self, at: Any) -> None:
        self._append("before deleting")
        super().__delitem__(at)


@pytest.mark.parametrize("when", ["before reading", "after reading", "before deleting"])
def test_values_appended_during_a_drain_come_with_the_next_one(when: str) -> None:
    buffers = buffers_of([[1.0, 10.0], [1.0, 20.0], [1.0, 30.0]])
    buffers[1].values = Appending([1.0, 20.0], [2.0, 21.0], when)
    first, _ = drain("depth", define("depth", "gauge"), True, buffers, DUE_MS, 100)
    assert first is not None
    assert first.samples.value.tolist() == [10.0, 20.0, 30.0]
    assert first.samples.series.tolist() == [0, 1, 2]
    second = drained("gauge", buffers)
    assert second is not None
    assert second.canonicals == [b"1"]
    assert (second.samples.time.tolist(), second.samples.value.tolist()) == ([2_000], [21.0])


def test_buffers_cleared_during_a_drain_give_what_is_left() -> None:
    buffers = buffers_of([[1.0, 10.0], [1.0, 20.0], [1.0, 30.0]])

    class Cleared(list[float]):
        def __iter__(self) -> Any:
            self.clear()
            return super().__iter__()

    buffers[1].values = Cleared([1.0, 20.0])
    batch = drained("gauge", buffers)
    assert batch is not None
    assert batch.samples.value.tolist() == [10.0, 30.0]
    assert batch.samples.series.tolist() == [0, 2]


@pytest.mark.parametrize("kind", ["counter", "gauge"])
def test_nothing_is_lost_while_threads_append(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain_module, "SLICE", 50)
    buffers = buffers_of([[] for _ in range(40)])
    each, threads = 2_000, 4
    found: dict[bytes, list[float]] = {buffer.canonical: [] for buffer in buffers}

    def record(thread: int) -> None:
        for number in range(each):
            for buffer in buffers[thread % 2 :: 2]:
                if kind == "counter":
                    buffer.values.append(number % 3)
                else:
                    buffer.values.extend((1.0 + number, 1_000.0 + number))

    def collect() -> None:
        batch, _ = drain("metric", define("metric", kind), True, buffers, DUE_MS, 100)
        if batch is None:
            return
        samples = batch.samples
        if kind == "gauge":
            np.testing.assert_array_equal(samples.time / 1000, samples.value - 999)
        for series, value, weight in zip(
            samples.series.tolist(), samples.value.tolist(), samples.weight.tolist(), strict=True
        ):
            found[batch.canonicals[series]] += [value] * weight

    running = [threading.Thread(target=record, args=(thread,)) for thread in range(threads)]
    for thread in running:
        thread.start()
    while any(thread.is_alive() for thread in running):
        collect()
    collect()
    expected: list[float] = [
        number % 3 if kind == "counter" else 1_000.0 + number
        for number in range(each)
        for _ in range(threads // 2)
    ]
    for values in found.values():
        assert sorted(values) == sorted(expected)
