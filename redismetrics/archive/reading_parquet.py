"""Read an archive in a folder of Parquet files, batch by batch."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from redismetrics.columnar.arrays import Ints
from redismetrics.columnar.summaries import Summaries
from redismetrics.errors import MissingExtra
from redismetrics.model.retention import DEFAULT_RETENTION
from redismetrics.model.time import slot_of
from redismetrics.queries.older import OlderQuestion

from .reading import MAX_DIGEST_BYTES, MAX_DIGESTS, MAX_ROWS, Found, RowColumns, too_many
from .reading_plan import WIDTHS, ReadingPlan
from .state import MetricState, group_of
from .target import ArchiveError

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    from .parquet import VERSION, as_archive_error, folder_name
    from .parquet_files import ROLLUP, partition_name
except ImportError as _error:
    raise MissingExtra(
        "an archive of Parquet files needs: pip install 'redismetrics[archive]'"
    ) from _error

# Columns of `Summaries`, and their names in a file.
_NUMBERS = ("count", "sum", "m2", "min", "max", "last", "last_time")

# Levels of metrics of which the oldest slot is remembered.
_MAX_KNOWN = 10_000


class ParquetFinder:
    """The `ArchiveFinder` of a ``file:///folder`` URL."""

    def __init__(self, url: str) -> None:
        self._folder = Path(unquote(urlsplit(url).path))
        # The oldest slot by folder, metric and type, with the oldest partition at that time.
        self._firsts: dict[tuple[Path, str, str | None], tuple[str, int]] = {}
        # What was read of each file of progress, with the time of its last change.
        self._progress: dict[Path, tuple[int, dict[str, Any]]] = {}

    def find(self, question: OlderQuestion, of: ReadingPlan) -> Found:
        with as_archive_error(self._folder):
            self._check()
            return self._find(question, of)

    def _check(self) -> None:
        """Raise `ArchiveError` if there is no archive: a folder that is not mounted is empty."""
        path = self._folder / "archive.json"
        if not path.exists():
            raise ArchiveError(
                f"there is no archive in {self._folder}; start `redismetrics archive`, or mount it"
            )
        version = json.loads(path.read_text())["version"]
        if version != VERSION:
            raise ArchiveError(
                f"the archive in {self._folder} must have version {VERSION}, got {version}; "
                "run the newest version of redismetrics"
            )

    def _find(self, question: OlderQuestion, of: ReadingPlan) -> Found:
        folder = self._folder / folder_name(question.namespace)
        condition = pc.field("metric") == question.name
        if question.type is not None:
            condition &= pc.field("type") == question.type
        file = f"{group_of(question.name):02}.parquet"
        firsts = {}
        for name in WIDTHS:
            first = self._first(folder / name, file, question, condition)
            if first is not None:
                firsts[name] = first
        taken = _Taken(question)
        slot = pc.field("slot")
        for name, ranges in of.ranges.items():
            begin, end = ranges[0][0], ranges[-1][1]
            paths = list(_paths(folder / name, name, file, begin, end))
            inside = (slot >= _time(begin)) & (slot < _time(end))
            if paths:
                files = ds.dataset(paths, ROLLUP)
                taken.take(WIDTHS[name], files, condition & inside, np.array(ranges))
        return taken.found(firsts, self._settled(folder, question.name))

    def _settled(self, folder: Path, metric: str) -> dict[str, int]:
        path = folder / "progress" / f"{group_of(metric):02}.json"
        if not path.exists():
            return {}
        changed = path.stat().st_mtime_ns
        if self._progress.get(path, (0, {}))[0] != changed:
            self._progress[path] = changed, json.loads(path.read_text())
        state = MetricState.from_dict(self._progress[path][1].get(metric, MetricState().to_dict()))
        return {name: level.settled_ms for name, level in state.levels.items()}

    def _first(
        self, folder: Path, file: str, question: OlderQuestion, condition: Any
    ) -> int | None:
        """Return the oldest slot of a level, in ms."""
        partitions = sorted(each.name for each in folder.iterdir()) if folder.exists() else []
        key = folder, question.name, question.type
        known = self._firsts.get(key)
        if known is not None and partitions and known[0] == partitions[0]:
            return known[1]
        for partition in partitions:
            path = folder / partition / file
            if not path.exists():
                continue
            found = ds.dataset(path, ROLLUP).to_table(columns=["slot"], filter=condition)
            if len(found):
                first = int(pc.min(found["slot"]).cast(pa.int64()).as_py())
                if len(self._firsts) >= _MAX_KNOWN:
                    self._firsts.clear()
                self._firsts[key] = partitions[0], first
                return first
        return None

    def close(self) -> None:
        """Do nothing: files are open only while they are read."""


