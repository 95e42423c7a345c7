"""The two sides of a copy: connections, the lock, and whether they are in use."""

import secrets
from dataclasses import dataclass
from typing import Any, TypeVar

from redismetrics.errors import InvalidSetting, StoreError
from redismetrics.model.safe_url import safe_url
from redismetrics.model.time import SECOND
from redismetrics.store import keys
from redismetrics.store.connection import Store
from redismetrics.store.driver import Command, Operation, run
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.namespace import COPYING, MAX_SHARDS, Config, read_config
from redismetrics.store.replies import pairs, read_now_ms, reading
from redismetrics.store.stats import count_alive

T = TypeVar("T")

# Seconds for one round trip.
TIMEOUT = 10.0
# A killed copy blocks others for this long. Longer than a round trip with its retry.
LOCK_MS = 30_000


class Side:
    """A server, and the namespace on it. Errors name the server."""

    def __init__(self, url: str, namespace: str) -> None:
        if url.startswith("none:"):
            raise InvalidSetting("url must name a Redis server, got none://, which stores nothing")
        self.store = Store(url, TIMEOUT)
        self.namespace = namespace
        self.shown_url = safe_url(url)

    def run(self, operation: Operation[T]) -> T:
        """Run *operation* on this server."""
        try:
            return run(self.store.client(), operation)
        except StoreError as error:
            raise type(error)(f"{self.shown_url}: {error}") from error

    def error(self, text: str) -> StoreError:
        """Return an error about the namespace on this side."""
        return StoreError(f"{self.shown_url}: namespace {self.namespace!r} {text}")

    def close(self) -> None:
        self.store.close()


class CopyLock:
    """Excludes other copies to the same target. Each round trip of `holding` extends it."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._key = keys.copier(side.namespace)
        self._token = secrets.token_hex(8).encode()

    def take(self) -> None:
        """Take the lock, or raise `StoreError`."""
        (taken,) = self._side.run(send([("SET", self._key, self._token, "NX", "PX", LOCK_MS)]))
        if taken is None:
            raise self._side.error(
                "is being written by another copy; wait for it to finish, or "
                f"{LOCK_MS // SECOND} s if it was killed"
            )

    def holding(self, operation: Operation[T]) -> Operation[T]:
        """Wrap *operation*: its round trips extend the lock, and fail if another process has it."""
        own: list[Command] = [("GET", self._key), ("PEXPIRE", self._key, LOCK_MS)]
        try:
            commands = next(operation)
            while True:
                # At the end, because a command without a key is sent with the previous one.
                *replies, token, _ = yield [*commands, *own]
                if token != self._token:
                    raise self._side.error("is now being written by another copy; this one stops")
                commands = operation.send(replies)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    def release(self) -> None:
        """Release the lock. Never raises, because a remaining lock expires."""
        try:
            (token,) = self._side.run(send([("GET", self._key)]))
            if token == self._token:
                self._side.run(send([("DEL", self._key)]))
        except StoreError:
            pass


@dataclass(frozen=True, slots=True)
class CopySides:
    """Both sides with their configurations. Writing to the target needs the lock."""

    source: Side
    target: Side
    lock: CopyLock
    source_config: Config
    target_config: Config

    @property
    def namespace(self) -> str:
        """The namespace that is copied."""
        return self.source.namespace

    def read(self, operation: Operation[T]) -> T:
        """Run *operation* at the source."""
        return self.source.run(operation)

    def write(self, operation: Operation[T]) -> T:
        """Run *operation* at the target while this copy holds the lock."""
        return self.target.run(self.lock.holding(operation))

    def extend_lock(self) -> None:
        """Extend the lock during work that does not write."""
        self.write(send([]))

    def source_metric(self, name: str) -> MetricLocation:
        """Return the location of a metric at the source."""
        return _location(self.namespace, self.source_config, name)

    def target_metric(self, name: str) -> MetricLocation:
        """Return the location of a metric at the target."""
        return _location(self.namespace, self.target_config, name)


def _location(namespace: str, config: Config, name: str) -> MetricLocation:
    return MetricLocation(namespace, keys.shard_of(name, config.shards), name, config.retention)


@dataclass(frozen=True, slots=True)
class Existing:
    """The configuration of an existing namespace at the target.

    *is_closed* is true after an interrupted copy.
    """

    is_closed: bool
    shards: int
    retentions: str


def read_existing(namespace: str) -> Operation[Existing | None]:
    """Return the configuration of a namespace at the target, or None if there is none."""
    (flat,) = yield [("HGETALL", keys.config(namespace))]
    if not flat:
        return None
    fields = pairs(flat)
    is_closed = fields.get(b"format") == COPYING
    if not is_closed:
        # Raises for another format.
        read_config(namespace, flat)
    with reading("the configuration"):
        shards = int(fields.get(b"shards", 1))
        if not 1 <= shards <= MAX_SHARDS:
            raise ValueError(f"shards must be 1 to {MAX_SHARDS}, got {shards}")
        return Existing(is_closed, shards, fields.get(b"retentions", b"").decode())


def metric_names(namespace: str, shards: int) -> Operation[list[str]]:
    """Return the names of all metrics in the catalogue, including those that cannot be read."""
    replies = yield [("HKEYS", keys.shard(namespace, shard).catalogue) for shard in range(shards)]
    with reading("the catalogue"):
        return sorted(name.decode() for found in replies for name in found)


@dataclass(frozen=True, slots=True)
class Activity:
    """The current use of a namespace.

    *clocks* has the time of the newest batch of each shard, in µs. The newest of all arrived
    *idle_seconds* ago. *workers* is the number of live workers.
    """

    clocks: list[int]
    idle_seconds: float
    workers: int

    def describe(self, idle_seconds: float) -> str | None:
        """Describe the use of the namespace, or return None if it is idle.

        Recording counts as stopped if no batch has arrived for *idle_seconds*.
        """
        recorded = (
            f"the last batch arrived {self.idle_seconds:.1f} s ago"
            if self.idle_seconds < idle_seconds
            else ""
        )
        are = "workers are" if self.workers > 1 else "worker is"
        working = f"{self.workers} {are} running" if self.workers else ""
        return " and ".join(filter(None, (recorded, working))) or None


def read_activity(namespace: str, shards: int) -> Operation[Activity]:
    """Return the current use of a namespace."""
    shard_clocks = [keys.shard(namespace, shard).clock for shard in range(shards)]
    # Each clock is compared with the time of its own node.
    workers, time, *replies = yield [
        ("ZRANGE", keys.workers(namespace), 0, -1, "WITHSCORES"),
        ("TIME",),
        *(command for key in shard_clocks for command in (("GET", key), ("TIME",))),
    ]
    alive = count_alive(workers, read_now_ms(time))
    with reading("the clocks"):
        clocks = [int(clock or 0) for clock in replies[::2]]
    ages = [
        read_now_ms(now) / 1000 - clock / 1e6
        for clock, now in zip(clocks, replies[1::2], strict=True)
    ]
    return Activity(clocks, max(min(ages), 0.0), alive)


def forget_shards(namespace: str, shards: int) -> Operation[None]:
    """Delete the keys that the metrics of a shard share."""
    yield [
        ("DEL", *keys.shard(namespace, shard), keys.pending(namespace, shard))
        for shard in range(shards)
    ]


def send(commands: list[Command]) -> Operation[list[Any]]:
    """Send *commands* in one round trip; return the replies."""
    return (yield commands)
