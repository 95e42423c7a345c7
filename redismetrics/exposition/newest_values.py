"""Infos and state sets as shown: the newest value for each set of tags."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from redismetrics.model.definition import Definition
from redismetrics.model.label_sets import split_tags
from redismetrics.model.validation import unpack_tags

from .families import SeriesState
from .series_table import SeriesTable

# Time in ms, clock of the batch in µs and series id, which define the order of values.
_Order = tuple[float, float, int]


@dataclass(slots=True)
class _Newest:
    """What was set for some tags: the labels set last, and all labels ever set."""

    seen_ms: int = 0
    order: _Order | None = None
    labels: dict[str, str] = field(default_factory=dict)
    states: dict[str, None] = field(default_factory=dict)


def newest_values(
    name: str,
    definition: Definition,
    tags_by_id: Mapping[int, bytes],
    rows: Mapping[int, Sequence[float]],
    skipped: int,
) -> SeriesTable:
    """Return the series of an info or state set from its *rows* of totals, by series id.

    An info has one series per set of tags. A state set has one series per state, one of which is 1.
    """
    kind = definition.type
    found: dict[tuple[tuple[str, str], ...], _Newest] = {}
    for number, (seen, value, time, clock) in rows.items():
        packed = tags_by_id.get(number)
        if not packed:
            continue
        about, labels = split_tags(kind, name, unpack_tags(packed))
        if kind == "stateset" and not labels:
            # The overflow series has no state.
            continue
        newest = found.setdefault(tuple(sorted(about.items())), _Newest())
        newest.seen_ms = max(newest.seen_ms, int(seen))
        newest.states |= dict.fromkeys(labels.values())
        order = (time, clock, number)
        if value == 1 and (newest.order is None or order > newest.order):
            newest.order, newest.labels = order, labels
    shown = []
    for about_items, newest in sorted(found.items()):
        if newest.order is None:
            continue
        about = dict(about_items)
        if kind == "info":
            shown.append(SeriesState({**about, **newest.labels}, newest.seen_ms, 1.0))
            continue
        current = newest.labels[name]
        states = dict.fromkeys(definition.options.states or newest.states) | {current: None}
        shown += [
            SeriesState({**about, name: state}, newest.seen_ms, float(state == current))
            for state in states
        ]
    table = SeriesTable.of(shown)
    table.skipped = skipped
    return table
