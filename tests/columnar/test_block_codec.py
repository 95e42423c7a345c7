"""Blocks as bytes: they come back, and corrupt ones are rejected or decoded to something valid."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redismetrics import FormatMismatch
from redismetrics.columnar.block_codec import (
    ROWS_PER_BYTE,
    SUMMARY_ROWS,
    Block,
    pack,
    unpack,
    unpack_metadata,
)
from redismetrics.columnar.samples import (
    CENTROID,
    CHANGE,
    OWN_TIME,
    Samples,
    compress,
    concat,
)
from tests.columnar.sample_columns import NOW_MS, assert_same, block, columns

# Memory of decoding that does not depend on the size, in bytes.
FIXED = 1 << 16


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
    """Draw samples whose columns are constant, narrow or wide."""
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


@pytest.mark.slow
@given(samples_())
def test_block_round_trip(samples: Samples) -> None:
    found = unpack(block(samples))
    assert_same(found.samples, samples)
    assert (found.clock, found.writer, found.sequence) == (NOW_MS * 1000, "writer", 7)
    assert found.ids.tolist() == list(range(10, 11 + int(samples.series.max())))


@pytest.mark.slow
@given(st.lists(samples_(), min_size=1, max_size=3), st.integers(1, 8))
def test_compressed_block_round_trip(parts: list[Samples], budget: int) -> None:
    samples = compress(concat(parts), budget)
    assert_same(unpack(block(samples)).samples, samples)


@pytest.mark.parametrize(
    ("values", "most"),
    [
        # Less than that would be a block that is rejected.
        ([7.25] * 1000, 1),
        (list(range(200)) * 5, 1),
        ([float(value) for value in range(1000)], 2),
        ([value * 1e6 for value in range(1000)], 4),
        ([value / 4 for value in range(1000)], 4),
        ([value / 10 for value in range(1000)], 8),
    ],
    ids=["constant", "bytes", "shorts", "whole", "quarters", "tenths"],
)
def test_column_uses_the_narrowest_type(values: list[float], most: int) -> None:
    assert len(pack(columns(values))) - len(pack(columns(values[:1]))) <= most * len(values)


def test_recorder_time_is_limited_to_the_batch_clock() -> None:
    late = [NOW_MS + 5, NOW_MS + 5, NOW_MS - 5, NOW_MS - 5]
    samples = columns([1, 2, 3, 4], time=late, flags=[0, OWN_TIME, 0, OWN_TIME])
    assert unpack(block(samples)).samples.time.tolist() == [
        NOW_MS,
        NOW_MS + 5,
        NOW_MS - 5,
        NOW_MS - 5,
    ]


def test_summary_time_is_cut_like_the_rows() -> None:
    value = [float(number) for number in range(30)]
    for flags, expected in ((0, NOW_MS), (OWN_TIME, NOW_MS + 5)):
        found = unpack(block(compress(columns(value, time=NOW_MS + 5, flags=flags), 20))).samples
        assert set(found.time.tolist()) == {expected}
        assert found.summaries.last_ms.tolist() == [expected]


def test_change_is_added_to_the_base_in_the_head() -> None:
    samples = columns([5.0, -2.0, 7.0], series=[0, 1, 1], flags=[CHANGE, CHANGE, 0])
    found = unpack(block(samples, bases={0: (10.0, NOW_MS + 5), 1: (3.0, 0)})).samples
    assert found.value.tolist() == [15.0, 1.0, 7.0]
    # No older than the value that was changed.
    assert found.time.tolist() == [NOW_MS + 5, *samples.time[1:].tolist()]


@pytest.mark.parametrize("time", [-1.0, 2.0**60, float("nan"), float("inf")])
def test_change_with_invalid_time_is_rejected(time: float) -> None:
    samples = columns([5.0], series=[0], flags=[CHANGE])
    with pytest.raises(FormatMismatch, match="invalid times of a gauge's changes"):
        unpack(block(samples, bases={0: (10.0, time)}))


def typical() -> list[bytes]:
    """Return small blocks with all that a block may contain; tests flip every bit of them."""
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
    """Assert that a decoded block is valid."""
    samples = found.samples
    assert 0 < len(samples) + SUMMARY_ROWS * len(samples.summed) <= ROWS_PER_BYTE * size
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
        # Otherwise it cannot be a datetime.
        assert ((times >= 0) & (times < 253_402_300_800_000)).all()
    assert (samples.summaries.count >= 1).all()
    assert all(
        0 <= row < len(samples) and type(text) is bytes for row, text in samples.metadata.items()
    )


@contextmanager
def bounded(size: int) -> Iterator[None]:
    """Assert that decoding takes at most twice the memory of rows that fit into *size* bytes."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < FIXED + 2 * 13 * 8 * ROWS_PER_BYTE * size
    finally:
        tracemalloc.stop()


