"""Sealed tables and samples to bytes and back, how near a centroid's mean stays, and what damaged bytes come to."""

import struct
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redismetrics import FormatMismatch
from redismetrics.columnar import rollup_codec, rollup_table
from redismetrics.columnar.column_codec import pack_real, pack_whole
from redismetrics.columnar.packing import FREE_NUMBERS, NUMBERS_PER_BYTE
from redismetrics.columnar.rollup_codec import pack_table, unpack_table, unpack_tables
from redismetrics.columnar.rollup_table import CLUSTERED, EXACT, UNIFORM, Points, Table
from redismetrics.columnar.sample_codec import pack_samples, unpack_samples
from redismetrics.columnar.samples import Samples
from redismetrics.columnar.summaries import Summaries, merge, of_points

NOW = 1_800_000_000_000 // 60_000 * 60_000
MINUTE = 60_000
MAX = 1.7976931348623157e308
MAX_TIME_MS = 253_402_300_800_000

Row = tuple[int, list[tuple[float, int]]]  # kind, and its points, of which a uniform row has one


def table_of(rows: Sequence[Row], extremes: Sequence[tuple[float, float]] | None = None) -> Table:
    """A table of these rows, a minute and a series of its own each; extremes are those of the points if none are given."""
    values = np.array([value for _, points in rows for value, _ in points], np.float64)
    weights = np.array([weight for _, points in rows for _, weight in points], np.int64)
    group = np.repeat(np.arange(len(rows)), [len(points) for _, points in rows])
    slot = NOW + MINUTE * np.arange(len(rows))
    summaries = merge(
        group, len(rows), of_points(values, weights, slot[group] + np.arange(len(group)) % 50)
    )
    if extremes:
        summaries.low, summaries.high = (
            np.array([pair[at] for pair in extremes]) for at in range(2)
        )
    kind = np.array([kind for kind, _ in rows], np.uint8)
    inside = (kind != UNIFORM)[group]
    size = np.where(kind != UNIFORM, [len(points) for _, points in rows], 0)
    return Table(
        slot,
        5 + np.arange(len(rows)) * 3,
        summaries,
        kind,
        size,
        Points(values[inside], weights[inside]),
    )


def split(table: Table) -> list[tuple[Any, Any]]:
    """The means and the weights of each row."""
    at = np.cumsum(table.size)[:-1]
    return (
        list(
            zip(np.split(table.points.values, at), np.split(table.points.weights, at), strict=True)
        )
        if len(table)
        else []
    )


def assert_near(found: Any, wanted: Any, low: float, high: float) -> None:
    """Each mean is off by at most 1/128 of the gap to its neighbour on that side.

    Below it counts from where the neighbour came to stand, which is off itself, by 1/128 of the gap before, and so on.
    """
    scale = 2.0 ** -max(min(int(np.frexp(max(-low, high))[1]), 1000), -1000)
    found, wanted, low, high = (
        found * scale,
        np.clip(wanted, low, high) * scale,
        low * scale,
        high * scale,
    )
    before, beyond = np.append(low, found[:-1]), np.append(wanted[1:], high)
    rounding = 1e-13 * max(abs(low), abs(high)) + 1e-37 * (
        high - low
    )  # of doubles, and of a float's smallest number
    above = (
        (np.maximum(beyond - wanted, 0)) / 128 + np.maximum(wanted - before, 0) / 2**22 + rounding
    )
    below = (np.maximum(wanted - before, 0)) / 128 + rounding
    assert (low <= found).all()
    assert (found <= high).all()
    assert (np.diff(found) >= 0).all()
    behind = np.maximum(before - wanted, 0)  # where the neighbour came to stand beyond this one
    assert (found - wanted <= above + behind).all()
    assert (wanted - found <= below).all()


