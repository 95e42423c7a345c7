"""Weathers: what goes wrong in a run, and how often."""

from dataclasses import dataclass

from tests.system.protocol.slots import MAX_AGE


@dataclass(frozen=True)
class Faults:
    """Probabilities of what goes wrong in a run, most of them per step.

    Attributes:
        idleness: That a writer records nothing.
        lost_replies: That a reply is lost.
        lost_requests: That a batch does not arrive.
        ahead: That the next batch is packed while one is unconfirmed.
        gauges: That a sample is one of a gauge.
        adds: That a sample of a gauge changes its shared value.
        processes: That a sample is a value of a process.
        infos: That a sample is one of an info.
        ends: That a process with values of its own ends, and another begins.
        newer: That a newer writer sends a change of a kind that older versions do not know.
        deletions: That a series or a metric is deleted.
        options: That options of a metric are set.
        copies: That a metric is copied.
        restarts: That the server starts again from its saved data, if there are failovers.
        no_worker_folds: Only scripts fold.
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
    shards: int = 1
    idleness: float = 0.0
    lost_replies: float = 0.3
    lost_requests: float = 0.05
    ahead: float = 0.5
    gauges: float = 0.3
    adds: float = 0.2
    processes: float = 0.1
    infos: float = 0.0
    ends: float = 0.03
    newer: float = 0.1
    deletions: float = 0.01
    options: float = 0.1
    copies: float = 0.05
    restarts: float = 0.002
    no_worker_folds: bool = False
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
    "totals": Faults(
        steps=300,
        gauges=0.5,
        moves=0.05,
        leaps=0.002,
        naps=0.03,
        deletions=0.03,
        lost_replies=0.2,
    ),
    "alone": Faults(gauges=0.5, moves=0.05, leaps=0.002, no_worker_folds=True),
    "deletions": Faults(
        gauges=0.4,
        moves=0.05,
        leaps=0.002,
        deletions=0.15,
        failovers=0.01,
        lost_replies=0.5,
        tags="abcdef",
        adds=0.1,
    ),
    "replicas": Faults(
        gauges=0.4,
        moves=0.05,
        leaps=0.002,
        naps=0.02,
        failovers=0.06,
        restarts=0.01,
        replications=0.15,
        deletions=0.03,
        tags="abcd",
    ),
    "gauges": Faults(
        gauges=0.9,
        processes=0,
        newer=0,
        options=0,
        moves=0.1,
        leaps=0,
        failovers=0,
        setbacks=0,
        lost_replies=0.2,
        adds=0.3,
        deletions=0.05,
        lateness=(0, 0, 1, 3, -2),
    ),
    "undone": Faults(
        steps=300,
        gauges=0.3,
        adds=0.05,
        processes=0,
        newer=0,
        options=0,
        moves=0.05,
        leaps=0.002,
        naps=0.05,
        failovers=0.06,
        restarts=0.01,
        replications=0.1,
        deletions=0.3,
        lost_replies=0.1,
        tags="abcd",
        lateness=(0, 0, 1),
    ),
    "cluster": Faults(steps=600, shards=2, gauges=0.4, leaps=0.004, deletions=0.04),
    "processes": Faults(
        gauges=0.1,
        processes=0.5,
        moves=0.1,
        leaps=0.02,
        lengths=(20, 60, 100),
        naps=0.06,
        failovers=0.01,
        deletions=0.05,
        options=0,
    ),
    "infos": Faults(
        gauges=0.1,
        processes=0,
        infos=0.8,
        newer=0,
        options=0,
        moves=0.1,
        leaps=0,
        failovers=0,
        setbacks=0,
        lost_replies=0.2,
        deletions=0.02,
        replications=0.1,
    ),
    "upgrades": Faults(
        gauges=0.3, newer=0.5, moves=0.1, leaps=0.01, lengths=(400,), deletions=0.03, options=0.8
    ),
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
        gauges=0.1,
        deletions=0,
        failovers=0.07,
        leaps=0.003,
        replications=0.04,
        lost_replies=0.1,
        tags="abcdefghijkl",
    ),
    "ages": Faults(
        failovers=0, leaps=0.02, lengths=(400,), naps=0.02, lost_replies=0.1, tags="abcdefghijkl"
    ),
    "clocks": Faults(
        failovers=0, leaps=0.04, lost_replies=0.8, setbacks=0.9, lateness=(0, 0, 0, -2)
    ),
}
