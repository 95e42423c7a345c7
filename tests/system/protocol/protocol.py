"""
The model of what record.lua and commit.lua promise: the rules, what is stored, and the scripts that change it.

One metric on one server with one replica. A script is a method of `Store` and runs whole; who calls them (actors.py) yields
wherever others may run. A sample is an id, its tags and a time in ticks; a rollup is the multiset of the samples in it, so
that the oracle (runs.py) can be dumb: what was recorded is what is read, each sample once and under its own tags.

`Rule` lists what the protocol hangs on. A run takes a set of rules; with one left out, some run loses or doubles samples:
test_protocol.py shows it for each. Numbers such as m3 are those of the design.

Left out: the values of samples, running totals, several metrics and shards (and so the indexes `dirty` and `pending`), readers'
caches, the log's limit of bytes.
"""

import random
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

# -- the retention, in ticks: small, so that random runs reach every edge -----------------------

MINUTE, HOUR, DAY, SPAN = 4, 16, 48, 96
WIDTH = {"raw": MINUTE, "minute": MINUTE, "hour": HOUR, "day": DAY, "span": SPAN}
FINER = {"hour": "minute", "day": "hour", "span": "day"}
COARSER = {
    "raw": "hour",
    "minute": "hour",
    "hour": "day",
    "day": "span",
}  # a key holds the slots inside one of these
RETENTION = {
    "raw": 2 * HOUR,
    "minute": 3 * DAY,
    "hour": 3 * DAY,
    "day": 4 * DAY,
}  # after the end of what a key holds
MAX_AGE, MAX_FUTURE = DAY, MINUTE  # of a sample, when it is recorded
LOG_AGE = 80  # of a block, before it is cut from the log
REPLAY = 3  # so long what is sealed stays in the log
MARGIN = 20  # so long a key outlives its retention, for whoever is reading
READING = 10  # a question that took longer is asked again
WRITER_KEPT, WRITER_KEPT_TOO_SHORT = MAX_AGE + MAX_FUTURE + 20, 5

CHUNK_SIZE = 2  # series whose rows share a field
BUDGET = 2  # exact samples kept of a series and minute


def align(time: int, width: int) -> int:
    return time - time % width


class Rule(Enum):
    """What the protocol hangs on: the number in the design, and what goes wrong without it."""

    DUE_UNREAD = (
        "m1",
        "A coarse slot is read while samples of its time lie only in finer slots: they are missing.",
    )
    DISTINCT_BLOCKS = "m2", "Two equal blocks fold into one member of the log: one of them is lost."
    FINER_FIRST = (
        "m3",
        "A day is made of an hour that waits to be made anew, and done with: samples are missing in it.",
    )
    PERSIST = "m4", "The minutes of an hour expire before the hour is made of them."
    PERSIST_AT_MARK = (
        "m4",
        "A late sample makes a day due, and the hours it will be made of expire: only minutes were kept.",
    )
    PERSIST_ALL_CHUNKS = (
        "m4",
        "Making the hour of one chunk lets the minutes of another expire, whose hour is still due.",
    )
    MADE_THOUGH_PAST = (
        "m4",
        "An hour made after its own retention isn't written, and is missing in the day made next.",
    )
    MARGIN = "m4", "A key expires under a reader that planned to read it: samples are missing."
    AGE_AT_RECORD = (
        "m5",
        "A batch is repeated for longer than its writer's number is kept, and applied again.",
    )
    AGE_AT_SEALING = (
        "m5",
        "Samples of expired minutes can't be committed, and the log behind them is never sealed.",
    )
    AGE_AT_COMMIT = (
        "m5",
        "A worker that slept writes a minute of a key that has expired: its hour is made of that alone.",
    )
    SAME_BLOCKS = (
        "m6",
        "What a worker seals was cut and counted as dropped since its look, or lost by a failover: it counts.",
    )
    TOKEN = (
        "m7",
        "After a failover another state gets the same number: a commit made for the lost one goes through.",
    )
    WORKER_BRACKET = (
        "m8",
        "A worker merges what it read across a failover that led back to the version it began with.",
    )
    WHOLE_READ = (
        "m9",
        "A commit in the middle of a reader's pipeline: samples are missing or double.",
    )
    SAME_AS_PLANNED = (
        "m9",
        "A commit between a reader's two trips: its plan fits no more, samples are missing or double.",
    )
    COUNT_CUT = "m10", "What is cut from the log unsealed is missing, and counted nowhere."
    MARK = (
        "m11",
        "A late sample is merged into its minute, but never into the hour that was made before.",
    )
    FIXED_BATCH = (
        "m12",
        "A batch in doubt changes under its number: if it was applied before, the change is lost.",
    )
    DOUBT_IS_UNKNOWN = (
        "m12",
        "A batch in doubt is refused as too old and counted as dropped, though it may be stored.",
    )
    WRITER_KEPT = (
        "m13",
        "A writer's number is forgotten while a batch is in doubt: it is applied twice.",
    )
    PRUNE_BY_SCRIPT = (
        "m14",
        "A series idle at the pruner's look is recorded before it is removed: samples without tags.",
    )
    UNKNOWN_REFUSED = "m14", "A block names a removed series by its id: samples without tags."
    IDS_NEVER_REUSED = (
        "m14",
        "A removed series' id goes to another while a writer still uses it: wrong tags.",
    )
    FORGETFUL = (
        "m14",
        "A failover lost a series, its id goes to another, and a writer still uses it: wrong tags.",
    )
    GIVEN_UP_FORGETS = (
        "m14",
        "The one reply that told of lost ids is never heard, its batch given up, and they are used on.",
    )
    EXACT_ONLY_IF_WHOLE = (
        "m15",
        "Exact samples that are some of their minute are taken for all: the others are missing.",
    )
    LOOSE_OVER_SEGMENT = (
        "segments",
        "The segment's row of a minute is read instead of its newer field: late samples are missing.",
    )

    def __init__(self, number: str, without: str) -> None:
        self.number = number
        self.without = without


