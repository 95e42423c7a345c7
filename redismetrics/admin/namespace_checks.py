"""Checks of a namespace: scripts, format, workers, losses, and the size of metrics."""

from dataclasses import asdict

from redismetrics.model.definition import Definition
from redismetrics.model.time import SECOND
from redismetrics.queries.newer_versions import NewerVersions, find_newer
from redismetrics.store import catalog, keys, stats
from redismetrics.store.driver import Operation
from redismetrics.store.namespace import Namespace
from redismetrics.store.server import try_scripts
from redismetrics.store.stats import MetricStats, Presence

from .findings import Finding, Status, readable_size
from .sample_checks import check_tags, judge_samples
from .server_checks import ALMOST_FULL
from .type_checks import judge_types

# Age of the oldest unprocessed block for a warning, and for a failure.
LAG_SECONDS, LONG_LAG_SECONDS = 60.0, 600.0
# Number of metrics in the lists of the largest ones.
LARGEST = 5


class NamespaceChecks:
    """The checks of one namespace; the statistics of its metrics are read once."""

    def __init__(self, namespace: str, max_series: int) -> None:
        self._namespace = Namespace(namespace)
        self._max_series = max_series
        self._stats: dict[str, MetricStats] | None = None
        self._definitions: dict[str, Definition] = {}

    def check_scripts(self) -> Operation[list[Finding]]:
        """Check that the scripts load and run, without side effects."""
        ran = yield from try_scripts(self._namespace.name, 0)
        found = f"all scripts load; {ran} ran without effect"
        return [Finding("scripts", "ok", found, details={"ran": ran})]

    def check_format(self) -> Operation[list[Finding]]:
        """Check the format of the namespace; raise `FormatMismatch` if it differs."""
        config = yield from self._namespace.config()
        retentions = config.retention.describe()
        details = {"format": keys.FORMAT, "shards": config.shards, "retentions": retentions}
        shards = f"{config.shards} shard{'s' * (config.shards != 1)}"
        found = f"format {keys.FORMAT}, {shards}; retentions (s) {retentions}"
        return [Finding("format", "ok", found, details=details)]

    def check_versions(self) -> Operation[list[Finding]]:
        """Check that no data is stored that only a newer version can read."""
        shards = yield from self._namespace.shards()
        return [_judge_versions((yield from find_newer(self._namespace.name, shards)))]

    def check_workers(self) -> Operation[list[Finding]]:
        """Check that workers are running, and that no block has waited long for one."""
        config = yield from self._namespace.config()
        presence = yield from stats.presence(self._namespace.name, config.shards)
        return [_judge_workers(presence, (yield from self._read_stats()))]

    def check_metrics(self) -> Operation[list[Finding]]:
        """Check for lost samples, metrics with too many series, and the cost of exact samples."""
        metrics, config = (yield from self._read_stats()), (yield from self._namespace.config())
        limits = {
            name: definition.options.max_series or self._max_series
            for name, definition in self._definitions.items()
        }
        kept_s = config.retention.raw.retention / SECOND
        return [
            _judge_losses(metrics),
            _judge_sizes(metrics, limits),
            judge_samples(self._definitions, metrics, kept_s),
            (yield from check_tags(self._namespace.name, config.shards, metrics)),
            *judge_types(self._definitions),
        ]

    def _read_stats(self) -> Operation[dict[str, MetricStats]]:
        if self._stats is None:
            name, config = self._namespace.name, (yield from self._namespace.config())
            known = yield from catalog.catalogue(name, config.shards, strict=True)
            self._definitions = known
            self._stats = yield from stats.metric_stats(name, config, list(known))
        return self._stats


def _judge_versions(newer: NewerVersions) -> Finding:
    details = asdict(newer)
    if not newer:
        return Finding("versions", "ok", "nothing was written by a newer version", details=details)
    parts = [
        f"{what} of {', '.join(names[:LARGEST])}{' and others' if len(names) > LARGEST else ''}"
        for what, names in (
            ("an unknown type", newer.types),
            ("unknown options", newer.options),
            ("totals that only a newer worker can fold", newer.changes),
        )
        if names
    ]
    advice = (
        "Upgrade redismetrics where the workers, the pages and this command run: a newer version "
        "records here, and this one skips what it does not know."
    )
    found = f"written by a newer version: {'; '.join(parts)}"
    return Finding("versions", "warning", found, advice, details)


