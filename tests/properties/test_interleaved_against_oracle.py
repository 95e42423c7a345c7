"""Two workers and two readers at once, any other command between any two of one: nothing is lost, doubled or seen half done.

Their generators are driven by hand, command by command and not even trip by trip, since a pipeline is no transaction.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redismetrics import commits
from redismetrics.commits import Outcome
from redismetrics.drive import Command, Operation, run
from redismetrics.model import MetricType
from redismetrics.operations import Place
from redismetrics.slots import HOUR, MINUTE
from tests.properties.test_sealed_against_oracle import (
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
from tests.properties.world import Stage, Window, World

__all__ = ["stage_"]  # the fixture

REST = 99  # more commands than any trip has


class Actor:
    """One who works or reads: an operation that is sent a few commands at a time."""

    def __init__(self, stage: Stage, operation: Operation[Any]) -> None:
        self.stage, self.operation = stage, operation
        self.done, self.result = False, None
        self._replies: list[Any] = []
        self._commands: list[Command] = next(operation)

    def step(self, commands: int, *, twice: bool = False) -> None:
        """Send so many of this trip's commands, scripts *twice*, as after a lost reply."""
        for _ in range(min(commands, len(self._commands) - len(self._replies))):
            command = self._commands[len(self._replies)]
            for _ in range(1 + (twice and command[0] == "EVALSHA")):
                reply = run(self.stage.redis, _one(command))
            self._replies.append(reply)
        if len(self._replies) < len(self._commands):
            return
        try:
            replies, self._replies = self._replies, []
            self._commands = self.operation.send(replies)
        except StopIteration as ended:
            self.done, self.result = True, ended.value

    def finish(self) -> None:
        while not self.done:
            self.step(REST)


def _one(command: Command) -> Operation[Any]:
    (reply,) = yield [command]
    return reply


class Reader:
    """Asks one question after another; each answer is that of the batches up to one of those that came meanwhile."""

    def __init__(self, world: World, place: Place) -> None:
        self.world, self.place = world, place
        self._actor: Actor | None = None
        self._window: Window | None = None
        self._group_by: tuple[str, ...] = ()
        self._before = 0

    def step(self, move: "Move") -> None:
        if self._actor is None:
            self._window, self._group_by, self._before = move.window, move.group_by, len(self.world.clocks)
            self._actor = Actor(self.world.stage, self.world.rollup(self.place, move.window, move.group_by))
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
                self.world.judge_rollup(found, [entry for entry in inside if entry.flush <= seen], self._group_by)
            except AssertionError as error:
                failed = error
            else:
                return
        raise failed


