"""A worker: it seals the log into minutes, folds changes, and builds coarser slots."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tests.system.protocol.actor import Actor, Steps, pipeline, reading
from tests.system.protocol.commit_script import commit, fold
from tests.system.protocol.messages import Commit, Fold
from tests.system.protocol.metric import Version
from tests.system.protocol.node import Node
from tests.system.protocol.rules import Rule
from tests.system.protocol.samples import GAUGE, MAIN, Entry, Rows, merged
from tests.system.protocol.slots import (
    BUDGET,
    FINER,
    MINUTE,
    WIDTH,
    Cell,
    Key,
    align,
    chunk_of,
    key_of,
    past,
)
from tests.system.protocol.store import Store
from tests.system.protocol.totals import folded, known_first

if TYPE_CHECKING:
    from tests.system.protocol.runs import Run

T = TypeVar("T")

# Blocks that a worker seals at once, or changes that it folds; and the most coarser slots that it
# builds in between.
SLICE = 3
BUILDS = 3


class Left(NamedTuple):
    """What a worker knows of the data as its last commit left it, at the version it wrote."""

    version: Version
    sealed: int
    cells: dict[Cell, Rows]
    written: frozenset[Key]


class Worker(Actor):
    """A worker: correct whatever the other worker does, and whatever its own clock says."""

    def __init__(self, run: "Run", name: str, store: Store, version: int) -> None:
        super().__init__(run, name, store)
        self.version = version
        self.left: Left | None = None
        self.ahead = self.draw.choice([0, 0, run.faults.skew])

    def steps(self) -> Steps[None]:
        while True:
            yield from self._seal()
            yield
            yield from self._fold(self.draw.choice((MAIN, GAUGE)))
            yield
            for _ in range(self.draw.choice([0, 1, BUILDS])):
                if self.draw.random() < self.run.faults.deaths:
                    self.log("dies, and is started again")
                    self.left = None
                    break
                yield from self._build()
                yield

    def _read(
        self, version: Version, reads: Sequence[Callable[[Node], T]]
    ) -> Steps[list[T] | None]:
        """Return the results of a pipeline; None if there was a commit since *version*."""
        versions, results = yield from pipeline(self.store, reads)
        return None if Rule.WORKER_BRACKET in self.rules and versions != {version} else results

    def _seal(self) -> Steps[None]:
        look = self.store.look()
        left = self.left
        if left is None or (Rule.OWN_VERSION in self.rules and look.version != left.version):
            left = self.left = None
            yield
        # What is as this worker left it is not read: only the log, together with the version.
        sealed = look.sealed if left is None else left.sealed
        found = yield from self._read(look.version, [lambda node: node.log_after(sealed)[:SLICE]])
        if not found or not found[0]:
            return
        blocks = found[0]
        yield
        new: defaultdict[Cell, list[Entry]] = defaultdict(list)
        dropped = []
        for entry in [entry for block in blocks for entry in block.rows]:
            cell = ("minute", align(entry.time, MINUTE), chunk_of(entry.series))
            if Rule.AGE_AT_SEALING in self.rules and past(key_of(cell), look.time):
                dropped.append(entry.sample)
            else:
                new[cell].append(entry)
        cells = [*new, *(("raw", slot, chunk) for _, slot, chunk in new)]
        before = {} if left is None else dict(left.cells)
        if not before.keys() >= set(cells):
            reads = [reading(cell, self.rules) for cell in cells]
            held = yield from self._read(look.version, reads)
            if held is None:
                return
            before = dict(zip(cells, held, strict=True))
        rows = {}
        for cell, entries in new.items():
            raw: Cell = ("raw", *cell[1:])
            rows[cell] = merged(before[cell], entries)
            rows[raw] = within_budget(merged(before[raw], entries))
        mark = {
            (resolution, align(slot, WIDTH[resolution]), chunk)
            for _, slot, chunk in new
            for resolution in FINER
        }
        # As if a slot never became due again after it was built.
        if Rule.MARK not in self.rules:
            mark = {
                cell
                for cell in mark
                if cell[0] == "span" or not self.store.primary.row(cell, self.rules)
            }
        yield
        done = commit(
            self.store,
            Commit(
                look.version,
                rows,
                tuple(blocks),
                tuple(dropped),
                frozenset(mark),
                kept=frozenset() if left is None else left.written,
            ),
        )
        if done:
            self.left = Left(
                self.store.primary.version,
                blocks[-1].clock,
                {**(left.cells if left else {}), **rows},
                frozenset(map(key_of, rows)),
            )
        sealed = "seals", dict(new), "to", blocks[-1].clock, "too late", dropped
        self.log(*sealed, "of", look.version[0], "->", done)

    def _fold(self, name: str) -> Steps[None]:
        """Read the oldest changes, then the rows that they touch; replace both by the new rows."""
        if self.run.faults.no_worker_folds:
            return
        node = self.store.primary
        version = node.metrics[name].version
        # The version is in another key than the changes, and is read before them.
        if self.draw.random() < 0.15:
            yield
        first, waiting = node.metrics[name].first, node.metrics[name].changes[:SLICE]
        changes = known_first(waiting, self.version)
        if changes != waiting:
            self.store.left += 1
            if Rule.UNKNOWN_KIND_STAYS not in self.rules:
                changes = waiting
        if not changes:
            return
        yield
        metric = self.store.primary.metrics[name]
        totals = metric.read()
        if Rule.SAME_VERSION in self.rules and metric.version != version:
            return
        if Rule.FIRST_WITH_ROWS in self.rules:
            # Another server, where older changes wait.
            if totals.first < first:
                return
            # The rows contain what was folded meanwhile.
            changes, first = changes[totals.first - first :], totals.first
            if not changes:
                return
        yield
        known = [change for change in changes if change.kind <= self.version]
        fields = folded(totals.base, known)
        done = fold(self.store, Fold(name, version, first, changes, fields))
        self.log("folds", name, [change.stamp for change in changes], "from", first, "->", done)

    def _build(self) -> Steps[None]:
        look, now = self.store.look(), self.store.now + self.ahead
        yield
        ready = sorted(cell for cell, due in look.due.items() if due <= now)
        if Rule.FINER_FIRST in self.rules:
            ready = [cell for cell in ready if not finer_due(cell, look.due)]
        if not ready:
            return
        built = self.draw.choice(ready)
        resolution, start, chunk = built
        finer = FINER[resolution]
        merged_resolutions = ["minute", "raw"] if finer == "minute" else [finer]
        slots = range(start, start + WIDTH[resolution], WIDTH[finer])
        cells = [(each, slot, chunk) for each in merged_resolutions for slot in slots]
        found = yield from self._read(look.version, [reading(cell, self.rules) for cell in cells])
        if found is None:
            return
        segments: dict[str, dict[int, Rows]] = {each: {} for each in merged_resolutions}
        for (each, slot, _), inside in zip(cells, found, strict=True):
            if inside:
                segments[each][slot] = inside
        row = merged(*segments[finer].values())
        written = resolution != "span" and (
            Rule.BUILT_THOUGH_PAST in self.rules or not past(key_of(built), look.time)
        )
        yield
        done = commit(
            self.store,
            Commit(look.version, {built: row} if written else {}, built=built, segments=segments),
        )
        self.log("builds", built, row, "of", look.version[0], "->", done)


def finer_due(cell: Cell, due: Iterable[Cell]) -> bool:
    """Return True if a finer slot of the same chunk inside this one is due."""
    resolution, start, chunk = cell
    inside = range(start, start + WIDTH[resolution])
    return any(
        WIDTH[other] < WIDTH[resolution] and slot in inside and of == chunk
        for other, slot, of in due
    )


def within_budget(rows: Rows) -> Rows:
    counts = Counter(entry.series for entry in rows)
    return tuple(entry for entry in rows if counts[entry.series] <= BUDGET)
