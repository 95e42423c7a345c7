"""Which slots of an archive a question reads: each instant once, whatever the archive has."""

import random
from itertools import pairwise

import pytest

from redismetrics import OutsideRetention
from redismetrics.archive.reading_plan import ALL_LEVELS, NAMES, WIDTHS, plan
from redismetrics.model.time import DAY, HOUR, MINUTE, OPEN_SINCE
from redismetrics.queries.older import Cuts, OlderQuestion, Share, Wanted

BEGIN = 20_000 * DAY
ALL = (DAY, HOUR, MINUTE)


def question(
    since: int,
    until: int,
    *shares: Share,
    strict: bool = False,
    cuts: Cuts | None = None,
    oldest: int | None = None,
) -> OlderQuestion:
    wanted = Wanted(shares, strict, {}, cuts, with_points=False)
    return OlderQuestion("app", "jobs", "counter", {}, oldest, since, until, wanted)


def slots(found: dict[str, list[tuple[int, int]]], firsts: dict[str, int]) -> list[tuple[int, int]]:
    """Return begin and end of each slot that is read and that the archive has, in order."""
    return sorted(
        (slot, slot + WIDTHS[name])
        for name, ranges in found.items()
        for begin, end in ranges
        for slot in range(-(-begin // WIDTHS[name]) * WIDTHS[name], end, WIDTHS[name])
        if slot >= firsts.get(name, end)
    )


def test_a_window_is_covered_by_the_coarsest_slots_and_its_edges_by_finer_ones() -> None:
    since, until = BEGIN + 90 * MINUTE, BEGIN + 3 * DAY + 2 * HOUR
    found = plan(question(since, until, Share(ALL, BEGIN + 9 * DAY)), ALL_LEVELS)
    assert found.until_ms == BEGIN + 9 * DAY
    assert found.ranges == {
        "minute": [(since, BEGIN + 2 * HOUR)],
        "hour": [(BEGIN + 2 * HOUR, BEGIN + DAY), (BEGIN + 3 * DAY, until)],
        "day": [(BEGIN + DAY, BEGIN + 3 * DAY)],
    }


def test_a_slot_of_which_nothing_finer_is_held_belongs_to_the_window_of_its_start() -> None:
    since, until = BEGIN + 90 * MINUTE, BEGIN + 3 * DAY + 2 * HOUR
    firsts = {"day": BEGIN - 9 * DAY}
    found = plan(question(since, until, Share(ALL, BEGIN + 9 * DAY)), firsts)
    assert found.ranges == {"day": [(BEGIN + DAY, BEGIN + 4 * DAY)]}


@pytest.mark.parametrize("seed", range(200))
def test_each_instant_that_any_level_has_is_read_once(seed: int) -> None:
    chance = random.Random(seed)
    end = BEGIN + 12 * DAY
    # Days begin with the day of the first sample; finer levels may have been deleted since.
    first = BEGIN + chance.randrange(6 * 24) * HOUR
    firsts = {"day": first // DAY * DAY, "hour": first}
    if chance.random() < 0.3:
        firsts["hour"] += chance.randrange(4) * DAY
    if chance.random() < 0.5:
        firsts["minute"] = firsts["hour"] + chance.randrange(3) * DAY
    if chance.random() < 0.2:
        del firsts["day"]
    since = BEGIN - 3 * DAY + chance.randrange(10 * 24) * HOUR
    until = chance.choice([end + DAY, since + chance.randrange(1, 4 * 24) * HOUR])
    asked = question(since, until, Share(ALL, end))
    found = plan(asked, firsts)
    read = slots(found.ranges, firsts)
    for (_, after), (begin, _) in pairwise(read):
        assert after == begin
    if read:
        last = min(until, end)
        assert read[-1][0] < last <= max(read[-1][1], last)
        # Where hours are held, the edges are exact to the hour.
        if firsts["hour"] < last // DAY * DAY:
            assert read[-1][1] == last
        if firsts["hour"] <= since:
            assert read[0][0] == since
    # What was planned for all levels finds the same if the archive has them from the first day on.
    assumed = plan(asked, ALL_LEVELS)
    if assumed.finds_as_much_as(found, firsts):
        assert slots(assumed.ranges, firsts) == read


def test_slots_that_are_cut_are_read_from_the_next_finer_level() -> None:
    cut = BEGIN + 3 * DAY

    def cuts(width: int, begin: int, end: int) -> list[int]:
        return [cut] if width == DAY and begin <= cut < end else []

    until = BEGIN + 6 * DAY + 5 * HOUR
    shares = Share((DAY, HOUR), until), Share((DAY,), BEGIN + 2 * DAY)
    asked = question(BEGIN + HOUR, BEGIN + 90 * DAY, *shares, cuts=cuts)
    found = plan(asked, {"day": BEGIN, "hour": BEGIN})
    assert found.until_ms == until
    # Redis goes on in the middle of a day.
    last = BEGIN + 6 * DAY
    assert found.ranges == {
        "day": [(BEGIN, cut), (cut + DAY, last)],
        "hour": [(cut, cut + DAY), (last, until)],
    }
    # Without hours, Redis answers as far as it can.
    found = plan(asked, {"day": BEGIN})
    assert (found.until_ms, found.ranges) == (BEGIN + 2 * DAY, {"day": [(BEGIN, BEGIN + 2 * DAY)]})


def test_an_interval_must_be_held_from_where_the_metric_begins() -> None:
    share, since = Share((HOUR, MINUTE), BEGIN + 50 * DAY), BEGIN + 10 * DAY
    asked = question(since, BEGIN + 90 * DAY, share, strict=True, oldest=BEGIN)
    with pytest.raises(OutsideRetention, match="multiple of 1d, or a later start"):
        plan(asked, {"day": BEGIN}, is_strict=True)
    with pytest.raises(OutsideRetention, match="multiple of 1d, or a later start"):
        plan(asked, {"day": BEGIN, "hour": since + DAY}, is_strict=True)
    with pytest.raises(OutsideRetention, match="use a later start"):
        plan(asked, {}, is_strict=True)
    for firsts in ({"day": BEGIN, "hour": since}, {"day": since + DAY, "hour": since + 30 * HOUR}):
        asked = question(since, BEGIN + 90 * DAY, share, strict=True)
        assert plan(asked, firsts, is_strict=True).ranges["hour"][0][0] >= since
    # The metric began where Redis has everything.
    asked = question(since, BEGIN + 90 * DAY, share, strict=True, oldest=BEGIN + 60 * DAY)
    assert plan(asked, {}, is_strict=True).ranges == {}
    # An open window begins where the data does.
    asked = question(OPEN_SINCE, BEGIN + 90 * DAY, share, strict=True, oldest=BEGIN)
    assert plan(asked, {"day": BEGIN, "hour": since}, is_strict=True).ranges == {
        "hour": [(since, BEGIN + 50 * DAY)]
    }


def test_levels_have_the_names_of_the_archive() -> None:
    assert list(NAMES.values()) == ["day", "hour", "minute"]
