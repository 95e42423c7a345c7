"""Copy a namespace to another server, or to a cluster with another number of shards.

    close the target -> wait until the source is idle -> copy each metric -> copy clocks and writers
    -> compare both sides -> open the target

The source is only read. While the target is closed (its configuration says that it is being copied
to), nobody can query or record there, and samples wait in the recording processes. So these can be
restarted with the new URL before the copy, and no sample is lost or counted twice. Each copied
metric is noted: if an interrupted copy is repeated, it continues where it stopped.

Values are read and written, not dumped and restored, because an older server cannot restore the
dump of a newer one.
"""

import time
from collections.abc import Callable

from redismetrics.errors import InvalidSetting
from redismetrics.model.time import monotonic
from redismetrics.settings import resolve
from redismetrics.store import deletion, keys
from redismetrics.store.namespace import COPYING, MAX_SHARDS, Config, Namespace
from redismetrics.store.replies import pairs

from .copy_alerts import copy_alerts, copy_marks
from .copy_data import DataCopy
from .copy_metric import CopyLimits
from .copy_report import CopyReport, Progress, Row
from .copy_sides import (
    Activity,
    CopyLock,
    CopySides,
    Existing,
    Side,
    forget_shards,
    metric_names,
    read_activity,
    read_existing,
    send,
)

# Seconds without a batch after which recording counts as stopped.
IDLE_SECONDS = 10.0
# Seconds between checks of a source that is in use.
POLL_SECONDS = 0.5


def copy(
    source: str,
    target: str,
    *,
    namespace: str | None = None,
    shards: int | None = None,
    allow_active: bool = False,
    wait: float = 0.0,
    idle_seconds: float | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    limits: CopyLimits | None = None,
) -> CopyReport:
    """Copy a namespace from one server to another, and compare the two.

    Args:
        source: URL of the server to copy from, as for `Metrics`.
        target: URL of the server to copy to, where the namespace must not have metrics.
        namespace: The namespace; the default is that of `Metrics`.
        shards: Number of shards at the target; by default that of the namespace if it exists there,
            otherwise 16 on a cluster and 1 on a single server.
        allow_active: Copy although the source is in use, as a rehearsal. Changes in the meantime
            are reported, not copied.
        wait: Seconds to wait for the source to become idle, with the target already closed.
        idle_seconds: Recording counts as stopped if no batch has arrived for this long; 10 by
            default.
        on_progress: Called after each step. An exception from it interrupts the copy.
        limits: How much to read and write at once.

    Raises:
        InvalidSetting: If an argument is invalid, such as a URL.
        StoreUnavailable: If a side does not answer. Repeat the copy; it continues where it ended.
        StoreError: If the target is not empty, the source is empty or in use, another copy is
            running, or Redis returns another error.
    """
    settings = resolve(url=source, namespace=namespace)
    if shards is not None and not 1 <= shards <= MAX_SHARDS:
        raise InvalidSetting(f"shards must be 1 to {MAX_SHARDS}, got {shards}")
    sides = [Side(url, settings.namespace) for url in (source, target)]
    try:
        return _Copy(sides[0], sides[1], limits or CopyLimits(), on_progress).run(
            shards,
            allow_active=allow_active,
            wait=wait,
            idle_seconds=IDLE_SECONDS if idle_seconds is None else idle_seconds,
        )
    finally:
        for side in sides:
            side.close()


def reset(target: str, *, namespace: str | None = None) -> int:
    """Delete what an interrupted copy left at the target; return the number of metrics.

    Also deletes the remains of a namespace without metrics. Afterwards the namespace does not exist
    there. No process may use it.

    Raises:
        InvalidSetting: If an argument is invalid, such as a URL.
        StoreError: If the namespace has metrics that are not from a copy, or a copy is running.
    """
    side = Side(target, resolve(url=target, namespace=namespace).namespace)
    lock = CopyLock(side)
    try:
        lock.take()
        try:
            return _reset(side, lock)
        finally:
            lock.release()
    finally:
        side.close()