def assert_back(table: Table) -> Table:
    """What is read of a table's bytes is the table, its means as near as they must be; of a plain one as they were."""
    plain = unpack_tables(
        [pack_table(table, dense=False), pack_table(table)]
    )  # beside one with steps
    assert plain.points.values[: len(table.points.values)].tolist() == table.points.values.tolist()
    assert plain.points.weights.tolist() == 2 * table.points.weights.tolist()
    found = unpack_table(pack_table(table))
    several = table.kind != UNIFORM
    for name in ("slot", "series", "kind", "size"):
        got, given_ = getattr(found, name), getattr(table, name)
        np.testing.assert_array_equal(got, given_, name)
        assert got.dtype == given_.dtype, name
    for field in fields(Summaries):
        got, given_ = getattr(found.summaries, field.name), getattr(table.summaries, field.name)
        assert got.dtype == given_.dtype, field.name
        if field.name in ("total", "m2"):
            got, given_ = got[several], given_[several]
        if field.name == "m2":
            np.testing.assert_allclose(got, given_, rtol=1e-7)
        else:
            np.testing.assert_array_equal(got, given_, field.name)
    alone = table.summaries.take(~several)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found.summaries.total[~several], alone.low * alone.count)
    assert (found.summaries.m2[~several] == 0).all()
    assert found.points.weights.dtype == np.int64
    rows = zip(
        split(table),
        split(found),
        table.kind,
        table.summaries.low,
        table.summaries.high,
        strict=True,
    )
    for (values, weights), (read, read_weights), kind, low, high in rows:
        assert read_weights.tolist() == weights.tolist()
        if kind == CLUSTERED:
            assert_near(read, values, low, high)
        else:
            assert read.tolist() == values.tolist()
    return found


# -- tables there and back ----------------------------------------------------------------------------------------

ANY = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = st.one_of(
    ANY,
    st.floats(-1e6, 1e6),
    st.integers(-300, 300).map(float),
    st.floats(-1e-318, 1e-318),
    st.sampled_from(
        [0.0, -0.0, MAX, -MAX, 1e300, -1e300, 5e-324, -5e-324, 1e-310, 1e9, 1e9 + 1e-6]
    ),
)
WEIGHTS = st.integers(1, 3) | st.just(1) | st.integers(1, 2**53)


@st.composite
def rows(draw: st.DrawFn, most: int = 30) -> Row:
    values = draw(
        st.lists(NUMBERS, min_size=1, max_size=draw(st.sampled_from([2, most])), unique=True)
    )
    points = [(value, draw(WEIGHTS)) for value in sorted(values)]
    if len(points) == 1:
        return UNIFORM, points
    return draw(st.sampled_from([EXACT, CLUSTERED])), points


@given(st.lists(rows(), min_size=1, max_size=6))
def test_a_table_comes_back_from_its_bytes(drawn: list[Row]) -> None:
    assert_back(table_of(drawn))


@given(st.lists(rows(), min_size=1, max_size=3), st.integers(0, 4))
def test_a_table_that_was_read_comes_back_as_near_again(drawn: list[Row], times: int) -> None:
    table = table_of(drawn)
    for _ in range(times):
        table = assert_back(table)


@given(st.lists(NUMBERS, min_size=2, max_size=40, unique=True), NUMBERS, NUMBERS)
def test_means_are_near_whatever_the_extremes(
    values: list[float], one: float, other: float
) -> None:
    low, high = min(*values, one, other), max(*values, one, other)
    assert_back(table_of([(CLUSTERED, [(value, 1) for value in sorted(values)])], [(low, high)]))


@pytest.mark.parametrize(
    "values",
    [
        [-MAX, -MAX / 2, 0.0, MAX / 4, MAX], [0.0, 5e-324], [-5e-324, 0.0, 5e-324], [1e-320, 2e-320, 3e-320],
        [1e15, 1e15 + 0.125, 1e15 + 0.25], [-0.0, 1.0, 2.0], [MAX * 0.9, MAX * 0.95, MAX], [-MAX, MAX], [0.0, 1e-300, 1e300],
    ],
)  # fmt: skip
@pytest.mark.parametrize("other", [None, 0.0], ids=["alone", "beside another scale"])
def test_means_are_near_at_every_scale(values: list[float], other: float | None) -> None:
    beside: list[Row] = (
        [] if other is None else [(CLUSTERED, [(float(number), 1) for number in range(50)])]
    )
    assert_back(table_of([(CLUSTERED, [(value, 2) for value in values]), *beside]))


