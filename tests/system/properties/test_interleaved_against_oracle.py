"""Two workers and two readers at once, interrupted between any two commands.

Nothing is lost, doubled or visible half done. The test drives their generators command by command,
not only trip by trip, because a pipeline is not a transaction.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redismetrics.model.time import HOUR, MINUTE
from redismetrics.model.validation import MetricType
from redismetrics.queries.context import QueryContext
from redismetrics.store.driver import Command, Operation, run
from redismetrics.worker.commit import Outcome
from tests.system.properties.test_sealed_against_oracle import (
    BASE,
    CLIENTS,
    GROUPINGS,
    KINDS,
    TAGS,
    VALUES,
    WINDOWS,
    Step,
    play,
    stage_,
    started,
    steps,
)
from tests.system.properties.world import Stage, Window, World

pytestmark = pytest.mark.slow

__all__ = ["stage_"]  # the fixture

# More commands than any round trip has.
REST = 99


class Actor:
    """A worker or reader: an operation whose commands are sent a few at a time."""

    def __init__(self, stage: Stage, operation: Operation[Any]) -> None:
        self.stage, self.operation = stage, operation
        self.done, self.result = False, None
        self._replies: list[Any] = []
        self._commands: list[Command] = next(operation)

    def step(self, commands: int, *, twice: bool = False) -> None:
        """Send some of this trip's commands; scripts *twice*, as after a lost reply."""
        for _ in range(min(commands, self.left)):
            command = self._commands[len(self._replies)]
            for _ in range(1 + (twice and command[0] == "EVALSHA")):
                reply = run(self.stage.redis, _one(command))
            self._replies.append(reply)
        if self.left:
            return
        try:
            replies, self._replies = self._replies, []
            self._commands = self.operation.send(replies)
        except StopIteration as ended:
            self.done, self.result = True, ended.value

    @property
    def left(self) -> int:
        """Return how many commands of this trip are not sent."""
        return len(self._commands) - len(self._replies)

    @property
    def commits(self) -> bool:
        """True if the next command is a commit."""
        return not self.done and self._commands[0][0] == "EVALSHA"

    def finish(self) -> None:
        while not self.done:
            self.step(REST)


def _one(command: Command) -> Operation[Any]:
    (reply,) = yield [command]
    return reply


class Reader:
    """Runs queries; each result is that of all batches up to one that arrived during the query."""

    def __init__(self, world: World, place: QueryContext) -> None:
        self.world, self.place = world, place
        self._actor: Actor | None = None
        self._window: Window | None = None
        self._group_by: tuple[str, ...] = ()
        self._before = 0

    def step(self, move: "Move") -> None:
        if self._actor is None:
            self._window, self._group_by, self._before = (
                move.window,
                move.group_by,
                len(self.world.clocks),
            )
            self._actor = Actor(
                self.world.stage, self.world.rollup(self.place, move.window, move.group_by)
            )
        self._actor.step(move.commands)
        if self._actor.done:
            self._judge()

    @property
    def done(self) -> bool:
        return self._actor is None

    def finish(self) -> None:
        if self._actor is not None:
            self._actor.finish()
            self._judge()

    def _judge(self) -> None:
        assert self._actor is not None
        found: Any = self._actor.result
        self._actor = None
        inside = [entry for _, entry in self.world.inside(self._window)]
        for seen in range(self._before, len(self.world.clocks) + 1):
            try:
                self.world.judge_rollup(
                    found, [entry for entry in inside if entry.flush <= seen], self._group_by
                )
            except AssertionError as error:
                failed = error
            else:
                return
        raise failed


