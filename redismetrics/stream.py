"""The live stream: what is recorded, as it is recorded. A message is the block as it stands in the log."""

import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Any

import redis

from . import blocks, keys, operations
from .connect import Store
from .drive import run, translated
from .errors import InvalidMetric, InvalidQuery, StoreUnavailable
from .model import Definition, Gap, MetricType, Sample, Tags, check_name, check_type, clean_tags, to_datetime
from .reader import metadata

_PATTERN = re.compile(r"[A-Za-z0-9_./:*?\[\]^-]{1,200}\Z")
_POLL = 0.2  # seconds between looks at whether close() was called
_RECONNECT = 0.2
_PATIENCE = 10.0  # seconds for the first subscription
_QUIET = 5.0  # seconds of silence after which a ping is sent, and after which a ping without an answer means a dead connection


class Subscription:
    """Yields a `Sample` for each that is recorded from now on, and a `Gap` where some may be missing.

    A context manager, subscribed once made. Iterate it (ends with `close()`), or `get(timeout)`. Survives a restart of the
    server: it subscribes again, and says so by a `Gap`. For one reading thread; `close()` may come from any.
    """

    def __init__(
        self,
        store: Store,
        namespace: str,
        names: str | Iterable[str] | None = None,
        *,
        tags: Tags | None = None,
        types: MetricType | Iterable[MetricType] | None = None,
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._channels, self._patterns = _channels(namespace, names)
        try:
            self._tags: dict[str, str | None] = dict(clean_tags(tags))
            self._types = None if types is None else {check_type(kind) for kind in _several("types", types)}
        except InvalidMetric as error:
            raise InvalidQuery(str(error)) from error
        self._tags.update({key: None for key, value in (tags or {}).items() if value is None})  # as a question has it
        self._items: deque[Sample | Gap] = deque()
        self._closed = threading.Event()
        self._known: dict[str, tuple[Definition | None, dict[int, dict[str, str]]]] = {}
        self._last: dict[str, tuple[int, str, int]] = {}
        self._reading = threading.Lock()  # held while the connection is in use: close() leaves it to the reader then
        self._client: redis.Redis | None = None
        self._pubsub: Any = None  # None while there is no connection that has all of the subscription
        self._early: deque[dict[str, Any]] = deque()
        self._heard = self._pinged = 0.0  # when something came last; when a ping was sent that is not answered, or 0
        self._seen_ms = self._open(_PATIENCE)

    def _open(self, seconds: float) -> int:
        """Subscribe, wait for the confirmations, and return the server's time."""
        client = self._store.connect(retries=0, timeout=seconds)
        pubsub = client.pubsub()  # type: ignore[no-untyped-call]
        early: deque[dict[str, Any]] = deque()
        until = monotonic() + seconds
        try:
            with translated():
                if self._channels:
                    pubsub.subscribe(*self._channels)
                if self._patterns:
                    pubsub.psubscribe(*self._patterns)
                left = len(self._channels) + len(self._patterns)
                while left:
                    if (message := pubsub.get_message(timeout=_POLL)) is None:
                        if self._closed.is_set() or monotonic() > until:
                            raise StoreUnavailable(f"Redis did not confirm a subscription within {seconds:g} s")
                    elif "subscribe" in message["type"]:
                        left -= 1
                    else:
                        early.append(message)
            self._shards = run(client, operations.shards(self._namespace))
            now = run(client, operations.now())
        except BaseException:
            pubsub.close()
            client.close()
            raise
        self._client, self._pubsub, self._early = client, pubsub, early
        self._heard, self._pinged = monotonic(), 0.0
        return now

    def get(self, timeout: float | None = None) -> Sample | Gap | None:
        """The next item; None when there is none within *timeout* seconds, or the subscription is closed.

        Raises:
            FormatMismatch: a message that this version can't read; the next call goes on after it.
        """
        until = None if timeout is None else monotonic() + timeout
        try:
            with self._reading:
                return self._next(until)
        finally:
            if self._closed.is_set():
                self._end()

    def _next(self, until: float | None) -> Sample | Gap | None:
        while not self._closed.is_set():
            if self._items:
                return self._items.popleft()
            try:
                if self._pubsub is None and not self._reopen(until):
                    return None
                if self._items:
                    continue
                heard = self._read(_POLL if until is None else min(max(until - monotonic(), 0), _POLL))
            except StoreUnavailable:
                self._disconnect()
                continue
            if not heard and until is not None and monotonic() >= until:
                return None
        return None

    def _read(self, timeout: float) -> bool:
        """Take one message; False when none came within *timeout* seconds."""
        message: dict[str, Any] | None
        if self._early:
            message = self._early.popleft()
        else:
            with translated():
                message = self._pubsub.get_message(timeout=timeout)
        if message is None:
            self._check_alive()
            return False
        self._heard, self._pinged = monotonic(), 0.0
        self._take(message)
        return True

    def _check_alive(self) -> None:
        """A connection can die without a word: after some silence, ask for one."""
        now = monotonic()
        if self._pinged and now - self._pinged > _QUIET:
            raise StoreUnavailable(f"Redis did not answer a ping within {_QUIET:g} s")
        if not self._pinged and now - self._heard > _QUIET:
            with translated():
                self._pubsub.ping()
            self._pinged = now

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] not in ("message", "pmessage") or not message["data"]:
            return  # record.lua tries its rights on old servers with an empty message
        name = keys.metric_of_channel(self._namespace, message["channel"].decode())
        block = blocks.unpack(message["data"])
        batch = (block.clock, block.writer, block.sequence)
        if self._last.get(name) == batch:
            return  # a name and a pattern, or two patterns, that both fit
        definition, series = self._describe(name, block.ids.tolist())
        self._last[name] = batch  # now, since what could not be described lies in a gap
        self._seen_ms = max(self._seen_ms, block.clock // 1000)
        if definition is None or (self._types is not None and definition.type not in self._types):
            return
        samples = block.samples
        for row in range(len(samples)):
            tags = series.get(int(block.ids[samples.series[row]]))
            if tags is None or any(tags.get(key) != value for key, value in self._tags.items()):
                continue
            weight = int(samples.weight[row])
            self._items.append(
                Sample(
                    name, definition.type, float(samples.value[row]), weight, tags, to_datetime(int(samples.time[row])),
                    metadata(samples.metadata.get(row)), bool(samples.flags[row] & blocks.CENTROID) and weight > 1,
                )
            )  # fmt: skip

    def _describe(self, name: str, ids: list[int]) -> tuple[Definition | None, dict[int, dict[str, str]]]:
        known = self._known.get(name)
        if known is None or known[0] is None or any(number not in known[1] for number in ids):
            shard = keys.shard_of(name, self._shards)
            known = run(self._store.client(), operations.describe(self._namespace, shard, name))
            self._known[name] = known
        return known

    def _reopen(self, until: float | None) -> bool:
        """Subscribe again, trying at least once, and tell the gap; False when the time is out or the subscription closed."""
        while not self._closed.is_set():
            left = _PATIENCE if until is None else max(until - monotonic(), 0)
            self._store.renew()
            try:
                now = self._open(max(left, _POLL))
            except StoreUnavailable:
                if until is not None and monotonic() >= until:
                    return False
                self._closed.wait(min(_RECONNECT, left))
                continue
            self._known.clear()  # a server that came back without its data numbers its series anew
            since, self._seen_ms = self._seen_ms, max(self._seen_ms, now)
            self._items.append(Gap(to_datetime(since), to_datetime(self._seen_ms)))
            return True
        return False

    def _disconnect(self) -> None:
        pubsub, client, self._pubsub, self._client = self._pubsub, self._client, None, None
        if pubsub is not None:
            pubsub.close()
        if client is not None:
            client.close()

    def close(self) -> None:
        """End the subscription; what was received and not read is dropped."""
        self._closed.set()
        self._end()

    def _end(self) -> None:
        """Let go of the connection, unless a reader has it: that one sees that the subscription is closed, and comes here."""
        if self._reading.acquire(blocking=False):
            try:
                self._items.clear()
                self._disconnect()
            finally:
                self._reading.release()

    def __enter__(self) -> "Subscription":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Sample | Gap]:
        while not self._closed.is_set():
            item = self.get()
            if item is not None:
                yield item


def _several(what: str, given: Any) -> list[Any]:
    """Text means one; duplicates collapse."""
    try:
        found = [given] if isinstance(given, str) else list(dict.fromkeys(given))
    except TypeError as error:
        raise InvalidQuery(f"{what}: wanted text or several texts, got {given!r:.80}") from error
    if not found:
        raise InvalidQuery(f"{what}: wanted at least one, got none")
    return found


def _channels(namespace: str, names: str | Iterable[str] | None) -> tuple[list[str], list[str]]:
    """The channels of exact names, and the globs of patterns (`*`, `?`, `[...]`)."""
    if names is None:
        return [], [keys.channel_pattern(namespace, "*")]
    channels, patterns = [], []
    for name in _several("names", names):
        if not isinstance(name, str) or not _PATTERN.match(name):
            raise InvalidQuery(f"names: wanted metric names or patterns with * ? [...], got {name!r:.80}")
        if any(sign in name for sign in "*?["):
            patterns.append(keys.channel_pattern(namespace, name))
        else:
            try:
                channels.append(keys.channel(namespace, check_name(name)))
            except InvalidMetric as error:
                raise InvalidQuery(str(error)) from error
    return channels, patterns
