"""Percentiles of a year, of the digests that an archive keeps for each day."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from redismetrics.archive.digest_bytes import unpack_digest
from redismetrics.archive.rows import rollup_rows, series_of
from redismetrics.archive.state import group_of
from redismetrics.archive.target import open_target
from redismetrics.columnar import rollup_table
from redismetrics.columnar.digest import Digest
from redismetrics.columnar.rollup_table import GroupedPoints, Table
from redismetrics.columnar.summaries import of_points
from redismetrics.model.retention import DEFAULT_RETENTION
from redismetrics.model.time import DAY, HOUR, slot_of
from redismetrics.worker import merge
from tests.archive.tools import rows

DAYS, PER_HOUR = 365, 110
START = 1_800_000_000_000 // DAY * DAY
HOURS_POLICY, DAYS_POLICY = (DEFAULT_RETENTION.named(each) for each in ("hour", "day"))
PERCENTILES = (0, 1, 5, 25, 50, 75, 90, 95, 99, 99.9, 100)


def values_of(draw: np.random.Generator, day: int) -> Any:
    """Return the values of a day by series, shape (3, 24 * PER_HOUR); they drift over the year."""
    size = 24 * PER_HOUR
    slow = draw.random(size) < 0.1 + day / 1000
    return np.stack(
        [
            draw.lognormal(3 + day / 400, 1, size),
            np.where(slow, draw.normal(1000, 50, size), draw.normal(10, 1, size)),
            draw.integers(0, 5 + day // 30, size).astype(float),
        ]
    )


def hour_table(values: Any, start: int) -> Table:
    """Return the rows of one hour; *values* has shape (series, samples)."""
    series, _ = np.indices(values.shape)
    group, flat = series.ravel(), values.ravel()
    ones, times = np.ones(len(flat), np.int64), np.full(len(flat), start)
    points = GroupedPoints(group, flat, ones, ones.astype(np.bool_))
    numbers = np.arange(len(values))
    assert HOURS_POLICY is not None
    return rollup_table.merge(
        np.full(len(values), start),
        numbers,
        group,
        of_points(flat, ones, times),
        points,
        budget=HOURS_POLICY.points,
    )


def day_table(values: Any, start: int) -> Table:
    """Return the rows of one day, built of its hours as a worker does."""
    hours = [
        hour_table(part, start + hour * HOUR)
        for hour, part in enumerate(np.split(values, 24, axis=1))
    ]
    assert DAYS_POLICY is not None
    return merge.downsample_rows(rollup_table.concat(hours), start, DAYS_POLICY.points)


def merged(found: list[dict[str, Any]]) -> Digest:
    """Return the digest of many rows: it has the points of all of them."""
    parts = [unpack_digest(row["digest"]) for row in found]
    means = np.concatenate([part[0] for part in parts])
    weights = np.concatenate([part[1] for part in parts])
    clustered = np.concatenate([np.full(len(part[0]), part[2]) for part in parts])
    order = np.argsort(means, kind="stable")
    low, high = min(row["min"] for row in found), max(row["max"] for row in found)
    return Digest(means[order], weights[order], (clustered & (weights > 1))[order], low, high)


@cache
def year() -> tuple[Any, dict[int, Table]]:
    """Return the sorted values by series, and the rows of all days, by partition."""
    draw = np.random.default_rng(11)
    days = [values_of(draw, day) for day in range(DAYS)]
    assert DAYS_POLICY is not None
    partitions: dict[int, list[Table]] = {}
    for day, values in enumerate(days):
        start = START + day * DAY
        partition = slot_of(start, DAYS_POLICY.partition)
        partitions.setdefault(partition, []).append(day_table(values, start))
    tables = {start: rollup_table.concat(each) for start, each in partitions.items()}
    return np.sort(np.concatenate(days, axis=1)), tables


@pytest.mark.slow
def test_percentiles_of_a_year_are_within_one_per_cent_in_rank(to: str) -> None:
    values, tables = year()
    of = series_of("app", "latency", "histogram", {n: {"route": "abc"[n]} for n in range(3)})
    target = open_target(to)
    with target.claim("app", group_of("latency")) as session:
        assert session is not None
        for partition, table in tables.items():
            session.write("day", partition, rollup_rows(of, table))
        session.finish()
    target.close()
    found = rows(to, "day")
    assert len(found) == 3 * DAYS
    for number, route in enumerate("abc"):
        digest = merged([row for row in found if row["tags"]["route"] == route])
        assert digest.count == DAYS * 24 * PER_HOUR
        for p in PERCENTILES:
            value = digest.percentile(p)
            below, upto = (
                np.searchsorted(values[number], value, side=side) / values.shape[1]
                for side in ("left", "right")
            )
            assert below - 0.01 <= p / 100 <= upto + 0.01, (route, p, value)
