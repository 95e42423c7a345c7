"""
What redismetrics says of itself, as families for the Prometheus page. Pure.

    redismetrics_...         this process: what it recorded, stored, dropped; from `stats()`
    redismetrics_worker_...  a worker: of this process, or the page of `python -m redismetrics.worker --metrics-port`
    redismetrics_store_...   the namespace: series, bytes, workers; from `reader.figures`

The store's are gauges throughout: deleting a metric takes its part off them.
"""

from collections.abc import Mapping
from typing import Any

from redismetrics.model.definition import define
from redismetrics.model.validation import MetricType

from .families import Family, SeriesState

_Table = Mapping[str, tuple[MetricType, str]]

_PROCESS: _Table = {
    "recorded": ("counter", "Samples recorded by this process."),
    "stored": ("counter", "Samples of this process that the store confirmed."),
    "dropped": ("counter", "Samples of this process that were dropped, by reason."),
    "pending": ("gauge", "Samples not sent yet, or sent and not confirmed."),
    "in_doubt": ("gauge", "Samples sent and not confirmed."),
    "metadata_dropped": (
        "counter",
        "Samples that lost their metadata, being too many in one flush.",
    ),
    "buffer_bytes": ("gauge", "Memory that unsent samples take."),
    "buffered_series": ("gauge", "Series that this process has a buffer for."),
    "overflow": (
        "counter",
        "Series of batches that shared one, by metric, and by tag if that has too many values.",
    ),
    "batches": ("counter", "Batches confirmed."),
    "retries": ("counter", "Failures while a batch was in doubt."),
    "lost_batches": ("counter", "Confirmed batches that the store no longer knew."),
    "unpublished": ("counter", "Blocks stored but refused by the channel."),
    "definition_conflicts": ("counter", "Declarations that lost against those of other processes."),
    "flush_seconds": ("gauge", "The last batch, from taking it up to its confirmation."),
}
_WORKER: _Table = {
    "passes": ("counter", "Passes over all metrics."),
    "blocks": ("counter", "Blocks of logs sealed."),
    "samples": ("counter", "Samples sealed."),
    "bytes": ("counter", "Bytes of logs sealed."),
    "late": ("counter", "Samples dropped because their minute was past its retention."),
    "slots": ("counter", "Hours, days and segments made, and logs trimmed."),
    "conflicts": ("counter", "Commits that another worker had overtaken."),
    "failures": ("counter", "Pieces of work that failed."),
    "writers_pruned": ("counter", "Writers forgotten."),
    "series_pruned": ("counter", "Idle series forgotten."),
    "pass_seconds": ("gauge", "How long the last pass took."),
    "lag_seconds": ("gauge", "How long the oldest block of the last pass had waited."),
}
_STORE: _Table = {
    "metrics": ("gauge", "Metrics of the namespace."),
    "series": ("gauge", "Series of all metrics."),
    "samples": ("gauge", "Samples that were ever stored of these metrics."),
    "dropped": ("gauge", "Of them those dropped in the store, by reason."),
    "blocks": ("gauge", "Blocks in the logs."),
    "bytes": ("gauge", "Bytes of the logs and of each level."),
    "workers": ("gauge", "Workers heard of in the last 30 s."),
    "writers": ("gauge", "Processes known as writers."),
    "worker_lag_seconds": ("gauge", "Age of the oldest block that no worker has merged yet."),
}
_LABELS = {"dropped": "reason", "bytes": "level"}  # where a figure is one for each of several


def of_process(stats: Mapping[str, Any]) -> list[Family]:
    """The families of `Metrics.stats()`; without series where nothing was recorded in this process."""
    own = _families("redismetrics_", _PROCESS, stats if stats.get("recorded") else {})
    return [*own, *of_worker(stats.get("worker") or {})]


def of_worker(counts: Mapping[str, Any]) -> list[Family]:
    """The families of `worker.Counts`."""
    return _families("redismetrics_worker_", _WORKER, counts)


def of_store(found: Mapping[str, Any]) -> list[Family]:
    """The families of `reader.figures`."""
    return _families("redismetrics_store_", _STORE, found)


def reserved() -> list[Family]:
    """All families without series: on a page they hold the names, so that a user's metric has one whatever else is on it."""
    return [*of_process({}), *of_store({})]


def _families(prefix: str, table: _Table, found: Mapping[str, Any]) -> list[Family]:
    made = []
    for figure, (kind, text) in table.items():
        name = prefix + figure
        made.append(Family(name, define(name, kind, help=text), _series(figure, found.get(figure))))
    return made


def _series(figure: str, value: Any) -> list[SeriesState]:
    if value is None:
        return []
    if figure == "overflow":
        each = [
            (name, tag, count)
            for name, tags in sorted(value.items())
            for tag, count in sorted(tags.items())
        ]
        return [
            SeriesState({"metric": name, "tag": tag}, 0, float(count)) for name, tag, count in each
        ]
    if isinstance(value, Mapping):
        return [
            SeriesState({_LABELS[figure]: key}, 0, float(each))
            for key, each in sorted(value.items())
        ]
    return [SeriesState({}, 0, float(value))]