def _paths(folder: Path, level: str, file: str, begin: int, end: int) -> Iterator[Path]:
    """Yield the files that may have slots in [begin, end)."""
    resolution = DEFAULT_RETENTION.named(level)
    assert resolution is not None, f"BUG: {level!r} is no level"
    first = partition_name(level, slot_of(begin, resolution.partition))
    last = partition_name(level, slot_of(end - 1, resolution.partition))
    if folder.exists():
        for partition in sorted(folder.iterdir()):
            # The names are times, in order.
            if first <= partition.name <= last and (partition / file).exists():
                yield partition / file


def _time(ms: int) -> Any:
    return pa.scalar(ms, pa.timestamp("ms", tz="UTC"))


class _Taken:
    """Rows of the series that a question asks for, and how many they are so far."""

    def __init__(self, question: OlderQuestion) -> None:
        self._question = question
        self._numbers: dict[str, int] = {}
        self._series: list[tuple[str, dict[str, str]]] = []
        self._columns: dict[str, list[Any]] = {
            name: [] for name in ("width", "number", "slot", *_NUMBERS)
        }
        self._digests: list[bytes] = []
        self._rows = self._bytes = 0

    def take(self, width: int, files: Any, condition: Any, ranges: Ints) -> None:
        """Add the rows of one level that fulfil *condition* and are in ascending *ranges*."""
        names = ["series", "type", "tags", "slot", *_NUMBERS]
        with_points = self._question.wanted.with_points
        if with_points:
            names.append("digest")
        for batch in files.to_batches(columns=names, filter=condition):
            if not len(batch):
                continue
            numbers = self._number(batch)
            slot = batch["slot"].cast(pa.int64()).to_numpy()
            of_range = np.searchsorted(ranges[:, 0], slot, side="right") - 1
            chosen = (numbers >= 0) & (of_range >= 0) & (slot < ranges[of_range, 1])
            count = int(chosen.sum())
            self._rows += count
            if self._rows > (MAX_DIGESTS if with_points else MAX_ROWS):
                raise too_many(self._question.name)
            self._columns["width"].append(np.full(count, width))
            self._columns["number"].append(numbers[chosen])
            for name in ("slot", *_NUMBERS):
                column = batch[name]
                if pa.types.is_timestamp(column.type):
                    column = column.cast(pa.int64())
                self._columns[name].append(column.to_numpy(zero_copy_only=False)[chosen])
            if with_points:
                digests = batch["digest"].filter(pa.array(chosen)).to_pylist()
                self._digests += digests
                self._bytes += sum(map(len, digests))
                if self._bytes > MAX_DIGEST_BYTES:
                    raise too_many(self._question.name)

    def _number(self, batch: Any) -> Any:
        """Return the number of the series of each row; -1 if it is not asked for."""
        ids = batch["series"].dictionary_encode()
        codes = ids.indices.to_numpy(zero_copy_only=False)
        _, rows = np.unique(codes, return_index=True)
        numbers = np.zeros(len(ids.dictionary), np.int64)
        for row in rows.tolist():
            number = self._numbers.get(series := ids.dictionary[int(codes[row])].as_py())
            if number is None:
                tags = dict(batch["tags"][row].as_py())
                number = -1
                if all(tags.get(key) == value for key, value in self._question.wanted.tags.items()):
                    number = len(self._series)
                    self._series.append((batch["type"][row].as_py(), tags))
                self._numbers[series] = number
            numbers[codes[row]] = number
        return numbers[codes]

    def found(self, firsts: dict[str, int], settled: dict[str, int]) -> Found:
        """Return all rows that were taken."""
        columns: dict[str, Any] = {
            name: np.concatenate(parts) if parts else np.zeros(0, np.int64)
            for name, parts in self._columns.items()
        }
        rows = RowColumns(
            columns["width"],
            columns["number"],
            columns["slot"],
            Summaries(*(columns[name] for name in _NUMBERS)),
            np.array([len(each) for each in self._digests], np.int64),
            b"".join(self._digests),
        )
        return Found(firsts, settled, self._series, rows)
