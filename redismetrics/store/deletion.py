"""Delete metrics with all their data."""

import secrets
from collections.abc import Iterable

import msgpack

from . import keys, scripts
from .driver import Operation
from .due_slot import SWEEP, TRIM
from .replies import reading

_CLEANUPS = msgpack.packb([TRIM.field, SWEEP.field])


def delete(namespace: str, shards: int, names: list[str]) -> Operation[int]:
    """Delete metrics with all their data; return how many existed.

    Of each stays what must outlive it: the next series id and the number of the next change of its
    totals, because they are never used again, and how far its log was sealed. Its version changes,
    so that readers and workers that are in progress start again.
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


def _data_keys(namespace: str, shard: int, name: str, held: Iterable[bytes]) -> dict[bytes, str]:
    """Return the data keys that fields of `held` name, by these."""
    found = {}
    with reading("held"):
        for data_name in held:
            resolution, partition_ms = keys.parse_data_name(data_name)
            if resolution != "samples":
                found[data_name] = keys.data(namespace, shard, name, resolution, partition_ms)
    return found
