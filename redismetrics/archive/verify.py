"""Compare an archive with Redis: counts and sums of each series and slot that both should have."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from redismetrics.model.time import slot_of
from redismetrics.store import catalog
from redismetrics.store.driver import Client, Operation, run
from redismetrics.store.namespace import Namespace

from .archiver import check_levels
from .rows import RawRows, RollupRows
from .source import MetricSource, read_metric, read_raw, read_rollups
from .target import Target

_T = TypeVar("_T")

# How many differences a report lists; the rest are only counted.
_LISTED = 100


@dataclass(slots=True)
class VerifyReport:
    """What a comparison found.

    Attributes:
        rows: Series and slots that were compared, by level.
        different: How many of them differ.
        differences: The first of them: metric, level, tags, slot (ms), and both sides as
            [count, sum]; None if the archive has no row.
        waiting: Units that were left out because workers have not built them yet.
    """

    rows: dict[str, int] = field(default_factory=dict)
    different: int = 0
    differences: list[dict[str, Any]] = field(default_factory=list)
    waiting: int = 0


def verify(
    client: Callable[[], Client],
    name: str,
    target: Target,
    levels: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> VerifyReport:
    """Compare all closed slots that Redis still holds with the archive.

    What the archive holds beyond that (expired slots, deleted series) is ignored.
    """
    namespace, report = Namespace(name), VerifyReport()

    def ask(operation: Operation[_T]) -> _T:
        return run(client(), operation)

    names = sorted(ask(catalog.names(name, ask(namespace.shards()))))
    for number, metric in enumerate(names):
        source = ask(read_metric(namespace, metric))
        for level in check_levels(levels):
            if source is not None:
                for partition, units in _partitions(source, level, report).items():
                    for chunk in source.chunks:
                        source, rows = _read(ask, namespace, source, level, units, chunk)
                        if rows is not None:
                            _compare(target, level, partition, rows, report)
        progress(number + 1, len(names))
    return report


def _partitions(source: MetricSource, level: str, report: VerifyReport) -> dict[int, list[int]]:
    resolution = source.retention.named(level)
    assert resolution is not None, f"BUG: {level!r} is no level"
    found: dict[int, list[int]] = {}
    for unit in source.units(level):
        if source.is_due(level, unit):
            report.waiting += 1
        else:
            found.setdefault(slot_of(unit, resolution.partition), []).append(unit)
    return found


def _read(
    ask: Callable[[Operation[Any]], Any],
    namespace: Namespace,
    source: MetricSource,
    level: str,
    units: list[int],
    chunk: int,
) -> tuple[MetricSource, RollupRows | RawRows | None]:
    """Read rows, again if the metric changes meanwhile; None if it is deleted."""
    while True:
        # Late samples may have arrived for some of them.
        closed = [unit for unit in units if not source.is_due(level, unit)]
        if level == "raw":
            rows = ask(read_raw(namespace, source, closed, chunk))
        else:
            rows = ask(read_rollups(namespace, source, level, closed, chunk))
        if rows is not None:
            return source, rows
        newer = ask(read_metric(namespace, source.name))
        if newer is None:
            return source, None
        source = newer


def _compare(
    target: Target, level: str, partition: int, rows: RollupRows | RawRows, report: VerifyReport
) -> None:
    expected = _totals(rows)
    of = rows.of
    series = sorted({key[0] for key in expected})
    found = target.totals(of.namespace, level, partition, of.metric, series)
    report.rows[level] = report.rows.get(level, 0) + len(expected)
    for key, (count, total) in expected.items():
        other = found.get(key)
        if other is not None and other[0] == count and _is_close(other[1], total):
            continue
        report.different += 1
        if len(report.differences) < _LISTED:
            report.differences.append(
                {
                    "metric": of.metric,
                    "level": level,
                    "tags": of.tags[of.ids.index(key[0])],
                    "slot": key[1],
                    "redis": [count, total],
                    "archive": None if other is None else list(other),
                }
            )


def _totals(rows: RollupRows | RawRows) -> dict[tuple[UUID, int], tuple[int, float]]:
    """Return count and sum by series and slot."""
    if isinstance(rows, RawRows):
        counts, sums = rows.weight, rows.value * rows.weight
    else:
        counts, sums = rows.summaries.count, rows.summaries.total
    found: dict[tuple[UUID, int], tuple[int, float]] = {}
    for series, slot, count, total in zip(
        rows.series.tolist(), rows.slot.tolist(), counts.tolist(), sums.tolist(), strict=True
    ):
        key = (rows.of.ids[series], slot)
        before = found.get(key, (0, 0.0))
        found[key] = before[0] + count, before[1] + total
    return found


def _is_close(one: float, other: float) -> bool:
    return one == other or math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