def test_a_negative_zero_where_a_zero_is_the_lowest_comes_back() -> None:
    """Gauges have both: round(-0.04, 1) is -0.0."""
    table = table_of([(CLUSTERED, [(-0.0, 1), (1.0, 1), (2.0, 1)])], [(0.0, 2.0)])
    assert assert_back(table).points.values[0] == 0.0


def test_means_that_stand_close_after_a_wide_gap_stay_apart() -> None:
    """As of requests that take a millisecond or run into a timeout."""
    close = [30_000.0 + number / 10 for number in range(50)]
    table = table_of([(CLUSTERED, [(value, 3) for value in [0.5, 1.0, 1.5, *close]])])
    found = assert_back(table).points.values
    assert len(np.unique(found)) == 53
    np.testing.assert_allclose(found[5:], close[2:], atol=0.02)


@given(st.lists(st.floats(-1e-3, 1e3), min_size=2, max_size=60, unique=True), st.floats(0, 1e-9))
def test_means_that_are_not_quite_sorted_or_inside_come_back_sorted_and_inside(
    values: list[float], beyond: float
) -> None:
    """Clustering rounds its means, so they may be off by the last bit."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    points = [
        (ordered[0] - beyond, 1),
        *((value, 1) for value in ordered),
        (ordered[-1] + beyond, 1),
        (ordered[-1], 2),
    ]
    found = unpack_table(pack_table(table_of([(CLUSTERED, points)], [(low, high)]))).points.values
    assert low <= found[0] <= found[-1] <= high
    assert (np.diff(found) >= 0).all()


def test_rows_of_very_different_sizes_come_back() -> None:
    rng = np.random.default_rng(3)
    drawn: list[Row] = [
        (CLUSTERED, [(value, 2) for value in sorted(rng.normal(size=200).tolist())])
    ]
    drawn += [
        (CLUSTERED, [(float(at), 1), (at + 0.5, 2), (at + 2.0, 9)][: 2 + at % 2])
        for at in range(300)
    ]
    drawn += [(EXACT, [(1.0, 1), (2.0, 2)]), (UNIFORM, [(7.0, 7)]), *drawn[:1]]
    order = rng.permutation(len(drawn))
    assert_back(table_of([drawn[at] for at in order]))


@pytest.mark.parametrize("count", [1, 2**53 + 1, 2**60 + 3])
def test_counts_and_weights_are_exact(count: int) -> None:
    drawn = table_of(
        [
            (UNIFORM, [(2.0, count)]),
            (EXACT, [(1.0, count), (2.0, 1)]),
            (CLUSTERED, [(1.0, 1), (2.0, count)]),
        ]
    )
    found = assert_back(drawn)
    assert found.summaries.count.tolist() == [count, count + 1, count + 1]
    assert found.points.weights.tolist() == [count, 1, 1, count]


def test_sums_beyond_the_largest_float_come_back() -> None:
    table = table_of([(EXACT, [(1.7e308, 3), (1.75e308, 1)]), (UNIFORM, [(1.7e308, 3)])])
    assert np.isinf(table.summaries.total).all()
    found = unpack_table(pack_table(table))
    assert np.isinf(found.summaries.total).all()
    np.testing.assert_array_equal(
        found.summaries.m2[0], table.summaries.m2[0]
    )  # not a number: both sums are inf


@pytest.mark.parametrize("scale", [1e-25, 1e-10, 1.0, 1e18, 1e25])
def test_a_small_spread_beside_a_large_one_is_kept(scale: float) -> None:
    drawn: list[Row] = [(EXACT, [(at * factor, 1) for at in range(3)]) for factor in (scale, 1.0)]
    assert_back(table_of(drawn))


def test_a_table_of_nothing_is_no_bytes() -> None:
    assert pack_table(rollup_table.empty()) == b""
    assert pack_samples(samples_of([])) == b""


def test_points_are_read_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack_table(table_of([(EXACT, [(1.0, 1), (2.0, 1)])]))
    found = unpack_table(data)
    monkeypatch.setattr(rollup_codec, "_unpack_points", lambda *_: pytest.fail("read"))
    assert found.summaries.count.tolist() == [2]
    with pytest.raises(pytest.fail.Exception, match="read"):
        _ = found.points


def test_a_minute_of_many_series_takes_few_bytes() -> None:
    """1,024 counters that were incremented once: the last time and the series cost what they are worth."""
    rng = np.random.default_rng(1)
    ones = np.ones(1024, np.int64)
    rows = of_points(np.ones(1024), ones, NOW + np.sort(rng.integers(0, 100, 1024)))
    table = Table(
        ones * NOW,
        np.arange(1024),
        rows,
        np.zeros(1024, np.uint8),
        0 * ones,
        Points(np.zeros(0), np.zeros(0, np.int64)),
    )
    assert len(pack_table(table)) < 500


# -- samples there and back ---------------------------------------------------------------------------------------

Sample = tuple[int, int, float, int]  # series, time, value, weight


def samples_of(drawn: Sequence[Sample], metadata: dict[int, bytes] | None = None) -> Samples:
    columns = [
        np.array([sample[at] for sample in drawn], np.float64 if at == 2 else np.int64)
        for at in range(4)
    ]
    return Samples(
        columns[0],
        columns[1],
        columns[2],
        columns[3],
        np.zeros(len(drawn), np.uint8),
        metadata or {},
    )


SAMPLES = st.lists(
    st.tuples(
        st.integers(0, 300) | st.just(3), st.integers(NOW, NOW + MINUTE - 1) | st.integers(0, MAX_TIME_MS - 1), ANY | NUMBERS,
        WEIGHTS | st.just(2**60),
    ),
    min_size=1, max_size=40,
)  # fmt: skip


@given(SAMPLES, st.dictionaries(st.integers(0, 39), st.binary(max_size=30), max_size=4))
def test_samples_come_back_from_their_bytes(
    drawn: list[Sample], metadata: dict[int, bytes]
) -> None:
    metadata = {row: text for row, text in metadata.items() if row < len(drawn)}
    wanted = samples_of(drawn, metadata)
    found = unpack_samples(pack_samples(wanted))
    for name in ("series", "time", "value", "weight", "flags"):
        got, given_ = getattr(found, name), getattr(wanted, name)
        np.testing.assert_array_equal(got, given_, name)
        assert got.dtype == given_.dtype, name
    assert found.metadata == metadata
    assert len(found.summed) == 0


def test_flags_are_not_kept() -> None:
    samples = samples_of([(0, NOW, 1.0, 1)])
    samples.flags[:] = 3
    assert unpack_samples(pack_samples(samples)).flags.tolist() == [0]


# -- damage -------------------------------------------------------------------------------------------------------


def typical_tables() -> list[bytes]:
    """Everything a table may have in it: kept small, as each bit of them is turned below."""
    exact: Row = (EXACT, [(1.5, 1), (2.0, 300), (9.0, 2)])
    clustered: Row = (CLUSTERED, [(number**2 / 7, 1 + number) for number in range(6)])
    uniform: Row = (UNIFORM, [(2.5, 70)])
    many: list[Row] = [(EXACT, [(number / 7, 1), (number * 3.0, 2)]) for number in range(1, 13)]
    every = [exact, clustered, uniform]
    dense = [pack_table(table_of(drawn)) for drawn in (every, [clustered], [uniform], many)]
    return [*dense, pack_table(table_of(every), dense=False)]


def typical_samples() -> list[bytes]:
    plain = [(0, NOW, 1.5, 1), (0, NOW + 5, 2.0, 300), (3, NOW + 59_999, -3.0, 2)]
    many = [(number // 7, NOW + number * 13, number / 10, 1) for number in range(40)]
    metadata = {0: b'{"a":1}', 2: b"[]"}
    return [
        pack_samples(samples_of(plain)),
        pack_samples(samples_of(plain, metadata)),
        pack_samples(samples_of(many)),
    ]


@contextmanager
def bounded(size: int) -> Iterator[None]:
    """No more memory than the numbers that so many bytes may hold, in some 20 columns."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 30 * 8 * (
            FREE_NUMBERS + NUMBERS_PER_BYTE * size
        )
    finally:
        tracemalloc.stop()


