"""
A model of record.lua and commit.lua: the rules, the stored data, and the scripts that change it.

The model has one metric on one server with one replica. A script is a method of `Store` and runs
atomically; its callers (actors.py) yield wherever others may run. A sample is an id, its tags and a
time in ticks. A rollup is the multiset of its samples, so that the oracle (oracle.py) is simple:
what was recorded is what is read, each sample once and with its own tags.

`Rule` lists what the protocol depends on. A run takes a set of rules. Without any one of them, some
run loses or doubles samples; test_protocol.py shows it for each. Numbers such as m3 are those of
docs/architecture.md.

Not modelled: the values of samples, totals, several metrics and shards (and so the indexes `dirty`
and `pending`), the caches of readers, the byte limit of the log.
"""

import random
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

# -- retention, in ticks: short, so that random runs reach every edge ---------------------------

MINUTE, HOUR, DAY, SPAN = 4, 16, 48, 96
WIDTH = {"raw": MINUTE, "minute": MINUTE, "hour": HOUR, "day": DAY, "span": SPAN}
FINER = {"hour": "minute", "day": "hour", "span": "day"}
# A key holds the slots inside one slot of this resolution: its partition.
COARSER = {"raw": "hour", "minute": "hour", "hour": "day", "day": "span"}
# Ticks after the end of a key's partition.
RETENTION = {"raw": 2 * HOUR, "minute": 3 * DAY, "hour": 3 * DAY, "day": 4 * DAY}
# Limits of a sample's time when it is recorded.
MAX_AGE, MAX_FUTURE = DAY, MINUTE
# Age at which a block is cut from the log.
LOG_AGE = 80
# Sealed blocks stay in the log for this long.
REPLAY = 3
# A key outlives its retention by this much, for readers under way.
MARGIN = 20
# A query that took longer is repeated.
READING = 10
WRITER_KEPT, WRITER_KEPT_TOO_SHORT = MAX_AGE + MAX_FUTURE + 20, 5

# Series whose rows share a field.
CHUNK_SIZE = 2
# Exact samples that are kept of a series-minute.
BUDGET = 2


def align(time: int, width: int) -> int:
    return time - time % width


