"""The sender: numbers batches, sends them, and repeats each until Redis confirms it."""

import logging
import secrets
from collections import Counter as Tally
from time import perf_counter
from typing import Any

import msgpack

from redismetrics.errors import FormatMismatch, ScriptFailed, StoreError
from redismetrics.model.definition import Definition
from redismetrics.model.safe_url import safe_url
from redismetrics.model.time import monotonic
from redismetrics.store import catalog, keys, server
from redismetrics.store.connection import Store
from redismetrics.store.driver import Client, run

from . import write
from .batch import MetricBatch, convert, drop_outside, finish, is_outside
from .encode import EncodedBatch, encode
from .known_definitions import KnownDefinitions
from .known_namespace import KnownNamespace
from .recorder import Recorder
from .send_queue import SendQueue
from .unconfirmed import UnconfirmedBatch, is_permanent
from .write import WriteReply

log = logging.getLogger("redismetrics")

# Warn when the oldest block that no worker has processed is older than this.
UNSEALED_MS = 600_000


class Sender:
    """One writer of one store. Only one thread at a time may call it.

    A batch gets its number when it is first sent. From then on it is unconfirmed: it is neither
    changed nor dropped for lack of space, and no other batch goes to its shard before Redis
    confirms it.
    """

    def __init__(self, store: Store, recorder: Recorder, send_queue: SendQueue) -> None:
        self.settings = recorder.settings
        self.store = store
        self.recorder = recorder
        self.send_queue = send_queue
        self.known = KnownDefinitions(recorder)
        self.writer = secrets.token_hex(8)
        # By shard.
        self.unconfirmed: dict[int, UnconfirmedBatch] = {}
        # Set when another thread no longer waits for the one that is sending.
        self.abandoned = False
        self.last_error: StoreError | None = None
        # By metric: the message of a `TypeMismatch`, or "" once it was raised.
        self.mismatches: dict[str, str] = {}
        self._batches = self._retries = self._lost_batches = self._unpublished = 0
        self._batch_seconds = 0.0
        self._client: Client | None = None
        self._namespace = KnownNamespace(store, recorder)
        self._sequence: Tally[int] = Tally()
        self._confirmed: dict[int, int] = {}
        # When the last batch was confirmed, by the steady clock.
        self._confirmed_at: dict[int, float] = {}
        # The server's clock minus ours, as of the last reply. Either may have been set since, so
        # nothing is dropped because of it before the server is asked again: see `_renew_offset`.
        self._offset_ms = 0.0

    def counts(self) -> dict[str, Any]:
        """Return the sender's part of `Metrics.stats`."""
        return {
            "in_doubt": self.in_doubt,
            "batches": self._batches,
            "retries": self._retries,
            "lost_batches": self._lost_batches,
            "unpublished": self._unpublished,
            "definition_conflicts": self.known.conflicts,
            "flush_seconds": self._batch_seconds,
            "writer": self.writer,
            "last_error": None if self.last_error is None else str(self.last_error),
        }

    @property
    def in_doubt(self) -> int:
        """The number of samples that were sent and not confirmed."""
        return sum(batch.samples for batch in list(self.unconfirmed.values()))

    def clear_mismatch(self, name: str) -> None:
        """Note that the metric has no other type in Redis any more.

        If it has again, `flush` raises again.
        """
        self.mismatches.pop(name, None)

    def _now_ms(self) -> float:
        return self.recorder.clock() * 1000

    # -- connection -------------------------------------------------------------------------------

    def connect(self, timeout: float | None = None) -> None:
        """Drop the connection; open a new one now or, without *timeout*, when it is needed."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
        if timeout is not None:
            self._client = self.store.connect(retries=0, timeout=timeout)

    def on_error(self, error: StoreError) -> None:
        """Remember the error, log the first one, and drop the connection."""
        with self.send_queue.change:
            if self.last_error is None and not self.send_queue.given_up:
                log.warning("samples wait for %s: %s", safe_url(self.store.url), error)
            self.last_error = error
            self._retries += bool(self.unconfirmed)
            self.send_queue.notify()
        self.connect()
        self._namespace.doubt()
        self.store.renew()

    # -- sending ----------------------------------------------------------------------------------

    def send_all(self, timeout: float | None = None) -> None:
        """Send until nothing is left.

        Raises:
            StoreError: At the first failure.
        """
        until = None if timeout is None else monotonic() + timeout
        while not self.abandoned and (until is None or monotonic() < until):
            if not self.unconfirmed and not self.send_queue.queue:
                return
            began = perf_counter()
            if self._client is None:
                self._client = self.store.connect(retries=0)
            for batch in list(self.unconfirmed.values()):
                self._send(self._client, batch)
            if self._namespace.needs_check():
                self.settings = self._namespace.open(self._client, self.settings)
            found = self.send_queue.take()
            if found:
                self._send_new(self._client, found)
            self._batch_seconds = perf_counter() - began

    def _send_new(self, client: Client, found: list[MetricBatch]) -> None:
        """Number what was taken off the queue, a batch for each shard, and send it."""
        try:
            ready = self._apply_catalog(client, found)
        except BaseException:
            self.send_queue.put_back(found)
            raise
        by_shard: dict[int, list[MetricBatch]] = {}
        for batch in ready:
            by_shard.setdefault(keys.shard_of(batch.name, self._namespace.shards), []).append(batch)
        numbered = []
        for shard, inside in by_shard.items():
            now = self.recorder.steady_clock()
            if now - self._confirmed_at.get(shard, now) > self.settings.max_age:
                self._begin_again(shard)
            encoded, packed = self._encode(inside)
            if not packed:
                continue
            self._sequence[shard] += 1
            request = write.write_request(
                self.settings.namespace,
                shard,
                self.writer,
                self._sequence[shard],
                self._confirmed.get(shard, 0),
                encoded,
                self.settings,
                self.store.database,
            )
            new = UnconfirmedBatch(request, packed, now)
            with self.send_queue.change:
                if self.send_queue.given_up:
                    return
                self.unconfirmed[shard] = new
            numbered.append(new)
        for new in numbered:
            self._send(client, new)

    def _begin_again(self, shard: int) -> None:
        """After a long pause, don't rely on what Redis knew of this writer: it may be pruned."""
        if self._confirmed.pop(shard, 0):
            self.known.forget_ids()

    def _encode(self, found: list[MetricBatch]) -> tuple[list[EncodedBatch], list[MetricBatch]]:
        """Return the batches as bytes, and those that could be encoded.

        One that can't be is dropped and counted, so that the others are not held up.
        """
        encoded, packed = [], []
        for batch in found:
            try:
                encoded.append(
                    encode(batch, self.known.ids(batch.name), self.known.epoch(batch.name))
                )
                packed.append(batch)
            except Exception:
                log.exception(
                    "BUG: %s: %d samples can't be encoded and are dropped",
                    batch.name,
                    batch.samples.count,
                )
                self.send_queue.drop("failed", batch.samples.count, batch.name)
        return encoded, packed

    def _send(self, client: Client, batch: UnconfirmedBatch) -> None:
        """Send or resend a batch and process the reply."""
        remembered = self.settings.max_age + self.settings.max_future
        if self.recorder.steady_clock() - batch.first_sent > remembered:
            # Redis may have forgotten this writer: sending again could store the samples twice.
            self._give_up(batch, "unknown")
            return
        try:
            reply = run(client, write.record(batch.request))
        except ScriptFailed as error:
            if not is_permanent(error):
                raise
            batch.refusals += 1
            # Once more: if it was applied in part, Redis now returns the reply that it kept.
            if batch.refusals < 2:
                raise
            self._isolate(batch, error)
            return
        self._offset_ms = reply.clock / 1000 - self._now_ms()
        if reply.held < self._confirmed.get(batch.request.shard, 0):
            self._note_loss(batch.request.shard, reply.held)
            # Before anybody waits no longer for the batch, and asks for it.
            self.settings = self._namespace.open(client, self.settings)
        refused = {
            index: (reason, detail)
            for index, reason, detail in reply.problems
            if reason != "overflow"
        }
        if self._confirm(batch, reply, refused):
            self._apply_reply(batch, reply, refused)

    def _note_loss(self, shard: int, held: int) -> None:
        """Count the confirmed batches that Redis lost: it holds them up to number *held*."""
        self._lost_batches += self._confirmed[shard] - held
        self._confirmed[shard] = held
        self.recorder.warn_once(
            "Redis lost confirmed batches: after a failover, or its data was deleted"
        )
        self.known.forget_ids()
        self._namespace.doubt()

    def _confirm(
        self,
        batch: UnconfirmedBatch,
        reply: WriteReply,
        refused: dict[int, tuple[str, bytes]],
    ) -> bool:
        """Count a confirmed batch as stored; return False if `close` gave it up meanwhile."""
        shard = batch.request.shard
        with self.send_queue.change:
            if self.unconfirmed.get(shard) is not batch:
                return False
            self._confirmed[shard] = batch.request.sequence
            self._confirmed_at[shard] = self.recorder.steady_clock()
            self.unconfirmed.pop(shard, None)
            self._batches += 1
            self._unpublished += reply.unpublished
            if self.last_error is not None:
                log.info("%s answers again", safe_url(self.store.url))
                self.last_error = None
            for index, part in enumerate(batch.batches):
                if index not in refused:
                    self.send_queue.confirm(part.name, part.samples.count)
        return True

    def _apply_reply(
        self,
        batch: UnconfirmedBatch,
        reply: WriteReply,
        refused: dict[int, tuple[str, bytes]],
    ) -> None:
        """Learn from a reply, and queue again what the script refused."""
        if reply.unsealed_ms > UNSEALED_MS:
            self.recorder.warn_once(
                "no worker processes the samples of namespace %s: "
                "run `python -m redismetrics.worker`, or use Metrics(worker=True)",
                self.settings.namespace,
            )
        for index, reason, detail in reply.problems:
            if reason == "overflow":
                tag, count = msgpack.unpackb(detail)
                self.recorder.drops.overflow(batch.batches[index].name, tag, count)
        for index, ids, epoch in reply.learned:
            part = batch.batches[index]
            self.known.learn_ids(part.name, part.canonicals, ids, epoch)
        for index, part in enumerate(batch.batches):
            if index not in refused:
                self.clear_mismatch(part.name)
                self.known.confirm(part.name, part.definition)
                continue
            try:
                self._requeue_refused(part, *refused[index])
            except Exception:  # the definition in Redis can't be read
                log.exception("%s: %d samples are dropped", part.name, part.samples.count)
                self.send_queue.drop("refused", part.samples.count, part.name)

    # -- what doesn't fit -------------------------------------------------------------------------

    def _apply_catalog(self, client: Client, found: list[MetricBatch]) -> list[MetricBatch]:
        """Look up new metrics in the catalog; return the batches that fit and are not too old."""
        unknown: dict[int, list[str]] = {}
        for batch in found:
            if not self.known.is_learned(batch.name):
                shard = keys.shard_of(batch.name, self._namespace.shards)
                unknown.setdefault(shard, []).append(batch.name)
        unreadable: set[str] = set()
        for shard, names in unknown.items():
            known = run(client, catalog.definitions(self.settings.namespace, shard, names))
            for name in names:
                definition = known.get(name)
                if isinstance(definition, FormatMismatch):
                    log.error("%s: its samples are dropped: %s", name, definition)
                    unreadable.add(name)
                elif definition is not None:
                    self.known.learn(name, definition)
        limits = self._time_limits()
        if any(is_outside(batch, *limits) for batch in found):
            # Only a reply renews the offset, and samples that are dropped here get none.
            self._renew_offset(client)
            limits = self._time_limits()
        ready = []
        for batch in found:
            if batch.name in unreadable:
                self.send_queue.drop("refused", batch.samples.count, batch.name)
                continue
            current = self.known.definition(batch.name)
            fitting = batch if current is None else self._fit(batch, current)
            if fitting is not None:
                kept = self._drop_outside(fitting, *limits)
                if kept is not None:
                    ready.append(finish(kept))
        return ready

    def _renew_offset(self, client: Client) -> None:
        before = self._now_ms()
        self._offset_ms = run(client, server.now()) - (before + self._now_ms()) / 2

    def _time_limits(self) -> tuple[int, int]:
        """Return the oldest and the newest time in ms that Redis accepts, as far as known."""
        now = self._now_ms() + self._offset_ms
        return (
            round(now - self.settings.max_age * 1000),
            round(now + self.settings.max_future * 1000),
        )

    def _fit(self, batch: MetricBatch, definition: Definition) -> MetricBatch | None:
        """Return the batch converted to *definition*; None if its type contradicts it."""
        if batch.definition == definition:
            return batch
        if batch.explicit and batch.kind != definition.type:
            message = f"{batch.name!r} is a {definition.type}; got a {batch.kind}"
            self.recorder.warn_once("TypeMismatch: %s", message)
            self.mismatches.setdefault(batch.name, message)
            self.send_queue.drop("type_mismatch", batch.samples.count, batch.name)
            return None
        fitting, bad = convert(batch, definition)
        self.send_queue.drop("type_mismatch", bad, batch.name)
        return fitting

    def _drop_outside(
        self, batch: MetricBatch, oldest_ms: int, newest_ms: int
    ) -> MetricBatch | None:
        """Drop and count what is too old or too far ahead; return the rest, None if none is."""
        kept, old, ahead = drop_outside(batch, oldest_ms, newest_ms)
        self.send_queue.drop("too_old", old, batch.name)
        self.send_queue.drop("in_future", ahead, batch.name)
        if old or ahead:
            self.recorder.warn_once(
                "%s: samples older than max_age, or further ahead than max_future, "
                "by the server's clock, are dropped",
                batch.name,
            )
        return kept

    def _requeue_refused(self, batch: MetricBatch, reason: str, detail: bytes) -> None:
        """Correct a batch that the script refused, and queue what remains of it."""
        kept: MetricBatch | None = batch
        if reason == "definition":
            # Another process created the metric between our look-up and our batch.
            definition = Definition.unpack(detail)
            self.known.learn(batch.name, definition)
            kept = self._fit(batch, definition)
        elif reason == "unknown_series":
            # A series was deleted after we learned its number.
            self.known.forget_ids(batch.name)
        elif reason in ("corrupt", "newer_kind"):
            why = detail.decode(errors="replace")
            if reason == "newer_kind":
                why = (
                    "they change a gauge that a newer version of redismetrics records; upgrade "
                    "this process"
                )
            log.error("%s: %d samples are dropped: %s", batch.name, batch.samples.count, why)
            self.send_queue.drop("refused", batch.samples.count, batch.name)
            kept = None
        else:
            now = int(float(detail))
            kept = self._drop_outside(
                batch,
                round(now - self.settings.max_age * 1000) + 1000,
                round(now + self.settings.max_future * 1000),
            )
        if kept is not None:
            self.send_queue.put_back([kept])

    def _isolate(self, batch: UnconfirmedBatch, error: ScriptFailed) -> None:
        """Send each metric of a batch that Redis rejects alone; drop one that is alone already.

        Nothing of the batch was applied.
        """
        if len(batch.batches) == 1:
            log.error("%s: %d samples are dropped: %s", batch.batches[0].name, batch.samples, error)
            self._give_up(batch, "refused")
            return
        with self.send_queue.change:
            self.unconfirmed.pop(batch.request.shard, None)
        for part in batch.batches:
            part.alone = True
        self.send_queue.put_back(batch.batches)

    def _give_up(self, batch: UnconfirmedBatch, reason: str) -> None:
        with self.send_queue.change:
            self.unconfirmed.pop(batch.request.shard, None)
            for part in batch.batches:
                self.send_queue.drop_locked(reason, part.samples.count, part.name)
        # Its reply might have said that Redis lost data.
        self.known.forget_ids()
