"""What a subscription delivers, whoever carries it: which blocks are new, what was missed, what a slow reader lets go by.

A message of the stream is the block as it stands in the log. After a cut the blocks since the last one seen are read from the
logs; those known already are told by writer and sequence. A metric's `cut` says whether any block is gone from its log since.

Nothing here knows sockets, threads or event loops: a `Line` does (stream.py). All is written as coroutines, which the blocking
line's methods never suspend, so that a thread runs them to their end by one `send`.
"""

import logging
import math
import re
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar, cast

import numpy as np

from redismetrics.columnar import block_codec, summaries
from redismetrics.columnar.arrays import Ints
from redismetrics.columnar.block_codec import Block
from redismetrics.columnar.samples import CENTROID, summarise
from redismetrics.columnar.summaries import Summaries
from redismetrics.errors import (
    FormatMismatch,
    InvalidMetric,
    InvalidQuery,
    RedisMetricsError,
    StoreError,
    StoreUnavailable,
)
from redismetrics.model import retention
from redismetrics.model.definition import Definition
from redismetrics.model.sample import Gap, Sample, Summary, read_metadata
from redismetrics.model.time import to_datetime
from redismetrics.model.validation import MetricType, Tags, check_type, clean_tags
from redismetrics.store import catalog, keys
from redismetrics.store.namespace import Namespace

from . import catch_up
from .patterns import glob, select, several
from .transport import Item, Message, Transport

log = logging.getLogger("redismetrics")

T = TypeVar("T")

_POLL = 0.2  # seconds between looks at whether close() was called
_RECONNECT = 0.2
_PATIENCE = (
    10.0  # seconds for a subscription, and for a reader who has no room for what is caught up
)
_QUIET = 5.0  # seconds of silence after which a ping is sent, and after which a ping without an answer means a dead connection
_SHORTEST = 0.1  # seconds between summaries
_WRITERS = 10_000  # whose last batch is known
_ROWS = 50_000  # of summaries before they are merged in between


@dataclass(slots=True)
class _Position:
    """How far one shard is known: all before *clock*, and at *clock* the blocks of *names*; which batch that was."""

    clock: int
    names: set[str] = field(default_factory=set)
    writer: str = ""
    sequence: int = 0


@dataclass(slots=True)
class _Summed:
    """What came of one metric since the last summaries: rows, and of each its series, a position in *tags*."""

    tags: list[dict[str, str]] = field(default_factory=list)
    at: dict[tuple[tuple[str, str], ...], int] = field(default_factory=dict)
    parts: list[tuple[Ints, Summaries]] = field(default_factory=list)
    rows: int = 0

    def merged(self) -> Summaries:
        return summaries.merge_all(self.parts, len(self.tags))