ALL_RULES = frozenset(Rule)

# -- what is stored -----------------------------------------------------------------------------

Place = tuple[str, int, int]  # level, slot, chunk
Key = tuple[str, int]  # level, and the coarser slot whose slots the key holds
Version = tuple[int, float]


class Sample(NamedTuple):
    """A sample as it was recorded."""

    id: int
    tags: str
    time: int

    def __repr__(self) -> str:
        return f"#{self.id}({self.tags}@{self.time})"


class Entry(NamedTuple):
    """A sample as it is stored: of a series."""

    series: int
    sample: int
    time: int

    def __repr__(self) -> str:
        return f"#{self.sample}"


Rows = tuple[Entry, ...]


class Block(NamedTuple):
    """What one batch left in the log."""

    clock: int
    writer: str
    sequence: int
    rows: Rows

    @property
    def stamp(self) -> tuple[int, str, int]:
        return self.clock, self.writer, self.sequence


class Batch(NamedTuple):
    """What a writer sends: each sample with its series' id where the writer knows it, else with its tags."""

    writer: str
    sequence: int
    confirmed: int
    entries: tuple[tuple[int | str, Sample], ...]


class Reply(NamedTuple):
    """*outcome* is stored, too_old, in_future or unknown_series; *held* the number before; *ids* are new to the writer."""

    outcome: str
    held: int
    time: int
    ids: dict[str, int]


class Look(NamedTuple):
    """The first trip of a worker, a reader or the pruner."""

    version: Version
    sealed: int
    due: dict[Place, int]
    time: int
    tags: dict[int, str]
    seen: dict[int, int]


@dataclass(frozen=True)
class Commit:
    """What a worker asks of commit.lua: to seal *blocks*, or to replace the coarse slot *made*.

    *segments*, by level: the slots inside *made*, which replace their fields.
    """

    version: Version
    rows: dict[Place, Rows]
    blocks: tuple[Block, ...] = ()
    dropped: tuple[int, ...] = ()
    mark: frozenset[Place] = frozenset()
    made: Place | None = None
    segments: dict[str, dict[int, Rows]] = field(default_factory=dict)


def chunk_of(series: int) -> int:
    return series // CHUNK_SIZE


def key_of(place: Place) -> Key:
    level, slot, _ = place
    return level, align(slot, WIDTH[COARSER[level]])


def past(key: Key, time: int) -> bool:
    """Is the retention of what a key holds over?"""
    level, slot = key
    return slot + WIDTH[COARSER[level]] + RETENTION[level] <= time


def nothing_kept(seen: int, time: int) -> bool:
    """Is even the coarsest rollup gone of a series last recorded at *seen*, also for those who are still reading it?"""
    return past(("day", align(seen + MAX_FUTURE, SPAN)), time - MARGIN)


@dataclass
class Node:
    """What one server holds. Stored values are never changed in place, so a copy is shallow.

    *recorded* and *dropped* are the oracle's; they stand here so that a failover loses of them what it loses of the data.
    """

    clock: int = 0
    version: Version = (0, 0.0)
    sealed: int = 0
    next_series: int = 0
    writers: dict[str, tuple[int, int, Reply]] = field(default_factory=dict)
    log: dict[object, Block] = field(
        default_factory=dict
    )  # by member, in order of clocks: equal members fold
    series: dict[str, int] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)  # stands for a series' running state
    due: dict[Place, int] = field(default_factory=dict)
    loose: dict[Key, dict[Place, Rows]] = field(default_factory=dict)  # the fields of single slots
    segments: dict[Key, dict[int, dict[int, Rows]]] = field(
        default_factory=dict
    )  # those of many, by chunk and slot
    expiry: dict[Key, int | None] = field(default_factory=dict)
    recorded: dict[int, Sample] = field(default_factory=dict)
    dropped: frozenset[int] = frozenset()

    def copy(self) -> "Node":
        twin = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, dict):
                setattr(twin, name, value.copy())
        twin.loose = {key: dict(inside) for key, inside in self.loose.items()}
        twin.segments = {key: dict(inside) for key, inside in self.segments.items()}
        return twin

    def expire(self, time: int) -> None:
        for key in [
            key for key, expiry in self.expiry.items() if expiry is not None and expiry <= time
        ]:
            for kept in (self.loose, self.segments, self.expiry):
                kept.pop(key, None)

    def log_after(self, clock: int) -> list[Block]:
        return [block for block in self.log.values() if block.clock > clock]

    def row(self, place: Place, rules: frozenset[Rule]) -> Rows:
        """The rollup of a slot, or its exact samples: a field of its own replaces what the segment has of it."""
        _, slot, chunk = place
        key = key_of(place)
        loose = self.loose.get(key, {}).get(place)
        segment = self.segments.get(key, {}).get(chunk, {}).get(slot)
        if Rule.LOOSE_OVER_SEGMENT in rules:
            return segment or () if loose is None else loose
        return loose or () if segment is None else segment