def _reset(side: Side, lock: CopyLock) -> int:
    namespace, at_once = side.namespace, CopyLimits().keys
    existing = side.run(read_existing(namespace))
    if existing is None:
        return 0
    names = side.run(metric_names(namespace, existing.shards))
    if names and not existing.is_closed:
        raise side.error(
            f"contains {_count(names)} not left by an interrupted copy; "
            "`redismetrics clear` deletes all metrics"
        )
    for at in range(0, len(names), at_once):
        part = names[at : at + at_once]
        side.run(lock.holding(deletion.delete(namespace, existing.shards, part)))
    side.run(lock.holding(forget_shards(namespace, existing.shards)))
    side.run(lock.holding(deletion.clear_alerts(namespace)))
    side.run(send([("DEL", keys.copying(namespace)), ("DEL", keys.workers(namespace))]))
    side.run(send([("DEL", keys.config(namespace))]))
    return len(names)


class _Copy:
    def __init__(
        self,
        source: Side,
        target: Side,
        limits: CopyLimits,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._source, self._target = source, target
        self._namespace = source.namespace
        self._limits = limits
        self._on_progress = on_progress

    def run(
        self, shards: int | None, *, allow_active: bool, wait: float, idle_seconds: float
    ) -> CopyReport:
        began = monotonic()
        source_config = self._source.run(Namespace(self._namespace).config())
        if not source_config.written:
            raise self._source.error("does not exist; there is nothing to copy")
        lock = CopyLock(self._target)
        lock.take()
        try:
            existing = self._target.run(read_existing(self._namespace))
            target_config = self._choose_config(source_config, existing, shards)
            self._sides = CopySides(self._source, self._target, lock, source_config, target_config)
            if not allow_active and wait <= 0:
                self._check_idle(idle_seconds)
            clocks = self._close_target(existing)
            if not allow_active and wait > 0:
                self._wait_until_idle(wait, idle_seconds)
            rows = self._copy_and_compare(clocks, allow_active)
            wrong = [
                row.name
                for row in rows
                if (row.changed and not allow_active) or not (row.same or row.changed)
            ]
            if wrong:
                # A repeated copy copies them again.
                self._sides.write(send([("HDEL", keys.copying(self._namespace), *wrong)]))
            else:
                self._open_target()
        finally:
            lock.release()
        return CopyReport(
            namespace=self._namespace,
            source=self._source.shown_url,
            target=self._target.shown_url,
            source_shards=source_config.shards,
            target_shards=target_config.shards,
            rows=rows,
            complete=not wrong,
            seconds=monotonic() - began,
        )

    def _copy_and_compare(self, clocks: list[int], allow_active: bool) -> list[Row]:
        before = self._source_activity()
        data = DataCopy(self._sides, self._read_fingerprints(), self._limits, self._on_progress)
        names = data.copy_all()
        copy_alerts(self._sides)
        copy_marks(self._sides)
        self._finish_shards(data, clocks)
        rows = data.compare(names)
        if not allow_active and self._source_activity().clocks != before.clocks:
            raise self._source.error(
                "received samples during the copy; stop the processes that record there, and "
                "repeat the copy; the target stays closed"
            )
        return rows

    # -- checks -----------------------------------------------------------------------------------

    def _choose_config(
        self, source: Config, existing: Existing | None, shards: int | None
    ) -> Config:
        """Return the future configuration of the target, or raise if the copy is not possible."""
        target, retention = self._target, source.retention
        if existing is None:
            return Config(target.store.shards if shards is None else shards, retention)
        if not existing.is_closed:
            names = target.run(metric_names(self._namespace, existing.shards))
            if names:
                raise target.error(
                    f"already has {_count(names)}; copy to another server, or delete them with "
                    "`redismetrics clear`"
                )
            users = target.run(read_activity(self._namespace, existing.shards))
            if users.workers:
                raise target.error(
                    f"is in use, {users.describe(0)}; stop them until the copy is done"
                )
            if existing.retentions and existing.retentions != retention.describe():
                raise target.error(
                    f"was created with retentions of {existing.retentions} (s), the source with "
                    f"{retention.describe()}; stop the processes that use it, and delete the "
                    "incomplete copy with `redismetrics copy --reset`"
                )
        if shards is not None and shards != existing.shards:
            plural = "s" * (existing.shards > 1)
            raise target.error(
                f"was created with {existing.shards} shard{plural}, not {shards}; leave out "
                "shards, or stop the processes that use it, and delete the incomplete copy with "
                "`redismetrics copy --reset`"
            )
        return Config(existing.shards, retention)

    def _source_activity(self) -> Activity:
        shards = self._sides.source_config.shards
        return self._source.run(read_activity(self._namespace, shards))

    def _check_idle(self, idle_seconds: float) -> None:
        users = self._source_activity().describe(idle_seconds)
        if users is not None:
            raise self._source.error(
                f"is in use, {users}; stop the recording processes and workers there, wait until "
                "they have stopped (--wait S), or rehearse (--active)"
            )

    def _wait_until_idle(self, wait: float, idle_seconds: float) -> None:
        began = monotonic()
        while (users := self._source_activity().describe(idle_seconds)) is not None:
            waited = monotonic() - began
            if waited >= wait:
                raise self._source.error(
                    f"is still in use after {wait:g} s, {users}. The target stays closed, and "
                    "samples for it wait: repeat the copy, or cancel it with "
                    "`redismetrics copy --reset`"
                )
            self._sides.extend_lock()
            self._on_progress(Progress("waiting", waited, wait, users))
            time.sleep(min(POLL_SECONDS, wait - waited))

    # -- the target -------------------------------------------------------------------------------

    def _close_target(self, existing: Existing | None) -> list[int]:
        """Close the target for all processes that do not yet use it.

        Returns its clocks, which are used to detect processes that do.
        """
        namespace, config, write = self._namespace, self._sides.target_config, self._sides.write
        key = keys.config(namespace)
        if existing is None:
            (is_first,) = write(send([("HSETNX", key, "format", COPYING)]))
            if not is_first:
                raise self._target.error(
                    "was just created by another process; stop it, and check what it recorded"
                )
        fields = {
            "format": COPYING,
            "shards": config.shards,
            "retentions": config.retention.describe(),
        }
        write(send([("HSET", key, *(each for pair in fields.items() for each in pair))]))
        # This tells a process that recorded here before the data was deleted that the server no
        # longer knows its series.
        shards = range(config.shards)
        write(send([("DEL", keys.shard(namespace, shard).writers) for shard in shards]))
        return self._target.run(read_activity(namespace, config.shards)).clocks

    def _read_fingerprints(self) -> dict[str, bytes]:
        """Return the fingerprints of the metrics already copied by an interrupted copy."""
        (flat,) = self._sides.write(send([("HGETALL", keys.copying(self._namespace))]))
        return {
            name.decode(errors="replace"): fingerprint for name, fingerprint in pairs(flat).items()
        }

    def _finish_shards(self, data: DataCopy, before: list[int]) -> None:
        """Write clocks and writers.

        Clocks only grow, even in a copy. The writers, which are used to detect repeated batches,
        are only valid if batches go to the same shards.
        """
        namespace, config = self._namespace, self._sides.target_config
        if self._target.run(read_activity(namespace, config.shards)).clocks != before:
            raise self._target.error(
                "received samples during the copy; stop the processes that used it, delete "
                "the copy with `redismetrics copy --reset`, and copy again"
            )
        newest = max(self._source_activity().clocks)
        if config.shards == self._sides.source_config.shards:
            for shard in range(config.shards):
                data.copy_writers(shard)
        clocks = [max(newest, clock) for clock in before]
        self._sides.write(
            send(
                [
                    ("SET", keys.shard(namespace, shard).clock, clock)
                    for shard, clock in enumerate(clocks)
                    if clock
                ]
            )
        )

    def _open_target(self) -> None:
        self._sides.write(send([("DEL", keys.copying(self._namespace))]))
        self._sides.write(send([("HSET", keys.config(self._namespace), "format", keys.FORMAT)]))


def _count(names: list[str]) -> str:
    return f"{len(names)} metric{'s' * (len(names) > 1)}"
