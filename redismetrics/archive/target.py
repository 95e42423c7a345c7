"""What an archiver needs of an archive: a place for rows and for its own progress."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit
from uuid import UUID

from redismetrics.errors import InvalidSetting, RedisMetricsError
from redismetrics.model.safe_url import safe_url

from .rows import RawRows, RollupRows
from .state import MetricState


class Session(Protocol):
    """The right to write to one group of metrics, until another archiver takes over."""

    def state(self, metric: str) -> MetricState:
        """Return what is archived of a metric."""
        ...

    def write(self, level: str, partition_ms: int, rows: RollupRows | RawRows) -> None:
        """Write rows of one partition; they replace those of the same series and slot."""
        ...

    def save(self, metric: str, state: MetricState) -> None:
        """Store the state of a metric, after everything written before is durable."""
        ...

    def finish(self) -> None:
        """Make everything that was written and saved durable."""
        ...


class Target(Protocol):
    """An open archive.

    Attributes:
        id: Its permanent id.
    """

    id: str

    def claim(self, namespace: str, group: int) -> AbstractContextManager[Session | None]:
        """Acquire the right to write to a group; None if another archiver on this machine has it.

        Whatever a previous holder still writes is rejected or ignored from now on.
        """
        ...

    def totals(
        self, namespace: str, level: str, partition_ms: int, metric: str, series: Sequence[UUID]
    ) -> dict[tuple[UUID, int], tuple[int, float]]:
        """Return count and sum of the rows of these series of a metric, by series and slot in ms.

        For the level ``raw``, they are totals of each minute.
        """
        ...

    def close(self) -> None:
        """Close connections and files."""
        ...


class ArchiveError(RedisMetricsError):
    """The archive did not answer, refused a request, or has another version."""


class ArchiveTaken(ArchiveError):
    """Another archiver has taken over the group."""


def open_target(url: str, *, schema: str | None = None, prefix: str = "rm_") -> Target:
    """Open the archive at *url* and create its tables.

    The URL is ``postgresql://...``, ``clickhouse://...`` or ``file:///folder``. In ClickHouse,
    *schema* is a database.

    Raises:
        InvalidSetting: If it is another kind of URL.
        MissingExtra: If the driver is not installed.
        ArchiveError: If the archive cannot be opened.
    """
    return target_opener(url, schema=schema, prefix=prefix)()


def target_opener(
    url: str, *, schema: str | None = None, prefix: str = "rm_"
) -> Callable[[], Target]:
    """Return a function that opens the archive at *url*, which need not be reachable yet.

    Raises:
        InvalidSetting, MissingExtra: As `open_target`.
    """
    scheme = urlsplit(url).scheme
    if scheme in ("postgresql", "postgres"):
        from .postgres import PostgresTarget

        return partial(PostgresTarget, url, schema=schema, prefix=prefix)
    if scheme == "clickhouse":
        from .clickhouse import ClickHouseTarget
        from .clickhouse_connection import options_of

        options_of(url)
        return partial(ClickHouseTarget, url, database=schema, prefix=prefix)
    if scheme == "file":
        from .parquet import ParquetTarget, folder_of

        folder_of(url)
        return partial(ParquetTarget, url)
    raise InvalidSetting(
        "the archive must be postgresql://..., clickhouse://... or file:///folder, "
        f"got {safe_url(url)!r}"
    )
