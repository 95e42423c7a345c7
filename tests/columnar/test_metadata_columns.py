"""Metadata as columns: byte for byte what was recorded, in few bytes."""

import json
import math
import random
from typing import Any

import hypothesis.strategies as st
import msgpack
import numpy as np
import pytest
from hypothesis import example, given

from redismetrics.columnar import metadata_columns
from redismetrics.columnar.arrays import Ints
from redismetrics.columnar.column_codec import Reader, pack_real, pack_whole
from redismetrics.columnar.metadata_columns import columns_of, joined, moved, texts, unpack
from redismetrics.columnar.sample_codec import WITH_COLUMNS, pack_samples, unpack_samples
from redismetrics.columnar.samples import Samples
from redismetrics.errors import FormatMismatch


def as_json(**metadata: Any) -> bytes:
    return json.dumps(metadata, separators=(",", ":"), ensure_ascii=False).encode()


def packed_and_read(metadata: dict[int, bytes], rows: int, *, dense: bool) -> dict[int, bytes]:
    data = columns_of(metadata).pack(rows, dense=dense)
    return dict(unpack(Reader(data, 0, "samples"), len(data), rows))


TEXTS = st.one_of(
    st.binary(max_size=40),
    st.dictionaries(
        st.text(max_size=4),
        st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        max_size=5,
    ).map(lambda metadata: as_json(**{f"k{key}": value for key, value in metadata.items()})),
)


@pytest.mark.slow
@given(st.dictionaries(st.integers(0, 40), TEXTS, min_size=1), st.booleans())
@example({0: b'{"a":007}', 1: b'{"a":7}', 2: b'{"a":-0.0}', 3: b'{"a":0.0}'}, True)
@example({0: b'{"a":1.50}', 1: b'{"a":1e400}', 2: b'{"a":1E5}', 3: b'{"%d":5}'}, True)
@example({0: b"%d%%5", 1: b"9007199254740993", 2: b"-9007199254740991", 3: b"--5", 4: b"5-6"}, True)
@example({row: b"%d" % (row << 48) for row in range(30)}, True)
@example({0: b"1," * 30, 1: b"1," * 200}, False)
def test_texts_are_rebuilt_byte_for_byte(metadata: dict[int, bytes], dense: bool) -> None:
    assert packed_and_read(metadata, 41, dense=dense) == metadata


