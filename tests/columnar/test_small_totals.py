"""Few changes folded in plain Python give the rows that numpy gives, byte for byte."""

import random
import struct

import numpy as np
import pytest

from redismetrics.columnar.batch_stamp import BatchStamp, pack_stamp, unpack_stamp
from redismetrics.columnar.small_columns import NotSmall
from redismetrics.columnar.small_totals import (
    MOST_BYTES,
    MOST_DOUBLES,
    add_few,
    folded,
    unpack_changes,
)
from redismetrics.columnar.totals import (
    HAS_OWN_TIME,
    SETS,
    TotalsTable,
    pack_counter,
    pack_gauge,
    pack_histogram,
    pack_summary,
    unpack_change,
)
from redismetrics.errors import FormatMismatch

SHAPES = {"counter": (3, 16), "gauge": (4, 16), "histogram": (10, 1), "summary": (4, 16)}
AMOUNTS = (0.1, 0.001, 7.0, 1e16, -3.3, 12_345.678, 1e-9)


def change(kind: str, rng: random.Random, number: int) -> bytes:
    n = rng.randint(0, 4)
    ids = [rng.randint(0, 40) for _ in range(n)]
    amounts = np.array([rng.choice(AMOUNTS) * rng.random() for _ in range(n)])
    if kind == "counter":
        body = pack_counter(amounts)
    elif kind == "gauge":
        codes = np.array([rng.choice([0, SETS, SETS | HAS_OWN_TIME]) for _ in range(n)], np.int64)
        times = np.array([1e12 + rng.randint(-5_000, 90_000) for _ in range(n)])
        body = pack_gauge(codes, times, amounts, np.zeros(n), np.zeros(n))
    elif kind == "summary":
        body = pack_summary(np.array([rng.randint(1, 99) for _ in range(n)], np.int64), amounts)
    else:
        cells = np.array([rng.randint(0, 3) for _ in range(n)], np.int64)
        buckets = np.array([each for size in cells for each in rng.sample(range(1, 7), size)])
        hits = np.array([rng.randint(1, 9) for _ in buckets], np.int64)
        counts = np.array([rng.choice([rng.randint(1, 99), 1 << 33]) for _ in range(n)], np.int64)
        body = pack_histogram(counts, amounts, cells, buckets.astype(np.int64), hits)
    clock = 10**15 + 1_000_001 * number
    stamp = pack_stamp(BatchStamp(clock, clock, number, "writer"))
    return stamp + body + np.array(ids, "<u4").tobytes()


@pytest.mark.parametrize("kind", SHAPES)
def test_few_changes_are_folded_as_many_are(kind: str) -> None:
    rng, shape = random.Random(kind), SHAPES[kind]
    size = shape[0] * shape[1]
    for _ in range(300):
        data = [change(kind, rng, number) for number in range(rng.randint(1, 12))]
        rows = {
            at: struct.pack(f"<{size}d", *(rng.choice((0.0, 3.7, 1e12)) for _ in range(size)))
            for at in rng.sample(range(3), rng.randint(0, 3))
        }
        expected = TotalsTable(*shape, rows, list(map(unpack_change, data))).packed()
        assert folded(*shape, rows, unpack_changes(data)) == expected


def test_damaged_changes_are_left_to_numpy() -> None:
    rng = random.Random(1)
    for _ in range(3_000):
        kind = rng.choice(list(SHAPES))
        shape, data = SHAPES[kind], bytearray(change(kind, rng, 1))
        for _ in range(rng.randint(1, 2)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            found = folded(*shape, {}, unpack_changes([bytes(data)]))
        except NotSmall:
            continue
        try:
            table = TotalsTable(*shape, {}, [unpack_change(bytes(data))])
        except (FormatMismatch, ValueError, IndexError) as error:
            raise AssertionError(f"numpy refuses {bytes(data)!r}: {error}") from error
        assert found == table.packed()


def test_large_changes_are_left_to_numpy() -> None:
    data = small_change(MOST_BYTES // 12 + 1)
    with pytest.raises(NotSmall):
        unpack_changes([small_change(1), data])


def test_many_rows_are_left_to_numpy_if_each_is_returned() -> None:
    shape = SHAPES["counter"]
    size = shape[0] * shape[1]
    rows = {number: bytes(8 * size) for number in range(MOST_DOUBLES // size + 1)}
    with pytest.raises(NotSmall):
        add_few(*shape, rows, [small_change(1)])


def test_changes_of_an_unknown_kind_are_counted() -> None:
    unknown = bytearray(small_change(1))
    unknown[unpack_stamp(bytes(unknown))[1]] = 77
    rows, count = add_few(3, 16, {}, [small_change(1), bytes(unknown)])
    assert (list(rows), rows[0][1], count) == ([0], 1.0, 1)


@pytest.mark.parametrize("amounts", [(1e308, 1e308), (-1e308, -1e308, 5.0)])
def test_sums_beyond_the_range_of_a_double_are_those_of_numpy(amounts: tuple[float, ...]) -> None:
    stamp = pack_stamp(BatchStamp(1_000, 1, 1, "writer"))
    data = stamp + pack_counter(np.array(amounts)) + np.zeros(len(amounts), "<u4").tobytes()
    expected = TotalsTable(3, 16, {}, [unpack_change(data)]).packed()
    assert folded(3, 16, {}, unpack_changes([data])) == expected


@pytest.mark.parametrize("kind", ["gauge", "histogram"])
def test_changes_of_a_kind_whose_rows_are_wider_are_left_to_numpy(kind: str) -> None:
    data = [change(kind, random.Random(2), 1)]
    with pytest.raises(NotSmall):
        folded(*SHAPES["counter"], {}, unpack_changes(data))


def small_change(n: int) -> bytes:
    stamp = pack_stamp(BatchStamp(1_000, 1, 1, "writer"))
    return stamp + pack_counter(np.ones(n)) + np.arange(n, dtype="<u4").tobytes()
