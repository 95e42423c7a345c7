"""A few samples merged in plain Python yield the same bytes as numpy."""

import random

import pytest

from redismetrics.columnar import block_codec
from redismetrics.columnar.rollup_codec import read_table
from redismetrics.columnar.sample_codec import read_samples
from redismetrics.columnar.samples import OWN_TIME, Samples
from redismetrics.columnar.small_columns import NotSmall
from redismetrics.errors import FormatMismatch
from redismetrics.model.retention import RetentionPolicy
from redismetrics.model.time import DAY, HOUR, MINUTE
from redismetrics.worker import small
from redismetrics.worker.batch import samples_by_hour
from redismetrics.worker.cells import packed_cells
from redismetrics.worker.limits import DEFAULT_LIMITS
from redismetrics.worker.merge import OPEN_FACTOR, Cell, CellKey, cell_keys, merge_into_cells
from tests.columnar.sample_columns import NOW_MS, block, columns

FINEST = RetentionPolicy.of(3 * HOUR, 3 * DAY, 90 * DAY, 900 * DAY).resolutions[0]
CHUNK = 8
VALUES = (0.0, 1.0, 2.5, 0.1, -7.25, 1e300, 3.0)

Packed = dict[CellKey, tuple[bytes, bytes | None]]


def some(rng: random.Random, rows: int) -> Samples:
    """Return samples of up to four series in up to two minutes."""
    choices = rng.choice((VALUES, (4.0,), (1.0, 2.0), (rng.random(), rng.random())))
    return columns(
        value=[rng.choice(choices) for _ in range(rows)],
        series=[rng.randint(0, rng.choice((0, 3))) for _ in range(rows)],
        time=[NOW_MS - rng.randint(0, rng.choice((3, 50_000, 90_000))) for _ in range(rows)],
        weight=[rng.choice((1, 1, 2, 40)) for _ in range(rows)],
        flags=[rng.choice((0, OWN_TIME)) for _ in range(rows)],
    )


def by_numpy(blocks: list[bytes], stored: Packed, limit: int) -> Packed:
    parts = [
        unpacked.samples.of_series(unpacked.ids) for unpacked in map(block_codec.unpack, blocks)
    ]
    before = {}
    for key in cell_keys(parts, CHUNK):
        table, exact = stored.get(key, (None, None))
        rows = read_table(table)
        if len(rows):
            before[key] = Cell(rows, read_samples(exact))
    cells = merge_into_cells(parts, before, CHUNK, FINEST, 0, limit)
    return packed_cells(cells, before)


def in_python(blocks: list[bytes], stored: Packed, limit: int) -> Packed:
    found = small.unpack_blocks(blocks)
    fields = {key: stored.get(key, (None, None)) for key in small.cell_keys(found, CHUNK)}
    return small.merge(found, fields, CHUNK, OPEN_FACTOR * FINEST.points, limit)


def test_few_samples_are_merged_as_many_are() -> None:
    rng, merged = random.Random(1), 0
    for _ in range(400):
        stored: Packed = {}
        limit = rng.choice((DEFAULT_LIMITS.samples_per_minute, 3))
        for _ in range(rng.randint(1, 4)):
            blocks = [
                block(some(rng, rng.randint(1, 6)), ids=[5, 7, 8, 19], clock_us=clock)
                for clock in (NOW_MS * 1000 - 30_000_000, NOW_MS * 1000)[: rng.randint(1, 2)]
            ]
            expected = by_numpy(blocks, stored, limit)
            try:
                assert in_python(blocks, stored, limit) == expected
                merged += 1
            except NotSmall:
                # Squares of these are beyond the largest float.
                assert any(
                    read_table(table).summaries.high.max() > 1e9 for table, _ in expected.values()
                )
            stored |= expected
    assert merged > 800


def test_samples_are_counted_by_hour_as_many_are() -> None:
    rng = random.Random(2)
    given = some(rng, 20)
    given.time[::2] -= HOUR
    given.flags[:] = OWN_TIME
    assert small.by_hour(small.unpack_blocks([block(given)])) == samples_by_hour([given])


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4))]
)
def test_damaged_data_is_left_to_numpy(seed: int) -> None:
    """Damaged data is rejected, or gives the same result as numpy."""
    rng = random.Random(seed)
    for _ in range(1_500):
        blocks = [block(some(rng, rng.randint(1, 5)), ids=[5, 7, 8, 19])]
        stored = by_numpy(blocks, {}, 100)
        key = rng.choice(list(stored))
        what = rng.randrange(3)
        data = bytearray((blocks[0], stored[key][0], stored[key][1] or b"")[what])
        if not data:
            continue
        for _ in range(rng.randint(1, 2)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if what == 0:
            blocks = [bytes(data)]
        elif what == 1:
            stored[key] = bytes(data), stored[key][1]
        else:
            stored[key] = stored[key][0], bytes(data)
        try:
            found = in_python(blocks, stored, 100)
        except NotSmall:
            continue
        assert found == by_numpy(blocks, stored, 100), (what, blocks, stored)


@pytest.mark.parametrize(
    "given",
    [
        columns(value=[1.0], time=NOW_MS, metadata={0: b'{"a":1}'}),
        columns(value=[-0.0, 0.0], time=NOW_MS),
        columns(value=[1.0] * (small.MAX_ROWS + 1), time=NOW_MS),
    ],
    ids=["metadata", "minus zero", "many rows"],
)
def test_other_samples_are_left_to_numpy(given: Samples) -> None:
    with pytest.raises(NotSmall):
        small.unpack_blocks([block(given)])


def test_crowded_rows_are_left_to_numpy() -> None:
    """Values are clustered by numpy."""
    stored: Packed = {}
    rng = random.Random(3)
    values = [rng.random() for _ in range(OPEN_FACTOR * FINEST.points + 1)]
    for at in range(0, len(values) - 1, 50):
        one = block(columns(value=values[at : at + 50], time=NOW_MS), ids=[5])
        if at + 50 >= len(values):
            break
        stored |= in_python([one], stored, 100)
    with pytest.raises(NotSmall):
        in_python([block(columns(value=values[-60:], time=NOW_MS), ids=[5])], stored, 100)


def test_corrupt_blocks_are_reported_by_numpy() -> None:
    data = block(columns(value=[1.0], time=NOW_MS))
    with pytest.raises(NotSmall):
        small.unpack_blocks([data[:-3]])
    with pytest.raises(FormatMismatch):
        block_codec.unpack(data[:-3])


def test_cells_equal_those_of_many_samples() -> None:
    given = some(random.Random(4), 30)
    found = small.unpack_blocks([block(given, ids=[0, 9, 20, 21])])
    part = block_codec.unpack(block(given, ids=[0, 9, 20, 21]))
    assert small.cell_keys(found, CHUNK) == cell_keys([part.samples.of_series(part.ids)], CHUNK)
    assert all(slot % MINUTE == 0 for slot, _ in small.cell_keys(found, CHUNK))
