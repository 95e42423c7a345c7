"""Checks of metrics that keep every sample, and of tags that should be metadata."""

from collections.abc import Mapping
from typing import Any

from redismetrics.model.definition import Definition
from redismetrics.model.validation import OVERFLOW_TAGS, pack_tags
from redismetrics.store import keys
from redismetrics.store.driver import Command, Operation
from redismetrics.store.stats import MetricStats

from .findings import Finding, readable_size

# Tags that number the steps of a run: each value would create another series.
STEP_TAGS = ("step", "global_step", "iteration", "batch", "epoch")
# Number of values of such a tag, and of series of a metric, from which to check them.
MANY = 100
# Maximum number of metrics named in a finding.
NAMED = 3

_DAY_S = 86_400
_OVERFLOW = pack_tags(OVERFLOW_TAGS)


def judge_samples(
    definitions: Mapping[str, Definition], metrics: Mapping[str, MetricStats], retention_s: float
) -> Finding:
    """Return a finding about the cost of metrics with `exact_samples`.

    *retention_s* is how long the namespace keeps exact samples, in seconds.
    """
    rows: list[dict[str, Any]] = []
    for name, each in metrics.items():
        if definitions[name].keeps_samples:
            size, exact = each.level_bytes["raw"], max(each.kept - each.inexact, 0)
            rows.append(
                {
                    "metric": name,
                    "samples": exact,
                    "bytes": size,
                    "bytes_per_sample": size / exact if exact else 0.0,
                    "retention": definitions[name].options.retention or retention_s,
                    "inexact": each.inexact,
                }
            )
    details = {"exact_samples": rows}
    if not rows:
        return Finding("samples", "ok", "no metric has exact_samples", details=details)
    rows.sort(key=lambda row: (-row["bytes"], row["metric"]))
    text = "; ".join(
        f"{row['metric']} {row['samples']:,} samples, {readable_size(row['bytes'])}, "
        f"{row['bytes_per_sample']:.1f} bytes each, kept for {row['retention'] / _DAY_S:.3g} d"
        for row in rows[:NAMED]
    )
    found = f"{len(rows)} with exact_samples: {text}"
    over = next((row["metric"] for row in rows if row["inexact"]), None)
    if over is None:
        return Finding("samples", "ok", found, details=details)
    advice = (
        f"Raise exact_bytes where workers run, or give {over} a shorter retention: it has more "
        "bytes than exact_bytes, so new samples are compressed."
    )
    return Finding("samples", "warning", found, advice, details)


def check_tags(
    namespace: str, shards: int, metrics: Mapping[str, MetricStats]
) -> Operation[Finding]:
    """Find tags with step numbers, and metrics with series merged into the overflow series."""
    names = [name for name, each in metrics.items() if each.series >= MANY]
    commands: list[Command] = []
    for name in names:
        of = keys.metric(namespace, keys.shard_of(name, shards), name)
        commands += [("HMGET", of.values, *STEP_TAGS), ("HEXISTS", of.series, _OVERFLOW)]
    replies = (yield commands) if commands else []
    steps = {
        name: tag
        for name, counts in zip(names, replies[::2], strict=True)
        for tag, count in zip(STEP_TAGS, counts, strict=True)
        if int(count or 0) >= MANY
    }
    merged = [name for name, is_merged in zip(names, replies[1::2], strict=True) if is_merged]
    details = {"step_tags": steps, "merged": merged}
    if steps:
        name, tag = next(iter(steps.items()))
        found = "; ".join(f"{each} has a series for each {its}" for each, its in steps.items())
        advice = (
            f"Pass {tag} as metadata instead of a tag, and declare {name} with exact_samples=True."
        )
        return Finding("tags", "warning", found, advice, details)
    if merged:
        found = f"new series are merged into one: {', '.join(merged[:NAMED])}"
        advice = (
            f"See `redismetrics cardinality`; if {merged[0]} needs all its series, declare it with "
            "max_tag_values or max_series."
        )
        return Finding("tags", "warning", found, advice, details)
    return Finding("tags", "ok", "no tag has a value for each step", details=details)
