"""
Metrics of redismetrics itself, as families for the Prometheus page. No I/O.

    redismetrics_...         this process: what it recorded, stored and dropped, from `stats()`
    redismetrics_worker_...  a worker: of this process, or on the page of
                             `python -m redismetrics.worker --metrics-port`
    redismetrics_store_...   the namespace: series, bytes and workers, from `queries.stats`
    redismetrics_page_...    the page itself, from its families

Those of the namespace are gauges, because deleting a metric reduces them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from redismetrics.model.definition import define
from redismetrics.model.validation import MetricType

from .families import Family, SeriesState

_Table = Mapping[str, tuple[MetricType, str]]

_PROCESS: _Table = {
    "recorded": ("counter", "Samples recorded by this process."),
    "stored": ("counter", "Samples of this process that Redis confirmed."),
    "dropped": ("counter", "Samples of this process that were dropped, by reason."),
    "pending": ("gauge", "Samples not sent yet, or sent but not confirmed."),
    "in_doubt": ("gauge", "Samples sent but not confirmed."),
    "metadata_dropped": (
        "counter",
        "Samples that lost their metadata because one flush had too many.",
    ),
    "buffer_bytes": ("gauge", "Memory of unsent samples."),
    "buffered_series": ("gauge", "Series with a buffer in this process."),
    "overflow": (
        "counter",
        "Series merged into the overflow series, by metric, and by tag if it has too many values.",
    ),
    "batches": ("counter", "Batches confirmed."),
    "retries": ("counter", "Failed attempts to send a batch."),
    "lost_batches": ("counter", "Confirmed batches that Redis lost."),
    "unpublished": ("counter", "Blocks stored but not published to subscribers."),
    "definition_conflicts": (
        "counter",
        "Declarations that differ from those of other processes and were ignored.",
    ),
    "flush_seconds": ("gauge", "Duration of the last batch, from collecting to confirmation."),
}
_RULES: _Table = {
    "evaluations": ("counter", "Rules evaluated."),
    "failures": ("counter", "Evaluations that failed."),
    "missed": ("counter", "Evaluations of groups that were skipped."),
    "evaluation_seconds": ("counter", "Time that evaluations took."),
    "notifications": ("counter", "Notifications accepted, by receiver."),
    "notification_failures": ("counter", "Attempts to send that failed, by receiver."),
    "notifications_dropped": ("counter", "Notifications given up, by receiver."),
    "files_valid": ("gauge", "1 if the rule files are used as they are, 0 if one is not valid."),
}
_PUSH: _Table = {
    "samples_sent": ("counter", "Samples accepted by a target."),
    "samples_refused": ("counter", "Samples permanently rejected by a target."),
    "samples_dropped": (
        "counter",
        "Samples given up because the queue was full, another process took over, or at the end.",
    ),
    "failures": ("counter", "Failed attempts to send, which are retried."),
    "waiting_bytes": ("gauge", "Bytes of the requests that a target has not accepted yet."),
    "behind_seconds": ("gauge", "Age of the oldest samples that a target has not accepted yet."),
    "has_lease": ("gauge", "1 if this process pushes to the target, 0 if another one does."),
}
_ARCHIVE: _Table = {
    "passes": ("counter", "Passes over all metrics."),
    "rows": ("counter", "Rows written, by level."),
    "failures": ("counter", "Failed passes, which are retried."),
    "skipped_metrics": ("gauge", "Metrics that the last pass could not archive."),
    "waiting": ("gauge", "Complete hours and days that are waiting for a worker."),
    "lag_seconds": ("gauge", "Age of the oldest hour or day waiting to be archived."),
}
_WORKER: _Table = {
    "passes": ("counter", "Passes over all metrics."),
    "blocks": ("counter", "Blocks of logs sealed."),
    "samples": ("counter", "Samples sealed."),
    "bytes": ("counter", "Bytes of logs sealed."),
    "late": ("counter", "Samples dropped because their minute had expired."),
    "slots": ("counter", "Hours, days and segments built, and logs trimmed."),
    "conflicts": ("counter", "Commits rejected because another worker was faster."),
    "failures": ("counter", "Tasks that failed."),
    "writers_pruned": ("counter", "Writers forgotten."),
    "series_pruned": ("counter", "Idle series deleted."),
    "pass_seconds": ("gauge", "Duration of the last pass."),
    "lag_seconds": ("gauge", "Age of the oldest block in the last pass."),
}
_STORE: _Table = {
    "metrics": ("gauge", "Metrics of the namespace."),
    "series": ("gauge", "Series of all metrics."),
    "samples": ("gauge", "Samples ever stored of these metrics."),
    "dropped": ("gauge", "The part of these samples that Redis dropped, by reason."),
    "blocks": ("gauge", "Blocks in the logs."),
    "bytes": ("gauge", "Bytes of the logs and of each resolution."),
    "workers": ("gauge", "Workers that reported in the last 30 s."),
    "writers": ("gauge", "Known writers."),
    "worker_lag_seconds": ("gauge", "Age of the oldest block that no worker has merged yet."),
}
_PAGE: _Table = {
    "skipped": (
        "gauge",
        "Changes and fields that a newer version wrote and this page lacks, by metric.",
    ),
}
# The label of statistics with several numbers.
_LABELS = {
    "dropped": "reason",
    "bytes": "level",
    "rows": "level",
    "skipped": "metric",
    "notifications": "receiver",
    "notification_failures": "receiver",
    "notifications_dropped": "receiver",
    **dict.fromkeys(_PUSH, "target"),
}


def process_families(stats: Mapping[str, Any]) -> list[Family]:
    """Return the families of `Metrics.stats()`; without series if this process recorded nothing."""
    own = _families("redismetrics_", _PROCESS, stats if stats.get("recorded") else {})
    return [*own, *worker_families(stats.get("worker") or {})]


def worker_families(counts: Mapping[str, Any]) -> list[Family]:
    """Return the families of a worker's `Counts`."""
    return _families("redismetrics_worker_", _WORKER, counts)


