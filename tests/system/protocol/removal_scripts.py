"""Scripts that remove series, metrics, writers and values of processes; and that set options."""

from collections.abc import Callable
from typing import NamedTuple

from tests.system.protocol.metric import Definition, Metric, Moment, Version
from tests.system.protocol.rules import Rule
from tests.system.protocol.samples import MAIN, PROCESS, Sample
from tests.system.protocol.slots import HEARTBEAT, WRITER_KEPT, WRITER_KEPT_TOO_SHORT
from tests.system.protocol.store import Store
from tests.system.protocol.totals import Gone, Row, Values, take_off


def prune_series(store: Store, gone: dict[str, int], version: Version) -> bool:
    """Forget series of which nothing is kept, unless something was recorded or committed since."""
    node = store.primary
    metric = node.metrics[MAIN]
    if Rule.PRUNE_BY_SCRIPT in store.rules and (
        node.version != version or node.log_after(node.sealed)
    ):
        return False
    gone = _still_there(metric, gone)
    return bool(gone) and _forget(store, MAIN, gone)


def delete_series(store: Store, name: str, gone: dict[str, int]) -> bool:
    """Forget series even if changes of theirs wait: readers skip ids without a series."""
    metric = store.primary.metrics[name]
    gone = _still_there(metric, gone)
    if not gone:
        return False
    if name == MAIN:
        _delete_samples(store, lambda sample: sample.tags in gone)
    return _forget(store, name, gone)


def _still_there(metric: Metric, gone: dict[str, int]) -> dict[str, int]:
    return {tags: series for tags, series in gone.items() if metric.series.get(tags) == series}


def _forget(store: Store, name: str, gone: dict[str, int]) -> bool:
    metric = store.primary.metrics[name]
    metric.remove(gone)
    metric.epoch += 1
    store.new_version(name)
    return True


def delete_metric(store: Store, name: str, as_read: tuple[int, int] | None = None) -> None:
    """Delete a metric; next id, epoch and the number of changes outlive it.

    *as_read* are next id and epoch, if they are not read by the script.
    """
    node, metric = store.primary, store.primary.metrics[name]
    next_series, epoch = as_read or (metric.next_series, metric.epoch)
    node.metrics[name] = metric.emptied(next_series, epoch + 1)
    if name == MAIN:
        node.log, node.due, node.cells, node.segments, node.expiry = {}, {}, {}, {}, {}
        _delete_samples(store, lambda _: True)
    store.new_version(name)


def _delete_samples(store: Store, which: Callable[[Sample], bool]) -> None:
    node = store.primary
    gone = {number for number, sample in node.counters().items() if which(sample)}
    node.deleted |= gone
    node.recorded = {
        number: sample for number, sample in node.recorded.items() if number not in gone
    }


def prune_writers(store: Store) -> None:
    """Remove writers that have sent nothing for longer than a batch can live."""
    kept = WRITER_KEPT if Rule.WRITER_KEPT in store.rules else WRITER_KEPT_TOO_SHORT
    writers = store.primary.writers.items()
    store.primary.writers = {
        name: entry for name, entry in writers if entry[1] >= store.time - kept
    }


# -- values of processes


def is_gone(store: Store, row: Row | Gone) -> bool:
    """Return True if the sweep may remove the value of a process, which counts as gone."""
    return row.seen < store.time - HEARTBEAT


def sweep_values(store: Store, as_read: Values) -> int:
    """Remove values of processes that are gone, if they are as read; return how many were.

    The server's clock may have gone back since they were read.
    """
    metric = store.primary.metrics[PROCESS]
    tags_of = {series: tags for tags, series in metric.series.items()}
    values, expected = dict(metric.values), dict(metric.moments[-1].values)
    removed = 0
    for key, row in as_read.items():
        if key not in values or not is_gone(store, row):
            continue
        if Rule.SWEEP_AS_READ in store.rules and values[key] != row:
            continue
        removed += 1
        series, writer = key
        take_off(values, series, writer, live=store.live)
        found = expected.get((tags_of.get(series, ""), writer))
        if store.live and found is not None and is_gone(store, found):
            del expected[tags_of[series], writer]
    if removed:
        metric.values = values
        metric.moments.append(Moment({}, values=expected))
        if Rule.SWEEP_IN_MARK in store.rules:
            store.new_version(PROCESS)
    return removed


# -- options of a metric


class OptionSet(NamedTuple):
    """Options that a process sets as a whole; None of *newer*: it does not know that field."""

    options: tuple[tuple[str, int], ...]
    newer: int | None = None


def set_options(
    store: Store, name: str, as_read: Definition | None, new: Definition, by: OptionSet
) -> bool:
    """Replace the definition of a metric, if it is as read; return True if it was."""
    metric = store.primary.metrics[name]
    if Rule.DEFINITION_AS_READ in store.rules and metric.definition != as_read:
        return False
    if metric.declared is None or as_read is None:
        store.created += 1
    if as_read is None:
        new = new._replace(created=store.created)
    metric.definition = new
    if Rule.DEFINITION_OF_EPOCH in store.rules:
        metric.epoch += 1
    expected = metric.declared or Definition(store.created)
    newer = expected.newer if by.newer is None else by.newer
    metric.declared = expected._replace(options=by.options, newer=newer)
    if metric.definition != metric.declared:
        store.wrong.append(f"definition is {metric.definition}, must be {metric.declared}")
    return True
