"""What to read of a metric for a selector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from redismetrics.columnar.arrays import Ints
from redismetrics.model.definition import Definition
from redismetrics.model.label_sets import LABEL_TYPES
from redismetrics.model.time import DAY, HOUR, MINUTE, SECOND
from redismetrics.promql.source import LOOKBACK_MS, Selector
from redismetrics.queries.slots import SlotsQuery

from .chosen import series_chooser
from .label_sets import all_series
from .page import Form

# Functions of a window that can be computed from exact changes.
CHANGES = ("increase", "rate", "delta")
# Functions of a window that need only the last point of each slot, or whether there is one.
_LAST_POINT = ("last_over_time", "present_over_time", "absent_over_time")

# Maximum slots per series that a selector reads, if coarser ones are fine enough for its step: the
# maximum number of steps of a range query.
_MAX_SLOTS = 11_000
# Widths of slots, and the time that each counts for; exact samples count as one per 15 s.
_WIDTHS = ((0, 15 * SECOND), (MINUTE, MINUTE), (HOUR, HOUR), (DAY, DAY))


@dataclass(frozen=True, slots=True)
class MappingOptions:
    """Options for how series are shown.

    Attributes:
        idle_ms: A series that was not recorded for this long is gone.
        external: Labels of all series.
    """

    idle_ms: int = DAY
    external: Mapping[str, str] = field(default_factory=dict)


def lookback_of(definition: Definition, selector: Selector, options: MappingOptions) -> int:
    """Return the lookback of a metric, in ms.

    Values that are set once and remain valid, such as the version of a program, count until the
    series is idle.
    """
    if selector.lookback is not None:
        return selector.lookback
    own = definition.options.lookback
    if own is not None:
        return round(own * SECOND)
    return options.idle_ms if definition.type in LABEL_TYPES else LOOKBACK_MS


def window_edges(selector: Selector) -> Ints:
    """Return the distinct, ascending edges of all windows, or the times of an instant selector."""
    times = selector.times
    return np.unique(np.concatenate([times, times - selector.range])) if selector.range else times


def slots_query(
    metric: str,
    definition: Definition,
    form: Form,
    selector: Selector,
    options: MappingOptions,
) -> SlotsQuery:
    """Return what to read of *metric* for the series of *form*."""
    span = selector.end - selector.start
    since, with_totals = selector.start - (selector.range or options.idle_ms), False
    edges: Sequence[int] | None = window_edges(selector).tolist()
    if form in ("gauge", "labels"):
        # A sample at the time itself counts, so the slot that begins there must not be whole.
        edges = (selector.times + 1).tolist()
        if selector.range and selector.function not in _LAST_POINT:
            edges = None
        elif not selector.range:
            since = selector.start - lookback_of(definition, selector, options)
    elif selector.function in CHANGES or (form == "distribution" and selector.range):
        # Further back, to find out whether a series was present at all.
        since = selector.start - max(selector.range, options.idle_ms)
    elif form == "distribution":
        since = 0
    else:
        with_totals = True
        if selector.range and selector.function not in _LAST_POINT:
            edges = None
    return SlotsQuery(
        metric,
        all_series if form == "labels" else series_chooser(selector.matchers, options.external),
        since,
        selector.end + 1,
        edges,
        _finest(selector, span + selector.range if edges is None else span),
        with_totals,
        form in ("bucket", "distribution"),
    )


def _finest(selector: Selector, length_ms: int) -> int:
    """Return the width of the finest slots to read, in ms; 0 means exact samples.

    Long ranges are read from coarser slots than their edges need, but never from slots that are
    wider than a step or a window.
    """
    most = min(selector.step or selector.range or length_ms, selector.range or DAY)
    fitting = [width for width, _ in _WIDTHS if width <= most]
    by_length = [width for width, each in _WIDTHS if length_ms <= _MAX_SLOTS * each]
    return min(fitting[-1], by_length[0] if by_length else DAY)
