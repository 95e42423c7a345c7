"""A model of two archivers that write one slot to ClickHouse, in all orders of their steps.

Both believe that they have the lease: the worst case, in which one of them was stopped for longer
than its lease lasts. The rules are those of `redismetrics.archive.clickhouse`:

1. A run is higher than all before it, and no two are equal: `Rules.unique`.
2. Rows and progress carry the run, and those of the highest run count: `Rules.by_run`.
3. Progress is saved after the rows that it is about: `Rules.rows_first`.
4. An archiver whose run is not the highest writes nothing more, as far as it can tell: it looks
   before each insert, but another one may claim the group in between. `Rules.checked`.

`explore` returns the orders after which a third archiver, which works alone, leaves a row that is
not what Redis holds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Rules:
    """What holds; set one to False to break it."""

    unique: bool = True
    by_run: bool = True
    rows_first: bool = True
    checked: bool = True


class Written(NamedTuple):
    """A row or the progress of the metric: what it says, and the run that wrote it."""

    run: int = 0
    content: int = 0


class Archiver(NamedTuple):
    """Where one archiver is. A killed archiver is one that takes no further step."""

    step: int = 0
    run: int = 0
    known: int = 0
    content: int = 0


class World(NamedTuple):
    """All that is shared, and both archivers.

    *content* is what Redis holds of the slot: a number that rises with each late sample.
    """

    content: int = 1
    highest: int = 0
    row: Written = Written()
    progress: Written = Written()
    archivers: tuple[Archiver, ...] = (Archiver(), Archiver())


DONE = 99
# Late samples.
LATE = 2
# Runs are counted up by this, so that a number of the archiver's own fits in between.
STRIDE = 10


def replaced(old: Written, new: Written, rules: Rules) -> Written:
    """Return which of two rows with the same key counts; *new* was inserted last."""
    return old if rules.by_run and old.run > new.run else new


def step(world: World, number: int, rules: Rules) -> World:
    """Return the world after the next step of an archiver."""
    me = world.archivers[number]
    highest, row, progress = world.highest, world.row, world.progress
    match me.step:
        case 0:
            # Read the highest run and choose the next. Of two that do so at the same time, the one
            # that inserts its run first may have the higher one.
            drawn = len(world.archivers) - number if rules.unique else 0
            me = me._replace(step=1, run=(highest // STRIDE + 1) * STRIDE + drawn)
        case 1:
            highest = max(highest, me.run)
            me = me._replace(step=2)
        case 2:
            me = me._replace(step=3, known=progress.content)
        case 3:
            same = world.content == me.known
            me = me._replace(step=DONE if same else 4, content=world.content)
        case 4 | 6:
            # Look whether another archiver has taken over.
            lost = rules.checked and highest != me.run
            me = me._replace(step=DONE if lost else me.step + 1)
        case 5 | 7:
            mine = Written(me.run, me.content)
            if (me.step == 5) == rules.rows_first:
                row = replaced(row, mine, rules)
            else:
                progress = replaced(progress, mine, rules)
            me = me._replace(step=6 if me.step == 5 else DONE)
    archivers = tuple(me if each == number else old for each, old in enumerate(world.archivers))
    return World(world.content, highest, row, progress, archivers)


def next_worlds(world: World, rules: Rules) -> Iterator[World]:
    """Yield what may come next: a step of an archiver, or a late sample."""
    for number, archiver in enumerate(world.archivers):
        if archiver.step != DONE:
            yield step(world, number, rules)
    if world.content <= LATE:
        yield world._replace(content=world.content + 1)


def explore(rules: Rules) -> tuple[int, list[World]]:
    """Return the number of worlds, and those that end wrong, also after a kill at any step."""
    seen, waiting, wrong = {World()}, [World()], []
    while waiting:
        world = waiting.pop()
        alone = world._replace(archivers=(Archiver(),))
        while alone.archivers[0].step != DONE:
            alone = step(alone, 0, rules)
        if alone.row.content != alone.content:
            wrong.append(world)
        for each in next_worlds(world, rules):
            if each not in seen:
                seen.add(each)
                waiting.append(each)
    return len(seen), wrong
