"""The planner, held to a search minute by minute: what each minute of a window is answered by."""

import re
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redismetrics import OutsideRetention
from redismetrics.model.retention import Resolution, RetentionPolicy
from redismetrics.model.time import DAY, HOUR, MINUTE, OPEN_SINCE, OPEN_UNTIL, SECOND, slot_of
from redismetrics.model.windows import interval_ms
from redismetrics.queries.plan import (
    AHEAD,
    Plan,
    bounds,
    check_interval,
    plan,
)

NOW = 20_000 * DAY + 15 * HOUR + 42 * MINUTE + 7_777
FROM, DAYS = (
    19_998 * DAY,
    3,
)  # windows and slots of the plans lie in these days, of which the last is today
CALENDAR = RetentionPolicy.of(*(days * DAY / 1000 for days in (1, 3, 90, 1825)))
INTERVALS = (
    SECOND,
    7 * SECOND,
    30 * SECOND,
    90 * SECOND,
    MINUTE,
    5 * MINUTE,
    90 * MINUTE,
    HOUR,
    6 * HOUR,
    DAY,
    7 * DAY,
)

Slot = tuple[str, int]

# Short ones: so that some of what lies in these days is gone.
HOURS = st.sampled_from([1, 2, 3, 13, 24, 25, 37, 47, 48, 60, 24 * 40])
CALENDARS = st.tuples(HOURS, HOURS, HOURS, HOURS).map(
    lambda hours: RetentionPolicy.of(*(hour * 3600.0 for hour in sorted(hours)))
)
EDGES = st.integers(0, DAYS * 24).map(lambda hour: FROM + hour * HOUR) | st.integers(
    FROM, FROM + DAYS * DAY
)
EDGES |= st.builds(
    lambda edge, by: edge + by, EDGES, st.sampled_from([-1, 1, MINUTE, -MINUTE, 61 * SECOND])
)
WINDOWS = st.tuples(EDGES, EDGES).map(lambda edges: (min(edges), max(edges)))
DUE_DAYS = st.sets(st.integers(0, DAYS - 1).map(lambda day: ("day", FROM + day * DAY)))
DUE_HOURS = st.sets(
    st.integers(0, DAYS * 24 - 1).map(lambda hour: ("hour", FROM + hour * HOUR)), max_size=12
)
DUE = st.builds(
    frozenset[Slot].union, DUE_DAYS.map(frozenset[Slot]), DUE_HOURS.map(frozenset[Slot])
)


def levels_of(retention: RetentionPolicy, interval: int | None) -> list[Resolution]:
    """The coarsest first."""
    return [
        level
        for level in reversed(retention.resolutions)
        if interval is None or interval % level.width == 0
    ]


def answering(
    minute: int,
    since: int,
    until: int,
    retention: RetentionPolicy,
    due: Collection[Slot],
    interval: int | None = None,
    now: int = NOW,
) -> Slot | None:
    """What answers for one minute in a window: a slot, ("cut", minute), or None for what belongs to another window."""
    levels = levels_of(retention, interval)
    for level, finer in pairwise(levels):
        start = minute - minute % level.width
        is_due = (level.name, start) in due
        if since <= start and start + level.width <= until and not is_due:
            return level.name, start
        if finer.is_expired(start, now) and not is_due:
            return (level.name, start) if since <= start < until else None
    if levels and since <= minute and minute + MINUTE <= until:
        return "minute", minute
    if not levels and minute > now and ("hour", minute - minute % HOUR) not in due:
        return None  # to come, and nothing is known to be there
    return "cut", minute


def minutes(since: int, until: int) -> range:
    return range(since - since % MINUTE, until, MINUTE)


def covered(made: Plan) -> dict[int, Slot]:
    """Each minute that a plan covers, and by what; no minute twice."""
    found: dict[int, Slot] = {}
    slots = [
        (level.name, slot, level.width)
        for (level, _), inside in made.slots.items()
        for slot in inside
    ]
    for name, slot, width in [*slots, *(("cut", minute, MINUTE) for minute in made.cut)]:
        for minute in range(slot, slot + width, MINUTE):
            assert minute not in found, (
                f"{minute} is covered by {found[minute]} and by {name} {slot}"
            )
            found[minute] = name, slot
    return found


@settings(max_examples=100)
@given(WINDOWS, CALENDARS, DUE, st.none() | st.sampled_from(INTERVALS))
@example((FROM + 1, FROM + DAYS * DAY - 1), CALENDAR, frozenset(), None)
@example(
    (FROM, FROM + DAYS * DAY), CALENDAR, frozenset({("day", FROM), ("hour", FROM + HOUR)}), None
)
def test_every_minute_of_a_window_is_answered_once_and_by_what_a_search_finds(
    window: tuple[int, int], retention: RetentionPolicy, due: frozenset[Slot], interval: int | None
) -> None:
    since, until = window
    found = covered(plan(since, until, retention, due, NOW, interval))
    for minute in minutes(since, until) if since < until else ():
        assert found.pop(minute, None) == answering(
            minute, since, until, retention, due, interval
        ), minute
    # What is left belongs to slots that begin inside and reach beyond, since nothing finer is left of them.
    for minute, (name, slot) in found.items():
        assert minute >= until, "a slot that begins before the window"
        assert since <= slot < until
        assert name in ("hour", "day")