class Worker:
    """Does one piece of work after another."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._actor: Actor | None = None

    def step(self, move: "Move") -> None:
        if self._actor is None:
            due = self.world.due() if move.number is not None else []
            work = (
                commits.make(self.world.metric, due[move.number % len(due)]) if due else commits.seal(self.world.metric)
            )
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
    """One of the workers (0, 1), the readers (2, 3) or the recorders (4) does the next thing."""

    who: int
    commands: int
    number: int | None
    twice: bool
    window: Window
    group_by: tuple[str, ...]


COMMANDS = st.sampled_from([1, 2, 3, REST, REST, REST])
NUMBERS = st.none() | st.integers(0, 30)
MOVES = st.builds(
    Move, st.integers(0, 4), COMMANDS, NUMBERS, st.sampled_from([False, False, False, True]), WINDOWS,
    st.sampled_from(GROUPINGS),
)  # fmt: skip


def records(kind: MetricType) -> st.SearchStrategy[tuple[float, dict[str, str], int]]:
    times = st.builds(
        lambda hour, minute, ms: BASE + hour * HOUR + minute * MINUTE + ms,
        st.sampled_from([0, 0, 1, 24]), st.sampled_from([0, 59]), st.sampled_from([0, 1, 59_999]),
    )  # fmt: skip
    return st.tuples(VALUES[kind], TAGS, times)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(data=st.data())
def test_whoever_comes_between_whom_nothing_is_lost_doubled_or_seen_half_done(
    stage_: Stage, kind: MetricType, data: st.DataObject
) -> None:
    world = started(stage_, kind)
    try:
        before: list[Step] = data.draw(steps(kind, 0).map(lambda found: found[:6]))
        for step in before:
            play(world, step)
        warm = world.places["warm"]
        actors: list[Worker | Reader] = [Worker(world), Worker(world), Reader(world, warm), Reader(world, warm)]
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


# -- one whole piece of work between any two commands ------------------------------------------------------------


def _prepare(world: World, number: int, made: str) -> None:
    """Late samples of two hours of the same day: sealed, or with their hours made; and another in the log."""
    for at in range(2):
        world.record(0, 1.0 + at, {"a": "xy"[at]}, BASE + at * HOUR + number * MINUTE)
    world.flush(0)
    world.work()
    for at in range(2):
        world.record(0, 3.0 + at, {"a": "xy"[at]}, BASE + at * HOUR + number * MINUTE + 1)
    world.flush(0)
    while world.seal() is Outcome.MORE:
        pass
    if made == "hours":
        _make(world, "hour")
    if made == "log":
        world.record(0, 5.0, {"a": "x"}, BASE + number * MINUTE + 2)
        world.flush(0)


def _make(world: World, level: str) -> None:
    for due in world.due():
        if due.startswith(level):
            world.make(due)


def _record(world: World, number: int) -> None:
    """A batch of a series that is known and of one that is not."""
    world.record(1, 7.0, {"a": "x"}, BASE + number * MINUTE + 3)
    world.record(1, 8.0, {"a": f"new{number}"}, BASE + HOUR + number * MINUTE + 3)
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


@pytest.mark.parametrize("intruder", INTRUDERS)
@pytest.mark.parametrize("window", [None, (BASE + 1, BASE + 2 * HOUR - 1)], ids=["open", "cut"])
def test_a_question_is_answered_from_one_moment_wherever_another_comes_in_between(
    stage_: Stage, window: Window | None, intruder: str
) -> None:
    world = started(stage_, "histogram")
    try:
        for position in itertools.count():
            _prepare(world, position, "log")
            asked = Reader(world, world.places["warm"])
            for _ in range(position + 1):
                asked.step(Move(0, 1, None, twice=False, window=window or (None, None), group_by=("a",)))
            if asked.done:
                break
            INTRUDERS[intruder](world, position)
            asked.finish()
        assert position > 10
        world.check_rollup(window)
    finally:
        world.close()


WORKS: dict[str, tuple[str, Callable[[World], Operation[Any]]]] = {
    "sealing": ("log", lambda world: commits.seal(world.metric)),
    "making an hour": ("minutes", lambda world: commits.make(world.metric, _first(world, "hour"))),
    "making a day": ("hours", lambda world: commits.make(world.metric, _first(world, "day"))),
}


def _first(world: World, level: str) -> str:
    return next(due for due in world.due() if due.startswith(level))


@pytest.mark.parametrize("intruder", INTRUDERS)
@pytest.mark.parametrize("work", WORKS)
def test_a_piece_of_work_loses_and_doubles_nothing_wherever_another_comes_in_between(
    stage_: Stage, work: str, intruder: str
) -> None:
    world = started(stage_, "histogram")
    made, operation = WORKS[work]
    try:
        for position in itertools.count():
            _prepare(world, position, made)
            actor = Actor(stage_, operation(world))
            for _ in range(position + 1):
                actor.step(1)
            if actor.done:
                break
            INTRUDERS[intruder](world, position)
            actor.finish()
            world.note_sealed()
            world.check_rollup()
            world.work()
            world.check_rollup()
            world.check_books()
        assert position > 5
    finally:
        world.close()
