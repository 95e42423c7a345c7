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
            self._tags = clean_tags(tags)
            self._types = None if types is None else {check_type(kind) for kind in _several(types)}
        except InvalidMetric as error:
            raise InvalidQuery(str(error)) from error
        self._items: deque[Sample | Gap] = deque()
        self._closed = threading.Event()
        self._known: dict[str, tuple[Definition | None, dict[int, dict[str, str]]]] = {}
        self._last: dict[str, tuple[int, str, int]] = {}
        self._client: redis.Redis | None = None
        self._pubsub: Any = None
        self._seen_ms = self._open()

    def _open(self) -> int:
        """Subscribe, wait for the confirmations, and return the server's time."""
        self._client = self._store.connect(retries=0)
        self._pubsub = self._client.pubsub()  # type: ignore[no-untyped-call]
        with translated():
            if self._channels:
                self._pubsub.subscribe(*self._channels)
            if self._patterns:
                self._pubsub.psubscribe(*self._patterns)
            until = monotonic() + 10
            for _ in range(len(self._channels) + len(self._patterns)):
                while (message := self._pubsub.get_message(timeout=_POLL)) is None or "subscribe" not in message[
                    "type"
                ]:
                    if monotonic() > until:
                        raise StoreUnavailable("Redis did not confirm a subscription within 10 s")
                    if message is not None:
                        self._take(message)
        self._shards = run(self._client, operations.shards(self._namespace))
        return run(self._client, operations.now())

    def get(self, timeout: float | None = None) -> Sample | Gap | None:
        """The next item; None when there is none within *timeout* seconds, or the subscription is closed.

        Raises:
            FormatMismatch: a message that this version can't read; the next call goes on after it.
        """
        until = None if timeout is None else monotonic() + timeout
        while not self._items and not self._closed.is_set():
            left = _POLL if until is None else min(until - monotonic(), _POLL)
            if left < 0:
                break
            try:
                self._read(left)
            except StoreUnavailable:
                self._reopen(until)
        return self._items.popleft() if self._items else None

    def _read(self, timeout: float) -> None:
        with translated():
            message = self._pubsub.get_message(ignore_subscribe_messages=True, timeout=timeout)
        if message is not None:
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] not in ("message", "pmessage") or not message["data"]:
            return  # record.lua tries its rights on old servers with an empty message
        name = keys.metric_of_channel(self._namespace, message["channel"].decode())
        block = blocks.unpack(message["data"])
        self._seen_ms = max(self._seen_ms, block.clock // 1000)
        batch = (block.clock, block.writer, block.sequence)
        if self._last.get(name) == batch:
            return  # a name and a pattern, or two patterns, that both fit
        self._last[name] = batch
        definition, series = self._describe(name, block.ids.tolist())
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

    def _reopen(self, until: float | None) -> None:
        """Subscribe again until it works, the time is out or the subscription is closed; then tell the gap."""
        while not self._closed.is_set() and (until is None or monotonic() < until):
            self._disconnect()
            self._store.renew()
            try:
                since, now = self._seen_ms, self._open()
            except StoreUnavailable:
                self._closed.wait(_RECONNECT)
                continue
            self._seen_ms = now
            self._items.appendleft(Gap(to_datetime(since), to_datetime(max(since, now))))
            return

    def _disconnect(self) -> None:
        pubsub, client, self._pubsub, self._client = self._pubsub, self._client, None, None
        if pubsub is not None:
            pubsub.close()
        if client is not None:
            client.close()

    def close(self) -> None:
        """End the subscription; what was received and not read is dropped."""
        self._closed.set()
        self._items.clear()
        self._disconnect()

    def __enter__(self) -> "Subscription":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Sample | Gap]:
        while not self._closed.is_set():
            item = self.get()
            if item is not None:
                yield item


def _several(given: Any) -> list[Any]:
    return [given] if isinstance(given, str) else list(given)


def _channels(namespace: str, names: str | Iterable[str] | None) -> tuple[list[str], list[str]]:
    """The channels of exact names, and the globs of patterns (`*`, `?`, `[...]`)."""
    if names is None:
        return [], [keys.channel_pattern(namespace, "*")]
    channels, patterns = [], []
    for name in _several(names):
        if not isinstance(name, str) or not _PATTERN.match(name):
            raise InvalidQuery(f"names: wanted metric names or patterns with * ? [...], got {name!r:.80}")
        if any(sign in name for sign in "*?["):
            patterns.append(keys.channel_pattern(namespace, name))
        else:
            try:
                channels.append(keys.channel(namespace, check_name(name)))
            except InvalidMetric as error:
                raise InvalidQuery(str(error)) from error
    if not channels and not patterns:
        raise InvalidQuery("names: wanted at least one name or pattern, got none")
    return channels, patterns
