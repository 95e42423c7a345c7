"""The subscription state machine, without I/O: which blocks are new, and what was missed.

A message of the stream is the block as stored in the log. After a reconnect, the blocks since the
last one received are read from the logs; a block's writer and sequence show whether it has already
been delivered. A metric's `cut` shows whether blocks have been cut from its log since.

A message ends with the stamp of its metric in the catalogue. Series ids are only looked up under
the same stamp, because the ids refer to other series after the data was deleted (FLUSHALL), and in
another database (SWAPDB).

The methods are generators that yield steps (see `steps`), so that the drivers for threads and for
asyncio share all of this logic.
"""

from collections.abc import Iterable
from functools import partial
from math import inf

from redismetrics.columnar.block_codec import Block
from redismetrics.errors import FormatMismatch, InvalidQuery, StoreError, StoreUnavailable, shown
from redismetrics.model import retention
from redismetrics.model.sample import Gap
from redismetrics.model.time import monotonic, to_datetime
from redismetrics.model.validation import MetricType, Tags
from redismetrics.store import keys
from redismetrics.store.catalog import Described
from redismetrics.store.namespace import Namespace
from redismetrics.store.replies import stamp_at_end

from . import batches, catch_up
from .batches import DecodedBlock, ReceivedBlock
from .block_samples import build_samples, count_selected
from .catch_up import ShardState
from .channels import Channels
from .delivery import DeliveryQueue
from .inbox import FellBehind
from .interval_summaries import IntervalSummaries, check_by
from .positions import Position, PositionMark, Received, Resumed, WriterHistory
from .selection import Selection
from .steps import (
    Compute,
    Confirmed,
    Database,
    Describe,
    Leave,
    Listen,
    Next,
    Pause,
    Renew,
    Run,
    Steps,
    WantedMetric,
)

# Seconds that one read waits, so that close() is noticed.
_POLL = 0.2

# Seconds before the next attempt to connect.
_RECONNECT = 0.2

# Seconds that blocks read to catch up wait for room in a full queue.
_PATIENCE = 10.0

# Seconds of silence before the connection is tested with a ping, and seconds without a reply before
# it is given up.
PING_AFTER = 5.0

# Approximate number of log blocks to read for a resuming reader. Beyond that, it gets a gap,
# because the stream must not read a day of logs for each reconnecting client.
_MAX_RESUME_BLOCKS = 1 << 15

_Tags = dict[str, str]


