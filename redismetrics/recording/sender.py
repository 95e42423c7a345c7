"""The sender: numbers batches, sends them, and repeats each until Redis confirms it."""

import logging
import secrets
import threading
from collections import Counter as Tally
from functools import partial
from time import perf_counter
from typing import Any

from redismetrics.errors import ScriptFailed, StoreError
from redismetrics.model.safe_url import safe_url
from redismetrics.model.time import monotonic
from redismetrics.store.cluster import ClusterClient
from redismetrics.store.connection import Store
from redismetrics.store.driver import Client, Operation, run

from . import write
from .backoff import Retries
from .batch import MetricBatch
from .encode import EncodedBatch, encode
from .fitting import Fitting
from .known_definitions import KnownDefinitions
from .known_namespace import KnownNamespace
from .lanes import Lanes
from .recorder import Recorder
from .send_queue import SendQueue
from .unconfirmed import PackedBatch, UnconfirmedBatch, is_permanent
from .write import WriteReply

log = logging.getLogger("redismetrics")

# Warn when the oldest block that no worker has processed is older than this.
UNSEALED_MS = 600_000

# Instead of a shard number: the operation that reads the namespace's configuration.
_OPENING = -1
# How long the shards of a cluster wait for it at most.
_OPENING_SECONDS = 0.25


