"""Samples into minutes, minutes into hours: compared with an oracle of dicts and lists."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redismetrics.columnar import rollup_table
from redismetrics.columnar.rollup_codec import pack_table, unpack_table
from redismetrics.columnar.rollup_table import CLUSTERED, EXACT, UNIFORM, Table
from redismetrics.columnar.sample_codec import pack_samples, unpack_samples
from redismetrics.columnar.samples import CENTROID, CHANGE, OWN_TIME, Samples, compress, no_samples
from redismetrics.columnar.summaries import Summaries
from redismetrics.model.retention import RetentionPolicy
from redismetrics.model.time import DAY, HOUR, MINUTE
from redismetrics.worker.limits import DEFAULT_LIMITS
from redismetrics.worker.merge import (
    Cell,
    CellKey,
    assemble,
    assemble_samples,
    cell_keys,
    downsample_rows,
    merge_into_cells,
    segment_rows,
    segment_samples,
)

START = 1_800_000_000_000 // HOUR * HOUR
MINUTES, HOURS, DAYS = RetentionPolicy.of(3 * HOUR, 3 * DAY, 90 * DAY, 900 * DAY).resolutions
CHUNK = 3
SAMPLES_PER_MINUTE = DEFAULT_LIMITS.samples_per_minute


@dataclass(frozen=True)
class Sample:
    series: int
    time: int
    value: float
    weight: int = 1
    metadata: bytes | None = None
    flags: int = 0


def columns(given_: Sequence[Sample]) -> Samples:
    """Return samples as a block has them, with series ids."""
    return Samples(
        np.array([sample.series for sample in given_], np.int64),
        np.array([sample.time for sample in given_], np.int64),
        np.array([sample.value for sample in given_], np.float64),
        np.array([sample.weight for sample in given_], np.int64),
        np.array([sample.flags for sample in given_], np.uint8),
        {row: sample.metadata for row, sample in enumerate(given_) if sample.metadata is not None},
    )


def stored(cell: Cell) -> Cell:
    """Return the cell as decoded from its bytes."""
    table, samples = pack_table(cell.table), pack_samples(cell.samples)
    return Cell(
        unpack_table(table) if table else rollup_table.empty(),
        unpack_samples(samples) if samples else no_samples(),
    )


@dataclass
class Store:
    """Cells as a worker reads and writes them, through bytes or not."""

    packed: bool = True
    cells: dict[CellKey, Cell] = field(default_factory=dict)

    def seal(self, parts: list[Samples], raw_from_ms: int = 0) -> dict[CellKey, Cell]:
        touched = cell_keys(parts, CHUNK)
        held = {place: self.cells[place] for place in touched if place in self.cells}
        cells_now = merge_into_cells(parts, held, CHUNK, MINUTES, raw_from_ms, SAMPLES_PER_MINUTE)
        assert list(cells_now) == touched  # each cell that holds something, in order, and no other
        self.cells.update(
            {place: stored(cell) for place, cell in cells_now.items()} if self.packed else cells_now
        )
        return cells_now


@dataclass
class Row:
    """One series in one minute, for the oracle."""

    samples: list[Sample] = field(
        default_factory=list
    )  # all that was recorded, in order of arrival
    raw: list[Sample] = field(default_factory=list)  # what came exactly
    clustered: bool = False
    raw_gone: bool = False


class Oracle:
    def __init__(self) -> None:
        self.rows: dict[tuple[int, int], Row] = defaultdict(Row)

    def add(self, recorded: Iterable[Sample], came: Samples) -> None:
        """Add recorded samples, and the rows made from them: the same, or compressed."""
        for sample in recorded:
            self.rows[sample.time // MINUTE * MINUTE, sample.series].samples.append(sample)
        for row in range(len(came)):
            found = self.rows[int(came.time[row]) // MINUTE * MINUTE, int(came.series[row])]
            found.clustered |= bool(came.flags[row] & CENTROID)
            found.raw.append(
                Sample(
                    int(came.series[row]),
                    int(came.time[row]),
                    float(came.value[row]),
                    int(came.weight[row]),
                    came.metadata.get(row),
                )
            )

    def sealed(self, touched: Iterable[CellKey], raw_from_ms: int) -> None:
        """Note that exact samples are lost once they are too many, too old or clustered."""
        of_cells = set(touched)
        for (slot, series), row in self.rows.items():
            if (slot, series // CHUNK) in of_cells:
                row.raw_gone |= (
                    len(row.raw) > SAMPLES_PER_MINUTE or row.clustered or slot < raw_from_ms
                )


def assert_as_oracle(cells: dict[CellKey, Cell], oracle: Oracle) -> None:
    found_rows = {}
    for (slot, chunk), cell in cells.items():
        assert (cell.table.slot == slot).all()
        assert (cell.table.series // CHUNK == chunk).all()
        assert (np.diff(cell.table.series) > 0).all()
        assert_samples(cell, oracle, slot, chunk)
        for number, points in enumerate(points_of(cell.table)):
            key = slot, int(cell.table.series[number])
            assert key not in found_rows
            found_rows[key] = cell.table, number, points
    assert set(found_rows) == set(oracle.rows)
    for key, row in oracle.rows.items():
        table, number, points = found_rows[key]
        assert_row(
            table,
            number,
            points,
            row.samples,
            exact=not row.clustered and len(row.raw) <= 2 * MINUTES.points,
        )
        assert len(points) <= 2 * MINUTES.points


def points_of(table: Table) -> list[list[tuple[float, int]]]:
    ends = np.cumsum(table.size).tolist()
    pairs = list(zip(table.points.values.tolist(), table.points.weights.tolist(), strict=True))
    assert len(pairs) == (ends or [0])[-1]
    return [pairs[end - size : end] for end, size in zip(ends, table.size.tolist(), strict=True)]


def assert_row(
    table: Table,
    number: int,
    points: list[tuple[float, int]],
    samples: list[Sample],
    *,
    exact: bool,
) -> None:
    found = table.summaries
    values: Counter[float] = Counter()
    for sample in samples:
        values[sample.value] += sample.weight
    count = values.total()
    last = samples[0]
    for sample in samples[1:]:
        last = sample if sample.time >= last.time else last
    assert found.count[number] == count
    assert (found.low[number], found.high[number]) == (min(values), max(values))
    assert (found.last[number], found.last_ms[number]) == (last.value, last.time)
    size = math.fsum(abs(value) * weight for value, weight in values.items())
    total = math.fsum(value * weight for value, weight in values.items())
    assert abs(found.total[number] - total) <= 1e-12 * size
    m2 = math.fsum((value - total / count) ** 2 * weight for value, weight in values.items())
    assert found.m2[number] == pytest.approx(m2, rel=1e-5, abs=1e-12 * size * max(map(abs, values)))

    assert [value for value, _ in points] == sorted(value for value, _ in points)
    if len(values) == 1:
        assert (table.kind[number], points) == (UNIFORM, [])
    elif exact or table.kind[number] == EXACT:
        assert table.kind[number] == EXACT
        assert points == sorted(values.items())
    else:
        assert table.kind[number] == CLUSTERED
        assert sum(weight for _, weight in points) == count
        assert min(values) <= points[0][0] <= points[-1][0] <= max(values)


def rows_of(samples: Samples) -> list[tuple[int, int, float, int, bytes | None]]:
    return [
        (series, time, value, weight, samples.metadata.get(row))
        for row, (series, time, value, weight) in enumerate(
            zip(
                samples.series.tolist(),
                samples.time.tolist(),
                samples.value.tolist(),
                samples.weight.tolist(),
                strict=True,
            )
        )
    ]


def assert_samples(cell: Cell, oracle: Oracle, slot: int, chunk: int) -> None:
    expected = []
    for series in range(chunk * CHUNK, chunk * CHUNK + CHUNK):
        row = oracle.rows.get((slot, series), Row())
        if not row.raw_gone:
            ordered = sorted(
                row.raw, key=lambda sample: sample.time
            )  # stable: of equal times in order of arrival
            expected += [
                (sample.series, sample.time, sample.value, sample.weight, sample.metadata)
                for sample in ordered
            ]
    assert rows_of(cell.samples) == expected
    assert len(cell.samples.metadata) == sum(sample[4] is not None for sample in expected)
    assert len(cell.samples.summed) == 0


# -- sealing in any slices ------------------------------------------------------------------------


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[Sample], Samples]:
    """Draw the samples of a flush, and its rows, which may be compressed."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    compacted = draw(st.booleans())
    recorded = []
    for _ in range(draw(st.integers(1, 4))):
        series = draw(st.integers(0, 7) | st.just(1))
        minute = START + MINUTE * draw(st.sampled_from([0, 0, 0, 1, 2, 59, 60]))
        size = draw(st.sampled_from([1, 2, 3, 40, 60, 101, 220]))
        kind = draw(st.sampled_from(["one", "few", "many", "mixed"]))
        values = {
            "one": np.full(size, 2.5),
            "few": rng.integers(0, 5, size) / 4,
            "many": np.round(rng.normal(100, 15, size), 3),
            "mixed": np.where(rng.random(size) < 0.5, 7.0, rng.lognormal(0, 2, size)),
        }[kind]
        # A compacted list has no order of arrival among equal times, so there each has its own.
        times = rng.choice(60_000 if compacted else 20, size, replace=not compacted)
        weights = rng.integers(1, 4, size) if draw(st.booleans()) else np.ones(size, np.int64)
        noted = draw(st.integers(0, 3))
        recorded += [
            Sample(
                series,
                minute + time,
                value,
                weight,
                b"%d" % rng.integers(1 << 60) if at < noted else None,
            )
            for at, (time, value, weight) in enumerate(
                zip(times.tolist(), values.tolist(), weights.tolist(), strict=True)
            )
        ]
    if compacted:
        seen: set[int] = set()
        recorded = [
            sample for sample in recorded if not (sample.time in seen or seen.add(sample.time))
        ]  # type: ignore[func-returns-value]
    rng.shuffle(recorded)  # type: ignore[arg-type]
    came = columns(recorded)
    return recorded, compress(came, draw(st.sampled_from([5, 20, 100]))) if compacted else came


