"""Copy the data of all metrics, and compare the two sides."""

from collections.abc import Callable, Iterator

from redismetrics.errors import FormatMismatch
from redismetrics.queries.cache import Cache
from redismetrics.queries.context import QueryContext
from redismetrics.queries.evaluate import evaluate
from redismetrics.queries.query import Query
from redismetrics.store import deletion, keys, stats
from redismetrics.store.driver import Operation, gather
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.namespace import Config, Namespace
from redismetrics.store.stats import MetricStats

from . import copy_metric
from .copy_metric import CopyLimits, KeyPair, KeyPart, Outline
from .copy_report import Progress, Row, Totals
from .copy_sides import CopySides, metric_names, send


class DataCopy:
    """Copies the metrics of a namespace.

    *fingerprints* are those of metrics already copied by an interrupted copy.
    """

    def __init__(
        self,
        sides: CopySides,
        fingerprints: dict[str, bytes],
        limits: CopyLimits,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._sides = sides
        self._fingerprints = fingerprints
        self._limits = limits
        self._on_progress = on_progress
        self._done_bytes = self._total_bytes = 0
        self._sizes: dict[str, int] = {}

    def copy_all(self) -> list[str]:
        """Copy every metric; return their names."""
        sides = self._sides
        names = sides.read(metric_names(sides.namespace, sides.source_config.shards))
        self._delete_gone(names)
        self._sizes = {}
        for at in range(0, len(names), self._limits.keys):
            part = names[at : at + self._limits.keys]
            found = sides.read(stats.metric_stats(sides.namespace, sides.source_config, part))
            self._sizes |= {name: _size(each) for name, each in found.items()}
            sides.extend_lock()
        self._total_bytes = sum(self._sizes.values())
        for batch in self._batches(names):
            until = self._done_bytes + sum(self._sizes[name] for name in batch)
            self._copy_batch(batch, until)
            self._done_bytes = until
            self._report(batch[-1])
        return names

    def compare(self, names: list[str]) -> list[Row]:
        """Return the totals of metrics on both sides."""
        sides = self._sides
        rows: list[Row] = []
        for batch in self._batches(names):
            outlines = self._outlines(batch)
            changed = {
                name: outlines[name].fingerprint != self._fingerprints.get(name) for name in batch
            }
            found: list[Row] = []
            # Data may expire between the reads of the two sides.
            for _ in range(self._limits.attempts):
                at_source, at_target = self._totals(batch)
                found = [
                    Row(name, source, target, changed[name])
                    for name, source, target in zip(batch, at_source, at_target, strict=True)
                ]
                if all(row.changed or row.same for row in found):
                    break
            rows += found
            sides.extend_lock()
            self._on_progress(Progress("counting", len(rows), len(names), batch[-1]))
        return rows

    def copy_writers(self, shard: int) -> None:
        """Copy the state of the writers of a shard, so that no batch counts twice."""
        key = keys.shard(self._sides.namespace, shard).writers
        writers = KeyPair("", key, key, False, 0, self._limits.part_bytes + 1)
        for part in self._pages(writers, self._limits.fields):
            self._sides.write(send(list(part.writes(self._limits))))

    def _delete_gone(self, names: list[str]) -> None:
        """Delete copied metrics that have been deleted at the source since."""
        sides = self._sides
        known = sides.write(metric_names(sides.namespace, sides.target_config.shards))
        gone = sorted(set(known) - set(names))
        if gone:
            sides.write(deletion.delete(sides.namespace, sides.target_config.shards, gone))
            sides.write(send([("HDEL", keys.copying(sides.namespace), *gone)]))

    def _batches(self, names: list[str]) -> Iterator[list[str]]:
        """Yield groups of metrics to copy in the same round trips; a large one is on its own."""
        batch: list[str] = []
        for name in names:
            size = sum(map(self._sizes.__getitem__, (*batch, name)))
            if batch and (len(batch) == self._limits.metrics or size > self._limits.batch_bytes):
                yield batch
                batch = []
            batch.append(name)
        if batch:
            yield batch

    def _report(self, name: str) -> None:
        self._on_progress(Progress("copying", self._done_bytes, self._total_bytes, name))

    def _outlines(self, names: list[str]) -> dict[str, Outline]:
        sides = self._sides
        found = sides.read(
            gather(
                [
                    copy_metric.read_outline(
                        sides.source_metric(name), sides.target_metric(name), self._limits
                    )
                    for name in names
                ]
            )
        )
        return dict(zip(names, found, strict=True))

    def _copy_batch(self, names: list[str], until: int) -> None:
        """Copy metrics, each as a consistent snapshot, unless that has already been done."""
        left = self._outlines(names)
        for _ in range(self._limits.attempts):
            left = {
                name: outline
                for name, outline in left.items()
                if outline.definition is not None
                and outline.fingerprint != self._fingerprints.get(name)
            }
            if not left:
                return
            left = self._copy_once(left, until)
        if left:
            raise self._sides.source.error(
                f"is in use: {min(left)} changed each of the {self._limits.attempts} times that "
                "it was read; stop the processes that record it"
            )

    def _copy_once(self, outlines: dict[str, Outline], until: int) -> dict[str, Outline]:
        """Copy metrics; return the new outlines of those that changed in the meantime."""
        sides, limits = self._sides, self._limits
        targets = {name: sides.target_metric(name) for name in outlines}
        sides.write(
            copy_metric.begin_metrics(
                sides.namespace,
                sides.target_config.shards,
                [(targets[name], outline) for name, outline in outlines.items()],
                limits,
            )
        )
        self._report(next(iter(outlines)))
        all_keys = [key for outline in outlines.values() for key in outline.keys]
        for group in copy_metric.group_keys(all_keys, limits):
            for parts in self._read(group):
                sides.write(send([command for part in parts for command in part.writes(limits)]))
                self._report(group[0].metric)
            self._done_bytes = min(self._done_bytes + sum(key.nbytes for key in group), until)
        now = self._outlines(list(outlines))
        same = [name for name in outlines if now[name].fingerprint == outlines[name].fingerprint]
        sides.write(
            gather(
                [
                    copy_metric.end_metric(sides.namespace, targets[name], outlines[name], limits)
                    for name in same
                ]
            )
        )
        self._fingerprints |= {name: outlines[name].fingerprint for name in same}
        return {name: now[name] for name in outlines if name not in same}

    def _read(self, group: list[KeyPair]) -> Iterator[list[KeyPart]]:
        key = group[0]
        if len(group) > 1 or key.nbytes <= self._limits.part_bytes:
            yield self._sides.read(copy_metric.read_whole(group))
            return
        count = key.count or self._sides.read(send([("HLEN", key.source)]))[0]
        at_once = min(self._limits.fields, count * self._limits.part_bytes // key.nbytes)
        for part in self._pages(key, max(1, at_once)):
            yield [part]

    def _pages(self, key: KeyPair, count: int) -> Iterator[KeyPart]:
        cursor = 0
        while True:
            part, cursor = self._sides.read(copy_metric.read_page(key, cursor, count))
            yield part
            if cursor == 0:
                return

    def _totals(self, names: list[str]) -> tuple[list[Totals], list[Totals]]:
        """Return the totals of metrics at the source and at the target."""
        sides, limits = self._sides, self._limits
        source = [_totals(sides.source_config, sides.source_metric(name), limits) for name in names]
        target = [_totals(sides.target_config, sides.target_metric(name), limits) for name in names]
        return sides.source.run(gather(source)), sides.target.run(gather(target))


def _size(found: MetricStats) -> int:
    return found.log_bytes + sum(found.level_bytes.values()) + 1_000 * found.series


def _totals(config: Config, metric: MetricLocation, limits: CopyLimits) -> Operation[Totals]:
    name = metric.name
    found = (yield from stats.metric_stats(metric.namespace, config, [name]))[name]
    try:
        count = yield from evaluate(
            QueryContext(Namespace(metric.namespace, config), Cache(0)),
            Query(name, aggregation="count"),
        )
    except FormatMismatch:
        # A corrupt block or slot is copied as it is.
        count = None
    fields = yield from copy_metric.count_fields(metric, limits)
    return Totals(
        series=found.series,
        samples=found.samples,
        count=count,
        blocks=found.blocks,
        fields=fields,
        bytes=found.log_bytes + sum(found.level_bytes.values()),
    )
