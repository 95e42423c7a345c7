"""A run: a random history of the model from a seed, then a final check of the stored data."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from tests.system.protocol.actors import Pruner, Reader, Worker, Writer
from tests.system.protocol.protocol import (
    ALL_RULES,
    HOUR,
    MAX_AGE,
    SPAN,
    WIDTH,
    Node,
    Rule,
    Sample,
    Store,
    align,
    chunk_of,
    key_of,
    past,
)


@dataclass(frozen=True)
class Faults:
    """Probabilities of what goes wrong in a run, most of them per step.

    Attributes:
        idleness: That a writer sends nothing.
        lost_replies: That a reply is lost.
        deaths: That a worker dies before it builds a slot.
        setbacks: That a writer's clock is set back while it repeats a batch.
        naps: That the next process sleeps.
        moves: That time moves by a few ticks.
        leaps: That time moves by many ticks.
        lengths: Lengths of leaps.
        skew: Ticks by which a worker's clock may be ahead.
        tags: Tags to draw from; the last ones are rare.
        lateness: Ages of samples to draw from.
    """

    steps: int = 400
    idleness: float = 0.0
    lost_replies: float = 0.3
    deaths: float = 0.1
    setbacks: float = 0.02
    naps: float = 0.05
    moves: float = 0.12
    leaps: float = 0.02
    lengths: tuple[int, ...] = (20, 60, 100, 150)
    failovers: float = 0.02
    replications: float = 0.1
    skew: int = 6
    tags: str = "aaabbbcd"
    lateness: tuple[int, ...] = (0, 0, 0, 1, 3, 10, 20, 40, MAX_AGE, -2)


WEATHERS = {
    "mixed": Faults(),
    "calm": Faults(failovers=0, leaps=0.005, naps=0.02),
    "crowd": Faults(
        failovers=0,
        leaps=0.003,
        naps=0.02,
        moves=0.03,
        lost_replies=0.1,
        tags="aab",
        lateness=(0, 0, 0, 1),
    ),
    "idle": Faults(
        steps=800,
        failovers=0,
        leaps=0.015,
        lengths=(130,),
        moves=0.1,
        naps=0.01,
        idleness=0.8,
        deaths=0,
        tags="a",
        lateness=(30, 40, MAX_AGE),
    ),
    "leaps": Faults(failovers=0, leaps=0.05),
    "naps": Faults(naps=0.15, leaps=0.03),
    "failovers": Faults(
        failovers=0.06,
        leaps=0.003,
        naps=0.02,
        lost_replies=0,
        deaths=0,
        skew=24,
        tags="a",
        lateness=(0, 1),
    ),
    "outages": Faults(
        failovers=0.06,
        leaps=0.03,
        naps=0,
        replications=0.05,
        lost_replies=0.8,
        setbacks=0,
        tags="abcdefgh",
    ),
    "births": Faults(
        failovers=0.07, leaps=0.003, replications=0.04, lost_replies=0.1, tags="abcdefghijkl"
    ),
    "ages": Faults(
        failovers=0, leaps=0.02, lengths=(400,), naps=0.02, lost_replies=0.1, tags="abcdefghijkl"
    ),
    "clocks": Faults(
        failovers=0, leaps=0.04, lost_replies=0.8, setbacks=0.9, lateness=(0, 0, 0, -2)
    ),
}


@dataclass(frozen=True)
class Violation:
    """What went wrong.

    READ: a query had a wrong result. REST: a rollup is wrong in the end. COUNTS: a sample was
    counted wrongly. STUCK: workers do not finish.
    """

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class Run:
    """All processes take steps in an order drawn from *seed*, until a violation or the end."""

    def __init__(
        self, seed: int, weather: str, rules: Iterable[Rule] = ALL_RULES, *, trace: bool = False
    ) -> None:
        self.faults = WEATHERS[weather]
        self.rules = frozenset(rules)
        self.trace: list[str] | None = [] if trace else None
        self.draw = random.Random(seed)
        self.store = Store(self.rules, self.draw)
        self.samples: list[Sample] = []
        # Samples that a writer counted as not stored, with the reason.
        self.counted: dict[int, str] = {}
        # Samples lost by failovers.
        self.lost: set[int] = set()
        self.reads = 0
        self.violations: list[Violation] = []
        self.resting = False
        self._writers = [Writer(self, "A").steps(), Writer(self, "B").steps()]
        self._workers = [Worker(self, "worker1").steps(), Worker(self, "worker2").steps()]
        self._others = [
            Reader(self, "reader1").steps(),
            Reader(self, "reader2").steps(),
            Pruner(self, "pruner").steps(),
        ]
        self._play()
        if not self.violations:
            self._come_to_rest()

    # -- what actors use

    def new_sample(self) -> Sample:
        time = self.store.now - self.draw.choice(self.faults.lateness)
        self.samples.append(Sample(len(self.samples), self.draw.choice(self.faults.tags), time))
        return self.samples[-1]

    def count(self, reason: str, samples: Iterable[Sample]) -> None:
        self.counted.update({sample.id: reason for sample in samples})

    def violated(self, kind: str, text: str) -> None:
        self.violations.append(Violation(kind, text))
        self.log("VIOLATION", self.violations[-1])

    def log(self, *words: object) -> None:
        if self.trace is not None:
            version = self.store.primary.version[0]
            self.trace.append(f"{self.store.now:5d} v{version:<3d} {' '.join(map(str, words))}")

    # -- the schedule

    def _play(self) -> None:
        chance, choice, faults = self.draw.random, self.draw.choice, self.faults
        actors = [*self._writers, *self._workers, *self._others]
        awake = [0] * len(actors)
        for step in range(faults.steps):
            if self.violations:
                return
            if chance() < faults.moves:
                self.store.now += choice([1, 1, 2, 4])
            if chance() < faults.leaps:
                self.store.now += choice(faults.lengths)
                self.log("time leaps")
            self.store.expire()
            if chance() < faults.replications:
                self.store.replicate()
            if chance() < faults.failovers:
                lost = self.store.fail_over(choice([0, -1, -3]))
                self.lost |= lost
                self.log(
                    "FAILOVER, lost",
                    sorted(lost),
                    "sealed",
                    self.store.primary.sealed,
                    "offset",
                    self.store.offset,
                )
            number = self.draw.randrange(len(actors))
            if awake[number] > step:
                continue
            if chance() < faults.naps:
                awake[number] = step + choice([10, 40, 80])
            else:
                next(actors[number])

    def _come_to_rest(self) -> None:
        """Confirm all batches and seal them; then let all slots end, and build them."""
        self.resting = True
        self.faults = replace(self.faults, lost_replies=0.0, deaths=0.0)
        for writer in self._writers:
            for _ in writer:
                pass
        self._work_until(lambda node: not node.log_after(node.sealed))
        self.store.now += SPAN + HOUR
        self.store.expire()
        self._work_until(lambda node: not node.log_after(node.sealed) and not node.due)
        if not self.violations:
            self._judge_rollups()
            self._judge_counts()

    def _work_until(self, done: Callable[[Node], bool]) -> None:
        for _ in range(2000):
            if done(self.store.primary):
                return
            for worker in self._workers:
                next(worker)
        node = self.store.primary
        self.violated("STUCK", f"due {node.due}, unsealed {node.log_after(node.sealed)}")

    # -- in the end

    def _judge_rollups(self) -> None:
        """Check that each rollup kept consists of the samples of its time."""
        node = self.store.primary
        chunks = range(chunk_of(node.next_series) + 1)
        for resolution in ("minute", "hour", "day"):
            expected: defaultdict[int, list[int]] = defaultdict(list)
            for sample in node.recorded.values():
                if sample.id not in node.dropped:
                    expected[align(sample.time, WIDTH[resolution])].append(sample.id)
            for slot, want in sorted(expected.items()):
                if past(key_of((resolution, slot, 0)), self.store.time):
                    continue
                rows = [
                    entry
                    for chunk in chunks
                    for entry in node.row((resolution, slot, chunk), self.rules)
                ]
                got = sorted(entry.sample for entry in rows)
                if got != sorted(want):
                    self.violated(
                        "REST", f"{resolution} {slot}: must hold {sorted(want)}, got {got}"
                    )

    def _judge_counts(self) -> None:
        """Check that each sample is stored, counted by its writer, or lost by a failover."""
        stored = self.store.primary.recorded
        for sample in self.samples:
            reason = self.counted.get(sample.id)
            if sample.id in stored and reason not in (None, "unknown"):
                self.violated("COUNTS", f"{sample} is stored, and counted as {reason}")
            elif sample.id not in stored and reason is None and sample.id not in self.lost:
                self.violated("COUNTS", f"{sample} is neither stored nor counted")


def history(seed: int, weather: str, rules: frozenset[Rule]) -> str:
    """Return what happened in the run of a seed, and what went wrong."""
    run = Run(seed, weather, rules, trace=True)
    lacking = ", ".join(sorted(rule.name for rule in ALL_RULES - rules)) or "none"
    found = "\n".join(map(str, run.violations))
    return f"seed {seed}, weather {weather!r}, without rules: {lacking}\n{found}\n" + "\n".join(
        run.trace or ()
    )