RAW_FROM = st.sampled_from([0, 0, START, START + HOUR, START + 2 * HOUR])
CALLS = st.lists(
    st.tuples(st.lists(batches(), min_size=1, max_size=3), RAW_FROM), min_size=1, max_size=4
)


@pytest.mark.slow
@settings(max_examples=150)
@given(CALLS, st.booleans())
def test_samples_sealed_in_any_slices_equal_the_oracle(
    calls: list[tuple[list[tuple[list[Sample], Samples]], int]], packed: bool
) -> None:
    store, oracle = Store(packed), Oracle()
    raw_from = 0
    for call, kept_from in calls:
        raw_from = max(raw_from, kept_from)
        for recorded, came in call:
            oracle.add(recorded, came)
        touched = store.seal([came for _, came in call], raw_from)
        oracle.sealed(touched, raw_from)
        assert_as_oracle(store.cells, oracle)


@pytest.mark.slow
@given(st.lists(batches(), min_size=2, max_size=5), st.randoms())
def test_order_of_batches_matters_only_for_the_last_of_equal_times(
    drawn: list[tuple[list[Sample], Samples]], order: Any
) -> None:
    one, other = Store(), Store()
    one.seal([came for _, came in drawn])
    shuffled = drawn.copy()
    order.shuffle(shuffled)
    for _, came in shuffled:
        other.seal([came])
    assert set(one.cells) == set(other.cells)
    for place, cell in one.cells.items():
        found = other.cells[place]
        for name in ("slot", "series"):
            np.testing.assert_array_equal(getattr(found.table, name), getattr(cell.table, name))
        for name in ("count", "low", "high", "last_ms"):
            np.testing.assert_array_equal(
                getattr(found.table.summaries, name), getattr(cell.table.summaries, name), name
            )
        np.testing.assert_allclose(
            found.table.summaries.total, cell.table.summaries.total, rtol=1e-12
        )
        assert sorted(rows_of(found.samples), key=repr) == sorted(rows_of(cell.samples), key=repr)


