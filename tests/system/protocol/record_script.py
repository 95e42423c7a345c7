"""record.lua: applies a batch once; appends changes, and folds the oldest where many wait."""

from tests.system.protocol.messages import Batch, MetricBatch, Reply
from tests.system.protocol.metric import Definition, Metric, Moment
from tests.system.protocol.rules import Rule
from tests.system.protocol.samples import MAIN, PROCESS, Block, Entry, Sample
from tests.system.protocol.slots import LOG_AGE, MAX_AGE, MAX_FUTURE
from tests.system.protocol.store import Store
from tests.system.protocol.totals import (
    AT_ONCE,
    LIMIT,
    Change,
    Gone,
    Row,
    applied,
    bucket_of,
    exemplar_of,
    folded,
    known_first,
    rows_of,
    take_off,
)

# Samples with the ids of their series.
SeriesSamples = list[tuple[int, Sample]]


def record(store: Store, batch: Batch) -> Reply:
    """Apply a batch once, and return the reply; if it was applied before, that reply."""
    node = store.primary
    held, _, kept = node.writers.get(batch.writer, (0, 0, None))
    if kept is not None and batch.sequence <= held:
        if Rule.WRITTEN_ONCE not in store.rules:
            _write_again(store, batch, kept)
        return kept
    forgetful = held < batch.confirmed
    outcomes = {
        part.metric: _refusal(store, batch, part, forgetful) or "stored" for part in batch.parts
    }
    epochs = {part.metric: node.metrics[part.metric].epoch for part in batch.parts}
    missing = tuple(
        sample
        for part in batch.parts
        for name, sample in part.entries
        if _is_missing(store, part, name, sample)
    )
    reply = Reply(outcomes, held, store.time, {}, epochs, {}, missing)
    node.clock = max(store.time * 1000, node.clock + 1)
    for part in batch.parts:
        if outcomes[part.metric] == "stored":
            left = tuple(entry for entry in part.entries if entry[1] not in missing)
            ids = reply.ids.setdefault(part.metric, {})
            if left:
                _store(store, batch, part._replace(entries=left), ids)
            reply.definitions[part.metric] = node.metrics[part.metric].definition
    node.writers[batch.writer] = batch.sequence, store.time, reply
    return reply


def _is_missing(store: Store, part: MetricBatch, name: int | str, sample: Sample) -> bool:
    """Return True for a repeated value whose series does not exist: it creates none."""
    if Rule.BEAT_CREATES_NOTHING not in store.rules or sample.kind != "beat":
        return False
    return name not in store.primary.metrics[part.metric].series and isinstance(name, str)


def _refusal(store: Store, batch: Batch, part: MetricBatch, forgetful: bool) -> str | None:
    metric, rules = store.primary.metrics[part.metric], store.rules
    times = [sample.time for _, sample in part.entries]
    if Rule.AGE_AT_RECORD in rules and min(times) < store.time - MAX_AGE:
        return "too_old"
    if max(times) > store.time + MAX_FUTURE:
        return "in_future"
    # A server that lost this writer's ids may have given them to other series.
    invalid = (forgetful and Rule.FORGETFUL in rules) or (
        Rule.EPOCH in rules and part.epoch != metric.epoch
    )
    if invalid and any(isinstance(name, int) for name, _ in part.entries):
        return "unknown_series"
    # The shared value is not known to a script that cannot fold what waits.
    adds = any(sample.kind == "add" for _, sample in part.entries)
    if adds and Rule.UNKNOWN_KIND_STAYS in rules and metric.read().unknown(batch.version):
        return "newer_kind"
    return None


def _store(store: Store, batch: Batch, part: MetricBatch, ids: dict[str, int]) -> None:
    node, metric = store.primary, store.primary.metrics[part.metric]
    if metric.definition is None:
        store.created += 1
        metric.definition = metric.declared = Definition(store.created)
    if part.definition not in (None, metric.definition):
        store.wrong.append(f"made by {part.definition}, stored as {metric.definition}")
    rows: SeriesSamples = []
    for name, sample in part.entries:
        series = _series(store, metric, name)
        if isinstance(name, str):
            ids[name] = series
        node.recorded[sample.id] = sample
        rows.append((series, sample))
    metric.last = node.clock
    if part.metric == PROCESS:
        _expect_values(store, metric, batch, rows)
        _write_values(store, metric, batch, rows)
        return
    store.applied += 1
    time = store.applied if Rule.TIME_IN_STAMP in store.rules else 0
    change = Change(node.clock, batch.writer, batch.sequence, tuple(rows), time, part.kind)
    before = metric.moments[-1].rows
    _expect_totals(metric, change)
    _change(store, metric, change, before, batch.version)
    if part.metric == MAIN:
        _expect_exemplars(metric, rows, node.clock)
        _write_exemplars(store, metric, rows)
        entries = tuple(Entry(series, sample.id, sample.time) for series, sample in rows)
        _append(store, Block(node.clock, batch.writer, batch.sequence, entries))
        _cut(store)


def _series(store: Store, metric: Metric, name: int | str) -> int:
    if isinstance(name, int):
        return name
    if name not in metric.series:
        series = metric.next_series
        if Rule.IDS_NEVER_REUSED not in store.rules:
            series = next(
                number for number in range(series + 1) if number not in metric.series.values()
            )
        metric.series[name] = series
        metric.next_series = max(metric.next_series, series + 1)
    return metric.series[name]


# -- the log


def _append(store: Store, block: Block) -> None:
    """Add a block to the log, a sorted set: an equal member only gets the new clock."""
    member: object = block.stamp
    if Rule.DISTINCT_BLOCKS not in store.rules:
        member = tuple((entry.series, entry.time) for entry in block.rows)
        store.primary.log.pop(member, None)
    store.primary.log[member] = block


