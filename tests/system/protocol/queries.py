"""A reader: it queries adjacent windows, and the oracle judges the result."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from tests.system.protocol.actor import Actor, Steps, pipeline, reading
from tests.system.protocol.messages import Look
from tests.system.protocol.oracle import Oracle
from tests.system.protocol.rules import Rule, Rules
from tests.system.protocol.samples import Entry, Rows, merged
from tests.system.protocol.slots import (
    DAY,
    FINER,
    HOUR,
    MINUTE,
    READING,
    RETENTION,
    SPAN,
    WIDTH,
    Cell,
    align,
    chunk_of,
    past,
)

Window = tuple[int, int]


class Piece(NamedTuple):
    """A slot that a window reads. *cut* marks a minute that is only partly inside the window."""

    cell: Cell
    cut: bool


def plan(window: Window, chunk: int, look: Look, rules: Rules) -> list[Piece]:
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


def chosen(piece: Piece, window: Window, found: dict[Cell, Rows], rules: Rules) -> Iterator[Entry]:
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
    """Queries adjacent windows, as a time series does, on the server or a replica.

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
        recorded, dropped = node.counters(), node.dropped
        began, failovers = store.now, (store.failovers, store.switches)
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
            or (store.failovers, store.switches) != failovers
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
        oracle = Oracle(recorded, dropped, node.counters(), node.dropped, look.time)
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
