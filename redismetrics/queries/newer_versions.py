"""Find data that a newer version of redismetrics has stored and this version skips."""

from dataclasses import dataclass

from redismetrics.columnar.totals import field_name, is_known
from redismetrics.store import catalog, keys
from redismetrics.store.driver import Command, Operation
from redismetrics.store.record_state import RecordState
from redismetrics.store.replies import reading
from redismetrics.store.unreadable import Skipped


@dataclass(frozen=True, slots=True)
class NewerVersions:
    """Names of metrics with data that only a newer version can read.

    Attributes:
        types: Metrics of an unknown type, which this version leaves out of all results.
        options: Metrics whose definition has unknown options, which this version ignores.
        changes: Metrics whose totals wait for a newer worker, because their oldest change is
            unknown.
    """

    types: list[str]
    options: list[str]
    changes: list[str]

    def __bool__(self) -> bool:
        return bool(self.types or self.options or self.changes)


def find_newer(namespace: str, shards: int) -> Operation[NewerVersions]:
    """Return what only a newer version can read. Needs only read permission.

    Raises:
        FormatMismatch: If a definition, a state or a change is corrupt.
    """
    skipped: Skipped = {}
    known = yield from catalog.catalogue(namespace, shards, strict=True, skipped=skipped)
    waiting = yield from _oldest_changes(namespace, shards, list(known))
    changes = []
    for name, data in waiting.items():
        with reading(f"live: a change of {name!r}"):
            if not is_known(data):
                changes.append(name)
    options = [name for name, definition in known.items() if definition.has_unknown_options]
    return NewerVersions(sorted(skipped), options, changes)


def _oldest_changes(namespace: str, shards: int, names: list[str]) -> Operation[dict[str, bytes]]:
    """Return the oldest change of each metric with totals that are waiting to be folded."""
    by_shard: dict[int, list[str]] = {}
    for name in names:
        by_shard.setdefault(keys.shard_of(name, shards), []).append(name)
    commands: list[Command] = [
        ("HMGET", keys.shard(namespace, shard).recorded, *inside)
        for shard, inside in by_shard.items()
    ]
    replies = (yield commands) if commands else []
    first: dict[str, int] = {}
    for inside, states in zip(by_shard.values(), replies, strict=True):
        for name, packed in zip(inside, states, strict=True):
            with reading(f"recorded: the state of {name!r}"):
                state = RecordState.unpack(packed)
            if state.first_change < state.next_change:
                first[name] = state.first_change
    commands = [
        ("HGET", keys.metric(namespace, keys.shard_of(name, shards), name).totals, field_name(at))
        for name, at in first.items()
    ]
    found = (yield commands) if commands else []
    return {name: data for name, data in zip(first, found, strict=True) if data is not None}
