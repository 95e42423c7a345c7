"""Columns to bytes and back, compaction beside an exact summary, and what damaged bytes come to."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redismetrics import FormatMismatch
from redismetrics.columnar import summaries
from redismetrics.columnar.block_codec import MAX_ROWS, ROWS_PER_BYTE, Block, pack, unpack
from redismetrics.columnar.samples import (
    CENTROID,
    CHANGE,
    OWN_TIME,
    Samples,
    compress,
    concat,
    summarise,
)
from redismetrics.columnar.summaries import Summaries

NOW_MS = 1_800_000_000_000
MINUTE = 60_000


def block(
    samples: Samples,
    *,
    clock_us: int = NOW_MS * 1000,
    bases: dict[int, tuple[float, float]] | None = None,
    ids: Any = None,
) -> bytes:
    """A whole block as record.lua makes it: the head, then the body."""
    ids = list(range(10, 11 + int(samples.series.max()))) if ids is None else ids
    based = list(bases or {})
    head = [
        clock_us, "writer", 7, samples.count, int(samples.time.min()), 0, ids, based,
        np.array([bases[at] for at in based], "<f8").tobytes() if bases else b"",
    ]  # fmt: skip
    return bytes(msgpack.packb(head, use_bin_type=False)) + pack(samples)


def columns(
    value: list[float],
    *,
    series: Any = 0,
    time: Any = NOW_MS,
    weight: Any = 1,
    flags: Any = 0,
    metadata: Any = None,
) -> Samples:
    """Samples of these values; what is one number stands for a column of it."""

    def column(given: Any, dtype: Any) -> Any:
        return np.full(len(value), given, dtype) if np.isscalar(given) else np.array(given, dtype)

    return Samples(
        column(series, np.int64), column(time, np.int64), np.array(value, np.float64), column(weight, np.int64),
        column(flags, np.uint8), metadata or {},
    )  # fmt: skip


def assert_same(found: Samples, wanted: Samples) -> None:
    for name in ("series", "time", "value", "weight", "flags", "summed", "summed_flags"):
        got, given_ = getattr(found, name), getattr(wanted, name)
        assert got.dtype == given_.dtype, name
        np.testing.assert_array_equal(got, given_, name)
    for field in fields(Summaries):
        got, given_ = getattr(found.summaries, field.name), getattr(wanted.summaries, field.name)
        assert got.dtype == given_.dtype, field.name
        np.testing.assert_array_equal(
            got, given_, field.name
        )  # sums beyond the largest float are inf or nan
    assert found.metadata == wanted.metadata


FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**33), 2**33).map(float),
    st.sampled_from(
        [
            0.0,
            1.7e308,
            -1.7e308,
            5e-324,
            2.0**53,
            2.0**31,
            -(2.0**31),
            0.5,
            1e-9,
            3.4e38,
            3.5e38,
            1e22,
        ]
    ),
)
WHOLE_SPREADS = st.sampled_from([0, 1, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**44])


@st.composite
def samples_(draw: st.DrawFn, flags: tuple[int, ...] = (0, OWN_TIME)) -> Samples:
    """Any columns: each constant, narrow or wide."""
    rows = draw(st.integers(1, 40))

    def whole(low: int) -> list[int]:
        spread = draw(WHOLE_SPREADS)
        return draw(st.lists(st.integers(low, low + spread), min_size=rows, max_size=rows))

    value = draw(
        st.one_of(
            st.lists(FLOATS, min_size=rows, max_size=rows), FLOATS.map(lambda one: [one] * rows)
        )
    )
    metadata = draw(st.dictionaries(st.integers(0, rows - 1), st.binary(max_size=20), max_size=3))
    series = draw(st.lists(st.integers(0, 300), min_size=rows, max_size=rows))
    time = [NOW_MS - given_ for given_ in whole(0) if given_ <= NOW_MS]
    time += [NOW_MS] * (rows - len(time))
    kinds = draw(st.lists(st.sampled_from(flags), min_size=rows, max_size=rows))
    return columns(value, series=series, time=time, weight=whole(1), flags=kinds, metadata=metadata)


# -- there and back -----------------------------------------------------------------------------------------------


@given(samples_())
def test_a_block_comes_back_from_its_bytes(samples: Samples) -> None:
    found = unpack(block(samples))
    assert_same(found.samples, samples)
    assert (found.clock, found.writer, found.sequence) == (NOW_MS * 1000, "writer", 7)
    assert found.ids.tolist() == list(range(10, 11 + int(samples.series.max())))


@given(st.lists(samples_(), min_size=1, max_size=3), st.integers(1, 8))
def test_a_compacted_block_comes_back_from_its_bytes(parts: list[Samples], budget: int) -> None:
    samples = compress(concat(parts), budget)
    assert_same(unpack(block(samples)).samples, samples)


@pytest.mark.parametrize(
    ("values", "most"),
    [
        ([7.25] * 1000, 0), (list(range(200)) * 5, 1), ([float(value) for value in range(1000)], 2),
        ([value * 1e6 for value in range(1000)], 4), ([value / 4 for value in range(1000)], 4),
        ([value / 10 for value in range(1000)], 8),
    ],
    ids=["constant", "bytes", "shorts", "whole", "quarters", "tenths"],
)  # fmt: skip
def test_a_column_takes_the_narrowest_numbers_that_hold_it(values: list[float], most: int) -> None:
    assert len(pack(columns(values))) - len(pack(columns(values[:1]))) <= most * len(values)


def test_a_time_that_is_not_the_sample_s_own_is_at_most_that_of_the_batch() -> None:
    late = [NOW_MS + 5, NOW_MS + 5, NOW_MS - 5, NOW_MS - 5]
    samples = columns([1, 2, 3, 4], time=late, flags=[0, OWN_TIME, 0, OWN_TIME])
    assert unpack(block(samples)).samples.time.tolist() == [
        NOW_MS,
        NOW_MS + 5,
        NOW_MS - 5,
        NOW_MS - 5,
    ]


def test_the_time_of_a_summary_is_cut_as_that_of_its_rows() -> None:
    value = [float(number) for number in range(30)]
    for flags, wanted in ((0, NOW_MS), (OWN_TIME, NOW_MS + 5)):
        found = unpack(block(compress(columns(value, time=NOW_MS + 5, flags=flags), 20))).samples
        assert set(found.time.tolist()) == {wanted}
        assert found.summaries.last_ms.tolist() == [wanted]


def test_a_change_is_added_to_the_base_in_the_head() -> None:
    samples = columns([5.0, -2.0, 7.0], series=[0, 1, 1], flags=[CHANGE, CHANGE, 0])
    found = unpack(block(samples, bases={0: (10.0, NOW_MS + 5), 1: (3.0, 0)})).samples
    assert found.value.tolist() == [15.0, 1.0, 7.0]
    assert found.time.tolist() == [
        NOW_MS + 5,
        *samples.time[1:].tolist(),
    ]  # no older than what was changed


@pytest.mark.parametrize("time", [-1.0, 2.0**60, float("nan"), float("inf")])
def test_a_change_at_no_time_is_told(time: float) -> None:
    samples = columns([5.0], series=[0], flags=[CHANGE])
    with pytest.raises(FormatMismatch, match="invalid times of a gauge's changes"):
        unpack(block(samples, bases={0: (10.0, time)}))


# -- compaction ---------------------------------------------------------------------------------------------------


def whole(samples: Samples) -> list[list[Any]]:
    """The merged summary of each series: column by column."""
    series, rows = summarise(samples)
    merged = summaries.merge(series, int(samples.series.max()) + 1, rows)
    return [getattr(merged, field.name).tolist() for field in fields(Summaries)]


@st.composite
def crowds(draw: st.DrawFn) -> Samples:
    """Many values of few series in few minutes, each with a time of its own rank, so that one of them is the last."""
    rows = draw(st.integers(1, 120))
    value = draw(
        st.lists(st.floats(-1e6, 1e6) | st.sampled_from([1.0, 2.0]), min_size=rows, max_size=rows)
    )
    series = draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows))
    time = [NOW_MS + offset for offset in draw(st.permutations(range(0, rows * 1500, 1500)))]
    weight = draw(st.lists(st.integers(1, 5), min_size=rows, max_size=rows))
    flags = draw(st.lists(st.sampled_from([0, OWN_TIME]), min_size=rows, max_size=rows))
    metadata = dict.fromkeys(draw(st.sets(st.integers(0, rows - 1), max_size=3)), b"{}")
    return columns(value, series=series, time=time, weight=weight, flags=flags, metadata=metadata)


@given(crowds(), st.integers(1, 30), st.integers(1, 30))
def test_compacting_once_or_again_keeps_the_summary(
    samples: Samples, budget: int, second: int
) -> None:
    count, total, m2, low, high, last, last_ms = whole(samples)
    for small in (compress(samples, budget), compress(compress(samples, budget), second)):
        found = whole(small)
        assert found[0] == count
        np.testing.assert_array_equal(found[3:], [low, high, last, last_ms])
        size = float(np.abs(samples.value * samples.weight).sum())
        np.testing.assert_allclose(found[1], total, rtol=0, atol=1e-14 * size)
        np.testing.assert_allclose(
            found[2], m2, rtol=1e-9, atol=1e-12 * float((samples.value**2 * samples.weight).sum())
        )
        assert small.count == samples.count
        assert sorted(small.metadata.values()) == sorted(samples.metadata.values())


@given(crowds(), st.integers(1, 30))
def test_a_series_keeps_no_more_rows_a_minute_than_its_budget(
    samples: Samples, budget: int
) -> None:
    small = compress(samples, budget)
    plain = np.ones(len(small), np.bool_)
    plain[list(small.metadata)] = False
    cells = np.stack([small.series, small.time // MINUTE, small.flags & OWN_TIME])[:, plain]
    _, sizes = np.unique(cells, axis=1, return_counts=True)
    if len(samples) > budget:
        assert sizes.max(initial=0) <= budget
    series, counts = np.unique(small.series, return_counts=True)
    for number in series[counts > 0]:  # and each row stands for as many values as it says
        assert (
            small.weight[small.series == number].sum()
            == samples.weight[samples.series == number].sum()
        )


def test_rows_with_metadata_and_changes_are_never_compacted() -> None:
    value = [float(number) for number in range(200)]
    flags = [CHANGE if number == 5 else 0 for number in range(200)]
    small = compress(columns(value, flags=flags, metadata={3: b"{}", 150: b"[]"}), 20)
    assert small.value[list(small.metadata)].tolist() == [3.0, 150.0]
    assert small.value[(small.flags & CHANGE) != 0].tolist() == [5.0]
    assert len(small) <= 20 + 3


def test_only_rows_with_metadata_are_nothing_to_compact() -> None:
    samples = columns([1.0, 2.0, 3.0], metadata={0: b"1", 1: b"2", 2: b"3"})
    assert_same(compress(samples, 2), samples)


def test_one_value_however_often_is_one_exact_row() -> None:
    small = compress(columns([2.5] * 100, time=[NOW_MS + number for number in range(100)]), 20)
    assert (small.value.tolist(), small.weight.tolist(), small.time.tolist()) == (
        [2.5],
        [100],
        [NOW_MS + 99],
    )
    assert small.flags.tolist() == [0]
    assert len(small.summed) == 0


def test_of_equal_times_in_one_minute_the_latest_row_is_the_last() -> None:
    value = [float(number) for number in range(100)]
    small = compress(columns([*value, 7.5]), 20)
    assert small.summaries.last.tolist() == [7.5]
    assert ((small.flags & CENTROID) != 0).all()


# -- damage -------------------------------------------------------------------------------------------------------


def typical() -> list[bytes]:
    """Blocks with everything in them: kept small, as each bit of them is turned below."""
    plain = columns(
        [1.5, 2.0, -3.0],
        series=[0, 1, 0],
        time=[NOW_MS, NOW_MS - 5, NOW_MS - 70_000],
        weight=[1, 300, 2],
    )
    rich = columns([1.0, 2.0], flags=[OWN_TIME, CHANGE], metadata={1: b'{"a":1}'})
    many = compress(columns([number / 7 for number in range(25)], weight=list(range(1, 26))), 5)
    return [block(plain), block(rich, bases={0: (4.0, NOW_MS)}), block(many)]


def assert_sound(found: Block, size: int) -> None:
    """What every block must be, so that no reader fails on it."""
    samples = found.samples
    assert 0 < len(samples) <= MAX_ROWS + ROWS_PER_BYTE * size
    assert {
        len(column)
        for column in (samples.series, samples.time, samples.value, samples.weight, samples.flags)
    } == {len(samples)}
    assert samples.weight.min() >= 1
    assert samples.count > 0
    assert (found.ids >= 0).all()
    assert np.isfinite(samples.value[(samples.flags & CENTROID) == 0]).all()
    for numbers in (samples.series, samples.summed):
        assert ((numbers >= 0) & (numbers < len(found.ids))).all()
    for times in (samples.time, samples.summaries.last_ms):
        assert ((times >= 0) & (times < 253_402_300_800_000)).all()  # else it is no datetime
    assert (samples.summaries.count >= 1).all()
    assert all(
        0 <= row < len(samples) and type(text) is bytes for row, text in samples.metadata.items()
    )


@contextmanager
def bounded(size: int) -> Iterator[None]:
    """No more memory than the rows that a block of *size* bytes may hold, in all their columns and once more."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 2 * 13 * 8 * (MAX_ROWS + ROWS_PER_BYTE * size)
    finally:
        tracemalloc.stop()


