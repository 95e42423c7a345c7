"""Collect the rows that answer a question from batches of pyarrow."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from redismetrics.columnar.arrays import Ints
from redismetrics.columnar.summaries import Summaries
from redismetrics.queries.older import OlderQuestion

from .reading import MAX_DIGEST_BYTES, MAX_DIGESTS, MAX_ROWS, Found, RowColumns, too_many

# Columns of `Summaries`, in their order, and their names in a batch.
NUMBERS = ("count", "sum", "m2", "min", "max", "last", "last_time")


class RowCollector:
    """Collects and counts the rows of the series that a question asks for.

    Attributes:
        columns: The columns that batches must have; times are in ms.
    """

    def __init__(self, question: OlderQuestion) -> None:
        self._question = question
        self._with_points = question.wanted.with_points
        self._columns: dict[str, list[Any]] = {
            name: [] for name in ("width", "number", "slot", *NUMBERS)
        }
        self._digests: list[bytes] = []
        self._rows = self._bytes = 0
        self.columns = ["series", "slot", *NUMBERS, *(["digest"] if self._with_points else [])]

    def add(self, width: int | Ints, batch: Any, numbers: Ints, ranges: Ints | None = None) -> None:
        """Add the rows of a batch whose number is not -1 and whose slot is in *ranges*.

        Args:
            width: Length of the slots, in ms; one for all rows, or shape (rows,).
            batch: Has at least `columns`.
            numbers: The number of the series of each row, see `series_numbers`.
            ranges: Ascending ranges [begin, end) in ms, shape (ranges, 2); None: all.

        Raises:
            TooManyRows: If they are more than one question may read.
        """
        slot = _whole(batch["slot"])
        chosen = numbers >= 0
        if ranges is not None:
            of_range = np.searchsorted(ranges[:, 0], slot, side="right") - 1
            chosen &= (of_range >= 0) & (slot < ranges[of_range, 1])
        count = int(chosen.sum())
        self._rows += count
        if self._rows > (MAX_DIGESTS if self._with_points else MAX_ROWS):
            raise too_many(self._question.name)
        self._columns["width"].append(np.broadcast_to(width, len(slot))[chosen])
        self._columns["number"].append(numbers[chosen])
        self._columns["slot"].append(slot[chosen])
        for name in NUMBERS:
            column = batch[name]
            if pa.types.is_timestamp(column.type):
                column = column.cast(pa.int64())
            self._columns[name].append(column.to_numpy(zero_copy_only=False)[chosen])
        if self._with_points:
            digests = batch["digest"].filter(pa.array(chosen)).cast(pa.binary()).to_pylist()
            self._digests += digests
            self._bytes += sum(map(len, digests))
            if self._bytes > MAX_DIGEST_BYTES:
                raise too_many(self._question.name)

    def found(
        self,
        firsts: dict[str, int],
        settled: dict[str, int],
        series: list[tuple[str, dict[str, str]]],
    ) -> Found:
        """Return all rows that were added; *series* are type and tags by number."""
        columns: dict[str, Any] = {
            name: np.concatenate(parts) if parts else np.zeros(0, np.int64)
            for name, parts in self._columns.items()
        }
        rows = RowColumns(
            columns["width"],
            columns["number"],
            columns["slot"],
            Summaries(*(columns[name] for name in NUMBERS)),
            np.array([len(each) for each in self._digests], np.int64),
            b"".join(self._digests),
        )
        return Found(firsts, settled, series, rows)


def series_numbers(column: Any, number_of: Callable[[str, int], int]) -> Ints:
    """Return the number of the series of each row of a batch, shape (rows,).

    Args:
        column: The ids of the series, as texts.
        number_of: Takes an id and the first row that has it, and returns its number; -1 if the
            question does not ask for it.
    """
    ids = column.dictionary_encode()
    codes = ids.indices.to_numpy(zero_copy_only=False)
    _, rows = np.unique(codes, return_index=True)
    numbers = np.zeros(len(ids.dictionary), np.int64)
    for row in rows.tolist():
        numbers[codes[row]] = number_of(ids.dictionary[int(codes[row])].as_py(), row)
    found: Ints = numbers[codes]
    return found


def _whole(column: Any) -> Ints:
    found: Ints = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return found
