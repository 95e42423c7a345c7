"""Copy a namespace to another server, or to a cluster with another number of shards; the source is only read.

    close the target -> wait until nobody uses the source -> each metric -> clocks, writers -> count both sides -> open the target

While the target is closed (its configuration says that it is being copied to) nobody can ask or record there, and what processes
record waits in them. So they can be started anew with the new URL before the copy, and no sample is lost or counted twice. Each
metric that was copied is noted: a copy that was interrupted goes on where it ended when it is repeated.

Values are read and written, never dumped: a dump of a newer server can't be restored by an older one.
"""

import time
from collections.abc import Callable, Iterator
from time import monotonic
from typing import TypeVar

from redismetrics.errors import FormatMismatch, InvalidSetting
from redismetrics.queries.cache import Cache
from redismetrics.queries.context import QueryContext
from redismetrics.queries.evaluate import evaluate
from redismetrics.queries.query import Query
from redismetrics.settings import resolve
from redismetrics.store import deletion, keys, stats
from redismetrics.store.driver import Operation, gather
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.namespace import COPYING, MAX_SHARDS, Config, Namespace
from redismetrics.store.stats import MetricStats

from . import copy_metric
from .copy_report import CopyReport, Figures, Progress, Row
from .copy_sides import (
    Activity,
    Contents,
    CopyLock,
    Side,
    forget_shards,
    metric_names,
    read_activity,
    send,
    settled,
)

T = TypeVar("T")


QUIET = 10.0  # seconds without a batch after which nobody seems to record
METRICS, BATCH = 32, 8 << 20  # so many, of so many bytes, are copied side by side
TRIES = 5  # to read a metric while it changes
POLL = 0.5  # seconds between two looks at a source that is in use


def copy(
    source: str,
    target: str,
    *,
    namespace: str | None = None,
    shards: int | None = None,
    active: bool = False,
    wait: float = 0.0,
    quiet: float | None = None,
    told: Callable[[Progress], None] = lambda progress: None,
) -> CopyReport:
    """Copy a namespace from the store at one URL to that at another, and count both sides.

    Args:
        source: a URL as `Metrics` takes it.
        target: another; it may not have metrics in this namespace.
        namespace: looked up as by `Metrics` where it isn't given.
        shards: of the target; by default 16 on a cluster, 1 on a single server, or what its namespace was begun with.
        active: copy although the source is in use, as a rehearsal: what changes meanwhile is told and not copied.
        wait: seconds to wait until the source is not in use, with the target closed already; without it that is an error.
        quiet: seconds without a batch after which nobody is taken to record; 10 by default.
        told: is called after each step; what it raises interrupts the copy.

    Raises:
        InvalidSetting: a setting that is not usable, such as a URL.
        StoreUnavailable: a side did not answer; repeat the copy, which goes on where it ended.
        StoreError: a branch of it; also where the target isn't empty, the source is empty or in use, or another copy is at work.
    """
    settings = resolve(url=source, namespace=namespace)
    if shards is not None and not 1 <= shards <= MAX_SHARDS:
        raise InvalidSetting(f"shards: wanted 1 to {MAX_SHARDS}, got {shards}")
    sides = [Side(url, settings.namespace) for url in (source, target)]
    try:
        return _Copy(sides[0], sides[1], shards, told).all(
            active, wait, QUIET if quiet is None else quiet
        )
    finally:
        for side in sides:
            side.close()


def reset(target: str, *, namespace: str | None = None) -> int:
    """Make a target as if the namespace had never been there; return how many metrics an interrupted copy had left.

    Deletes what an interrupted copy left, or what is left of a namespace without metrics. No process may be using it.

    Raises:
        InvalidSetting: a setting that is not usable, such as a URL.
        StoreError: a branch of it; also where the namespace has metrics that no copy left, or a copy is at work.
    """
    side = Side(target, resolve(url=target, namespace=namespace).namespace)
    try:
        return _reset(side)
    finally:
        side.close()