class Rule(Enum):
    """A rule that the protocol depends on: its number, and what goes wrong without it."""

    DUE_UNREAD = (
        "m1",
        "A coarser slot is read while samples are only in finer slots: they are missing.",
    )
    DISTINCT_BLOCKS = "m2", "Two equal blocks become one member of the log: one of them is lost."
    FINER_FIRST = (
        "m3",
        "A day is built from an hour that is due itself: samples are missing in the day.",
    )
    PERSIST = "m4", "The minutes of an hour expire before the hour is built from them."
    PERSIST_AT_MARK = (
        "m4",
        "A late sample makes a day due, but only minutes persist: the hours of the day expire.",
    )
    PERSIST_ALL_CHUNKS = (
        "m4",
        "Building the hour of one chunk lets minutes of another expire whose hour is due.",
    )
    BUILT_THOUGH_PAST = (
        "m4",
        "An hour past its retention is not written, and is missing in the day built from it.",
    )
    MARGIN = "m4", "A key expires between the plan of a query and its reads: samples are missing."
    AGE_AT_RECORD = (
        "m5",
        "A batch is repeated after its writer was forgotten, and applied again.",
    )
    AGE_AT_SEALING = (
        "m5",
        "Samples of expired minutes cannot be committed, so the log after them is never sealed.",
    )
    AGE_AT_COMMIT = (
        "m5",
        "A worker that slept writes into an expired key: its hour is built from that alone.",
    )
    SAME_BLOCKS = (
        "m6",
        "Blocks that a worker has read are cut and counted, or lost by a failover.",
    )
    TOKEN = (
        "m7",
        "After a failover another state gets the same number: a commit for the lost one succeeds.",
    )
    WORKER_BRACKET = (
        "m8",
        "A worker merges reads across a failover that led back to the version it began with.",
    )
    WHOLE_READ = (
        "m9",
        "A commit in the middle of a reader's pipeline: samples are missing or doubled.",
    )
    SAME_AS_PLANNED = (
        "m9",
        "A commit between the two round trips of a query, whose plan is outdated then.",
    )
    COUNT_CUT = "m10", "Blocks cut from the log before sealing are missing, and not counted."
    MARK = (
        "m11",
        "A late sample is merged into its minute, but not into the hour built before.",
    )
    FIXED_BATCH = (
        "m12",
        "An unconfirmed batch changes but keeps its number: if it was applied, the change is lost.",
    )
    UNCONFIRMED_IS_UNKNOWN = (
        "m12",
        "An unconfirmed batch is rejected as too old and counted as dropped, but may be stored.",
    )
    WRITER_KEPT = (
        "m13",
        "A writer is forgotten while a batch is unconfirmed: the batch is applied twice.",
    )
    PRUNE_BY_SCRIPT = (
        "m14",
        "A series that was idle is recorded before the pruner removes it: samples without tags.",
    )
    UNKNOWN_REFUSED = "m14", "A block names a removed series by its id: samples without tags."
    IDS_NEVER_REUSED = (
        "m14",
        "The id of a removed series is given to another while a writer still uses it: wrong tags.",
    )
    FORGETFUL = (
        "m14",
        "A failover lost a series, and its id is given to another while a writer still uses it.",
    )
    GIVEN_UP_FORGETS = (
        "m14",
        "The reply that reports lost ids is lost and its batch given up: the ids are used again.",
    )
    EXACT_ONLY_IF_WHOLE = (
        "m15",
        "Some exact samples of a minute are taken for all of them: the others are missing.",
    )
    CELL_OVER_SEGMENT = (
        "segments",
        "The segment's row is read instead of the minute's newer field: late samples are missing.",
    )

    def __init__(self, number: str, without: str) -> None:
        self.number = number
        self.without = without


ALL_RULES = frozenset(Rule)

# -- stored data --------------------------------------------------------------------------------

# Resolution, slot, chunk.
Cell = tuple[str, int, int]
# Resolution, and start of the partition.
Key = tuple[str, int]
Version = tuple[int, float]


class Sample(NamedTuple):
    """A recorded sample."""

    id: int
    tags: str
    time: int

    def __repr__(self) -> str:
        return f"#{self.id}({self.tags}@{self.time})"


class Entry(NamedTuple):
    """A stored sample, which belongs to a series."""

    series: int
    sample: int
    time: int

    def __repr__(self) -> str:
        return f"#{self.sample}"


Rows = tuple[Entry, ...]


class Block(NamedTuple):
    """What one batch adds to the log."""

    clock: int
    writer: str
    sequence: int
    rows: Rows

    @property
    def stamp(self) -> tuple[int, str, int]:
        return self.clock, self.writer, self.sequence


class Batch(NamedTuple):
    """What a writer sends: each sample with the id of its series if known, else with its tags."""

    writer: str
    sequence: int
    confirmed: int
    entries: tuple[tuple[int | str, Sample], ...]


class Reply(NamedTuple):
    """The reply to a batch.

    Attributes:
        outcome: stored, too_old, in_future or unknown_series.
        held: Number of the writer's batch before.
        ids: Series ids that are new to the writer.
    """

    outcome: str
    held: int
    time: int
    ids: dict[str, int]


class Look(NamedTuple):
    """What the first round trip of a worker, a reader or the pruner finds."""

    version: Version
    sealed: int
    due: dict[Cell, int]
    time: int
    tags: dict[int, str]
    seen: dict[int, int]