def read_table(data: bytes) -> None:
    """A table that is read is one that no reader fails on."""
    found = unpack_table(data)
    count, points, rows = len(found), found.points, found.summaries
    assert count + len(points.values) <= FREE_NUMBERS + NUMBERS_PER_BYTE * len(data)
    assert {
        len(column)
        for column in (
            found.slot,
            found.series,
            found.kind,
            found.size,
            rows.total,
            rows.m2,
            rows.last,
        )
    } == {count}
    assert found.size.sum() == len(points.values) == len(points.weights)
    if not count:
        return
    assert found.kind.max() <= CLUSTERED
    assert (found.size[found.kind == UNIFORM] == 0).all()
    assert found.size.min() >= 0
    assert rows.count.min() >= 1
    assert found.series.min() >= 0
    assert 0 <= found.slot.min() <= rows.last_ms.min()
    assert rows.last_ms.max() < MAX_TIME_MS
    assert (rows.last_ms >= found.slot).all()
    assert np.isfinite(rows.low).all()
    assert np.isfinite(rows.high).all()
    assert ((rows.low < rows.high) == (found.kind != UNIFORM)).all()
    assert np.isfinite(points.values).all()
    assert points.weights.min(initial=1) >= 1
    if count < 100:
        rollup_table.squeeze(found, 2)


