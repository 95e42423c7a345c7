"""Asking: query, time_series, rollup, get_metrics and what else answers. Decoded to columns, chosen, grouped and merged by numpy.

Each function checks its arguments when called, before anything is read, and returns an operation that `drive.run` drives.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

import numpy as np

from . import keys, operations, rollups
from .digest import Digest, percentiles
from .drive import Operation, together
from .errors import FormatMismatch, InvalidMetric, InvalidQuery, TooManyRows, UnknownAggregation
from .gather import Found, gather
from .model import (
    OVERFLOW_TAGS,
    Family,
    Gap,
    MetricType,
    Sample,
    Summary,
    Tags,
    check_name,
    check_type,
    clean_tags,
    to_datetime,
    to_ms,
)
from .operations import Place, Standing
from .rollups import Ints
from .running import Running
from .slots import DAY, HOUR, MINUTE, Calendar, Window, interval_ms, window_ms

T = TypeVar("T")

Row = dict[str, Any]
GroupKey = tuple[str | None, ...]
Edges = tuple[int, int, int]  # since, until, now

AGGREGATIONS = ("count", "sum", "mean", "min", "max", "last", "stddev", "median", "rate")
PERCENTILE_PATTERN = re.compile(r"p(100(?:\.0{1,9})?|[0-9]{1,2}(?:\.[0-9]{1,9})?)\Z")
MAX_POINTS = 100_000  # of one time series with fill=True, so that a slip of the interval can't take all memory


# -- what is asked ------------------------------------------------------------------------------------------------


def _checked(check: Callable[[Any], T], value: Any) -> T:
    """Run a check of recording for a question: its errors are then the question's."""
    try:
        return check(value)
    except InvalidMetric as error:
        raise InvalidQuery(str(error)) from error


def _names(what: str, given: str | Iterable[str], check: Callable[[Any], str]) -> tuple[str, ...]:
    """Each checked; text means one; duplicates collapse."""
    if isinstance(given, str):
        return (check(given),)
    try:
        return tuple(dict.fromkeys(check(each) for each in given))
    except TypeError as error:
        raise InvalidQuery(f"{what}: wanted text or several texts, got {given!r:.80}") from error


def _rank(aggregation: str) -> float | None:
    """The rank in [0, 1] of a percentile's name; None for another aggregation."""
    if aggregation == "median":
        return 0.5
    match = PERCENTILE_PATTERN.match(aggregation)
    return float(match[1]) / 100 if match else None


def check_aggregation(aggregation: object) -> str:
    """Return *aggregation* if it exists, or raise `UnknownAggregation`."""
    if isinstance(aggregation, str) and (aggregation in AGGREGATIONS or _rank(aggregation) is not None):
        return aggregation
    raise UnknownAggregation(
        f"aggregation: wanted {', '.join(AGGREGATIONS)} or a percentile from p0 to p100, got {aggregation!r:.80}"
    )


@dataclass(frozen=True, slots=True)
class _Question:
    name: str
    window: Window
    tags: Mapping[str, str | None]
    group_by: tuple[str, ...]
    aggregations: tuple[str, ...]


def _question(
    name: str,
    window: Window,
    tags: Tags | None,
    group_by: Any = (),
    aggregations: Any = (),
    taken: tuple[str, ...] = (),
) -> _Question:
    _checked(check_name, name)
    window_ms(window, 0)
    groups = _names("group_by", group_by, lambda key: _checked(lambda given: check_name(given, "group_by"), key))
    wanted = _names("aggregations", aggregations, check_aggregation)
    clash = sorted(set(groups) & {*wanted, *taken})
    if clash:
        raise InvalidQuery(f"group_by: the tag {clash[0]!r} is named like another column of the answer")
    return _Question(name, window, checked_filter(tags), groups, wanted)


def checked_filter(tags: Tags | None) -> dict[str, str | None]:
    """The tags a series must have; None means that it must lack the tag."""
    clean: dict[str, str | None] = dict(_checked(clean_tags, tags))
    if tags:
        clean.update({key: None for key, value in tags.items() if value is None})
    return clean


# -- columns ------------------------------------------------------------------------------------------------------


def _gather(
    place: Place, question: _Question, interval_ms: int | None = None, *, one_by_one: bool = False
) -> Operation[tuple[Found | None, Edges]]:
    return gather(place, question.name, question.window, question.tags, interval_ms, one_by_one=one_by_one)


