"""Values of processes: their bytes, how they are merged, and what processes that are gone leave."""

import itertools
import random
import struct

import pytest

from redismetrics.columnar.process_values import (
    ENDED_MS,
    GONE_MS,
    MOST_ENDED,
    MOST_GONE,
    GoneValues,
    Process,
    ProcessValue,
    SeriesValues,
    merged,
    newest_ended,
    pid_tags,
    read_values,
    unpack_value,
)

NOW_MS = 1_750_000_000_000
HERE, THERE = b"here....", b"there..."


def value(
    number: float,
    *,
    age_ms: int = 0,
    writer: str = "w",
    pid: int = 7,
    place: bytes = HERE,
    host: str = "web",
    set_ms: int = NOW_MS,
    has_ended: bool = False,
) -> ProcessValue:
    clock = (NOW_MS - age_ms) * 1000
    process = Process(pid, place, host)
    return ProcessValue(writer.encode(), number, set_ms, clock, process, has_ended)


@pytest.mark.parametrize("has_ended", [False, True])
def test_a_value_is_read_as_the_script_writes_it(has_ended: bool) -> None:
    clock = -NOW_MS * 1000 if has_ended else NOW_MS * 1000
    data = struct.pack("<dddI8s", 2.5, NOW_MS - 4, clock, 4711, HERE) + "wéb".encode()
    assert unpack_value(b"12 a1b2", data) == ProcessValue(
        b"a1b2", 2.5, NOW_MS - 4, NOW_MS * 1000, Process(4711, HERE, "wéb"), has_ended
    )


def test_values_of_dead_processes_are_read_as_packed() -> None:
    left = GoneValues()
    for number in range(MOST_GONE + 3):
        left.add(value(number, writer=f"w{number}", age_ms=number), "sum")
    assert GoneValues.unpack(left.pack()) == left
    assert (left.clock, left.value, left.time_ms) == (NOW_MS * 1000, 0 + 1 + 2, NOW_MS)
    live = {b"3 ": left.pack(), b"4 w": struct.pack("<dddI8s", 1, 2, 3, 4, HERE)}
    found = read_values({3: [b"3 "], 4: [b"4 w"]}, live)
    assert found[3] == SeriesValues([], left)
    assert [each.value for each in found[4].own] == [1]


@pytest.mark.parametrize("mode", ["sum", "min", "max", "mostrecent"])
def test_dead_values_merge_to_the_same_however_many_are_separate(mode: str) -> None:
    generator = random.Random(5)
    values = [
        value(generator.randint(-99, 99), writer=str(number), set_ms=NOW_MS + number)
        for number in range(3 * MOST_GONE)
    ]
    left = GoneValues()
    for count, each in enumerate(values, 1):
        left.add(each, mode)
        assert len(left.entries) == min(count, MOST_GONE)
        numbers = [each.value for each in values[:count]]
        expected = {
            "sum": sum(numbers),
            "min": min(numbers),
            "max": max(numbers),
            "mostrecent": numbers[-1],
        }
        assert merged(left.values(), mode) == (expected[mode], NOW_MS + count - 1)


def test_the_last_value_counts_of_a_process_that_left_twice() -> None:
    left = GoneValues()
    for number in (3, 5):
        left.add(value(number, writer="same"), "sum")
    left.add(value(1, writer="other"), "sum")
    assert left.values() == [(5, NOW_MS), (1, NOW_MS)]


@pytest.mark.parametrize("mode", ["all", "liveall", "livesum", "livemin", "livemostrecent"])
def test_modes_that_ignore_dead_processes_keep_only_the_time(mode: str) -> None:
    left = GoneValues()
    left.add(value(3, age_ms=50), mode)
    left.add(value(4, age_ms=60), mode)
    assert (left.values(), left.clock) == ([], (NOW_MS - 50) * 1000)


def test_each_mode_merges_as_it_says() -> None:
    left = GoneValues()
    left.add(value(-50, writer="left", set_ms=NOW_MS - 9), "sum")
    values = SeriesValues(
        [
            value(3, writer="a", set_ms=NOW_MS - 5),
            value(8, writer="b", set_ms=NOW_MS - 2, age_ms=GONE_MS + 1),
            value(5, writer="c", set_ms=NOW_MS - 4),
        ],
        left,
    )
    expected = {
        "sum": -34,
        "min": -50,
        "max": 8,
        "mostrecent": 8,
        "livesum": 8,
        "livemin": 3,
        "livemax": 5,
        "livemostrecent": 5,
    }
    found = {mode: values.one(mode, NOW_MS) for mode in expected}
    assert found == {mode: (number, NOW_MS) for mode, number in expected.items()}
    # Nobody lives any more.
    later = NOW_MS + GONE_MS + 1
    assert values.one("livesum", later) is None
    assert values.one("sum", later) == (-34, NOW_MS)


def test_sums_beyond_the_range_of_a_float_are_the_largest() -> None:
    assert merged([(1.7e308, 1), (1.7e308, 2)], "sum") == (1.7976931348623157e308, 2)


def test_rows_are_those_of_live_and_the_newest_dead_processes() -> None:
    living = [value(number, writer=f"l{number}", pid=number) for number in (1, 2)]
    gone = [value(0, writer=f"g{pid}", pid=pid, age_ms=GONE_MS + pid) for pid in range(100, 200)]
    old = value(0, writer="old", pid=300, age_ms=ENDED_MS + 1)
    values = SeriesValues([*gone, old, *living])
    assert [each.process.pid for each in values.each("liveall", NOW_MS)] == [1, 2]
    shown = [each.process.pid for each in values.each("all", NOW_MS)]
    assert shown == [1, 2, *range(100, 100 + MOST_ENDED)]


def test_of_processes_with_the_same_pid_on_a_host_only_live_ones_have_rows() -> None:
    living = value(1, writer="new", place=THERE)
    gone = value(2, writer="old", age_ms=GONE_MS + 5)
    older = value(3, writer="older", age_ms=GONE_MS + 50)
    assert SeriesValues([gone, older, living]).each("all", NOW_MS) == [living]
    # Without it, the newest.
    assert SeriesValues([older, gone]).each("all", NOW_MS) == [gone]
    # Two clients of one process.
    again = value(4, writer="again", age_ms=1)
    first = value(5, writer="first", age_ms=2)
    assert SeriesValues([again, first]).each("liveall", NOW_MS) == [again]


def test_a_process_that_announced_its_end_is_dead() -> None:
    ended = value(1, has_ended=True)
    assert SeriesValues([ended]).each("liveall", NOW_MS) == []
    assert SeriesValues([ended]).each("all", NOW_MS) == [ended]
    assert newest_ended([ended], NOW_MS) == [ended]


def test_pids_are_unique_across_hosts_and_containers() -> None:
    one, two = Process(7, HERE, "web"), Process(8, HERE, "web")
    other_host = Process(7, THERE, "db")
    assert pid_tags([one, two, one]) == {one: "7", two: "8"}
    assert pid_tags([one, two, other_host]) == {one: "7@web", two: "8", other_host: "7@db"}
    container = Process(7, THERE, "web")
    assert pid_tags([one, container]) == {
        one: f"7@web-{HERE.hex()[:8]}",
        container: f"7@web-{THERE.hex()[:8]}",
    }
    every = [
        Process(pid, place, host)
        for pid, place, host in itertools.product((1, 2), (HERE, THERE), ("a", "b"))
    ]
    assert len(set(pid_tags(every).values())) == len(every)
