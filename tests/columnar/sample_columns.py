"""Columns of samples that tests of samples and blocks share."""

import struct
from dataclasses import fields
from typing import Any

import numpy as np

from redismetrics.columnar import summaries
from redismetrics.columnar.batch_stamp import BatchStamp, pack_stamp
from redismetrics.columnar.block_codec import pack
from redismetrics.columnar.samples import (
    Samples,
    summarise,
)
from redismetrics.columnar.summaries import Summaries

NOW_MS = 1_800_000_000_000


def columns(
    value: list[float],
    *,
    series: Any = 0,
    time: Any = NOW_MS,
    weight: Any = 1,
    flags: Any = 0,
    metadata: Any = None,
) -> Samples:
    """Return samples with these columns; a single number fills a column."""

    def column(given: Any, dtype: Any) -> Any:
        return np.full(len(value), given, dtype) if np.isscalar(given) else np.array(given, dtype)

    return Samples(
        column(series, np.int64),
        column(time, np.int64),
        np.array(value, np.float64),
        column(weight, np.int64),
        column(flags, np.uint8),
        metadata or {},
    )


def block(
    samples: Samples,
    *,
    clock_us: int = NOW_MS * 1000,
    bases: dict[int, tuple[float, float]] | None = None,
    ids: Any = None,
) -> bytes:
    """Return a block as record.lua writes it: head, then body."""
    ids = list(range(10, 11 + int(samples.series.max()))) if ids is None else ids
    based = list(bases or {})
    head = [
        pack_stamp(BatchStamp(clock_us, clock_us, 7, "writer")),
        struct.pack("<dddI", samples.count, int(samples.time.min()), 0, len(ids)),
        np.array(ids, "<u4").tobytes(),
        struct.pack("<I", len(based)),
        np.array(based, "<u4").tobytes(),
        np.array([bases[at] for at in based], "<f8").tobytes() if bases else b"",
    ]
    return b"".join(head) + pack(samples)


def assert_same(found: Samples, expected: Samples) -> None:
    for name in ("series", "time", "value", "weight", "flags", "summed", "summed_flags"):
        got, given_ = getattr(found, name), getattr(expected, name)
        assert got.dtype == given_.dtype, name
        np.testing.assert_array_equal(got, given_, name)
    for field in fields(Summaries):
        got, given_ = getattr(found.summaries, field.name), getattr(expected.summaries, field.name)
        assert got.dtype == given_.dtype, field.name
        # Sums beyond the largest float are inf or NaN.
        np.testing.assert_array_equal(got, given_, field.name)
    assert found.metadata == expected.metadata


def whole(samples: Samples) -> list[list[Any]]:
    """Return the merged summary of each series, column by column."""
    series, rows = summarise(samples)
    merged = summaries.merge(series, int(samples.series.max()) + 1, rows)
    return [getattr(merged, field.name).tolist() for field in fields(Summaries)]