# -- the server ---------------------------------------------------------------------------------


class Store:
    """A server, its scripts, and the replica that may take over from it."""

    def __init__(self, rules: frozenset[Rule], draw: random.Random) -> None:
        self.rules = rules
        self.draw = draw
        self.now = 1000  # of the world
        self.offset = 0  # of the server's clock
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
        """Let the replica take over, with a clock of its own; return the samples that are lost."""
        lost = self.primary.recorded.keys() - self.replica.recorded.keys()
        self.primary, self.offset = self.replica.copy(), offset
        self.failovers += 1
        self.expire()
        return lost

    # -- record.lua

    def record(self, batch: Batch) -> Reply:
        """Apply a batch once; the reply kept when it was applied before."""
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
        # A server that lost what it had told this writer may have given the ids to other series since.
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
        """Add a block to the log, a sorted set: an equal member is not added, but gets the new clock."""
        member: object = block.stamp
        if Rule.DISTINCT_BLOCKS not in self.rules:
            member = tuple((entry.series, entry.time) for entry in block.rows)
            self.primary.log.pop(member, None)
        self.primary.log[member] = block

    def _cut(self) -> None:
        """Cut the log by age, and count what was never sealed."""
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
        """Do all of it; or nothing, where the store is not as the worker saw it."""
        node = self.primary
        node.expire(self.time)
        if not self._is_as_seen(commit):
            return False
        for place, rows in commit.rows.items():
            node.loose.setdefault(key_of(place), {})[place] = rows
        if commit.made is not None:
            self._fold(commit.made, commit.segments)
        if commit.blocks:
            node.sealed = commit.blocks[-1].clock
            keep = min(node.sealed, node.clock - REPLAY * 1000)
            node.log = {member: block for member, block in node.log.items() if block.clock > keep}
            node.dropped |= set(commit.dropped)
        for level, slot, chunk in commit.mark:
            node.due[level, slot, chunk] = slot + WIDTH[level]

        written = {key_of(place) for place in commit.rows}
        if commit.made is not None:
            written |= {(level, commit.made[1]) for level in commit.segments}
        if Rule.PERSIST_AT_MARK in self.rules:
            written |= {(FINER[level], slot) for level, slot, _ in commit.mark}
        for key in written:
            self._set_expiry(key, commit.made)
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
        minutes = {key_of(place) for place in commit.rows if place[0] == "minute"}
        return Rule.AGE_AT_COMMIT not in self.rules or not any(
            past(key, self.time) for key in minutes
        )

    def _fold(self, made: Place, segments: dict[str, dict[int, Rows]]) -> None:
        """Put the slots inside *made* into one field, in place of theirs."""
        _, slot, chunk = made
        self.primary.due.pop(made, None)
        for level, segment in segments.items():
            inside = self.primary.loose.get((level, slot), {})
            self.primary.loose[level, slot] = {
                place: rows for place, rows in inside.items() if place[2] != chunk
            }
            self.primary.segments.setdefault((level, slot), {})[chunk] = segment

    def _set_expiry(self, key: Key, made: Place | None) -> None:
        """A key outlives its retention while a coarse slot is to be made of it, of whatever chunk."""
        node, (level, slot) = self.primary, key
        if key not in node.loose and key not in node.segments:
            return
        waiting = level != "raw" and any(place[:2] == (COARSER[level], slot) for place in node.due)
        if (
            Rule.PERSIST_ALL_CHUNKS not in self.rules
            and made is not None
            and made[:2] == (COARSER[level], slot)
        ):
            waiting = False
        if waiting and Rule.PERSIST in self.rules:
            node.expiry[key] = None
        else:
            margin = MARGIN if Rule.MARGIN in self.rules else 0
            node.expiry[key] = slot + WIDTH[COARSER[level]] + RETENTION[level] + margin

    # -- pruning

    def prune_series(self, tags: str, series: int) -> bool:
        """Remove a series of which nothing is kept."""
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
        """Remove writers that sent nothing for longer than a batch of theirs can live."""
        kept = WRITER_KEPT if Rule.WRITER_KEPT in self.rules else WRITER_KEPT_TOO_SHORT
        writers = self.primary.writers.items()
        self.primary.writers = {
            name: entry for name, entry in writers if entry[1] >= self.time - kept
        }


def merged(*parts: Iterable[Entry]) -> Rows:
    return tuple(sorted(entry for part in parts for entry in part))