class Sender:
    """One writer of one store. Only one thread at a time may call it.

    A batch gets its number when it is first sent. From then on it is unconfirmed: it is neither
    changed nor dropped for lack of space, and no other batch is sent to its shard until Redis
    confirms it.
    """

    def __init__(self, store: Store, recorder: Recorder, send_queue: SendQueue) -> None:
        self.settings = recorder.settings
        self.store = store
        self.recorder = recorder
        self.send_queue = send_queue
        self.known = KnownDefinitions(recorder)
        self.writer = secrets.token_hex(8)
        self.unconfirmed: dict[int, UnconfirmedBatch] = {}
        self._ahead: dict[int, PackedBatch] = {}
        # Set when another thread no longer waits for the one that is sending.
        self.abandoned = False
        self.last_error: StoreError | None = None
        self.fitting = Fitting(recorder, send_queue, self.known)
        self.own = self.fitting.own
        self._batches = self._retries = self._lost_batches = self._unpublished = 0
        self._batch_seconds = 0.0
        self._client: Client | None = None
        # For a cluster: what sends to several nodes, and which shards wait after a failure.
        self._lanes: Lanes | None = None
        self.retries = Retries()
        self._opening_since = 0.0
        self._namespace = KnownNamespace(store, recorder)
        self._sequence: Tally[int] = Tally()
        self._confirmed: dict[int, int] = {}
        # When the last batch was confirmed, by the monotonic clock.
        self._confirmed_at: dict[int, float] = {}

    def counts(self) -> dict[str, Any]:
        """Return the part of `Metrics.stats` about the sender."""
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
        """The number of samples that were sent but not confirmed."""
        return sum(batch.samples for batch in list(self.unconfirmed.values()))

    def clear_mismatch(self, name: str) -> None:
        """Note that the metric no longer has another type in Redis.

        If it does again, `flush` raises again.
        """
        self.fitting.mismatches.pop(name, None)

    # -- connection -------------------------------------------------------------------------------

    def connect(self, timeout: float | None = None) -> None:
        """Drop the connection; open a new one now, or without *timeout* when it is needed."""
        client, self._client = self._client, None
        lanes, self._lanes = self._lanes, None
        if client is not None:
            client.close()
        if lanes is not None:
            lanes.stop()
        if timeout is not None:
            self._client = self.store.connect(retries=0, timeout=timeout)

    def on_error(self, error: StoreError) -> None:
        """Remember the error, log the first one, and drop the connection."""
        self._note_error(error)
        self.connect()
        self.store.renew()

    def _note_error(self, error: StoreError) -> None:
        with self.send_queue.change:
            if self.last_error is None and not self.send_queue.given_up:
                log.warning("samples are waiting for %s: %s", safe_url(self.store.url), error)
            self.last_error = error
            self._retries += bool(self.unconfirmed)
            self.send_queue.notify()
        self._namespace.doubt()

    # -- sending ----------------------------------------------------------------------------------

    def send_all(self, timeout: float | None = None, stop: threading.Event | None = None) -> None:
        """Send until nothing is left, the time is up, or *stop* is set.

        The shards of a cluster are sent independently: a failing one is retried with increasing
        delays, while the others continue.

        Raises:
            StoreError: At the first failure, if the store is not a cluster.
        """
        until = None if timeout is None else monotonic() + timeout
        try:
            while not self._is_over(until, stop):
                shards = self._shards_to_send()
                if not shards:
                    return
                if self._client is None:
                    self._client = self.store.connect(retries=0)
                if self._namespace.is_open and isinstance(self._client, ClusterClient):
                    self._send_at_once(self._client, shards, until)
                    continue
                if self._namespace.needs_check():
                    # New samples are stored after that.
                    shards = list(self.unconfirmed)
                    if not shards:
                        run(self._client, self._open())
                for shard in shards:
                    if not self._is_over(until, stop):
                        run(self._client, self._send_shard(shard))
        finally:
            # Only unconfirmed batches are outside the queue's limits for long.
            for shard in list(self._ahead):
                self._put_back_ahead(shard)

    def _is_over(self, until: float | None, stop: threading.Event | None) -> bool:
        return (
            self.abandoned
            or (until is not None and monotonic() >= until)
            or (stop is not None and stop.is_set())
        )

    def _shards_to_send(self) -> list[int]:
        running = [] if self._lanes is None else self._lanes.running()
        waiting = (*self._ahead, *self.send_queue.shards(), *self.own.due_shards(self._namespace))
        shards = dict.fromkeys((*self.unconfirmed, *running, *waiting))
        shards.pop(_OPENING, None)
        return list(shards)

    def hurry(self) -> None:
        """Retry failed operations now, because a caller is waiting. Any thread may call this."""
        self.retries.hurry()
        self.wake()

    def wake(self) -> None:
        """Check the queue now, if `send_all` is waiting for replies. Any thread may call this."""
        lanes = self._lanes
        if lanes is not None:
            lanes.wake()

    def _send_at_once(self, client: ClusterClient, shards: list[int], until: float | None) -> None:
        """Start sending to each idle shard, and wait until one operation ends."""
        if self._lanes is None:
            self._lanes = Lanes(client)
        lanes, waits = self._lanes, [] if until is None else [max(until - monotonic(), 0)]
        if self._namespace.needs_check():
            if not lanes.is_running(_OPENING) and not self.retries.seconds_left(_OPENING):
                self._opening_since = monotonic()
                lanes.start(_OPENING, self._open())
            # New samples are stored after that, unless the node with the configuration is down.
            left = self._opening_since + _OPENING_SECONDS - monotonic()
            if lanes.is_running(_OPENING) and _OPENING not in self.retries and left > 0:
                shards = [shard for shard in shards if shard in self.unconfirmed]
                waits.append(left)
        for shard in shards:
            if not lanes.is_running(shard):
                wait = self.retries.seconds_left(shard)
                if wait:
                    waits.append(wait)
                else:
                    lanes.start(shard, self._send_shard(shard))
        ended = lanes.next_end(min(waits, default=None))
        if ended is not None:
            number, error = ended
            if error is None:
                self.retries.note_success(number)
            else:
                self._put_back_ahead(number)
                self.retries.note_failure(number)
                self._note_error(error)

    def _open(self) -> Operation[None]:
        settings = yield from self._namespace.open(self.settings)
        self.settings = self.fitting.settings = settings
        self.send_queue.set_shards(self._namespace.shards)

    def _send_shard(self, shard: int) -> Operation[None]:
        """Resend a shard's unconfirmed batch; if there is none, send waiting batches."""
        began = perf_counter()
        batch = self.unconfirmed.get(shard)
        if batch is None:
            packed = yield from self._pack(shard)
            batch = None if packed is None else self._number(shard, packed)
        if batch is not None:
            yield from self._send(batch)
        self._batch_seconds = perf_counter() - began

    def _pack(self, shard: int) -> Operation[PackedBatch | None]:
        """Return the batch packed ahead, or pack waiting samples; None if there are none."""
        if self._is_long_ago(shard):
            self._put_back_ahead(shard)
        elif shard in self._ahead:
            return self._ahead.pop(shard)
        found = self.send_queue.take(shard)
        if not found:
            return self._encode(self.own.repeated(shard, self._namespace))
        try:
            unreadable = yield from self.fitting.look_up(shard, found)
            ready = self.fitting.fit_all(found, unreadable)
        except BaseException:
            self.send_queue.put_back(found)
            raise
        if self._is_long_ago(shard):
            self._start_over(shard)
        return self._encode(ready)

    def _pack_ahead(self, shard: int) -> None:
        """Pack the next batch while the server works on one, unless Redis must be asked first.

        It contains the ids known at this time, in their epoch. So it is packed again if the reply
        shows that Redis lost data, or rejects samples that are sent again.
        """
        if shard in self._ahead:
            return
        found = self.send_queue.take(shard)
        try:
            ready = self.fitting.fit_all(found) if self.fitting.needs_no_look_up(found) else None
        except BaseException:
            self.send_queue.put_back(found)
            raise
        packed = None if ready is None else self._encode(ready)
        if packed is not None:
            self._ahead[shard] = packed
        elif ready is None:
            self.send_queue.put_back(found)

    def _put_back_ahead(self, shard: int) -> None:
        packed = self._ahead.pop(shard, None)
        if packed is not None:
            self.send_queue.put_back(packed.batches)

    def _number(self, shard: int, packed: PackedBatch) -> UnconfirmedBatch | None:
        """Give a batch its number; return None if `close` has given up everything."""
        self._sequence[shard] += 1
        request = write.write_request(
            self.settings.namespace,
            shard,
            self.writer,
            self._sequence[shard],
            self._confirmed.get(shard, 0),
            packed.encoded,
            self.settings,
            self.store.database,
        )
        new = UnconfirmedBatch(request, packed.batches, self.recorder.steady_clock())
        with self.send_queue.change:
            if self.send_queue.given_up:
                return None
            self.unconfirmed[shard] = new
        return new

    def _is_long_ago(self, shard: int) -> bool:
        """Return whether the last confirmation is so long ago that Redis may have forgotten it."""
        now = self.recorder.steady_clock()
        return now - self._confirmed_at.get(shard, now) > self.settings.max_age

    def _start_over(self, shard: int) -> None:
        """After a long pause, don't rely on what Redis knew about this writer; it may be pruned."""
        if self._confirmed.pop(shard, 0):
            self.known.forget_ids()

    def _encode(self, found: list[MetricBatch]) -> PackedBatch | None:
        """Return the encoded batches, None if there are none; drop any that cannot be encoded."""
        encoded: list[EncodedBatch] = []
        packed: list[MetricBatch] = []
        for batch in found:
            try:
                known = self.known.series(batch.name)
                encoded.append(encode(batch, known, self.own.pack(batch)))
                packed.append(batch)
            except Exception:
                log.exception(
                    "BUG: %s: %d samples can't be encoded and are dropped",
                    batch.name,
                    batch.samples.count,
                )
                self.send_queue.drop("failed", batch.samples.count, batch.name)
        return PackedBatch(packed, encoded) if packed else None

    def _send(self, batch: UnconfirmedBatch) -> Operation[None]:
        """Send or resend a batch and process the reply."""
        shard = batch.request.shard
        remembered = self.settings.max_age + self.settings.max_future
        if self.recorder.steady_clock() - batch.first_sent > remembered:
            # Redis may have forgotten this writer: resending could store the samples twice.
            self._give_up(batch, "unknown")
            return
        try:
            reply = yield from write.record(batch.request, partial(self._pack_ahead, shard))
        except ScriptFailed as error:
            if not is_permanent(error):
                raise
            batch.refusals += 1
            # Retry once: if it was partly applied, Redis now returns the stored reply.
            if batch.refusals < 2:
                raise
            self._isolate(batch, error)
            return
        self.fitting.set_server_time(reply.clock / 1000)
        if reply.held < self._confirmed.get(shard, 0):
            self._note_loss(shard, reply.held)
            # Before anyone stops waiting for the batch and asks for the result.
            yield from self._open()
        self._report(batch, reply)
        if self._confirm(batch, reply):
            self._apply_reply(batch, reply)

    def _note_loss(self, shard: int, held: int) -> None:
        """Count the confirmed batches that Redis has lost: those after number *held*."""
        self._lost_batches += self._confirmed[shard] - held
        self._confirmed[shard] = held
        self._put_back_ahead(shard)
        self.recorder.warn_once(
            "Redis lost confirmed batches: after a failover, or its data was deleted"
        )
        self.known.forget_ids()
        self.send_queue.put(self.own.restored(shard, self._namespace))
        self._namespace.doubt()

    def _report(self, batch: UnconfirmedBatch, reply: WriteReply) -> None:
        """Count and log what users must know about a reply, before `flush` returns."""
        if reply.unsealed_ms > UNSEALED_MS:
            self.recorder.warn_once(
                "no worker is processing the samples of namespace %s: "
                "run `python -m redismetrics.worker`, or use Metrics(worker=True)",
                self.settings.namespace,
            )
        for index, tag, count in reply.overflows:
            self.recorder.drops.overflow(batch.batches[index].name, tag, count)

    def _confirm(self, batch: UnconfirmedBatch, reply: WriteReply) -> bool:
        """Count a confirmed batch as stored; return False if `close` has given it up."""
        shard, refused = batch.request.shard, reply.refused
        with self.send_queue.change:
            if self.unconfirmed.get(shard) is not batch:
                return False
            self._confirmed[shard] = batch.request.sequence
            self._confirmed_at[shard] = self.recorder.steady_clock()
            self.unconfirmed.pop(shard, None)
            self._batches += 1
            self._unpublished += reply.unpublished
            self.retries.note_success(shard)
            if self.last_error is not None and not self.retries:
                log.info("%s answers again", safe_url(self.store.url))
                self.last_error = None
            for index, part in enumerate(batch.batches):
                if index not in refused:
                    self.send_queue.confirm(part.name, part.samples.count)
        return True

    def _apply_reply(self, batch: UnconfirmedBatch, reply: WriteReply) -> None:
        """Learn from a reply, and requeue what the script refused."""
        refused = reply.refused
        if refused:
            # What was refused goes first.
            self._put_back_ahead(batch.request.shard)
        for index, ids, epoch, stamp in reply.learned:
            self.known.learn_ids(batch.batches[index], ids, epoch, stamp)
            self.own.forget(batch.batches[index], ids)
        for index, part in enumerate(batch.batches):
            if index not in refused:
                self.clear_mismatch(part.name)
                self.known.confirm(part.name, part.definition)
                self.own.confirm(part)
                continue
            try:
                kept = self.fitting.correct(part, *refused[index])
                self.own.refuse(part)
                if kept is not None and not part.is_repeated:
                    self.send_queue.put_back([kept])
            except Exception:  # the definition in Redis can't be read
                log.exception("%s: %d samples are dropped", part.name, part.samples.count)
                self.send_queue.drop("refused", part.samples.count, part.name)

    # -- what doesn't fit -------------------------------------------------------------------------

    def _isolate(self, batch: UnconfirmedBatch, error: ScriptFailed) -> None:
        """Send each metric of a rejected batch separately; drop a batch that is already separate.

        Nothing of the batch was applied.
        """
        if len(batch.batches) == 1:
            log.error("%s: %d samples are dropped: %s", batch.batches[0].name, batch.samples, error)
            self._give_up(batch, "refused")
            return
        with self.send_queue.change:
            self.unconfirmed.pop(batch.request.shard, None)
        self._put_back_ahead(batch.request.shard)
        for part in batch.batches:
            part.alone = True
        self.send_queue.put_back([part for part in batch.batches if not part.is_repeated])

    def _give_up(self, batch: UnconfirmedBatch, reason: str) -> None:
        self._put_back_ahead(batch.request.shard)
        with self.send_queue.change:
            self.unconfirmed.pop(batch.request.shard, None)
            for part in batch.batches:
                self.send_queue.drop_locked(reason, part.samples.count, part.name)
        # Its reply might have said that Redis lost data.
        self.known.forget_ids()
