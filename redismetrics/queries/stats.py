"""Statistics of the store."""

from collections.abc import Callable, Collection
from typing import Any

from redismetrics.exposition.families import Family
from redismetrics.exposition.self_metrics import process_families, store_families
from redismetrics.model.retention import RetentionPolicy
from redismetrics.model.time import HOUR, to_datetime
from redismetrics.store import catalog, stats
from redismetrics.store.driver import Operation, gather
from redismetrics.store.stats import MetricStats

from .aggregate import Row
from .context import QueryContext

WRITERS_LISTED = 100
WRITING_MS = 60_000  # who sent a batch within that time is writing


def store_stats(context: QueryContext) -> Operation[Row]:
    """The store's figures, in the original's names and more; see docs/settings.md."""
    config = yield from context.namespace.config()
    known = yield from catalog.catalogue(context.namespace.name, config.shards)
    found = yield from stats.metric_stats(context.namespace.name, config, list(known))
    server = yield from stats.server_state(context.namespace.name, config.shards)
    totals, retention = _totals(found.values(), config.retention), config.retention
    pruned = sum(each.pruned for each in found.values())
    levels = retention.with_raw
    return {
        "total_metrics": totals["samples"] - pruned - sum(totals["dropped"].values()),
        "metrics_stored": totals["samples"],
        "metrics_pruned": pruned,
        "metrics_dropped": totals["dropped"],
        "retention_hours": retention.raw.retention / HOUR,
        "retention": {level.name: level.retention / HOUR for level in levels},
        "memory_bytes": server.used_bytes,
        "names": len(known),
        "series": totals["series"],
        "blocks": totals["blocks"],
        "bytes": totals["bytes"],
        "workers": server.workers,
        "worker_lag_seconds": totals["worker_lag_seconds"],
        "writers": len(server.writers),
        "writing": [
            {"writer": writer, "batches": sequence, "last_seen": to_datetime(seen_ms).isoformat()}
            for writer, sequence, seen_ms in server.writers[:WRITERS_LISTED]
            if seen_ms >= server.now_ms - WRITING_MS
        ],
    }


def store_totals(context: QueryContext) -> Operation[Row]:
    """The store's figures for the Prometheus page, as figures.py takes them: no more than a reader may ask."""
    config = yield from context.namespace.config()
    first: list[Operation[Any]] = [
        catalog.catalogue(context.namespace.name, config.shards),
        stats.presence(context.namespace.name, config.shards),
    ]
    known, there = yield from gather(first)
    found = yield from stats.metric_stats(context.namespace.name, config, list(known))
    totals = _totals(found.values(), config.retention)
    return {"metrics": len(known), "workers": there.workers, "writers": there.writers, **totals}


def _totals(standings: Collection[MetricStats], retention: RetentionPolicy) -> Row:
    level_names = [level.name for level in retention.with_raw]
    return {
        "samples": sum(each.samples for each in standings),
        "dropped": {
            reason: sum(getattr(each, reason) for each in standings)
            for reason in ("never_sealed", "late")
        },
        "series": sum(each.series for each in standings),
        "blocks": sum(each.blocks for each in standings),
        "bytes": {"log": sum(each.log_bytes for each in standings)}
        | {name: sum(each.level_bytes[name] for each in standings) for name in level_names},
        "worker_lag_seconds": max((each.waiting_ms for each in standings), default=0) / 1000,
    }


def self_metrics(
    context: QueryContext, process_stats: Callable[[], dict[str, Any]]
) -> Operation[list[Family]]:
    """Return redismetrics' own metrics: of this process (*process_stats*) and of the namespace."""
    totals = yield from store_totals(context)
    return [*process_families(process_stats()), *store_families(totals)]