# -- exact samples --------------------------------------------------------------------------------


def burst(size: int, *, series: int = 0, at: int = START, seed: int = 0) -> list[Sample]:
    values = np.random.default_rng(seed).normal(size=size).tolist()
    return [Sample(series, at + number, value) for number, value in enumerate(values)]


@pytest.mark.parametrize("steps", [[100], [40, 60], [1] * 100])
def test_up_to_100_samples_of_a_minute_are_kept_one_by_one(steps: list[int]) -> None:
    store, oracle = Store(), Oracle()
    every = burst(101)
    begin = 0
    for step in steps:
        part = columns(every[begin : begin + step])
        oracle.add(every[begin : begin + step], part)
        begin += step
        oracle.sealed(store.seal([part]), 0)
    assert_as_oracle(store.cells, oracle)
    (cell,) = store.cells.values()
    assert len(cell.samples) == 100
    store.seal([columns(every[100:])])
    (cell,) = store.cells.values()
    assert (len(cell.samples), cell.table.summaries.count.tolist(), cell.table.kind.tolist()) == (
        0,
        [101],
        [EXACT],
    )


def test_only_the_series_with_too_many_samples_loses_exact_ones() -> None:
    store = Store()
    store.seal([columns(burst(101) + burst(100, series=1) + burst(3, series=2))])
    (cell,) = store.cells.values()
    assert np.unique(cell.samples.series, return_counts=True)[1].tolist() == [100, 3]


