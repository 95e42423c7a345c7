"""Which slots are due to be downsampled, and when."""

from collections.abc import Iterable

from redismetrics.model.retention import Resolution, RetentionPolicy
from redismetrics.model.time import HOUR, SECOND, slot_of
from redismetrics.store import keys
from redismetrics.store.keys import FOLD
from redismetrics.store.metric_keys import MetricLocation

from .commit import KeyWrites, MetricVersion
from .merge import CellKey

GRACE = (
    60 * SECOND
)  # a slot is made so long after its end, and made anew so long after something came too late for it
FOLDS = 4  # parts of a span


def coarser_due(
    metric: MetricLocation, level: Resolution, places: Iterable[CellKey], standing: MetricVersion
) -> dict[str, int]:
    """The coarse slots over these that are not due yet, and when they will be."""
    marks = {}
    for slot, chunk in places:
        for name, width in metric.coarser(level):
            start = slot_of(slot, width)
            field_ = keys.due_field(name, start, chunk)
            if field_.encode() not in standing.due:
                marks[field_] = max(start + width, standing.now_ms) + GRACE
    return marks | merges_due(level, places, standing)


def merges_due(
    level: Resolution, places: Iterable[CellKey], standing: MetricVersion
) -> dict[str, int]:
    """The parts of spans over these slots that are to be folded, and when: where that is before the whole span is."""
    marks = {}
    for slot, chunk in places:
        start = slot_of(slot, level.span // FOLDS)
        when = max(start + level.span // FOLDS, standing.now_ms) + GRACE
        field_ = keys.due_field(FOLD + level.name, start, chunk)
        if when < slot_of(slot, level.span) + level.span and field_.encode() not in standing.due:
            marks[field_] = when
    return marks


def kept_for_coarser(metric: MetricLocation, marks: Iterable[str]) -> list[KeyWrites]:
    """What the slots that are marked will be made of, beside minutes, which are just written: it stays until they are made."""
    minute = metric.retention.levels[0]
    return [
        KeyWrites(level, span, persist=True, refuse=False)
        for level, span in made_of(metric, marks)
        if level is not minute
    ]


def made_of(metric: MetricLocation, due: Iterable[str]) -> set[tuple[Resolution, int]]:
    """The keys, by level and span, that hold what these coarse slots are made of."""
    levels = metric.retention.levels
    finer = {
        name: level for (name, _), level in zip(metric.coarser(levels[0]), levels, strict=True)
    }
    found = set()
    for each in due:
        name, start_s, _ = each.split(" ")
        if not name.startswith(FOLD):
            found.add((finer[name], int(start_s) * SECOND))
    return found


def sweep_interval(retention: RetentionPolicy) -> int:
    return max(retention.levels[-1].retention // 8, HOUR)