class Feed:
    """The selection of one subscription, and how far it has read.

    *every* is in seconds, *queue* in items, *by* the kind of summaries. Raises `InvalidQuery` for
    invalid arguments.
    """

    def __init__(
        self,
        namespace: str,
        names: str | Iterable[str] | None = None,
        *,
        tags: Tags | None = None,
        types: MetricType | Iterable[MetricType] | None = None,
        every: float | None = None,
        by: str = "series",
        queue: int,
        ping_after: float = PING_AFTER,
    ) -> None:
        self._namespace = namespace
        self._selection = Selection(names, tags, types)
        self._summaries = None if every is None else IntervalSummaries(every, by)
        if every is None and check_by(by) != "series":
            raise InvalidQuery(f"by={by} needs every: samples have the tags of their series")
        if isinstance(queue, bool) or not isinstance(queue, int) or queue < 1:
            raise InvalidQuery(f"queue must be an integer of at least 1, got {shown(queue)}")
        self.queue_limit = queue
        self._ping_after = ping_after
        # The stamp of each metric that was delivered.
        self._stamps: dict[str, bytes] = {}
        self._channels = Channels(namespace, self._selection, 0)
        self._shards = 1
        # A namespace that has not been created yet may get more than one shard.
        self._shards_final = False
        # The clock of each shard when this subscription began. The shared connection may still
        # deliver earlier blocks: *_joined* is empty once it no longer can.
        self._began: dict[int, int] = {}
        self._joined: dict[int, int] = {}
        self._positions: dict[int, Position] = {}
        # The clock of the newest removed block for which a gap was delivered, by shard.
        self._reported_cut: dict[int, int] = {}
        self._writers = WriterHistory()
        # Whether marks are delivered, and what the reader has received.
        self._marks = False
        self._received: Received = {}
        self._resume_from: Received | None = None
        self._resumed: dict[int, Resumed] = {}
        # The server's time up to which nothing has been missed.
        self._complete_ms = 0
        # The server's time minus the monotonic clock.
        self._offset_ms = 0.0
        self._connected = False
        # The text of the last delivered error, so that it is delivered only once.
        self._last_error = ""

    def track(self, received: Received | None) -> None:
        """Also deliver marks, and begin after *received*, if given."""
        self._marks, self._resume_from = True, received

    # -- connection -------------------------------------------------------------------------------

    def open(self, queue: DeliveryQueue) -> Steps[None]:
        """Subscribe for the first time. Raises subclasses of `StoreError`."""
        try:
            yield from self._find_shards()
            if self._summaries is not None:
                self._summaries.start(self._complete_ms)
            self._joined = dict(self._began)
            yield from self._subscribe(queue)
            self._resume(queue)
            self._mark(queue)
        except BaseException:
            yield Leave()
            raise

    def follow(self, queue: DeliveryQueue) -> Steps[None]:
        """Deliver arriving items until *queue* is closed."""
        try:
            while not queue.closed:
                try:
                    if not self._connected:
                        yield from self._subscribe(queue)
                        yield from self._catch_up(queue)
                        self._last_error = ""
                    elif self._resume_from is not None:
                        self._resume_from = None
                        yield from self._catch_up(queue, _MAX_RESUME_BLOCKS)
                        self._mark(queue)
                    yield from self._receive(queue)
                    yield from self._deliver_summaries(queue)
                except StoreError as error:
                    yield from self._reconnect(queue, error)
        finally:
            yield Leave()

    def _reconnect(self, queue: DeliveryQueue, error: StoreError) -> Steps[None]:
        """Prepare to subscribe again. Errors that retrying cannot fix are delivered, once."""
        self._connected = False
        if isinstance(error, FellBehind):
            # The connection is good, and what its feeds know about the metrics is still valid.
            return
        yield Leave()
        if queue.closed:
            return
        # After a failover, the server's clock may be behind.
        self._joined = {}
        yield Renew()
        if not isinstance(error, StoreUnavailable) and str(error) != self._last_error:
            self._last_error = str(error)
            queue.put([error])
        yield Pause(_RECONNECT)

    def _find_shards(self) -> Steps[None]:
        """Note the position of each shard that is new to this feed."""
        config = yield Run(Namespace(self._namespace).config())
        self._shards, self._shards_final = config.shards, config.written
        for shard in range(self._shards):
            if shard not in self._positions:
                state = yield Run(catch_up.shard_state(self._namespace, shard, ""))
                self._began[shard] = state.clock
                self._positions[shard] = Position(state.clock + 1)
                self._received[shard] = state.clock, -1
                self._set_time(state.now_ms)

    def _set_time(self, now_ms: int) -> None:
        self._complete_ms, self._offset_ms = now_ms, now_ms - monotonic() * 1000

    def _mark(self, queue: DeliveryQueue) -> None:
        if self._marks:
            queue.put([PositionMark(dict(self._received))])

    def _resume(self, queue: DeliveryQueue) -> None:
        """Go back to what the reader had received before, so that `follow` catches up from there.

        The newest batch that it received is read again and compared by the number of items.
        """
        now_ms = self._complete_ms
        for shard, (clock, count) in (self._resume_from or {}).items():
            newest = self._began.get(shard, -1)
            # The server has lost data, or the namespace was created again.
            if clock > newest:
                queue.put([_gap(now_ms, now_ms)])
                continue
            self._began[shard], self._received[shard] = clock, (clock, count)
            self._positions[shard] = Position(clock if count >= 0 else clock + 1)
            if count >= 0:
                self._resumed[shard] = Resumed(clock, count)
            self._complete_ms = min(self._complete_ms, clock // 1000)

    def _end_resume(self, queue: DeliveryQueue, shard: int) -> None:
        """Deliver a gap if the reader had not received all of its newest batch."""
        resumed = self._resumed.pop(shard, None)
        if resumed is not None and resumed.found != resumed.expected:
            queue.put([_gap(resumed.clock // 1000, resumed.clock // 1000)])

    def _subscribe(self, queue: DeliveryQueue) -> Steps[None]:
        """Start receiving messages; return once Redis has confirmed it."""
        database = yield Database()
        self._channels = Channels(self._namespace, self._selection, database)
        yield Listen(self._channels.interest(), self._ping_after)
        while not (yield Confirmed(_POLL)):
            if queue.closed:
                raise StoreUnavailable("the subscription was closed")
        self._connected = True

    def _receive(self, queue: DeliveryQueue) -> Steps[None]:
        """Process a batch of messages, if any arrive."""
        timeout = _POLL
        if self._summaries is not None:
            timeout = min(timeout, max((self._summaries.due_ms - self._now_ms) / 1000, 0))
        messages = yield Next(timeout)
        if blocks := batches.of_messages(messages, self._channels):
            yield from self._process(queue, blocks)

    # -- after a reconnect ------------------------------------------------------------------------

    def _catch_up(self, queue: DeliveryQueue, max_blocks: float = inf) -> Steps[None]:
        """Deliver what was recorded since the last received block, and gaps for missing blocks.

        After about *max_blocks* blocks of a shard, the rest is a gap as well.
        """
        since_ms = self._complete_ms
        yield from self._find_shards()
        for shard in range(self._shards):
            position = self._positions[shard]
            state = yield Run(catch_up.shard_state(self._namespace, shard, position.writer))
            # After a failover or a loss of data, the server knows less than this feed.
            if state.sequence < position.sequence or state.clock + 1 < position.clock:
                position = self._restart_position(shard, state)
                queue.put([_gap(since_ms, state.now_ms)])
            names = self._selection.names
            if self._selection.patterns:
                # Read after the clock, so that every metric with a block up to then is there.
                stored = yield Run(catch_up.metric_names(self._namespace, shard))
                names = self._selection.matching(stored)
            names = [name for name in names if keys.shard_of(name, self._shards) == shard]
            blocks = 0
            while position.clock <= state.clock and not queue.closed:
                if blocks >= max_blocks:
                    queue.put([_gap(position.clock // 1000, state.now_ms)])
                    self._positions[shard] = Position(state.clock + 1)
                    break
                found = yield from self._read_slice(queue, shard, names, state.clock, since_ms)
                # A slice with few blocks takes time as well.
                blocks += max(found, catch_up.SLICE_BLOCKS)
                position = self._positions[shard]
                yield from self._deliver_summaries(queue)
            self._end_resume(queue, shard)
            self._set_time(state.now_ms)

    def _restart_position(self, shard: int, state: ShardState) -> Position:
        """Return the position of this subscription's oldest block that the log can still have."""
        began = self._began[shard]
        start = max(state.clock - retention.REPLAY_US, 0)
        if state.clock > began:
            start = max(start, began + 1)
        position = self._positions[shard] = Position(start)
        return position

    def _read_slice(
        self, queue: DeliveryQueue, shard: int, names: list[str], until: int, since_ms: int
    ) -> Steps[int]:
        """Deliver the next slice of the logs, up to clock *until*; return its number of blocks."""
        position = self._positions[shard]
        log_slice = yield Run(
            catch_up.read_slice(self._namespace, shard, names, position.clock, until)
        )
        cut = max(
            (
                cut
                for name, cut in log_slice.cuts.items()
                if cut > position.clock or (cut == position.clock and name not in position.names)
            ),
            default=0,
        )
        # A gap delivered before the connection was lost again is not repeated.
        if cut > self._reported_cut.get(shard, 0):
            self._reported_cut[shard] = cut
            queue.put([_gap(max(since_ms, position.clock // 1000), cut // 1000)])
        for batch in batches.of_slice(log_slice):
            # Unlike live blocks, those of the log can wait for the reader.
            yield from self._process(queue, batch, patient_until=monotonic() + _PATIENCE)
        last = self._positions[shard]
        self._positions[shard] = Position(log_slice.until + 1, set(), last.writer, last.sequence)
        return len(log_slice.blocks)

    # -- blocks -----------------------------------------------------------------------------------

    def _process(
        self, queue: DeliveryQueue, blocks: list[ReceivedBlock], patient_until: float = 0.0
    ) -> Steps[None]:
        """Deliver the samples of a batch of blocks, except those that were delivered before.

        Until *patient_until* they wait for room in the queue.
        """
        if not self._shards_final:
            yield from self._find_shards()
        decoded = yield from self._decode(blocks)
        metrics = [each.metric for each in decoded if isinstance(each, DecodedBlock)]
        described = iter((yield Describe(self._namespace, metrics)) if metrics else ())
        for each in decoded:
            while queue.full and monotonic() < patient_until and not queue.closed:
                yield Pause(_POLL / 10)
            if queue.closed:
                return
            if isinstance(each, FormatMismatch):
                queue.put([each])
            else:
                yield from self._process_block(queue, each, next(described))

    def _decode(self, blocks: list[ReceivedBlock]) -> Steps[list[DecodedBlock | FormatMismatch]]:
        """Return the blocks that were not delivered before, and errors for unreadable ones."""
        decoded: list[DecodedBlock | FormatMismatch] = []
        is_same_store = True
        for each in blocks:
            try:
                block: Block = yield Compute(each.decode, each.is_large)
            except FormatMismatch as error:
                decoded.append(error)
                continue
            shard = keys.shard_of(each.name, self._shards)
            if self._is_delivered(shard, each.name, block):
                continue
            if each.is_live and block.clock <= self._joined.get(shard, -1):
                continue
            stamp = each.stamp or stamp_at_end(block.tail)
            if is_same_store and stamp and self._stamps.get(each.name, stamp) != stamp:
                # A new store may have a different number of shards, and its own clock.
                is_same_store, self._joined = False, {}
                yield from self._find_shards()
                shard = keys.shard_of(each.name, self._shards)
            metric = WantedMetric(shard, each.name, block.ids.tolist(), stamp)
            decoded.append(DecodedBlock(metric, block, each.is_large))
        return decoded

    def _is_delivered(self, shard: int, name: str, block: Block) -> bool:
        # It may have come from the log. Its clock cannot tell: a failover can give the same block a
        # different clock.
        return self._writers.has(shard, block.writer, block.sequence, name)

    def _process_block(
        self, queue: DeliveryQueue, each: DecodedBlock, known: Described
    ) -> Steps[None]:
        """Deliver the samples of a block, of whose metric *known* was read."""
        shard, name, stamp = each.metric.shard, each.metric.name, each.metric.stamp
        block = each.block
        # The same batch may already have delivered it.
        if self._is_delivered(shard, name, block):
            return
        try:
            if isinstance(known, FormatMismatch):
                raise known
            if known.definition is not None:
                self._stamps[name] = known.stamp
            # The samples have been deleted in the meantime, or come from another store.
            if stamp and known.stamp != stamp:
                return
            if known.definition is not None and self._selection.has_type(known.definition.type):
                yield from self._deliver(queue, each, known.definition.type, known.series)
        except FormatMismatch as error:
            queue.put([error])
        names = self._writers.add(shard, block.writer, block.sequence, name)
        self._positions[shard] = Position(block.clock, names, block.writer, block.sequence)
        self._complete_ms = max(self._complete_ms, block.clock // 1000)

    def _deliver(
        self,
        queue: DeliveryQueue,
        each: DecodedBlock,
        kind: MetricType,
        series: dict[int, _Tags],
    ) -> Steps[None]:
        shard, name, block = each.metric.shard, each.metric.name, each.block
        tags: list[_Tags | None] = []
        for number in block.ids.tolist():
            of_series = series.get(number)
            selected = of_series is not None and self._selection.has_tags(of_series)
            tags.append(of_series if selected else None)
        resumed = self._resumed.get(shard)
        if resumed is not None and block.clock <= resumed.clock:
            resumed.found += count_selected(block, tags)
            return
        self._end_resume(queue, shard)
        clock, received = self._received[shard]
        received = max(received, 0) if clock == block.clock else 0
        self._received[shard] = block.clock, received
        if self._summaries is None:
            built = yield Compute(
                partial(build_samples, name, kind, block, tags, queue.limit, queue.max_bytes),
                each.is_large,
            )
            if built.samples and self._marks:
                queue.put([PositionMark(dict(self._received), shard)])
            queue.put(built.samples, built.sizes, built.missing)
        elif any(each is not None for each in tags):
            yield Compute(partial(self._summaries.add, name, kind, block, tags), each.is_large)
        self._received[shard] = block.clock, received + count_selected(block, tags)

    @property
    def _now_ms(self) -> float:
        """The server's time."""
        return monotonic() * 1000 + self._offset_ms

    def _deliver_summaries(self, queue: DeliveryQueue) -> Steps[None]:
        if self._summaries is None:
            return
        now_ms = self._now_ms
        if now_ms >= self._summaries.due_ms:
            end = partial(self._summaries.end_interval, now_ms)
            queue.put((yield Compute(end, self._summaries.is_large)))
            self._mark(queue)


def _gap(since_ms: int, until_ms: int) -> Gap:
    return Gap(to_datetime(min(since_ms, until_ms)), to_datetime(until_ms))
