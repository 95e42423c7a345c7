"""Statistics of a namespace."""

from collections.abc import Callable, Collection
from typing import Any

from redismetrics.exposition.families import Family
from redismetrics.exposition.self_metrics import process_families, store_families
from redismetrics.model.retention import RetentionPolicy
from redismetrics.model.time import HOUR, to_datetime
from redismetrics.store import catalog, stats
from redismetrics.store.driver import Operation, gather
from redismetrics.store.stats import MetricStats
from redismetrics.store.unreadable import Skipped

from .aggregate import Row
from .context import QueryContext

# Writers listed by `store_stats`: at most this many, which have sent a batch within these ms.
_MAX_WRITERS = 100
_WRITING_MS = 60_000


def store_stats(context: QueryContext) -> Operation[Row]:
    """Return the statistics of the namespace that `get_stats` returns under `storage`."""
    namespace = context.namespace.name
    config = yield from context.namespace.config()
    skipped: Skipped = {}
    definitions = yield from catalog.catalogue(namespace, config.shards, skipped=skipped)
    found = yield from stats.readable_stats(namespace, config, list(definitions), skipped)
    server = yield from stats.server_state(namespace, config.shards)
    totals, retention = _totals(found.values(), config.retention), config.retention
    pruned = sum(each.pruned for each in found.values())
    return {
        "total_metrics": totals["samples"] - pruned - sum(totals["dropped"].values()),
        "metrics_stored": totals["samples"],
        "metrics_pruned": pruned,
        "metrics_dropped": totals["dropped"],
        "metrics_inexact": sum(each.inexact for each in found.values()),
        "retention_hours": retention.raw.retention / HOUR,
        "retention": {each.name: each.retention / HOUR for each in retention.with_raw},
        "memory_bytes": server.used_bytes,
        "names": len(definitions),
        "skipped": skipped,
        "series": totals["series"],
        "blocks": totals["blocks"],
        "bytes": totals["bytes"],
        "workers": server.workers,
        "worker_lag_seconds": totals["worker_lag_seconds"],
        "writers": len(server.writers),
        "writing": [
            {"writer": writer, "batches": sequence, "last_seen": to_datetime(seen_ms).isoformat()}
            for writer, sequence, seen_ms in server.writers[:_MAX_WRITERS]
            if seen_ms >= server.now_ms - _WRITING_MS
        ],
    }


def store_totals(context: QueryContext) -> Operation[Row]:
    """Return the totals of the namespace for the Prometheus page. Needs only read permission."""
    namespace = context.namespace.name
    config = yield from context.namespace.config()
    first: list[Operation[Any]] = [
        catalog.catalogue(namespace, config.shards),
        stats.presence(namespace, config.shards),
    ]
    definitions, presence = yield from gather(first)
    found = yield from stats.readable_stats(namespace, config, list(definitions))
    return {
        "metrics": len(definitions),
        "workers": presence.workers,
        "writers": presence.writers,
        **_totals(found.values(), config.retention),
    }


def self_metrics(
    context: QueryContext, process_stats: Callable[[], dict[str, Any]]
) -> Operation[list[Family]]:
    """Return redismetrics' own metrics, about this process (*process_stats*) and the namespace."""
    totals = yield from store_totals(context)
    return [*process_families(process_stats()), *store_families(totals)]


def _totals(metrics: Collection[MetricStats], retention: RetentionPolicy) -> Row:
    """Return the sums over all metrics."""
    sizes = {"log": sum(each.log_bytes for each in metrics)}
    for resolution in retention.with_raw:
        sizes[resolution.name] = sum(each.level_bytes[resolution.name] for each in metrics)
    return {
        "samples": sum(each.samples for each in metrics),
        "dropped": {
            reason: sum(getattr(each, reason) for each in metrics)
            for reason in ("never_sealed", "late")
        },
        "series": sum(each.series for each in metrics),
        "blocks": sum(each.blocks for each in metrics),
        "bytes": sizes,
        "worker_lag_seconds": max((each.waiting_ms for each in metrics), default=0) / 1000,
    }
