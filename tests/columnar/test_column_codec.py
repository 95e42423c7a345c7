"""Columns of numbers as bytes: every form, the smallest one, and corrupt bytes."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redismetrics import FormatMismatch
from redismetrics.columnar import column_codec
from redismetrics.columnar.column_codec import Reader, pack_real, pack_whole

LEAST, MOST = -(2**63), 2**63 - 1
CONSTANT, U1, U2, U4, I8, F4, F8, REAL_CONSTANT, PCO, PCO_REAL, SMALL, STAIRS = range(12)


def whole(data: bytes, rows: int) -> list[int]:
    """Decode all of *data*."""
    reader = Reader(data, 0, "column")
    found = reader.whole(rows)
    assert (found.dtype, len(found), reader.at) == (np.int64, rows, len(data))
    return [int(number) for number in found]


def real(data: bytes, rows: int) -> Any:
    reader = Reader(data, 0, "column")
    found = reader.real(rows)
    assert (found.dtype, len(found), reader.at) == (np.float64, rows, len(data))
    return found


def skipped(data: bytes, rows: int) -> int:
    reader = Reader(data, 0, "column")
    reader.skip(rows)
    return reader.at


SPREADS = st.sampled_from([0, 1, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**44, 2**64 - 1])


@st.composite
def whole_columns(draw: st.DrawFn) -> list[int]:
    """Draw columns that are constant, narrow or wide, of any sign; some long enough for pcodec."""
    spread = draw(SPREADS)
    low = draw(st.integers(LEAST, MOST - spread))
    rows = draw(st.integers(0, 40))
    found = draw(st.lists(st.integers(low, low + spread), min_size=rows, max_size=rows))
    return found * draw(st.sampled_from([1, 1, 1, 20]))


FLOATS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(2**33), 2**33).map(float),
    st.floats(width=32),
    st.sampled_from(
        [
            0.0,
            -0.0,
            1.7e308,
            -1.7e308,
            5e-324,
            2.0**53,
            2.0**31,
            -(2.0**31),
            2.0**52,
            -(2.0**52),
            0.5,
            3.4e38,
            3.5e38,
        ]
    ),
)


@st.composite
def real_columns(draw: st.DrawFn) -> list[float]:
    rows = draw(st.integers(0, 40))
    kind = draw(
        st.sampled_from(
            [FLOATS, st.floats(width=32), st.integers(-300, 300).map(float), st.just(draw(FLOATS))]
        )
    )
    found = draw(st.lists(kind, min_size=rows, max_size=rows))
    return found * draw(st.sampled_from([1, 1, 1, 20]))


# -- round trips ----------------------------------------------------------------------------------


@given(whole_columns(), st.booleans())
def test_whole_numbers_round_trip(numbers: list[int], dense: bool) -> None:
    data = pack_whole(np.array(numbers, np.int64), dense=dense)
    assert whole(data, len(numbers)) == numbers
    assert skipped(data, len(numbers)) == len(data)


@given(real_columns(), st.booleans())
def test_floats_round_trip_with_nan_and_infinity(numbers: list[float], dense: bool) -> None:
    data = pack_real(np.array(numbers), dense=dense)
    # 0.0 and -0.0 are the same number.
    np.testing.assert_array_equal(real(data, len(numbers)), numbers)
    assert skipped(data, len(numbers)) == len(data)


@pytest.mark.slow
@given(
    whole_columns().filter(lambda numbers: all(abs(number) <= 2**53 for number in numbers)),
    st.booleans(),
)
def test_whole_numbers_can_be_read_as_floats(numbers: list[int], dense: bool) -> None:
    data = pack_whole(np.array(numbers, np.int64), dense=dense)
    assert real(data, len(numbers)).tolist() == numbers


@pytest.mark.slow
@given(whole_columns(), real_columns())
def test_dense_is_never_larger_than_plain(whole_numbers: list[int], floats: list[float]) -> None:
    column = np.array(whole_numbers, np.int64)
    assert len(pack_whole(column, dense=True)) <= len(pack_whole(column))
    values = np.array(floats)
    assert len(pack_real(values, dense=True)) <= len(pack_real(values))


N = 300
RANDOM = np.random.default_rng(1)


@pytest.mark.parametrize(
    ("numbers", "dense", "code", "size"),
    [
        ([], False, None, 0),
        ([], True, None, 0),
        ([7] * N, False, CONSTANT, 9),
        ([7] * N, True, SMALL, 3),
        ([-32_768] * N, True, SMALL, 3),
        ([32_767] * N, True, SMALL, 3),
        ([32_768] * N, True, CONSTANT, 9),
        ([-32_769] * N, True, CONSTANT, 9),
        ([LEAST] * N, True, CONSTANT, 9),
        ([MOST] * N, True, CONSTANT, 9),
        ([-5, 250], False, U1, 11),
        ([-5, 251], False, U2, 13),
        ([LEAST, LEAST + 65_535], False, U2, 13),
        ([MOST - 65_536, MOST], False, U4, 17),
        ([0, 2**32 - 1], False, U4, 17),
        ([0, 2**32], False, I8, 25),
        ([LEAST, MOST], False, I8, 25),
        ([LEAST, MOST], True, I8, 25),
        (RANDOM.integers(0, 256, N).tolist(), True, U1, 9 + N),
        (np.arange(0, 1000 * N, 1000).tolist(), True, STAIRS, 25),
        (np.arange(N, 0, -1).tolist(), True, STAIRS, 25),
        (list(range(60)) * 5, True, STAIRS, 25),
        ([n // 5 for n in range(N)], True, STAIRS, 25),
        ([n // 2 % 3 for n in range(N)], True, STAIRS, 25),
        ([*range(N - 1), 0], True, PCO, 100),
        ([LEAST, LEAST + 1] * N, True, STAIRS, 25),
        ([MOST, MOST - 1] * N, True, STAIRS, 25),
        ([0, 1], True, U1, 11),
        (RANDOM.integers(2**60, 2**60 + 2**33, N).tolist(), True, PCO, 5 * N),
    ],
)
def test_whole_numbers_use_the_narrowest_form(
    numbers: list[int], dense: bool, code: int | None, size: int
) -> None:
    data = pack_whole(np.array(numbers, np.int64), dense=dense)
    assert whole(data, len(numbers)) == numbers
    assert (data[0] if data else None) == code
    assert len(data) <= size if code == PCO else len(data) == size


@pytest.mark.parametrize(
    ("numbers", "dense", "code", "size"),
    [
        ([], True, None, 0),
        ([7.25] * N, True, REAL_CONSTANT, 9),
        ([float("inf")] * N, True, REAL_CONSTANT, 9),
        ([3.0] * N, True, REAL_CONSTANT, 9),
        ([1.0, 2.0], True, U1, 11),
        ([-(2.0**31) + 1, 2.0**31], False, U4, 17),
        ([0.0, 2.0**32 - 1], False, U4, 17),
        ([0.0, 2.0**32], False, F4, 9),
        ([0.0, 2.0**32 + 1], False, F8, 17),
        ([0.0, -(2.0**52) - 1], False, F8, 17),
        ([0.5, 0.25], False, F4, 9),
        ([0.5, 0.1], False, F8, 17),
        ([0.5, 3.4e38], False, F8, 17),
        ([0.5, 3.5e38], False, F8, 17),
        ([0.5, float("-inf")], False, F4, 9),
        ([1.0, float("inf")], False, F4, 9),
        ([1.0, float("nan")], False, F8, 17),
        ([float("nan")] * 2, True, F8, 17),
        ([float("nan"), 1.0] * N, True, PCO_REAL, 400),
        ([1.7e308, -1.7e308], True, F8, 17),
        ([5e-324, 0], True, F8, 17),
        ((np.arange(N) / 10).tolist(), True, PCO_REAL, 400),
        (np.arange(N).astype(float).tolist(), True, STAIRS, 25),
        (
            (RANDOM.integers(0, 2**32, N) & 0xBF7FFFFF).astype(np.uint32).view(np.float32).tolist(),
            True,
            F4,
            1 + 4 * N,
        ),
    ],
)
def test_floats_use_the_narrowest_form(
    numbers: list[float], dense: bool, code: int | None, size: int
) -> None:
    data = pack_real(np.array(numbers), dense=dense)
    np.testing.assert_array_equal(real(data, len(numbers)), numbers)
    assert (data[0] if data else None) == code
    assert len(data) <= size if code in (PCO, PCO_REAL) else len(data) == size


def test_columns_of_other_types_and_strides_round_trip() -> None:
    kinds = np.array([0, 2, 1, 255], np.uint8)
    assert whole(pack_whole(kinds, dense=True), 4) == [0, 2, 1, 255]
    every_second = np.arange(2000)[::2]
    assert whole(pack_whole(every_second, dense=True), 1000) == every_second.tolist()
    turned = np.linspace(0, 1, 1000)[::-2]
    assert real(pack_real(turned, dense=True), 500).tolist() == turned.tolist()


@given(
    st.lists(st.tuples(st.booleans(), whole_columns(), real_columns()), max_size=4), st.booleans()
)
def test_consecutive_columns_are_read_or_skipped(drawn: list[Any], dense: bool) -> None:
    data, given_ = b"before", []
    for is_whole, numbers, floats in drawn:
        packed = (
            pack_whole(np.array(numbers, np.int64), dense=dense)
            if is_whole
            else pack_real(np.array(floats), dense=dense)
        )
        given_.append((is_whole, numbers if is_whole else floats, len(data) + len(packed)))
        data += packed
    for skips in (
        lambda at: False,
        lambda at: True,
        lambda at: at % 2 == 0,
        lambda at: at % 2 == 1,
    ):
        reader = Reader(data, 6, "column")
        for at, (is_whole, expected, end) in enumerate(given_):
            if skips(at):
                reader.skip(len(expected))
            else:
                np.testing.assert_array_equal(
                    (reader.whole if is_whole else reader.real)(len(expected)), expected
                )
            assert reader.at == end


# -- corrupt bytes --------------------------------------------------------------------------------


def typical() -> list[tuple[bytes, int]]:
    """Return a column of every form, and its length."""
    rng = np.random.default_rng(2)
    whole_numbers = [
        [7],
        [1, 200],
        [1, 60_000],
        [0, 2**31],
        [0, 2**40],
        list(range(0, 90_000, 1000)),
        [5] * 30,
    ]
    whole_numbers.append([number * number for number in range(60)])
    reals = [[0.5, 0.25], [0.1, 0.2], [0.1] * 5, (rng.integers(0, 100, 60) / 10).tolist()]
    found = [
        (pack_whole(np.array(column), dense=dense), len(column))
        for column in whole_numbers
        for dense in (False, True)
    ]
    found += [(pack_real(np.array(column), dense=True), len(column)) for column in reals]
    assert {data[0] for data, _ in found} == set(range(12))
    return found


NAMES = [f"code {data[0]} of {rows}" for data, rows in typical()]


def damaged(data: bytes, rows: int) -> None:
    """Assert that bytes are rejected or decoded, in no more memory than *rows* numbers take."""
    for expected in ("whole", "real", "skip"):
        reader = Reader(data, 0, "column")
        tracemalloc.start()
        try:
            found = getattr(reader, expected)(rows)
        except FormatMismatch:
            pass
        else:
            assert found is None or len(found) == rows
            assert reader.at <= len(data)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 64 * rows + 20_000


@given(st.sampled_from(typical()), st.integers(0, 200), st.data())
def test_column_with_changed_bytes_is_rejected_or_valid(
    column: tuple[bytes, int], rows: int, draw: st.DataObject
) -> None:
    data, own = column
    changed = bytearray(data)
    places = st.integers(0, len(data) - 1)
    for at, byte in draw.draw(st.dictionaries(places, st.integers(0, 255), max_size=4)).items():
        changed[at] = byte
    damaged(bytes(changed), own)
    damaged(bytes(changed), rows)


@given(st.integers(0, 13), st.binary(max_size=60), st.integers(0, 100))
def test_random_column_is_rejected_or_valid(code: int, data: bytes, rows: int) -> None:
    damaged(bytes([code]) + data, rows)


@pytest.mark.parametrize(("data", "rows"), typical(), ids=NAMES)
def test_column_with_a_flipped_bit_is_rejected_or_valid(data: bytes, rows: int) -> None:
    for bit in range(8 * len(data)):
        turned = bytearray(data)
        turned[bit // 8] ^= 1 << bit % 8
        damaged(bytes(turned), rows)


@pytest.mark.parametrize(("data", "rows"), typical(), ids=NAMES)
def test_truncated_column_is_rejected(data: bytes, rows: int) -> None:
    for size in range(len(data)):
        for read in (Reader.real, Reader.skip):
            with pytest.raises(FormatMismatch, match=r"^corrupt column: \d+ bytes expected at "):
                read(Reader(data[:size], 0, "column"), rows)


@pytest.mark.parametrize("rows", [1, 59, 61, 1000])
def test_column_of_another_length_is_rejected(rows: int) -> None:
    data = pack_real(np.arange(60) / 10, dense=True)
    assert data[0] == PCO_REAL
    with pytest.raises(FormatMismatch):
        Reader(data, 0, "column").real(rows)


@pytest.mark.parametrize("number", [0.5, float("nan"), float("inf"), -1e300])
@pytest.mark.parametrize("rows", [1, 100])
def test_floats_in_a_column_of_whole_numbers_are_rejected(number: float, rows: int) -> None:
    for column in (
        np.full(rows, number),
        np.linspace(0.5, number if np.isfinite(number) else 3.5, rows),
    ):
        data = pack_real(column, dense=True)
        with pytest.raises(FormatMismatch, match="in a column of whole numbers"):
            Reader(data, 0, "column").whole(rows)


@pytest.mark.parametrize("read", [Reader.whole, Reader.real, Reader.skip])
@pytest.mark.parametrize("code", [12, 13, 255])
def test_unknown_code_is_rejected_when_read_or_skipped(read: Any, code: int) -> None:
    with pytest.raises(FormatMismatch, match=f"unknown column code {code}"):
        read(Reader(bytes([code]) + bytes(100), 0, "column"), 3)


@settings(max_examples=300)
@given(st.binary(max_size=80), st.integers(1, 5000), st.booleans(), st.booleans())
def test_any_bytes_of_pcodec_are_rejected_or_valid(
    noise: bytes, rows: int, is_real: bool, with_head: bool
) -> None:
    head = b"pco!" if with_head else b""
    data = (
        bytes([PCO_REAL if is_real else PCO])
        + len(head + noise).to_bytes(4, "little")
        + head
        + noise
    )
    damaged(data, rows)


class Panic(BaseException):
    """Like pyo3_runtime.PanicException, which is not an Exception and cannot be imported."""


@pytest.mark.parametrize(
    "error", [Panic("index out of bounds"), RuntimeError("corrupt"), MemoryError()]
)
def test_panic_in_rust_is_a_format_mismatch(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    data = pack_whole(np.arange(300) ** 2, dense=True)
    assert data[0] == PCO

    def panics(*_: Any) -> None:
        raise error

    monkeypatch.setattr(column_codec, "simple_decompress_into", panics)
    with pytest.raises(FormatMismatch, match=r"^corrupt column: ") as caught:
        Reader(data, 0, "column").whole(90)
    assert caught.value.__cause__ is error
    monkeypatch.setattr(
        column_codec, "simple_decompress_into", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        Reader(data, 0, "column").whole(90)