def _groups(tags: list[dict[str, str]], group_by: Sequence[str]) -> tuple[Ints, list[GroupKey]]:
    """The group of each series, and the groups' keys; sorted, a missing tag first."""
    found = [tuple(of_series.get(key) for key in group_by) for of_series in tags]
    ordered = sorted(set(found), key=lambda key: [(value is not None, value or "") for value in key])
    numbers = {key: number for number, key in enumerate(ordered)}
    return np.array([numbers[key] for key in found], dtype=np.int64), ordered


_NEEDS = {
    "sum": ("total",), "rate": ("total",), "mean": ("total",), "stddev": ("total", "m2"), "min": ("low",), "max": ("high",),
    "last": ("last",),
}  # fmt: skip


def _aggregate(
    found: Found, aggregations: Sequence[str], group_of: Callable[[Ints, Ints], Ints], groups: int, seconds: float
) -> dict[str, list[Any]]:
    """Each aggregation of each group as a list: *group_of* tells the groups from columns of series and time."""
    ranks = {name: rank for name in aggregations if (rank := _rank(name)) is not None}
    needs = {"count", *(need for name in aggregations for need in _NEEDS.get(name, ()))}
    of_parts = [group_of(rows.series, rows.time) for rows in found.parts]
    parts = [(group, rows.summaries) for group, rows in zip(of_parts, found.parts, strict=True)]
    merged = rollups.merge_all(parts, groups, frozenset(needs | ({"low", "high"} if ranks else set())))
    quantiles = None
    if ranks:
        runs = found.runs(of_parts, group_of)
        quantiles = percentiles(runs, merged.low, merged.high, np.array(list(ranks.values())))
    counter = found.definition.type == "counter"
    count = np.maximum(merged.count, 1)
    result: dict[str, list[Any]] = {}
    for name in aggregations:
        if name == "count":
            result[name] = merged.count.tolist()
            continue
        if name == "sum":
            result[name] = [_whole(value) if counter else value for value in merged.total.tolist()]
            continue
        if name == "rate":
            result[name] = ((merged.total if counter else merged.count) / seconds).tolist()
            continue
        if name == "mean":
            column = merged.total / count
        elif name == "stddev":
            column = np.sqrt(merged.m2 / count)
        elif name in ("min", "max", "last"):
            column = {"min": merged.low, "max": merged.high, "last": merged.last}[name]
        else:
            assert quantiles is not None, "BUG: a percentile that was not worked out"
            column = quantiles[:, list(ranks).index(name)]
        some = (merged.count > 0).tolist()
        result[name] = [value if there else None for value, there in zip(column.tolist(), some, strict=True)]
    return result


