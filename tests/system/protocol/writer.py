"""A recording process: it repeats each batch until it is confirmed, and packs the next one."""

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from tests.system.protocol.actor import Actor, Steps
from tests.system.protocol.messages import Batch, MetricBatch, Reply
from tests.system.protocol.metric import Definition
from tests.system.protocol.record_script import record
from tests.system.protocol.rules import Rule
from tests.system.protocol.samples import INFO, METRICS, PROCESS, Sample
from tests.system.protocol.slots import BEAT, MAX_AGE, MAX_FUTURE
from tests.system.protocol.store import Store
from tests.system.protocol.totals import NEWEST

if TYPE_CHECKING:
    from tests.system.protocol.runs import Run


class Knowledge:
    """What a process knows, by shard and metric: ids of series, their epoch and its definition."""

    def __init__(self) -> None:
        self.ids: defaultdict[tuple[int, str], dict[str, int]] = defaultdict(dict)
        self.epochs: dict[tuple[int, str], int] = {}
        self.definitions: dict[tuple[int, str], Definition | None] = {}

    def forget(self) -> None:
        for known in self.ids.values():
            known.clear()


class PackedBatch(NamedTuple):
    """A batch that has its bytes but not yet its number."""

    samples: list[Sample]
    parts: tuple[MetricBatch, ...]


