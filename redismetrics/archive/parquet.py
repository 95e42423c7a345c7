"""An archive in a folder of Parquet files.

    archive.json                               version, and the archive's own id
    <namespace>/<level>/<partition>/<group>.parquet
                                               the rows of the metrics of one group
    <namespace>/progress/<group>.json          what is archived of each, see state.py
    <namespace>/progress/<group>.lock          locked while an archiver writes the group

Files are replaced as a whole, by renaming. Progress is written after the files that it describes,
so if an archiver is killed in between, the same rows are written again.
"""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from uuid import UUID

from redismetrics.errors import InvalidSetting, MissingExtra, RedisMetricsError
from redismetrics.model.safe_url import safe_url

from .rows import RawRows, RollupRows
from .state import MetricState, group_of
from .target import ArchiveError

try:
    from .parquet_files import Replacement, partition_name, read_totals
except ImportError as _error:
    raise MissingExtra(
        "an archive of Parquet files needs: pip install 'redismetrics[archive]'"
    ) from _error

VERSION = 1

# How many rows are written to new files before these replace the old ones.
_ROWS_AT_ONCE = 200_000
# How many bytes of rows, over all files, may wait for their row groups to fill up.
_WAITING_BYTES = 32 << 20


def folder_of(url: str) -> Path:
    """Return the folder of a ``file:///folder`` URL.

    Raises:
        InvalidSetting: If it has a host, or no folder.
    """
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
        raise InvalidSetting(
            f"the archive must be file:///folder with an absolute path, got {safe_url(url)!r}"
        )
    return Path(unquote(parts.path))


class ParquetTarget:
    """The `Target` of a ``file:///folder`` URL."""

    def __init__(self, url: str) -> None:
        self.folder = folder_of(url)
        self.id = self._open()

    def _open(self) -> str:
        path = self.folder / "archive.json"
        with as_archive_error(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with _locked(self.folder / "archive.lock"):
                if not path.exists():
                    write_file(path, {"version": VERSION, "id": secrets.token_hex(8)})
                stored = json.loads(path.read_text())
            if stored["version"] > VERSION:
                raise ArchiveError(
                    f"the archive must have version {VERSION} or lower, got {stored['version']}; "
                    "run the newest version of redismetrics"
                )
            return str(stored["id"])

    @contextmanager
    def claim(self, namespace: str, group: int) -> Iterator["ParquetSession | None"]:
        folder = self.folder / folder_name(namespace)
        with as_archive_error(self.folder):
            (folder / "progress").mkdir(parents=True, exist_ok=True)
            lock = open_lock(folder / "progress" / f"{group:02}.lock", wait=False)
        if lock is None:
            yield None
            return
        session = ParquetSession(folder, group)
        try:
            yield session
        finally:
            session.discard()
            os.close(lock)

    def totals(
        self, namespace: str, level: str, partition_ms: int, metric: str, series: Sequence[UUID]
    ) -> dict[tuple[UUID, int], tuple[int, float]]:
        folder = self.folder / folder_name(namespace) / level
        path = folder / partition_name(level, partition_ms) / f"{group_of(metric):02}.parquet"
        with as_archive_error(self.folder):
            return read_totals(path, level, series)

    def close(self) -> None:
        """Do nothing: files are open only while they are written or read."""


class ParquetSession:
    """The `Session` of a group: it holds the lock of the group."""

    def __init__(self, folder: Path, group: int) -> None:
        self._folder, self._group = folder, group
        self._path = folder / "progress" / f"{group:02}.json"
        self._open: dict[Path, Replacement] = {}
        self._rows = 0
        with as_archive_error(folder):
            self._progress: dict[str, Any] = (
                json.loads(self._path.read_text()) if self._path.exists() else {}
            )

    def state(self, metric: str) -> MetricState:
        stored = self._progress.get(metric)
        return MetricState() if stored is None else MetricState.from_dict(stored)

    def write(self, level: str, partition_ms: int, rows: RollupRows | RawRows) -> None:
        name = f"{self._group:02}.parquet"
        path = self._folder / level / partition_name(level, partition_ms) / name
        with as_archive_error(self._folder):
            if path not in self._open:
                self._open[path] = Replacement(path)
            self._open[path].add(rows)
            if sum(each.waiting_bytes for each in self._open.values()) > _WAITING_BYTES:
                for each in self._open.values():
                    each.flush()
        self._rows += len(rows)

    def save(self, metric: str, state: MetricState) -> None:
        self._progress[metric] = state.to_dict()
        if self._rows >= _ROWS_AT_ONCE:
            self.finish()

    def finish(self) -> None:
        with as_archive_error(self._folder):
            for replacement in self._open.values():
                replacement.finish()
            self._open.clear()
            self._rows = 0
            write_file(self._path, self._progress)

    def discard(self) -> None:
        """Remove files that were started but not finished."""
        for replacement in self._open.values():
            replacement.discard()
        self._open.clear()


def folder_name(namespace: str) -> str:
    """Return the folder name of a namespace: neither hidden nor `..`."""
    name = quote(namespace, safe="")
    return f"%2E{name[1:]}" if name.startswith(".") else name


@contextmanager
def as_archive_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except RedisMetricsError:
        raise
    # pyarrow's errors are of these classes.
    except (OSError, ValueError) as error:
        raise ArchiveError(f"the archive in {folder} failed: {error}") from error


def write_file(path: Path, content: dict[str, Any]) -> None:
    """Replace a file atomically, so that neither a reader nor a crash can see a part of it."""
    new = path.with_suffix(".new")
    with new.open("w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def open_lock(path: Path, *, wait: bool) -> int | None:
    """Lock a file and return its descriptor; None if another process has it, unless *wait*.

    The lock ends when the descriptor is closed, even by a kill.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = open_lock(path, wait=True)
    assert descriptor is not None, "BUG: did not wait for the lock"
    try:
        yield
    finally:
        os.close(descriptor)
