"""Fields of the hash `live`, and changes of kinds that a newer version wrote."""

import struct

import numpy as np
import pytest

from redismetrics.columnar.batch_stamp import BatchStamp, pack_stamp
from redismetrics.columnar.totals import (
    Change,
    TotalsTable,
    is_known,
    pack_counter,
    pack_gauge,
    pack_histogram,
    pack_summary,
    split_live,
    unpack_change,
)

STAMP = pack_stamp(BatchStamp(1_800_000_000_000_000, 1_800_000_000_000_000, 7, "writer"))


def counter_change(amount: float) -> bytes:
    return STAMP + pack_counter(np.array([amount])) + struct.pack("<I", 0)


def unknown_change(kind: int = 9, layout: int = 0) -> bytes:
    return STAMP + struct.pack("<BBII", kind, layout, 1, 0) + struct.pack("<dI", 2.5, 0)


def test_fields_are_sorted_by_what_they_hold() -> None:
    found = split_live(
        {
            b"12": b"rows",
            b"+10": b"c",
            b"+9": b"b",
            b"first": b"9",
            b"3 writer": b"value",
            b"3 another one": b"value",
            b"4 ": b"of processes that are gone",
            b"word": b"",
            b"x y": b"",
        }
    )
    assert found.rows == {12: b"rows"}
    assert found.changes == [b"b", b"c"]
    assert found.values == {3: [b"3 writer", b"3 another one"], 4: [b"4 "]}
    assert found.skipped == 5


@pytest.mark.parametrize(("kind", "layout"), [(5, 0), (255, 0), (1, 1), (2, 9), (3, 2), (4, 1)])
def test_unknown_kinds_and_layouts_are_not_decoded(kind: int, layout: int) -> None:
    data = unknown_change(kind, layout)
    assert unpack_change(data) is None
    assert not is_known(data)


@pytest.mark.parametrize(
    "change",
    [
        pack_counter(np.ones(1)),
        pack_gauge(np.full(1, 2), np.ones(1), np.ones(1), np.zeros(1), np.zeros(1)),
        pack_histogram(np.ones(1), np.ones(1), np.ones(1, int), np.ones(1, int), np.ones(1)),
        pack_summary(np.ones(1), np.ones(1)),
        pack_histogram(np.array([1e12]), np.ones(1), np.ones(1, int), np.ones(1, int), np.ones(1)),
    ],
)
def test_known_data_is_decoded(change: bytes) -> None:
    data = STAMP + change + struct.pack("<I", 0)
    assert is_known(data)
    assert isinstance(unpack_change(data), Change)


def test_unknown_changes_are_skipped_and_counted() -> None:
    changes = [counter_change(1), unknown_change(), counter_change(4), unknown_change(10)]
    table = TotalsTable(3, 16, {}, list(map(unpack_change, changes)))
    assert table.values[0, 1] == 5
    assert table.unknown == 2
