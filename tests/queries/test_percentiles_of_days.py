"""Percentiles of a day that was downsampled from 24 hours and 1,440 minutes.

Each resolution is packed and unpacked, as a worker does.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from redismetrics.columnar import rollup_table
from redismetrics.columnar.percentiles import SortedPoints, percentiles
from redismetrics.columnar.rollup_codec import pack_table, unpack_table
from redismetrics.columnar.rollup_table import CLUSTERED, Table
from redismetrics.columnar.samples import Samples, no_samples
from redismetrics.model.retention import RetentionPolicy
from redismetrics.model.time import DAY, HOUR, MINUTE
from redismetrics.worker import merge
from redismetrics.worker.merge import Cell, CellKey

pytestmark = pytest.mark.slow

START = 1_800_000_000_000 // DAY * DAY
MINUTES, HOURS, DAYS = RetentionPolicy.of(3 * HOUR, 3 * DAY, 90 * DAY, 900 * DAY).resolutions
A_MINUTE, A_DAY = 300, 300 * 1440
RANKS = np.array([0.5, 0.9, 0.95, 0.99])

# Floats of shape (432000,), in the order of recording.
Values = Any


def bimodal(rng: np.random.Generator) -> Values:
    return np.where(rng.random(A_DAY) < 0.7, rng.normal(10, 1, A_DAY), rng.normal(1000, 50, A_DAY))


def timeouts(rng: np.random.Generator) -> Values:
    """Two narrow modes, far apart."""
    return np.where(rng.random(A_DAY) < 0.7, rng.normal(10, 1, A_DAY), rng.normal(30_000, 1, A_DAY))


DISTRIBUTIONS: dict[str, Callable[[np.random.Generator], Values]] = {
    "normal": lambda rng: rng.normal(100, 15, A_DAY),
    "lognormal": lambda rng: rng.lognormal(3, 1, A_DAY),
    "pareto": lambda rng: 1 + rng.pareto(1.5, A_DAY),
    "uniform": lambda rng: rng.uniform(0, 1000, A_DAY),
    "bimodal": bimodal,
    "timeouts": timeouts,
}
# In the other distributions, values of close ranks may be far apart.
SMOOTH = ("normal", "lognormal", "pareto", "uniform")


def read(table: Table) -> Table:
    return unpack_table(pack_table(table))


def sealed_minutes(values: Values, hour: int, slices: int) -> Table:
    """Return the minutes of an hour, each sealed in *slices* parts.

    *values* has shape (series, samples of the day); each distribution is a series.
    """
    of_hour = slice(hour * A_DAY // 24, (hour + 1) * A_DAY // 24)
    series, samples = np.indices(values[:, of_hour].shape)
    time = START + hour * HOUR + samples * MINUTE // A_MINUTE
    in_slice = samples % A_MINUTE * slices // A_MINUTE
    held: dict[CellKey, Cell] = {}
    for number in range(slices):
        inside = in_slice == number
        ones = np.ones(int(inside.sum()), np.int64)
        part = Samples(
            series[inside], time[inside], values[:, of_hour][inside], ones, ones.astype(np.uint8)
        )
        became = merge.merge_into_cells([part], held, 128, MINUTES, START + DAY, 100)
        # Packed at once: the same bytes for each row as one by one, and ten times as fast.
        every = read(rollup_table.concat([cell.table for cell in became.values()]))
        held = {place: Cell(every.take(every.slot == place[0]), no_samples()) for place in became}
    assert len(held) == 60
    assert all(len(cell.samples) == 0 for cell in became.values())
    return every


@cache
def day_of(seed: int, slices: int) -> tuple[Values, Table]:
    """Return the sorted values of a day by distribution, and the table of that day."""
    values = np.stack(
        [draw(np.random.default_rng((seed, at))) for at, draw in enumerate(DISTRIBUTIONS.values())]
    )
    hours = []
    for hour in range(24):
        minutes = sealed_minutes(values, hour, slices)
        # As when an hour is downsampled again after late data: its minutes are in the segment.
        if slices > 1:
            minutes = read(merge.segment_rows(minutes, MINUTES.points))
        hours.append(read(merge.downsample_rows(minutes, START + hour * HOUR, HOURS.points)))
    return np.sort(values), read(
        merge.downsample_rows(rollup_table.concat(hours), START, DAYS.points)
    )


def day_percentiles(day: Table, series: int) -> Values:
    row = day.take(day.series == series)
    run = SortedPoints(
        np.zeros(1, np.int64),
        row.size,
        row.points.values,
        row.points.weights,
        row.kind == CLUSTERED,
    )
    return percentiles([run], row.summaries.low, row.summaries.high, RANKS)[0]


def rank_errors(values: Values, found: Values) -> Values:
    """Return how far the rank of each percentile is from the requested one, as a share of all."""
    below, upto = (
        np.searchsorted(values, found, side=side) / len(values) for side in ("left", "right")
    )
    return np.maximum(np.maximum(below - RANKS, RANKS - upto), 0)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("slices", [1, 12])
def test_percentiles_of_a_day_are_accurate(name: str, slices: int) -> None:
    number = list(DISTRIBUTIONS).index(name)
    every, day = day_of(1, slices)
    values, found = every[number], day_percentiles(day, number)
    rows = day.summaries
    assert (rows.count[number], rows.low[number], rows.high[number]) == (
        A_DAY,
        values[0],
        values[-1],
    )
    assert rows.total[number] == pytest.approx(values.sum(), rel=1e-12)
    assert np.sqrt(rows.m2[number] / A_DAY) == pytest.approx(values.std(), rel=1e-6)
    assert day.size[number] <= DAYS.points
    assert rank_errors(values, found).max() < 0.0005
    if name in SMOOTH:
        np.testing.assert_allclose(found, np.quantile(values, RANKS), rtol=0.01)