def test_weighted_equal_values_count_as_one_exact_sample() -> None:
    store = Store()
    store.seal([columns([Sample(0, START + at, float(at), 1000) for at in range(100)])])
    (cell,) = store.cells.values()
    assert (len(cell.samples), cell.samples.count) == (100, 100_000)


@pytest.mark.parametrize("why", ["many", "old", "compacted"])
def test_late_sample_in_a_minute_without_exact_samples(why: str) -> None:
    """RedisTimeSeries would rebuild the rollup from the raw samples that are left."""
    recorded = burst(101 if why == "many" else 50)
    came = columns(recorded)
    if why == "compacted":
        came = compress(came, 20)
    store, oracle = Store(), Oracle()
    oracle.add(recorded, came)
    oracle.sealed(
        store.seal([came], START + HOUR if why == "old" else 0), START + HOUR if why == "old" else 0
    )
    late = [Sample(0, START + 30_000, 99.0)]
    for _ in range(2):
        oracle.add(late, columns(late))
        oracle.sealed(store.seal([columns(late)]), 0)
        assert_as_oracle(store.cells, oracle)
    (cell,) = store.cells.values()
    assert len(cell.samples) == 0
    assert (cell.table.summaries.count.tolist(), cell.table.summaries.high.tolist()) == (
        [len(recorded) + 2],
        [99.0],
    )


def test_samples_older_than_raw_retention_are_in_the_rollup_only() -> None:
    store = Store()
    store.seal([columns([Sample(0, START - 1, 1.0), Sample(0, START, 2.0)])], START)
    assert {place: (len(cell.table), len(cell.samples)) for place, cell in store.cells.items()} == {
        (START - MINUTE, 0): (1, 0),
        (START, 0): (1, 1),
    }


def test_change_of_a_gauge_is_stored_as_its_result() -> None:
    found = Store(packed=False)
    found.seal(
        [
            columns(
                [
                    Sample(0, START, 5.0, flags=CHANGE | OWN_TIME),
                    Sample(0, START, 6.0, flags=CHANGE),
                ]
            )
        ]
    )
    (cell,) = found.cells.values()
    assert (cell.samples.value.tolist(), cell.samples.flags.tolist()) == ([5.0, 6.0], [OWN_TIME, 0])


