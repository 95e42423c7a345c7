"""The sending half of the flusher: makes numbered batches of batches, and repeats each until the store confirms it."""

import logging
import re
import secrets
from collections import Counter as Tally
from dataclasses import dataclass, replace
from time import monotonic, perf_counter

import msgpack
from redis.exceptions import ResponseError

from redismetrics.errors import FormatMismatch, ScriptFailed, StoreError
from redismetrics.model.definition import Definition
from redismetrics.model.time import HOUR, SECOND, Clock
from redismetrics.settings import Settings, retention_policy
from redismetrics.store import catalog, keys, namespace
from redismetrics.store.connection import Store
from redismetrics.store.driver import Client, run
from redismetrics.store.urls import safe_url

from . import encode, write
from .batch import MetricBatch, convert, drop_outside, finish
from .buffers import MetricBuffers
from .recorder import CACHED, Recorder
from .send_queue import SendQueue
from .write import WriteRequest

log = logging.getLogger("redismetrics")

UNSEALED_MS = 600_000  # a block that waits longer for a worker is told of


@dataclass(slots=True)
class UnconfirmedBatch:
    """A batch that was sent and not confirmed: it stays as it is, number and bytes, until it is."""

    request: WriteRequest
    batches: list[MetricBatch]
    first_ms: float
    refusals: int = 0

    @property
    def samples(self) -> int:
        return sum(batch.samples.count for batch in self.batches)


# What a server says when it can't take a write now, or this user may not: up to 6.2 inside a script's error, and without its
# code. It may pass, so what is refused for it is kept.
_MAY_PASS = re.compile(
    "NOPERM|ACL failure|user executing the script|OOM|MISCONF|READONLY|NOREPLICAS|MASTERDOWN|CLUSTERDOWN|LOADING|BUSY"
)


def _is_permanent(error: ScriptFailed) -> bool:
    """Is it the batch that the server refuses, whenever and by whomever it is sent?"""
    cause = error.__cause__
    text = str(cause)
    return (
        type(cause) is ResponseError
        and ("WRONGTYPE" in text or "user_script" in text)
        and _MAY_PASS.search(text) is None
    )


