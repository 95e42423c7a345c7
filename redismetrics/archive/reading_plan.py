"""Plan which slots of an archive a question reads, each instant once, without I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from redismetrics.errors import OutsideRetention
from redismetrics.model.time import DAY, HOUR, MINUTE, OPEN_SINCE, slot_of
from redismetrics.queries.older import OlderQuestion, Share
from redismetrics.queries.plan import shown_duration

# The levels of rollups, by the width of their slots in ms, coarsest first.
NAMES = {DAY: "day", HOUR: "hour", MINUTE: "minute"}
WIDTHS = {name: width for width, name in NAMES.items()}

# The oldest slot, in ms, of each level that an archive has of a metric.
Firsts = Mapping[str, int]

# The assumption about a metric that was not asked about before: the archive has all levels.
ALL_LEVELS: Firsts = dict.fromkeys(WIDTHS, 0)


@dataclass(slots=True)
class ReadingPlan:
    """What to read: ranges of slots [begin, end) by level, in ms. Redis answers from *until_ms*."""

    until_ms: int
    ranges: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def add(self, width: int, begin: int, end: int) -> None:
        """Add the slots of a level in [begin, end)."""
        if begin >= end:
            return
        ranges = self.ranges.setdefault(NAMES[width], [])
        if ranges and ranges[-1][1] == begin:
            ranges[-1] = ranges[-1][0], end
        else:
            ranges.append((begin, end))

    def finds_as_much_as(self, other: "ReadingPlan", firsts: Firsts) -> bool:
        """Return whether both plans find the same rows in an archive with these *firsts*."""
        return self.until_ms == other.until_ms and self._held(firsts) == other._held(firsts)

    def _held(self, firsts: Firsts) -> dict[str, list[tuple[int, int]]]:
        return {
            name: held
            for name, ranges in self.ranges.items()
            if name in firsts
            if (held := [(max(b, firsts[name]), e) for b, e in ranges if e > firsts[name]])
        }


def plan(question: OlderQuestion, firsts: Firsts, *, is_strict: bool = False) -> ReadingPlan:
    """Plan the reading of an archive that has slots from *firsts* on.

    Raises:
        OutsideRetention: If *is_strict*, and there are only wider slots than the question allows.
    """
    wanted = question.wanted
    for share in wanted.shares:
        if _has_all(question, share, firsts):
            break
    else:
        share = wanted.shares[-1]
        if is_strict and question.since_ms != OPEN_SINCE:
            _raise_too_fine(question, share, firsts)
    found = ReadingPlan(max(share.until_ms, question.since_ms))
    begin, end = question.since_ms, min(share.until_ms, question.until_ms)
    if begin >= end:
        return found
    planner = _ReadingPlanner(question, firsts, found)
    if wanted.cuts is None:
        planner.cover(share.widths, begin, end)
    elif NAMES[share.widths[-1]] in firsts:
        planner.cover_uncut(share.widths, begin, end)
    elif firsts:
        # Coarser than the question asks for, but all that there is.
        width = WIDTHS[min(firsts, key=lambda name: firsts[name])]
        found.add(width, slot_of(begin, width), end)
    return found


def _has_all(question: OlderQuestion, share: Share, firsts: Firsts) -> bool:
    """Return whether the archive has slots of this share from the beginning of the metric on.

    Days are compared, because the first hour of a metric begins later than its first day.
    """
    known = [*firsts.values(), *(() if question.oldest_ms is None else [question.oldest_ms])]
    if not known:
        return True
    usable = share.widths if question.wanted.cuts is None else share.widths[-1:]
    held = [firsts[NAMES[width]] for width in usable if NAMES[width] in firsts]
    begin = slot_of(max(question.since_ms, min(known)), DAY)
    return begin >= share.until_ms or (bool(held) and slot_of(min(held), DAY) <= begin)


def _raise_too_fine(question: OlderQuestion, share: Share, firsts: Firsts) -> None:
    possible = [
        width
        for width, name in reversed(NAMES.items())
        if width not in share.widths and firsts.get(name, question.until_ms) <= question.since_ms
    ]
    raise OutsideRetention(
        "window must begin within what Redis or the archive holds at this interval, got an "
        "earlier start; "
        + (
            f"use an interval that is a multiple of {shown_duration(possible[0])}, or a later start"
            if possible
            else "use a later start, or an open window"
        )
    )


@dataclass(slots=True)
class _ReadingPlanner:
    question: OlderQuestion
    firsts: Firsts
    plan: ReadingPlan

    def cover(self, widths: Sequence[int], begin: int, end: int) -> None:
        """Cover [begin, end) by the coarsest slots, and what they leave by finer ones.

        As in Redis: a slot of which no finer ones are held belongs to the window that contains its
        start.
        """
        if begin >= end or not widths:
            return
        width, *finer = widths
        first = self.firsts.get(NAMES[width])
        if first is None:
            self.cover(finer, begin, end)
            return
        low, high = max(-slot_of(-begin, width), first), slot_of(end, width)
        if low > high:
            self.cover(finer, begin, end)
            return
        self.cover(finer, begin, low)
        self.plan.add(width, low, high)
        if high < end:
            starts = [self.firsts[NAMES[each]] for each in finer if NAMES[each] in self.firsts]
            if any(start < high + width for start in starts):
                self.cover(finer, high, end)
            else:
                self.plan.add(width, high, high + width)

    def cover_uncut(self, widths: Sequence[int], begin: int, end: int) -> None:
        """Cover [begin, end) by the coarsest slots that are not cut, others by finer ones.

        The first slot may begin before *begin*.
        """
        width, *finer = widths
        at = slot_of(begin, width)
        if not finer:
            self.plan.add(width, at, end)
            return
        if self.firsts.get(NAMES[width], end) > slot_of(self.firsts[NAMES[widths[-1]]], width):
            self.cover_uncut(finer, begin, end)
            return
        cuts = self.question.wanted.cuts
        assert cuts is not None, "BUG: no cuts"
        # Redis may take over in the middle of a slot.
        high = max(slot_of(end, width), at)
        for cut in cuts(width, at, high):
            self.plan.add(width, at, cut)
            self.cover_uncut(finer, max(cut, begin), cut + width)
            at = cut + width
        self.plan.add(width, at, high)
        if max(high, begin) < end:
            self.cover_uncut(finer, max(high, begin), end)
