"""Read an archive for queries: what a window holds that begins before what Redis holds.

A question is one statement, planned for the levels that the archive was last seen to have of the
metric. The answer says which it has; if the plan was wrong, the question is asked again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import numpy as np

from redismetrics.columnar.arrays import Ints
from redismetrics.columnar.rollup_table import CLUSTERED, EXACT, Points, Table
from redismetrics.columnar.summaries import Summaries
from redismetrics.errors import (
    ArchiveUnavailable,
    FormatMismatch,
    InvalidQuery,
    TooManyRows,
    one_line,
)
from redismetrics.model.time import DAY, to_datetime
from redismetrics.model.validation import MetricType, check_type
from redismetrics.queries.older import OlderData, OlderQuestion

from .digest_bytes import unpack_digests
from .reading_plan import ALL_LEVELS, Firsts, ReadingPlan, plan
from .rows import storable_text
from .target import ArchiveError

# What one question reads at most: rows, rows with digests, and bytes of these. About 200 MB here,
# and at most 600 MB in PostgreSQL, which counts the bytes when it has them.
MAX_ROWS, MAX_DIGESTS = 1_000_000, 200_000
MAX_DIGEST_BYTES = 100 << 20

# What may still change is not settled, in ms: in Redis it is for no more than its retention of
# minutes, two hours for commits under way, and the rest of a day.
_MAX_BEHIND = 2 * DAY

# How many metrics to remember the levels of.
_MAX_KNOWN = 10_000

# If the levels of a metric change this often while it is read, something is wrong.
_MAX_ATTEMPTS = 5


@dataclass(slots=True, eq=False)
class RowColumns:
    """Rows of slots, columns of shape (n,).

    Attributes:
        width: Length of the slot, in ms.
        series: Number of the series in `Found.series`.
        slot: Start of the slot, in ms.
        lengths: Bytes of each digest, and
        digests: all of them, one after another; both empty if none were asked for.
    """

    width: Ints
    series: Ints
    slot: Ints
    summaries: Summaries
    lengths: Ints
    digests: bytes


@dataclass(slots=True, eq=False)
class Found:
    """What one statement found.

    Attributes:
        firsts: The oldest slot of each level of the metric, whatever its tags.
        settled: For each level, before when all is archived that Redis had of the metric, in ms.
        series: Type and tags of the series.
        rows: Their rows in the ranges that were asked for.
    """

    firsts: Firsts
    settled: Mapping[str, int]
    series: list[tuple[str, dict[str, str]]]
    rows: RowColumns


class ArchiveFinder(Protocol):
    """An archive of one kind."""

    def find(self, question: OlderQuestion, of: ReadingPlan) -> Found:
        """Return the rows of the series with the tags of *question*.

        Raises:
            ArchiveError: If the archive does not answer.
            TooManyRows: If they are more than `MAX_ROWS` or `MAX_DIGEST_BYTES`.
        """
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


def too_many(name: str) -> TooManyRows:
    """Return the error for a question that would read too much."""
    return TooManyRows(
        f"a query may read at most {MAX_ROWS:,} rows, or {MAX_DIGESTS:,} with "
        f"{MAX_DIGEST_BYTES >> 20} MB of digests, of an archive, which holds more of {name!r}; "
        "use a shorter window, a longer interval or tags"
    )


class ArchiveReader:
    """The `Older` of a client. Thread-safe; connects when it is first asked.

    Args:
        url: ``postgresql://...``, ``clickhouse://...`` or ``file:///folder``.
        schema: The schema of the tables in PostgreSQL, their database in ClickHouse.
        prefix: Begins the name of each table.
        timeout: Seconds to wait for a connection.
    """

    def __init__(self, url: str, schema: str | None, prefix: str, timeout: float) -> None:
        self._url, self._schema, self._prefix, self._timeout = url, schema, prefix, timeout
        # No locks, because a forked child might inherit a locked one. The last value set counts.
        self._finder: ArchiveFinder | None = None
        self._firsts: dict[tuple[str, str], Firsts] = {}

    def read(self, question: OlderQuestion) -> OlderData:
        try:
            return self._read(question)
        except ArchiveError as error:
            raise ArchiveUnavailable(
                f"the window begins before what Redis holds, and {one_line(error)}"
            ) from error

    def _read(self, question: OlderQuestion) -> OlderData:
        key = question.namespace, question.name
        firsts = self._firsts.get(key, ALL_LEVELS)
        for _ in range(_MAX_ATTEMPTS):
            assumed = plan(question, firsts)
            found = self._opened().find(question, assumed)
            if found.firsts != firsts:
                firsts = self._remember(key, found.firsts)
            right = plan(question, firsts, is_strict=question.wanted.is_strict)
            if assumed.finds_as_much_as(right, firsts):
                _check_complete(question, right, found.settled)
                return _as_tables(question, right.until_ms, found)
        raise ArchiveError(f"the levels of {question.name!r} in the archive keep changing")

    def _remember(self, key: tuple[str, str], firsts: Firsts) -> Firsts:
        if len(self._firsts) >= _MAX_KNOWN:
            self._firsts.clear()
        self._firsts[key] = firsts
        return firsts

    def _opened(self) -> ArchiveFinder:
        finder = self._finder
        if finder is None:
            finder = self._finder = self._open()
        return finder

    def _open(self) -> ArchiveFinder:
        scheme = urlsplit(self._url).scheme
        if scheme == "file":
            from .reading_parquet import ParquetFinder

            return ParquetFinder(self._url)
        if scheme == "clickhouse":
            from .reading_clickhouse import ClickHouseFinder

            return ClickHouseFinder(self._url, self._schema, self._prefix, self._timeout)
        from .reading_postgres import PostgresFinder

        return PostgresFinder(self._url, self._schema, self._prefix, self._timeout)

    def close(self) -> None:
        """Close connections. The next question opens them again."""
        if self._finder is not None:
            self._finder.close()


def _check_complete(question: OlderQuestion, of: ReadingPlan, settled: Mapping[str, int]) -> None:
    """Raise `ArchiveError` if the archiver is so far behind that slots may be missing."""
    until = min(of.until_ms, question.until_ms)
    if question.type is None or question.oldest_ms is None or question.oldest_ms >= until:
        return
    reaching = [name for name, ranges in of.ranges.items() if ranges[-1][1] >= until]
    far = max((settled.get(name, 0) for name in reaching or settled), default=0)
    if far < until - _MAX_BEHIND:
        since = to_datetime(until).isoformat(timespec="minutes")
        raise ArchiveError(
            f"the archive does not have all of {question.name!r} before {since}; "
            "run `redismetrics archive`, which must keep up with the retention of Redis"
        )


def _as_tables(question: OlderQuestion, until_ms: int, found: Found) -> OlderData:
    """Return rows as tables, one for each level; series have the ids that Redis gave them."""
    kind, rows = _type(question, found), found.rows
    if kind is None or not len(rows.slot):
        return OlderData(kind, until_ms, {}, [])
    ids, new = _ids(question.series, [tags for _, tags in found.series])
    series, count = ids[rows.series], len(rows.slot)
    sizes, is_clustered = np.zeros(count, np.int64), np.zeros(count, np.bool_)
    points = Points(np.zeros(0), sizes[:0])
    if question.wanted.with_points:
        try:
            sizes, is_clustered, points = unpack_digests(rows.digests, rows.lengths)
        except FormatMismatch as error:
            raise FormatMismatch(f"the archive of {question.name!r}: {error}") from error
    kinds = np.where(is_clustered, CLUSTERED, EXACT).astype(np.uint8)
    whole = Table(rows.slot, series, rows.summaries, kinds, sizes, points)
    is_wanted = np.ones(count, np.bool_)
    if question.wanted.is_known_only:
        is_wanted, new = ~np.isin(series, list(new)), {}
    tables = [
        (table, width)
        for width in np.unique(rows.width).tolist()
        if len(table := whole.take(is_wanted & (rows.width == width)))
    ]
    return OlderData(kind, until_ms, new, tables)


def _type(question: OlderQuestion, found: Found) -> MetricType | None:
    types = sorted({kind for kind, _ in found.series})
    if len(types) > 1:
        raise InvalidQuery(
            f"{question.name!r} must have one type, got {' and '.join(types)} in the archive, and "
            "Redis does not know it; read it by SQL"
        )
    return check_type(types[0]) if types else question.type


def _ids(
    known: Mapping[int, dict[str, str]], series: list[dict[str, str]]
) -> tuple[Ints, dict[int, dict[str, str]]]:
    """Return the id of each of *series*, and those that are new, by ids after the *known* ones."""
    by_tags = {_key(tags): number for number, tags in known.items()}
    new: dict[int, dict[str, str]] = {}
    after, ids = max(known, default=-1) + 1, []
    for tags in series:
        number = by_tags.get(_key(tags))
        if number is None:
            number = after + len(new)
            new[number] = tags
        ids.append(number)
    return np.array(ids, np.int64), new


def _key(tags: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((key, storable_text(value)) for key, value in sorted(tags.items()))
