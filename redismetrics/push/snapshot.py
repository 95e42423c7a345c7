"""The totals of a namespace at one time of the server's clock."""

from dataclasses import dataclass, replace

from redismetrics.exposition.named_families import NamedFamily, named_families
from redismetrics.exposition.read import read_readable_families
from redismetrics.exposition.self_metrics import page_families, reserved_families
from redismetrics.exposition.series_table import SeriesTable
from redismetrics.queries.context import QueryContext
from redismetrics.store import catalog, server
from redismetrics.store.driver import Operation


@dataclass(frozen=True, slots=True)
class TotalsSnapshot:
    """All families with series, with their names on the Prometheus page.

    Attributes:
        time_ms: The time of all samples.
        added_us: When each metric was added to the namespace, by name: its totals began at 0 at
            that time or later.
    """

    time_ms: int
    families: list[NamedFamily]
    added_us: dict[str, int]


def read_snapshot(context: QueryContext, idle_ms: int) -> Operation[TotalsSnapshot]:
    """Read the totals, without series not recorded for *idle_ms*."""
    shards = yield from context.namespace.shards()
    added: dict[str, int] = {}
    definitions = yield from catalog.catalogue(context.namespace.name, shards, added=added)
    now_ms = yield from server.now()
    families = yield from read_readable_families(
        context.namespace.name, shards, definitions, now_ms
    )
    shown = [
        replace(each, series=SeriesTable.of(each.series).seen_since(now_ms - idle_ms))
        for each in families
    ]
    # The names of redismetrics' own metrics on the page are reserved here as well.
    reserved = [*reserved_families(), *page_families([])]
    return TotalsSnapshot(now_ms, named_families([*reserved, *shown]), added)