def test_cells_are_cut_by_minute_and_chunk() -> None:
    store = Store()
    given_ = [
        Sample(series, START + MINUTE * minute, 1.0)
        for series in (8, 0, 2, 3, 5)
        for minute in (1, 0)
    ]
    store.seal([columns(given_)])
    assert list(store.cells) == [
        (START + MINUTE * minute, chunk) for minute in (0, 1) for chunk in (0, 1, 2)
    ]
    series = [cell.table.series.tolist() for cell in store.cells.values()]
    assert series == [[0, 2], [3, 5], [8]] * 2
    assert [cell.samples.series.tolist() for cell in store.cells.values()] == series


def test_stored_cell_is_returned_whole() -> None:
    store = Store()
    store.seal(
        [
            columns(
                [Sample(0, START, 1.0), Sample(1, START, 2.0, metadata=b"a"), Sample(2, START, 3.0)]
            )
        ]
    )
    store.seal([columns([Sample(1, START + 5, 4.0, metadata=b"b")])])
    (cell,) = store.cells.values()
    assert cell.table.series.tolist() == [0, 1, 2]
    assert rows_of(cell.samples) == [
        (0, START, 1.0, 1, None),
        (1, START, 2.0, 1, b"a"),
        (1, START + 5, 4.0, 1, b"b"),
        (2, START, 3.0, 1, None),
    ]


