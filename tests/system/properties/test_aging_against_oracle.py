"""Time passes and old data expires by retention: query results equal those of a plain list."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redismetrics.model.retention import RetentionPolicy
from redismetrics.model.time import DAY, HOUR, MINUTE, SECOND
from redismetrics.model.validation import MetricType
from redismetrics.worker import Worker, commit
from tests.fixtures.servers import Server
from tests.queries.test_plan import covering
from tests.system.properties.test_sealed_against_oracle import GROUPINGS, TAGS, VALUES
from tests.system.properties.world import CHUNK, Entry, Stage, Window, World, seconds, stage

pytestmark = pytest.mark.slow

BEGIN = (
    1_800_000_000_000 // (32 * DAY) * 32 * DAY + 30 * DAY + 22 * HOUR + 58 * MINUTE
)  # spans of days end soon after
_numbers = itertools.count(1)


class Record(NamedTuple):
    """One batch: values, each with its age in ms."""

    values: list[float]
    tags: dict[str, str]
    ago: int


class Wait(NamedTuple):
    ms: int


class Seal(NamedTuple):
    """One commit."""


class Pass(NamedTuple):
    """A worker's pass: seal everything and make what is due."""


Step = Record | Wait | Seal | Pass


class Ages(World):
    """A metric whose old data expires by the retention policy."""

    def __init__(self, stage: Stage, kind: MetricType) -> None:
        super().__init__(stage, kind)
        self.worker = Worker(stage.clients[0].settings, stage.clients[0]._store)

    def look(self) -> None:
        """Note what later results depend on."""
        self._now = self.now_ms()
        self._due: dict[int, set[tuple[str, int]]] = {}
        for each in self.due():
            level, start_s, chunk = each.split(" ")
            self._due.setdefault(int(chunk), set()).add((level, int(start_s) * SECOND))
        series = self.stage.redis.execute_command("HGETALL", self.metric.recorded.series)
        self._ids = {}
        for canonical, number in zip(series[::2], series[1::2], strict=True):
            flat = msgpack.unpackb(canonical)
            self._ids[tuple(zip(flat[::2], flat[1::2], strict=True))] = int(number)

    def seen_at(
        self, entry: Entry, since: int, until: int, interval: int | None = None
    ) -> int | None:
        retention, now = self.stage.retention, self._now
        if entry.flush in self.unsealed:
            return entry.time_ms if since <= entry.time_ms < until else None
        if entry in self.late or entry.tags not in self._ids:
            return None
        coarsest = retention.coarsest
        if coarsest.is_expired(entry.time_ms // coarsest.partition * coarsest.partition, now):
            return None
        # An open window consists of whole days.
        since = max(since, (now - coarsest.retention) // coarsest.partition * coarsest.partition)
        until = min(until, (now // DAY + 100) * DAY)
        minute = entry.time_ms // MINUTE * MINUTE
        found = covering(
            minute,
            since,
            until,
            retention,
            self._due.get(self._ids[entry.tags] // CHUNK, ()),
            interval,
            now,
        )
        if found is None:
            return None
        name, slot = found
        if name != "partial":
            return slot
        exact = self.is_exact(entry) and not retention.raw.is_expired(minute // HOUR * HOUR, now)
        when = entry.time_ms if exact else minute
        return when if since <= when < until else None


# -- the property -------------------------------------------------------------------------------

HOURS = st.sampled_from([2, 2, 3, 4, 25, 26, 49, 24 * 33])
CALENDARS = st.tuples(st.sampled_from([1, 2, 3]), HOURS, HOURS, HOURS).map(
    lambda hours: RetentionPolicy.of(*(hour * 3600.0 for hour in sorted(hours)))
)
AGO = st.sampled_from(
    [
        0,
        0,
        SECOND,
        59 * SECOND,
        59 * MINUTE,
        HOUR,
        90 * MINUTE,
        2 * HOUR,
        3 * HOUR,
        24 * HOUR,
        50 * HOUR,
    ]
)
WAITS = st.sampled_from(
    [
        SECOND,
        MINUTE,
        61 * SECOND,
        HOUR - 1,
        HOUR,
        HOUR + MINUTE,
        2 * HOUR,
        12 * HOUR,
        DAY,
        3 * DAY,
        33 * DAY,
    ]
)


def steps(kind: MetricType) -> st.SearchStrategy[list[Step]]:
    record = st.builds(Record, st.lists(VALUES[kind], min_size=1, max_size=3), TAGS, AGO)
    return st.lists(
        record | record | st.builds(Wait, WAITS) | st.builds(Seal) | st.builds(Pass),
        min_size=1,
        max_size=16,
    )


EDGE = st.none() | st.tuples(st.sampled_from([SECOND, MINUTE, HOUR, DAY]), st.integers(0, 50))


@pytest.mark.parametrize("kind", ["gauge", "counter"])
@settings(max_examples=25)
@given(data=st.data())
def test_results_after_expiry_equal_a_plain_list(
    request: pytest.FixtureRequest, kind: MetricType, data: st.DataObject
) -> None:
    server: Server = request.getfixturevalue("moving_server")
    server.set_time(BEGIN / 1000)
    retention = data.draw(CALENDARS)
    with stage(
        server.url, f"ages{next(_numbers)}", lambda: server.time + 1e-5, 1, retention
    ) as made:
        world = Ages(made, kind)
        for step in data.draw(steps(kind)):
            match step:
                case Record(values, tags, ago):
                    ago = min(
                        ago, retention.finest.retention - HOUR - SECOND
                    )  # clients refuse older samples
                    for value in values:
                        world.record(0, value, tags, round(server.time * 1000) - ago)
                    world.flush(0)
                    continue
                case Wait(ms):
                    server.advance(ms / 1000)
                case Seal():
                    world.seal()
                case Pass():
                    world.worker.pass_once()
                    world.note_sealed()
                    assert not world.unsealed
            world.look()
            world.check_books()
            window = _window(data.draw(st.tuples(EDGE, EDGE)), world)
            group_by = data.draw(st.sampled_from(GROUPINGS))
            world.check_rollup(None, group_by)
            world.check_rollup(window, group_by)
            _check_series(world, data.draw(st.sampled_from(["hour", "day"])), group_by)
        world.worker.disconnect()
        world.close()


def _window(edges: tuple[tuple[int, int] | None, tuple[int, int] | None], world: Ages) -> Window:
    """Edges next to samples: at the starts of their minutes, hours or days."""
    times = [entry.time_ms for entry in world.entries] or [0]
    since, until = (
        None if edge is None else times[edge[1] % len(times)] // edge[0] * edge[0] for edge in edges
    )
    return since, None if until is None else until + (edges[1] or (0, 0))[0]


def _check_series(world: Ages, interval: str, group_by: tuple[str, ...]) -> None:
    """Return the start of an open window: of everything kept at this resolution."""
    level = next(level for level in world.stage.retention.resolutions if level.name == interval)
    since = (world.now_ms() - level.retention) // level.partition * level.partition
    world.check_series((since, None), level.width, group_by)


# -- rare cases --------------------------------------------------------------------


@pytest.fixture
def ages(moving_server: Server, request: pytest.FixtureRequest) -> Iterator[Ages]:
    """Use a namespace that keeps each resolution for these hours."""
    moving_server.set_time(BEGIN / 1000)
    retention = RetentionPolicy.of(*(hours * 3600.0 for hours in request.param))
    namespace = f"ages{next(_numbers)}"
    with stage(
        moving_server.url, namespace, lambda: moving_server.time + 1e-5, 1, retention
    ) as made:
        world = Ages(made, "histogram")
        yield world
        world.worker.disconnect()
        world.close()


def _put(world: World, *times: int) -> None:
    for time_ms in times:
        world.record(0, 1.0, {}, time_ms)
    world.flush(0)


def _count(world: World, window: Window = (None, None)) -> int:
    found: int = world.query(aggregation="count", window=seconds(window))
    return found


@pytest.mark.parametrize("ages", [(1, 25, 25, 24 * 900)], indirect=True)
@pytest.mark.parametrize("pause", [0, 61 * SECOND, HOUR + 2 * MINUTE, 3 * HOUR, 2 * DAY])
def test_a_day_keeps_its_hours_while_a_late_sample_waits(
    ages: Ages, moving_server: Server, pause: int
) -> None:
    """Hours are kept as long as minutes, and the sample comes just before both expire."""
    day = BEGIN // DAY * DAY
    _put(ages, *(day + hour * HOUR for hour in range(20)))
    moving_server.set_time((day + DAY + HOUR) / 1000)
    ages.worker.pass_once()
    ages.note_sealed()
    moving_server.set_time((day + DAY + 2 * MINUTE) / 1000 + 3600)
    ages.worker.pass_once()
    assert ages.due() == [f"span {day // (32 * DAY) * 32 * DAY // 1000} 0"]
    moving_server.set_time((day + 23 * HOUR + 58 * MINUTE + DAY) / 1000)
    _put(ages, day + 23 * HOUR + 59 * MINUTE)
    moving_server.set_time((day + DAY + 25 * HOUR) / 1000 - 30)
    assert ages.seal() is commit.Outcome.DONE
    assert _count(ages) == 21
    moving_server.advance(pause / 1000)
    assert _count(ages) == 21
    ages.worker.pass_once()
    assert _count(ages) == 21
    moving_server.advance(2 * 3600)
    ages.worker.pass_once()
    assert _count(ages) == _count(ages, (day, day + DAY)) == 21
    ages.check_books()


@pytest.mark.parametrize("ages", [(1, 2, 2, 24 * 900)], indirect=True)
def test_a_worker_that_was_stopped_writes_no_expired_minute(
    ages: Ages, moving_server: Server
) -> None:
    hour = BEGIN // HOUR * HOUR
    _put(ages, hour + 5)
    redis, sealing_ = ages.stage.redis, ages.sealing()
    commands = next(sealing_)
    while commands[0][0] != "EVALSHA":
        commands = sealing_.send([redis.execute_command(*command) for command in commands])
    moving_server.set_time((hour + HOUR + 2 * HOUR) / 1000)
    with pytest.raises(StopIteration) as ended:
        sealing_.send([redis.execute_command(*command) for command in commands])
    assert ended.value.value.outcome is commit.Outcome.AGAIN
    assert ages.seal() is commit.Outcome.DONE  # counts it as late
    assert len(ages.late) == 1
    assert ages.due() == []
    ages.check_books()


@pytest.mark.parametrize("ages", [(1, 2, 2, 24 * 900)], indirect=True)
def test_minutes_are_kept_until_the_last_chunk_of_their_hour_is_downsampled(
    ages: Ages, moving_server: Server
) -> None:
    hour = BEGIN // HOUR * HOUR
    for number in range(3 * CHUNK):
        ages.record(0, 1.0, {"a": str(number)}, hour + number)
    ages.flush(0)
    ages.seal()
    moving_server.advance(30 * 3600)
    due = [each for each in ages.due() if each.startswith("hour")]
    assert len(due) == 3
    for each in due:
        assert _count(ages) == 3 * CHUNK
        assert ages.make(each) is commit.Outcome.DONE
        moving_server.advance(5 * 3600)
    assert _count(ages) == 3 * CHUNK
    assert not redis_keys(ages, "minute", hour)
    ages.worker.pass_once()
    assert _count(ages) == 3 * CHUNK
    assert not redis_keys(ages, "hour", hour // DAY * DAY)


def redis_keys(world: Ages, level: str, span: int) -> int:
    return int(world.stage.redis.execute_command("EXISTS", world.metric.data(level, span)))


@pytest.mark.parametrize("ages", [(1, 25, 25, 24 * 900)], indirect=True)
def test_a_clock_that_was_ahead_hides_no_later_samples(ages: Ages, moving_server: Server) -> None:
    before = World(ages.stage, "histogram")
    moving_server.advance(40 * 86_400)
    _put(before, round(moving_server.time * 1000))
    moving_server.set_time(BEGIN / 1000)
    for world in (
        ages,
        before,
    ):  # a metric that came while the clock was right again, and one from the time to come
        _put(world, BEGIN, BEGIN - HOUR)
        expected = len(world.entries)
        assert _count(world) == expected
        for _ in range(3):
            world.seal()
            assert _count(world) == expected
            assert _count(world, (BEGIN - HOUR, BEGIN + 1)) == 2
        moving_server.advance(2 * 86_400)
        ages.worker.pass_once()
        assert _count(world) == expected
        moving_server.set_time(BEGIN / 1000)
    before.close()
