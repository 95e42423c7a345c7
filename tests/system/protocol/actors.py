"""Writers, workers, readers and a pruner. At each `yield` others may run and time may pass."""

from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tests.system.protocol.oracle import Oracle
from tests.system.protocol.protocol import (
    BUDGET,
    DAY,
    FINER,
    HOUR,
    MAX_AGE,
    MAX_FUTURE,
    MINUTE,
    READING,
    RETENTION,
    SPAN,
    WIDTH,
    Batch,
    Cell,
    Commit,
    Entry,
    Look,
    Node,
    Reply,
    Rows,
    Rule,
    Sample,
    Store,
    Version,
    align,
    chunk_of,
    key_of,
    merged,
    nothing_kept,
    past,
)

if TYPE_CHECKING:
    from tests.system.protocol.runs import Run

T = TypeVar("T")

Steps = Generator[None, None, T]
Read = Callable[[Node], Rows]
Window = tuple[int, int]

# Blocks that a worker seals at once, and the most coarser slots it builds in between.
SLICE = 3
BUILDS = 3


def pipeline(
    store: Store, reads: list[Read], replica: bool = False
) -> Steps[tuple[set[Version], list[Rows]]]:
    """Do several reads on one connection; return the versions before and after, and the results.

    Others may run in between. The connection stays with its server, also after a failover, when
    nothing writes to that server any more. So the version never goes back within a pipeline.
    """
    primary = store.primary
    before = (store.replica if replica else primary).version
    results = []
    for read in reads:
        if store.draw.random() < 0.15:
            yield
        results.append(read(store.replica if replica else primary))
    return {before, (store.replica if replica else primary).version}, results


def reading(cell: Cell, rules: frozenset[Rule]) -> Read:
    return lambda node: node.row(cell, rules)


class Actor:
    """A process in a run."""

    def __init__(self, run: "Run", name: str) -> None:
        self.run = run
        self.name = name
        self.store = run.store
        self.rules = run.rules
        self.draw = run.draw

    def steps(self) -> Steps[None]:
        raise NotImplementedError

    def log(self, *words: object) -> None:
        self.run.log(self.name, *words)


class Writer(Actor):
    """A recording process: repeats each batch until it is confirmed, then sends the next."""

    def __init__(self, run: "Run", name: str) -> None:
        super().__init__(run, name)
        self.sequence = self.confirmed = 0
        self.ids: dict[str, int] = {}
        # Ticks by which its clock is behind.
        self.behind = 0

    @property
    def now(self) -> int:
        return self.store.now - self.behind

    def steps(self) -> Steps[None]:
        while not self.run.resting:
            if self.draw.random() >= self.run.faults.idleness:
                yield from self._send(
                    [self.run.new_sample() for _ in range(self.draw.choice([1, 1, 2]))]
                )
            yield

    def _send(self, samples: list[Sample]) -> Steps[None]:
        """Send samples; if they are rejected for a reason that can be fixed, send them again."""
        samples = self._kept("too_old", samples, self.now - MAX_AGE)
        while samples:
            reply, repeated = yield from self._confirmed_reply(samples)
            if reply is None:
                return
            if reply.held < self.confirmed:
                self.ids.clear()
            self.confirmed = self.sequence
            if reply.outcome == "stored":
                self.ids.update(reply.ids)
                return
            if reply.outcome == "unknown_series":
                self.ids.clear()
            elif reply.outcome == "too_old":
                # A server forgets a writer only when all samples of its last batch are too old.
                unknown = repeated and Rule.UNCONFIRMED_IS_UNKNOWN in self.rules
                samples = self._kept(
                    "unknown" if unknown else "too_old", samples, reply.time - MAX_AGE
                )
            else:
                self.run.count(reply.outcome, samples)
                return
            yield

    def _kept(self, reason: str, samples: list[Sample], oldest: int) -> list[Sample]:
        """Return the samples from *oldest* on; count the others."""
        self.run.count(reason, [sample for sample in samples if sample.time < oldest])
        return [sample for sample in samples if sample.time >= oldest]

    def _confirmed_reply(self, samples: list[Sample]) -> Steps[tuple[Reply | None, bool]]:
        """Send a batch until a reply arrives.

        Returns the reply, or None if the batch is given up; and whether it was repeated.
        """
        self.sequence += 1
        entries = tuple((self.ids.get(sample.tags, sample.tags), sample) for sample in samples)
        batch = Batch(self.name, self.sequence, self.confirmed, entries)
        began = self.now
        repeated = False
        while True:
            reply = self.store.record(batch)
            self.log(
                "sends", batch.sequence, batch.entries, "->", reply.outcome, "held", reply.held
            )
            if self.draw.random() >= self.run.faults.lost_replies:
                return reply, repeated
            self.log("gets no reply")
            repeated = True
            yield
            if self.draw.random() < self.run.faults.setbacks:
                self.behind += self.now - began
                self.log("has its clock set back")
            if Rule.FIXED_BATCH not in self.rules:
                more = self.run.new_sample()
                samples.append(more)
                batch = batch._replace(entries=(*batch.entries, (more.tags, more)))
            if self.now - began > MAX_AGE + MAX_FUTURE:
                self.log("gives up", batch.sequence)
                self.run.count("unknown", samples)
                if Rule.GIVEN_UP_FORGETS in self.rules:
                    self.ids.clear()
                return None, repeated