def read_samples(data: bytes) -> None:
    found = unpack_samples(data)
    assert 0 < len(found) <= FREE_NUMBERS + NUMBERS_PER_BYTE * len(data)
    assert {
        len(column) for column in (found.series, found.time, found.value, found.weight, found.flags)
    } == {len(found)}
    assert found.weight.min() >= 1
    assert found.series.min() >= 0
    assert 0 <= found.time.min() <= found.time.max() < MAX_TIME_MS
    assert np.isfinite(found.value).all()
    assert all(
        0 <= row < len(found) and type(text) is bytes for row, text in found.metadata.items()
    )


Reads = Callable[[bytes], None]
EVERY: list[tuple[Reads, bytes]] = [(read_table, data) for data in typical_tables()] + [
    (read_samples, data) for data in typical_samples()
]


def damaged(read: Reads, data: bytes) -> None:
    """Read damaged bytes as it is done outside of tests, where numpy's warnings are no errors."""
    with np.errstate(all="ignore"), bounded(len(data)):
        try:
            read(data)
        except FormatMismatch as error:
            message = str(error)
        else:
            return
    assert message.startswith(("corrupt table", "corrupt samples", "table: ", "samples: "))


@pytest.mark.parametrize(("read", "data"), EVERY)
def test_typical_bytes_are_sound(read: Reads, data: bytes) -> None:
    read(data)


@pytest.mark.parametrize(("read", "data"), EVERY)
def test_truncated_bytes_are_told(read: Reads, data: bytes) -> None:
    for size in range(len(data)):
        with pytest.raises(FormatMismatch, match=r"^corrupt (table|samples)"):
            read(data[:size])