class Sender:
    """One writer of one store. One thread at a time calls it.

    A batch gets its number when it is first sent. From then on it is in doubt: neither changed nor dropped for room, and no
    other goes to its shard, until it is confirmed.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        recorder: Recorder,
        send_queue: SendQueue,
        clock: Clock,
    ) -> None:
        self.settings = settings
        self.store = store
        self.recorder = recorder
        self.send_queue = send_queue
        self.clock = clock
        self.writer = secrets.token_hex(8)
        self.doubt: dict[int, UnconfirmedBatch] = {}
        self.abandoned = False  # another thread gave up on the one that is sending
        self.last_error: StoreError | None = None
        self.mismatches: dict[str, str] = {}
        self.batches = self.retries = self.lost_batches = self.unpublished = self.conflicts = 0
        self.batch_seconds = 0.0
        self._client: Client | None = None
        self._shards = 0
        self._sequence: Tally[int] = Tally()
        self._confirmed: dict[int, int] = {}
        self._confirmed_ms: dict[int, float] = {}
        self._offset_ms = 0.0  # of the server's clock before ours

    def connect(self, timeout: float | None = None) -> None:
        """Take a new connection, now or, without *timeout*, when it is needed."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
        if timeout is not None:
            self._client = self.store.connect(retries=0, timeout=timeout)

    def on_error(self, error: StoreError) -> None:
        """Note why samples wait, and begin anew with the connection."""
        with self.send_queue.change:
            if self.last_error is None and not self.send_queue.given_up:
                log.warning("samples wait for %s: %s", safe_url(self.store.url), error)
            self.last_error = error
            self.retries += bool(self.doubt)
            self.send_queue.notify()
        self.connect()
        self.store.renew()

    def clear_mismatch(self, name: str) -> None:
        """The store doesn't know this metric as another type any more; if it does again, that is to be told anew."""
        self.mismatches.pop(name, None)

    @property
    def in_doubt(self) -> int:
        """How many samples were sent and not confirmed."""
        return sum(doubt.samples for doubt in list(self.doubt.values()))

    def send_all(self, timeout: float | None = None) -> None:
        """Send until nothing is left; raises `StoreError` at the first failure. One thread at a time, under the lock."""
        until = None if timeout is None else monotonic() + timeout
        while not self.abandoned and (until is None or monotonic() < until):
            if not self.doubt and not self.send_queue.queue:
                return
            began = perf_counter()
            if self._client is None:
                self._client = self.store.connect(retries=0)
            if not self._shards:
                self._shards = self._open(self._client)
            for doubt in list(self.doubt.values()):
                self._send(self._client, doubt)
            found = self.send_queue.take()
            if found:
                self._send_parcels(self._client, found)
            self.batch_seconds = perf_counter() - began

    def _open(self, client: Client) -> int:
        """Learn the namespace's configuration, and tell where it isn't what this process was set to."""
        wanted = retention_policy(self.settings)
        config = run(
            client,
            namespace.open_namespace(
                self.settings.namespace, wanted, self.store.shards, self.recorder.warn_once
            ),
        )
        oldest = (config.retention.levels[0].retention - HOUR) / SECOND
        if (
            self.settings.max_age > oldest
        ):  # a writer is remembered only for so long as minutes are kept
            self.settings = replace(self.settings, max_age=oldest)
            self.recorder.warn_once(
                "namespace %s keeps minutes for %d hours: samples older than %g s are refused, not max_age",
                self.settings.namespace, config.retention.levels[0].retention // HOUR, oldest,
            )  # fmt: skip
        return config.shards

    def _send_parcels(self, client: Client, found: list[MetricBatch]) -> None:
        try:
            ready = self._apply_catalog(client, found)
        except BaseException:
            self.send_queue.put_back(found)  # nothing was sent: they wait on
            raise
        by_shard: dict[int, list[MetricBatch]] = {}
        for batch in ready:
            by_shard.setdefault(keys.shard_of(batch.name, self._shards), []).append(batch)
        doubts = []
        for shard, inside in by_shard.items():
            if (
                self.clock() * 1000 - self._confirmed_ms.get(shard, 0)
                > self.settings.max_age * 1000
            ):
                self._begin_anew(shard)
            wires, packed = self._packed(inside)
            if not packed:
                continue
            self._sequence[shard] += 1
            sent = write.write_request(
                self.settings.namespace, shard, self.writer, self._sequence[shard], self._confirmed.get(shard, 0), wires,
                self.settings,
            )  # fmt: skip
            doubt = UnconfirmedBatch(sent, packed, self.clock() * 1000)
            with self.send_queue.change:
                if self.send_queue.given_up:
                    return
                self.doubt[shard] = doubt
            doubts.append(doubt)
        for doubt in doubts:
            self._send(client, doubt)

    def _begin_anew(self, shard: int) -> None:
        """After a long pause the store may have pruned this writer: that is no loss, and what it knew is not relied on."""
        if self._confirmed.pop(shard, 0):
            self._forget_ids()

    def _forget_ids(self) -> None:
        for metric in list(self.recorder.metrics.values()):
            metric.ids.clear()

    def _packed(
        self, found: list[MetricBatch]
    ) -> tuple[list[tuple[str, bytes, bytes]], list[MetricBatch]]:
        """The batches as bytes; one that can't be packed is dropped and counted, so that it holds up no other."""
        wires, packed = [], []
        for batch in found:
            try:
                wires.append((batch.name, *encode.encode(batch, self._ids(batch.name))))
                packed.append(batch)
            except Exception:
                log.exception(
                    "BUG: %s: %d samples can't be packed, and are dropped",
                    batch.name,
                    batch.samples.count,
                )
                self.send_queue.drop("failed", batch.samples.count)
        return wires, packed

    def _apply_catalog(self, client: Client, found: list[MetricBatch]) -> list[MetricBatch]:
        """Learn from the catalogue what is new, convert what was guessed, leave out what is too old or from the future."""
        unknown: dict[int, list[str]] = {}
        for batch in found:
            metric = self.recorder.metrics.get(batch.name)
            if metric is None or not metric.learned:
                unknown.setdefault(keys.shard_of(batch.name, self._shards), []).append(batch.name)
        unreadable: set[str] = set()
        for shard, names in unknown.items():
            known = run(client, catalog.definitions(self.settings.namespace, shard, names))
            for name in names:
                definition = known.get(name)
                if isinstance(definition, FormatMismatch):
                    log.error("%s: its samples are dropped: %s", name, definition)
                    unreadable.add(name)
                else:
                    self._learn(name, definition)
        now = self.clock() * 1000 + self._offset_ms
        ready = []
        for batch in found:
            if batch.name in unreadable:
                self.send_queue.drop("refused", batch.samples.count)
                continue
            fitting = self._as_known(batch)
            if fitting is None:
                continue
            kept, old, ahead = drop_outside(
                fitting,
                round(now - self.settings.max_age * 1000),
                round(now + self.settings.max_future * 1000),
            )
            self._drop_by_age(batch.name, old, ahead)
            if kept is not None:
                ready.append(finish(kept))
        return ready

    def _ids(self, name: str) -> dict[bytes, int]:
        metric = self.recorder.metrics.get(name)
        return {} if metric is None else metric.ids

    def _learn(self, name: str, definition: Definition | None) -> None:
        """Take over the catalogue's definition of a metric."""
        metric = self.recorder.metrics.get(name)
        if metric is None:
            return
        if definition is None:
            return
        metric.learned = True
        if metric.definition == definition:
            return
        if metric.definition.type == definition.type:
            if metric.declared:
                self.conflicts += 1
                self.recorder.warn_once(
                    "%s was declared otherwise before, and that one holds: %s", name, definition
                )
            metric.definition = definition
        elif not metric.explicit:
            new = MetricBuffers(name, definition, explicit=False)
            new.learned = True
            self.recorder.metrics[name] = new
            self.recorder.retire(metric)
            self.recorder.forget_series()

    def _as_known(self, batch: MetricBatch) -> MetricBatch | None:
        """The batch in the definition that holds; None where it can't be."""
        metric = self.recorder.metrics.get(batch.name)
        return batch if metric is None else self._fit(batch, metric.definition)

    def _fit(self, batch: MetricBatch, wanted: Definition) -> MetricBatch | None:
        if batch.definition == wanted:
            return batch
        if batch.explicit and batch.kind != wanted.type:
            message = f"{batch.name!r} is a {wanted.type}; got a {batch.kind}"
            self.recorder.warn_once("TypeMismatch: %s", message)
            self.mismatches.setdefault(batch.name, message)
            self.send_queue.drop("type_mismatch", batch.samples.count)
            return None
        fitting, bad = convert(batch, wanted)
        self.send_queue.drop("type_mismatch", bad)
        return fitting

    def _send(self, client: Client, doubt: UnconfirmedBatch) -> None:
        """Send a batch, the first time or again, and take its confirmation to heart."""
        shard = doubt.request.shard
        if (
            self.clock() * 1000 - doubt.first_ms
            > (self.settings.max_age + self.settings.max_future) * 1000
        ):
            self._forget(
                doubt, "unknown"
            )  # the store may have forgotten this writer: repeating could double
            return
        try:
            reply = run(client, write.record(doubt.request))
        except ScriptFailed as error:
            if not _is_permanent(error):
                raise
            doubt.refusals += 1
            if doubt.refusals < 2:  # once more: if it was applied in part, its kept reply comes now
                raise
            self._refused(doubt, error)
            return
        self._offset_ms = reply.clock / 1000 - self.clock() * 1000
        with self.send_queue.change:
            if self.doubt.get(shard) is not doubt:
                return  # close() gave it up meanwhile, and counted it
            if reply.held < self._confirmed.get(shard, 0):
                self.lost_batches += self._confirmed[shard] - reply.held
                self.recorder.warn_once(
                    "the store lost confirmed batches: a failover, or its data was deleted"
                )
                self._forget_ids()
            self._confirmed[shard] = doubt.request.sequence
            self._confirmed_ms[shard] = self.clock() * 1000
            self.doubt.pop(shard, None)
            self.batches += 1
            self.unpublished += reply.unpublished
            if self.last_error is not None:
                log.info("%s answers again", safe_url(self.store.url))
                self.last_error = None
            refused = {
                index: (reason, detail)
                for index, reason, detail in reply.problems
                if reason != "overflow"
            }
            for index, batch in enumerate(doubt.batches):
                if index not in refused:
                    self.send_queue.confirm(batch.samples.count)
        if reply.unsealed_ms > UNSEALED_MS:
            self.recorder.warn_once(
                "no worker seals what is recorded in %s: run `python -m redismetrics.worker`, or use Metrics(worker=True)",
                self.settings.namespace,
            )
        for index, reason, detail in reply.problems:
            if reason == "overflow":
                tag, many = msgpack.unpackb(detail)
                self.recorder.overflow(doubt.batches[index].name, tag, many)
        for index, ids in reply.learned:
            known = self._ids(doubt.batches[index].name)
            if len(known) > CACHED:
                known.clear()
            known.update(zip(doubt.batches[index].canonicals, ids, strict=True))
        for index, batch in enumerate(doubt.batches):
            metric = self.recorder.metrics.get(batch.name)
            if index in refused:
                try:
                    self._requeue_refused(batch, *refused[index])
                except Exception:  # what the store holds in its place can't be read
                    log.exception("%s: %d samples are dropped", batch.name, batch.samples.count)
                    self.send_queue.drop("refused", batch.samples.count)
            else:
                self.clear_mismatch(batch.name)
                if metric is not None and metric.definition == batch.definition:
                    metric.learned = True

    def _requeue_refused(self, batch: MetricBatch, reason: str, detail: bytes) -> None:
        """A block that the script refused, untouched: learn what it said, and send the rest under a new number."""
        kept: MetricBatch | None = batch
        if reason == "definition":  # another process made the metric between our look and our batch
            wanted = Definition.unpack(detail)
            self._learn(batch.name, wanted)
            kept = self._fit(batch, wanted)
        elif reason == "unknown_series":  # deleted since we learned its id
            self._ids(batch.name).clear()
        else:
            now = int(float(detail))
            kept, old, ahead = drop_outside(
                batch,
                round(now - self.settings.max_age * 1000) + 1000,
                round(now + self.settings.max_future * 1000),
            )
            self._drop_by_age(batch.name, old, ahead)
        if kept is not None:
            self.send_queue.put_back([kept])

    def _refused(self, doubt: UnconfirmedBatch, error: ScriptFailed) -> None:
        """The server refused a batch for what is in it, and applied nothing: each metric is tried alone, then dropped."""
        if len(doubt.batches) == 1:
            log.error("%s: %d samples are dropped: %s", doubt.batches[0].name, doubt.samples, error)
            self._forget(doubt, "refused")
            return
        with self.send_queue.change:
            self.doubt.pop(doubt.request.shard, None)
        for batch in doubt.batches:
            batch.alone = True
        self.send_queue.put_back(doubt.batches)

    def _forget(self, doubt: UnconfirmedBatch, reason: str) -> None:
        with self.send_queue.change:
            self.doubt.pop(doubt.request.shard, None)
            self.send_queue.drop_locked(reason, doubt.samples)
        self._forget_ids()  # its reply might have told that the store lost data

    def _drop_by_age(self, name: str, old: int, ahead: int) -> None:
        self.send_queue.drop("too_old", old)
        self.send_queue.drop("in_future", ahead)
        if old or ahead:
            self.recorder.warn_once(
                "%s: samples older than max_age, or further ahead than max_future, by the server's clock are dropped",
                name,
            )
