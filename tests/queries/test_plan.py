"""Plans, compared with a search minute by minute for the slot that covers it."""

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
    MAX_AHEAD,
    Plan,
    check_interval,
    make_plan,
    sealed_bounds,
)

NOW = 20_000 * DAY + 15 * HOUR + 42 * MINUTE + 7_777
# Windows and slots lie in these days; the last is today.
FROM, DAYS = 19_998 * DAY, 3
POLICY = RetentionPolicy.of(*(days * DAY / 1000 for days in (1, 3, 90, 1825)))
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

# Short retentions, so that some of these days are expired.
HOURS = st.sampled_from([1, 2, 3, 13, 24, 25, 37, 47, 48, 60, 24 * 40])
POLICIES = st.tuples(HOURS, HOURS, HOURS, HOURS).map(
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


def resolutions_for(retention: RetentionPolicy, interval: int | None) -> list[Resolution]:
    """Return the resolutions whose slots fit into an interval, coarsest first."""
    return [
        level
        for level in reversed(retention.resolutions)
        if interval is None or interval % level.width == 0
    ]


def covering(
    minute: int,
    since: int,
    until: int,
    retention: RetentionPolicy,
    due: Collection[Slot],
    interval: int | None = None,
    now: int = NOW,
) -> Slot | None:
    """Return what covers one minute of a window: a slot or ("partial", minute).

    None if the minute belongs to another window.
    """
    levels = resolutions_for(retention, interval)
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
        # In the future, and its hour holds no data.
        return None
    return "partial", minute


def minutes(since: int, until: int) -> range:
    return range(since - since % MINUTE, until, MINUTE)


def covered(made: Plan) -> dict[int, Slot]:
    """Return what covers each minute of a plan; assert that no minute is covered twice."""
    found: dict[int, Slot] = {}
    slots = [
        (level.name, slot, level.width)
        for (level, _), inside in made.slots.items()
        for slot in inside
    ]
    for name, slot, width in [*slots, *(("partial", minute, MINUTE) for minute in made.partial)]:
        for minute in range(slot, slot + width, MINUTE):
            assert minute not in found, (
                f"{minute} is covered by {found[minute]} and by {name} {slot}"
            )
            found[minute] = name, slot
    return found


@settings(max_examples=100)
@given(WINDOWS, POLICIES, DUE, st.none() | st.sampled_from(INTERVALS))
@example((FROM + 1, FROM + DAYS * DAY - 1), POLICY, frozenset(), None)
@example((FROM, FROM + DAYS * DAY), POLICY, frozenset({("day", FROM), ("hour", FROM + HOUR)}), None)
def test_every_minute_of_a_window_is_covered_once_as_a_search_finds(
    window: tuple[int, int], retention: RetentionPolicy, due: frozenset[Slot], interval: int | None
) -> None:
    since, until = window
    found = covered(make_plan(since, until, retention, due, NOW, interval))
    for minute in minutes(since, until) if since < until else ():
        assert found.pop(minute, None) == covering(
            minute, since, until, retention, due, interval
        ), minute
    # The rest belongs to slots that begin inside and end outside, with nothing finer stored.
    for minute, (name, slot) in found.items():
        assert minute >= until, "a slot that begins before the window"
        assert since <= slot < until
        assert name in ("hour", "day")


@settings(max_examples=100)
@given(WINDOWS, POLICIES, DUE, st.none() | st.sampled_from(INTERVALS))
def test_due_and_expired_slots_are_not_used_unless_the_slot_above_is_due(
    window: tuple[int, int], retention: RetentionPolicy, due: frozenset[Slot], interval: int | None
) -> None:
    levels = resolutions_for(retention, interval)
    above = dict(zip([level.name for level in levels[1:]], levels, strict=False))
    for (level, span), slots in make_plan(*window, retention, due, NOW, interval).slots.items():
        for slot in slots:
            assert level.name == "minute" or (level.name, slot) not in due
            assert slot - slot % level.partition == span
            coarser = above.get(level.name)
            if coarser is not None and level.is_expired(span, NOW):
                assert (coarser.name, slot - slot % coarser.width) in due


@settings(max_examples=100)
@given(WINDOWS, POLICIES, DUE, st.sampled_from(INTERVALS))
def test_no_slot_crosses_an_interval(
    window: tuple[int, int], retention: RetentionPolicy, due: frozenset[Slot], interval: int
) -> None:
    made = make_plan(*window, retention, due, NOW, interval)
    for (level, _), slots in made.slots.items():
        assert all(slot // interval == (slot + level.width - 1) // interval for slot in slots)
    if interval % MINUTE:
        # Then all minutes are read as exact samples.
        assert not made.slots


@settings(max_examples=100)
@given(
    st.tuples(EDGES, EDGES, EDGES).map(sorted),
    POLICIES,
    DUE,
    st.none() | st.sampled_from(INTERVALS),
)
def test_adjacent_windows_share_nothing_and_leave_nothing_out(
    edges: list[int], retention: RetentionPolicy, due: frozenset[Slot], interval: int | None
) -> None:
    since, between, until = edges
    left, right = (
        covered(make_plan(*part, retention, due, NOW, interval))
        for part in ((since, between), (between, until))
    )
    shared = left.keys() & right.keys()
    assert shared <= {between - between % MINUTE}
    assert all(found[minute][0] == "partial" for minute in shared for found in (left, right))
    whole = covered(make_plan(since, until, retention, due, NOW, interval))
    assert left.keys() | right.keys() == whole.keys()


@settings(max_examples=100)
@given(WINDOWS, POLICIES, DUE)
def test_exact_samples_are_planned_minute_by_minute(
    window: tuple[int, int], retention: RetentionPolicy, due: frozenset[Slot]
) -> None:
    since, until = window
    exact_from = retention.raw.kept_from(NOW)
    made = make_plan(since, until, retention, due, NOW, exact_from_ms=exact_from)
    assert (made.since_ms, made.until_ms) == (since, until)
    found = covered(made)
    middle = min(max(exact_from, since), until)
    expected = covered(make_plan(since, middle, retention, due, NOW))
    for minute in minutes(middle, until) if middle < until else ():
        if minute <= NOW or ("hour", minute - minute % HOUR) in due:
            expected[minute] = "partial", minute
    assert found == expected


def test_edges_are_covered_by_ever_finer_slots() -> None:
    since, until = FROM + 22 * HOUR + 58 * MINUTE + 30_000, FROM + 2 * DAY + HOUR + 2 * MINUTE
    made = make_plan(since, until, POLICY, frozenset(), NOW)
    assert {(level.name, span): sorted(slots) for (level, span), slots in made.slots.items()} == {
        ("minute", FROM + 22 * HOUR): [FROM + 22 * HOUR + 59 * MINUTE],
        ("hour", FROM): [FROM + 23 * HOUR],
        ("day", slot_of(FROM, 32 * DAY)): [FROM + DAY],
        ("hour", FROM + 2 * DAY): [FROM + 2 * DAY],
        ("minute", FROM + 2 * DAY + HOUR): [FROM + 2 * DAY + HOUR, FROM + 2 * DAY + HOUR + MINUTE],
    }
    assert made.partial == [FROM + 22 * HOUR + 58 * MINUTE]


@pytest.mark.parametrize(
    ("since", "until"), [(FROM, FROM), (FROM + HOUR, FROM), (FROM + 1, FROM + 1)]
)
def test_empty_window_has_an_empty_plan(since: int, until: int) -> None:
    assert covered(make_plan(since, until, POLICY, frozenset(), NOW)) == {}


# -- bounds -----------------------------------------------------------

ANY_EDGE = EDGES | st.sampled_from(
    [OPEN_SINCE, OPEN_UNTIL, NOW, NOW + 1, NOW + DAY, NOW - 2000 * DAY]
)
YEARS = st.sampled_from([1, 3, 40, 90, 365, 1825])
LONG_POLICIES = st.tuples(YEARS, YEARS, YEARS, YEARS).map(
    lambda days: RetentionPolicy.of(*(day * 86_400.0 for day in sorted(days)))
)
INSTANTS = st.integers(0, NOW + 3000 * DAY) | st.integers(FROM, NOW + DAY)


@settings(max_examples=200)
@given(
    st.tuples(ANY_EDGE, ANY_EDGE),
    POLICIES | LONG_POLICIES,
    st.lists(INSTANTS, min_size=1),
    INSTANTS,
)
def test_sealed_instants_within_retention_are_inside_the_bounds(
    window: tuple[int, int], retention: RetentionPolicy, sealed: list[int], instant: int
) -> None:
    """Also samples from the future, which exist after the server's clock was ahead."""
    sealed = [*sealed, instant]
    hours = min(sealed) // HOUR * HOUR, max(sealed) // HOUR * HOUR
    since, until = sealed_bounds(*window, retention, NOW, hours)
    assert window[0] <= since <= until
    assert until <= max(window[1], since)
    coarsest = retention.coarsest
    is_kept = not coarsest.is_expired(instant - instant % coarsest.partition, NOW)
    if is_kept and window[0] <= instant < window[1]:
        assert since <= instant < until


def test_open_window_is_limited_to_retention_and_sealed_days() -> None:
    coarsest = POLICY.coarsest
    since, until = sealed_bounds(OPEN_SINCE, OPEN_UNTIL, POLICY, NOW, (0, NOW - DAY))
    assert not coarsest.is_expired(since - since % coarsest.partition, NOW)
    assert coarsest.is_expired((since - 1) - (since - 1) % coarsest.partition, NOW)
    assert until == NOW // DAY * DAY
    assert sealed_bounds(OPEN_SINCE, OPEN_UNTIL, POLICY, NOW, (FROM + HOUR, FROM + 23 * HOUR)) == (
        FROM,
        FROM + DAY,
    )
    assert sealed_bounds(OPEN_SINCE, OPEN_UNTIL, POLICY, NOW, None) == (
        since,
        (NOW + MAX_AHEAD) // DAY * DAY,
    )
    assert (
        sealed_bounds(FROM + 5, FROM + 7, POLICY, NOW, (NOW // HOUR * HOUR, NOW // HOUR * HOUR))[0]
        == NOW // DAY * DAY
    )


# -- intervals -----------------------------------------------------------


def kept(level: Resolution, instant: int) -> bool:
    return not level.is_expired(instant - instant % level.partition, NOW)


def fits(retention: RetentionPolicy, interval: int, since: int) -> bool:
    """Return whether a window from *since* on is stored as finely as *interval* needs."""
    fitting = resolutions_for(retention, interval)
    return kept(fitting[0] if fitting else retention.raw, since)


@settings(max_examples=200)
@given(
    POLICIES | LONG_POLICIES,
    st.sampled_from(INTERVALS),
    EDGES | st.integers(NOW - 2000 * DAY, NOW),
)
def test_interval_finer_than_the_stored_data_is_rejected_with_the_finest_possible(
    retention: RetentionPolicy, interval: int, since: int
) -> None:
    if fits(retention, interval, since):
        assert check_interval(interval, since, retention, NOW) == since
        return
    with pytest.raises(OutsideRetention) as caught:
        check_interval(interval, since, retention, NOW)
    named = re.search(r"a multiple of (\w+) .* got (\w+)$", str(caught.value))
    possible = [level.width for level in retention.resolutions if kept(level, since)]
    if named is None:
        assert not possible
        return
    assert interval_ms(named[2]) == interval
    finest = interval_ms(named[1])
    assert finest == min(possible)
    assert check_interval(finest, since, retention, NOW) == since
    assert check_interval(7 * finest, since, retention, NOW) == since
    assert not any(
        fits(retention, finer, since)
        for finer in INTERVALS
        if finer < finest and finest % finer == 0
    )


@settings(max_examples=100)
@given(POLICIES | LONG_POLICIES, st.sampled_from(INTERVALS))
def test_open_window_begins_where_the_interval_is_stored(
    retention: RetentionPolicy, interval: int
) -> None:
    since = check_interval(interval, OPEN_SINCE, retention, NOW)
    assert fits(retention, interval, since)
    assert not fits(retention, interval, since - 1)


def test_message_has_the_finest_interval_in_its_largest_unit() -> None:
    short = replace(POLICY, raw=replace(POLICY.raw, retention=HOUR))
    for interval, since, finest in [
        (timedelta(seconds=10), NOW - DAY, "1m"),
        ("minute", NOW - 4 * DAY, "1h"),
        ("90m", NOW - 4 * DAY, "1h"),
        ("hour", NOW - 100 * DAY, "1d"),
    ]:
        with pytest.raises(
            OutsideRetention, match=rf"interval must be a multiple of {finest} for a window"
        ):
            check_interval(interval_ms(interval), since, short, NOW)
    with pytest.raises(OutsideRetention, match="within the retention of the coarsest data"):
        check_interval(DAY, NOW - 3000 * DAY, short, NOW)


def test_slots_before_the_single_samples_fit_into_the_interval() -> None:
    since, until = NOW - 3 * DAY, NOW
    exact_from = POLICY.raw.kept_from(NOW)
    made = make_plan(since, until, POLICY, frozenset(), NOW, 5 * MINUTE, exact_from)
    assert {resolution.width for resolution, _ in made.slots} == {MINUTE}
    assert min(minute for minute in made.partial if minute >= exact_from) == exact_from
