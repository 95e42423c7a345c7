"""Short histories, step by step, of rules that random runs rarely need."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.system.protocol.commit_script import commit, fold
from tests.system.protocol.messages import Batch, Commit, Fold, MetricBatch, Reply
from tests.system.protocol.record_script import record
from tests.system.protocol.removal_scripts import (
    delete_metric,
    delete_series,
    is_gone,
    sweep_values,
)
from tests.system.protocol.rules import ALL_RULES, Rule, Rules
from tests.system.protocol.samples import MAIN, PROCESS, Sample, merged
from tests.system.protocol.slots import HEARTBEAT, HOUR, MINUTE, align
from tests.system.protocol.store import Store
from tests.system.protocol.totals import NEWEST, OLDER, folded
from tests.system.protocol.totals_readers import joined, mark


@dataclass
class Scene:
    """A store that a test drives by hand."""

    rules: Rules
    live: bool = True
    store: Store = field(init=False)
    samples: int = 0

    def __post_init__(self) -> None:
        self.store = Store(self.rules, random.Random(0), self.live)

    def batch(
        self,
        writer: str,
        sequence: int,
        *names: str | int,
        metric: str = MAIN,
        epoch: int = 0,
        version: int = NEWEST,
        kind: int = 1,
        age: int = 0,
        ends: bool = False,
        beat: bool = False,
    ) -> Batch:
        """Return a batch of samples of these series, given by tags or id."""
        entries = []
        for name in names:
            sample_kind = ("beat" if beat else "value") if metric == PROCESS else ""
            time = self.store.now - age
            entries.append((name, Sample(self.samples, str(name), time, sample_kind)))
            self.samples += 1
        part = MetricBatch(metric, epoch, tuple(entries), kind)
        return Batch(writer, sequence, sequence - 1, (part,), version, ends)

    def send(self, batch: Batch) -> Reply:
        return record(self.store, batch)

    def read_for_fold(self, count: int) -> Fold:
        """Return the fold of a worker that reads the oldest *count* changes now."""
        metric = self.store.primary.metrics[MAIN]
        changes = metric.changes[:count]
        fields = folded(metric.base, changes)
        return Fold(MAIN, metric.version, metric.first, changes, fields)

    def is_right(self, name: str = MAIN) -> bool:
        metric, store = self.store.primary.metrics[name], self.store
        page = metric.read().page(NEWEST, store.time, store.live)
        right = page == metric.moments[-1].page(store.time, store.live)
        return right and metric.read().exemplars_by_tags() == metric.newest


def commit_of_a_lost_state(rules: Rules) -> bool:
    """A worker builds an hour from minutes that a failover loses; others are sealed meanwhile."""
    scene = Scene(rules)
    store, slot = scene.store, align(scene.store.now, MINUTE)
    minute, hour = ("minute", slot, 0), ("hour", align(slot, HOUR), 0)

    def seal() -> None:
        blocks = tuple(store.primary.log_after(store.primary.sealed))
        rows = merged(*(block.rows for block in blocks))
        look = store.look()
        commit(store, Commit(look.version, {minute: rows}, blocks, mark=frozenset({hour})))

    scene.send(scene.batch("A", 1, "a"))
    store.replica = store.primary.copy()
    seal()
    rows = store.primary.row(minute, rules)
    built = Commit(
        store.look().version, {hour: rows}, built=hour, segments={"minute": {slot: rows}}
    )
    store.fail_over(0)
    scene.send(scene.batch("B", 1, "a"))
    seal()
    commit(store, built)
    return [entry.sample for entry in store.primary.row(minute, rules)] == [0, 1]


def undone_deletion(rules: Rules) -> bool:
    """A worker's fold, read after a deletion that a failover undoes."""
    scene = Scene(rules)
    scene.send(scene.batch("A", 1, "a", "b"))
    fold(scene.store, scene.read_for_fold(1))
    scene.send(scene.batch("A", 2, "a"))
    scene.store.replica = scene.store.primary.copy()
    delete_series(scene.store, MAIN, {"b": 1})
    worker = scene.read_for_fold(1)
    scene.store.fail_over(0)
    fold(scene.store, worker)
    return scene.is_right()