def rule_families(counts: Mapping[str, Any]) -> list[Family]:
    """Return the families of a service that evaluates alert rules."""
    return _families("redismetrics_rule_", _RULES, counts)


def push_families(counts: Mapping[str, Any]) -> list[Family]:
    """Return the families of a service that pushes to other systems."""
    return _families("redismetrics_push_", _PUSH, counts)


def archive_families(counts: Mapping[str, Any]) -> list[Family]:
    """Return the families of an archiver."""
    return _families("redismetrics_archive_", _ARCHIVE, counts)


def store_families(stats: Mapping[str, Any]) -> list[Family]:
    """Return the families of the namespace's statistics."""
    return _families("redismetrics_store_", _STORE, stats)


def page_families(families: Iterable[Family]) -> list[Family]:
    """Return the page's own families, about these families."""
    skipped = {family.name: family.skipped for family in families if family.skipped}
    return _families("redismetrics_page_", _PAGE, {"skipped": skipped})


def reserved_families() -> list[Family]:
    """Return all families without series.

    On a page, they reserve their names, so that a user's metric has the same name on every page.
    """
    return [*process_families({}), *store_families({})]


def _families(prefix: str, table: _Table, stats: Mapping[str, Any]) -> list[Family]:
    families = []
    for key, (kind, text) in table.items():
        name = prefix + key
        families.append(Family(name, define(name, kind, help=text), _series(key, stats.get(key))))
    return families


def _series(key: str, value: Any) -> list[SeriesState]:
    if value is None:
        return []
    if key == "overflow":
        return [
            SeriesState({"metric": name, "tag": tag}, 0, float(count))
            for name, tags in sorted(value.items())
            for tag, count in sorted(tags.items())
        ]
    if isinstance(value, Mapping):
        return [
            SeriesState({_LABELS[key]: label}, 0, float(number))
            for label, number in sorted(value.items())
        ]
    return [SeriesState({}, 0, float(value))]
