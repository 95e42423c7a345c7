"""Open a namespace and read its configuration."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redismetrics.errors import FormatMismatch, StoreUnavailable
from redismetrics.model.retention import DEFAULT_RETENTION, RetentionPolicy

from . import keys
from .driver import Operation
from .replies import pairs, reading

# A cluster has this many slots.
MAX_SHARDS = 16_384

# Stored instead of the format while the namespace is the target of a copy.
COPYING = b"copying"


@dataclass(frozen=True, slots=True)
class Config:
    """What all processes of a namespace share: number of shards and retention policy.

    *written* is False if these are defaults, because the namespace does not exist yet.
    """

    shards: int
    retention: RetentionPolicy
    written: bool = True


def read_config(namespace: str, flat: list[Any]) -> Config:
    """Return the stored configuration, or the defaults if *flat* is empty.

    Raises:
        StoreUnavailable: If the namespace is the target of a copy in progress.
        FormatMismatch: If it is corrupt or from another version.
    """
    with reading(f"the configuration of namespace {namespace!r}"):
        fields = pairs(flat)
        if fields.get(b"format") == COPYING:
            raise StoreUnavailable(
                f"namespace {namespace!r} is being copied to here; samples wait until "
                "`redismetrics copy` is done"
            )
        stored = int(fields.get(b"format", keys.FORMAT))
        if stored != keys.FORMAT:
            advice = (
                "run the newest version of redismetrics in all processes"
                if stored > keys.FORMAT
                else "stop the processes of older versions, then delete their data with "
                f"`redismetrics clear --namespace {namespace}`"
            )
            raise FormatMismatch(
                f"namespace {namespace!r} must have format {keys.FORMAT}, got {stored}; {advice}"
            )
        retentions = fields.get(b"retentions")
        policy = (
            DEFAULT_RETENTION if retentions is None else RetentionPolicy.parse(retentions.decode())
        )
        shards = int(fields.get(b"shards", 1))
        if not 1 <= shards <= MAX_SHARDS:
            raise ValueError(f"shards must be 1 to {MAX_SHARDS}, got {shards}")
        return Config(shards, policy, bool(fields))


class Namespace:
    """A namespace, whose configuration is read only once."""

    def __init__(self, name: str, config: Config | None = None) -> None:
        self.name = name
        self._config = config

    def config(self) -> Operation[Config]:
        """Return the stored configuration, or the defaults if there is none yet."""
        if self._config is not None:
            return self._config
        (flat,) = yield [("HGETALL", keys.config(self.name))]
        config = read_config(self.name, flat)
        if config.written:
            self._config = config
        return config

    def shards(self) -> Operation[int]:
        """Return the number of shards."""
        return (yield from self.config()).shards


def shards(namespace: str) -> Operation[int]:
    """Return the number of shards of a namespace, 1 if it does not exist yet."""
    return (yield from Namespace(namespace).shards())


def open_namespace(
    namespace: str,
    retention: RetentionPolicy = DEFAULT_RETENTION,
    shards: int = 1,
    warn: Callable[..., None] | None = None,
) -> Operation[Config]:
    """Create the configuration of a namespace if it does not exist; return the stored one.

    If the namespace was created with other retentions than *retention*, call *warn* with a message
    and its arguments. The default policy never warns: the process did not choose it.
    """
    key = keys.config(namespace)
    (flat,) = yield [("HGETALL", key)]
    # Raises for another format, which is then left unchanged.
    read_config(namespace, flat)
    if b"retentions" not in pairs(flat):
        *_, flat = yield [
            ("HSETNX", key, "format", keys.FORMAT),
            ("HSETNX", key, "shards", shards),
            ("HSETNX", key, "retentions", retention.describe()),
            ("HGETALL", key),
        ]
    config = read_config(namespace, flat)
    if warn is not None and config.retention != retention != DEFAULT_RETENTION:
        warn(
            "namespace %s was created with different retentions, which apply: %s (seconds), "
            "not those of this process: %s",
            namespace,
            config.retention.describe(),
            retention.describe(),
        )
    return config
