"""Runs: values of groups of series by time, by elapsed time, or by a number in the metadata."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from redismetrics.columnar import metadata_columns
from redismetrics.columnar.arrays import Bools, Floats, Ints
from redismetrics.errors import InvalidQuery, shown
from redismetrics.model.time import OPEN_UNTIL, SECOND, to_datetime
from redismetrics.model.validation import Tags
from redismetrics.model.windows import Window
from redismetrics.store.driver import Operation

from .aggregate import GroupKey, Row, aggregate, check_rows, group_series
from .arguments import check_count, check_limit
from .context import QueryContext
from .fetch import fetch
from .query import Query
from .selection import Edges, SeriesData, SeriesPoints

MIN_POINTS, MAX_POINTS = 10, 2_000
MAX_RUNS = 500
# Prefix of the metadata key in *x*.
METADATA = "metadata."
_MAX_KEY = 200
_FIGURES = ("count", "sum", "last", "min", "max")


@dataclass(frozen=True, slots=True, init=False)
class RunsQuery:
    """A query of runs.

    Attributes:
        query: The metric, the tags to group by, the window and the filter.
        x: ``time``, ``elapsed``, or ``metadata.`` and a key.
        whole: Whether each run is read from its beginning, even if that is before the window.
        points: Maximum number of points per run.
        limit: Maximum number of runs.
    """

    query: Query
    x: str
    whole: bool
    points: int
    limit: int

    def __init__(
        self,
        name: str,
        *,
        group_by: str | Iterable[str] = (),
        x: str = "elapsed",
        window: Window = None,
        tags: Tags | None = None,
        whole: bool = False,
        points: int = 500,
        limit: int = 50,
    ) -> None:
        """Check and store the arguments.

        Raises:
            InvalidQuery: If an argument is invalid.
        """
        query = Query(name, group_by=group_by, window=window, tags=tags)
        for field, value in (
            ("query", query),
            ("x", check_x(x)),
            ("whole", whole),
            ("points", check_count("points", points, MIN_POINTS, MAX_POINTS)),
            ("limit", check_limit(limit, 1)),
        ):
            object.__setattr__(self, field, value)

    @property
    def name(self) -> str:
        """The metric."""
        return self.query.name

    @property
    def key(self) -> str | None:
        """The metadata key, if x is one."""
        return self.x.removeprefix(METADATA) if self.x.startswith(METADATA) else None


def check_x(x: object) -> str:
    """Return *x* if it is a valid x axis."""
    if isinstance(x, str) and (
        x in ("time", "elapsed")
        or (x.startswith(METADATA) and 0 < len(x) - len(METADATA) <= _MAX_KEY)
    ):
        return x
    raise InvalidQuery(
        f"x must be time, elapsed, or metadata. and a key such as metadata.step, got {shown(x, 80)}"
    )


class Runs(NamedTuple):
    """Runs, newest first, and the number of runs beyond the limit."""

    rows: list[Row]
    left_off: int


def runs(context: QueryContext, query: RunsQuery) -> Operation[Runs]:
    """Return the most recently recorded runs.

    If the query is for *whole* runs, return those with samples in the window.

    Each has `tags`, the figures of the window (`count`, `sum`, `last`, `min`, `max`), the times of
    its first and last sample, the `seconds` between them, and its curve: columns `x` and `y`.

    Raises:
        TooManyRows: If the curves would have more points than the context allows.
    """
    data, edges = yield from fetch(context, query.query, exact=True)
    left_off = 0
    if query.whole and data is not None and len(data):
        keys, left_off = _newest_groups(data, query)
        data = yield from _from_their_beginning(context, query.query, edges, keys)
    if data is None or not len(data):
        return Runs([], 0)
    of_series, groups = group_series(data.tags, query.query.group_by)
    figures = aggregate(
        data, _FIGURES, lambda series, _: of_series[series], len(groups), data.seconds
    )
    points = data.points()
    order, ends = _in_order(points, of_series[points.series], len(groups))
    filled = np.flatnonzero(np.diff(ends))
    last = points.time[order[ends[filled + 1] - 1]]
    # Of equal times, by the key.
    newest = filled[np.argsort(-last, kind="stable")].tolist()
    chosen = newest[: query.limit]
    xs = _metadata(points, query.key)
    rows: list[Row] = []
    count = 0
    for group in chosen:
        of_run = order[ends[group] : ends[group + 1]]
        first_ms, last_ms = int(points.time[of_run[0]]), int(points.time[of_run[-1]])
        start_ms = 0 if query.x == "time" else first_ms
        x = (points.time[of_run] - start_ms) / SECOND if xs is None else xs[of_run]
        curve = _curve(x, _values(data, points, of_run), points, of_run, query.points)
        count += len(curve[0])
        check_rows(count, context)
        rows.append(
            {
                "tags": dict(zip(query.query.group_by, groups[group], strict=True)),
                **{name: figures[name][group] for name in _FIGURES},
                "since": to_datetime(first_ms),
                "until": to_datetime(last_ms),
                "seconds": (last_ms - first_ms) / SECOND,
                "x": curve[0].tolist(),
                "y": curve[1].tolist(),
            }
        )
    return Runs(rows, left_off + len(newest) - len(chosen))


def _newest_groups(data: SeriesData, query: RunsQuery) -> tuple[set[GroupKey], int]:
    """Return the keys of the most recently recorded groups, and the number of others."""
    of_series, groups = group_series(data.tags, query.query.group_by)
    last = np.full(len(groups), -1)
    for rows in data.parts:
        np.maximum.at(last, of_series[rows.series], rows.summaries.last_ms)
    recorded = np.flatnonzero(last >= 0)
    newest = recorded[np.argsort(-last[recorded], kind="stable")]
    chosen = newest[: query.limit].tolist()
    return {groups[at] for at in chosen}, len(newest) - len(chosen)


def _from_their_beginning(
    context: QueryContext, query: Query, edges: Edges, keys: set[GroupKey]
) -> Operation[SeriesData | None]:
    """Return the data of these groups up to the end of the window."""
    until = None if edges.until_ms >= OPEN_UNTIL else edges.until_ms / SECOND
    whole = Query(query.name, group_by=query.group_by, window=(None, until), tags=query.tags)

    def is_chosen(tags: Mapping[str, str]) -> bool:
        return tuple(tags.get(key) for key in query.group_by) in keys

    data, _ = yield from fetch(context, whole, exact=True, where=is_chosen)
    return data


def _in_order(points: SeriesPoints, group: Ints, groups: int) -> tuple[Ints, Ints]:
    """Return the points ordered by group, time and arrival, and the end of each group.

    The ends have shape (groups + 1,) and begin with 0.
    """
    order = np.lexsort((points.time, group))
    return order, np.searchsorted(group[order], np.arange(groups + 1))


def _metadata(points: SeriesPoints, key: str | None) -> Floats | None:
    """Return the number under *key* in the metadata of each point, or NaN; None without key."""
    if key is None:
        return None
    return metadata_columns.numbers(points.metadata, len(points.time), key)


def _values(data: SeriesData, points: SeriesPoints, of_run: Ints) -> Floats:
    """Return the value of each point of a run, ordered by time; for a counter, the total so far."""
    values = points.value[of_run]
    if data.definition.type != "counter":
        return values
    totals: Floats = np.cumsum(values * points.weight[of_run])
    return totals


def _curve(
    x: Floats, y: Floats, points: SeriesPoints, of_run: Ints, most: int
) -> tuple[Floats, Floats]:
    """Return ascending, distinct x, and y (the newest of equal x), at most *most* points."""
    known = np.flatnonzero(~np.isnan(x))
    order = known[np.argsort(x[known], kind="stable")]
    x, y, rows = x[order], y[order], of_run[order]
    if not len(x):
        return x, y
    last = np.flatnonzero(np.append(x[1:] != x[:-1], True))
    first = np.append(0, last[:-1] + 1)
    values = y[last]
    exact: Bools = points.exact[rows]
    if not exact.all():
        # Points of one digest share a time; their mean is the mean of the recorded values.
        weight = points.weight[rows]
        means = np.add.reduceat(y * weight, first) / np.add.reduceat(weight, first)
        values = np.where(np.logical_and.reduceat(exact, first), values, means)
    kept = _thinned(values, most)
    return x[last][kept], values[kept]


def _thinned(values: Floats, most: int) -> Ints:
    """Return the positions of at most *most* values: the minimum and maximum of each section.

    The first and the last are included, so a curve keeps its ends and its extremes.
    """
    count = len(values)
    if count <= most:
        return np.arange(count)
    size = -(-count // ((most - 2) // 2))
    stretches = np.pad(values, (0, -count % size), mode="edge").reshape(-1, size)
    begins = np.arange(len(stretches)) * size
    places = [begins + stretches.argmin(axis=1), begins + stretches.argmax(axis=1)]
    kept: Ints = np.unique(np.minimum(np.concatenate([[0, count - 1], *places]), count - 1))
    return kept