def older_change_again(rules: Rules) -> bool:
    """A worker's fold of the second change, after a restart brings back the first one."""
    scene = Scene(rules)
    scene.send(scene.batch("A", 1, "a", "b"))
    scene.send(scene.batch("A", 2, "c"))
    scene.store.saved = scene.store.primary.copy()
    fold(scene.store, scene.read_for_fold(1))
    worker = scene.read_for_fold(1)
    scene.store.restart()
    fold(scene.store, worker)
    return scene.is_right()


def other_change_before(rules: Rules) -> bool:
    """A repeated batch that gets the same clock and number after a failover."""
    scene = Scene(rules)
    scene.send(scene.batch("C", 1, "c"))
    fold(scene.store, scene.read_for_fold(1))
    scene.store.replica = scene.store.primary.copy()
    # The server's clock is set back, so that each batch gets the clock before plus one.
    scene.store.offset = -3
    repeated = scene.batch("B", 1, "b")
    scene.send(scene.batch("A", 1, "a"))
    scene.send(repeated)
    worker = scene.read_for_fold(2)
    scene.store.fail_over(-3)
    scene.send(scene.batch("C", 2, "c"))
    scene.send(repeated)
    fold(scene.store, worker)
    return scene.is_right()


def stale_deletion(rules: Rules) -> bool:
    """A deletion that has read the state before another deletion and a batch."""
    scene = Scene(rules)
    metric = scene.store.primary.metrics[MAIN]
    as_read = None if Rule.DELETE_BY_SCRIPT in rules else (metric.next_series, metric.epoch)
    delete_metric(scene.store, MAIN)
    reply = scene.send(scene.batch("A", 1, "a", epoch=1))
    delete_metric(scene.store, MAIN, as_read)
    known = reply.ids[MAIN]["a"]
    reply = scene.send(scene.batch("A", 2, known, epoch=reply.epochs[MAIN]))
    return reply.outcomes[MAIN] == "unknown_series"


def value_of_deleted_series(rules: Rules) -> bool:
    """A process repeats a value of a deleted series, by the id that it knows."""
    scene = Scene(rules)
    known = scene.send(scene.batch("A", 1, "a", metric=PROCESS)).ids[PROCESS]["a"]
    delete_series(scene.store, PROCESS, {"a": known})
    scene.send(scene.batch("B", 1, "b", metric=PROCESS, epoch=1))
    scene.send(scene.batch("A", 2, known, metric=PROCESS))
    return (
        set(scene.store.totals(PROCESS).values_by_tags()) == {("b", "B")}
        and len(scene.store.totals(PROCESS).values) == 1
    )


def value_under_another_series(rules: Rules) -> bool:
    """The id of a deleted series is given to another, and a value is kept by id."""
    scene = Scene(rules - {Rule.EPOCH})
    known = scene.send(scene.batch("A", 1, "a", metric=PROCESS)).ids[PROCESS]["a"]
    delete_series(scene.store, PROCESS, {"a": known})
    scene.send(scene.batch("B", 1, "b", metric=PROCESS, epoch=1))
    scene.send(scene.batch("A", 2, known, metric=PROCESS))
    return ("b", "A") not in scene.store.totals(PROCESS).values_by_tags()


def repeated_value(rules: Rules) -> bool:
    """A repeated batch with a value whose series was deleted meanwhile."""
    scene = Scene(rules)
    batch = scene.batch("A", 1, "a", metric=PROCESS)
    delete_series(scene.store, PROCESS, {"a": scene.send(batch).ids[PROCESS]["a"]})
    scene.send(batch)
    return scene.is_right(PROCESS)


def repeated_exemplar(rules: Rules) -> bool:
    """A repeated batch with an exemplar, after a newer one of the same time."""
    scene = Scene(rules)
    batch = scene.batch("A", 1, "a")
    scene.send(batch)
    scene.samples = 2
    scene.send(scene.batch("B", 1, "a"))
    scene.send(batch)
    return scene.is_right()


def late_exemplar(rules: Rules) -> bool:
    """An exemplar that is older than the one before."""
    scene = Scene(rules)
    scene.send(scene.batch("A", 1, "a"))
    scene.samples = 2
    scene.send(scene.batch("A", 2, "a", age=5))
    return scene.is_right()


