"""Totals: what Python adds up is what the script adds up, to the bit, in any mixture.

The oracle adds one amount after the other in plain floats. It takes what each addition loses from
exact fractions, so it knows nothing of two-sum.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from redismetrics.columnar.arrays import LARGEST
from redismetrics.columnar.batch_stamp import BatchStamp, pack_stamp
from redismetrics.columnar.small_columns import NotSmall
from redismetrics.columnar.small_totals import HAS_OWN_TIME, SETS, add_few
from redismetrics.columnar.totals import (
    TotalsTable,
    field_name,
    pack_counter,
    pack_gauge,
    pack_histogram,
    pack_summary,
    split_live,
    unpack_change,
)
from redismetrics.store.keys import totals_shape
from redismetrics.store.scripts import expand
from tests.fixtures.servers import Server

Kind = Literal["counter", "gauge", "histogram", "summary"]
KINDS: tuple[Kind, ...] = ("counter", "gauge", "histogram", "summary")
BUCKETS = 3
# A clock in us, of 2026.
CLOCK = 1_790_000_000_000_000
LUA = Path(__file__).parents[2] / "lua"

# Fold as record.lua does. KEYS[1] is a `live` hash; ARGV: doubles in a row, rows in a field, number
# of the oldest change, number of the next change, most changes to fold.
FOLD = """
local rows = open_rows(KEYS[1], struct.pack('<I2B', ARGV[1], ARGV[2]), 1)
local state = unpack_state(false)
state[FIRST_CHANGE], state[NEXT_CHANGE] = tonumber(ARGV[3]), tonumber(ARGV[4])
local fold = fold_changes(rows, state, tonumber(ARGV[5]), math.huge)
if fold then
  write_fold(rows, state, fold)