def _whole(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def _nothing(aggregation: str) -> Any:
    """The answer where there are no samples."""
    return 0 if aggregation in ("count", "sum") else 0.0 if aggregation == "rate" else None


def _grouped(found: Found | None, question: _Question, place: Place) -> tuple[list[GroupKey], dict[str, list[Any]]]:
    """The groups that hold samples, and their aggregations."""
    if found is None or not len(found):
        return [], {name: [] for name in question.aggregations}
    of_series, ordered = _groups(found.tags, question.group_by)
    result = _aggregate(
        found, ("count", *question.aggregations), lambda series, _: of_series[series], len(ordered), found.seconds
    )
    filled = [number for number, count in enumerate(result["count"]) if count]
    _check_rows(len(filled), place)
    return [ordered[at] for at in filled], {name: [result[name][at] for at in filled] for name in question.aggregations}


def _samples(name: str, found: Found | None, newest: int | None = None) -> list[Sample]:
    """The samples one by one, oldest first, of equal times in order of arrival; what is not kept exactly, by its points.

    Of many only the *newest* are wanted.
    """
    if found is None:
        return []
    points = found.points()
    order = np.argsort(points.time, kind="stable")
    if newest is not None:
        order = order[max(len(order) - newest, 0) :]
    columns = (points.value, points.weight, points.series, points.time, points.exact)
    return [
        Sample(
            name, found.definition.type, value, weight, found.tags[series], to_datetime(time),
            metadata(points.metadata.get(row)), not exact,
        )
        for row, value, weight, series, time, exact in zip(
            order.tolist(), *(column[order].tolist() for column in columns), strict=True
        )
    ]  # fmt: skip


def metadata(text: bytes | None) -> dict[str, Any]:
    """The metadata of a sample from its JSON."""
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatMismatch(f"block: wanted JSON metadata, got {text!r:.60}") from error
    return found if isinstance(found, dict) else {}


# -- questions ----------------------------------------------------------------------------------------------------


def query(
    place: Place,
    name: str,
    *,
    aggregation: str | None = None,
    group_by: str | Iterable[str] = (),
    window: Window = None,
    tags: Tags | None = None,
) -> Operation[Any]:
    """A number; with *group_by* a list of dicts; without *aggregation* a list of `Sample` (grouped: under ``samples``)."""
    taken = ("samples",) if aggregation is None else ()
    question = _question(name, window, tags, group_by, () if aggregation is None else (aggregation,), taken)

    def ask() -> Operation[Any]:
        columns, _ = yield from _gather(place, question, one_by_one=aggregation is None)
        if aggregation is None:
            found = _samples(name, columns)
            return _by_group(found, question.group_by) if question.group_by else found
        groups, values = _grouped(columns, question, place)
        if not question.group_by:
            return values[aggregation][0] if groups else _nothing(aggregation)
        return [
            {**dict(zip(question.group_by, group, strict=True)), aggregation: value}
            for group, value in zip(groups, values[aggregation], strict=True)
        ]

    return ask()


def _by_group(samples: list[Sample], group_by: Sequence[str]) -> list[Row]:
    of_sample, ordered = _groups([sample.tags for sample in samples], group_by)
    rows: list[Row] = [{**dict(zip(group_by, group, strict=True)), "samples": []} for group in ordered]
    for sample, group in zip(samples, of_sample.tolist(), strict=True):
        rows[group]["samples"].append(sample)
    return rows


def time_series(
    place: Place,
    name: str,
    *,
    interval: Any = "hour",
    aggregation: str = "count",
    aggregations: str | Iterable[str] | None = None,
    window: Window = "last_24h",
    group_by: str | Iterable[str] = (),
    tags: Tags | None = None,
    fill: bool = False,
) -> Operation[list[Row]]:
    """One dict for each interval (and group) that holds samples, with `timestamp`, its start; with *fill* for each at all."""
    wanted = aggregation if aggregations is None else aggregations
    question = _question(name, window, tags, group_by, wanted, ("timestamp",))
    if not question.aggregations:
        raise UnknownAggregation("aggregations: wanted at least one, got none")
    width = interval_ms(interval)

    def ask() -> Operation[list[Row]]:
        found, (since, until, _) = yield from _gather(place, question, width)
        if found is None or not len(found):
            if not fill or question.group_by:
                return []
            slots = _slots(since, until, None, width)
            _check_rows(len(slots), place)
            return _fill([0], [()], question, slots, width, {})
        return _series_rows(found, question, width, place, fill=fill)

    return ask()


def _check_rows(count: int, place: Place) -> None:
    """Refuse an answer before its rows are made."""
    if place.rows is not None and count > place.rows:
        raise TooManyRows(
            f"answer: wanted at most {place.rows} rows, got {count}: ask a shorter window, a wider interval or fewer groups"
        )


def _series_rows(found: Found, question: _Question, width: int, place: Place, *, fill: bool) -> list[Row]:
    of_series, ordered = _groups(found.tags, question.group_by)
    first = min(int(rows.time.min()) for rows in found.parts) // width
    span = max(int(rows.time.max()) for rows in found.parts) // width + 1 - first
    many = len(ordered)

    def cells_of(series: Ints, time: Ints) -> Ints:  # by time, then by group
        cells: Ints = (time // width - first) * many + of_series[series]
        return cells

    aggregations = tuple(dict.fromkeys(("count", *question.aggregations)))
    most = len(found) + 65_536 if place.rows is None else min(len(found) + 65_536, place.rows)
    if many * span <= most:  # few cells are empty: no need to number those that aren't
        cells = np.arange(many * span)
        result = _aggregate(found, aggregations, cells_of, len(cells), width / 1000)
    else:
        cells = np.unique(np.concatenate([np.unique(cells_of(rows.series, rows.time)) for rows in found.parts]))
        _check_rows(len(cells), place)
        result = _aggregate(
            found, aggregations, lambda series, time: np.searchsorted(cells, cells_of(series, time)), len(cells),
            width / 1000,
        )  # fmt: skip
    some = np.flatnonzero(result["count"])
    starts, groups = (cells[some] // many + first).tolist(), (cells[some] % many).tolist()
    columns = [[result[name][at] for at in some.tolist()] for name in question.aggregations]
    if fill:
        values = dict(zip(zip(starts, groups, strict=True), zip(*columns, strict=True), strict=True))
        slots = _slots(found.since_ms, found.until_ms, (first, first + span), width)
        _check_rows(len(slots) * len(set(groups)), place)
        return _fill(sorted(set(groups)), ordered, question, slots, width, values)
    return _points(starts, groups, ordered, question, width, columns)


def _points(
    starts: list[int],
    groups: list[int],
    ordered: list[GroupKey],
    question: _Question,
    width: int,
    columns: list[list[Any]],
) -> list[Row]:
    """One dict of each cell: the start of its interval (in *width*s), its group among those *ordered*, its aggregations."""
    times = {start: to_datetime(start * width) for start in set(starts)}
    by_tag = [[ordered[group][at] for group in groups] for at in range(len(question.group_by))]
    names = ("timestamp", *question.group_by, *question.aggregations)
    rows = zip([times[start] for start in starts], *by_tag, *columns, strict=True)
    return [dict(zip(names, row)) for row in rows]  # noqa: B905  strict costs a third more; there are tens of thousands


def _slots(since: int, until: int, held: tuple[int, int] | None, width: int) -> range:
    """The intervals that touch the window; where it is open, those that hold samples."""
    if held is None and (since == 0 or until >= 1 << 60):
        return range(0)
    first = since // width if since or held is None else held[0]
    last = -(-until // width) if until < 1 << 60 or held is None else held[1]
    if last - first > MAX_POINTS:
        raise InvalidQuery(f"fill: wanted at most {MAX_POINTS} intervals, got {last - first}: ask a wider interval")
    return range(first, last)


def _fill(
    present: list[int], ordered: list[GroupKey], question: _Question, slots: range, width: int,
    found: dict[tuple[int, int], tuple[Any, ...]],
) -> list[Row]:  # fmt: skip
    """The groups that are *present* in every interval."""
    empty = tuple(map(_nothing, question.aggregations))
    cells = [(start, group) for start in slots for group in present]
    columns = [list(column) for column in zip(*(found.get(cell, empty) for cell in cells), strict=True)]
    return _points([start for start, _ in cells], [group for _, group in cells], ordered, question, width, columns)


def rollup(
    place: Place,
    name: str,
    *,
    group_by: str | Iterable[str] = (),
    aggregations: str | Iterable[str] = ("mean", "count"),
    window: Window = "last_24h",
    tags: Tags | None = None,
    keys: str = "text",
) -> Operation[dict[Any, Row]]:
    """Group -> aggregations; the group as text (see `group_text`) or, with ``keys="tuple"``, as a tuple."""
    question = _question(name, window, tags, group_by, aggregations)
    if not question.aggregations:
        raise UnknownAggregation("aggregations: wanted at least one, got none")
    if keys not in ("text", "tuple"):
        raise InvalidQuery(f"keys: wanted 'text' or 'tuple', got {keys!r:.80}")

    def ask() -> Operation[dict[Any, Row]]:
        found, _ = yield from _gather(place, question)
        groups, values = _grouped(found, question, place)
        return {
            group_text(group) if keys == "text" else group: {each: values[each][at] for each in question.aggregations}
            for at, group in enumerate(groups)
        }

    return ask()


def group_text(group: GroupKey) -> str:
    r"""The values joined by ``/``, in order; inside a value ``/`` is ``\/``, ``\`` is ``\\``. Missing is "", empty is ``\0``."""
    return "/".join(
        "" if value is None else value.replace("\\", "\\\\").replace("/", "\\/") if value else "\\0" for value in group
    )


def digest(place: Place, name: str, *, window: Window = None, tags: Tags | None = None) -> Operation[Digest]:
    """The distribution of all values in the window."""
    question = _question(name, window, tags)

    def ask() -> Operation[Digest]:
        found, _ = yield from _gather(place, question)
        if found is None or not len(found):
            return Digest.of([])
        parts = [(np.zeros(len(rows.series), np.int64), rows.summaries) for rows in found.parts]
        whole = rollups.merge_all(parts, 1, frozenset({"low", "high"}))
        points = found.points()
        order = np.argsort(points.value, kind="stable")
        low, high = float(whole.low[0]), float(whole.high[0])
        return Digest(points.value[order], points.weight[order], points.centroid[order], low, high)

    return ask()


# How far back the newest samples are looked for, until there are enough.
_REACHES = (MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY, 90 * DAY, 1 << 60)


def get_metrics(
    place: Place,
    *,
    name: str | None = None,
    type: MetricType | None = None,
    tags: Tags | None = None,
    since: Any = None,
    until: Any = None,
    limit: int = 1000,
) -> Operation[list[Sample]]:
    """The newest samples first, as recorded: increments counted together are listed one by one again."""
    for time in (since, until):
        if time is not None:
            _checked(to_ms, time)
    if type is not None:
        _checked(check_type, type)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise InvalidQuery(f"limit: wanted a whole number of at least 0, got {limit!r:.80}")
    question = None if name is None else _question(name, (since, until), tags)
    checked_filter(tags)

    def ask() -> Operation[list[Sample]]:
        if question is None:
            known = yield from operations.catalogue(place.namespace, (yield from place.shards()))
            asked = [_question(each, (since, until), tags) for each in known]
        else:
            asked = [question]
        now_ms = yield from operations.now()
        first, last = to_ms(since) if since is not None else 0, to_ms(until) if until is not None else None
        found: list[Sample] = []
        for reach in _REACHES if limit else ():
            begin = max(first, (now_ms if last is None else min(last, now_ms)) - reach)
            window = (begin / 1000, None if last is None else last / 1000)
            pieces = yield from together(
                [gather(place, each.name, window, each.tags, one_by_one=True) for each in asked]
            )
            found = []
            for each, (piece, _) in zip(asked, pieces, strict=True):
                if piece is not None and type in (None, piece.definition.type):
                    found += _samples(each.name, piece, limit)
            if begin == first or sum(1 if each.approximate else each.count for each in found) >= limit:
                break
        found.sort(key=lambda sample: sample.timestamp)
        listed: list[Sample] = []
        for sample in reversed(found):
            if len(listed) >= limit:
                break
            listed += _one_by_one(sample, limit - len(listed))
        return listed

    return ask()


def _one_by_one(sample: Sample, most: int) -> list[Sample]:
    if sample.approximate or sample.count == 1:
        return [sample]
    return [replace(sample, count=1)] * min(sample.count, most)


def list_metrics(place: Place) -> Operation[list[Row]]:
    """All metrics by name: name, type, unit, help, series, last_seen (aware UTC)."""
    known = yield from operations.catalogue(place.namespace, (yield from place.shards()))
    standings = yield from operations.standings(place.namespace, (yield from place.config()), list(known))
    return [
        {
            "name": name,
            "type": definition.type,
            "unit": definition.unit,
            "help": definition.help,
            "series": standings[name].series,
            "last_seen": to_datetime(standings[name].last_ms),
        }
        for name, definition in sorted(known.items())
    ]


def series_count(place: Place, name: str | None = None) -> Operation[int]:
    """How many series a metric has, or all metrics have together."""
    if name is not None:
        _checked(check_name, name)

    def ask() -> Operation[int]:
        config = yield from place.config()
        names = [name] if name is not None else list((yield from operations.catalogue(place.namespace, config.shards)))
        found = yield from operations.standings(place.namespace, config, names)
        return sum(each.series for each in found.values())

    return ask()


def cardinality(place: Place, limit: int) -> Operation[list[Row]]:
    """The metrics with the most series, and how many values each of their tags has; the worst first."""
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise InvalidQuery(f"limit: wanted a whole number from 1, got {limit!r:.60}")

    def ask() -> Operation[list[Row]]:
        config = yield from place.config()
        known = yield from operations.catalogue(place.namespace, config.shards)
        counts = yield from operations.series_counts(place.namespace, config.shards, list(known))
        rows = []
        for name in sorted(known, key=lambda name: (-counts[name], name))[:limit]:
            found = yield from operations.series(place.namespace, keys.shard_of(name, config.shards), name)
            values: dict[str, set[str]] = {}
            for tags in found:
                for key, value in tags.items():
                    values.setdefault(key, set()).add(value)
            shared = OVERFLOW_TAGS in found
            by_tag = {key: len(each) for key, each in values.items() if key not in OVERFLOW_TAGS}
            worst = dict(sorted(by_tag.items(), key=lambda each: (-each[1], each[0])))
            rows.append({"name": name, "series": counts[name], "overflow": shared, "tags": worst})
        return rows

    return ask()


def tag_values(place: Place, name: str, key: str) -> Operation[list[str]]:
    """The values of one tag over all series of a metric, sorted."""
    _checked(check_name, name)
    _checked(lambda given: check_name(given, "tag key"), key)

    def ask() -> Operation[list[str]]:
        shards = yield from place.shards()
        found = yield from operations.series(place.namespace, keys.shard_of(name, shards), name)
        return sorted({tags[key] for tags in found if key in tags})

    return ask()


def live(place: Place, name: str | None, idle_ms: int) -> Operation[list[Family]]:
    """All metrics (or one), in the order first recorded, with the running state of their series but those idle for longer.

    A metric whose series are all idle is there with none, so that the names on a page made of it don't change.
    """
    if name is not None:
        _checked(check_name, name)

    def ask() -> Operation[list[Family]]:
        shards = yield from place.shards()
        first: list[Operation[Any]] = [operations.now(), operations.catalogue(place.namespace, shards)]
        now, known = yield from together(first)
        if name is not None:
            known = {name: known[name]} if name in known else {}
        families = yield from operations.live(place.namespace, shards, known)
        return [replace(family, series=Running.of(family.series).seen_since(now - idle_ms)) for family in families]

    return ask()


WRITERS_LISTED = 100
WRITING_MS = 60_000  # who sent a batch within that time is writing


def get_stats(place: Place) -> Operation[Row]:
    """The store's figures, in the original's names and more; see docs/settings.md."""
    config = yield from place.config()
    known = yield from operations.catalogue(place.namespace, config.shards)
    found = yield from operations.standings(place.namespace, config, list(known))
    server = yield from operations.server_state(place.namespace, config.shards)
    totals, calendar = _totals(found.values(), config.calendar), config.calendar
    pruned = sum(each.pruned for each in found.values())
    levels = (calendar.raw, *calendar.levels)
    return {
        "total_metrics": totals["samples"] - pruned - sum(totals["dropped"].values()),
        "metrics_stored": totals["samples"],
        "metrics_pruned": pruned,
        "metrics_dropped": totals["dropped"],
        "retention_hours": calendar.raw.retention / HOUR,
        "retention": {level.name: level.retention / HOUR for level in levels},
        "memory_bytes": server.used_bytes,
        "names": len(known),
        "series": totals["series"],
        "blocks": totals["blocks"],
        "bytes": totals["bytes"],
        "workers": server.workers,
        "worker_lag_seconds": totals["worker_lag_seconds"],
        "writers": len(server.writers),
        "writing": [
            {"writer": writer, "batches": sequence, "last_seen": to_datetime(seen_ms).isoformat()}
            for writer, sequence, seen_ms in server.writers[:WRITERS_LISTED]
            if seen_ms >= server.now_ms - WRITING_MS
        ],
    }


def figures(place: Place) -> Operation[Row]:
    """The store's figures for the Prometheus page, as figures.py takes them: no more than a reader may ask."""
    config = yield from place.config()
    first: list[Operation[Any]] = [
        operations.catalogue(place.namespace, config.shards),
        operations.attendance(place.namespace, config.shards),
    ]
    known, there = yield from together(first)
    found = yield from operations.standings(place.namespace, config, list(known))
    totals = _totals(found.values(), config.calendar)
    return {"metrics": len(known), "workers": there.workers, "writers": there.writers, **totals}


def _totals(standings: Collection[Standing], calendar: Calendar) -> Row:
    level_names = [level.name for level in (calendar.raw, *calendar.levels)]
    return {
        "samples": sum(each.samples for each in standings),
        "dropped": {reason: sum(getattr(each, reason) for each in standings) for reason in ("never_sealed", "late")},
        "series": sum(each.series for each in standings),
        "blocks": sum(each.blocks for each in standings),
        "bytes": {"log": sum(each.log_bytes for each in standings)}
        | {name: sum(each.level_bytes[name] for each in standings) for name in level_names},
        "worker_lag_seconds": max((each.waiting_ms for each in standings), default=0) / 1000,
    }


# -- JSON-ready answers -------------------------------------------------------------------------------------------


def to_json_ready(value: Any) -> Any:
    """*value* with datetimes as ISO text, samples, gaps and summaries as dicts, tuples as lists, None for what is not finite."""
    if isinstance(value, Sample | Gap | Summary):
        return value.to_dict()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): to_json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_ready(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None  # a sum beyond what a float holds; JSON has no word for it
    return value


def describe_window(window: Window) -> Any:
    """A window as text or list of texts."""
    if window is None or isinstance(window, str):
        return window
    if isinstance(window, tuple):
        return [None if edge is None else to_datetime(to_ms(edge)).isoformat() for edge in window]
    return str(window)