def damaged(data: bytes) -> None:
    """Read damaged bytes as it is done outside of tests, where numpy's warnings are no errors."""
    with np.errstate(all="ignore"), bounded(len(data)):
        try:
            found = unpack(data)
        except FormatMismatch:
            return
        assert_sound(found, len(data))


@given(st.binary(max_size=300))
def test_random_bytes_are_no_block(data: bytes) -> None:
    with bounded(len(data)), pytest.raises(FormatMismatch, match=r"^corrupt block"):
        unpack(data)


@given(st.sampled_from(typical()), st.binary(max_size=200))
def test_a_head_and_random_bytes_are_no_block_or_a_sound_one(data: bytes, tail: bytes) -> None:
    unpacker = msgpack.Unpacker(raw=True)
    unpacker.feed(data)
    unpacker.skip()
    damaged(data[: unpacker.tell()] + tail)
    damaged(data[: unpacker.tell() + 1] + tail)  # and the right version


@pytest.mark.parametrize("data", typical(), ids=["plain", "rich", "compacted"])
def test_a_truncated_block_is_told(data: bytes) -> None:
    for size in range(len(data)):
        with pytest.raises(FormatMismatch, match=r"^corrupt block"):
            unpack(data[:size])


@pytest.mark.parametrize("data", typical(), ids=["plain", "rich", "compacted"])
def test_a_block_with_any_bit_turned_is_told_or_sound(data: bytes) -> None:
    assert_sound(unpack(data), len(data))
    for bit in range(8 * len(data)):
        turned = bytearray(data)
        turned[bit // 8] ^= 1 << bit % 8
        damaged(bytes(turned))


@settings(max_examples=200)
@given(st.sampled_from(typical()), st.data())
def test_a_block_with_some_bytes_changed_is_told_or_sound(data: bytes, draw: st.DataObject) -> None:
    changed = bytearray(data)
    for at, byte in draw.draw(
        st.dictionaries(st.integers(0, len(data) - 1), st.integers(0, 255), max_size=6)
    ).items():
        changed[at] = byte
    damaged(bytes(changed))


def test_a_block_of_another_version_is_told() -> None:
    data = bytearray(block(columns([1.0])))
    at = len(data) - len(pack(columns([1.0])))
    data[at] = 99
    with pytest.raises(FormatMismatch, match="version of the body must be 1, got 99"):
        unpack(bytes(data))


def test_a_block_that_claims_a_billion_rows_takes_no_memory() -> None:
    samples = columns([1.0])
    data = bytearray(block(samples))
    at = len(data) - len(pack(samples)) + 1
    data[at : at + 4] = (1_000_000_000).to_bytes(4, "little")
    with bounded(len(data)), pytest.raises(FormatMismatch, match="got 1000000000"):
        unpack(bytes(data))
