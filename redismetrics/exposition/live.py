"""Read the running state of metrics from Redis."""

from redismetrics.model.definition import Definition
from redismetrics.store import keys
from redismetrics.store.cluster import Command
from redismetrics.store.driver import Operation
from redismetrics.store.replies import pairs, reading, series_by_id

from .families import Family, SeriesStates


def live(
    namespace: str, shards: int, definitions: dict[str, Definition]
) -> Operation[list[Family]]:
    """These metrics with the running state of all their series."""
    if not definitions:
        return []
    commands: list[Command] = []
    for name in definitions:
        of = keys.metric(namespace, keys.shard_of(name, shards), name)
        commands += [("HGETALL", of.series), ("HGETALL", of.live)]
    replies = yield commands
    families = []
    for at, (name, definition) in enumerate(definitions.items()):
        series, states = replies[2 * at : 2 * at + 2]
        replies[2 * at : 2 * at + 2] = (
            None,
            None,
        )  # what was read of one metric goes before the next is: there may be much
        with reading(f"live: the running state of {name!r}"):
            families.append(
                Family(
                    name,
                    definition,
                    SeriesStates.unpack(definition, series_by_id(series), pairs(states)),
                )
            )
    return families