@pytest.mark.parametrize(("read", "data"), EVERY)
def test_bytes_with_a_bit_turned_are_told_or_sound(read: Reads, data: bytes) -> None:
    """Every one of the head, one of each byte after it."""
    for bit in [*range(8 * 17), *(8 * at + at * 5 % 8 for at in range(17, len(data)))]:
        turned = bytearray(data)
        turned[bit // 8] ^= 1 << bit % 8
        damaged(read, bytes(turned))


@settings(max_examples=200)
@given(st.sampled_from(EVERY), st.data())
def test_some_bytes_changed_are_told_or_sound(
    given_: tuple[Reads, bytes], draw: st.DataObject
) -> None:
    read, data = given_
    changed = bytearray(data)
    for at, byte in draw.draw(
        st.dictionaries(st.integers(0, len(data) - 1), st.integers(0, 255), max_size=6)
    ).items():
        changed[at] = byte
    damaged(read, bytes(changed))


@given(
    st.sampled_from([read_table, read_samples]),
    st.integers(0, 40),
    st.integers(0, 40),
    st.binary(max_size=300),
)
def test_a_head_and_random_bytes_are_told_or_sound(
    read: Reads, first: int, second: int, tail: bytes
) -> None:
    damaged(read, tail)
    damaged(read, struct.pack("<BIIq", 1, first, second, NOW) + tail)


@st.composite
def columns_of_any(draw: st.DrawFn, rows: int) -> bytes:
    """A well-formed column of numbers that may be none of ours."""
    if draw(st.booleans()):
        numbers = draw(
            st.sampled_from([0, 1, 2, 3, -1, 5, 2**62, -(2**63), 2**63 - 1, 2**33, 0x3F80])
        )
        spread = draw(st.sampled_from([0, 0, 1, 200, 2**33]))
        column = numbers + (
            np.arange(rows) * 7919 % (spread + 1) if numbers < 2**62 else np.zeros(rows, np.int64)
        )
        return pack_whole(column.astype(np.int64), dense=True)
    return pack_real(
        np.resize(draw(st.lists(st.floats(), min_size=1, max_size=4)), rows), dense=True
    )


@given(
    st.sampled_from([read_table, read_samples]), st.integers(1, 30), st.integers(0, 30), st.data()
)
def test_columns_of_any_numbers_are_told_or_sound(
    read: Reads, first: int, second: int, draw: st.DataObject
) -> None:
    columns = [draw.draw(columns_of_any(first)) for _ in range(11)] + [
        draw.draw(columns_of_any(second)) for _ in range(3)
    ]
    damaged(read, struct.pack("<BIIq", 1, first, second, NOW) + b"".join(columns))


def forged(**changed: Any) -> bytes:
    """The bytes of a table of one exact and one clustered row, with columns exchanged for others."""
    columns: dict[str, Any] = {
        "slot": [0, 60], "series": [1, 2], "kind": [EXACT, CLUSTERED], "count": [3, 4], "last": [5, 6], "low": [1.0, 2.0],
        "total": [5.0, 9.0], "m2": [1.0, 1.0], "high": [3.0, 5.0], "last_value": [2.0, 3.0], "size": [2, 2],
        "values": [1.0, 3.0], "steps": [0, 0x3F00], "weights": [1, 2, 1, 3],
    }  # fmt: skip
    base = changed.pop("base", NOW)
    columns.update(changed)
    parts = []
    for column in columns.values():
        array = np.array(column)
        parts.append(pack_real(array) if array.dtype == np.float64 else pack_whole(array))
    return struct.pack("<BIIq", 1, 2, 4, base) + b"".join(parts)


def test_the_forged_table_is_one() -> None:
    read_table(forged())


def every_column(data: bytes) -> None:
    """Columns are read when they are asked for: so ask for all."""
    found = unpack_table(data)
    for column in fields(Summaries):
        getattr(found.summaries, column.name)


@pytest.mark.parametrize(
    "changed",
    [
        {"count": [3, 0]}, {"count": [3.5, 1.5]}, {"series": [-1, 2]}, {"kind": [1, 3]}, {"base": -60_000}, {"last": [-1, 6]},
        {"last": [5, MAX_TIME_MS - NOW]}, {"low": [1.0, float("nan")]}, {"low": [float("-inf"), 1.0]}, {"high": [3.0, 2.0]},
        {"high": [3.0, 1.0]}, {"high": [float("inf"), 5.0]}, {"high": [3.0, float("nan")]}, {"size": [2, 3]},
        {"size": [-1, 5]}, {"size": [2**62, 2**62]},
    ],
)  # fmt: skip
def test_rows_that_are_none_are_told(changed: dict[str, Any]) -> None:
    every_column(forged())
    with pytest.raises(FormatMismatch, match=r"^corrupt table"):
        every_column(forged(**changed))


@pytest.mark.parametrize("changed", ["count", "series", "last", "low", None])
def test_rows_of_one_value_each_are_looked_at_as_well(changed: str | None) -> None:
    columns: dict[str, Any] = {
        "slot": [0],
        "series": [1],
        "kind": [UNIFORM],
        "count": [3],
        "last": [5],
        "low": [1.0],
    }
    if changed:
        columns[changed] = [float("nan")] if changed == "low" else [-1]
    parts = [
        pack_real(np.array(column)) if name == "low" else pack_whole(np.array(column))
        for name, column in columns.items()
    ]
    for points in (0, 1):
        data = struct.pack("<BIIq", 1, 1, points, NOW) + b"".join(parts)
        if changed or points:
            with pytest.raises(FormatMismatch, match=r"^corrupt table"):
                every_column(data)
        else:
            every_column(data)


def test_a_damaged_column_is_told_whenever_it_is_read_and_no_other() -> None:
    found = unpack_table(forged(low=[1.0, float("nan")]))
    assert found.summaries.count.tolist() == [3, 4]
    for _ in range(2):
        with pytest.raises(FormatMismatch, match=r"^corrupt table"):
            _ = found.summaries.low


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weights": [1, 0, 1, 3]}, "at least 1, got 0"), ({"weights": [1.5, 2.5, 1.5, 3.5]}, "whole numbers"),
        ({"values": [1.0, float("inf")]}, "must be finite"), ({"steps": [0, 0x3F81]}, "steps must be from 0 to"),
        ({"steps": [-1, 0]}, "steps must be from 0 to"), ({"values": [1.0, 2.0, 3.0]}, "corrupt table"),
    ],
)  # fmt: skip
def test_points_that_are_none_are_told_when_they_are_read(
    changed: dict[str, Any], message: str
) -> None:
    found = unpack_table(forged(**changed))
    for _ in range(2):
        with pytest.raises(FormatMismatch, match=message):
            _ = found.points


