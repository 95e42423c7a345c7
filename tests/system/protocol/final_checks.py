"""Checks of the stored data in the end of a run: rollups, totals and counts."""

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.system.protocol.rules import Rules
from tests.system.protocol.samples import GAUGE, INFO, MAIN, METRICS, PROCESS
from tests.system.protocol.slots import WIDTH, align, chunk_of, key_of, past
from tests.system.protocol.store import Store
from tests.system.protocol.totals import Gone, Row, newest_infos

if TYPE_CHECKING:
    from tests.system.protocol.runs import Run

# Kind and text of a violation.
Found = Iterator[tuple[str, str]]


def final_violations(run: "Run") -> Found:
    """Yield what is wrong when all writers are confirmed and the workers have nothing to do."""
    for number, store in enumerate(run.stores):
        for text in store.wrong[:1]:
            yield "TOTALS", text
        yield from _wrong_rollups(store, run.rules)
        yield from _wrong_totals(store)
        yield from _wrong_values(store)
        yield from _wrong_exemplars(store)
        yield from _wrong_counts(run, number)
    yield from _wrong_order(run)


def _wrong_rollups(store: Store, rules: Rules) -> Found:
    """Check that each rollup kept consists of the samples of its time; skip deleted series."""
    node = store.primary
    metric = node.metrics[MAIN]
    chunks, known = range(chunk_of(metric.next_series) + 1), set(metric.series.values())
    for resolution in ("minute", "hour", "day"):
        expected: defaultdict[int, list[int]] = defaultdict(list)
        for sample in node.counters().values():
            if sample.id not in node.dropped:
                expected[align(sample.time, WIDTH[resolution])].append(sample.id)
        for slot, want in sorted(expected.items()):
            if past(key_of((resolution, slot, 0)), store.time):
                continue
            rows = [
                entry for chunk in chunks for entry in node.row((resolution, slot, chunk), rules)
            ]
            got = sorted(entry.sample for entry in rows if entry.series in known)
            if got != sorted(want):
                yield "REST", f"{resolution} {slot}: must hold {sorted(want)}, got {got}"


def _wrong_totals(store: Store) -> Found:
    """Check the page, and that each series never forgotten holds all that was recorded."""
    node = store.primary
    for name in METRICS:
        metric = node.metrics[name]
        page = metric.read().page(time=store.time, live=store.live)
        expected = metric.moments[-1].page(store.time, store.live)
        if page != expected:
            yield "TOTALS", f"{name}: must be {expected}, got {page}"
    metric = node.metrics[MAIN]
    for tags, row in metric.read().page().items():
        recorded = sorted(sample.id for sample in node.counters().values() if sample.tags == tags)
        if tags not in metric.recreated and list(row.ids) != recorded:
            yield "TOTALS", f"{tags} is {row.ids}, but {recorded} were recorded"


def _wrong_values(store: Store) -> Found:
    """Check each process's own value, also of those that are gone."""
    metric = store.primary.metrics[PROCESS]
    values, expected = metric.read().values_by_tags(), metric.moments[-1].values
    found = {key: row for key, row in values.items() if isinstance(row, Row)}
    for (tags, _), row in values.items():
        if isinstance(row, Gone):
            found |= {(tags, writer): of_one for writer, of_one in row.rows.items()}
    if found != expected:
        yield "TOTALS", f"values: must be {expected}, got {found}"


def _wrong_exemplars(store: Store) -> Found:
    metric = store.primary.metrics[MAIN]
    exemplars = metric.read().exemplars_by_tags()
    if exemplars != metric.newest:
        yield "TOTALS", f"exemplars: must be {metric.newest}, got {exemplars}"


def _wrong_counts(run: "Run", shard: int) -> Found:
    """Check that each sample is stored, counted by its writer, lost by a failover, or deleted."""
    node = run.stores[shard].primary
    for sample in run.samples:
        if run.shard_of[sample.id] != shard:
            continue
        reason = run.counted.get(sample.id)
        if sample.id in node.recorded and reason not in (None, "unknown"):
            yield "COUNTS", f"{sample} is stored, and counted as {reason}"
        elif (
            sample.id not in node.recorded
            and reason is None
            and sample.id not in run.lost | node.deleted
        ):
            yield "COUNTS", f"{sample} is neither stored nor counted"


def _wrong_order(run: "Run") -> Found:
    """Check gauges that one process alone records: the last set and the changes after it.

    Runs in which something was lost or counted are skipped.
    """
    if run.faults.failovers or run.faults.setbacks or run.counted:
        return
    for number, store in enumerate(run.stores):
        metric = store.primary.metrics[GAUGE]
        for tags, row in metric.read().page().items():
            own = [
                sample
                for sample in run.samples
                if sample.metric == GAUGE
                and sample.tags == tags
                and run.shard_of[sample.id] == number
            ]
            if len(tags) == 2 and tags not in metric.recreated:
                last = max((at for at, each in enumerate(own) if each.kind == "set"), default=0)
                if row.ids != tuple(each.id for each in own[last:]):
                    yield "ORDER", f"{tags}: must be {own[last:]}, got {row.ids}"
        yield from _wrong_infos(run, number)


def _wrong_infos(run: "Run", shard: int) -> Found:
    """Check infos that one process alone sets: the page shows what it has set last."""
    metric = run.stores[shard].primary.metrics[INFO]
    page = newest_infos(metric.read().page())
    last = {
        sample.tags[0]: sample
        for sample in run.samples
        if sample.kind == "info" and run.shard_of[sample.id] == shard
    }
    recreated = {tags[0] for tags in metric.recreated}
    for first, sample in last.items():
        if first != "s" and first not in recreated and page[first].ids != (sample.id,):
            yield "ORDER", f"{first}: must be {sample}, got {page[first].ids}"
