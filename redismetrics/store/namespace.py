"""Open a namespace and read its configuration."""

from dataclasses import dataclass
from typing import Any

from redismetrics.errors import FormatMismatch, StoreUnavailable
from redismetrics.model.retention import DEFAULT_RETENTION, RetentionPolicy

from . import keys
from .driver import Operation
from .replies import pairs, reading

MAX_SHARDS = 16_384  # as many as a cluster has slots


@dataclass(frozen=True, slots=True)
class Config:
    """What all processes of a namespace share: how many shards it has, what is kept for how long; whether anybody wrote it."""

    shards: int
    retention: RetentionPolicy
    written: bool = True


COPYING = b"copying"  # in the place of the format, while the namespace is being copied to here


def read_config(namespace: str, flat: list[Any]) -> Config:
    """A configuration as it was written, or the defaults where there is none."""
    with reading(f"namespace {namespace!r}: its configuration"):
        found = pairs(flat)
        if found.get(b"format") == COPYING:
            raise StoreUnavailable(
                f"namespace {namespace!r} is being copied to here: what is recorded waits until `redismetrics copy` is done"
            )
        written = int(found.get(b"format", keys.FORMAT))
        if written != keys.FORMAT:
            raise FormatMismatch(
                f"namespace {namespace!r}: wanted format {keys.FORMAT}, got {written}"
            )
        kept = found.get(b"retentions")
        retention = DEFAULT_RETENTION if kept is None else RetentionPolicy.parse(kept.decode())
        count = int(found.get(b"shards", 1))
        if not 1 <= count <= MAX_SHARDS:
            raise ValueError(f"wanted 1 to {MAX_SHARDS} shards, got {count}")
        return Config(count, retention, bool(found))


class Namespace:
    """A namespace whose configuration is read once."""

    def __init__(self, name: str, config: Config | None = None) -> None:
        self.name = name
        self._config = config

    def config(self) -> Operation[Config]:
        """As it was written, or the defaults where nobody wrote any yet."""
        if self._config is not None:
            return self._config
        (found,) = yield [("HGETALL", keys.config(self.name))]
        config = read_config(self.name, found)
        if found:
            self._config = config
        return config

    def shards(self) -> Operation[int]:
        return (yield from self.config()).shards


def shards(namespace: str) -> Operation[int]:
    """How many shards the namespace has; a namespace that nobody wrote yet has one."""
    return (yield from Namespace(namespace).shards())


def open_namespace(
    namespace: str, wanted: RetentionPolicy = DEFAULT_RETENTION, shards: int = 1
) -> Operation[Config]:
    """Write the namespace's configuration, with so many *shards*, if nobody did; return the one that holds."""
    key = keys.config(namespace)
    (found,) = yield [("HGETALL", key)]
    read_config(namespace, found)  # one of another format is left as it is
    if b"retentions" not in found[::2]:
        *_, found = yield [
            ("HSETNX", key, "format", keys.FORMAT),
            ("HSETNX", key, "shards", shards),
            ("HSETNX", key, "retentions", wanted.describe()),
            ("HGETALL", key),
        ]
    return read_config(namespace, found)
