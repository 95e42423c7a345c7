"""Choose and decode the blocks that one commit seals."""

from dataclasses import dataclass

import numpy as np

from redismetrics.columnar import block_codec
from redismetrics.columnar.samples import Samples
from redismetrics.columnar.small_columns import NotSmall
from redismetrics.errors import FormatMismatch
from redismetrics.model.time import HOUR
from redismetrics.store.metric_keys import MetricLocation

from . import merge, small
from .commit import MetricVersion
from .limits import WorkerLimits
from .merge import CellKey


@dataclass(frozen=True, slots=True)
class Batch:
    """The samples sealed by one commit.

    Attributes:
        blocks: Number of blocks, from the oldest one on.
        samples: Number of samples in them.
        late: Number of those samples whose minute had expired.
        by_hour: Number of samples to store, by the start of their hour in ms.
        cells: Minutes and chunks that they fall into.
        parts: The samples to store.
        few: The same as a plain list, if there are few; then *parts* is empty.
    """

    blocks: int
    samples: int
    late: int
    by_hour: dict[int, int]
    cells: list[CellKey]
    parts: list[Samples]
    few: list[small.Sample] | None = None


def small_batch(
    metric: MetricLocation,
    seen: MetricVersion,
    log: list[tuple[bytes, bytes]],
    chunk_series: int,
    limits: WorkerLimits,
) -> Batch | None:
    """Return all blocks as plain lists; None if numpy must be used."""
    try:
        samples = small.unpack_blocks([data for data, _ in log])
    except NotSmall:
        return None
    cells = small.cell_keys(samples, chunk_series)
    retention = metric.retention
    if (
        cells[0][0]
        < max(retention.finest.kept_from(seen.now_ms), retention.raw.kept_from(seen.now_ms))
        or len(cells) > limits.cells_per_commit
        or len(samples) > limits.rows_per_commit
        or sum(len(data) for data, _ in log) > limits.bytes_per_commit
    ):
        return None
    by_hour = small.by_hour(samples)
    return Batch(len(log), sum(by_hour.values()), 0, by_hour, cells, [], samples)


def _decode(
    log: list[tuple[bytes, bytes]], chunk_series: int, limits: WorkerLimits
) -> tuple[int, list[Samples]]:
    """Decode blocks until a commit would become too large, or up to a corrupt block.

    A corrupt block stays in the log, because a newer worker may know its version. It is removed and
    counted when the log is cut because of age or size. Returns the number of blocks, and their
    samples.

    Raises:
        FormatMismatch: If the first block is corrupt.
    """
    parts: list[Samples] = []
    # Samples of the last blocks, as long as these are small.
    few: list[small.Sample] = []
    count, size, rows, cells = 0, 0, 0, set[CellKey]()
    for data, _ in log:
        size += len(data)
        if count and size > limits.bytes_per_commit:
            break
        before, samples = len(few), None
        try:
            small.unpack_block(data, few)
            found = small.cell_keys(few[before:], chunk_series)
            rows += len(few) - before
        except NotSmall:
            try:
                block = block_codec.unpack(data)
            except FormatMismatch:
                if not count:
                    raise
                break
            samples = block.samples.of_series(block.ids)
            found = merge.cell_keys([samples], chunk_series)
            rows += len(samples)
        known = len(cells)
        cells.update(found)
        is_wide = known < len(cells) > limits.cells_per_commit
        if count and (is_wide or rows > limits.rows_per_commit):
            del few[before:]
            break
        if samples is not None:
            parts += [small.as_columns(few)] if few else []
            parts.append(samples)
            few = []
        count += 1
    parts += [small.as_columns(few)] if few else []
    return count, parts


def whole_batch(
    metric: MetricLocation,
    seen: MetricVersion,
    log: list[tuple[bytes, bytes]],
    chunk_series: int,
    limits: WorkerLimits,
) -> Batch:
    """Decode the blocks that one commit seals."""
    blocks, decoded = _decode(log, chunk_series, limits)
    parts, late = _kept(decoded, metric.retention.finest.kept_from(seen.now_ms))
    return Batch(
        blocks,
        sum(samples.count for samples in decoded),
        late,
        samples_by_hour(parts),
        merge.cell_keys(parts, chunk_series),
        parts,
    )


def _kept(parts: list[Samples], from_ms: int) -> tuple[list[Samples], int]:
    """Return the samples from *from_ms* on, and the number of older, expired ones."""
    kept, late = [], 0
    for part in parts:
        keep = part.time >= from_ms
        late += int(part.weight[~keep].sum())
        rest = part if keep.all() else part.take(keep, part.summaries.last_ms >= from_ms)
        kept += [rest] if len(rest) else []
    return kept, late


def samples_by_hour(parts: list[Samples]) -> dict[int, int]:
    """Return the number of samples by the start of their hour, in ms."""
    found: dict[int, int] = {}
    for part in parts:
        hours = part.time // HOUR * HOUR
        for hour in np.unique(hours).tolist():
            found[hour] = found.get(hour, 0) + int(part.weight[hours == hour].sum())
    return found