@dataclass(frozen=True)
class Commit:
    """Arguments of commit.lua: seal *blocks*, or replace the coarser slot *built*.

    *segments* holds, by resolution, the slots inside *built*, which replace their fields.
    """

    version: Version
    rows: dict[Cell, Rows]
    blocks: tuple[Block, ...] = ()
    dropped: tuple[int, ...] = ()
    mark: frozenset[Cell] = frozenset()
    built: Cell | None = None
    segments: dict[str, dict[int, Rows]] = field(default_factory=dict)


def chunk_of(series: int) -> int:
    return series // CHUNK_SIZE


def key_of(cell: Cell) -> Key:
    resolution, slot, _ = cell
    return resolution, align(slot, WIDTH[COARSER[resolution]])


def past(key: Key, time: int) -> bool:
    """Return True if a key is past its retention."""
    resolution, slot = key
    return slot + WIDTH[COARSER[resolution]] + RETENTION[resolution] <= time


def nothing_kept(seen: int, time: int) -> bool:
    """Return True if nothing is kept of a series last recorded at *seen*, margin included."""
    return past(("day", align(seen + MAX_FUTURE, SPAN)), time - MARGIN)


@dataclass
class Node:
    """The data of one server. Stored values are never changed in cell, so copies are shallow.

    *recorded* and *dropped* belong to the oracle. They are here so that a failover loses them
    together with the data.
    """

    clock: int = 0
    version: Version = (0, 0.0)
    sealed: int = 0
    next_series: int = 0
    writers: dict[str, tuple[int, int, Reply]] = field(default_factory=dict)
    # By member, in order of clocks; equal members become one.
    log: dict[object, Block] = field(default_factory=dict)
    series: dict[str, int] = field(default_factory=dict)
    # Represents the totals of a series.
    seen: dict[int, int] = field(default_factory=dict)
    due: dict[Cell, int] = field(default_factory=dict)
    # Fields of single slots.
    cells: dict[Key, dict[Cell, Rows]] = field(default_factory=dict)
    # Fields of many slots, by chunk and slot.
    segments: dict[Key, dict[int, dict[int, Rows]]] = field(default_factory=dict)
    expiry: dict[Key, int | None] = field(default_factory=dict)
    recorded: dict[int, Sample] = field(default_factory=dict)
    dropped: frozenset[int] = frozenset()

    def copy(self) -> "Node":
        twin = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, dict):
                setattr(twin, name, value.copy())
        twin.cells = {key: dict(inside) for key, inside in self.cells.items()}
        twin.segments = {key: dict(inside) for key, inside in self.segments.items()}
        return twin

    def expire(self, time: int) -> None:
        for key in [
            key for key, expiry in self.expiry.items() if expiry is not None and expiry <= time
        ]:
            for kept in (self.cells, self.segments, self.expiry):
                kept.pop(key, None)

    def log_after(self, clock: int) -> list[Block]:
        return [block for block in self.log.values() if block.clock > clock]

    def row(self, cell: Cell, rules: frozenset[Rule]) -> Rows:
        """Return the rows of a slot; its own field replaces the segment's rows."""
        _, slot, chunk = cell
        key = key_of(cell)
        own = self.cells.get(key, {}).get(cell)
        segment = self.segments.get(key, {}).get(chunk, {}).get(slot)
        if Rule.CELL_OVER_SEGMENT in rules:
            return segment or () if own is None else own
        return own or () if segment is None else segment


# -- the server ---------------------------------------------------------------------------------


