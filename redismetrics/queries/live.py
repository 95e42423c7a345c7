"""The current state of all series, as shown on the Prometheus page."""

from dataclasses import replace
from typing import Any

from redismetrics.exposition.families import Family
from redismetrics.exposition.read import read_families, read_readable_families
from redismetrics.exposition.series_table import SeriesTable
from redismetrics.store import catalog, keys, server
from redismetrics.store.driver import Operation, gather
from redismetrics.store.pausing_gc import pausing_gc

from .arguments import check_metric_name
from .context import QueryContext


def live(
    context: QueryContext, name: str | None, idle_ms: int, *, exemplars: bool = False
) -> Operation[list[Family]]:
    """Return all metrics, or one, with the state of their series, in the order first recorded.

    Series not recorded for *idle_ms* are left out. A metric with only such series is returned
    without series, so that the names on the resulting page don't change.
    """
    if name is not None:
        check_metric_name(name)

    def read() -> Operation[list[Family]]:
        namespace = context.namespace.name
        shards = yield from context.namespace.shards()
        if name is None:
            first: list[Operation[Any]] = [server.now(), catalog.catalogue(namespace, shards)]
            now_ms, definitions = yield from gather(first)
            families = yield from read_readable_families(
                namespace, shards, definitions, now_ms, exemplars=exemplars
            )
        else:
            now_ms = yield from server.now()
            shard = keys.shard_of(name, shards)
            definition = (yield from catalog.describe(namespace, shard, name)).definition
            definitions = {} if definition is None else {name: definition}
            families = yield from read_families(
                namespace, shards, definitions, now_ms, exemplars=exemplars
            )
        oldest = now_ms - idle_ms
        with pausing_gc():
            return [_seen_since(family, oldest) for family in families]

    return read()


def _seen_since(family: Family, oldest_ms: int) -> Family:
    series = SeriesTable.of(family.series)
    shown = series.seen_since(oldest_ms)
    return family if shown is family.series else replace(family, series=shown)
