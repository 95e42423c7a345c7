"""Encode a metric's batch for record.lua."""

import struct
from dataclasses import replace
from typing import NamedTuple

import msgpack
import numpy as np

from redismetrics.columnar import block_codec, totals
from redismetrics.columnar.arrays import bounds, is_zero, saturated
from redismetrics.columnar.process_values import VALUES
from redismetrics.columnar.samples import OWN_TIME, compress
from redismetrics.columnar.small_totals import GAUGE, SHARED
from redismetrics.model.options import Options
from redismetrics.store import keys

from . import exemplars
from .batch import MetricBatch, changes_of, merge_gauge_changes
from .known_series import KnownSeries
from .totals_changes import Changes, CounterChanges, GaugeChanges, SummaryChanges

# Rows per series and minute in a batch merged from very many flushes.
ROWS_WHEN_MERGED = 100


# Epoch, samples, flags, doubles in a row of totals, rows in a field of them.
_HEAD = struct.Struct("<ddBHB")
_INTRODUCED, _HAS_SHARED, _HAS_EXEMPLARS, _HAS_VALUES = 1, 2, 4, 8

# Samples, oldest_ms, newest_ms, number of series: the head of a block after its stamp.
_BLOCK_HEAD = struct.Struct("<dddI")
# Instead of the oldest time, if there are no samples.
_ANY_TIME = 1 << 53
_NO_OPTIONS = Options()
# For a block without changes of a shared value.
_NO_BASES = bytes(4)


class EncodedBatch(NamedTuple):
    """A metric's batch as arguments of record.lua, which describes them.

    Attributes:
        oldest_ms: Time of the oldest sample.
        newest_ms: Newest time that was given by a caller; 0 if there is none.
        introduction: Definition and series, if the metric is introduced.
        options: The options of the metric.
        exemplars: See lua/include/exemplars.lua; empty if there are none.
    """

    name: str
    oldest_ms: int
    newest_ms: int
    head: bytes
    change: bytes
    block: bytes
    introduction: tuple[bytes, ...] = ()
    options: Options = _NO_OPTIONS
    exemplars: bytes = b""


def encode(batch: MetricBatch, known: KnownSeries, values: bytes | None = None) -> EncodedBatch:
    """Encode a batch for record.lua.

    *known* are the series that Redis is known to have. If they include all series of the batch,
    with the same definition, only their ids are sent. *values* are the per-process values, sent
    instead of a change of the totals.
    """
    samples, changes = batch.samples, batch.changes
    if batch.is_repeated:
        assert values is not None, "BUG: no values to repeat"
        return _encoded(batch, known, (0, _ANY_TIME, 0), values, b"")
    if changes is None and batch.kind == "gauge":
        samples = merge_gauge_changes(samples)
    if len(samples) > block_codec.MAX_ROWS:
        # Merged from many flushes: more than a reader accepts.
        samples, changes = compress(samples, ROWS_WHEN_MERGED), None
    # The mean of a centroid may exceed the range of a float.
    value = saturated(samples.value)
    if value is not samples.value:
        samples = replace(samples, value=value)
    if values is None:
        values = _pack(changes_of(batch, samples) if changes is None else changes)
    newest_own = 0
    if not is_zero(samples.flags):
        own = samples.time[(samples.flags & OWN_TIME) != 0]
        newest_own = int(own.max()) if len(own) else 0
    times = (samples.count, bounds(samples.time)[0], newest_own)
    return _encoded(batch, known, times, values, block_codec.pack(samples))


def _encoded(
    batch: MetricBatch,
    known: KnownSeries,
    times: tuple[int, int, int],
    change: bytes,
    body: bytes,
) -> EncodedBatch:
    """Return the encoded batch; *times* are its number of samples, oldest and newest time."""
    count, oldest, newest_own = times
    ids = known.packed_ids(batch.canonicals) if batch.definition == known.definition else None
    introduction: tuple[bytes, ...] = ()
    is_introduced = ids is None
    if ids is None:
        ids, series = b"", list(map(known.ids.get, batch.canonicals))
        introduction = (batch.definition.pack(), _pack_series(batch.canonicals, series))
    has_shared = change[:2] == bytes([GAUGE, SHARED])
    has_values = change[0] == VALUES
    head = _HEAD.pack(
        known.epoch,
        count,
        _INTRODUCED * is_introduced
        + _HAS_SHARED * has_shared
        + _HAS_EXEMPLARS * bool(batch.exemplars)
        + _HAS_VALUES * has_values,
        *keys.totals_shape(batch.kind, len(batch.definition.buckets)),
    )
    block = b"".join(
        (
            _BLOCK_HEAD.pack(count, oldest, newest_own, len(batch.canonicals)),
            ids,
            b"" if has_shared else _NO_BASES,
            body,
            b"" if is_introduced else known.stamp,
        )
    )
    return EncodedBatch(
        batch.name,
        oldest,
        newest_own,
        head,
        change + ids,
        block,
        introduction,
        batch.definition.options if is_introduced else _NO_OPTIONS,
        exemplars.pack(batch.exemplars, batch.definition) if batch.exemplars else b"",
    )


def _pack_series(canonicals: list[bytes], ids: list[int | None]) -> bytes:
    """Return the series of an introduced metric: each id, or the tags if the id is unknown."""
    mixed = [
        canonical if known is None else known
        for canonical, known in zip(canonicals, ids, strict=True)
    ]
    packed: bytes = msgpack.packb(mixed, use_bin_type=False)
    return packed


def _pack(changes: Changes) -> bytes:
    """Return the changes of each series' totals, without stamp and ids."""
    if isinstance(changes, CounterChanges):
        return totals.pack_counter(changes.amount)
    if isinstance(changes, GaugeChanges):
        return totals.pack_gauge(
            changes.code, changes.time, changes.value, changes.change_time, changes.change
        )
    if isinstance(changes, SummaryChanges):
        return totals.pack_summary(changes.count, changes.total)
    buckets = changes.buckets
    cells = np.bincount(buckets.series, minlength=len(changes.count))
    return totals.pack_histogram(
        changes.count, changes.total, cells, buckets.bucket + 1, buckets.count
    )
