"""A Parquet file of an archive and its replacement."""

from collections.abc import Sequence
from datetime import UTC, datetime
from os import fsync
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .arrow_tables import RAW, ROLLUP, raw_table, rollup_table, series_texts
from .rows import RawRows, RollupRows

# Bytes of a row group before compression. Readers skip whole row groups; each costs a few kB.
_ROW_GROUP_BYTES = 8 << 20
# Columns with repeating values.
_DICTIONARIES = ["namespace", "metric", "type", "series"]


def partition_name(level: str, partition_ms: int) -> str:
    """Return the folder of a partition: its first hour or day."""
    start = datetime.fromtimestamp(partition_ms / 1000, UTC)
    return start.strftime("%Y-%m-%d" if level in ("hour", "day") else "%Y-%m-%dT%H")


class Replacement:
    """A new version of a file, written beside it until `finish`.

    Rows that were added replace the old ones of the same series and slot.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new = path.with_suffix(".new")
        self._writer: Any = None
        self._replaced: list[Any] = []
        self._waiting: list[Any] = []
        self.waiting_bytes = 0

    def add(self, rows: RollupRows | RawRows) -> None:
        """Add rows of some series; no series and slot may be added twice."""
        self._open(RAW if isinstance(rows, RawRows) else ROLLUP)
        self._put(raw_table(rows) if isinstance(rows, RawRows) else rollup_table(rows))
        series, slot = rows.replaced if isinstance(rows, RawRows) else (rows.series, rows.slot)
        self._replaced.append(_keys(series_texts(rows.of, series), pa.array(slot)))

    def _open(self, schema: Any) -> None:
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(
                self._new, schema, compression="zstd", use_dictionary=_DICTIONARIES
            )

    def _put(self, table: Any) -> None:
        if not len(table):
            return
        self._waiting.append(table)
        self.waiting_bytes += table.nbytes
        if self.waiting_bytes >= _ROW_GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait for a row group to be full."""
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting, self.waiting_bytes = [], 0

    def finish(self) -> None:
        """Add the old rows that are not replaced, and replace the file."""
        if self._path.exists():
            replaced = pa.concat_arrays(self._replaced)
            with pq.ParquetFile(self._path) as old:
                for number in range(old.num_row_groups):
                    # Each of pyarrow's threads keeps memory of its own.
                    table = old.read_row_group(number, use_threads=False)
                    keys = _keys(
                        table["series"].combine_chunks(),
                        table["slot"].combine_chunks().cast(pa.int64()),
                    )
                    self._put(table.filter(pc.invert(pc.is_in(keys, value_set=replaced))))
        self.flush()
        self._writer.close()
        with self._new.open("rb") as file:
            fsync(file.fileno())
        self._new.replace(self._path)

    def discard(self) -> None:
        """Remove the new version."""
        if self._writer is not None:
            self._writer.close()
        self._new.unlink(missing_ok=True)


def _keys(series: Any, slot: Any) -> Any:
    """Return one text for each series and slot."""
    texts = series.cast(pa.string())
    return pc.binary_join_element_wise(texts, slot.cast(pa.string()), "/")


def read_totals(
    path: Path, level: str, series: Sequence[UUID]
) -> dict[tuple[UUID, int], tuple[int, float]]:
    """Return count and sum of the rows of these series in one file, by series and slot in ms."""
    if not path.exists():
        return {}
    value = "value" if level == "raw" else "sum"
    # As one file, not as a data set, which would take folder names for columns.
    with pq.ParquetFile(path) as file:
        table = file.read(columns=["series", "slot", "count", value])
    chosen = pa.array([str(each) for each in series], pa.string())
    table = table.filter(pc.is_in(table["series"], value_set=chosen))
    found: dict[tuple[UUID, int], tuple[int, float]] = {}
    for text, slot, count, each in zip(
        table["series"].to_pylist(),
        table["slot"].cast(pa.int64()).to_pylist(),
        table["count"].to_pylist(),
        table[value].to_pylist(),
        strict=True,
    ):
        before, total = found.get((UUID(text), slot), (0, 0.0))
        added = each * count if level == "raw" else each
        found[UUID(text), slot] = before + count, total + added
    return found