def process_comes_back(rules: Rules) -> bool:
    """A process sends a value after the sweep has read the one before."""
    scene = Scene(rules)
    scene.send(scene.batch("A", 1, "a", metric=PROCESS))
    scene.store.now += HEARTBEAT + 1
    gone = scene.store.totals(PROCESS).values
    scene.send(scene.batch("A", 2, "a", metric=PROCESS))
    sweep_values(scene.store, gone)
    return scene.is_right(PROCESS)


def silent_process(rules: Rules) -> bool:
    """A process that is silent for longer than the heartbeat, in a mode that keeps values."""
    scene = Scene(rules, live=False)
    scene.send(scene.batch("A", 1, "a", metric=PROCESS))
    scene.store.now += HEARTBEAT + 1
    values = scene.store.totals(PROCESS).values
    sweep_values(
        scene.store, {key: row for key, row in values.items() if is_gone(scene.store, row)}
    )
    scene.send(scene.batch("A", 2, "a", metric=PROCESS))
    return scene.is_right(PROCESS)


def process_ends(rules: Rules) -> bool:
    """A process says that it ends, in a live mode."""
    scene = Scene(rules)
    scene.send(scene.batch("A", 1, "a", metric=PROCESS))
    scene.send(scene.batch("A", 2, "a", metric=PROCESS, ends=True))
    return scene.is_right(PROCESS)


def idle_process_of_a_deleted_series(rules: Rules) -> bool:
    """A series is deleted, and an idle process repeats its value of it."""
    scene = Scene(rules)
    known = scene.send(scene.batch("A", 1, "a", metric=PROCESS)).ids[PROCESS]["a"]
    delete_series(scene.store, PROCESS, {"a": known})
    scene.send(scene.batch("A", 2, "a", metric=PROCESS, epoch=1, beat=True))
    return not scene.store.totals(PROCESS).series


def copy_during_a_sweep(rules: Rules) -> bool:
    """A copy reads a hash in two pieces, and a sweep moves a value between them."""
    scene = Scene(rules, live=False)
    scene.send(scene.batch("A", 1, "a", metric=PROCESS))
    scene.store.now += HEARTBEAT + 1
    node = scene.store.primary
    before, first = mark(node, PROCESS, rules), scene.store.totals(PROCESS)
    sweep_values(scene.store, first.values)
    second = scene.store.totals(PROCESS)
    copied = joined(first, second, second.series)
    return mark(node, PROCESS, rules) != before or copied.page() == second.page()


def older_script(rules: Rules) -> bool:
    """A script of an older version folds where a change of a newer kind waits."""
    scene = Scene(rules)
    scene.send(scene.batch("B", 1, "a", kind=2))
    for sequence in (1, 2, 3):
        scene.send(scene.batch("A", sequence, "a", version=OLDER))
    kept = scene.store.primary.metrics[MAIN].changes
    return scene.is_right() and kept[0].kind == 2 and scene.store.left > 0


HISTORIES: dict[Callable[[Rules], bool], Rule] = {
    commit_of_a_lost_state: Rule.TOKEN,
    undone_deletion: Rule.SAME_VERSION,
    older_change_again: Rule.NONE_OLDER,
    other_change_before: Rule.TIME_IN_STAMP,
    stale_deletion: Rule.DELETE_BY_SCRIPT,
    value_of_deleted_series: Rule.EPOCH,
    value_under_another_series: Rule.IDS_NEVER_REUSED,
    repeated_value: Rule.WRITTEN_ONCE,
    repeated_exemplar: Rule.WRITTEN_ONCE,
    late_exemplar: Rule.NEWEST_EXEMPLAR,
    process_comes_back: Rule.SWEEP_AS_READ,
    copy_during_a_sweep: Rule.SWEEP_IN_MARK,
    silent_process: Rule.TAKEN_BACK,
    process_ends: Rule.ENDS_AT_ONCE,
    idle_process_of_a_deleted_series: Rule.BEAT_CREATES_NOTHING,
    older_script: Rule.UNKNOWN_KIND_STAYS,
}


@pytest.mark.parametrize("play", HISTORIES, ids=lambda play: play.__name__)
def test_history_ends_well_with_its_rule_only(play: Callable[[Rules], bool]) -> None:
    assert play(ALL_RULES)
    assert not play(ALL_RULES - {HISTORIES[play]})
