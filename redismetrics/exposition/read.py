"""Read the current values of metrics from Redis."""

from redismetrics.model.definition import Definition
from redismetrics.model.exemplar import EXEMPLAR_TYPES
from redismetrics.store import keys
from redismetrics.store.driver import Command, Operation
from redismetrics.store.replies import pairs, reading, series_by_id
from redismetrics.store.unreadable import read_readable, warn_once

from .exemplars import by_text, read_exemplars
from .families import Family
from .live_series import read_live_series


def read_readable_families(
    namespace: str,
    shards: int,
    definitions: dict[str, Definition],
    now_ms: float,
    *,
    exemplars: bool = False,
) -> Operation[list[Family]]:
    """`read_families`, without the metrics that cannot be read."""

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

    With *exemplars*, the series have these too.
    """
    if not definitions:
        return []
    of_exemplars = [
        name
        for name, definition in definitions.items()
        if exemplars and definition.type in EXEMPLAR_TYPES
    ]
    # They come first: the totals then hold the samples of all of them.
    commands: list[Command] = [
        ("HGETALL", keys.exemplars(namespace, keys.shard_of(name, shards), name))
        for name in of_exemplars
    ]
    for name in definitions:
        metric = keys.metric(namespace, keys.shard_of(name, shards), name)
        # One command reads rows and changes as one cut. Series come after them: these then hold
        # every series of the batches in the totals.
        commands += [("HGETALL", metric.totals), ("HGETALL", metric.series)]
    replies = yield commands
    stored = {name: reply for name, reply in zip(of_exemplars, replies, strict=False) if reply}
    del replies[: len(of_exemplars)]
    families = []
    for at, (name, definition) in enumerate(definitions.items()):
        live, series = replies[2 * at : 2 * at + 2]
        # Replies can be large: free those of one metric before the next is unpacked.
        replies[2 * at : 2 * at + 2] = (None, None)
        with reading(f"live: the totals of {name!r}"):
            found = series_by_id(series)
            table = read_live_series(name, definition, found, pairs(live), now_ms)
            if name in stored:
                table.exemplars = by_text(found, read_exemplars(found, pairs(stored[name]), now_ms))
        if table.skipped:
            warn_once(
                f"{name}: its current values lack what a newer version of redismetrics wrote; "
                "upgrade this process"
            )
        families.append(Family(name, definition, table, table.skipped))
    return families
