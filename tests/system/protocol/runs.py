"""A run: a random history of the model from a seed, then a final check of the stored data."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from tests.system.protocol.actor import Steps
from tests.system.protocol.final_checks import final_violations
from tests.system.protocol.node import Node
from tests.system.protocol.queries import Reader
from tests.system.protocol.removal import Declarer, Deleter, Pruner
from tests.system.protocol.rules import ALL_RULES, Rule, Rules
from tests.system.protocol.samples import GAUGE, INFO, MAIN, PROCESS, Sample
from tests.system.protocol.slots import HOUR, SPAN
from tests.system.protocol.store import Store
from tests.system.protocol.totals import NEWEST, OLDER
from tests.system.protocol.totals_readers import Copier, Pager
from tests.system.protocol.weathers import WEATHERS, Faults
from tests.system.protocol.worker import Worker
from tests.system.protocol.writer import Knowledge, Writer


@dataclass(frozen=True)
class Violation:
    """What went wrong.

    READ: a query had a wrong result. PAGE, COPY: totals were read or copied wrongly. TOTALS: they
    are wrong in the end, a change of a gauge met a wrong value, or too many changes wait. ORDER: a
    gauge ends with another value than its process has set. REST: a rollup is wrong in the end.
    COUNTS: a sample was counted wrongly. STUCK: what must end does not.
    """

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class Run:
    """All processes take steps in an order drawn from *seed*, until a violation or the end.

    Attributes:
        metrics: Those that are recorded.
        in_one_step: A page reads totals and series in one transaction.
        strict: Pages are also judged if a replica changed to another history meanwhile.
        counted: Samples that a writer counted as not stored, with the reason.
        lost: Samples lost by failovers.
        skipped: Pages that skipped changes of an unknown kind.
    """

    def __init__(
        self,
        seed: int,
        weather: str,
        rules: Iterable[Rule] = ALL_RULES,
        *,
        trace: bool = False,
        in_one_step: bool = False,
        strict: bool = False,
    ) -> None:
        self.faults = WEATHERS[weather]
        self.metrics = _metrics(self.faults)
        self.in_one_step = in_one_step
        self.strict = strict
        self.rules = frozenset(rules)
        self.trace: list[str] | None = [] if trace else None
        self.draw = random.Random(seed)
        live = self.draw.random() < 0.5
        self.stores = [Store(self.rules, self.draw, live) for _ in range(self.faults.shards)]
        self.samples: list[Sample] = []
        self.shard_of: list[int] = []
        self.counted: dict[int, str] = {}
        self.lost: set[int] = set()
        self.reads = self.pages = self.copies = self.skipped = self.options = 0
        self.violations: list[Violation] = []
        self.resting = False
        self._writers: list[Steps[None]] = []
        self._workers: list[Steps[None]] = []
        self._others: list[Steps[None]] = []
        self._start()
        self._play()
        if not self.violations:
            self._come_to_rest()

    def _start(self) -> None:
        """Start all processes: of two writers and two workers one each is of an older version."""
        versions = {"A": OLDER, "B": NEWEST}
        known = {name: Knowledge() for name in versions}
        for store in self.stores:
            for name, version in versions.items():
                self._writers.append(Writer(self, name, store, known[name], version).steps())
            for name, version in (("worker1", OLDER), ("worker2", NEWEST)):
                self._workers.append(Worker(self, name, store, version).steps())
            others = [Reader, Reader, Pager, Pager, Pruner, Deleter, Copier, Declarer]
            self._others += [
                kind(self, f"{kind.__name__.lower()}{number}", store).steps()
                for number, kind in enumerate(others)
            ]

    # -- what actors use

    def new_sample(self, writer: Writer) -> Sample:
        chance, choice, faults = self.draw.random, self.draw.choice, self.faults
        if faults.infos and chance() < faults.infos:
            # "s" is set by all processes.
            tags = choice(("s", writer.name.lower())) + choice("123")
            return self.new_value(writer, tags, "info")
        if chance() < faults.processes:
            return self.new_value(writer, choice("pqr"))
        time, tags = writer.store.now - choice(faults.lateness), choice(faults.tags)
        sample = Sample(len(self.samples), tags, time)
        if chance() < faults.gauges:
            kind = "add" if chance() < faults.adds else "set"
            # A series that no other process records, so that the order of its sets is known.
            if chance() < 0.3:
                tags = writer.name.lower() * 2
                sample = Sample(sample.id, tags, writer.store.now, kind, False)
            else:
                sample = sample._replace(kind=kind, own=kind == "set" and chance() < 0.5)
        return self._recorded(writer, sample)

    def new_value(self, writer: Writer, tags: str, kind: str = "value") -> Sample:
        return self._recorded(writer, Sample(len(self.samples), tags, writer.now, kind))

    def _recorded(self, writer: Writer, sample: Sample) -> Sample:
        self.samples.append(sample)
        self.shard_of.append(writer.shard)
        return sample

    def next_option(self) -> int:
        self.options += 1
        return self.options

    def count(self, reason: str, samples: Iterable[Sample]) -> None:
        self.counted.update({sample.id: reason for sample in samples})

    def violated(self, kind: str, text: str) -> None:
        self.violations.append(Violation(kind, text))
        self.log("VIOLATION", self.violations[-1])

    def log(self, *words: object) -> None:
        if self.trace is not None:
            store = self.stores[0]
            version = store.primary.version[0]
            self.trace.append(f"{store.now:5d} v{version:<3d} {' '.join(map(str, words))}")

    # -- the schedule

    def _play(self) -> None:
        chance, choice, faults = self.draw.random, self.draw.choice, self.faults
        actors = [*self._writers, *self._workers, *self._others]
        awake = [0] * len(actors)
        for step in range(faults.steps):
            if self.violations:
                return
            if chance() < faults.moves:
                self._advance(choice([1, 1, 2, 4]))
            if chance() < faults.leaps:
                self._advance(choice(faults.lengths))
                self.log("time leaps")
            for store in self.stores:
                self._replicate_and_fail(store)
            number = self.draw.randrange(len(actors))
            if awake[number] > step:
                continue
            if chance() < faults.naps:
                awake[number] = step + choice([10, 40, 80])
            else:
                next(actors[number])

    def _replicate_and_fail(self, store: Store) -> None:
        chance, faults = self.draw.random, self.faults
        store.expire()
        if chance() < faults.replications:
            store.replicate()
        if chance() < faults.failovers:
            self._lose("FAILOVER", store, store.fail_over(self.draw.choice([0, -1, -3])))
        if faults.failovers and chance() < faults.restarts:
            self._lose("RESTART", store, store.restart())
        if store.wrong:
            self.violated("TOTALS", store.wrong[0])

    def _advance(self, ticks: int) -> None:
        for store in self.stores:
            store.now += ticks

    def _lose(self, what: str, store: Store, lost: set[int]) -> None:
        self.lost |= lost
        shard, sealed = self.stores.index(store), store.primary.sealed
        self.log(what, "of shard", shard, "lost", sorted(lost), "sealed", sealed)

    def _come_to_rest(self) -> None:
        """Confirm all batches and seal them; then let all slots end, and build them."""
        self.resting = True
        self.faults = replace(self.faults, lost_replies=0.0, deaths=0.0)
        for writer in self._writers:
            for number, _ in enumerate(writer):
                if number > 1000:
                    self.violated("STUCK", "a writer never comes to rest")
                    return
        self._work_until(lambda node: not node.log_after(node.sealed))
        self._advance(SPAN + HOUR)
        for store in self.stores:
            store.expire()
        self._work_until(lambda node: not node.log_after(node.sealed) and not node.due)
        if not self.violations:
            for kind, text in final_violations(self):
                self.violated(kind, text)

    def _work_until(self, done: Callable[[Node], bool]) -> None:
        for _ in range(3000):
            if all(done(store.primary) for store in self.stores):
                return
            for worker in self._workers:
                next(worker)
        for store in self.stores:
            node = store.primary
            self.violated("STUCK", f"due {node.due}, unsealed {node.log_after(node.sealed)}")


def _metrics(faults: Faults) -> tuple[str, ...]:
    """Return the metrics that are recorded."""
    if faults.infos:
        return MAIN, GAUGE, INFO
    return (MAIN, GAUGE, PROCESS) if faults.processes else (MAIN, GAUGE)


def history(seed: int, weather: str, rules: Rules) -> str:
    """Return what happened in the run of a seed, and what went wrong."""
    run = Run(seed, weather, rules, trace=True)
    lacking = ", ".join(sorted(rule.name for rule in ALL_RULES - rules)) or "none"
    found = "\n".join(map(str, run.violations))
    return f"seed {seed}, weather {weather!r}, without rules: {lacking}\n{found}\n" + "\n".join(
        run.trace or ()
    )