def _reset(side: Side) -> int:
    namespace = side.namespace
    lock = CopyLock(side)
    lock.take()
    try:
        found = side.ask(settled(namespace))
        if found is None:
            return 0
        left = side.ask(metric_names(namespace, found.shards))
        if left and not found.closed:
            raise side.refuse(
                f"has {len(left)} metrics that no interrupted copy left: `redismetrics clear` deletes them"
            )
        for at in range(0, len(left), copy_metric.KEYS):
            side.ask(
                lock.held(
                    deletion.delete(namespace, found.shards, left[at : at + copy_metric.KEYS])
                )
            )
        side.ask(lock.held(forget_shards(namespace, found.shards)))
        side.ask(send([("DEL", keys.copying(namespace)), ("DEL", keys.workers(namespace))]))
        side.ask(send([("DEL", keys.config(namespace))]))
    finally:
        lock.release()
    return len(left)


class _Copy:
    def __init__(
        self, source: Side, target: Side, shards: int | None, told: Callable[[Progress], None]
    ) -> None:
        self._source, self._target = source, target
        self._namespace = source.namespace
        self._shards = shards
        self._told = told
        self._lock = CopyLock(target)
        self._done = self._total = 0  # bytes
        self._marks: dict[str, bytes] = {}
        self._sizes: dict[str, int] = {}

    def all(self, active: bool, wait: float, quiet: float) -> CopyReport:
        began = monotonic()
        self._config = self._source.ask(Namespace(self._namespace).config())
        if not self._config.written:
            raise self._source.refuse("is not there: nothing to copy")
        self._lock.take()
        try:
            found = self._target.ask(settled(self._namespace))
            self._there = self._chosen(found)
            if not active and wait <= 0:
                self._check_idle(quiet)
            before = self._close_target(found)
            if not active and wait > 0:
                self._wait_idle(wait, quiet)
            began_at = self._activity()
            names = self._copied()
            self._finish_shards(before)
            rows = self._counted(names)
            ended_at = self._activity()
            if not active and ended_at.clocks != began_at.clocks:
                raise self._source.refuse(
                    "was recorded while it was copied: stop what records there, and repeat the copy; the target stays closed"
                )
            wrong = [
                row.name
                for row in rows
                if (row.changed and not active) or not (row.same or row.changed)
            ]
            if wrong:
                self._write(send([("HDEL", keys.copying(self._namespace), *wrong)]))
            else:
                self._open_target()
        finally:
            self._lock.release()
        return CopyReport(
            self._namespace, self._source.shown, self._target.shown, self._config.shards, self._there.shards, rows,
            not wrong, monotonic() - began,
        )  # fmt: skip

    def _write(self, operation: Operation[T]) -> T:
        return self._target.ask(self._lock.held(operation))

    # -- may it be? -----------------------------------------------------------------------------------------------

    def _chosen(self, found: Contents | None) -> Config:
        """What the target's configuration will be."""
        target, kept = self._target, self._config.retention
        if found is None:
            shards = self._shards if self._shards is not None else target.store.shards
            return Config(shards, kept)
        if not found.closed:
            many = len(target.ask(metric_names(self._namespace, found.shards)))
            if many:
                raise target.refuse(
                    f"has {many} metric{'s' * (many > 1)} already: copy to another server, or delete them by "
                    "`redismetrics clear` first"
                )
            there = target.ask(read_activity(self._namespace, found.shards))
            if there.workers:
                raise target.refuse(f"is in use, {there.told(0)}: stop them until the copy is done")
            if found.retentions and found.retentions != kept.describe():
                raise target.refuse(
                    f"was begun with other retentions, {found.retentions} (s), than the source's, {kept.describe()}: "
                    "stop who uses it, and delete what is left of it by `redismetrics copy --reset`"
                )
        if self._shards is not None and self._shards != found.shards:
            raise target.refuse(
                f"was begun with {found.shards} shard{'s' * (found.shards > 1)}, not {self._shards}: leave out shards, or "
                "stop who uses it, and delete what is left of it by `redismetrics copy --reset`"
            )
        return Config(found.shards, kept)

    def _activity(self) -> Activity:
        return self._source.ask(read_activity(self._namespace, self._config.shards))

    def _check_idle(self, quiet: float) -> None:
        used = self._activity().told(quiet)
        if used is not None:
            raise self._source.refuse(
                f"is in use, {used}: stop who records and works there, or wait for that (--wait S), or rehearse (--active)"
            )

    def _wait_idle(self, wait: float, quiet: float) -> None:
        began = monotonic()
        while (used := self._activity().told(quiet)) is not None:
            waited = monotonic() - began
            if waited >= wait:
                raise self._source.refuse(
                    f"is still in use after {wait:g} s, {used}. The target stays closed, and what is recorded for it waits: "
                    "repeat the copy, or give it up by `redismetrics copy --reset`"
                )
            self._write(send([]))
            self._told(Progress("waiting", waited, wait, used))
            time.sleep(min(POLL, wait - waited))

    # -- the target -----------------------------------------------------------------------------------------------

    def _close_target(self, found: Contents | None) -> list[int]:
        """From now on nobody can use it, but who has been doing so. Returns its clocks, by which that is noticed."""
        namespace, there = self._namespace, self._there
        key = keys.config(namespace)
        if found is None:
            (first,) = self._write(send([("HSETNX", key, "format", COPYING)]))
            if not first:
                raise self._target.refuse(
                    "has just been begun by somebody: stop them, and see what is there"
                )
        self._write(
            send(
                [
                    ("HSET", key, "format", COPYING, "shards", there.shards,
                     "retentions", there.retention.describe()),
                ]
            )
        )  # fmt: skip
        # Who recorded there before what was there was deleted learns by it that it is not known any more.
        self._write(
            send([("DEL", keys.shard(namespace, shard).writers) for shard in range(there.shards)])
        )
        marks = self._write(send([("HGETALL", keys.copying(namespace))]))[0]
        self._marks = {
            name.decode(errors="replace"): mark
            for name, mark in zip(marks[::2], marks[1::2], strict=True)
        }
        return self._target.ask(read_activity(namespace, there.shards)).clocks

    def _finish_shards(self, before: list[int]) -> None:
        """Clocks only grow, also over a copy; a writer's guard holds where its batches go to the same shards."""
        namespace, there = self._namespace, self._there
        now = self._target.ask(read_activity(namespace, there.shards)).clocks
        if now != before:
            raise self._target.refuse(
                "was recorded while it was copied to: stop who has been using it, delete what was copied by "
                "`redismetrics copy --reset`, and copy anew"
            )
        newest = max(self._activity().clocks)
        if there.shards == self._config.shards:
            for shard in range(there.shards):
                key = keys.shard(namespace, shard).writers
                for piece in self._pages(
                    copy_metric.Key("", key, key, False, 0, copy_metric.PIECE + 1),
                    copy_metric.FIELDS,
                ):
                    self._write(send(list(piece.writes())))
        clocks = [max(newest, clock) for clock in before]
        self._write(
            send(
                [
                    ("SET", keys.shard(namespace, shard).clock, clock)
                    for shard, clock in enumerate(clocks)
                    if clock
                ]
            )
        )

    def _open_target(self) -> None:
        self._write(send([("DEL", keys.copying(self._namespace))]))
        self._write(send([("HSET", keys.config(self._namespace), "format", keys.FORMAT)]))

    # -- metrics --------------------------------------------------------------------------------------------------

    def _metrics(self, name: str) -> tuple[MetricLocation, MetricLocation]:
        made = [
            MetricLocation(
                self._namespace, keys.shard_of(name, config.shards), name, config.retention
            )
            for config in (self._config, self._there)
        ]
        return made[0], made[1]

    def _copied(self) -> list[str]:
        """Copy every metric; return their names."""
        names = self._source.ask(metric_names(self._namespace, self._config.shards))
        gone = set(self._write(metric_names(self._namespace, self._there.shards))) - set(names)
        if gone:  # deleted at the source since an interrupted copy had it
            self._write(deletion.delete(self._namespace, self._there.shards, sorted(gone)))
            self._write(send([("HDEL", keys.copying(self._namespace), *sorted(gone))]))
        self._sizes = {}
        for at in range(0, len(names), copy_metric.KEYS):
            part = names[at : at + copy_metric.KEYS]
            standings = self._source.ask(stats.metric_stats(self._namespace, self._config, part))
            self._sizes |= {name: _size(each) for name, each in standings.items()}
            self._write(send([]))
        self._total = sum(self._sizes.values())
        for batch in self._batches(names):
            until = self._done + sum(self._sizes[name] for name in batch)
            self._copy_metrics(batch, until)
            self._done = until
            self._tell(batch[-1])
        return names

    def _batches(self, names: list[str]) -> Iterator[list[str]]:
        """The metrics that are worked on in the same trips; a large one is alone."""
        batch: list[str] = []
        for name in names:
            if batch and (
                len(batch) == METRICS or sum(map(self._sizes.__getitem__, (*batch, name))) > BATCH
            ):
                yield batch
                batch = []
            batch.append(name)
        if batch:
            yield batch

    def _tell(self, name: str) -> None:
        self._told(Progress("copying", self._done, self._total, name))

    def _outlines(self, names: list[str]) -> dict[str, copy_metric.Outline]:
        found = self._source.ask(
            gather([copy_metric.read_outline(*self._metrics(name)) for name in names])
        )
        return dict(zip(names, found, strict=True))

    def _copy_metrics(self, names: list[str], until: int) -> None:
        """Copy metrics, each as it is at one moment, unless that was done before."""
        left = self._outlines(names)
        for _ in range(TRIES):
            left = {
                name: outline
                for name, outline in left.items()
                if outline.definition is not None and outline.mark != self._marks.get(name)
            }
            if not left:
                return
            there = {name: self._metrics(name)[1] for name in left}
            self._write(
                copy_metric.begin(
                    self._namespace,
                    self._there.shards,
                    [(there[name], left[name]) for name in left],
                )
            )
            self._tell(next(iter(left)))
            for several in copy_metric.bundles(
                [key for outline in left.values() for key in outline.keys]
            ):
                for pieces in self._read(several):
                    self._write(send([command for piece in pieces for command in piece.writes()]))
                    self._tell(several[0].metric)
                self._done = min(self._done + sum(key.nbytes for key in several), until)
            again = self._outlines(list(left))
            same = [name for name in left if again[name].mark == left[name].mark]
            self._write(
                gather([copy_metric.end(self._namespace, there[name], left[name]) for name in same])
            )
            self._marks |= {name: left[name].mark for name in same}
            left = {name: again[name] for name in left if name not in same}
        if left:
            raise self._source.refuse(
                f"is in use: {min(left)} changed each of the {TRIES} times that it was read"
            )

    def _read(self, several: list[copy_metric.Key]) -> Iterator[list[copy_metric.Piece]]:
        key = several[0]
        if len(several) > 1 or key.nbytes <= copy_metric.PIECE:
            yield self._source.ask(copy_metric.read_whole(several))
            return
        count = key.count or self._source.ask(send([("HLEN", key.source)]))[0]
        for piece in self._pages(
            key, max(1, min(copy_metric.FIELDS, count * copy_metric.PIECE // key.nbytes))
        ):
            yield [piece]

    def _pages(self, key: copy_metric.Key, many: int) -> Iterator[copy_metric.Piece]:
        cursor = 0
        while True:
            piece, cursor = self._source.ask(copy_metric.read_page(key, cursor, many))
            yield piece
            if cursor == 0:
                return

    # -- counting -------------------------------------------------------------------------------------------------

    def _counted(self, names: list[str]) -> list[Row]:
        rows: list[Row] = []
        for batch in self._batches(names):
            outlines = self._outlines(batch)
            changed = {name: outlines[name].mark != self._marks.get(name) for name in batch}
            for _ in range(TRIES):  # what is kept may end between the two questions
                theirs, ours = (
                    side.ask(gather([_figures(config, self._metrics(name)[at]) for name in batch]))
                    for at, (side, config) in enumerate(
                        ((self._source, self._config), (self._target, self._there))
                    )
                )
                found = [
                    Row(name, a, b, changed[name])
                    for name, a, b in zip(batch, theirs, ours, strict=True)
                ]
                if all(row.changed or row.same for row in found):
                    break
            rows += found
            self._write(send([]))
            self._told(Progress("counting", len(rows), len(names), batch[-1]))
        return rows


def _size(standing: MetricStats) -> int:
    return standing.log_bytes + sum(standing.level_bytes.values()) + 1_000 * standing.series


def _figures(config: Config, metric: MetricLocation) -> Operation[Figures]:
    name = metric.name
    standing = (yield from stats.metric_stats(metric.namespace, config, [name]))[name]
    try:
        count = yield from evaluate(
            QueryContext(Namespace(metric.namespace, config), Cache(0)),
            Query(name, aggregation="count"),
        )
    except FormatMismatch:  # of a block or slot that can't be read, which is copied as it is
        count = None
    fields = yield from copy_metric.count_fields(metric)
    return Figures(
        standing.series, standing.samples, count, standing.blocks, fields,
        standing.log_bytes + sum(standing.level_bytes.values()),
    )  # fmt: skip
