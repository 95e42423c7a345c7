"""Corrupt bytes of tables and samples: rejected, or decoded to something valid."""

import struct
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redismetrics import FormatMismatch
from redismetrics.columnar.column_codec import pack_real, pack_whole
from redismetrics.columnar.packing import NUMBERS_PER_BYTE
from redismetrics.columnar.rollup_codec import pack_table, unpack_table
from redismetrics.columnar.rollup_table import CLUSTERED, EXACT, UNIFORM, Points, Table
from redismetrics.columnar.sample_codec import pack_samples, unpack_samples
from redismetrics.columnar.samples import Samples
from redismetrics.columnar.summaries import Summaries, of_points
from tests.columnar.rollups import (
    EVERY,
    MAX_TIME_MS,
    NOW,
    Reads,
    bounded,
    damaged,
    read_samples,
    read_table,
)


@pytest.mark.parametrize(("read", "data"), EVERY)
def test_typical_bytes_are_valid(read: Reads, data: bytes) -> None:
    read(data)


@pytest.mark.parametrize(("read", "data"), EVERY)
def test_truncated_bytes_are_rejected(read: Reads, data: bytes) -> None:
    for size in range(len(data)):
        with pytest.raises(FormatMismatch, match=r"^corrupt (table|samples)"):
            read(data[:size])


@pytest.mark.slow
@pytest.mark.parametrize(("read", "data"), EVERY)
def test_bytes_with_a_flipped_bit_are_rejected_or_valid(read: Reads, data: bytes) -> None:
    """Flip every bit of the head, and one bit of each byte after it."""
    for bit in [*range(8 * 17), *(8 * at + at * 5 % 8 for at in range(17, len(data)))]:
        turned = bytearray(data)
        turned[bit // 8] ^= 1 << bit % 8
        damaged(read, bytes(turned))


@settings(max_examples=200)
@given(st.sampled_from(EVERY), st.data())
def test_changed_bytes_are_rejected_or_valid(
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
def test_valid_head_with_random_bytes_is_rejected_or_valid(
    read: Reads, first: int, second: int, tail: bytes
) -> None:
    damaged(read, tail)
    damaged(read, struct.pack("<BIIq", 1, first, second, NOW) + tail)


@st.composite
def columns_of_any(draw: st.DrawFn, rows: int) -> bytes:
    """Draw a well-formed column of numbers that may be invalid."""
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


@pytest.mark.slow
@given(
    st.sampled_from([read_table, read_samples]), st.integers(1, 30), st.integers(0, 30), st.data()
)
def test_columns_of_any_numbers_are_rejected_or_valid(
    read: Reads, first: int, second: int, draw: st.DataObject
) -> None:
    columns = [draw.draw(columns_of_any(first)) for _ in range(11)] + [
        draw.draw(columns_of_any(second)) for _ in range(3)
    ]
    damaged(read, struct.pack("<BIIq", 1, first, second, NOW) + b"".join(columns))


def forged(**changed: Any) -> bytes:
    """Return a packed table of one exact and one clustered row, with some columns replaced."""
    columns: dict[str, Any] = {
        "slot": [0, 60],
        "series": [1, 2],
        "kind": [EXACT, CLUSTERED],
        "count": [3, 4],
        "last": [5, 6],
        "low": [1.0, 2.0],
        "total": [5.0, 9.0],
        "m2": [1.0, 1.0],
        "high": [3.0, 5.0],
        "last_value": [2.0, 3.0],
        "size": [2, 2],
        "values": [1.0, 3.0],
        "steps": [0, 0x3F00],
        "weights": [1, 2, 1, 3],
    }
    base = changed.pop("base", NOW)
    columns.update(changed)
    parts = []
    for column in columns.values():
        array = np.array(column)
        parts.append(pack_real(array) if array.dtype == np.float64 else pack_whole(array))
    return struct.pack("<BIIq", 1, 2, 4, base) + b"".join(parts)


def test_forged_table_is_valid_unless_changed() -> None:
    read_table(forged())


def every_column(data: bytes) -> None:
    """Decode every column; each is decoded when first used."""
    found = unpack_table(data)
    for column in fields(Summaries):
        getattr(found.summaries, column.name)


@pytest.mark.parametrize(
    "changed",
    [
        {"count": [3, 0]},
        {"count": [3.5, 1.5]},
        {"series": [-1, 2]},
        {"kind": [1, 3]},
        {"base": -60_000},
        {"last": [-1, 6]},
        {"last": [5, MAX_TIME_MS - NOW]},
        {"low": [1.0, float("nan")]},
        {"low": [float("-inf"), 1.0]},
        {"high": [3.0, 2.0]},
        {"high": [3.0, 1.0]},
        {"high": [float("inf"), 5.0]},
        {"high": [3.0, float("nan")]},
        {"size": [2, 3]},
        {"size": [-1, 5]},
        {"size": [2**62, 2**62]},
    ],
)
def test_invalid_rows_are_rejected(changed: dict[str, Any]) -> None:
    every_column(forged())
    with pytest.raises(FormatMismatch, match=r"^corrupt table"):
        every_column(forged(**changed))


@pytest.mark.parametrize("changed", ["count", "series", "last", "low", None])
def test_invalid_uniform_rows_are_rejected(changed: str | None) -> None:
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


def test_corrupt_column_is_rejected_each_time_it_is_read() -> None:
    found = unpack_table(forged(low=[1.0, float("nan")]))
    assert found.summaries.count.tolist() == [3, 4]
    for _ in range(2):
        with pytest.raises(FormatMismatch, match=r"^corrupt table"):
            _ = found.summaries.low


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weights": [1, 0, 1, 3]}, "at least 1, got 0"),
        ({"weights": [1.5, 2.5, 1.5, 3.5]}, "whole numbers"),
        ({"values": [1.0, float("inf")]}, "must be finite"),
        ({"steps": [0, 0x3F81]}, "steps must be from 0 to"),
        ({"steps": [-1, 0]}, "steps must be from 0 to"),
        ({"values": [1.0, 2.0, 3.0]}, "corrupt table"),
    ],
)
def test_invalid_points_are_rejected_when_read(changed: dict[str, Any], message: str) -> None:
    found = unpack_table(forged(**changed))
    for _ in range(2):
        with pytest.raises(FormatMismatch, match=message):
            _ = found.points