def test_sizes_that_only_add_up_when_they_wrap_are_told() -> None:
    """Else numpy's repeat writes past its memory."""
    sizes = [2**62, 2**62, 2**62, 2**62 + 4]
    parts: list[Any] = [
        [0] * 4,
        [1] * 4,
        [CLUSTERED] * 4,
        [3] * 4,
        [5] * 4,
        [1.0] * 4,
        [5.0] * 4,
        [1.0] * 4,
        [3.0] * 4,
        [2.0] * 4,
    ]
    packed = [
        pack_real(np.array(part)) if isinstance(part[0], float) else pack_whole(np.array(part))
        for part in [*parts, sizes]
    ]
    with pytest.raises(FormatMismatch, match="must have 4 points"):
        unpack_table(struct.pack("<BIIq", 1, 4, 4, NOW) + b"".join(packed))


@pytest.mark.parametrize(
    "changed",
    [
        {"weight": [1, 0]},
        {"series": [-1, 0]},
        {"time": [0, MAX_TIME_MS]},
        {"value": [1.0, float("nan")]},
    ],
)
def test_samples_that_are_none_are_told(changed: dict[str, Any]) -> None:
    columns: dict[str, Any] = {
        "series": [0, 1],
        "time": [0, 5],
        "value": [1.0, 2.0],
        "weight": [1, 2],
    }
    columns.update(changed)
    parts = [
        pack_real(np.array(column)) if name == "value" else pack_whole(np.array(column))
        for name, column in columns.items()
    ]
    with pytest.raises(FormatMismatch, match="invalid series, times, values or weights"):
        unpack_samples(struct.pack("<BIIq", 1, 2, 0, NOW) + b"".join(parts))


