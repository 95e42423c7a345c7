"""Delete metrics with all their data."""

import secrets
from collections.abc import Iterable

from . import keys
from .driver import Operation
from .due_slot import SWEEP, TRIM
from .replies import reading


def delete(namespace: str, shards: int, names: list[str]) -> Operation[int]:
    """Delete metrics with all their data; return how many existed.

    Some fields of a metric's `state` stay: the next series id, because ids are never used again,
    and how far its log was processed. Its version changes, so that readers and workers that are in
    progress start again.
    """
    if not names:
        return 0
    # Check the permission first: after a rejected MULTI, the commands would run one by one.
    yield [("MULTI",), ("EXEC",)]
    deleted = 0
    for name in names:
        shard = keys.shard_of(name, shards)
        of, worked = keys.metric(namespace, shard, name), keys.rollup(namespace, shard, name)
        of_shard = keys.shard(namespace, shard)
        pending_key = keys.pending(namespace, shard)
        held, due = yield [("HKEYS", worked.held), ("HKEYS", worked.due)]
        # Read the lists again inside the transaction, for what workers commit in between.
        replies = yield [
            ("MULTI",),
            ("HKEYS", worked.held),
            ("HKEYS", worked.due),
            (
                "DEL",
                of.series,
                of.totals,
                of.log,
                of.values,
                *worked,
                *_data_keys(namespace, shard, name, held),
            ),
            ("HDEL", of.state, "samples", "bytes", "never_sealed", "waiting", "late", "pruned"),
            ("HSET", of.state, "version", f"0.{secrets.token_hex(8)}"),
            (
                "ZREM",
                pending_key,
                *(member + b" " + name.encode() for member in due),
                *(cleanup.pending_member(name) for cleanup in (TRIM, SWEEP)),
            ),
            ("ZREM", of_shard.dirty, name),
            ("HDEL", of_shard.catalogue, name),
            ("EXEC",),
        ]
        held_then, due_then, *_, found = replies[-1]
        deleted += found
        later = [
            *(
                ("DEL", key)
                for key in _data_keys(namespace, shard, name, set(held_then) - set(held))
            ),
            *(
                ("ZREM", pending_key, member + b" " + name.encode())
                for member in set(due_then) - set(due)
            ),
        ]
        if later:
            yield later
    return deleted


def _data_keys(namespace: str, shard: int, name: str, held: Iterable[bytes]) -> list[str]:
    """Return the data keys that the fields of `held` name."""
    with reading("held"):
        return [
            keys.data(namespace, shard, name, resolution, partition_ms)
            for resolution, partition_ms in map(keys.parse_data_name, held)
            if resolution != "samples"
        ]
