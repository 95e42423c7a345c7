"""Delete metrics with everything they hold."""

import secrets
from collections.abc import Iterable

from . import keys
from .driver import Operation
from .replies import reading


def delete(namespace: str, shards: int, names: list[str]) -> Operation[int]:
    """Delete metrics with all they hold; return how many there were.

    What must outlive a metric stays in its `state`: the next series id, since ids are never used again, and what is sealed;
    with a new version, so that whoever is reading or sealing it starts anew.
    """
    if not names:
        return 0
    yield [("MULTI",), ("EXEC",)]  # may we? After a refused MULTI the commands would run one by one
    deleted = 0
    for name in names:
        shard = keys.shard_of(name, shards)
        of, worked = keys.metric(namespace, shard, name), keys.rollup(namespace, shard, name)
        of_shard = keys.shard(namespace, shard)
        pending_key = keys.pending(namespace, shard)
        held, due = yield [("HKEYS", worked.held), ("HKEYS", worked.due)]
        # Whatever workers commit in between is told by the same lists once more, from inside the transaction.
        inside = yield [
            ("MULTI",),
            ("HKEYS", worked.held),
            ("HKEYS", worked.due),
            (
                "DEL",
                of.series,
                of.live,
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
                *(member + b" " + name.encode() for member in (*due, b"trim 0 0", b"sweep 0 0")),
            ),
            ("ZREM", of_shard.dirty, name),
            ("HDEL", of_shard.catalogue, name),
            ("EXEC",),
        ]
        held_then, due_then, *_, found = inside[-1]
        deleted += found
        new = [
            *(
                ("DEL", key)
                for key in _data_keys(namespace, shard, name, set(held_then) - set(held))
            ),
            *(
                ("ZREM", pending_key, member + b" " + name.encode())
                for member in set(due_then) - set(due)
            ),
        ]
        if new:
            yield new
    return deleted


def _data_keys(namespace: str, shard: int, name: str, held: Iterable[bytes]) -> list[str]:
    """The keys that `held` speaks of."""
    with reading("held"):
        pairs = [field.decode().split(" ") for field in held]
        return [
            keys.data(namespace, shard, name, level, int(span) * 1000)
            for level, span in pairs
            if level != "samples"
        ]
