"""Workers for tests: what they would do later is due now, and an operation goes on only when the test says so."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import redis

from redismetrics import keys
from redismetrics.connect import Store
from redismetrics.drive import Command, Operation, run
from redismetrics.settings import resolve
from redismetrics.worker import Worker

T = TypeVar("T")

CONTENTS: dict[bytes, Callable[[redis.Redis, bytes], Any]] = {
    b"string": lambda admin, key: admin.get(key),
    b"hash": lambda admin, key: admin.hgetall(key),
    b"zset": lambda admin, key: admin.zrange(key, 0, -1, withscores=True),
}


def new_worker(url: str, namespace: str, **settings: Any) -> Worker:
    """A worker with settings of its own, whatever the environment says; whoever makes it calls `leave` and closes its store."""
    chosen = resolve({}, url=url, namespace=namespace, **settings)
    return Worker(chosen, Store(chosen.url, chosen.socket_timeout))


def contents(admin: redis.Redis, namespace: str) -> dict[bytes, Any]:
    """Every key of a namespace with all it holds and when it expires, but the workers' heartbeats."""
    found = {}
    for pattern in (f"rm:{namespace}:*", f"rm:{{{namespace}:*"):
        for key in admin.scan_iter(pattern, count=10_000):
            if key != keys.workers(namespace).encode():
                found[key] = (admin.pttl(key) > 0, CONTENTS[admin.type(key)](admin, key))
    return found


def pull_forward(admin: redis.Redis, namespace: str, *, also: tuple[str, ...] = ()) -> None:
    """Let slots be due now that are due once they have ended, and of tidying what *also* names: "trim", "sweep"."""
    key = keys.pending(namespace, 0)
    for member in admin.zrange(key, 0, -1):
        if member.split()[0].decode() in ("hour", "day", "span", *also):
            admin.zadd(key, {member: 0})


class Steps(Generic[T]):
    """An operation, a trip at a time: *commands* are those of the next one, none when it has ended with *result*."""

    def __init__(self, client: redis.Redis, operation: Operation[T]) -> None:
        self._client = client
        self._operation = operation
        self.commands: list[Command] = next(operation)
        self.result: T | None = None

    def step(self) -> None:
        """Send what is next, and hear what comes after."""
        replies = run(self._client, _trip(self.commands))
        try:
            self.commands = self._operation.send(replies)
        except StopIteration as done:
            self.commands, self.result = [], done.value

    def until_script(self) -> None:
        """Go on to where the next trip calls a script: everything is read and worked out, nothing is written."""
        while self.commands and self.commands[0][0] != "EVALSHA":
            self.step()
        assert self.commands, f"it ended without a script: {self.result}"

    def finish(self) -> T:
        while self.commands:
            self.step()
        assert self.result is not None
        return self.result


def _trip(commands: list[Command]) -> Operation[list[Any]]:
    return (yield commands)
