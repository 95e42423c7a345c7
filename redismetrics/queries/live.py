"""The current values of all series, as the Prometheus page shows them."""

from dataclasses import replace
from typing import Any

from redismetrics.exposition.families import Family
from redismetrics.exposition.read import read_families
from redismetrics.exposition.series_table import SeriesTable
from redismetrics.model.validation import check_name
from redismetrics.store import catalog, server
from redismetrics.store.driver import Operation, gather

from .context import QueryContext
from .question import checked_name


def live(context: QueryContext, name: str | None, idle_ms: int) -> Operation[list[Family]]:
    """All metrics (or one), in the order first recorded, with the running state of their series but those idle for longer.

    A metric whose series are all idle is there with none, so that the names on a page made of it don't change.
    """
    if name is not None:
        checked_name(check_name, name)

    def ask() -> Operation[list[Family]]:
        shards = yield from context.namespace.shards()
        first: list[Operation[Any]] = [
            server.now(),
            catalog.catalogue(context.namespace.name, shards),
        ]
        now, known = yield from gather(first)
        if name is not None:
            known = {name: known[name]} if name in known else {}
        families = yield from read_families(context.namespace.name, shards, known)
        return [
            replace(family, series=SeriesTable.of(family.series).seen_since(now - idle_ms))
            for family in families
        ]

    return ask()
