"""Delete metrics with all their data."""

import secrets
from collections.abc import Iterable

import msgpack

from . import catalog, keys, requests, scripts
from .driver import Operation
from .due_slot import CLEANUPS
from .namespace import read_config
from .replies import pairs, reading

_CLEANUPS = msgpack.packb([cleanup.field for cleanup in CLEANUPS])


def delete(namespace: str, shards: int, names: list[str]) -> Operation[int]:
    """Delete metrics with all their data; return how many existed.

    For each metric, some state outlives it: the next series id and the number of the next change of
    its totals, which are never reused, and how far its log was sealed. Its version changes, so that
    readers and workers in progress start over.
    """
    deleted = 0
    for name in names:
        shard = keys.shard_of(name, shards)
        of, worked = keys.metric(namespace, shard, name), keys.rollup(namespace, shard, name)
        of_shard = keys.shard(namespace, shard)
        reply: int | bytes = b"again"
        while reply == b"again":
            (held,) = yield [("HKEYS", worked.held)]
            data = _data_keys(namespace, shard, name, held)
            names_of_keys = (
                worked.state,
                of.series,
                of.totals,
                of.log,
                of.values,
                worked.due,
                worked.held,
                worked.touched,
                keys.exemplars(namespace, shard, name),
                of_shard.recorded,
                of_shard.catalogue,
                of_shard.dirty,
                keys.pending(namespace, shard),
                *data.values(),
            )
            (reply,) = yield [
                (
                    "EVALSHA",
                    scripts.script("delete").sha,
                    len(names_of_keys),
                    *names_of_keys,
                    name,
                    secrets.token_hex(8),
                    _CLEANUPS,
                    *data,
                )
            ]
        deleted += int(reply)
    return deleted


def clear(namespace: str) -> Operation[int]:
    """Delete all metrics, marks and idempotency keys of a namespace; return the number of metrics.

    A namespace of an older FORMAT is deleted with all its keys, so that this version can use it.

    Raises:
        FormatMismatch: If it has a newer FORMAT, or its configuration is corrupt.
    """
    (flat,) = yield [("HGETALL", keys.config(namespace))]
    fields = pairs(flat)
    stored = fields.get(b"format", b"")
    is_older = stored.isdigit() and int(stored) < keys.FORMAT
    if is_older:
        flat = [
            each for pair in {**fields, b"format": b"%d" % keys.FORMAT}.items() for each in pair
        ]
    shards = read_config(namespace, flat).shards
    names = yield from catalog.names(namespace, shards)
    yield from requests.clear(namespace)
    yield from clear_alerts(namespace)
    yield [("DEL", keys.archive_leases(namespace))]
    yield [("DEL", keys.push_leases(namespace))]
    yield [("DEL", keys.marks(namespace))]
    if not is_older:
        return (yield from delete(namespace, shards, names))
    for name in names:
        shard = keys.shard_of(name, shards)
        of, worked = keys.metric(namespace, shard, name), keys.rollup(namespace, shard, name)
        (held,) = yield [("HKEYS", worked.held)]
        data = _data_keys(namespace, shard, name, held)
        exemplars = keys.exemplars(namespace, shard, name)
        yield [("DEL", key) for key in (*of, *worked, exemplars, *data.values())]
    for shard in range(shards):
        of_shard = (*keys.shard(namespace, shard), keys.pending(namespace, shard))
        yield [("DEL", key) for key in of_shard]
    # Last, so that an interrupted call can be repeated.
    yield [("DEL", keys.workers(namespace)), ("DEL", keys.config(namespace))]
    return len(names)


def clear_alerts(namespace: str) -> Operation[None]:
    """Delete the states, history and silences of alerts, and the log of sent notifications."""
    of = keys.alerts(namespace)
    (groups,) = yield [("ZRANGE", of.groups, 0, -1)]
    for name in groups:
        yield [("DEL", keys.alert_group(namespace, name.decode(errors="replace")))]
    yield [("DEL", key) for key in of]


def _data_keys(namespace: str, shard: int, name: str, held: Iterable[bytes]) -> dict[bytes, str]:
    """Return the data keys named by fields of `held`, by field."""
    found = {}
    with reading("held"):
        for data_name in held:
            resolution, partition_ms = keys.parse_data_name(data_name)
            if resolution != "samples":
                found[data_name] = keys.data(namespace, shard, name, resolution, partition_ms)
    return found