end
return state[FIRST_CHANGE]
"""


@dataclass
class Part:
    """What a batch adds to one series: the columns of a change at one place."""

    id: int
    amount: float = 0.0
    code: int = SETS
    time_ms: int = 0
    count: int = 0
    hits: dict[int, int] = field(default_factory=dict)


def packed_change(kind: Kind, number: int, parts: Sequence[Part]) -> bytes:
    """Return the bytes that record.lua appends for a batch."""
    stamp = pack_stamp(BatchStamp(clock_of(number), clock_of(number), number + 1, "w"))
    amounts = np.array([part.amount for part in parts])
    ids = struct.pack(f"<{len(parts)}I", *(part.id for part in parts))
    if kind == "counter":
        return stamp + pack_counter(amounts) + ids
    if kind == "gauge":
        codes = np.array([part.code for part in parts], np.uint8)
        times = np.array([part.time_ms for part in parts])
        none = np.zeros(len(parts))
        return stamp + pack_gauge(codes, times, amounts, none, none) + ids
    if kind == "summary":
        return stamp + pack_summary(np.array([part.count for part in parts]), amounts) + ids
    return (
        stamp
        + pack_histogram(
            np.array([part.count for part in parts]),
            amounts,
            np.array([len(part.hits) for part in parts]),
            np.array([bucket for part in parts for bucket in part.hits], np.int64),
            np.array([hits for part in parts for hits in part.hits.values()], np.int64),
        )
        + ids
    )


def clock_of(number: int) -> int:
    return CLOCK + 1_000_777 * number


class Oracle:
    """The rows of all series by id, worked out one addition after the other."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.width = totals_shape(kind, BUCKETS)[0]
        self.rows: dict[int, list[float]] = {}

    def add(self, number: int, parts: Sequence[Part]) -> None:
        clock = clock_of(number)
        for part in parts:
            is_new = part.id not in self.rows
            row = self.rows.setdefault(part.id, [0.0] * self.width)
            row[0] = float(clock // 1000)
            if self.kind == "gauge":
                time_ms = part.time_ms
                if part.code < HAS_OWN_TIME:
                    time_ms = min(time_ms, clock // 1000)
                if part.code & SETS and (is_new or time_ms >= row[2]):
                    row[1:] = part.amount, float(time_ms), float(clock)
                continue
            at = 1
            if self.kind in ("histogram", "summary"):
                row[1], at = row[1] + part.count, 2
            if self.kind == "histogram":
                for bucket, hits in part.hits.items():
                    row[3 + bucket] += hits
            row[at : at + 2] = added(row[at], row[at + 1], part.amount)

    def bits(self) -> dict[int, bytes]:
        return {number: struct.pack(f"<{self.width}d", *row) for number, row in self.rows.items()}


def added(total: float, remainder: float, amount: float) -> tuple[float, float]:
    """Return total and remainder after an addition; a sum beyond a float is the largest one."""
    whole = total + amount
    if abs(whole) == float("inf"):
        return (LARGEST if whole > 0 else -LARGEST), 0.0
    return whole, remainder + float(Fraction(total) + Fraction(amount) - Fraction(whole))


class Live:
    """The hash `live` of one metric on a server, and the number of its oldest change."""

    def __init__(self, client: redis.Redis, kind: Kind) -> None:
        self.client, self.kind, self.key = client, kind, "totals-test"
        self.shape = totals_shape(kind, BUCKETS)
        self.first = self.next = 0
        self.fold = client.register_script(expand(LUA, "include/fold") + FOLD)
        client.delete(self.key)

    def append(self, change: bytes) -> None:
        self.client.hset(self.key, field_name(self.next), change)  # type: ignore[arg-type]
        self.next += 1

    def fold_by_script(self, most: int) -> None:
        self.first = self.fold([self.key], [*self.shape, self.first, self.next, most])

    def fold_by_worker(self, most: int) -> None:
        """Fold as a worker does: the rows that the changes touch, in one transaction."""
        numbers = list(map(field_name, range(self.first, min(self.first + most, self.next))))
        if not numbers:
            return
        live = self.client.hgetall(self.key)
        rows = split_live(live).rows
        changes = [unpack_change(live[number]) for number in numbers]
        touched = {
            number // self.shape[1]
            for change in changes
            if change is not None
            for number in change.ids.tolist()
        }
        known = {number: rows[number] for number in touched if number in rows}
        flat = TotalsTable(*self.shape, known, changes).packed()
        with self.client.pipeline() as pipeline:
            pipeline.execute_command("HSET", self.key, *flat)
            pipeline.hdel(self.key, *numbers)
            pipeline.execute()
        self.first += len(numbers)

    def bits(self) -> dict[int, bytes]:
        """Return each row in use as a reader of the page adds it up; with numpy and without."""
        table = self._table()
        found = {
            number: row.tobytes()
            for number, row in zip(table.ids.tolist(), table.values, strict=True)
            if row[0]
        }
        live = split_live(self.client.hgetall(self.key))
        try:
            few, unknown = add_few(*self.shape, live.rows, live.changes)
        except NotSmall:
            return found
        assert unknown == 0
        assert list(few) == sorted(few)
        form = struct.Struct(f"<{self.shape[0]}d")
        assert {number: form.pack(*row) for number, row in few.items()} == found
        return found

    def sums(self) -> NDArray[np.float64]:
        """Return what the page shows of each series: sum, count and buckets; shape (n, width)."""
        table, at = self._table(), 1 if self.kind == "counter" else 2
        assert table.ids.tolist() == list(range(len(table.ids)))
        shown: NDArray[np.float64] = table.values
        shown[:, at] += shown[:, at + 1]
        shown[:, at + 1] = 0
        return shown

    def _table(self) -> TotalsTable:
        found = split_live(self.client.hgetall(self.key))
        assert len(found.changes) == self.next - self.first
        return TotalsTable(*self.shape, found.rows, list(map(unpack_change, found.changes)))


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


# An overflow series occurs several times in a change; fields of 16 rows are shared.
IDS = st.sampled_from([0, 1, 2, 3, 15, 16, 40])
THOUSANDTHS = st.integers(0, 10**6).map(lambda amount: amount / 1000)
AMOUNTS = st.one_of(
    THOUSANDTHS,
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([LARGEST, -LARGEST, 5e-324, 2.0**53, 1.0]),
)
# The larger ones, and numbers of buckets, need the wide layout.
COUNTS = st.one_of(st.integers(0, 300), st.sampled_from([1 << 32, (1 << 53) - 1]))
TIMES = st.integers(-3_000, 9_000).map(lambda ms: CLOCK // 1000 + ms)


@st.composite
def parts(draw: st.DrawFn) -> Part:
    return Part(
        draw(IDS),
        draw(AMOUNTS),
        draw(st.sampled_from([0, SETS, SETS + HAS_OWN_TIME])),
        draw(TIMES),
        draw(COUNTS),
        draw(st.dictionaries(st.integers(1, BUCKETS), COUNTS.map(lambda hits: hits + 1))),
    )


# A list of parts is a change; a tuple says who folds, and how many changes at most.
STEPS = st.lists(
    st.one_of(
        st.lists(parts(), min_size=1, max_size=8),
        st.tuples(st.sampled_from(["script", "worker"]), st.integers(1, 4)),
    ),
    max_size=25,
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(steps=[[Part(0, LARGEST), Part(0, LARGEST), Part(0, -1.0)], ("script", 1)])
@example(steps=[[Part(0, LARGEST)], [Part(0, LARGEST)], ("worker", 2), [Part(0, -0.001)]])
@example(steps=[[Part(0, 0.1)], [Part(0, 0.2)], [Part(0, 0.3)], ("worker", 3)])
@given(steps=STEPS)
def test_totals_are_bit_identical_however_they_are_folded(
    client: redis.Redis, kind: Kind, steps: list[list[Part] | tuple[str, int]]
) -> None:
    live, oracle = Live(client, kind), Oracle(kind)
    for step in steps:
        if isinstance(step, list):
            oracle.add(live.next, step)
            live.append(packed_change(kind, live.next, step))
        elif step[0] == "script":
            live.fold_by_script(step[1])
        else:
            live.fold_by_worker(step[1])
        assert live.bits() == oracle.bits()


def packed_columns(
    kind: Kind, number: int, ids: NDArray[np.int64], amounts: NDArray[np.float64]
) -> bytes:
    """Return a change that adds one amount to each of these series."""
    stamp = pack_stamp(BatchStamp(clock_of(number), clock_of(number), number + 1, "w"))
    ones = np.ones(len(ids), np.int64)
    columns = pack_counter(amounts)
    if kind == "histogram":
        columns = pack_histogram(ones, amounts, ones, 1 + (ids + number) % BUCKETS, ones)
    elif kind == "summary":
        columns = pack_summary(ones, amounts)
    return stamp + columns + ids.astype("<u4").tobytes()


@pytest.mark.parametrize("kind", ["counter", "histogram", "summary"])
def test_sums_never_go_down_in_100_000_folds(client: redis.Redis, kind: Kind) -> None:
    """Fold amounts of three decimals of 2,000 series 50 times; one series is in each change twice.

    The page is read after each fold, and must show what it showed before it.
    """
    generator = np.random.default_rng(5)
    live, series = Live(client, kind), 2_000
    shown = live.sums()
    for _ in range(50):
        for _ in range(int(generator.integers(1, 5))):
            ids = generator.permutation(np.append(np.arange(series), 7))
            amounts = generator.exponential(40, len(ids)).round(3)
            live.append(packed_columns(kind, live.next, ids, amounts))
        now = live.sums()
        assert (now[: len(shown)] >= shown).all()
        fold = live.fold_by_script if generator.random() < 0.5 else live.fold_by_worker
        fold(int(generator.integers(1, 5)))
        shown = live.sums()
        assert (shown == now).all()
    assert len(shown) >= series
