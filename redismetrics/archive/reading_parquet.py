"""Read an archive in a folder of Parquet files, batch by batch."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from redismetrics.columnar.arrays import Ints
from redismetrics.errors import MissingExtra
from redismetrics.model.retention import DEFAULT_RETENTION
from redismetrics.model.time import slot_of
from redismetrics.queries.older import OlderQuestion

from .reading import Found
from .reading_plan import WIDTHS, ReadingPlan
from .state import MetricState, group_of
from .target import ArchiveError

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    from .arrow_tables import ROLLUP
    from .parquet import VERSION, as_archive_error, folder_name
    from .parquet_files import partition_name
    from .reading_batches import RowCollector, series_numbers
except ImportError as _error:
    raise MissingExtra(
        "an archive of Parquet files needs: pip install 'redismetrics[archive]'"
    ) from _error

# How many levels of metrics to remember the oldest slot of.
_MAX_KNOWN = 10_000


class ParquetFinder:
    """The `ArchiveFinder` of a ``file:///folder`` URL."""

    def __init__(self, url: str) -> None:
        self._folder = Path(unquote(urlsplit(url).path))
        # The oldest slot by folder, metric and type, with the oldest partition at that time.
        self._firsts: dict[tuple[Path, str, str | None], tuple[str, int]] = {}
        # The contents of each progress file, with its modification time.
        self._progress: dict[Path, tuple[int, dict[str, Any]]] = {}

    def find(self, question: OlderQuestion, of: ReadingPlan) -> Found:
        with as_archive_error(self._folder):
            self._check()
            return self._find(question, of)

    def _check(self) -> None:
        """Raise `ArchiveError` if there is no archive; an unmounted folder would be empty."""
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
        rows, series = RowCollector(question), _NumberedSeries(question.wanted.tags)
        slot = pc.field("slot")
        for name, ranges in of.ranges.items():
            begin, end = ranges[0][0], ranges[-1][1]
            paths = list(_paths(folder / name, name, file, begin, end))
            inside = (slot >= _time(begin)) & (slot < _time(end))
            if not paths:
                continue
            batches = ds.dataset(paths, ROLLUP).to_batches(
                columns=["type", "tags", *rows.columns], filter=condition & inside
            )
            for batch in batches:
                if len(batch):
                    rows.add(WIDTHS[name], batch, series.numbers(batch), np.array(ranges))
        return rows.found(firsts, self._settled(folder, question.name), series.found)

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
            # The names are times and sort in that order.
            if first <= partition.name <= last and (partition / file).exists():
                yield partition / file


def _time(ms: int) -> Any:
    return pa.scalar(ms, pa.timestamp("ms", tz="UTC"))


class _NumberedSeries:
    """The series that a question asks for, numbered in the order in which they appear."""

    def __init__(self, tags: Mapping[str, str | None]) -> None:
        self._tags = tags
        self._numbers: dict[str, int] = {}
        self.found: list[tuple[str, dict[str, str]]] = []

    def numbers(self, batch: Any) -> Ints:
        """Return the number of the series of each row; -1 if it is not asked for."""

        def number_of(series: str, row: int) -> int:
            number = self._numbers.get(series)
            if number is None:
                tags = dict(batch["tags"][row].as_py())
                number = -1
                if all(tags.get(key) == value for key, value in self._tags.items()):
                    number = len(self.found)
                    self.found.append((batch["type"][row].as_py(), tags))
                self._numbers[series] = number
            return number

        return series_numbers(batch["series"], number_of)
