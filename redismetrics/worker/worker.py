"""The worker: seals logs into minutes, makes hours and days of them, and tidies. Any number may run on one namespace.

`python -m redismetrics.worker`, `redismetrics worker`, or a thread inside `Metrics(worker=True)`. Who works on which metric only
spares double work; that nothing is lost or doubled rests on the commits alone (commits.py).
"""

import logging
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import partial
from hashlib import blake2b
from time import monotonic, perf_counter
from typing import TypeVar

from redismetrics.errors import RedisMetricsError, StoreError, StoreUnavailable
from redismetrics.settings import Settings, retention_policy
from redismetrics.store import keys, namespace
from redismetrics.store.connection import Store
from redismetrics.store.driver import Client, Operation, gather, run
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.namespace import Config
from redismetrics.store.urls import safe_url

from . import cleanup, downsample, queue, seal
from .commit import Outcome, Result

log = logging.getLogger("redismetrics")

T = TypeVar("T")

INTERVAL = 5.0  # seconds between passes
PATIENCE = 4  # so many intervals may what is little wait
SIDE_BY_SIDE = 32  # metrics are worked on in the same round trips
AT_MOST = 1_000  # pieces of pending work are read at once
TRIES = 5  # of one piece of work in a pass, when somebody else was first
PRUNE_EVERY_MS = 3_600_000
BACKOFF, LONGEST_BACKOFF = 0.5, 15.0


@dataclass(slots=True)
class Counts:
    """What a worker did since it began; `stats` of the command shows it."""

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
    last_error: str | None = field(default=None)

    @property
    def lag_seconds(self) -> float:
        return self.lag_ms / 1000

    def as_dict(self) -> dict[str, int | float | str | None]:
        return {each.name: getattr(self, each.name) for each in fields(self)} | {
            "lag_seconds": self.lag_seconds
        }