@pytest.mark.parametrize(("unpack", "wanted"), [(unpack_table, "1 or 2"), (unpack_samples, "1")])
def test_another_version_is_told(unpack: Callable[[bytes], Any], wanted: str) -> None:
    with pytest.raises(FormatMismatch, match=f"version must be {wanted}, got 3"):
        unpack(struct.pack("<BIIq", 3, 1, 0, NOW) + bytes(100))


@pytest.mark.parametrize("second", [0, 1_000_000_000])
@pytest.mark.parametrize("first", [0, 1_000_000_000])
@pytest.mark.parametrize("read", [read_table, read_samples])
def test_few_bytes_that_claim_billions_take_no_memory(read: Reads, first: int, second: int) -> None:
    for tail in (b"", bytes(200), bytes([10, 1, 0]) * 60):
        damaged(read, struct.pack("<BIIq", 1, first, second, NOW) + tail)


def test_a_wide_row_beside_many_narrow_ones_takes_memory_for_their_points_only() -> None:
    half = rows = FREE_NUMBERS // 2
    size = np.zeros(rows, np.int64)
    size[: rows // 2] = 1
    size[0] += half - size.sum()
    constant = [pack_whole(np.full(rows, number)) for number in (0, 1, CLUSTERED, 3, 5)]
    reals = [pack_real(np.full(rows, number)) for number in (1.0, 5.0, 1.0, 3.0, 2.0)]
    data = struct.pack("<BIIq", 1, rows, half, NOW) + b"".join(
        [*constant, *reals, pack_whole(size, dense=True)]
    )
    data += pack_whole(np.zeros(half, np.int64)) + pack_whole(np.ones(half, np.int64))
    assert len(data) < 1000
    damaged(read_table, data)  # 8,192 rows, each as wide as 4,097 points, would take 270 MB
    with bounded(len(data)):
        assert len(unpack_table(data).points.values) == half


@pytest.mark.parametrize("numbers", [FREE_NUMBERS - 1, FREE_NUMBERS, FREE_NUMBERS + 1, 60_000])
def test_numbers_that_are_all_alike_come_back_however_many(numbers: int) -> None:
    samples = Samples(
        np.full(numbers, 3),
        np.full(numbers, NOW),
        np.ones(numbers),
        np.ones(numbers, np.int64),
        np.zeros(numbers, np.uint8),
    )
    assert len(unpack_samples(pack_samples(samples))) == numbers
    rows = of_points(samples.value, samples.weight, samples.time)
    none = np.zeros(0, np.int64)
    table = Table(
        samples.time,
        samples.series,
        rows,
        samples.flags,
        samples.series * 0,
        Points(np.zeros(0), none),
    )
    assert len(unpack_table(pack_table(table))) == numbers


@pytest.mark.parametrize("metadata", [[1, 2], {"a": b"x"}, {5: b"x", -1: b"y"}, {0: "text"}, 7])
def test_metadata_that_is_none_is_told_or_left_out(metadata: Any) -> None:
    text = msgpack.packb(metadata)
    parts = [
        pack_whole(np.array([1, 2])),
        pack_whole(np.array([0, 5])),
        pack_real(np.array([1.0, 2.0])),
        pack_whole(np.array([1, 1])),
    ]
    damaged(read_samples, struct.pack("<BIIq", 1, 2, len(text), NOW) + b"".join(parts) + text)
