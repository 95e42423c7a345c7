"""Read the current values of metrics from Redis."""

from collections.abc import Iterable, Mapping
from typing import Any

from redismetrics.model.definition import Definition
from redismetrics.model.exemplar import EXEMPLAR_TYPES
from redismetrics.store import keys
from redismetrics.store.driver import Command, Operation
from redismetrics.store.pausing_gc import pausing_gc
from redismetrics.store.replies import pairs, reading, series_by_id
from redismetrics.store.unreadable import read_readable, warn_once

from .exemplars import by_text, read_exemplars
from .families import Family
from .live_series import read_live_series
from .small_metrics import StoredMetric, is_small, read_small_metrics


def read_readable_families(
    namespace: str,
    shards: int,
    definitions: dict[str, Definition],
    now_ms: float,
    *,
    exemplars: bool = False,
) -> Operation[list[Family]]:
    """`read_families`, without metrics that cannot be read."""

    def read(names: list[str]) -> Operation[list[Family]]:
        chosen = {name: definitions[name] for name in names}
        return read_families(namespace, shards, chosen, now_ms, exemplars=exemplars)

    return (yield from read_readable(list(definitions), read))


def read_families(
    namespace: str,
    shards: int,
    definitions: dict[str, Definition],
    now_ms: float,
    *,
    exemplars: bool = False,
) -> Operation[list[Family]]:
    """Return these metrics with the values of all their series at the server's time *now_ms*.

    With *exemplars*, the series include their exemplars.
    """
    if not definitions:
        return []
    of_exemplars = [
        name
        for name, definition in definitions.items()
        if exemplars and definition.type in EXEMPLAR_TYPES
    ]
    with pausing_gc():
        commands = _commands(namespace, shards, definitions, of_exemplars)
    replies = yield commands
    stored = {name: reply for name, reply in zip(of_exemplars, replies, strict=False) if reply}
    del replies[: len(of_exemplars)]
    with pausing_gc():
        return _families(definitions, replies, stored, now_ms)


def _commands(
    namespace: str, shards: int, names: Iterable[str], of_exemplars: Iterable[str]
) -> list[Command]:
    # Exemplars are read first, so that the totals include the samples of all of them.
    commands: list[Command] = [
        ("HGETALL", keys.exemplars(namespace, keys.shard_of(name, shards), name))
        for name in of_exemplars
    ]
    for name in names:
        # One command reads rows and changes atomically. Series are read after them, so that they
        # include every series of the batches in the totals.
        totals, series = keys.totals_and_series(namespace, keys.shard_of(name, shards), name)
        commands += [("HGETALL", totals), ("HGETALL", series)]
    return commands


def _families(
    definitions: Mapping[str, Definition],
    replies: list[Any],
    exemplars: Mapping[str, list[bytes]],
    now_ms: float,
) -> list[Family]:
    """Return the metrics from two replies for each, those of `totals_and_series`."""
    tables = read_small_metrics(
        [
            StoredMetric(definition, live, series)
            if name not in exemplars and is_small(live, series)
            else None
            for (name, definition), live, series in zip(
                definitions.items(), replies[::2], replies[1::2], strict=True
            )
        ]
    )
    families = []
    for at, (name, definition) in enumerate(definitions.items()):
        live, series = replies[2 * at : 2 * at + 2]
        # Replies can be large: free those of one metric before the next is unpacked.
        replies[2 * at : 2 * at + 2] = (None, None)
        table = tables[at]
        if table is None:
            with reading(f"live: the totals of {name!r}"):
                found = series_by_id(series)
                table = read_live_series(name, definition, found, pairs(live), now_ms)
                if name in exemplars:
                    of_series = read_exemplars(found, pairs(exemplars[name]), now_ms)
                    table.exemplars = by_text(found, of_series)
        if table.skipped:
            warn_once(
                f"{name}: its current values lack what a newer version of redismetrics wrote; "
                "upgrade this process"
            )
        families.append(Family(name, definition, table, table.skipped))
    return families
