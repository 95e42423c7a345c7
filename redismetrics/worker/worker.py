"""The worker: seals logs, downsamples, and cleans up. Any number may run on one namespace.

It runs as `python -m redismetrics.worker`, `redismetrics worker`, or in a thread of
`Metrics(worker=True)`. Workers divide the metrics among themselves only to avoid duplicate work.
The commits alone ensure that nothing is lost or counted twice (see commit.py).
"""

import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from time import perf_counter
from typing import TypeVar

from redismetrics.errors import RedisMetricsError, StoreError, StoreUnavailable
from redismetrics.model.retention import RetentionPolicy
from redismetrics.model.safe_url import safe_url
from redismetrics.model.time import monotonic
from redismetrics.settings import Settings, retention_policy
from redismetrics.store import namespace
from redismetrics.store.connection import Store
from redismetrics.store.driver import Client, Operation, gather, run
from redismetrics.store.due_slot import (
    CLEANUPS,
    MERGE,
    PARTITION,
    PROCESSES,
    SWEEP,
    TRIM,
    DueSlot,
)
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.namespace import Config

from . import cleanup, downsample, processes, queue, seal
from .commit import MetricVersion, Outcome, Result, read_versions
from .commit_call import joined
from .eviction import warn_if_evicting
from .limits import DEFAULT_LIMITS, WorkerLimits
from .memory import Memory
from .read_ahead import read_ahead

log = logging.getLogger("redismetrics")

T = TypeVar("T")

# Work that is due on a metric.
Work = tuple[DueSlot, str]
# Reads the versions of metrics of a shard.
Look = Callable[[Sequence[MetricLocation]], Operation[list[MetricVersion]]]
# Creates the operation for a metric.
Step = Callable[[MetricLocation, MetricVersion], Operation[Result]]


@dataclass(slots=True)
class Counts:
    """Counts of a worker's work since it started.

    Attributes:
        slots: Pieces of work done other than sealing.
        late: Samples that arrived after their minute had expired.
        conflicts: Commits rejected because another process had changed the metric.
        pass_seconds: Duration of the last pass.
        lag_ms: How long the oldest block in the last pass had waited.
        last_error: The last error; None after a pass without failures.
    """

    passes: int = 0
    blocks: int = 0
    samples: int = 0
    bytes: int = 0
    late: int = 0
    slots: int = 0
    conflicts: int = 0
    failures: int = 0
    writers_pruned: int = 0
    series_pruned: int = 0
    pass_seconds: float = 0.0
    lag_ms: int = 0
    last_error: str | None = None

    @property
    def lag_seconds(self) -> float:
        return self.lag_ms / 1000

    def as_dict(self) -> dict[str, int | float | str | None]:
        return {each.name: getattr(self, each.name) for each in fields(self)} | {
            "lag_seconds": self.lag_seconds
        }