def _cut(store: Store) -> None:
    """Cut the log by age, and count the samples that were not sealed."""
    node = store.primary
    oldest = node.clock - LOG_AGE * 1000
    gone = [block for block in node.log.values() if block.clock <= oldest]
    if gone:
        node.log = {member: block for member, block in node.log.items() if block.clock > oldest}
    if Rule.COUNT_CUT in store.rules:
        node.dropped |= {
            entry.sample for block in gone if block.clock > node.sealed for entry in block.rows
        }


# -- totals


def _change(
    store: Store, metric: Metric, change: Change, before: dict[str, Row], version: int
) -> None:
    """Append a change; fold where many wait, or where an addition needs the shared value."""
    if any(sample.kind == "add" for _, sample in change.rows):
        if Rule.ADD_FOLDS_FIRST in store.rules:
            _fold(store, metric, len(metric.changes), version)
        _check_shared_values(store, metric, change, before)
        metric.fold(folded(metric.base, [change]), 0)
        return
    waiting = len(metric.changes)
    metric.changes = (*metric.changes, change)
    if waiting >= LIMIT and Rule.BOUNDED in store.rules:
        _fold(store, metric, AT_ONCE, version)
    # The list may be longer after a script has met a kind that it does not know.
    if metric.changes and metric.changes[0].kind > version:
        store.left += 1
    elif len(metric.changes) > max(LIMIT, waiting):
        store.wrong.append(f"{len(metric.changes)} changes wait")


def _fold(store: Store, metric: Metric, count: int, version: int) -> None:
    """Fold the oldest *count* changes, up to the first that *version* does not know."""
    changes = metric.changes[:count]
    known = known_first(changes, version)
    if Rule.UNKNOWN_KIND_STAYS in store.rules:
        changes = known
    else:
        known = tuple(change for change in changes if change.kind <= version)
    if not changes:
        return
    store.script_folds += 1
    if Rule.FOLD_IN_ORDER not in store.rules:
        known = tuple(change._replace(clock=store.primary.clock) for change in known)
    metric.fold(folded(metric.base, known), len(changes))


def _check_shared_values(
    store: Store, metric: Metric, change: Change, before: dict[str, Row]
) -> None:
    """Check the value before a gauge's first addition, which the block holds."""
    rows, met = rows_of(metric.base), set()
    for series, sample in change.rows:
        expected, got = before.get(sample.tags), rows.get(series)
        if (
            sample.kind == "add"
            and series not in met
            and (expected and expected.ids) != (got and got.ids)
        ):
            store.wrong.append(f"{sample} was added to {got}, must be {expected}")
        met.add(series)


def _expect_totals(metric: Metric, change: Change) -> None:
    rows = dict(metric.moments[-1].rows)
    for _, sample in change.rows:
        rows[sample.tags] = applied(rows.get(sample.tags), sample, change.clock)
    metric.moments.append(Moment(rows))


# -- values of processes, and exemplars: written at once


def _write_values(store: Store, metric: Metric, batch: Batch, rows: SeriesSamples) -> None:
    """Write the values of a process; if it ends, they become those of a process that is gone."""
    values, writer, clock = metric.values, batch.writer, store.primary.clock
    for series, sample in rows:
        gone = values.get((series, ""))
        if (series, writer) not in values and gone and Rule.TAKEN_BACK in store.rules:
            # The process was silent for long, or has said that it ends.
            assert isinstance(gone, Gone)
            left = {other: row for other, row in gone.rows.items() if other != writer}
            values[series, ""] = Gone(left)
        values[series, writer] = Row(clock // 1000, (sample.id,), clock)
        if batch.ends and Rule.ENDS_AT_ONCE in store.rules:
            take_off(values, series, writer, live=store.live)


def _expect_values(store: Store, metric: Metric, batch: Batch, rows: SeriesSamples) -> None:
    """Expect the last value of each process, whether it is gone or not."""
    values, clock = dict(metric.moments[-1].values), store.primary.clock
    for _, sample in rows:
        values[sample.tags, batch.writer] = Row(clock // 1000, (sample.id,), clock)
        if batch.ends and store.live:
            del values[sample.tags, batch.writer]
    metric.moments.append(Moment({}, values=values))


def _write_exemplars(store: Store, metric: Metric, rows: SeriesSamples) -> None:
    for series, sample in rows:
        key, new = (series, bucket_of(sample)), exemplar_of(sample, store.primary.clock)
        before = metric.exemplars.get(key, new)
        newer = new[:2] >= before[:2] or Rule.NEWEST_EXEMPLAR not in store.rules
        metric.exemplars[key] = new if newer else before


def _expect_exemplars(metric: Metric, rows: SeriesSamples, clock: int) -> None:
    newest = dict(metric.newest)
    for _, sample in rows:
        key, new = (sample.tags, bucket_of(sample)), exemplar_of(sample, clock)
        newest[key] = max(new, newest.get(key, new), key=lambda each: each[:2])
    metric.newest = newest


def _write_again(store: Store, batch: Batch, reply: Reply) -> None:
    """Write what a repeated batch holds as if it had no number; its changes are not applied."""
    store.primary.clock = max(store.time * 1000, store.primary.clock + 1)
    for part in batch.parts:
        metric = store.primary.metrics[part.metric]
        if reply.outcomes[part.metric] != "stored" or part.metric not in (MAIN, PROCESS):
            continue
        rows = [(_series(store, metric, name), sample) for name, sample in part.entries]
        if part.metric == PROCESS:
            _write_values(store, metric, batch, rows)
        else:
            _write_exemplars(store, metric, rows)
