"""The samples in a block, for the series that a subscription selects."""

from dataclasses import dataclass
from typing import cast

import numpy as np

from redismetrics.columnar.arrays import Ints
from redismetrics.columnar.block_codec import Block
from redismetrics.columnar.samples import CENTROID
from redismetrics.model.sample import Gap, Sample, read_metadata
from redismetrics.model.time import to_datetime
from redismetrics.model.validation import MetricType

from .sizes import item_bytes, metadata_bytes

Tags = dict[str, str]


def count_selected(block: Block, tags: list[Tags | None]) -> int:
    """Return the number of samples in *block* of series whose *tags* are not None."""
    selected = np.array([each is not None for each in tags], np.bool_)
    return int(selected[block.samples.series].sum())


@dataclass(frozen=True, slots=True)
class BuiltSamples:
    """Samples of a block, with the approximate bytes of each.

    *missing* stands for older samples of the block that were not built.
    """

    samples: list[Sample]
    sizes: list[int]
    missing: Gap | None


def build_samples(
    name: str,
    kind: MetricType,
    block: Block,
    tags: list[Tags | None],
    limit: int,
    max_bytes: int,
) -> BuiltSamples:
    """Return the samples in *block* of series whose *tags* are not None.

    If there are more than *limit*, or they take more than *max_bytes*, return only the newest, at
    least one.
    """
    samples = block.samples
    rows = np.flatnonzero(np.array([each is not None for each in tags], np.bool_)[samples.series])
    sizes = _sizes(block, rows, tags)
    fitting = int((np.cumsum(sizes[::-1]) <= max_bytes).sum())
    surplus = max(len(rows) - min(limit, max(fitting, 1)), 0)
    missing = None
    if surplus:
        left_out = rows[:surplus]
        times = samples.time[left_out]
        missing = Gap(
            to_datetime(int(times.min())),
            to_datetime(int(times.max())),
            int(samples.weight[left_out].sum()),
        )
        rows, sizes = rows[surplus:], sizes[surplus:]
    return BuiltSamples(_build(name, kind, block, tags, rows), sizes.tolist(), missing)


def _sizes(block: Block, rows: Ints, tags: list[Tags | None]) -> Ints:
    """Return the approximate bytes of the sample in each of *rows*."""
    of_series = np.array([item_bytes(each or {}) for each in tags], np.int64)
    sizes = of_series[block.samples.series[rows]]
    if block.samples.metadata:
        metadata = block.samples.metadata
        sizes += [
            0 if (text := metadata.get(row)) is None else metadata_bytes(text)
            for row in rows.tolist()
        ]
    return sizes


def _build(
    name: str, kind: MetricType, block: Block, tags: list[Tags | None], rows: Ints
) -> list[Sample]:
    samples = block.samples
    times, weights = samples.time[rows].tolist(), samples.weight[rows]
    approximate = (samples.flags[rows] & CENTROID != 0) & (weights > 1)
    # Many samples have the same millisecond.
    datetimes = {time: to_datetime(time) for time in set(times)}
    columns = zip(
        samples.value[rows].tolist(),
        weights.tolist(),
        samples.series[rows].tolist(),
        times,
        map(samples.metadata.get, rows.tolist()),
        approximate.tolist(),
        strict=True,
    )
    return [
        Sample(
            name,
            kind,
            value,
            count,
            cast("Tags", tags[series]),
            datetimes[time],
            read_metadata(text),
            centroid,
        )
        for value, count, series, time, text, centroid in columns
    ]
