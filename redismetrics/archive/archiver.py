"""The archiver: bring an archive up to date with Redis, one group of metrics after another.

A unit is an hour or a day. It is written once it is over and workers have built its rows, and again
whenever its rows have changed, which their fingerprint in `Unit` shows. Each write replaces whole
slots of a series, so writing twice is harmless.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from redismetrics.columnar.rollup_table import Table
from redismetrics.errors import FormatMismatch, InvalidSetting, shown
from redismetrics.model.time import DAY, slot_of
from redismetrics.store import catalog, keys, lease
from redismetrics.store.driver import Client, Operation, run
from redismetrics.store.namespace import Namespace

from .rows import LEVELS, RawRows, RollupRows, fingerprints
from .source import MetricSource, read_metric, read_raw, read_rollups, read_table
from .state import GROUPS, LevelState, MetricState, Unit, group_of
from .target import ArchiveTaken, Session, Target

_T = TypeVar("_T")

log = logging.getLogger("redismetrics")

# A lease is valid for this long, and renewed after a third of it.
LEASE_MS = 60_000

# How often, in seconds, a running archiver checks hours whose samples Redis no longer counts. They
# must be read to see whether they have changed, and samples that are more than a day late are rare.
# Shorter than `MARGIN`, so that each hour is checked after its last change.
RECHECK_SECONDS = 600.0

# Fingerprints of chunks are added modulo this, so that they fit into a signed integer.
_FINGERPRINTS = 1 << 63


@dataclass(slots=True)
class PassReport:
    """What one pass did.

    Attributes:
        metrics: Metrics that were examined.
        rows: Rows written, by level.
        waiting: Units that are over but not yet built by workers.
        elsewhere: Groups that another archiver worked on.
        skipped: Metrics that could not be read, with the reason.
        lag_seconds: Age of the oldest waiting unit; 0 if there is none.
    """

    metrics: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    waiting: int = 0
    elsewhere: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    lag_seconds: float = 0.0


class _Stopped(Exception):
    """The pass was stopped before a metric was completely archived."""


def check_levels(levels: Sequence[str]) -> tuple[str, ...]:
    """Return *levels* in their order, without duplicates.

    Raises:
        InvalidSetting: If one of them is not in `LEVELS`.
    """
    for level in levels:
        if level not in LEVELS:
            raise InvalidSetting(
                f"level must be {', '.join(LEVELS[:-1])} or {LEVELS[-1]}, got {shown(level, 80)}"
            )
    return tuple(level for level in LEVELS if level in levels)


class Archiver:
    """Archives the closed slots of a namespace.

    Args:
        client: Connection to Redis, which is only read from, except for leases.
        holder: Id of this process, for leases.
        progress: Called with the number of metrics done and the number of all metrics.
        is_stopped: Returns whether to end the pass early, keeping what is done.
    """

    def __init__(
        self,
        client: Callable[[], Client],
        namespace: str,
        target: Target,
        levels: Sequence[str],
        holder: str,
        progress: Callable[[int, int], None] = lambda done, total: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.is_stopped = is_stopped
        self._client, self.namespace = client, Namespace(namespace)
        self._target, self._levels = target, check_levels(levels)
        self._holder, self._progress = holder, progress
        self._renewed = 0.0
        self._checked: dict[tuple[str, str], float] = {}

    def pass_once(self, *, backfill: bool = False) -> PassReport:
        """Archive everything that is closed and not yet archived; return what was done.

        With *backfill*, write everything that Redis still holds again.
        """
        report = PassReport()
        groups: dict[int, list[str]] = {}
        count = self.run(self.namespace.shards())
        names = self.run(catalog.names(self.namespace.name, count))
        for name in sorted(names):
            groups.setdefault(group_of(name), []).append(name)
        # Archivers start at different groups, so that they share the work.
        first = group_of(self._holder)
        for number in sorted(groups, key=lambda each: (each - first) % GROUPS):
            if self.is_stopped():
                break
            self._archive_group(number, groups[number], report, backfill=backfill)
            self._progress(report.metrics, len(names))
        return report

    def _archive_group(
        self, number: int, names: list[str], report: PassReport, *, backfill: bool
    ) -> None:
        if not self._has_lease(number):
            report.elsewhere += 1
            report.metrics += len(names)
            return
        try:
            with self._target.claim(self.namespace.name, number) as session:
                if session is None:
                    report.elsewhere += 1
                    report.metrics += len(names)
                    return
                for name in names:
                    if self.is_stopped():
                        break
                    if time.monotonic() - self._renewed > LEASE_MS / 3000:
                        self._has_lease(number)
                    self._archive_metric(session, name, report, backfill=backfill)
                    report.metrics += 1
                session.finish()
        except ArchiveTaken:
            self._checked.clear()
            report.elsewhere += 1
        except BaseException:
            # The checked fingerprints are not saved.
            self._checked.clear()
            raise
        finally:
            key, name = keys.archive_leases(self.namespace.name), self._lease_name(number)
            self.run(lease.release(key, name, self._holder))

    def _lease_name(self, group: int) -> str:
        return f"{self._target.id} {group}"

    def _has_lease(self, group: int) -> bool:
        self._renewed = time.monotonic()
        key, name = keys.archive_leases(self.namespace.name), self._lease_name(group)
        taken = self.run(lease.take(key, name, self._holder, LEASE_MS))
        return taken.holder == self._holder

    def _archive_metric(
        self, session: Session, name: str, report: PassReport, *, backfill: bool
    ) -> None:
        try:
            source = self.run(read_metric(self.namespace, name))
            if source is None:
                return
            before = session.state(name)
            if backfill or before.stamp != source.stamp:
                before = MetricState()
            state = MetricState(source.stamp, dict(before.levels))
            for level in self._levels:
                old = before.levels.get(level, LevelState())
                work = _LevelWork(self, session, level, old, source, report)
                state.levels[level] = work.archive()
        except _Stopped:
            # Rows already written will be written again, replacing themselves.
            return
        except FormatMismatch as error:
            self._checked.clear()
            report.skipped[name] = str(error)
            log.warning("%s is not archived: %s", name, error)
            return
        if state != session.state(name):
            session.save(name, state)

    def must_check(self, metric: str, level: str) -> bool:
        """Return whether a level of a metric is due for a check (see `RECHECK_SECONDS`).

        If so, record it as checked now.
        """
        now, key = time.monotonic(), (metric, level)
        if now - self._checked.get(key, -RECHECK_SECONDS) < RECHECK_SECONDS:
            return False
        self._checked[key] = now
        return True

    def run(self, operation: Operation[_T]) -> _T:
        """Run an operation on Redis."""
        return run(self._client(), operation)


@dataclass(slots=True)
class _LevelWork:
    """Archives one level of one metric."""

    archiver: Archiver
    session: Session
    level: str
    old: LevelState
    source: MetricSource
    report: PassReport

    def archive(self) -> LevelState:
        """Write all units that are new or changed; return the state of the level after that."""
        changes_from = self.source.changes_from
        if self.level == "day":
            changes_from = slot_of(changes_from, DAY)
        new = LevelState(changes_from)
        partitions: dict[int, list[int]] = {}
        resolution = self.source.retention.named(self.level)
        assert resolution is not None, f"BUG: {self.level!r} is no level"
        for unit in self.source.units(self.level):
            if unit < self.old.settled_ms:
                continue
            if self.source.is_due(self.level, unit):
                # Written once it is built. Until then, nothing from here on is settled.
                new.settled_ms = min(new.settled_ms, unit)
                self._wait_for(unit)
                if unit in self.old.units:
                    new.units[unit] = self.old.units[unit]
                continue
            partitions.setdefault(slot_of(unit, resolution.partition), []).append(unit)
        must_check = self.archiver.must_check(self.source.name, self.level)
        for partition, units in partitions.items():
            new.units |= self._archive_partition(partition, units, must_check=must_check)
        new.settled_ms = max(new.settled_ms, self.old.settled_ms)
        new.units = {unit: each for unit, each in new.units.items() if unit >= new.settled_ms}
        return new

    def _wait_for(self, unit: int) -> None:
        self.report.waiting += 1
        age = (self.source.now_ms - unit) / 1000
        self.report.lag_seconds = max(self.report.lag_seconds, age)

    def _archive_partition(
        self, partition: int, units: list[int], *, must_check: bool
    ) -> dict[int, Unit]:
        counts = {} if self.level == "day" else self.source.samples
        samples = {unit: counts.get(unit, -1) for unit in units}
        known = {unit: self.old.units[unit] for unit in units if unit in self.old.units}
        # Redis counts the samples of an hour as long as it keeps exact samples. Until then, an
        # unchanged count means an unchanged hour.
        kept_from = self.source.retention.raw.kept_from(self.source.now_ms)
        same = {
            unit: each
            for unit, each in known.items()
            if each.samples == samples[unit] >= 0 and unit >= kept_from
        }
        unsure = [unit for unit in known if unit not in same]
        if not must_check:
            same |= {unit: known[unit] for unit in unsure if samples[unit] < 0}
        elif unsure:
            current = self._fingerprints(unsure)
            same |= {
                unit: Unit(samples[unit], current.get(unit, 0))
                for unit in unsure
                if current.get(unit, 0) == known[unit].fingerprint
            }
        changed = [unit for unit in units if unit not in same]
        if not changed:
            return same
        # Before the rows are read, so that the next pass finds what changes in between.
        current = self._fingerprints(changed)
        for chunk in self.source.chunks:
            if self.archiver.is_stopped():
                raise _Stopped
            rows = self._read(changed, chunk)
            if len(rows) or (isinstance(rows, RawRows) and len(rows.replaced[0])):
                self.session.write(self.level, partition, rows)
            self.report.rows[self.level] = self.report.rows.get(self.level, 0) + len(rows)
        return same | {unit: Unit(samples[unit], current.get(unit, 0)) for unit in changed}

    def _read(self, units: list[int], chunk: int) -> RollupRows | RawRows:
        def read(source: MetricSource) -> Operation[RollupRows | None]:
            return (yield from read_rollups(self._namespace, source, self.level, units, chunk))

        def read_samples(source: MetricSource) -> Operation[RawRows | None]:
            return (yield from read_raw(self._namespace, source, units, chunk))

        return self._retried(read_samples) if self.level == "raw" else self._retried(read)

    def _fingerprints(self, units: list[int]) -> dict[int, int]:
        """Return the fingerprints of *units*; for finer levels, those of their hours."""
        level = "day" if self.level == "day" else "hour"
        found: dict[int, int] = {}
        for chunk in self.source.chunks:

            def read(source: MetricSource, chunk: int = chunk) -> Operation[list[Table] | None]:
                return (yield from read_table(self._namespace, source, level, units, chunk))

            for table in self._retried(read):
                for unit, number in fingerprints(table).items():
                    found[unit] = (found.get(unit, 0) + number) % _FINGERPRINTS
        return found

    @property
    def _namespace(self) -> Namespace:
        return self.archiver.namespace

    def _retried(self, read: Callable[[MetricSource], Operation[_T | None]]) -> _T:
        """Return the result of *read*; repeat it if the metric changes meanwhile."""
        while True:
            found = self.archiver.run(read(self.source))
            if found is not None:
                return found
            newer = self.archiver.run(read_metric(self._namespace, self.source.name))
            if newer is None or newer.stamp != self.source.stamp:
                raise FormatMismatch(f"{self.source.name} was deleted while it was archived")
            self.source = newer