def damaged(data: bytes) -> None:
    """Decode corrupt bytes without turning numpy's warnings into errors."""
    with np.errstate(all="ignore"), bounded(len(data)):
        try:
            found = unpack(data)
        except FormatMismatch:
            return
        assert_sound(found, len(data))


@given(st.binary(max_size=300))
def test_random_bytes_are_rejected(data: bytes) -> None:
    with bounded(len(data)), pytest.raises(FormatMismatch, match=r"^corrupt block"):
        unpack(data)


@given(st.sampled_from(typical()), st.binary(max_size=200))
def test_valid_head_with_random_body_is_rejected_or_valid(data: bytes, tail: bytes) -> None:
    unpacker = msgpack.Unpacker(raw=True)
    unpacker.feed(data)
    unpacker.skip()
    damaged(data[: unpacker.tell()] + tail)
    # With the right version.
    damaged(data[: unpacker.tell() + 1] + tail)


@pytest.mark.parametrize("data", typical(), ids=["plain", "rich", "compacted"])
def test_truncated_block_is_rejected(data: bytes) -> None:
    for size in range(len(data)):
        with pytest.raises(FormatMismatch, match=r"^corrupt block"):
            unpack(data[:size])


@pytest.mark.slow
@pytest.mark.parametrize("data", typical(), ids=["plain", "rich", "compacted"])
def test_block_with_a_flipped_bit_is_rejected_or_valid(data: bytes) -> None:
    assert_sound(unpack(data), len(data))
    for bit in range(8 * len(data)):
        turned = bytearray(data)
        turned[bit // 8] ^= 1 << bit % 8
        damaged(bytes(turned))


@settings(max_examples=200)
@given(st.sampled_from(typical()), st.data())
def test_block_with_changed_bytes_is_rejected_or_valid(data: bytes, draw: st.DataObject) -> None:
    changed = bytearray(data)
    for at, byte in draw.draw(
        st.dictionaries(st.integers(0, len(data) - 1), st.integers(0, 255), max_size=6)
    ).items():
        changed[at] = byte
    damaged(bytes(changed))


def test_block_of_another_version_is_rejected() -> None:
    data = bytearray(block(columns([1.0])))
    at = len(data) - len(pack(columns([1.0])))
    data[at] = 99
    with pytest.raises(FormatMismatch, match="version of the body must be 1, got 99"):
        unpack(bytes(data))


def test_block_that_claims_a_billion_rows_takes_no_memory() -> None:
    samples = columns([1.0])
    data = bytearray(block(samples))
    at = len(data) - len(pack(samples)) + 1
    data[at : at + 4] = (1_000_000_000).to_bytes(4, "little")
    with bounded(len(data)), pytest.raises(FormatMismatch, match="got 1000000000"):
        unpack(bytes(data))


@pytest.mark.parametrize("rows", [1, 50, 65, 66, 67, 10_000])
def test_any_number_of_equal_rows_round_trips(rows: int) -> None:
    samples = columns([1.0] * rows)
    data = block(samples)
    assert_same(unpack(data).samples, samples)
    assert len(data) < rows + 150


@given(samples_(), st.integers(1, 3_000), st.integers(1, 12))
def test_any_samples_repeated_any_number_of_times_round_trip(
    samples: Samples, times: int, budget: int
) -> None:
    row = samples.take(np.arange(len(samples)) == 0, np.zeros(0, np.bool_))
    for many in (concat([row] * times), compress(concat([samples] * min(times, 50)), budget)):
        assert_same(unpack(block(many)).samples, many)


@pytest.mark.parametrize("summaries", [1, 40, 2_000])
def test_any_number_of_equal_summaries_round_trips(summaries: int) -> None:
    part = compress(columns([1.0, 2.0, 3.0] * 20), 2)
    samples = concat([part] * summaries)
    assert_same(unpack(block(samples)).samples, samples)


@pytest.mark.parametrize(("rows", "summaries"), [(1_000, 0), (400, 350), (10_000, 10_000)])
def test_a_block_too_small_for_its_rows_is_rejected(rows: int, summaries: int) -> None:
    part = columns([1.0] * rows)
    if summaries:
        several = compress(columns([1.0, 2.0, 3.0]), 2)
        part.summed = np.zeros(summaries, np.int64)
        part.summed_flags = np.zeros(summaries, np.uint8)
        part.summaries = several.summaries.take(np.zeros(summaries, np.intp))
    data = block(part).rstrip(b"\0")
    assert len(data) < 300
    with bounded(len(data)), pytest.raises(FormatMismatch, match="numbers fit"):
        unpack(data)


def test_nested_arrays_that_claim_more_than_they_hold_take_no_memory() -> None:
    claims = b"\xdd" + (22_000).to_bytes(4, "big")
    data = claims * 400 + bytes(20_000)
    with bounded(len(data)), pytest.raises(FormatMismatch, match="corrupt block"):
        unpack(data)
    with bounded(22_000), pytest.raises(msgpack.UnpackException):
        unpack_metadata(b"\x81\x00" + claims * 400 + bytes(20_000), 1)
