"""The two sides of a copy: connections, locks, and whether anybody is using them."""

import secrets
from dataclasses import dataclass
from typing import Any, TypeVar

from redismetrics.errors import InvalidSetting, StoreError
from redismetrics.model.time import SECOND
from redismetrics.store import keys
from redismetrics.store.connection import Store
from redismetrics.store.driver import Command, Operation, run
from redismetrics.store.namespace import COPYING, MAX_SHARDS, read_config
from redismetrics.store.replies import read_now_ms, reading
from redismetrics.store.stats import ALIVE_MS
from redismetrics.store.urls import safe_url

T = TypeVar("T")

TIMEOUT = 10.0  # seconds for one trip
LOCK_MS = 30_000  # a copy that was killed keeps others away for so long; more than a trip and its repetition take


class Side:
    """A store, and the namespace on it. Errors say which side they are of."""

    def __init__(self, url: str, namespace: str) -> None:
        if url.startswith("none:"):
            raise InvalidSetting("url: none:// keeps nothing: there is nothing to copy")
        self.store = Store(url, TIMEOUT)
        self.namespace = namespace
        self.shown = safe_url(url)

    def ask(self, operation: Operation[T]) -> T:
        try:
            return run(self.store.client(), operation)
        except StoreError as error:
            raise type(error)(f"{self.shown}: {error}") from error

    def refuse(self, text: str) -> StoreError:
        return StoreError(f"{self.shown}: namespace {self.namespace!r} {text}")

    def close(self) -> None:
        self.store.close()


@dataclass(frozen=True, slots=True)
class Contents:
    """What stands in a target's configuration, if anything."""

    closed: bool
    shards: int
    retentions: str


def settled(namespace: str) -> Operation[Contents | None]:
    (flat,) = yield [("HGETALL", keys.config(namespace))]
    if not flat:
        return None
    found = dict(zip(flat[::2], flat[1::2], strict=True))
    closed = found.get(b"format") == COPYING
    if not closed:
        read_config(namespace, flat)  # raises where it is of another format
    with reading("configuration"):
        shards = int(found.get(b"shards", 1))
        if not 1 <= shards <= MAX_SHARDS:
            raise ValueError(f"wanted 1 to {MAX_SHARDS} shards, got {shards}")
        return Contents(closed, shards, found.get(b"retentions", b"").decode())


def metric_names(namespace: str, shards: int) -> Operation[list[str]]:
    """The metrics in the catalogue, whatever stands there of them, by name."""
    replies = yield [("HKEYS", keys.shard(namespace, shard).catalogue) for shard in range(shards)]
    with reading("catalogue"):
        return sorted(name.decode() for found in replies for name in found)


@dataclass(frozen=True, slots=True)
class Activity:
    """Who uses a namespace: the clock of the newest batch (µs), how long ago it came (s), how many workers are there."""

    clocks: list[int]
    idle: float
    workers: int

    def told(self, quiet: float) -> str | None:
        recorded = f"the last batch came {self.idle:.1f} s ago" if self.idle < quiet else ""
        working = (
            f"{self.workers} worker{'s are' if self.workers > 1 else ' is'} at work"
            if self.workers
            else ""
        )
        return " and ".join(filter(None, (recorded, working))) or None


def read_activity(namespace: str, shards: int) -> Operation[Activity]:
    clocks = [keys.shard(namespace, shard).clock for shard in range(shards)]
    # Each clock with the time of the node that it is of.
    workers, time_, *replies = yield [
        ("ZRANGE", keys.workers(namespace), 0, -1, "WITHSCORES"),
        ("TIME",),
        *(command for key in clocks for command in (("GET", key), ("TIME",))),
    ]
    alive = sum(float(score) > read_now_ms(time_) - ALIVE_MS for score in workers[1::2])
    with reading("clock"):
        found = [int(clock or 0) for clock in replies[::2]]
    ages = [
        read_now_ms(at) / 1000 - clock / 1e6 for clock, at in zip(found, replies[1::2], strict=True)
    ]
    return Activity(found, max(min(ages), 0.0), alive)


def forget_shards(namespace: str, shards: int) -> Operation[None]:
    yield [
        ("DEL", *keys.shard(namespace, shard), keys.pending(namespace, shard))
        for shard in range(shards)
    ]


def send(commands: list[Command]) -> Operation[list[Any]]:
    return (yield commands)


class CopyLock:
    """Only one copy at a time works on a target. Each of its trips holds the lock for a while longer."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._key = keys.copier(side.namespace)
        self._token = secrets.token_hex(8).encode()

    def take(self) -> None:
        (taken,) = self._side.ask(send([("SET", self._key, self._token, "NX", "PX", LOCK_MS)]))
        if taken is None:
            raise self._side.refuse(
                f"is being copied to by another process: wait for it, or {LOCK_MS // SECOND} s if that was killed"
            )

    def held(self, operation: Operation[T]) -> Operation[T]:
        """*operation*, each of whose trips holds the lock, and fails where another process has it."""
        own: list[Command] = [("GET", self._key), ("PEXPIRE", self._key, LOCK_MS)]
        try:
            commands = next(operation)
            while True:
                *replies, token, _ = yield [
                    *commands,
                    *own,
                ]  # behind: what has no key goes with what is before it
                if token != self._token:
                    raise self._side.refuse(
                        "is being copied to by another process now: this one ends"
                    )
                commands = operation.send(replies)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    def release(self) -> None:
        """Never raises: a lock that stays ends by itself."""
        try:
            (token,) = self._side.ask(send([("GET", self._key)]))
            if token == self._token:
                self._side.ask(send([("DEL", self._key)]))
        except StoreError:
            pass
