"""Tables and samples that tests of the rollup codecs share."""

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import numpy as np
from hypothesis import strategies as st

from redismetrics import FormatMismatch
from redismetrics.columnar import rollup_table
from redismetrics.columnar.packing import NUMBERS_PER_BYTE
from redismetrics.columnar.rollup_codec import pack_table, unpack_table, unpack_tables
from redismetrics.columnar.rollup_table import CLUSTERED, EXACT, UNIFORM, Points, Table
from redismetrics.columnar.sample_codec import pack_samples, unpack_samples
from redismetrics.columnar.samples import Samples
from redismetrics.columnar.summaries import Summaries, merge, of_points

NOW = 1_800_000_000_000 // 60_000 * 60_000


MINUTE = 60_000


MAX = 1.7976931348623157e308


MAX_TIME_MS = 253_402_300_800_000


# Kind and points; a uniform row has one point.
Row = tuple[int, list[tuple[float, int]]]


def table_of(rows: Sequence[Row], extremes: Sequence[tuple[float, float]] | None = None) -> Table:
    """Return a table of these rows, each with its own minute and series.

    Without *extremes*, those of the points are used.
    """
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
    """Return the means and the weights of each row."""
    at = np.cumsum(table.size)[:-1]
    return (
        list(
            zip(np.split(table.points.values, at), np.split(table.points.weights, at), strict=True)
        )
        if len(table)
        else []
    )


def assert_near(found: Any, expected: Any, low: float, high: float) -> None:
    """Assert that each mean is off by at most 1/128 of the gap to its neighbour on that side.

    Below, the gap counts from the neighbour as decoded, which is off by 1/128 of the gap before it,
    and so on.
    """
    scale = 2.0 ** -max(min(int(np.frexp(max(-low, high))[1]), 1000), -1000)
    found, expected, low, high = (
        found * scale,
        np.clip(expected, low, high) * scale,
        low * scale,
        high * scale,
    )
    before, beyond = np.append(low, found[:-1]), np.append(expected[1:], high)
    # Rounding of doubles, and of the smallest 32-bit float.
    rounding = 1e-13 * max(abs(low), abs(high)) + 1e-37 * (high - low)
    above = (
        (np.maximum(beyond - expected, 0)) / 128
        + np.maximum(expected - before, 0) / 2**22
        + rounding
    )
    below = (np.maximum(expected - before, 0)) / 128 + rounding
    assert (low <= found).all()
    assert (found <= high).all()
    assert (np.diff(found) >= 0).all()
    # Where the decoded neighbour is beyond this mean.
    behind = np.maximum(before - expected, 0)
    assert (found - expected <= above + behind).all()
    assert (expected - found <= below).all()


def assert_back(table: Table) -> Table:
    """Assert that a table round trips; means may be off a little, except in a plain table."""
    # A plain table together with one that has steps.
    plain = unpack_tables([pack_table(table, dense=False), pack_table(table)])
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


# Series, time, value, weight.
Sample = tuple[int, int, float, int]


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


def typical_tables() -> list[bytes]:
    """Return small tables with all that a table may contain; tests flip every bit of them."""
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


# Memory of decoding that does not depend on the size, in bytes.
FIXED = 1 << 16


@contextmanager
def bounded(size: int) -> Iterator[None]:
    """Assert that decoding takes no more memory than the numbers that fit into *size* bytes."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < FIXED + 30 * 8 * NUMBERS_PER_BYTE * size
    finally:
        tracemalloc.stop()


def read_table(data: bytes) -> None:
    """Decode a table, and assert that it is valid."""
    found = unpack_table(data)
    count, points, rows = len(found), found.points, found.summaries
    assert count + len(points.values) <= NUMBERS_PER_BYTE * len(data)
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
    assert 0 < len(found) <= NUMBERS_PER_BYTE * len(data)
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
    """Decode corrupt bytes without turning numpy's warnings into errors."""
    with np.errstate(all="ignore"), bounded(len(data)):
        try:
            read(data)
        except FormatMismatch as error:
            message = str(error)
        else:
            return
    assert message.startswith(("corrupt table", "corrupt samples", "table: ", "samples: "))
