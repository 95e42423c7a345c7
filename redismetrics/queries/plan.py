"""Plan which stored slots cover a window: each instant once, by the coarsest that fit. Pure."""

from collections.abc import Collection
from dataclasses import dataclass, field

from redismetrics.errors import OutsideRetention
from redismetrics.model.retention import Resolution, RetentionPolicy
from redismetrics.model.time import DAY, HOUR, MINUTE, OPEN_SINCE, SECOND, slot_of

# No sample is further in the future (ms): its limit is a day, and clocks may differ.
MAX_AHEAD = 2 * DAY

# Resolution and start (ms) of the slots that are out of date.
Due = frozenset[tuple[str, int]]


@dataclass(slots=True)
class Plan:
    """The parts of one chunk that cover [since_ms, until_ms).

    Attributes:
        since_ms: Start of the window.
        until_ms: End of the window, exclusive.
        slots: Whole slots, by resolution and start of the partition.
        partial: Minutes whose exact samples are needed, for example because an edge of the window
            cuts them. If some samples are no longer stored, the minute's summary counts instead if
            its start is in the window.
    """

    since_ms: int
    until_ms: int
    slots: dict[tuple[Resolution, int], list[int]] = field(default_factory=dict)
    partial: list[int] = field(default_factory=list)


def sealed_bounds(
    since_ms: int,
    until_ms: int,
    retention: RetentionPolicy,
    now_ms: int,
    sealed_ms: tuple[int, int] | None,
) -> tuple[int, int]:
    """Return the part of a window that can hold sealed data within its retention.

    *sealed_ms* is the oldest and newest hour ever sealed into; None if unknown.
    """
    coarsest = retention.coarsest
    first, last = sealed_ms or (0, now_ms + MAX_AHEAD - coarsest.width)
    since = max(since_ms, coarsest.kept_from(now_ms), slot_of(first, coarsest.width))
    return since, max(min(until_ms, slot_of(last, coarsest.width) + coarsest.width), since)


def check_interval(interval_ms: int, since_ms: int, retention: RetentionPolicy, now_ms: int) -> int:
    """Return where a time series with this interval can begin.

    This is *since_ms*, or, for an open window, the start of the data stored at this interval.

    Raises:
        OutsideRetention: If the window begins before that; the message gives the finest possible
            interval.
    """
    fitting = fitting_resolutions(interval_ms, retention)
    kept_from = (fitting[-1] if fitting else retention.raw).kept_from(now_ms)
    if since_ms >= kept_from:
        return since_ms
    if since_ms == OPEN_SINCE:
        return kept_from
    possible = [each for each in retention.resolutions if each.kept_from(now_ms) <= since_ms]
    if not possible:
        raise OutsideRetention(
            "window must begin within the retention of the coarsest data, got an earlier start; "
            "use a later start, or an open window"
        )
    raise OutsideRetention(
        f"interval must be a multiple of {shown_duration(possible[0].width)} for a window that "
        f"begins this early, because finer data is no longer stored, "
        f"got {shown_duration(interval_ms)}"
    )


def fitting_resolutions(
    interval_ms: int | None, retention: RetentionPolicy
) -> tuple[Resolution, ...]:
    """Return the resolutions whose slots lie within intervals of this width, or all."""
    if interval_ms is None:
        return retention.resolutions
    return tuple(each for each in retention.resolutions if interval_ms % each.width == 0)


def shown_duration(width_ms: int) -> str:
    """Return a duration in its largest whole unit, such as ``5m``."""
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE)):
        if width_ms % size == 0:
            return f"{width_ms // size}{unit}"
    return f"{width_ms // SECOND}s"


def make_plan(
    since_ms: int,
    until_ms: int,
    retention: RetentionPolicy,
    due: Collection[tuple[str, int]],
    now_ms: int,
    interval_ms: int | None = None,
    exact_from_ms: int | None = None,
) -> Plan:
    """Plan how to read one chunk for the window [since_ms, until_ms).

    Args:
        since_ms: Start of the window.
        until_ms: End of the window, exclusive.
        retention: The retention policy.
        due: Resolution and start of slots that are out of date and must not be used.
        now_ms: The server's time.
        interval_ms: If given, every slot must lie within one interval of this width, aligned to the
            epoch.
        exact_from_ms: If given, all minutes from here on are partial, to list individual samples.
    """
    if exact_from_ms is not None and max(exact_from_ms, since_ms) < until_ms:
        exact_from_ms = max(exact_from_ms, since_ms)
        plan = make_plan(since_ms, exact_from_ms, retention, due, now_ms, interval_ms)
        plan.until_ms = until_ms
        minutes = _minutes(exact_from_ms, until_ms, due, now_ms)
        plan.partial += [minute for minute in minutes if minute not in plan.partial]
        return plan
    plan = Plan(since_ms, until_ms)
    if since_ms >= until_ms:
        return plan
    resolutions = fitting_resolutions(interval_ms, retention)
    if resolutions:
        _Planner(plan, resolutions, due, now_ms).cover(len(resolutions) - 1, since_ms, until_ms)
    else:
        plan.partial = _minutes(since_ms, until_ms, due, now_ms)
    return plan


@dataclass(slots=True)
class _Planner:
    """Adds slots to a plan: coarse ones where they fit, finer ones at the edges."""

    plan: Plan
    resolutions: tuple[Resolution, ...]
    due: Collection[tuple[str, int]]
    now_ms: int

    def cover(self, at: int, begin: int, end: int) -> None:
        """Cover [begin, end) with slots of the resolution at *at*, and the rest with finer ones."""
        if at == 0:
            self._cover_finest(begin, end)
            return
        resolution, finer = self.resolutions[at], self.resolutions[at - 1]
        slot = slot_of(begin, resolution.width)
        while slot < end:
            after = slot + resolution.width
            first, last = max(begin, slot), min(end, after)
            is_due = (resolution.name, slot) in self.due
            if (first, last) == (slot, after) and not is_due:
                self._add(resolution, slot)
            elif is_due or not finer.is_expired(slot, self.now_ms):
                # The sources of a due slot are kept until it is built.
                self.cover(at - 1, first, last)
            elif first == slot:
                # Nothing finer is stored: the slot belongs to the window that contains its start.
                self._add(resolution, slot)
            slot = after

    def _cover_finest(self, begin: int, end: int) -> None:
        resolution = self.resolutions[0]
        width, length = resolution.width, resolution.partition
        first, last = -slot_of(-begin, width), slot_of(end, width)
        self.plan.partial += sorted({slot_of(edge, width) for edge in (begin, end) if edge % width})
        for partition in range(slot_of(first, length), last, length):
            slots = range(max(first, partition), min(last, partition + length), width)
            self.plan.slots.setdefault((resolution, partition), []).extend(slots)

    def _add(self, resolution: Resolution, slot: int) -> None:
        partition = slot_of(slot, resolution.partition)
        self.plan.slots.setdefault((resolution, partition), []).append(slot)


def _minutes(
    since_ms: int, until_ms: int, due: Collection[tuple[str, int]], now_ms: int
) -> list[int]:
    """Return the minutes that overlap [since, until); future ones only if their hour has data."""
    return [
        minute
        for minute in range(slot_of(since_ms, MINUTE), until_ms, MINUTE)
        if minute <= now_ms or ("hour", slot_of(minute, HOUR)) in due
    ]