class Store:
    """A server with its scripts, and the replica that takes over at a failover."""

    def __init__(self, rules: frozenset[Rule], draw: random.Random) -> None:
        self.rules = rules
        self.draw = draw
        self.now = 1000
        # Of the server's clock from `now`.
        self.offset = 0
        self.failovers = 0
        self.primary = Node()
        self.replica = self.primary.copy()

    @property
    def time(self) -> int:
        return self.now + self.offset

    def node(self, replica: bool) -> Node:
        return self.replica if replica else self.primary

    def look(self, replica: bool = False) -> Look:
        node = self.node(replica)
        tags = {series: tags for tags, series in node.series.items()}
        return Look(node.version, node.sealed, dict(node.due), self.time, tags, dict(node.seen))

    def expire(self) -> None:
        self.primary.expire(self.time)
        self.replica.expire(self.time)

    def replicate(self) -> None:
        self.replica = self.primary.copy()

    def fail_over(self, offset: int) -> set[int]:
        """Let the replica take over, with its own clock; return the lost samples."""
        lost = self.primary.recorded.keys() - self.replica.recorded.keys()
        self.primary, self.offset = self.replica.copy(), offset
        self.failovers += 1
        self.expire()
        return lost

    # -- record.lua

    def record(self, batch: Batch) -> Reply:
        """Apply a batch once, and return the reply; if it was applied before, that reply."""
        node = self.primary
        held, _, kept = node.writers.get(batch.writer, (0, 0, None))
        if kept is not None and batch.sequence <= held:
            return kept
        outcome = self._refusal(batch, held) or "stored"
        reply = Reply(outcome, held, self.time, {})
        if outcome == "stored":
            node.clock = max(self.time * 1000, node.clock + 1)
            rows = []
            for name, sample in batch.entries:
                series = self._series(name)
                if isinstance(name, str):
                    reply.ids[name] = series
                node.seen[series] = self.time
                node.recorded[sample.id] = sample
                rows.append(Entry(series, sample.id, sample.time))
            self._append(Block(node.clock, batch.writer, batch.sequence, tuple(rows)))
            self._cut()
        node.writers[batch.writer] = batch.sequence, self.time, reply
        return reply

    def _refusal(self, batch: Batch, held: int) -> str | None:
        times = [sample.time for _, sample in batch.entries]
        if Rule.AGE_AT_RECORD in self.rules and min(times) < self.time - MAX_AGE:
            return "too_old"
        if max(times) > self.time + MAX_FUTURE:
            return "in_future"
        # A server that lost this writer's ids may have given them to other series.
        forgetful = Rule.FORGETFUL in self.rules and held < batch.confirmed
        for name, _ in batch.entries:
            if isinstance(name, int) and (forgetful or self._removed(name)):
                return "unknown_series"
        return None

    def _removed(self, series: int) -> bool:
        return Rule.UNKNOWN_REFUSED in self.rules and series not in self.primary.seen

    def _series(self, name: int | str) -> int:
        node = self.primary
        if isinstance(name, int):
            return name
        if name not in node.series:
            series = node.next_series
            if Rule.IDS_NEVER_REUSED not in self.rules:
                series = next(
                    number for number in range(series + 1) if number not in node.series.values()
                )
            node.series[name] = series
            node.next_series = max(node.next_series, series + 1)
        return node.series[name]

    def _append(self, block: Block) -> None:
        """Add a block to the log, a sorted set: an equal member only gets the new clock."""
        member: object = block.stamp
        if Rule.DISTINCT_BLOCKS not in self.rules:
            member = tuple((entry.series, entry.time) for entry in block.rows)
            self.primary.log.pop(member, None)
        self.primary.log[member] = block

    def _cut(self) -> None:
        """Cut the log by age, and count the samples that were not sealed."""
        node = self.primary
        oldest = node.clock - LOG_AGE * 1000
        gone = [block for block in node.log.values() if block.clock <= oldest]
        if gone:
            node.log = {member: block for member, block in node.log.items() if block.clock > oldest}
        if Rule.COUNT_CUT in self.rules:
            node.dropped |= {
                entry.sample for block in gone if block.clock > node.sealed for entry in block.rows
            }

    # -- commit.lua

    def commit(self, commit: Commit) -> bool:
        """Apply all of *commit*, or nothing if the data is not as the worker read it."""
        node = self.primary
        node.expire(self.time)
        if not self._is_as_seen(commit):
            return False
        for cell, rows in commit.rows.items():
            node.cells.setdefault(key_of(cell), {})[cell] = rows
        if commit.built is not None:
            self._merge(commit.built, commit.segments)
        if commit.blocks:
            node.sealed = commit.blocks[-1].clock
            keep = min(node.sealed, node.clock - REPLAY * 1000)
            node.log = {member: block for member, block in node.log.items() if block.clock > keep}
            node.dropped |= set(commit.dropped)
        for resolution, slot, chunk in commit.mark:
            node.due[resolution, slot, chunk] = slot + WIDTH[resolution]

        written = {key_of(cell) for cell in commit.rows}
        if commit.built is not None:
            written |= {(resolution, commit.built[1]) for resolution in commit.segments}
        if Rule.PERSIST_AT_MARK in self.rules:
            written |= {(FINER[resolution], slot) for resolution, slot, _ in commit.mark}
        for key in written:
            self._set_expiry(key, commit.built)
        node.version = node.version[0] + 1, self.draw.random() if Rule.TOKEN in self.rules else 0.0
        node.expire(self.time)
        return True

    def _is_as_seen(self, commit: Commit) -> bool:
        node = self.primary
        if node.version != commit.version:
            return False
        if commit.blocks and Rule.SAME_BLOCKS in self.rules:
            between = [
                block.stamp
                for block in node.log_after(node.sealed)
                if block.clock <= commit.blocks[-1].clock
            ]
            if between != [block.stamp for block in commit.blocks]:
                return False
        minutes = {key_of(cell) for cell in commit.rows if cell[0] == "minute"}
        return Rule.AGE_AT_COMMIT not in self.rules or not any(
            past(key, self.time) for key in minutes
        )

    def _merge(self, built: Cell, segments: dict[str, dict[int, Rows]]) -> None:
        """Replace the fields of the slots inside *built* by one segment."""
        _, slot, chunk = built
        self.primary.due.pop(built, None)
        for resolution, segment in segments.items():
            inside = self.primary.cells.get((resolution, slot), {})
            self.primary.cells[resolution, slot] = {
                cell: rows for cell, rows in inside.items() if cell[2] != chunk
            }
            self.primary.segments.setdefault((resolution, slot), {})[chunk] = segment

    def _set_expiry(self, key: Key, built: Cell | None) -> None:
        """Set a key's expiry; it persists while a coarser slot over it is due, of any chunk."""
        node, (resolution, slot) = self.primary, key
        if key not in node.cells and key not in node.segments:
            return
        waiting = resolution != "raw" and any(
            cell[:2] == (COARSER[resolution], slot) for cell in node.due
        )
        if (
            Rule.PERSIST_ALL_CHUNKS not in self.rules
            and built is not None
            and built[:2] == (COARSER[resolution], slot)
        ):
            waiting = False
        if waiting and Rule.PERSIST in self.rules:
            node.expiry[key] = None
        else:
            margin = MARGIN if Rule.MARGIN in self.rules else 0
            node.expiry[key] = slot + WIDTH[COARSER[resolution]] + RETENTION[resolution] + margin

    # -- pruning

    def prune_series(self, tags: str, series: int) -> bool:
        """Remove a series of which nothing is kept; return True if it was."""
        node = self.primary
        if node.series.get(tags) != series:
            return False
        if Rule.PRUNE_BY_SCRIPT in self.rules:
            named = {entry.series for block in node.log_after(node.sealed) for entry in block.rows}
            if series in named or not nothing_kept(node.seen[series], self.time):
                return False
        del node.series[tags], node.seen[series]
        return True

    def prune_writers(self) -> None:
        """Remove writers that have sent nothing for longer than a batch can live."""
        kept = WRITER_KEPT if Rule.WRITER_KEPT in self.rules else WRITER_KEPT_TOO_SHORT
        writers = self.primary.writers.items()
        self.primary.writers = {
            name: entry for name, entry in writers if entry[1] >= self.time - kept
        }


def merged(*parts: Iterable[Entry]) -> Rows:
    return tuple(sorted(entry for part in parts for entry in part))
