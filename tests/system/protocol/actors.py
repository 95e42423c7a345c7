"""Who uses the store: writers, workers, readers and a pruner. At each `yield` any other may run, and time may pass."""

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
    Commit,
    Entry,
    Look,
    Node,
    Place,
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

SLICE = 3  # blocks that a worker seals at once
MAKES = 3  # coarse slots that it makes between, at most


def pipeline(
    store: Store, reads: list[Read], replica: bool = False
) -> Steps[tuple[set[Version], list[Rows]]]:
    """Several reads on one connection, between which others may run; and the versions at both ends.

    The connection stays with its server: after a failover that is the old one, which nobody writes to any more. So what the
    versions of one pipeline tell never goes back.
    """
    primary = store.primary
    before = (store.replica if replica else primary).version
    results = []
    for read in reads:
        if store.draw.random() < 0.15:
            yield
        results.append(read(store.replica if replica else primary))
    return {before, (store.replica if replica else primary).version}, results


def reading(place: Place, rules: frozenset[Rule]) -> Read:
    return lambda node: node.row(place, rules)


class Actor:
    """Somebody with a name in a run."""

    def __init__(self, run: "Run", name: str) -> None:
        self.run = run
        self.name = name
        self.store = run.store
        self.rules = run.rules
        self.draw = run.draw

    def steps(self) -> Steps[None]:
        raise NotImplementedError

    def tell(self, *words: object) -> None:
        self.run.tell(self.name, *words)


class Writer(Actor):
    """One recording process: repeats each batch until it is confirmed, and sends the next one then."""

    def __init__(self, run: "Run", name: str) -> None:
        super().__init__(run, name)
        self.sequence = self.confirmed = 0
        self.ids: dict[str, int] = {}
        self.behind = 0  # its clock

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
        """Send samples, and again under a new number what was refused for a reason that can be mended."""
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
                # The server forgets a writer once all samples of its last batch are too old, and not before.
                unknown = repeated and Rule.DOUBT_IS_UNKNOWN in self.rules
                samples = self._kept(
                    "unknown" if unknown else "too_old", samples, reply.time - MAX_AGE
                )
            else:
                self.run.count(reply.outcome, samples)
                return
            yield

    def _kept(self, reason: str, samples: list[Sample], oldest: int) -> list[Sample]:
        """The samples from *oldest* on; the others are counted."""
        self.run.count(reason, [sample for sample in samples if sample.time < oldest])
        return [sample for sample in samples if sample.time >= oldest]

    def _confirmed_reply(self, samples: list[Sample]) -> Steps[tuple[Reply | None, bool]]:
        """Send a batch until a reply comes: that, or None when it is given up; and whether it was repeated."""
        self.sequence += 1
        entries = tuple((self.ids.get(sample.tags, sample.tags), sample) for sample in samples)
        batch = Batch(self.name, self.sequence, self.confirmed, entries)
        began = self.now
        repeated = False
        while True:
            reply = self.store.record(batch)
            self.tell(
                "sends", batch.sequence, batch.entries, "->", reply.outcome, "held", reply.held
            )
            if self.draw.random() >= self.run.faults.lost_replies:
                return reply, repeated
            self.tell("gets no reply")
            repeated = True
            yield
            if self.draw.random() < self.run.faults.setbacks:
                self.behind += self.now - began
                self.tell("has its clock set back")
            if Rule.FIXED_BATCH not in self.rules:
                more = self.run.new_sample()
                samples.append(more)
                batch = batch._replace(entries=(*batch.entries, (more.tags, more)))
            if self.now - began > MAX_AGE + MAX_FUTURE:
                self.tell("gives up", batch.sequence)
                self.run.count("unknown", samples)
                if Rule.GIVEN_UP_FORGETS in self.rules:
                    self.ids.clear()
                return None, repeated