def test_series_with_large_ids_and_times_far_apart_are_sealed() -> None:
    given_ = [
        Sample(2**28, START, 1.0),
        Sample(0, 0, 2.0),
        Sample(2**28 + 1, 253_402_300_799_999, 3.0),
    ]
    store, oracle = Store(), Oracle()
    oracle.add(given_, columns(given_))
    store.seal([columns(given_)])
    assert_as_oracle(
        {place: cell for place, cell in store.cells.items() if place[1] == 0}, _only(oracle, 0)
    )
    assert sorted(store.cells) == [
        (0, 0),
        (START, 2**28 // CHUNK),
        (253_402_300_740_000, (2**28 + 1) // CHUNK),
    ]


def _only(oracle: Oracle, chunk: int) -> Oracle:
    found = Oracle()
    found.rows.update({key: row for key, row in oracle.rows.items() if key[1] // CHUNK == chunk})
    return found


@pytest.mark.parametrize(
    "values",
    [
        [0.0, -0.0, 1.0],
        [-0.0, 0.0, -1.0],
        [1.79e308, -1.79e308, 1.7e308],
        [5e-324, 0.0, 1e-323],
        [1e308, 1.7e308],
    ],
)
@pytest.mark.parametrize("compacted", [False, True])
def test_extreme_values_are_sealed_repeatedly(values: list[float], compacted: bool) -> None:
    rng = np.random.default_rng(7)
    every = [*values * 40, *(values[-1] * rng.random(200)).tolist()]
    came = columns([Sample(0, START + at, value) for at, value in enumerate(every)])
    with np.errstate(over="ignore", invalid="ignore"):
        came = compress(came, 20) if compacted else came
    store = Store()
    for again in range(1, 4):
        store.seal([came])
        (cell,) = store.cells.values()
        points = cell.table.points
        assert cell.table.summaries.count.tolist() == [again * len(every)]
        assert (cell.table.summaries.low[0], cell.table.summaries.high[0]) == (
            min(every),
            max(every),
        )
        assert min(every) <= points.values[0] <= points.values[-1] <= max(every)
        assert points.weights.sum() in (0, again * len(every))


def test_cell_keys_cover_rows_and_summaries() -> None:
    came = compress(columns(burst(50, series=4) + burst(1, series=0, at=START + MINUTE)), 20)
    assert len(came.summed) == 1
    assert cell_keys([came], CHUNK) == [(START, 1), (START + MINUTE, 0)]
    assert cell_keys([came, columns([Sample(9, START - 1, 1.0)])], 100) == [
        (START - MINUTE, 0),
        (START, 0),
        (START + MINUTE, 0),
    ]
    assert cell_keys([], CHUNK) == []


# -- coarser slots --------------------------------------------------------------------------------


def hour_of(seed: int, most: int = 60) -> tuple[list[Sample], dict[CellKey, Cell]]:
    """Return samples of an hour, and their cells, all in chunk 0."""
    rng = np.random.default_rng(seed)
    recorded: list[Sample] = []
    for _ in range(30):
        size = int(rng.choice([1, 3, most]))
        minute, series = int(rng.integers(0, 60)), int(rng.integers(0, CHUNK))
        values = rng.choice([rng.normal(size=size), np.full(size, 4.0), rng.integers(0, 4, size)])
        recorded += [
            Sample(
                series,
                START + minute * MINUTE + int(rng.integers(60_000)),
                value,
                metadata=b"%d" % at if at == 0 else None,
            )
            for at, value in enumerate(values.tolist())
        ]
    store = Store()
    store.seal([columns(recorded)])
    return recorded, store.cells


@given(st.integers(0, 10_000), st.sampled_from([60, 250]))
@settings(max_examples=40)
def test_hour_covers_all_its_minutes(seed: int, most: int) -> None:
    recorded, cells = hour_of(seed, most)
    minutes = assemble(
        rollup_table.empty(), {slot: cell.table for (slot, _), cell in cells.items()}
    )
    hour = downsample_rows(minutes, START, HOURS.points)
    assert hour.slot.tolist() == [START] * len(hour)
    assert hour.series.tolist() == sorted({sample.series for sample in recorded})
    for number, points in enumerate(points_of(hour)):
        # The last of equal times is that of its minute, as there is one row of each.
        mine = [sample for sample in recorded if sample.series == hour.series[number]]
        assert_row(hour, number, points, mine, exact=False)
        assert len(points) <= HOURS.points
    assert len(downsample_rows(rollup_table.empty(), START, 200)) == 0


def test_hour_of_few_values_is_exact() -> None:
    recorded = [
        Sample(0, START + minute * MINUTE, minute / 7) for minute in range(60) for _ in range(5)
    ]
    store = Store()
    store.seal([columns(recorded)])
    minutes = rollup_table.concat([cell.table for cell in store.cells.values()])
    assert (minutes.kind == UNIFORM).all()
    hour = downsample_rows(minutes, START, HOURS.points)
    assert points_of(hour) == [[(minute / 7, 5) for minute in range(60)]]


def by_slot(table: Table) -> dict[tuple[int, int], Any]:
    """Return all columns of each row."""
    found = {}
    for number, points in enumerate(points_of(table)):
        summary = [getattr(table.summaries, column.name)[number] for column in fields(Summaries)]
        key = int(table.slot[number]), int(table.series[number])
        assert key not in found
        found[key] = int(table.kind[number]), summary, points
    return found


def assert_alike(found: Table, expected: Table) -> None:
    """Assert that tables are equal; means may be off, since packing rounds them."""
    one, other = by_slot(found), by_slot(expected)
    assert set(one) == set(other)
    for key, (kind, summary, points) in one.items():
        wanted_kind, wanted_summary, wanted_points = other[key]
        assert kind == wanted_kind
        assert summary == pytest.approx(wanted_summary, rel=1e-6, abs=1e-9)
        if kind != CLUSTERED:
            assert points == wanted_points
        else:
            assert [weight for _, weight in points] == [weight for _, weight in wanted_points]
            means = [mean for mean, _ in wanted_points]
            assert [mean for mean, _ in points] == pytest.approx(
                means, abs=max(np.diff(means)) / 30
            )


def read(table: Table) -> Table:
    return unpack_table(pack_table(table)) if len(table) else table


@pytest.mark.parametrize("seed", range(15))
def test_segment_and_cells_beside_it_equal_all_cells(seed: int) -> None:
    _, cells = hour_of(seed)
    _, later = hour_of(seed + 1)
    cells = {slot: cell.table for (slot, _), cell in cells.items()}
    segment = rollup_table.empty()
    rng = random.Random(seed)
    for _ in range(3):  # merged in parts: what was merged stays, what is beside counts instead
        merged = set(rng.sample(sorted(cells), rng.randint(0, len(cells))))
        segment = read(
            segment_rows(assemble(segment, {slot: cells[slot] for slot in merged}), MINUTES.points)
        )
        changed = rng.sample(sorted(later), 3)
        cells.update({slot: later[slot, 0].table for slot, _ in changed})
        beside = {
            slot: table
            for slot, table in cells.items()
            if slot not in merged or (slot, 0) in changed
        }
        cells_now = assemble(
            rollup_table.empty(),
            {slot: segment_rows(table, MINUTES.points) for slot, table in cells.items()},
        )
        found = assemble(
            segment, {slot: segment_rows(table, MINUTES.points) for slot, table in beside.items()}
        )
        assert_alike(found, cells_now)
        segment_now = segment_rows(found, MINUTES.points)
        assert by_slot(segment_now) == by_slot(found)
        order = np.lexsort((segment_now.slot, segment_now.series))
        assert order.tolist() == list(range(len(segment_now)))
        assert by_slot(segment_rows(segment_now, MINUTES.points)) == by_slot(segment_now)
        one, other = downsample_rows(found, START, 200), downsample_rows(segment_now, START, 200)
        for name in ("count", "low", "high", "last", "last_ms"):
            np.testing.assert_array_equal(
                getattr(one.summaries, name), getattr(other.summaries, name)
            )


def test_segment_rows_have_at_most_the_points_of_their_resolution() -> None:
    _, cells = hour_of(3, 180)
    cells = {slot: cell.table for (slot, _), cell in cells.items()}
    rows = assemble(rollup_table.empty(), cells)
    assert rows.size.max() > MINUTES.points
    merged = segment_rows(rows, MINUTES.points)
    assert merged.size.max() <= MINUTES.points
    assert merged.summaries.count.sum() == rows.summaries.count.sum()
    crowded = {key for key, (_, _, points) in by_slot(rows).items() if len(points) > MINUTES.points}
    for key, (kind, summary, points) in by_slot(merged).items():
        before = by_slot(rows)[key]
        assert summary == before[1]
        assert (kind, points) == (before[0], before[2]) if key not in crowded else kind == CLUSTERED


def test_empty_cell_removes_its_slot_from_the_segment() -> None:
    _, cells = hour_of(4)
    segment = segment_rows(
        assemble(rollup_table.empty(), {slot: cell.table for (slot, _), cell in cells.items()}), 100
    )
    slot = int(segment.slot[0])
    found = assemble(segment, {slot: rollup_table.empty()})
    assert set(by_slot(segment)) - set(by_slot(found)) == {
        key for key in by_slot(segment) if key[0] == slot
    }
    assert assemble(segment, {}) is segment
    assert len(assemble(rollup_table.empty(), {slot: rollup_table.empty()})) == 0


@pytest.mark.parametrize("seed", range(15))
def test_exact_samples_of_segment_and_cells_equal_all_cells(seed: int) -> None:
    _, cells = hour_of(seed)
    _, later = hour_of(seed + 1)
    cells = {slot: cell.samples for (slot, _), cell in cells.items()}
    segment = no_samples()
    rng = random.Random(seed)
    for _ in range(3):
        merged = set(rng.sample(sorted(cells), rng.randint(0, len(cells))))
        segment = segment_samples(assemble_samples(segment, {slot: cells[slot] for slot in merged}))
        segment = unpack_samples(pack_samples(segment)) if len(segment) else segment
        changed = rng.sample(sorted(later), 3)
        cells.update({slot: later[slot, 0].samples for slot, _ in changed})
        beside = {
            slot: samples
            for slot, samples in cells.items()
            if slot not in merged or (slot, 0) in changed
        }
        found = assemble_samples(segment, beside)
        expected = [row for slot in sorted(cells) for row in rows_of(cells[slot])]
        assert sorted(rows_of(found), key=repr) == sorted(expected, key=repr)
        segment_now = segment_samples(found)
        keys = list(zip(segment_now.series.tolist(), segment_now.time.tolist(), strict=True))
        assert keys == sorted(keys)
        assert sorted(rows_of(segment_now), key=repr) == sorted(expected, key=repr)
    assert assemble_samples(segment, {}) is segment
    assert len(segment_samples(no_samples())) == 0
    assert (
        len(
            assemble_samples(
                segment, dict.fromkeys(range(START, START + HOUR, MINUTE), no_samples())
            )
        )
        == 0
    )
