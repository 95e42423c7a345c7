"""Record infos and state sets: see `redismetrics.model.label_sets`.

The new series gets the value 1. At the same time, the one that this process had set before, or the
other states of a state set, get 0: otherwise two values set within one millisecond could not be
ordered.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from redismetrics.errors import InvalidTags, shown
from redismetrics.model.label_sets import info_tags, split_tags, state_tags
from redismetrics.model.time import to_ms
from redismetrics.model.validation import MetricType, Tags, pack_tags, unpack_tags

from .buffers import Buffer, MetricBuffers

if TYPE_CHECKING:
    from .recorder import Recorder


def checked(
    recorder: "Recorder",
    kind: MetricType,
    name: str,
    value: Any,
    tags: Tags | None,
    metadata: Mapping[str, Any] | None,
    timestamp: Any,
) -> tuple[MetricType, float, int | None, None, dict[str, str]]:
    """Return the same as `Recorder.checked`; *value* is labels, or a state. Has no side effects.

    Raises:
        InvalidMetric: A subclass of it, for the first argument that is not valid.
    """
    if metadata:
        raise InvalidTags(f"{name!r} is of type {kind} and has no metadata, got {shown(metadata)}")
    time_ms = to_ms(timestamp) if timestamp is not None else None
    clean = recorder.tags(name, tags)
    if kind == "info":
        return kind, 1.0, time_ms, None, info_tags(name, clean, value)
    known = recorder.metrics.get(name)
    states = None if known is None else known.states
    return kind, 1.0, time_ms, None, state_tags(name, clean, value, states)


def clear_replaced(
    recorder: "Recorder",
    metric: MetricBuffers,
    series: dict[str, str],
    buffer: Buffer,
    time_ms: int | None,
) -> None:
    """Record 0 for all series that are replaced by the one with the tags *series*, in *buffer*."""
    now = recorder.clock()
    for tags in _replaced(metric, series, buffer.canonical, recorder.settings.max_series):
        other = recorder.buffer(metric, tags)
        if other is buffer:
            continue
        if time_ms is None:
            other.values.extend((now, 0.0))
        else:
            other.extra.append((time_ms, True, 0.0, None))


def _replaced(
    metric: MetricBuffers, series: dict[str, str], canonical: bytes, most: int
) -> list[dict[str, str]]:
    """Return the tags of the series that are replaced by *series*."""
    kind, name, states = metric.definition.type, metric.name, metric.states
    if kind == "stateset" and states is not None:
        return [{**series, name: state} for state in states if state != series[name]]
    about = pack_tags(split_tags(kind, name, series)[0])
    before = metric.current.get(about)
    if len(metric.current) >= most:
        metric.current.clear()
    metric.current[about] = canonical
    return [] if before in (None, canonical) else [unpack_tags(before)]