class Worker:
    """One worker of one namespace; `pass_once` does what is due, `run` goes on until stopped.

    *tells*: of retentions other than the namespace's; in a recording process the sender does.
    """

    def __init__(self, settings: Settings, store: Store, *, tells: bool = True) -> None:
        self.settings = settings
        self.store = store
        self.tells = tells
        self.id = secrets.token_hex(8)
        self.counts = Counts()
        self.stop = threading.Event()
        self._client: Client | None = None
        self._config: Config | None = None
        self.away: str | None = None  # why no pass can be done at present
        self.moved_at = (
            monotonic()
        )  # when a piece of a pass was last done: the first after an outage may take long
        self._pruned_ms = 0
        self._failed: set[str] = set()

    # -- one pass -----------------------------------------------------------------------------------------------

    def pass_once(self, *, alone: bool = False, patience: float = 0.0) -> int:
        """Seal what was recorded, make the slots that are due, tidy; return how many pieces of work were done.

        *alone*: do the shares of other workers too, whether they are there or not. *patience*: a few blocks of a metric
        wait so many seconds, since sealing them costs as much as sealing many.

        Raises:
            StoreError: Redis is away, or refuses; what was committed before stays, and the rest is as it was.
        """
        began = perf_counter()
        client = self._connected()
        if self._config is None:
            self._config = self._open(client)
        now_ms, live = run(client, queue.heartbeat(self.settings.namespace, self.id))
        if alone:
            live = [self.id]
        failures, done = self.counts.failures, 0
        self.counts.lag_ms = 0
        for shard in range(self._config.shards):
            dirty = run(client, queue.dirty(self.settings.namespace, shard))
            mine = [name for name in dirty if self._is_mine(name, live)]
            for names in _batches(mine, SIDE_BY_SIDE):
                done += self._work(
                    client, shard, names, partial(seal.seal, patience_ms=1000 * patience)
                )
                if self.stop.is_set():
                    return done
            done += self._make_due(client, shard, now_ms, live)
        if now_ms - self._pruned_ms >= PRUNE_EVERY_MS and not self.stop.is_set():
            self._pruned_ms = now_ms
            self._prune_writers(client)
        if self.counts.failures == failures:
            self.counts.last_error = None
        self.counts.passes += 1
        self.counts.pass_seconds = perf_counter() - began
        self.moved_at = monotonic()
        return done

    def _open(self, client: Client) -> Config:
        wanted = retention_policy(self.settings)
        warn = log.warning if self.tells else None
        return run(
            client,
            namespace.open_namespace(self.settings.namespace, wanted, self.store.shards, warn),
        )

    def _make_due(self, client: Client, shard: int, now_ms: int, live: list[str]) -> int:
        """Make the slots that are due, the finer first."""
        done = left = 0
        while not self.stop.is_set():
            # Beyond what stays pending: the shares of others, what failed, what waits for something finer.
            found = run(
                client, queue.pending(self.settings.namespace, shard, now_ms, left, AT_MOST)
            )
            work = [(what, name) for what, name in found if self._is_mine(name, live)]
            before = done
            for rank in ("hour ", "day ", keys.SPAN, keys.FOLD, "trim", "sweep"):
                for batch in _batches(
                    [each for each in work if each[0].startswith(rank)], SIDE_BY_SIDE
                ):
                    # Of one metric only one at a time: each commit makes what the others have read old.
                    for turn in _turns(batch):
                        done += self._work(client, shard, [name for _, name in turn], _making(turn))
                        if self.stop.is_set():
                            return done
            left += max(len(found) - (done - before), 0)
            if len(found) < AT_MOST:
                break
        return done

    def _work(
        self,
        client: Client,
        shard: int,
        names: list[str],
        make: Callable[[MetricLocation], Operation[Result]],
    ) -> int:
        """Do one kind of work on several metrics side by side, again where somebody else was first, on where there is more."""
        assert self._config is not None
        if len(names) > 1 and not self._failed.isdisjoint(
            names
        ):  # what failed before goes alone: it takes none along
            sound = [name for name in names if name not in self._failed]
            apart = [[name] for name in names if name in self._failed]
            return sum(self._work(client, shard, part, make) for part in (sound, *apart))
        metrics = [
            MetricLocation(self.settings.namespace, shard, name, self._config.retention)
            for name in names
        ]
        done, tries = 0, TRIES
        while metrics and tries and not self.stop.is_set():
            try:
                results = run(client, gather([make(metric) for metric in metrics]))
            except StoreUnavailable:
                raise
            except Exception as error:  # noqa: BLE001  whatever is wrong with one metric must not stop the others
                if len(metrics) > 1:  # one of them: each by itself, so that it holds up no other
                    return done + sum(
                        self._work(client, shard, [metric.name], make) for metric in metrics
                    )
                self._fail(metrics[0].name, error)
                return done
            self.moved_at = monotonic()
            again = []
            for metric, result in zip(metrics, results, strict=True):
                if result.outcome in (Outcome.DONE, Outcome.MORE):
                    done += 1
                    self._count(result)
                if result.outcome in (Outcome.AGAIN, Outcome.MORE):
                    again.append(metric)
                self.counts.conflicts += result.outcome is Outcome.AGAIN
            if any(result.outcome is Outcome.AGAIN for result in results):
                tries -= 1
            metrics = again
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
        self.counts.failures += 1
        self.counts.last_error = f"{name}: {error}"
        if name not in self._failed:
            self._failed.add(name)
            ours = isinstance(error, RedisMetricsError)
            log.error(
                "%s: can't be sealed or rolled up: %s",
                name,
                error if ours else repr(error),
                exc_info=not ours,
            )

    def _is_mine(self, name: str, live: list[str]) -> bool:
        """Rendezvous hashing: each metric has its own order of the workers, so one that comes or goes moves only its share.

        Not by a CRC: those of two workers differ by the same bits whatever the name, so of three one got half of the names.
        """

        def rank(worker: str) -> bytes:
            return blake2b(f"{worker} {name}".encode(), digest_size=8).digest()

        return max(live, key=rank, default=self.id) == self.id

    def _prune_writers(self, client: Client) -> None:
        assert self._config is not None
        for shard in range(self._config.shards):
            self.counts.writers_pruned += run(
                client, queue.prune_writers(self.settings.namespace, shard, self._config.retention)
            )

    # -- for as long as it runs ---------------------------------------------------------------------------------

    def run(self, interval: float = INTERVAL) -> None:
        """Pass after pass until `stop` is set. Redis away is told once and waited for."""
        backoff = BACKOFF
        while not self.stop.is_set():
            try:
                self.pass_once(patience=PATIENCE * interval)
            except Exception as error:
                if isinstance(error, RedisMetricsError) and not isinstance(error, StoreError):
                    raise  # a setting: nothing to wait for
                if self.away is None and isinstance(error, StoreError):
                    log.warning("the worker waits for %s: %s", safe_url(self.store.url), error)
                elif self.away is None:
                    log.exception("BUG: a pass of the worker failed")
                self.away = self.counts.last_error = str(error) or repr(error)
                self.disconnect()  # and no `renew`: an embedded server that was stopped is started by who records, not by us
                pause, backoff = backoff, min(2 * backoff, LONGEST_BACKOFF)
            else:
                if self.away is not None:
                    log.info("%s answers again", safe_url(self.store.url))
                self.away, backoff = None, BACKOFF
                pause = max(interval, 3 * self.counts.pass_seconds)  # at most a quarter of one core
            self.stop.wait(pause)
        self.leave()

    def once(self) -> Iterator[Counts]:
        """Pass after pass until nothing is due, yielding the counts after each; raises `StoreError`."""
        while True:
            done = self.pass_once(alone=True)
            yield self.counts
            if not done or self.stop.is_set():
                break
        self.leave()

    def _connected(self) -> Client:
        if self._client is None:
            self._client = self.store.connect(retries=0)
        return self._client

    def disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def leave(self) -> None:
        """Take the heartbeat back, so that others take over at once; never raises."""
        try:
            if self._client is not None:
                run(self._client, queue.leave(self.settings.namespace, self.id))
        except StoreError as error:
            log.debug("the worker left without saying so: %s", error)
        self.disconnect()


def _making(turn: Iterable[tuple[str, str]]) -> Callable[[MetricLocation], Operation[Result]]:
    jobs = {name: what for what, name in turn}

    def make(metric: MetricLocation) -> Operation[Result]:
        what = jobs[metric.name]
        tidy = {keys.TRIM: cleanup.trim, keys.SWEEP: cleanup.sweep}.get(what)
        return downsample.downsample(metric, what) if tidy is None else tidy(metric)

    return make


def _batches(items: list[T], size: int) -> Iterable[list[T]]:
    return (items[at : at + size] for at in range(0, len(items), size))


def _turns(batch: list[tuple[str, str]]) -> Iterable[list[tuple[str, str]]]:
    """Lists in which no metric comes twice, together *batch*."""
    left = batch
    while left:
        turn = {name: (what, name) for what, name in reversed(left)}
        yield list(turn.values())
        left = [each for each in left if turn[each[1]] is not each and turn[each[1]] != each]