class Worker:
    """One worker of one namespace: `pass_once` does all due work, `run` repeats it until stopped.

    Args:
        warn: Log a warning if the namespace was created with other retentions. Inside a recording
            process, the sender already does that.
        limits: Intervals and sizes of its steps.

    Attributes:
        stop: Set it to stop the worker after the current commit.
        unreachable: The error while passes fail; None while they succeed.
        progressed_at: `monotonic` time of the last progress in a pass. The first pass after an
            outage may take long.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        warn: bool = True,
        limits: WorkerLimits = DEFAULT_LIMITS,
    ) -> None:
        self.settings = settings
        self.store = store
        self.warn = warn
        self.limits = replace(limits, exact_bytes=settings.exact_bytes)
        self.id = secrets.token_hex(8)
        self.counts = Counts()
        self.stop = threading.Event()
        self.unreachable: str | None = None
        self.progressed_at = monotonic()
        self._client: Client | None = None
        self._config: Config | None = None
        self._pruned_ms = 0
        self._failed: set[str] = set()
        self._memory = Memory(limits.memory_bytes)

    # -- one pass -----------------------------------------------------------------------------

    def pass_once(self, *, alone: bool = False, patience: float = 0.0) -> int:
        """Seal, downsample and clean up once; return the number of pieces of work done.

        Args:
            alone: Also do the shares of other workers.
            patience: Seconds that a metric with few new blocks may wait, because sealing a few
                costs as much as sealing many.

        Raises:
            StoreError: If Redis is unreachable or rejects a command. Finished commits remain, and
                the rest is unchanged.
        """
        began = perf_counter()
        client = self.client()
        if self._config is None:
            self._config = self._open(client)
        now_ms, alive = run(client, queue.heartbeat(self.settings.namespace, self.id))
        if alone:
            alive = [self.id]
        failures, done = self.counts.failures, 0
        self.counts.lag_ms = 0
        for shard in range(self._config.shards):
            done += self._seal(client, shard, alive, now_ms, 1000 * patience)
            if self.stop.is_set():
                return done
            done += self._do_due(client, shard, now_ms, alive)
        if not self.stop.is_set():
            self._prune_writers(client, self._config, now_ms)
        if self.counts.failures == failures:
            self.counts.last_error = None
        self.counts.passes += 1
        self.counts.pass_seconds = perf_counter() - began
        self.progressed_at = monotonic()
        return done

    def _open(self, client: Client) -> Config:
        """Read the namespace's configuration, or create it."""
        own = retention_policy(self.settings)
        warn = log.warning if self.warn else None
        warn_if_evicting(client)
        return run(
            client,
            namespace.open_namespace(self.settings.namespace, own, self.store.shards, warn),
        )

    def _seal(
        self, client: Client, shard: int, alive: list[str], now_ms: int, patience_ms: float
    ) -> int:
        """Seal the logs of the shard's metrics that belong to this worker."""
        done = 0
        namespace = self.settings.namespace
        names = run(client, queue.dirty(namespace, shard))
        mine = [name for name in names if self.is_mine(name, alive)]
        mine, states = run(client, queue.by_changes(namespace, shard, mine))
        if patience_ms:
            oldest_ms = now_ms - patience_ms
            mine = run(client, queue.urgent(namespace, shard, mine, states, self.limits, oldest_ms))

        def look(metrics: Sequence[MetricLocation]) -> Operation[list[MetricVersion]]:
            return read_ahead(metrics, self._memory, states, self.limits)

        def step(metric: MetricLocation, seen: MetricVersion) -> Operation[Result]:
            return seal.seal(metric, self.limits, patience_ms, seen, self._memory)

        for batch in _batches(mine, self.limits.metrics_at_once):
            done += self._work(client, shard, batch, step, look)
            if self.stop.is_set():
                break
        return done

    def _do_due(self, client: Client, shard: int, now_ms: int, alive: list[str]) -> int:
        """Do the due work, finer resolutions first."""
        count = self.limits.pending_at_once
        # Pending work to skip: it belongs to other workers, has failed, or waits for a finer slot.
        done = left = 0
        while not self.stop.is_set():
            found, read = run(
                client, queue.pending(self.settings.namespace, shard, now_ms, left, count)
            )
            mine = [(slot, name) for slot, name in found if self.is_mine(name, alive)]
            before = done
            for batch in self._in_order(mine):
                done += self._work(client, shard, [name for _, name in batch], self._step(batch))
                if self.stop.is_set():
                    return done
            left += max(read - (done - before), 0)
            if read < count:
                break
        return done

    def _in_order(self, work: list[Work]) -> Iterator[list[Work]]:
        """Yield batches of one kind each, in which each metric occurs once.

        Two pieces of work on one metric cannot share round trips: the first commit would outdate
        what the second has read.
        """
        assert self._config is not None
        for kind in _kinds(self._config.retention):
            of_kind = [each for each in work if each[0].kind == kind]
            for batch in _batches(of_kind, self.limits.metrics_at_once):
                yield from _split_by_metric(batch)

    def _step(self, batch: list[Work]) -> Step:
        slots = {name: slot for slot, name in batch}

        def step(metric: MetricLocation, seen: MetricVersion) -> Operation[Result]:
            slot = slots[metric.name]
            if slot == TRIM:
                return cleanup.trim(metric, seen)
            if slot == SWEEP:
                return cleanup.sweep(metric, seen)
            if slot == PROCESSES:
                return processes.merge_gone(metric, seen)
            return downsample.downsample(metric, slot, self.limits, seen)

        return step

    def _work(
        self,
        client: Client,
        shard: int,
        names: list[str],
        step: Step,
        look: Look = read_versions,
    ) -> int:
        """Do one step on several metrics in the same round trips; return the number done.

        Repeats it where another process committed first, and where there is more to do.
        """
        assert self._config is not None
        # Metrics that have failed before are processed alone, so that they do not make others fail.
        if len(names) > 1 and not self._failed.isdisjoint(names):
            others = [name for name in names if name not in self._failed]
            failed = [[name] for name in names if name in self._failed]
            return sum(self._work(client, shard, part, step, look) for part in (others, *failed))
        retention = self._config.retention
        metrics = [
            MetricLocation(self.settings.namespace, shard, name, retention) for name in names
        ]
        done, attempts = 0, self.limits.attempts
        while metrics and attempts and not self.stop.is_set():
            try:
                results = run(client, joined(_all(metrics, step, look)))
            except StoreUnavailable:
                raise
            # An error in one metric must not stop the others: retry each by itself.
            except Exception as error:  # noqa: BLE001
                if len(metrics) > 1:
                    return done + sum(
                        self._work(client, shard, [metric.name], step, look) for metric in metrics
                    )
                self._fail(metrics[0].name, error)
                return done
            self.progressed_at = monotonic()
            outcomes = [result.outcome for result in results]
            for metric, result in zip(metrics, results, strict=True):
                if result.outcome in (Outcome.DONE, Outcome.MORE):
                    done += 1
                    self._count(result)
                    if result.error is not None:
                        self._fail(metric.name, result.error)
                elif result.outcome is Outcome.ALONE:
                    done += self._work(client, shard, [metric.name], step, look)
            self.counts.conflicts += outcomes.count(Outcome.AGAIN)
            attempts -= Outcome.AGAIN in outcomes
            metrics = [
                metric
                for metric, outcome in zip(metrics, outcomes, strict=True)
                if outcome in (Outcome.AGAIN, Outcome.MORE)
            ]
        return done

    def _count(self, result: Result) -> None:
        self.counts.blocks += result.blocks
        self.counts.samples += result.samples
        self.counts.bytes += result.bytes
        self.counts.late += result.late
        self.counts.series_pruned += result.forgotten
        self.counts.lag_ms = max(self.counts.lag_ms, result.waited_ms)
        self.counts.slots += not result.blocks

    def _fail(self, name: str, error: Exception) -> None:
        """Count a failure, and log the first one of each metric."""
        self.counts.failures += 1
        self.counts.last_error = f"{name}: {error}"
        if name not in self._failed:
            self._failed.add(name)
            ours = isinstance(error, RedisMetricsError)
            log.error(
                "%s: cannot seal or downsample: %s",
                name,
                error if ours else repr(error),
                exc_info=not ours,
            )

    def is_mine(self, name: str, alive: list[str]) -> bool:
        """Return whether the metric belongs to this worker's share (rendezvous hashing).

        Each metric ranks the workers in its own order, so that a worker that starts or stops moves
        only its share. The rank cannot be a CRC: the CRCs of two workers differ by the same bits
        for every name, so one of three workers would get half of the names.
        """

        def rank(worker: str) -> bytes:
            return blake2b(f"{worker} {name}".encode(), digest_size=8).digest()

        return max(alive, key=rank, default=self.id) == self.id

    def _prune_writers(self, client: Client, config: Config, now_ms: int) -> None:
        if now_ms - self._pruned_ms < self.limits.prune_interval_ms:
            return
        self._pruned_ms = now_ms
        for shard in range(config.shards):
            self.counts.writers_pruned += run(
                client, queue.prune_writers(self.settings.namespace, shard, config.retention)
            )

    # -- pass after pass ----------------------------------------------------------------------

    def run(self) -> None:
        """Run passes until `stop` is set.

        If Redis is unreachable, log it once and keep retrying.
        """
        limits = self.limits
        backoff = limits.backoff
        while not self.stop.is_set():
            try:
                self.pass_once(patience=limits.patience * limits.interval)
            except Exception as error:
                # A wrong setting: retrying cannot help.
                if isinstance(error, RedisMetricsError) and not isinstance(error, StoreError):
                    raise
                self._on_error(error)
                pause, backoff = backoff, min(2 * backoff, limits.longest_backoff)
            else:
                if self.unreachable is not None:
                    log.info("%s answers again", safe_url(self.store.url))
                self.unreachable, backoff = None, limits.backoff
                # At most a quarter of one core.
                pause = max(limits.interval, 3 * self.counts.pass_seconds)
            self.stop.wait(pause)
        self.leave()

    def _on_error(self, error: Exception) -> None:
        """Log the first error of an outage, and drop the connection.

        The `Store` is not replaced: a recording process, not the worker, restarts an embedded
        server that was stopped.
        """
        if self.unreachable is None and isinstance(error, StoreError):
            log.warning("the worker is waiting for %s: %s", safe_url(self.store.url), error)
        elif self.unreachable is None:
            log.error("BUG: a pass of the worker failed", exc_info=error)
        self.unreachable = self.counts.last_error = str(error) or repr(error)
        self.disconnect()

    def once(self) -> Iterator[Counts]:
        """Run passes until nothing is due, and yield the counts after each.

        Raises:
            StoreError: If Redis is unreachable or rejects a command.
        """
        while True:
            done = self.pass_once(alone=True)
            yield self.counts
            if not done or self.stop.is_set():
                break
        self.leave()

    def client(self) -> Client:
        """Return the worker's connection, opened on first use."""
        if self._client is None:
            self._client = self.store.connect(retries=0)
        return self._client

    def disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def leave(self) -> None:
        """Remove the heartbeat, so that other workers take over at once. Never raises."""
        try:
            if self._client is not None:
                run(self._client, queue.leave(self.settings.namespace, self.id))
        except StoreError as error:
            log.debug("the worker stopped without removing its heartbeat: %s", error)
        self.disconnect()


def _kinds(retention: RetentionPolicy) -> list[str]:
    """Return the kinds of work in order of execution."""
    coarser = [each.name for each in retention.coarser(retention.finest)]
    return [*coarser, PARTITION, MERGE, *(cleanup.kind for cleanup in CLEANUPS)]


def _all(metrics: list[MetricLocation], step: Step, look: Look) -> Operation[list[Result]]:
    versions = yield from look(metrics)
    steps = [step(metric, seen) for metric, seen in zip(metrics, versions, strict=True)]
    return (yield from gather(steps))


def _batches(items: list[T], size: int) -> Iterator[list[T]]:
    return (items[at : at + size] for at in range(0, len(items), size))


def _split_by_metric(batch: list[Work]) -> Iterator[list[Work]]:
    """Split *batch* into lists of work in which each metric occurs only once."""
    left = batch
    while left:
        turn = {name: (slot, name) for slot, name in reversed(left)}
        yield list(turn.values())
        left = [each for each in left if turn[each[1]] is not each and turn[each[1]] != each]