class Worker(Actor):
    """Seals the log into minutes and makes coarse slots. Correct whatever the other one does, and whatever its own clock says."""

    def __init__(self, run: "Run", name: str) -> None:
        super().__init__(run, name)
        self.ahead = self.draw.choice([0, 0, run.faults.skew])

    def steps(self) -> Steps[None]:
        while True:
            yield from self._seal()
            yield
            for _ in range(self.draw.choice([0, 1, MAKES])):
                if self.draw.random() < self.run.faults.deaths:
                    self.tell("dies, and is started again")
                    break
                yield from self._make()
                yield

    def _read(self, version: Version, reads: list[Read]) -> Steps[list[Rows] | None]:
        """The results of a pipeline; None where something was committed since *version*."""
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
        new: defaultdict[Place, list[Entry]] = defaultdict(list)
        dropped = []
        for entry in [entry for block in blocks for entry in block.rows]:
            place = ("minute", align(entry.time, MINUTE), chunk_of(entry.series))
            if Rule.AGE_AT_SEALING in self.rules and past(key_of(place), look.time):
                dropped.append(entry.sample)
            else:
                new[place].append(entry)
        places = [*new, *(("raw", slot, chunk) for _, slot, chunk in new)]
        held = yield from self._read(look.version, [reading(place, self.rules) for place in places])
        if held is None:
            return
        before = dict(zip(places, held, strict=True))
        rows = {}
        for place, entries in new.items():
            raw: Place = ("raw", *place[1:])
            rows[place] = merged(before[place], entries)
            rows[raw] = within_budget(merged(before[raw], entries))
        mark = {
            (level, align(slot, WIDTH[level]), chunk) for _, slot, chunk in new for level in FINER
        }
        if Rule.MARK not in self.rules:  # as if a slot that was made were done with
            mark = {
                place
                for place in mark
                if place[0] == "span" or not self.store.primary.row(place, self.rules)
            }
        yield
        done = self.store.commit(
            Commit(look.version, rows, tuple(blocks), tuple(dropped), frozenset(mark))
        )
        self.tell(
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

    def _make(self) -> Steps[None]:
        look, now = self.store.look(), self.store.now + self.ahead
        yield
        ready = sorted(place for place, due in look.due.items() if due <= now)
        if Rule.FINER_FIRST in self.rules:
            ready = [place for place in ready if not finer_due(place, look.due)]
        if not ready:
            return
        made = self.draw.choice(ready)
        level, start, chunk = made
        finer = FINER[level]
        folded = ["minute", "raw"] if finer == "minute" else [finer]
        slots = range(start, start + WIDTH[level], WIDTH[finer])
        places = [(each, slot, chunk) for each in folded for slot in slots]
        found = yield from self._read(
            look.version, [reading(place, self.rules) for place in places]
        )
        if found is None:
            return
        segments: dict[str, dict[int, Rows]] = {each: {} for each in folded}
        for (each, slot, _), inside in zip(places, found, strict=True):
            if inside:
                segments[each][slot] = inside
        row = merged(*segments[finer].values())
        written = level != "span" and (
            Rule.MADE_THOUGH_PAST in self.rules or not past(key_of(made), look.time)
        )
        yield
        done = self.store.commit(
            Commit(look.version, {made: row} if written else {}, made=made, segments=segments)
        )
        self.tell("makes", made, row, "of", look.version[0], "->", done)


def finer_due(place: Place, due: Iterable[Place]) -> bool:
    """Is a finer slot inside this one due, of the same chunk?"""
    level, start, chunk = place
    inside = range(start, start + WIDTH[level])
    return any(
        WIDTH[other] < WIDTH[level] and slot in inside and of == chunk for other, slot, of in due
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
                self.tell("removes", tags, series, "->", self.store.prune_series(tags, series))
            self.store.prune_writers()
            yield


class Piece(NamedTuple):
    """A slot that answers for a window; *cut*: a minute of which only a part is in the window."""

    place: Place
    cut: bool


def plan(window: Window, chunk: int, look: Look, rules: frozenset[Rule]) -> list[Piece]:
    """Which slots of a chunk answer for a window: for each time in it the coarsest that fits, or the finest still kept."""
    since, until = window

    def answers(level: str, at: int) -> bool:
        slot = align(at, WIDTH[level])
        after = slot + WIDTH[level]
        is_due = (level, slot, chunk) in look.due if Rule.DUE_UNREAD in rules else after > look.time
        return not is_due and (
            (since <= slot and after <= until) or past((FINER[level], slot), look.time)
        )

    pieces = []
    at = since
    while at < until:
        level = next((level for level in ("day", "hour") if answers(level, at)), "minute")
        slot = align(at, WIDTH[level])
        at = slot + WIDTH[level]
        cut = level == "minute" and (slot < since or at > until)
        if cut or slot >= since:  # else it belongs to the window that holds its start
            pieces.append(Piece((level, slot, chunk), cut))
    return pieces


def chosen(
    piece: Piece, window: Window, found: dict[Place, Rows], rules: frozenset[Rule]
) -> Iterator[Entry]:
    """The entries of a piece that count for a window."""
    rows = found[piece.place]
    if not piece.cut:
        yield from rows
        return
    since, until = window
    _, slot, chunk = piece.place
    for series in {entry.series for entry in rows}:
        whole = [entry for entry in rows if entry.series == series]
        exact = [entry for entry in found["raw", slot, chunk] if entry.series == series]
        if len(exact) == len(whole) or (exact and Rule.EXACT_ONLY_IF_WHOLE not in rules):
            yield from (entry for entry in exact if since <= entry.time < until)
        elif since <= slot < until:
            yield from whole


class Reader(Actor):
    """Asks for a few windows side by side, as a time series does, of the server or its replica; the oracle judges the answer."""

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
        pieces = {piece for made in plans for piece in made}
        places = sorted(
            {piece.place for piece in pieces}
            | {("raw", *piece.place[1:]) for piece in pieces if piece.cut}
        )
        yield
        reads = [reading(place, rules) for place in places]
        reads.append(lambda node: merged(*(block.rows for block in node.log_after(look.sealed))))
        versions, results = yield from pipeline(store, reads, replica)
        if (
            (Rule.WHOLE_READ in rules and len(versions) > 1)
            or (Rule.SAME_AS_PLANNED in rules and look.version not in versions)
            or (Rule.MARGIN in rules and store.now - began > READING)
            or store.failovers != failovers  # what was recorded when this began may be lost
        ):
            return
        found, unsealed = dict(zip(places, results, strict=False)), results[-1]
        answer = []
        for window, made in zip(windows, plans, strict=True):
            entries = [entry for piece in made for entry in chosen(piece, window, found, rules)]
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
        """Edges of windows, on a slot's edge or not, beside samples or where a level ends; none before all that is kept."""
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