class Writer(Actor):
    """A recording process, as far as it sends to one shard.

    Attributes:
        waiting: Samples that are not packed yet.
        ahead: The batch packed while the one before is unconfirmed.
        behind: Ticks by which its clock is behind.
        values: Tags of the values that it keeps of its own.
        infos: Tags that it has set last, by their first letter.
        version: Of its software, and so of the script that it calls.
    """

    def __init__(
        self, run: "Run", name: str, store: Store, knowledge: Knowledge, version: int
    ) -> None:
        super().__init__(run, name, store)
        self.sequence = self.confirmed = 0
        self.knowledge = knowledge
        self.version = version
        self.shard = run.stores.index(store)
        self.waiting: list[Sample] = []
        self.ahead: PackedBatch | None = None
        self.behind = 0
        self.values: dict[str, None] = {}
        self.infos: dict[str, str] = {}
        self.values_sent = store.now
        # Redis lost confirmed batches: repeated values create series again.
        self.restores = False
        self.ending = False
        self.incarnation = 0

    @property
    def now(self) -> int:
        return self.store.now - self.behind

    def steps(self) -> Steps[None]:
        while not self.run.resting or self.waiting or self.ahead:
            if not self.run.resting:
                if self.draw.random() >= self.run.faults.idleness:
                    self._record()
                self._repeat_values()
            yield from self._send()
            if self.values and self.draw.random() < self.run.faults.ends:
                yield from self._end()
            yield

    def _end(self) -> Steps[None]:
        """End the process: its last batches say so. Then another one begins."""
        self.ending = True
        self.waiting += [self.run.new_value(self, tags, "beat") for tags in self.values]
        while self.waiting or self.ahead:
            yield from self._send()
            yield
        self.log("ends")
        self.incarnation += 1
        self.name = f"{self.name[0]}{self.incarnation}"
        self.ending = self.restores = False
        self.values.clear()
        self.sequence = self.confirmed = 0
        for (shard, _), known in self.knowledge.ids.items():
            if shard == self.shard:
                known.clear()

    def _record(self) -> None:
        new = [self.run.new_sample(self) for _ in range(self.draw.choice([1, 1, 2]))]
        self.values |= {sample.tags: None for sample in new if sample.metric == PROCESS}
        for sample in new:
            self._clear_replaced(sample)
            self.waiting.append(sample)

    def _clear_replaced(self, sample: Sample) -> None:
        """Before an info is set, clear what this process has set in its place before."""
        if sample.metric != INFO:
            return
        before = self.infos.get(sample.tags[0], sample.tags)
        self.infos[sample.tags[0]] = sample.tags
        if before != sample.tags and Rule.REPLACED_IS_CLEARED in self.rules:
            self.waiting.append(self.run.new_value(self, before, "clear"))

    def _repeat_values(self) -> None:
        """Record the values of this process again, so that they count while it has none."""
        if self.values and self.store.now - self.values_sent >= BEAT:
            self.values_sent = self.store.now
            kind = "value" if self.restores else "beat"
            self.restores = False
            self.waiting += [self.run.new_value(self, tags, kind) for tags in self.values]

    def _pack(self) -> PackedBatch:
        """Pack what waits, with the ids known now."""
        samples, self.waiting = self._kept("too_old", self.waiting, self.now - MAX_AGE), []
        parts = []
        for metric in METRICS:
            ids = self.knowledge.ids[self.shard, metric]
            entries = tuple(
                (ids.get(sample.tags, sample.tags), sample)
                for sample in samples
                if sample.metric == metric
            )
            if entries:
                epoch = self.knowledge.epochs.get((self.shard, metric), 0)
                by_id = all(isinstance(name, int) for name, _ in entries)
                definition = self.knowledge.definitions.get((self.shard, metric))
                known = definition if by_id else None
                parts.append(MetricBatch(metric, epoch, entries, self._kind(), known))
        return PackedBatch(samples, tuple(parts))

    def _kind(self) -> int:
        """Return the kind of a change: of the newest version, some are of a new kind."""
        return NEWEST if self.draw.random() < self.run.faults.newer and self.version > 1 else 1

    def _send(self) -> Steps[None]:
        """Send the batch packed ahead, or what waits; what can be fixed after a refusal waits."""
        packed = self.ahead or self._pack()
        self._clear_ahead()
        if not packed.parts:
            return
        reply, repeated = yield from self._confirmed_reply(packed)
        ids_invalid = reply is None
        again: list[Sample] = []
        if reply is None:
            if Rule.GIVEN_UP_FORGETS in self.rules:
                self.knowledge.forget()
        else:
            if reply.held < self.confirmed:
                self.knowledge.forget()
                ids_invalid = self.restores = True
            self.confirmed = self.sequence
            for metric, outcome in reply.outcomes.items():
                again += self._applied(metric, outcome, reply, repeated, packed.samples)
        if self.ahead and (ids_invalid or again) and Rule.PACKED_ANEW in self.rules:
            ahead = self.ahead.samples
            self._clear_ahead()
            again = again + ahead if Rule.REFUSED_FIRST in self.rules else ahead + again
        self.waiting = again + self.waiting

    def _clear_ahead(self) -> None:
        self.ahead = None

    def _applied(
        self, metric: str, outcome: str, reply: Reply, repeated: bool, samples: list[Sample]
    ) -> list[Sample]:
        """Apply a reply about one metric; return what must be sent again, with a new number."""
        known, at = self.knowledge, (self.shard, metric)
        inside = [sample for sample in samples if sample.metric == metric]
        if outcome == "stored":
            if reply.epochs[metric] != known.epochs.get(at, 0):
                if Rule.NEW_EPOCH_FORGETS in self.rules:
                    known.ids[at].clear()
                known.epochs[at] = reply.epochs[metric]
            if reply.ids[metric]:
                known.definitions[at] = reply.definitions[metric]
            known.ids[at].update(reply.ids[metric])
            missing = [sample for sample in inside if sample in reply.missing]
            self.run.count("no_series", missing)
            for sample in missing:
                self.values.pop(sample.tags, None)
            return []
        if outcome == "unknown_series":
            known.ids[at].clear()
            return inside
        if outcome == "too_old":
            # A server forgets a writer only when all samples of its last batch are too old.
            unknown = repeated and Rule.UNCONFIRMED_IS_UNKNOWN in self.rules
            return self._kept("unknown" if unknown else "too_old", inside, reply.time - MAX_AGE)
        self.run.count(outcome, inside)
        return []

    def _kept(self, reason: str, samples: list[Sample], oldest: int) -> list[Sample]:
        """Return the samples from *oldest* on; count the others."""
        self.run.count(reason, [sample for sample in samples if sample.time < oldest])
        return [sample for sample in samples if sample.time >= oldest]

    def _confirmed_reply(self, packed: PackedBatch) -> Steps[tuple[Reply | None, bool]]:
        """Send a batch until a reply arrives.

        Returns the reply, or None if the batch is given up; and whether it was repeated.
        """
        self.sequence += 1
        parts = packed.parts
        if Rule.EPOCH_AS_PACKED not in self.rules:
            known = self.knowledge.epochs
            parts = tuple(
                part._replace(epoch=known.get((self.shard, part.metric), 0)) for part in parts
            )
        batch = Batch(self.name, self.sequence, self.confirmed, parts, self.version, self.ending)
        began = self.now
        repeated = False
        while True:
            arrived = self.draw.random() >= self.run.faults.lost_requests
            if arrived:
                reply = record(self.store, batch)
                sent = "sends", batch.sequence, batch.parts, "->", reply.outcomes
                self.log(*sent, "held", reply.held, "ids", reply.ids)
            self._pack_ahead()
            if arrived and self.draw.random() >= self.run.faults.lost_replies:
                return reply, repeated
            self.log("gets no reply" if arrived else "cannot reach the server")
            repeated = True
            yield
            if self.draw.random() < self.run.faults.setbacks:
                self.behind += self.now - began
                self.log("has its clock set back")
            if Rule.FIXED_BATCH not in self.rules:
                batch = self._changed(batch, packed)
            if self.now - began > MAX_AGE + MAX_FUTURE:
                self.log("gives up", batch.sequence)
                self.run.count("unknown", packed.samples)
                return None, repeated

    def _pack_ahead(self) -> None:
        if self.ahead is None and self.draw.random() < self.run.faults.ahead:
            if not self.run.resting:
                self._record()
            self.ahead = self._pack() if self.waiting else None
            self.log("packs ahead", self.ahead)

    def _changed(self, batch: Batch, packed: PackedBatch) -> Batch:
        """Add a sample to an unconfirmed batch, which must not be done."""
        more = self.run.new_sample(self)
        packed.samples.append(more)
        parts = {part.metric: part for part in batch.parts}
        before = parts.get(more.metric, MetricBatch(more.metric, 0, ()))
        parts[more.metric] = before._replace(entries=(*before.entries, (more.tags, more)))
        return batch._replace(parts=tuple(parts.values()))