def test_sizes_whose_sum_overflows_are_rejected() -> None:
    """Otherwise numpy's repeat would write beyond its memory."""
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
    ("unpack", "expected"), [(unpack_table, "1 or 2"), (unpack_samples, "1 or 2")]
)
def test_another_version_is_rejected(unpack: Callable[[bytes], Any], expected: str) -> None:
    with pytest.raises(FormatMismatch, match=f"version must be {expected}, got 3"):
        unpack(struct.pack("<BIIq", 3, 1, 0, NOW) + bytes(100))


@pytest.mark.parametrize("second", [0, 1_000_000_000])
@pytest.mark.parametrize("first", [0, 1_000_000_000])
@pytest.mark.parametrize("read", [read_table, read_samples])
def test_few_bytes_that_claim_billions_take_no_memory(read: Reads, first: int, second: int) -> None:
    for tail in (b"", bytes(200), bytes([10, 1, 0]) * 60):
        damaged(read, struct.pack("<BIIq", 1, first, second, NOW) + tail)


def test_wide_row_among_narrow_ones_takes_little_memory() -> None:
    half = rows = 8_192
    size = np.zeros(rows, np.int64)
    size[: rows // 2] = 1
    size[0] += half - size.sum()
    constant = [pack_whole(np.full(rows, number)) for number in (0, 1, CLUSTERED, 3, 5)]
    reals = [pack_real(np.full(rows, number)) for number in (1.0, 5.0, 1.0, 3.0, 2.0)]
    data = struct.pack("<BIIq", 1, rows, half, NOW) + b"".join(
        [*constant, *reals, pack_whole(size, dense=True)]
    )
    data += pack_whole(np.zeros(half, np.int64)) + pack_whole(np.ones(half, np.int64))
    data += bytes((rows + half) // NUMBERS_PER_BYTE - len(data))
    # 8,192 rows, each as wide as 4,097 points, would take 270 MB.
    damaged(read_table, data)
    with bounded(len(data)):
        assert len(unpack_table(data).points.values) == half


@pytest.mark.parametrize("numbers", [1, 299, 300, 301, 302, 303, 304, 16_385, 60_000])
def test_any_number_of_equal_values_round_trips(numbers: int) -> None:
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
