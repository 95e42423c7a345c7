"""Random recording, sealing, downsampling and queries: results equal those of a plain list."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redismetrics.columnar.sample_codec import pack_samples, read_samples
from redismetrics.model.retention import RetentionPolicy
from redismetrics.model.time import DAY, HOUR, MINUTE, SECOND
from redismetrics.model.validation import MetricType
from redismetrics.store import keys
from redismetrics.store.due_slot import DueSlot
from redismetrics.worker.commit import Outcome
from redismetrics.worker.limits import WorkerLimits
from tests.system.properties.world import (
    BUDGET,
    GROUPINGS,
    MIDNIGHT,
    Clock,
    Stage,
    Window,
    World,
    stage,
)

pytestmark = pytest.mark.slow

CLIENTS = 2
# Samples with explicit times are in the two days from here, the others after PLAIN.
BASE = MIDNIGHT - 2 * DAY
PLAIN = MIDNIGHT - HOUR // 2
KINDS: tuple[MetricType, ...] = ("counter", "gauge", "histogram")


@pytest.fixture(scope="module")
def stage_(request: pytest.FixtureRequest) -> Iterator[Stage]:
    server = request.getfixturevalue("server")
    retention = RetentionPolicy.of(*(86_400.0 * days for days in (6, 6, 90, 900)))
    with stage(server.url, "sealed", Clock(PLAIN), CLIENTS, retention) as made:
        yield made


# -- the steps -------------------------------------------------------------------------------

VALUES: dict[str, st.SearchStrategy[float]] = {
    "counter": st.sampled_from([0.0, 1.0, 1.0, 2.0, 0.1, 1e15]) | st.floats(0, 1e6),
    "gauge": st.sampled_from([0.0, 1.0, -1.0, 0.1, 1e9]) | st.floats(-1e6, 1e6),
    "histogram": st.sampled_from([0.0, 1.0, -1.0, 0.1, 1e9]) | st.floats(-1e6, 1e6),
}
TAGS = st.fixed_dictionaries(
    {}, optional={"a": st.sampled_from(["x", "y", "z"]), "b": st.just("1")}
)
TIMES = st.builds(
    lambda day, hour, minute, ms: BASE + day * DAY + hour * HOUR + minute * MINUTE + ms,
    st.sampled_from([0, 0, 1]),
    st.sampled_from([0, 1, 2, 23]),
    st.sampled_from([0, 0, 59]),
    st.sampled_from([0, 1, 59_999]),
)
EDGES = st.builds(
    lambda day, hour, minute: BASE + day * DAY + hour * HOUR + minute * MINUTE,
    st.sampled_from([0, 0, 1, 2]),
    st.sampled_from([0, 1, 2, 3, 23]),
    st.sampled_from([0, 0, 0, 1, 59]),
)
WINDOWS: st.SearchStrategy[Window] = st.tuples(st.none() | EDGES, st.none() | EDGES)


class Record(NamedTuple):
    client: int
    values: list[float]
    tags: dict[str, str]
    time_ms: int | None
    metadata: bool
    step_ms: int


class Flush(NamedTuple):
    client: int


class Again(NamedTuple):
    """Resend a confirmed batch; from now on each batch is sent twice."""

    batch: int


class Seal(NamedTuple):
    """One commit of a worker."""


class Make(NamedTuple):
    """Make one of the coarse slots, whether or not it is due yet."""

    number: int


class Work(NamedTuple):
    """Seal and make everything."""


Step = Record | Flush | Again | Seal | Make | Work


def steps(kind: MetricType, longest: int) -> st.SearchStrategy[list[Step]]:
    values = VALUES[kind]
    some = st.lists(values, min_size=1, max_size=3)
    burst = st.tuples(values, st.integers(BUDGET, longest)).map(
        lambda seed: [seed[0] + at for at in range(seed[1])]
    )
    record = st.builds(
        Record,
        st.integers(0, CLIENTS - 1),
        some | some | burst if longest > BUDGET else some,
        TAGS,
        TIMES | TIMES | st.none(),
        st.sampled_from([False, False, True]),
        st.sampled_from([0, 1, 250, 20_000]),
    )
    numbers = st.integers(0, 30)
    working = st.builds(Seal) | st.builds(Make, numbers) | st.builds(Work)
    step = (
        record | st.builds(Flush, st.integers(0, CLIENTS - 1)) | working | st.builds(Again, numbers)
    )
    return st.lists(step, min_size=1, max_size=14)


def play(world: World, step: Step) -> bool:
    """Run the step; return whether results may have changed."""
    match step:
        case Record(client, values, tags, time_ms, metadata, step_ms):
            if (
                world.waiting(client) + len(values) > BUDGET and len(values) < BUDGET
            ):  # only a burst is compressed
                world.flush(client)
            for value in values:
                world.record(
                    client, value, tags, time_ms, metadata=metadata and len(values) < BUDGET
                )
            clock: Any = world.stage.clock
            clock.ms += step_ms
            return False
        case Flush(client):
            world.flush(client)
        case Again(batch):
            world.stage.twice = True
            world.again(batch)
        case Seal():
            world.seal()
        case Make(number):
            due = world.due()
            if not due:
                return False
            assert world.make(due[number % len(due)]) in (Outcome.DONE, Outcome.NOTHING)
        case Work():
            world.work()
    return True


def started(stage: Stage, kind: MetricType) -> World:
    clock: Any = stage.clock
    clock.ms = PLAIN
    return World(stage, kind)


# -- the properties -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(data=st.data())
def test_results_for_whole_minutes_equal_a_plain_list_before_during_and_after_the_worker(
    stage_: Stage, kind: MetricType, data: st.DataObject
) -> None:
    """Compressed samples never cross a minute, so windows of whole minutes are exact."""
    world = started(stage_, kind)
    try:
        window, group_by = data.draw(WINDOWS), data.draw(st.sampled_from(GROUPINGS))
        for step in data.draw(steps(kind, 45)):
            if play(world, step):
                world.check_rollup(window, group_by)
        for finish in (lambda: [world.flush(at) for at in range(CLIENTS)], world.work):
            finish()
            world.check_books()
            for asked in (None, window, data.draw(WINDOWS)):
                world.check_rollup(asked, group_by)
                world.check_series(
                    asked, data.draw(st.sampled_from([HOUR, 2 * HOUR, 6 * HOUR, DAY])), group_by
                )
            hour = data.draw(TIMES) // HOUR * HOUR
            interval = data.draw(st.sampled_from([MINUTE, 5 * MINUTE, 90 * MINUTE]))
            world.check_series((hour - HOUR, hour + HOUR + MINUTE), interval, group_by)
    finally:
        world.close()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(data=st.data())
def test_sealed_samples_are_exact_to_the_millisecond_and_the_percentile(
    stage_: Stage, kind: MetricType, data: st.DataObject
) -> None:
    """If a minute has too many samples of a series, all have the time of its start."""
    world = started(stage_, kind)
    try:
        for step in data.draw(steps(kind, 0)):
            play(world, step)
        for finish in (lambda: [world.flush(at) for at in range(CLIENTS)], world.seal, world.work):
            finish()
            world.check_books()
            times = sorted({entry.time_ms for entry in world.entries}) or [BASE]
            edges = st.sampled_from(
                [None, *times, *(ms + 1 for ms in times), *(ms - 1 for ms in times)]
            )
            window, group_by = (
                data.draw(st.tuples(edges, edges)),
                data.draw(st.sampled_from(GROUPINGS)),
            )
            world.check_rollup(window, group_by)
            world.check_percentiles(window)
            around = data.draw(st.sampled_from(times))
            near = (around - 90 * SECOND - 1, around + 100 * SECOND + 1)
            world.check_list(near)
            world.check_series(
                near,
                data.draw(st.sampled_from([SECOND, 7 * SECOND, 90 * SECOND, MINUTE])),
                group_by,
            )
    finally:
        world.close()


# -- rare cases --------------------------------------------------------------------


@pytest.fixture
def world(stage_: Stage) -> Iterator[World]:
    world = started(stage_, "histogram")
    yield world
    world.close()


def test_an_hour_that_is_due_again_counts_once(world: World) -> None:
    for hour in range(3):
        world.record(0, 1.0, {}, BASE + hour * HOUR)
    world.flush(0)
    world.work()
    world.record(0, 5.0, {}, BASE + HOUR + 5)
    world.flush(0)
    world.seal()
    for window in (
        None,
        (BASE, BASE + 3 * HOUR),
        (BASE, BASE + 2 * HOUR),
        (BASE + HOUR, BASE + 3 * HOUR),
    ):
        world.check_rollup(window)
        world.check_series((BASE, BASE + 3 * HOUR), HOUR)


@pytest.mark.parametrize("is_made", [False, True])
@pytest.mark.parametrize("count", [100, 101])
def test_a_minute_keeps_at_most_a_hundred_exact_samples(
    world: World, count: int, is_made: bool
) -> None:
    world.limits = WorkerLimits(samples_per_minute=100)
    for number in range(count):
        world.record(0, float(number), {}, BASE + number * 500, metadata=True)
        if number % 19 == 0:
            world.flush(0)
            world.seal()
    world.flush(0)
    world.seal()
    if is_made:
        world.work()
    found = world.query(aggregation="count", window=(BASE / 1000 + 10, BASE / 1000 + 30))
    assert found == (40 if count == 100 else 0)
    listed = world.query(window=(BASE / 1000, BASE / 1000 + 60))
    numbers = [each.metadata["n"] for each in listed if each.metadata]
    assert numbers == (list(range(100)) if count == 100 else [])
    assert sum(each.count for each in listed) == count


def test_a_client_that_missed_many_commits_answers_like_a_new_one(
    world: World,
) -> None:
    for slept in (1, 63, 64, 65):
        world.record(0, 1.0, {}, BASE + 3 * MINUTE)
        world.flush(0)
        world.seal()
        world.check_rollup()
        for number in range(slept):  # the first touches what was just asked for; the others don't
            world.record(0, 1.0, {}, BASE + (3 if not number else 5 * HOUR // MINUTE) * MINUTE)
            world.flush(0)
            world.seal()
        world.check_rollup()


@pytest.mark.parametrize("minutes", [127, 128, 129, 140])
def test_a_commit_of_many_minutes_clears_the_cache_of_clients(world: World, minutes: int) -> None:
    for _ in range(2):
        for number in range(minutes):
            world.record(0, 1.0, {}, BASE + number * MINUTE)
        world.flush(0)
        assert world.seal() is Outcome.DONE
        world.check_rollup((BASE, BASE + 10 * MINUTE))
        world.check_rollup((BASE + (minutes - 3) * MINUTE, None))


def test_percentiles_are_the_same_from_the_cache_and_from_redis_after_compression(
    world: World,
) -> None:
    def ask() -> list[float]:
        return [world.query(aggregation=f"p{p}", window=window) for p in (1, 7, 33, 50, 66, 99)]

    window = (BASE / 1000 - 60, BASE / 1000 + 120)
    for number in range(150):
        world.record(0, float(number * number % 977), {}, BASE + number)
        if number % 15 == 14:
            world.flush(0)
    while world.seal() is not Outcome.NOTHING:
        pass
    exact = ask()
    world.make(next(due for due in world.due() if due.startswith("hour")))
    assert ask() == pytest.approx(exact, rel=0.1)


def test_a_coarse_slot_waits_for_the_finer_slots_inside_it(world: World) -> None:
    world.record(0, 1.0, {}, BASE)
    world.flush(0)
    world.seal()
    due = world.due()
    hour, day, span = (
        next(each for each in due if each.startswith(level)) for level in ("hour", "day", "span")
    )
    for each in (day, span):
        assert world.make(each) is Outcome.NOTHING
    assert world.due() == due
    assert world.make(hour) is Outcome.DONE
    assert world.make(span) is Outcome.NOTHING
    assert world.make(day) is Outcome.DONE
    assert world.make(span) is Outcome.DONE
    assert world.make(span) is Outcome.DONE  # again, as if another worker was first: nothing to do
    world.check_rollup()


def test_a_quarter_of_an_hour_is_merged_into_a_segment_early(world: World) -> None:
    def fields(level: str) -> set[bytes]:
        return set(world.stage.redis.execute_command("HKEYS", world.metric.data(level, BASE)))

    segment = keys.segment_field(0).encode()
    for minute in (0, 3, 14, 15, 44, 59):
        world.record(0, 1.0 + minute, {"a": "x"}, BASE + minute * MINUTE)
    world.flush(0)
    while world.seal() is not Outcome.NOTHING:
        pass
    quarters = [due for due in world.due() if due.startswith("fold-minute")]
    starts = [BASE + minute * MINUTE for minute in (0, 15, 30)]
    assert quarters == [
        DueSlot.merge("minute", start, 0).field for start in starts
    ]  # the last one is merged with the hour
    before = fields("minute")
    assert world.make(quarters[0]) is Outcome.DONE
    gone = {keys.cell_field(BASE + minute * MINUTE, 0).encode() for minute in (0, 3, 14)}
    for level in ("minute", "raw"):
        assert fields(level) == before - gone | {segment}
    world.check_rollup()
    assert world.make(quarters[0]) is Outcome.DONE  # again, as if another worker was first
    world.record(0, 9.0, {"a": "x"}, BASE + 3 * MINUTE + 1)  # too late for the segment
    world.flush(0)
    world.seal()
    assert quarters[0] in world.due()
    world.check_rollup()
    assert world.make(quarters[0]) is Outcome.DONE
    assert fields("minute") == before - gone | {segment}
    world.check_rollup()
    assert world.make(next(due for due in world.due() if due.startswith("hour"))) is Outcome.DONE
    assert fields("minute") == fields("raw") == {segment}
    assert not [due for due in world.due() if due.startswith("fold-minute")]
    world.check_rollup()


def test_part_of_a_minute_s_samples_is_not_used_as_the_whole(world: World) -> None:
    redis, key, field = world.stage.redis, world.metric.data("raw", BASE), keys.cell_field(BASE, 0)
    for number in range(3):
        world.record(0, 1.0, {}, BASE + number * SECOND)
    world.flush(0)
    world.seal()
    samples = read_samples(redis.execute_command("HGET", key, field))
    assert len(samples) == 3
    part = samples.take(samples.time > BASE, np.zeros(0, np.bool_))
    redis.execute_command("HSET", key, field, pack_samples(part))
    for until, expected in ((BASE + 1500, 3), (BASE + MINUTE - 1, 3)):
        window = (BASE / 1000, until / 1000)
        assert world.query(aggregation="count", window=window) == expected


def test_samples_after_a_loss_are_not_kept_as_the_whole_minute(
    world: World,
) -> None:
    redis, key = world.stage.redis, world.metric.data("raw", BASE)
    for number in range(2):
        world.record(0, 1.0, {}, BASE + number)
        world.flush(0)
        world.seal()
        assert redis.execute_command("DEL", key) == (1 if number == 0 else 0)
    assert world.query(aggregation="count") == 2


@pytest.mark.parametrize("change", ["cut", "cut at the end", "came in between", "replaced"])
def test_a_commit_for_a_changed_log_is_rejected(world: World, change: str) -> None:
    """The version is the same but the log differs, as after a failover or trimming by age."""
    for number in range(2):
        world.record(0, 1.0 + number, {}, BASE + number)
        world.flush(0)
    redis, log = world.stage.redis, world.metric.recorded.log
    sealing_ = world.sealing()
    commands = next(sealing_)
    while commands[0][0] != "EVALSHA":
        commands = sealing_.send([redis.execute_command(*command) for command in commands])
    first, clock, second, _ = redis.execute_command("ZRANGE", log, 0, -1, "WITHSCORES")
    if change != "came in between":
        redis.execute_command("ZREM", log, second if change == "cut at the end" else first)
    if not change.startswith("cut"):
        other = bytearray(second if change == "came in between" else first)
        other[12] ^= 1  # of the writer's id
        redis.execute_command("ZADD", log, int(clock) + (change != "replaced"), bytes(other))
    with pytest.raises(StopIteration) as ended:
        sealing_.send([redis.execute_command(*command) for command in commands])
    assert ended.value.value.outcome is Outcome.AGAIN
    assert world.due() == []
    assert redis.execute_command("HMGET", world.metric.worked.state, "version", "sealed") == [
        None,
        None,
    ]
    assert world.seal() in (Outcome.DONE, Outcome.MORE)
    expected = {"came in between": 3, "replaced": 2}.get(change, 1)
    assert world.query(aggregation="count") == expected