class Worker:
    """Runs one piece of work after another."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._actor: Actor | None = None

    def step(self, move: "Move") -> None:
        if self._actor is None:
            due = self.world.due() if move.number is not None else []
            work = self.world.making(due[move.number % len(due)]) if due else self.world.sealing()
            self._actor = Actor(self.world.stage, work)
        self._actor.step(move.commands, twice=move.twice)
        self._note()

    def finish(self) -> None:
        if self._actor is not None:
            self._actor.finish()
            self._note()

    def _note(self) -> None:
        self.world.note_sealed()
        if self._actor is not None and self._actor.done:
            assert isinstance(self._actor.result.outcome, Outcome)
            self._actor = None


class Move(NamedTuple):
    """The next step of a worker (0, 1), a reader (2, 3) or a recorder (4)."""

    who: int
    commands: int
    number: int | None
    twice: bool
    window: Window
    group_by: tuple[str, ...]


COMMANDS = st.sampled_from([1, 2, 3, REST, REST, REST])
NUMBERS = st.none() | st.integers(0, 30)
MOVES = st.builds(
    Move,
    st.integers(0, 4),
    COMMANDS,
    NUMBERS,
    st.sampled_from([False, False, False, True]),
    WINDOWS,
    st.sampled_from(GROUPINGS),
)


def records(kind: MetricType) -> st.SearchStrategy[tuple[float, dict[str, str], int]]:
    times = st.builds(
        lambda hour, minute, ms: BASE + hour * HOUR + minute * MINUTE + ms,
        st.sampled_from([0, 0, 1, 24]),
        st.sampled_from([0, 59]),
        st.sampled_from([0, 1, 59_999]),
    )
    return st.tuples(VALUES[kind], TAGS, times)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15)
@given(data=st.data())
def test_interleaved_operations_are_exact_and_atomic(
    stage_: Stage, kind: MetricType, data: st.DataObject
) -> None:
    world = started(stage_, kind)
    try:
        before: list[Step] = data.draw(steps(kind, 0).map(lambda found: found[:6]))
        for step in before:
            play(world, step)
        warm = world.places["warm"]
        actors: list[Worker | Reader] = [
            Worker(world),
            Worker(world),
            Reader(world, warm),
            Reader(world, warm),
        ]
        recorded = iter(data.draw(st.lists(records(kind), max_size=8)))
        for move in data.draw(st.lists(MOVES, min_size=10, max_size=60)):
            if move.who < len(actors):
                actors[move.who].step(move)
            elif (found := next(recorded, None)) is not None:
                value, tags, time_ms = found
                world.record(move.commands % CLIENTS, value, tags, time_ms)
                world.flush(move.commands % CLIENTS)
        for actor in actors:
            actor.finish()
        world.check_books()
        world.check_rollup()
        for at in range(CLIENTS):
            world.flush(at)
        world.work()
        world.check_rollup()
        world.check_percentiles()
        world.check_books()
    finally:
        world.close()


# -- a complete operation between any two commands -------------------------------------------


def _prepare(
    world: World,
    number: int,
    *,
    is_sealed: bool = True,
    hours_made: bool = False,
    in_log: bool = True,
) -> None:
    """Add late samples to two hours of a day: sealed, and perhaps downsampled or in the log."""
    for at in range(2):
        world.record(0, 1.0 + at, {"a": "xy"[at]}, BASE + at * HOUR + number * MINUTE)
    world.flush(0)
    world.work()
    for at in range(2 * is_sealed):
        world.record(0, 3.0 + at, {"a": "xy"[at]}, BASE + at * HOUR + number * MINUTE + 1)
    world.flush(0)
    while world.seal() is Outcome.MORE:
        pass
    if hours_made:
        _make(world, "hour")
    if in_log:
        for at in range(2):
            world.record(0, 5.0, {"a": "xy"[at]}, BASE + at * HOUR + number * MINUTE + 2)
        world.flush(0)


def _make(world: World, level: str) -> None:
    for due in world.due():
        if due.startswith(level):
            world.make(due)


def _record(world: World, number: int) -> None:
    """Record a batch of a known series and of one that is unknown in a new world."""
    world.record(1, 7.0, {"a": "x"}, BASE + number * MINUTE + 3)
    world.record(1, 8.0, {"a": "new"}, BASE + HOUR + number * MINUTE + 3)
    world.flush(1)


def _record_and_seal(world: World, number: int) -> None:
    _record(world, number)
    while world.seal() is not Outcome.NOTHING:
        pass


INTRUDERS: dict[str, Callable[[World, int], object]] = {
    "recorded": _record,
    "sealed": _record_and_seal,
    "hours made": lambda world, _: _make(world, "hour"),
    "all made": lambda world, _: world.work(),
}


def worlds(stage: Stage, *, new: bool = False) -> Iterator[tuple[int, World]]:
    """Yield each position for an interruption and a world, *new* or the same; the caller stops."""
    world = started(stage, "histogram")
    try:
        for position in itertools.count():
            yield position, world
            if new:
                world.close()
                world = started(stage, "histogram")
    finally:
        world.close()


CUT = (BASE + 1, BASE + 2 * HOUR - 1)


@pytest.mark.parametrize(
    ("window", "intruder"),
    [*((None, name) for name in INTRUDERS), (CUT, "sealed"), (CUT, "all made")],
)
def test_a_query_interrupted_anywhere_reads_a_consistent_snapshot(
    stage_: Stage, window: Window | None, intruder: str
) -> None:
    for position, world in worlds(stage_, new=intruder == "recorded"):
        _prepare(world, position)
        asked = Reader(world, world.places["warm"])
        for _ in range(position + 1):
            asked.step(
                Move(0, 1, None, twice=False, window=window or (None, None), group_by=("a",))
            )
        if asked.done:
            break
        INTRUDERS[intruder](world, position)
        asked.finish()
        world.check_rollup(window)
    assert position > 10


WORKS: dict[str, Callable[[World], Operation[Any]]] = {
    "sealing": lambda world: world.sealing(),
    "making an hour": lambda world: world.making(_first(world, "hour")),
    "making a day": lambda world: world.making(_first(world, "day")),
}


def _first(world: World, level: str) -> str:
    return next(due for due in world.due() if due.startswith(level))


@pytest.mark.parametrize("intruder", ["sealed", "all made"])
@pytest.mark.parametrize("work", WORKS)
def test_an_operation_interrupted_anywhere_loses_and_duplicates_nothing(
    stage_: Stage, work: str, intruder: str
) -> None:
    for position, world in worlds(stage_):
        _prepare(world, position, hours_made=work == "making a day", in_log=work == "sealing")
        actor = Actor(stage_, WORKS[work](world))
        for _ in range(position + 1):
            actor.step(1)
        if actor.done:
            world.note_sealed()
            world.check_books()
            break
        INTRUDERS[intruder](world, position)
        actor.finish()
        world.note_sealed()
        world.check_rollup()
        world.work()
        world.check_rollup()
    assert position > 5


# -- a failover to an older state -----------------------------------------------------------------


class Replica:
    """The state of a replica; after a failover the world continues from there."""

    def __init__(self, world: World) -> None:
        self._redis, self._pattern = world.stage.redis, f"rm:{{{world.stage.namespace}:0}}:*"
        self._held = {
            key: (
                self._redis.execute_command("DUMP", key),
                max(self._redis.execute_command("PTTL", key), 0),
            )
            for key in self._redis.execute_command("KEYS", self._pattern)
        }

    def take_over(self) -> None:
        self._redis.execute_command("DEL", *self._redis.execute_command("KEYS", self._pattern))
        for key, (value, left_ms) in self._held.items():
            self._redis.execute_command("RESTORE", key, left_ms, value)


def _undone(world: World, actor: Actor, replica: Replica, intruder: str, *, later: bool) -> None:
    """Commit between two commands of *actor*; then fail over to a replica without that commit.

    The failover comes after the round trip, or before the commit of *actor*: not within a round
    trip, because that belongs to one connection.
    """
    if intruder == "sealed":
        world.run(world.sealing())
    for level in ("hour", "day") if intruder == "made" else ():
        for due in world.due():
            if due.startswith(level):
                world.run(world.making(due))
    actor.step(REST)
    while later and not (actor.commits or actor.done):
        actor.step(REST)
    replica.take_over()
    actor.finish()
    world.note_sealed()


@pytest.mark.parametrize(
    ("work", "intruder", "later"),
    [
        ("sealing", "sealed", False),
        ("sealing", "sealed", True),
        ("making an hour", "sealed", True),
        ("making an hour", "made", False),
        ("making a day", "made", False),
    ],
)
def test_a_worker_that_read_data_lost_in_a_failover_changes_nothing(
    stage_: Stage, work: str, intruder: str, later: bool
) -> None:
    for position, world in worlds(stage_):
        _prepare(
            world,
            position,
            is_sealed=work != "sealing" or intruder == "made",
            hours_made=work == "making a day",
        )
        replica, actor = Replica(world), Actor(stage_, WORKS[work](world))
        for _ in range(position):
            actor.step(1)
        if actor.commits:
            world.check_books()
            break
        _undone(world, actor, replica, intruder, later=later)
        world.check_rollup()
        world.work()
        world.check_rollup()
    assert position > 5


@pytest.mark.parametrize("intruder", ["sealed", "made"])
def test_a_query_that_read_data_lost_in_a_failover_is_repeated(
    stage_: Stage, intruder: str
) -> None:
    for position, world in worlds(stage_):
        _prepare(world, position, is_sealed=intruder == "made")
        replica = Replica(world)
        actor = Actor(stage_, world.rollup(world.places["warm"], None, ("a",)))
        for _ in range(position):
            actor.step(1)
        if actor.done:
            break
        _undone(world, actor, replica, intruder, later=False)
        world.judge_rollup(actor.result, world.entries, ("a",))
        world.check_rollup()
    assert position > 10
