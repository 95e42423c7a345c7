"""The samples of a block, for those of its series that a subscription selects."""

from typing import cast

import numpy as np

from redismetrics.columnar.block_codec import Block
from redismetrics.columnar.samples import CENTROID
from redismetrics.model.sample import Sample, read_metadata
from redismetrics.model.time import to_datetime
from redismetrics.model.validation import MetricType

Tags = dict[str, str]


def count_selected(block: Block, tags: list[Tags | None]) -> int:
    """Return the number of samples of those series of *block* whose *tags* are not None."""
    selected = np.array([each is not None for each in tags], np.bool_)
    return int(selected[block.samples.series].sum())


def selected_samples(
    name: str, kind: MetricType, block: Block, tags: list[Tags | None]
) -> list[Sample]:
    """Return the samples of those series of *block* whose *tags* are not None."""
    samples = block.samples
    rows = np.flatnonzero(np.array([each is not None for each in tags], np.bool_)[samples.series])
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