def _judge_workers(presence: Presence, metrics: dict[str, MetricStats]) -> Finding:
    waiting = {name: each.waiting_ms / 1000 for name, each in metrics.items()}
    slowest = max(waiting, key=waiting.__getitem__, default="")
    lag = waiting.get(slowest, 0.0)
    details = {
        "workers": presence.workers,
        "silent": presence.silent_workers,
        "lag_seconds": lag,
        "writers": presence.writers,
    }
    longest = f"{slowest} has waited longest, {lag:.0f} s" if lag else "nothing is waiting"
    writers = f"{presence.writers} writer{'s' * (presence.writers != 1)} known"
    found = f"{presence.workers} running, {writers}, {longest}"
    advice = ""
    status: Status = "failure" if lag > LONG_LAG_SECONDS else "warning"
    if presence.workers == 0 and metrics:
        advice = (
            "Run `redismetrics worker`, or use Metrics(worker=True): blocks that no worker has "
            "processed are cut after a day."
        )
    elif lag > LAG_SECONDS:
        advice = "See the logs of the workers, and run more of them if they are busy."
    if advice:
        return Finding("workers", status, found, advice, details)
    return Finding("workers", "ok", found, details=details)


def _judge_losses(metrics: dict[str, MetricStats]) -> Finding:
    lost = {
        reason: {name: getattr(each, reason) for name, each in metrics.items()}
        for reason in ("never_sealed", "late")
    }
    totals = {reason: sum(by_name.values()) for reason, by_name in lost.items()}
    if not any(totals.values()):
        return Finding("losses", "ok", "no sample was lost in Redis", details=totals)
    reason = max(totals, key=totals.__getitem__)
    name = max(lost[reason], key=lost[reason].__getitem__)
    counts = ", ".join(f"{count:,} samples {each}" for each, count in totals.items() if count)
    advice = (
        "Keep a worker running, or raise log_bytes: logs were cut before a worker processed them."
        if reason == "never_sealed"
        else "Send samples sooner, or raise minute_retention: they came after their minute expired."
    )
    found = f"{counts}; most of {name}"
    return Finding("losses", "warning", found, advice, {**totals, "metric": name})


def _judge_sizes(metrics: dict[str, MetricStats], limits: dict[str, int]) -> Finding:
    sizes = {
        name: each.log_bytes + sum(each.level_bytes.values()) for name, each in metrics.items()
    }
    series = {name: each.series for name, each in metrics.items()}
    by_bytes = sorted(sizes, key=lambda name: (-sizes[name], name))[:LARGEST]
    by_series = sorted(series, key=lambda name: (-series[name], name))[:LARGEST]
    total_series, total_bytes = sum(series.values()), sum(sizes.values())
    details = {
        "metrics": len(metrics),
        "series": total_series,
        "bytes": total_bytes,
        "most_bytes": [{"metric": name, "bytes": sizes[name]} for name in by_bytes],
        "most_series": [{"metric": name, "series": series[name]} for name in by_series],
    }
    found = f"{len(metrics):,} metrics, {total_series:,} series, {readable_size(total_bytes)}"
    if by_bytes:
        largest = ", ".join(f"{name} {readable_size(sizes[name])}" for name in by_bytes[:3])
        most = ", ".join(f"{name} {series[name]:,}" for name in by_series[:3])
        found += f"; largest {largest}; most series {most}"
        first = max(by_series, key=lambda name: series[name] / limits[name])
        if series[first] and series[first] >= ALMOST_FULL * limits[first]:
            advice = (
                f"Remove a tag with many values from {first}: series beyond "
                f"max_series={limits[first]:,} are merged into one."
            )
            return Finding("metrics", "warning", found, advice, details)
    return Finding("metrics", "ok", found, details=details)
