"""Which parts of the store answer for a window: each instant covered once, by the coarsest slots that fit. Pure."""

from collections.abc import Collection
from dataclasses import dataclass, field

from redismetrics.errors import OutsideRetention
from redismetrics.model.retention import Resolution, RetentionPolicy
from redismetrics.model.time import DAY, HOUR, MINUTE, OPEN_SINCE, SECOND, slot_of

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
    slots: dict[tuple[Resolution, int], list[int]] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)


def bounds(
    since_ms: int,
    until_ms: int,
    retention: RetentionPolicy,
    now_ms: int,
    sealed_ms: tuple[int, int] | None,
) -> tuple[int, int]:
    """The part of a window that can hold what is sealed: what is kept, of the days of *sealed_ms*.

    These are the oldest and the newest hour that were ever sealed into; None: not known.
    """
    coarsest = retention.coarsest
    first, last = sealed_ms or (0, now_ms + AHEAD - coarsest.width)
    since = max(since_ms, coarsest.kept_from(now_ms), slot_of(first, coarsest.width))
    return since, max(min(until_ms, slot_of(last, coarsest.width) + coarsest.width), since)


def check_interval(interval_ms: int, since_ms: int, retention: RetentionPolicy, now_ms: int) -> int:
    """Return where a time series of this interval can begin: *since_ms*, or what is kept, for a window that is open.

    Raises:
        OutsideRetention: the window begins before what is kept that finely; names the finest interval possible.
    """
    fitting = [level for level in retention.resolutions if interval_ms % level.width == 0]
    kept_from = (fitting[-1] if fitting else retention.raw).kept_from(now_ms)
    if since_ms >= kept_from:
        return since_ms
    if since_ms == OPEN_SINCE:
        return kept_from
    possible = [level for level in retention.resolutions if level.kept_from(now_ms) <= since_ms]
    if not possible:
        raise OutsideRetention(
            "interval: the window begins before everything that is kept: ask a later one"
        )
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
    retention: RetentionPolicy,
    due: Collection[tuple[str, int]],
    now_ms: int,
    interval_ms: int | None = None,
    exact_from_ms: int | None = None,
) -> Plan:
    """Plan the reading of one chunk, whose *due* slots (level, start) must not be used, for [since_ms, until_ms).

    With *interval_ms* every slot lies within one interval of that width, aligned to the epoch. From *exact_from_ms* on every
    minute is cut: for a list of samples, which wants them one by one.
    """
    if exact_from_ms is not None and max(exact_from_ms, since_ms) < until_ms:
        exact_from_ms = max(exact_from_ms, since_ms)
        made = plan(since_ms, exact_from_ms, retention, due, now_ms)
        made.until_ms = until_ms
        made.cut += [
            each for each in _minutes(exact_from_ms, until_ms, due, now_ms) if each not in made.cut
        ]
        return made
    made = Plan(since_ms, until_ms)
    if since_ms >= until_ms:
        return made
    levels = retention.resolutions
    if interval_ms is not None:
        levels = tuple(level for level in levels if interval_ms % level.width == 0)
    if not levels:
        made.cut = _minutes(since_ms, until_ms, due, now_ms)
        return made

    def cover(at: int, begin: int, end: int) -> None:
        """Cover [begin, end) by slots of this level, and what they leave by finer ones."""
        level = levels[at]
        if at == 0:
            finest(begin, end)
            return
        slot = slot_of(begin, level.width)
        while slot < end:
            after = slot + level.width
            inside = max(begin, slot), min(end, after)
            is_due = (level.name, slot) in due
            if inside == (slot, after) and not is_due:
                made.slots.setdefault((level, slot_of(slot, level.partition)), []).append(slot)
            elif is_due or not levels[at - 1].is_expired(
                slot, now_ms
            ):  # what a due slot is made of stays until it was made
                cover(at - 1, *inside)
            elif (
                inside[0] == slot
            ):  # what is finer is gone: it belongs to the window that holds its start
                made.slots.setdefault((level, slot_of(slot, level.partition)), []).append(slot)
            slot = after

    def finest(begin: int, end: int) -> None:
        level = levels[0]
        first, last = -slot_of(-begin, level.width), slot_of(end, level.width)
        made.cut += sorted(
            {slot_of(edge, level.width) for edge in (begin, end) if edge % level.width}
        )
        for span in range(slot_of(first, level.partition), last, level.partition):
            inside = range(max(first, span), min(last, span + level.partition), level.width)
            made.slots.setdefault((level, span), []).extend(inside)

    cover(len(levels) - 1, since_ms, until_ms)
    return made


def _minutes(
    since_ms: int, until_ms: int, due: Collection[tuple[str, int]], now_ms: int
) -> list[int]:
    """The minutes that touch [since, until); of hours to come only those that are known to hold something."""
    return [
        minute
        for minute in range(slot_of(since_ms, MINUTE), until_ms, MINUTE)
        if minute <= now_ms or ("hour", slot_of(minute, HOUR)) in due
    ]