class Worker(Actor):
    """Seals the log into minutes and builds coarser slots.

    It is correct whatever the other worker does, and whatever its own clock says.
    """

    def __init__(self, run: "Run", name: str) -> None:
        super().__init__(run, name)
        self.ahead = self.draw.choice([0, 0, run.faults.skew])

    def steps(self) -> Steps[None]:
        while True:
            yield from self._seal()
            yield
            for _ in range(self.draw.choice([0, 1, BUILDS])):
                if self.draw.random() < self.run.faults.deaths:
                    self.log("dies, and is started again")
                    break
                yield from self._build()
                yield

    def _read(self, version: Version, reads: list[Read]) -> Steps[list[Rows] | None]:
        """Return the results of a pipeline; None if there was a commit since *version*."""
        versions, results = yield from pipeline(self.store, reads)
        return None if Rule.WORKER_BRACKET in self.rules and versions != {version} else results

    def _seal(self) -> Steps[None]:
        look = self.store.look()
        yield
        version, blocks = (
            self.store.primary.version,
            self.store.primary.log_after(look.sealed)[:SLICE],
        )
        if not blocks or (Rule.WORKER_BRACKET in self.rules and version != look.version):
            return
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
        held = yield from self._read(look.version, [reading(cell, self.rules) for cell in cells])
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
        done = self.store.commit(
            Commit(look.version, rows, tuple(blocks), tuple(dropped), frozenset(mark))
        )
        self.log(
            "seals",
            dict(new),
            "to",
            blocks[-1].clock,
            "too late",
            dropped,
            "of",
            look.version[0],
            "->",
            done,
        )

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
        done = self.store.commit(
            Commit(look.version, {built: row} if written else {}, built=built, segments=segments)
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


class Pruner(Actor):
    """Removes series of which nothing is kept, and writers that are gone."""

    def steps(self) -> Steps[None]:
        while True:
            look = self.store.look()
            idle = [
                (tags, series)
                for series, tags in look.tags.items()
                if nothing_kept(look.seen[series], look.time)
            ]
            yield
            for tags, series in idle:
                self.log("removes", tags, series, "->", self.store.prune_series(tags, series))
            self.store.prune_writers()
            yield


class Piece(NamedTuple):
    """A slot that a window reads. *cut* marks a minute that is only partly inside the window."""

    cell: Cell
    cut: bool


def plan(window: Window, chunk: int, look: Look, rules: frozenset[Rule]) -> list[Piece]:
    """Return the slots of a chunk for a window: the coarsest that fit, or the finest still kept."""
    since, until = window

    def answers(resolution: str, at: int) -> bool:
        slot = align(at, WIDTH[resolution])
        after = slot + WIDTH[resolution]
        is_due = (
            (resolution, slot, chunk) in look.due if Rule.DUE_UNREAD in rules else after > look.time
        )
        return not is_due and (
            (since <= slot and after <= until) or past((FINER[resolution], slot), look.time)
        )

    pieces = []
    at = since
    while at < until:
        resolution = next(
            (resolution for resolution in ("day", "hour") if answers(resolution, at)), "minute"
        )
        slot = align(at, WIDTH[resolution])
        at = slot + WIDTH[resolution]
        cut = resolution == "minute" and (slot < since or at > until)
        # Otherwise it belongs to the window that contains its start.
        if cut or slot >= since:
            pieces.append(Piece((resolution, slot, chunk), cut))
    return pieces


def chosen(
    piece: Piece, window: Window, found: dict[Cell, Rows], rules: frozenset[Rule]
) -> Iterator[Entry]:
    """Yield the entries of a piece that belong to a window."""
    rows = found[piece.cell]
    if not piece.cut:
        yield from rows
        return
    since, until = window
    _, slot, chunk = piece.cell
    for series in {entry.series for entry in rows}:
        whole = [entry for entry in rows if entry.series == series]
        exact = [entry for entry in found["raw", slot, chunk] if entry.series == series]
        if len(exact) == len(whole) or (exact and Rule.EXACT_ONLY_IF_WHOLE not in rules):
            yield from (entry for entry in exact if since <= entry.time < until)
        elif since <= slot < until:
            yield from whole


class Reader(Actor):
    """Queries adjacent windows, as a time series does, on the server or its replica.

    The oracle judges the result.
    """

    def steps(self) -> Steps[None]:
        while True:
            yield from self._ask()
            yield

    def _ask(self) -> Steps[None]:
        store, rules = self.store, self.rules
        replica = self.draw.random() < 0.3
        look, node = store.look(replica), store.node(replica)
        recorded, dropped = dict(node.recorded), node.dropped
        began, failovers = store.now, store.failovers
        edges = self._edges(look.time)
        windows = list(pairwise(edges))
        chunks = sorted({chunk_of(series) for series in look.tags})
        plans = [
            [piece for chunk in chunks for piece in plan(window, chunk, look, rules)]
            for window in windows
        ]
        pieces = {piece for planned in plans for piece in planned}
        cells = sorted(
            {piece.cell for piece in pieces}
            | {("raw", *piece.cell[1:]) for piece in pieces if piece.cut}
        )
        yield
        reads = [reading(cell, rules) for cell in cells]
        reads.append(lambda node: merged(*(block.rows for block in node.log_after(look.sealed))))
        versions, results = yield from pipeline(store, reads, replica)
        if (
            (Rule.WHOLE_READ in rules and len(versions) > 1)
            or (Rule.SAME_AS_PLANNED in rules and look.version not in versions)
            or (Rule.MARGIN in rules and store.now - began > READING)
            # What was recorded when this began may be lost.
            or store.failovers != failovers
        ):
            return
        found, unsealed = dict(zip(cells, results, strict=False)), results[-1]
        answer = []
        for window, planned in zip(windows, plans, strict=True):
            entries = [entry for piece in planned for entry in chosen(piece, window, found, rules)]
            entries += [entry for entry in unsealed if window[0] <= entry.time < window[1]]
            answer.append(
                [
                    (entry.sample, look.tags[entry.series])
                    for entry in entries
                    if entry.series in look.tags
                ]
            )
        self.run.reads += 1
        node = store.node(replica)
        oracle = Oracle(recorded, dropped, node.recorded, node.dropped, look.time)
        for wrong in oracle.judge(windows, answer):
            self.run.violated("READ", f"{self.name} asks {edges} at {look.time}: {wrong}")

    def _edges(self, time: int) -> list[int]:
        """Return edges of windows: aligned to slots or not, near samples or ends of retention.

        None is before everything that is kept.
        """
        edges = set()
        for _ in range(self.draw.choice([2, 2, 3, 4])):
            if self.run.samples and self.draw.random() < 0.6:
                at = self.draw.choice(self.run.samples).time
            else:
                kept = self.draw.choice(
                    [0, RETENTION["raw"], RETENTION["minute"], RETENTION["hour"]]
                )
                at = time - kept - self.draw.randrange(-MINUTE, DAY)
            edges.add(align(at, self.draw.choice([1, MINUTE, HOUR, DAY])))
        oldest = align(time, SPAN)
        while not past(("day", oldest - SPAN), time):
            oldest -= SPAN
        return sorted(edge for edge in edges if edge >= oldest)