@settings(max_examples=100)
@given(WINDOWS, CALENDARS, DUE, st.none() | st.sampled_from(INTERVALS))
def test_what_is_due_is_never_used_nor_what_is_gone_unless_the_slot_above_waits_for_it(
    window: tuple[int, int], retention: RetentionPolicy, due: frozenset[Slot], interval: int | None
) -> None:
    levels = levels_of(retention, interval)
    above = dict(zip([level.name for level in levels[1:]], levels, strict=False))
    for (level, span), slots in plan(*window, retention, due, NOW, interval).slots.items():
        for slot in slots:
            assert level.name == "minute" or (level.name, slot) not in due
            assert slot - slot % level.partition == span
            coarser = above.get(level.name)
            if coarser is not None and level.is_expired(span, NOW):
                assert (coarser.name, slot - slot % coarser.width) in due


@settings(max_examples=100)
@given(WINDOWS, CALENDARS, DUE, st.sampled_from(INTERVALS))
def test_no_slot_crosses_an_interval(
    window: tuple[int, int], retention: RetentionPolicy, due: frozenset[Slot], interval: int
) -> None:
    made = plan(*window, retention, due, NOW, interval)
    for (level, _), slots in made.slots.items():
        assert all(slot // interval == (slot + level.width - 1) // interval for slot in slots)
    if interval % MINUTE:
        assert not made.slots  # then each minute is read by its exact samples


@settings(max_examples=100)
@given(
    st.tuples(EDGES, EDGES, EDGES).map(sorted),
    CALENDARS,
    DUE,
    st.none() | st.sampled_from(INTERVALS),
)
def test_two_windows_side_by_side_share_nothing_and_leave_nothing_out(
    edges: list[int], retention: RetentionPolicy, due: frozenset[Slot], interval: int | None
) -> None:
    since, between, until = edges
    left, right = (
        covered(plan(*part, retention, due, NOW, interval))
        for part in ((since, between), (between, until))
    )
    shared = left.keys() & right.keys()
    assert shared <= {between - between % MINUTE}
    assert all(found[minute][0] == "cut" for minute in shared for found in (left, right))
    whole = covered(plan(since, until, retention, due, NOW, interval))
    assert left.keys() | right.keys() == whole.keys()


@settings(max_examples=100)
@given(WINDOWS, CALENDARS, DUE)
def test_for_a_list_of_samples_each_minute_is_read_by_itself_from_where_they_are_held(
    window: tuple[int, int], retention: RetentionPolicy, due: frozenset[Slot]
) -> None:
    since, until = window
    exact_from = retention.raw.kept_from(NOW)
    made = plan(since, until, retention, due, NOW, exact_from_ms=exact_from)
    assert (made.since_ms, made.until_ms) == (since, until)
    found = covered(made)
    middle = min(max(exact_from, since), until)
    expected = covered(plan(since, middle, retention, due, NOW))
    for minute in minutes(middle, until) if middle < until else ():
        if minute <= NOW or ("hour", minute - minute % HOUR) in due:
            expected[minute] = "cut", minute
    assert found == expected


def test_a_day_is_one_slot_and_each_edge_takes_ever_finer_ones() -> None:
    since, until = FROM + 22 * HOUR + 58 * MINUTE + 30_000, FROM + 2 * DAY + HOUR + 2 * MINUTE
    made = plan(since, until, CALENDAR, frozenset(), NOW)
    assert {(level.name, span): sorted(slots) for (level, span), slots in made.slots.items()} == {
        ("minute", FROM + 22 * HOUR): [FROM + 22 * HOUR + 59 * MINUTE],
        ("hour", FROM): [FROM + 23 * HOUR],
        ("day", slot_of(FROM, 32 * DAY)): [FROM + DAY],
        ("hour", FROM + 2 * DAY): [FROM + 2 * DAY],
        ("minute", FROM + 2 * DAY + HOUR): [FROM + 2 * DAY + HOUR, FROM + 2 * DAY + HOUR + MINUTE],
    }
    assert made.cut == [FROM + 22 * HOUR + 58 * MINUTE]


@pytest.mark.parametrize(
    ("since", "until"), [(FROM, FROM), (FROM + HOUR, FROM), (FROM + 1, FROM + 1)]
)
def test_an_empty_window_needs_nothing(since: int, until: int) -> None:
    assert covered(plan(since, until, CALENDAR, frozenset(), NOW)) == {}


# -- bounds -------------------------------------------------------------------------------------------------------

ANY_EDGE = EDGES | st.sampled_from(
    [OPEN_SINCE, OPEN_UNTIL, NOW, NOW + 1, NOW + DAY, NOW - 2000 * DAY]
)
YEARS = st.sampled_from([1, 3, 40, 90, 365, 1825])
LONG_CALENDARS = st.tuples(YEARS, YEARS, YEARS, YEARS).map(
    lambda days: RetentionPolicy.of(*(day * 86_400.0 for day in sorted(days)))
)
INSTANTS = st.integers(0, NOW + 3000 * DAY) | st.integers(FROM, NOW + DAY)


@settings(max_examples=200)
@given(
    st.tuples(ANY_EDGE, ANY_EDGE),
    CALENDARS | LONG_CALENDARS,
    st.lists(INSTANTS, min_size=1),
    INSTANTS,
)
def test_no_instant_that_was_sealed_and_is_kept_lies_outside_the_bounds(
    window: tuple[int, int], retention: RetentionPolicy, sealed: list[int], instant: int
) -> None:
    """Also of samples from times to come, as they are after the server's clock was ahead."""
    sealed = [*sealed, instant]
    hours = min(sealed) // HOUR * HOUR, max(sealed) // HOUR * HOUR
    since, until = bounds(*window, retention, NOW, hours)
    assert window[0] <= since <= until
    assert until <= max(window[1], since)
    coarsest = retention.coarsest
    is_kept = not coarsest.is_expired(instant - instant % coarsest.partition, NOW)
    if is_kept and window[0] <= instant < window[1]:
        assert since <= instant < until


def test_an_open_window_is_bounded_by_what_is_kept_and_by_the_days_that_were_sealed() -> None:
    coarsest = CALENDAR.coarsest
    since, until = bounds(OPEN_SINCE, OPEN_UNTIL, CALENDAR, NOW, (0, NOW - DAY))
    assert not coarsest.is_expired(since - since % coarsest.partition, NOW)
    assert coarsest.is_expired((since - 1) - (since - 1) % coarsest.partition, NOW)
    assert until == NOW // DAY * DAY
    assert bounds(OPEN_SINCE, OPEN_UNTIL, CALENDAR, NOW, (FROM + HOUR, FROM + 23 * HOUR)) == (
        FROM,
        FROM + DAY,
    )
    assert bounds(OPEN_SINCE, OPEN_UNTIL, CALENDAR, NOW, None) == (
        since,
        (NOW + AHEAD) // DAY * DAY,
    )
    assert (
        bounds(FROM + 5, FROM + 7, CALENDAR, NOW, (NOW // HOUR * HOUR, NOW // HOUR * HOUR))[0]
        == NOW // DAY * DAY
    )


# -- intervals ----------------------------------------------------------------------------------------------------


def kept(level: Resolution, instant: int) -> bool:
    return not level.is_expired(instant - instant % level.partition, NOW)


def fits(retention: RetentionPolicy, interval: int, since: int) -> bool:
    """Is all of a window that begins at *since* kept as finely as *interval* needs it?"""
    fitting = levels_of(retention, interval)
    return kept(fitting[0] if fitting else retention.raw, since)


@settings(max_examples=200)
@given(
    CALENDARS | LONG_CALENDARS,
    st.sampled_from(INTERVALS),
    EDGES | st.integers(NOW - 2000 * DAY, NOW),
)
def test_an_interval_is_refused_where_it_is_finer_than_what_is_kept_and_the_finest_possible_is_told(
    retention: RetentionPolicy, interval: int, since: int
) -> None:
    if fits(retention, interval, since):
        assert check_interval(interval, since, retention, NOW) == since
        return
    with pytest.raises(OutsideRetention) as caught:
        check_interval(interval, since, retention, NOW)
    told = re.search(r"the finest is (\w+),.* got (\w+)", str(caught.value))
    possible = [level.width for level in retention.resolutions if kept(level, since)]
    if told is None:
        assert not possible
        return
    assert interval_ms(told[2]) == interval
    finest = interval_ms(told[1])
    assert finest == min(possible)
    assert check_interval(finest, since, retention, NOW) == since
    assert check_interval(7 * finest, since, retention, NOW) == since
    assert not any(
        fits(retention, finer, since)
        for finer in INTERVALS
        if finer < finest and finest % finer == 0
    )


@settings(max_examples=100)
@given(CALENDARS | LONG_CALENDARS, st.sampled_from(INTERVALS))
def test_an_open_window_begins_with_what_is_kept_as_finely(
    retention: RetentionPolicy, interval: int
) -> None:
    since = check_interval(interval, OPEN_SINCE, retention, NOW)
    assert fits(retention, interval, since)
    assert not fits(retention, interval, since - 1)


def test_the_message_names_the_finest_interval_in_its_largest_unit() -> None:
    short = replace(CALENDAR, raw=replace(CALENDAR.raw, retention=HOUR))
    for interval, since, finest in [
        (timedelta(seconds=10), NOW - DAY, "1m"),
        ("minute", NOW - 4 * DAY, "1h"),
        ("90m", NOW - 4 * DAY, "1h"),
        ("hour", NOW - 100 * DAY, "1d"),
    ]:
        with pytest.raises(
            OutsideRetention, match=rf"the finest is {finest}, or whole multiples of it"
        ):
            check_interval(interval_ms(interval), since, short, NOW)
    with pytest.raises(OutsideRetention, match="everything that is kept"):
        check_interval(DAY, NOW - 3000 * DAY, short, NOW)