def test_equal_keys_are_stored_once_and_numbers_as_a_column() -> None:
    metadata = {row: as_json(epoch=row // 100, step=row, phase="train") for row in range(10_000)}
    packed = columns_of(metadata).pack(10_000, dense=True)
    assert len(packed) < 1_000
    assert packed_and_read(metadata, 10_000, dense=True) == metadata


def test_texts_without_common_numbers_are_stored_once_each() -> None:
    metadata = {row: as_json(note="x" * (row % 3)) for row in range(3_000)}
    assert len(columns_of(metadata).pack(3_000, dense=True)) < 1_000


def test_a_sample_of_a_loss_with_a_step_takes_at_most_12_bytes() -> None:
    noise = random.Random(1)
    rows = 10_000
    samples = Samples(
        np.zeros(rows, np.int64),
        1_750_000_000_000 + np.array([50 * row + noise.randrange(5) for row in range(rows)]),
        np.array([2.5 / (1 + row / 500) + noise.gauss(0, 0.01) for row in range(rows)]),
        np.ones(rows, np.int64),
        np.zeros(rows, np.uint8),
        {row: as_json(step=row) for row in range(rows)},
    )
    packed = pack_samples(samples)
    assert len(packed) <= 12 * rows
    assert dict(unpack_samples(packed).metadata) == samples.metadata


# -- as a mapping ---------------------------------------------------------------------------------

STEPS = {row: as_json(step=row, lr=row / 8) for row in (0, 1, 4, 5, 9)}
OTHERS = {0: as_json(step=0, lr=0.5), 3: b"{}", 5: as_json(step=7, lr=0.25)}


def test_columns_are_a_mapping() -> None:
    columns = columns_of(STEPS)
    assert (dict(columns), len(columns), bool(columns)) == (STEPS, 5, True)
    assert 4 in columns
    assert 3 not in columns
    assert columns.get(10) is None
    assert columns_of(columns) is columns


@pytest.mark.parametrize("as_columns", [True, False])
def test_rows_may_be_moved_and_left_out(as_columns: bool) -> None:
    new: Ints = np.array([5, -1, 0, 0, 2, 7, 0, 0, 0, 1])
    metadata = columns_of(STEPS) if as_columns else STEPS
    found = moved(metadata, new)
    assert dict(found) == {1: STEPS[9], 2: STEPS[4], 5: STEPS[0], 7: STEPS[5]}
    assert texts(found, np.array([7, 0, 1, 99])) == [STEPS[5], None, STEPS[9], None]


@pytest.mark.parametrize("first", [columns_of(STEPS), STEPS])
@pytest.mark.parametrize("second", [columns_of(OTHERS), OTHERS])
def test_parts_are_joined(first: Any, second: Any) -> None:
    found = joined([(0, first), (10, {}), (10, second)])
    expected = {**STEPS, **{10 + row: text for row, text in OTHERS.items()}}
    assert dict(found) == expected
    assert packed_and_read(dict(found), 16, dense=False) == expected


def test_joined_parts_share_templates_when_packed() -> None:
    parts = [
        (100 * part, columns_of({row: as_json(step=100 * part + row) for row in range(100)}))
        for part in range(60)
    ]
    found = joined(parts)
    whole = {row: as_json(step=row) for row in range(6_000)}
    packed = columns_of(found).pack(6_000, dense=True)
    assert packed == columns_of(whole).pack(6_000, dense=True)
    # Also of some of the rows, in another order.
    new = np.full(6_000, -1)
    new[[5_000, 50, 1]] = [0, 1, 2]
    assert packed_and_read(dict(moved(found, new)), 3, dense=True) == {
        0: whole[5_000],
        1: whole[50],
        2: whole[1],
    }


def test_columns_without_rows() -> None:
    none = moved(columns_of(STEPS), np.full(10, -1))
    assert (dict(none), len(none)) == ({}, 0)
    assert texts(none, np.array([0, 1])) == [None, None]


# -- corrupt bytes --------------------------------------------------------------------------------


def damaged(header: list[Any], columns: bytes = b"", rows: int = 4) -> None:
    data = msgpack.packb(header) + columns
    with pytest.raises(FormatMismatch):
        unpack(Reader(data, 0, "samples"), len(data), rows)


@pytest.mark.parametrize(
    "header",
    [
        [0, 0, []],
        [5, 1, [[b"a", b""]]],
        [4, 2, [[b"a", b""]]],
        [4, 1, [[b"a", b"i"]]],
        [4, 1, [[b"a", b"b", b"x"]]],
        [4, 1, [["a", b""]]],
        [4, 1, [[b"a" * 300, b"", b"i"]]],
        [4, 1, [[*[b"a"] * 18, b"i" * 17]]],
        [4, 1, [[b"a", b"b", b"i"]]],  # without its column
    ],
)
def test_corrupt_header_is_rejected(header: list[Any]) -> None:
    damaged(header)


def test_rows_and_groups_out_of_range_are_rejected() -> None:
    one = [[b"a", b""]]
    for rows in ([0, 0], [1, 0], [0, 4], [-1, 0]):
        damaged([2, 1, one], pack_whole(np.array(rows)))
    for groups in ([0, 2, 1, 1], [-1, 0, 1, 1]):
        damaged([4, 2, [[b"a", b""], [b"b", b""]]], pack_whole(np.array(groups)))


def test_few_bytes_cannot_stand_for_many_texts() -> None:
    rows = 10_000
    alike = np.zeros(rows, np.int64)
    metadata = dict.fromkeys(range(rows), b"x" * 250 + b"5")
    samples = Samples(alike, alike + 5, alike + 1.5, alike + 1, alike.astype(np.uint8), metadata)
    packed = pack_samples(samples)
    assert len(packed) >= rows
    assert dict(unpack_samples(packed).metadata) == metadata
    # The same bytes without their padding.
    assert packed[0] == WITH_COLUMNS
    with pytest.raises(FormatMismatch, match="at most"):
        unpack_samples(packed[: rows // 2])


def test_nbytes_counts_shared_columns() -> None:
    assert metadata_columns.nbytes(columns_of(STEPS)) > 5 * 16
    assert metadata_columns.nbytes({}) == 0


def test_rows_with_and_without_metadata() -> None:
    columns = columns_of({1: b'{"a":1}'})
    assert texts(columns, np.array([0, 2])) == [None, None]
    assert texts(columns, np.array([0, 1])) == [None, b'{"a":1}']


METADATA = [
    {"step": 1, "epoch": 0},
    {"step": 2, "epoch": 0},
    {"step": 30, "epoch": 1.5, "note": "at 7"},
    {"note": "step 9"},
    {"step": "4"},
    {"step": True, "top5": 0.25},
    {"inner": {"step": 8}, "top5": 3},
    {"step": 1 << 60},
    {"step": 10**400},
    {"step": 1e300, "top1": 2, "top5": 9},
    {"long": "x" * 300, "step": 77},
    {"many": list(range(40)), "step": 78},
    {"step": -0.0},
]


@pytest.mark.parametrize("key", ["step", "epoch", "top5", "note", "inner", "nothing", ""])
@pytest.mark.parametrize("in_columns", [False, True])
def test_numbers_under_a_key(key: str, in_columns: bool) -> None:
    as_texts = {
        2 * row + 1: json.dumps(each, separators=(",", ":")).encode()
        for row, each in enumerate(METADATA)
    }
    metadata = columns_of(as_texts) if in_columns else as_texts
    found = metadata_columns.numbers(metadata, 2 * len(METADATA) + 1, key)
    expected = np.full(2 * len(METADATA) + 1, np.nan)
    for row, each in enumerate(METADATA):
        value: Any = each.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and value < 1e308:
            expected[2 * row + 1] = value
    np.testing.assert_array_equal(found, expected)


def test_numbers_without_metadata() -> None:
    assert np.isnan(metadata_columns.numbers({}, 3, "step")).all()


@pytest.mark.parametrize(
    ("parts", "columns", "expected"),
    [
        # What no worker writes: digits, a sign or a point around a number of the template.
        ((b'{"step":5', b"}"), [np.array([3, 4])], [53, 54]),
        ((b'{"step":-', b"}"), [np.array([3, 4])], [-3, -4]),
        ((b'{"step":1.', b"}"), [np.array([3, 4])], [1.3, 1.4]),
        ((b'{"step":', b"0}"), [np.array([3, 4])], [30, 40]),
        # Numbers that JSON does not have.
        ((b'{"step":1e99', b"9}"), [np.array([3, 4])], [math.nan, math.nan]),
        ((b'{"step":', b"}"), [np.array([math.inf, 4.5])], [math.nan, 4.5]),
    ],
)
def test_numbers_of_hostile_templates(
    parts: tuple[bytes, ...], columns: list[Any], expected: list[float]
) -> None:
    kinds = b"f" if columns[0].dtype == np.float64 else b"i"
    reader = Reader(msgpack.packb([2, 1, [[*parts, kinds]]]) + b"".join(
        (pack_real if kinds == b"f" else pack_whole)(column, dense=False) for column in columns
    ), 0, "test")  # fmt: skip
    metadata = metadata_columns.unpack(reader, len(reader.data), 2)
    found = metadata_columns.numbers(metadata, 2, "step")
    np.testing.assert_array_equal(found, expected)
