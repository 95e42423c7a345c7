"""Which parts of the store answer for a window: each instant covered once, by the coarsest slots that fit. Pure."""

from collections.abc import Collection
from dataclasses import dataclass, field

from .errors import OutsideRetention
from .slots import DAY, HOUR, MINUTE, SECOND, Calendar, Level, slot_of

OPEN_SINCE, OPEN_UNTIL = 0, 1 << 60  # the edges of a window that has none
AHEAD = 2 * DAY  # no sample is further in the future

Due = frozenset[tuple[str, int]]


@dataclass(slots=True)
class Plan:
    """What of one chunk answers for [since_ms, until_ms): whole slots, by level and span; and minutes that an edge cuts.

    Of a *cut* minute the exact samples within the window count where all are there; else its summary does, if the window
    holds its start.
    """

    since_ms: int
    until_ms: int
    slots: dict[tuple[Level, int], list[int]] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)


def bounds(since_ms: int, until_ms: int, calendar: Calendar, now_ms: int, began_ms: int) -> tuple[int, int]:
    """The part of a window that can hold samples: of a metric first recorded at *began_ms*, none older than is kept."""
    coarsest, minute = calendar.levels[-1], calendar.levels[0]
    oldest = max(coarsest.kept_from(now_ms), slot_of(max(began_ms - minute.retention, 0), coarsest.width))
    since = max(since_ms, oldest)
    return since, max(min(until_ms, slot_of(now_ms + AHEAD, DAY)), since)


def check_interval(interval_ms: int, since_ms: int, calendar: Calendar, now_ms: int) -> int:
    """Return where a time series of this interval can begin: *since_ms*, or what is kept, for a window that is open.

    Raises:
        OutsideRetention: the window begins before what is kept that finely; names the finest interval possible.
    """
    fitting = [level for level in calendar.levels if interval_ms % level.width == 0]
    kept_from = (fitting[-1] if fitting else calendar.raw).kept_from(now_ms)
    if since_ms >= kept_from:
        return since_ms
    if since_ms == OPEN_SINCE:
        return kept_from
    possible = [level for level in calendar.levels if level.kept_from(now_ms) <= since_ms]
    if not possible:
        raise OutsideRetention("interval: the window begins before everything that is kept: ask a later one")
    raise OutsideRetention(
        f"interval: so far back the finest is {_text(possible[0].width)}, or whole multiples of it, got {_text(interval_ms)}"
    )


def _text(width: int) -> str:
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE)):
        if width % size == 0:
            return f"{width // size}{unit}"
    return f"{width // SECOND}s"


def plan(
    since_ms: int,
    until_ms: int,
    calendar: Calendar,
    due: Collection[tuple[str, int]],
    now_ms: int,
    interval_ms: int | None = None,
) -> Plan:  # fmt: skip
    """Plan the reading of one chunk, whose *due* slots (level, start) must not be used, for [since_ms, until_ms).

    With *interval_ms* every slot lies within one interval of that width, aligned to the epoch.
    """
    made = Plan(since_ms, until_ms)
    if since_ms >= until_ms:
        return made
    levels = calendar.levels
    if interval_ms is not None:
        levels = tuple(level for level in levels if interval_ms % level.width == 0)
    if not levels:
        made.cut = list(range(slot_of(since_ms, MINUTE), until_ms, MINUTE))
        return made

    def cover(at: int, begin: int, end: int) -> None:
        """Cover [begin, end) by slots of this level, and what they leave by finer ones."""
        level = levels[at]
        slot = slot_of(begin, level.width)
        while slot < end:
            after = slot + level.width
            inside = max(begin, slot), min(end, after)
            is_due = at > 0 and (level.name, slot) in due
            if inside == (slot, after) and not is_due:
                made.slots.setdefault((level, slot_of(slot, level.span)), []).append(slot)
            elif at == 0:
                made.cut.append(slot)
            elif is_due or not levels[at - 1].gone(slot, now_ms):  # what a due slot is made of stays until it was made
                cover(at - 1, *inside)
            elif inside[0] == slot:  # what is finer is gone: it belongs to the window that holds its start
                made.slots.setdefault((level, slot_of(slot, level.span)), []).append(slot)
            slot = after

    cover(len(levels) - 1, since_ms, until_ms)
    return made