class Feed:
    """One subscription's choice and memory. Checks its arguments: raises `InvalidQuery`."""

    def __init__(
        self,
        namespace: str,
        names: str | Iterable[str] | None = None,
        *,
        tags: Tags | None = None,
        types: MetricType | Iterable[MetricType] | None = None,
        every: float | None = None,
        queue: int,
    ) -> None:
        self._namespace = namespace
        self._names, self._globs = select(names)
        self._fits = re.compile("|".join(map(glob, self._globs)), re.DOTALL)
        try:
            self._tags: dict[str, str | None] = dict(clean_tags(tags))
            self._types = (
                None if types is None else {check_type(kind) for kind in several("types", types)}
            )
        except InvalidMetric as error:
            raise InvalidQuery(str(error)) from error
        self._tags.update(
            {key: None for key, value in (tags or {}).items() if value is None}
        )  # as a question has it
        self._every = _seconds(every)
        if isinstance(queue, bool) or not isinstance(queue, int) or queue < 1:
            raise InvalidQuery(f"queue: wanted a whole number of at least 1, got {queue!r:.60}")
        self.queue = queue
        self._known: dict[str, tuple[Definition | None, dict[int, dict[str, str]]]] = {}
        self._shards = 1
        self._settled = (
            False  # how many shards there are; a namespace that nobody wrote may get more than one
        )
        self._began: dict[int, int] = {}  # the clock of each shard when this began
        self._positions: dict[int, _Position] = {}
        self._gone: dict[int, int] = {}  # the newest block of each shard that was told as gone
        self._writers: OrderedDict[tuple[int, str], tuple[int, set[str]]] = OrderedDict()
        self._sure_ms = 0  # the server's time at which nothing was missed
        self._offset_ms = 0.0  # of the server's time before the monotonic clock
        self._early: deque[Message] = deque()
        self._heard = self._pinged = (
            0.0  # when something came last; when a ping was sent that is not answered, or 0
        )
        self._connected = False
        self._told = ""
        self._summed: dict[tuple[str, MetricType], _Summed] = {}
        self._since_ms = 0

    # -- the life of a subscription -------------------------------------------------------------------------------

    async def open(self, line: Transport) -> None:
        """Subscribe for the first time; raises branches of `StoreError`."""
        try:
            await self._look(line)
            self._since_ms = self._sure_ms
            await self._subscribe(line)
        except BaseException:
            await line.disconnect()
            raise

    async def follow(self, line: Transport) -> None:
        """Deliver what comes, until the line is closed."""
        try:
            while not line.closed:
                try:
                    if not self._connected:
                        await self._subscribe(line)
                        await self._catch_up(line)
                        self._told = ""
                    await self._hear(line)
                    self._summarise(line)
                except StoreError as error:
                    await self._lost(line, error)
        finally:
            await line.disconnect()

    async def _lost(self, line: Transport, error: StoreError) -> None:
        """Begin anew with the connection. Only what waiting does not mend is told, once."""
        self._connected = False
        await line.disconnect()
        if line.closed:
            return
        line.renew()
        if not isinstance(error, StoreUnavailable) and str(error) != self._told:
            self._told = str(error)
            line.deliver([error])
        await line.pause(_RECONNECT)

    async def _look(self, line: Transport) -> None:
        """Note where the shards stand, those that are new to this feed."""
        config = await line.run(Namespace(self._namespace).config())
        self._shards, self._settled = config.shards, config.written
        for shard in range(self._shards):
            if shard not in self._positions:
                found = await line.run(catch_up.shard_position(self._namespace, shard, ""))
                self._began[shard] = found.clock
                self._positions[shard] = _Position(found.clock + 1)
                self._set_time(found.now_ms)

    def _set_time(self, now_ms: int) -> None:
        self._sure_ms, self._offset_ms = now_ms, now_ms - monotonic() * 1000

    async def _subscribe(self, line: Transport) -> None:
        """Subscribe, and wait for the confirmations."""
        channels = [keys.channel(self._namespace, name) for name in self._names]
        patterns = [keys.channel_pattern(self._namespace, each) for each in self._globs]
        self._early.clear()
        until = monotonic() + _PATIENCE
        await line.open(channels, patterns, _PATIENCE)
        left = len(channels) + len(patterns)
        while left:
            message = await line.read(_POLL)
            if message is None:
                if line.closed or monotonic() > until:
                    raise StoreUnavailable(
                        f"Redis did not confirm a subscription within {_PATIENCE:g} s"
                    )
            elif "subscribe" in message["type"]:
                left -= 1
            else:
                self._early.append(message)
        self._connected = True
        self._heard, self._pinged = monotonic(), 0.0

    async def _hear(self, line: Transport) -> None:
        """Take one message, or see whether the connection lives."""
        wait = _POLL
        if self._every is not None:
            wait = min(wait, max((self._due_ms - self._now_ms) / 1000, 0))
        message = self._early.popleft() if self._early else await line.read(wait)
        now = monotonic()
        if message is not None:
            self._heard, self._pinged = now, 0.0
            if message["type"] in ("message", "pmessage") and message["data"]:
                # record.lua tries its rights on old servers with an empty message
                name = keys.metric_of_channel(self._namespace, message["channel"].decode())
                await self._take(line, name, message["data"])
        elif self._pinged and now - self._pinged > _QUIET:  # a connection can die without a word
            raise StoreUnavailable(f"Redis did not answer a ping within {_QUIET:g} s")
        elif not self._pinged and now - self._heard > _QUIET:
            await line.ping()
            self._pinged = now

    # -- after a cut ----------------------------------------------------------------------------------------------

    async def _catch_up(self, line: Transport) -> None:
        """Read from the logs what was recorded since the last block seen; tell what is not there any more."""
        self._known.clear()  # a server that came back without its data numbers its series anew
        since_ms = self._sure_ms
        await self._look(line)
        for shard in range(self._shards):
            position = self._positions[shard]
            now = await line.run(catch_up.shard_position(self._namespace, shard, position.writer))
            if (
                now.held < position.sequence or now.clock + 1 < position.clock
            ):  # a failover, or the data is gone
                began = self._began[shard]
                start = max(now.clock - retention.REPLAY_US, 0)
                if now.clock > began:
                    start = max(start, began + 1)
                self._positions[shard] = position = _Position(start)
                line.deliver([_gap(since_ms, now.now_ms)])
            names = list(self._names)
            if self._globs:  # after the clock: every metric with a block up to then is there
                found = await line.run(catch_up.names(self._namespace, shard))
                names = list(
                    dict.fromkeys([*names, *(name for name in found if self._fits.fullmatch(name))])
                )
            names = [name for name in names if keys.shard_of(name, self._shards) == shard]
            while position.clock <= now.clock and not line.closed:
                position = await self._read_slice(line, shard, names, now.clock, since_ms)
            self._set_time(now.now_ms)

    async def _read_slice(
        self, line: Transport, shard: int, names: list[str], until: int, since_ms: int
    ) -> _Position:
        position = self._positions[shard]
        slice_ = await line.run(catch_up.read(self._namespace, shard, names, position.clock, until))
        gone = [
            cut
            for name, cut in slice_.cuts.items()
            if cut > position.clock or (cut == position.clock and name not in position.names)
        ]
        if gone and max(gone) > self._gone.get(
            shard, 0
        ):  # else it was told, and then the connection was lost again
            self._gone[shard] = max(gone)
            line.deliver([_gap(max(since_ms, position.clock // 1000), max(gone) // 1000)])
        patience = monotonic() + _PATIENCE
        for name, data in slice_.blocks:
            while line.inbox.full and monotonic() < patience and not line.closed:
                await line.pause(_POLL / 10)  # what is caught up can wait, unlike what comes
            await self._take(line, name, data)
        last = self._positions[shard]
        after = self._positions[shard] = _Position(
            slice_.until + 1, set(), last.writer, last.sequence
        )
        return after

    # -- blocks ---------------------------------------------------------------------------------------------------

    async def _take(self, line: Transport, name: str, data: bytes) -> None:
        """Deliver what a block holds, unless it came before."""
        if not self._settled:
            await self._look(line)
        try:
            block = block_codec.unpack(data)
        except FormatMismatch as error:
            line.deliver([error])
            return
        shard = keys.shard_of(name, self._shards)
        sequence, names = self._writers.get((shard, block.writer), (0, set()))
        if block.sequence < sequence or (block.sequence == sequence and name in names):
            return  # a pattern that fits too, or read from the log before; a failover can give it another clock
        try:
            definition, series = await self._describe(line, shard, name, block.ids.tolist())
            if definition is not None and (self._types is None or definition.type in self._types):
                self._deliver(line, name, definition.type, block, series)
        except FormatMismatch as error:
            line.deliver([error])
        if block.sequence > sequence:
            names = set()
        names.add(name)
        self._writers[shard, block.writer] = block.sequence, names
        self._writers.move_to_end((shard, block.writer))
        if len(self._writers) > _WRITERS:
            self._writers.popitem(last=False)
        self._positions[shard] = _Position(block.clock, names, block.writer, block.sequence)
        self._sure_ms = max(self._sure_ms, block.clock // 1000)

    async def _describe(
        self, line: Transport, shard: int, name: str, ids: list[int]
    ) -> tuple[Definition | None, dict[int, dict[str, str]]]:
        known = self._known.get(name)
        if known is None or known[0] is None or any(number not in known[1] for number in ids):
            known = await line.run(catalog.describe(self._namespace, shard, name))
            self._known[name] = known
        return known

    def _deliver(
        self,
        line: Transport,
        name: str,
        kind: MetricType,
        block: Block,
        series: dict[int, dict[str, str]],
    ) -> None:
        tags: list[dict[str, str] | None] = []
        for number in block.ids.tolist():
            of_series = series.get(number)
            fits = of_series is not None and all(
                of_series.get(key) == value for key, value in self._tags.items()
            )
            tags.append(of_series if fits else None)
        if self._every is None:
            line.deliver(_samples(name, kind, block, tags))
        elif any(each is not None for each in tags):
            self._sum(name, kind, block, tags)

    # -- summaries ------------------------------------------------------------------------------------------------

    @property
    def _now_ms(self) -> float:
        return monotonic() * 1000 + self._offset_ms

    @property
    def _due_ms(self) -> int:
        assert self._every is not None
        width = round(self._every * 1000)
        return (self._since_ms // width + 1) * width

    def _sum(
        self, name: str, kind: MetricType, block: Block, tags: list[dict[str, str] | None]
    ) -> None:
        summed = self._summed.setdefault((name, kind), _Summed())
        numbers = np.full(len(tags), -1)
        for at, of_series in enumerate(tags):
            if of_series is not None:
                numbers[at] = summed.at.setdefault(tuple(of_series.items()), len(summed.tags))
                if numbers[at] == len(summed.tags):
                    summed.tags.append(of_series)
        groups, rows = summarise(block.samples.of_series(numbers))
        summed.parts.append((groups, rows))
        summed.rows += len(rows)
        if summed.rows > _ROWS:
            summed.parts, summed.rows = (
                [(np.arange(len(summed.tags)), summed.merged())],
                len(summed.tags),
            )

    def _summarise(self, line: Transport) -> None:
        """Deliver the summaries of the intervals that are over."""
        if self._every is None or self._now_ms < self._due_ms:
            return
        width = round(self._every * 1000)
        since_ms, self._since_ms = self._since_ms, int(self._now_ms) // width * width
        since, until = to_datetime(since_ms), to_datetime(self._since_ms)
        summed, self._summed = self._summed, {}
        items: list[Item | RedisMetricsError] = []
        for (name, kind), of_metric in sorted(summed.items()):
            rows = of_metric.merged()
            columns = zip(
                of_metric.tags, rows.count.tolist(), rows.total.tolist(), rows.low.tolist(), rows.high.tolist(),
                rows.last.tolist(), strict=True,
            )  # fmt: skip
            items += [Summary(name, kind, tags, since, until, *values) for tags, *values in columns]
        line.deliver(items)


def _samples(
    name: str, kind: MetricType, block: Block, tags: list[dict[str, str] | None]
) -> list[Sample]:
    """The samples of the series that have *tags*, as they stand in the block."""
    samples = block.samples
    rows = np.flatnonzero(np.array([each is not None for each in tags], np.bool_)[samples.series])
    time, weight = samples.time[rows].tolist(), samples.weight[rows]
    approximate = (samples.flags[rows] & CENTROID != 0) & (weight > 1)
    moments = {each: to_datetime(each) for each in set(time)}  # many are of the same millisecond
    return [
        Sample(name, kind, value, count, cast("dict[str, str]", tags[series]), moments[at], read_metadata(text), centroid)
        for value, count, series, at, text, centroid in zip(
            samples.value[rows].tolist(), weight.tolist(), samples.series[rows].tolist(), time,
            map(samples.metadata.get, rows.tolist()), approximate.tolist(), strict=True,
        )
    ]  # fmt: skip


def _gap(since_ms: int, until_ms: int) -> Gap:
    return Gap(to_datetime(min(since_ms, until_ms)), to_datetime(until_ms))


def _seconds(every: Any) -> float | None:
    if every is None:
        return None
    number = isinstance(every, int | float) and not isinstance(every, bool)
    if not number or not _SHORTEST <= every < math.inf:
        raise InvalidQuery(f"every: wanted at least {_SHORTEST:g} seconds, got {every!r:.60}")
    return float(every)
