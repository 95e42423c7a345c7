"""The per-process values of this process: those of gauges declared with ``per="process"``.

They are sent when they change, and repeated when nothing has been sent for a while, as a sign of
life. When the process ends, its last batch says so.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import inf

import numpy as np

from redismetrics.columnar.process_values import BEAT_SECONDS, merge_mode, pack_values
from redismetrics.columnar.samples import CHANGE, OWN_TIME, Samples
from redismetrics.columnar.small_totals import CHANGES_SHARED, HAS_OWN_TIME, SETS
from redismetrics.model.definition import Definition
from redismetrics.model.time import HOUR
from redismetrics.store import keys

from .batch import MetricBatch, changes_of, merge_gauge_changes, saturated_sum
from .known_definitions import KnownDefinitions
from .known_namespace import KnownNamespace
from .recorder import Recorder
from .send_queue import METRIC_COST, SERIES_COST
from .this_process import this_process
from .totals_changes import GaugeChanges

# A definition may have been replaced, and series may have been removed; learn both.
_MOST_REFUSALS = 2

# How the time of a value was given, the time in ms, and the value; see the change of a gauge.
_Value = tuple[int, float, float]


@dataclass(slots=True)
class _OwnMetric:
    """The values of one metric, by canonical tags.

    Attributes:
        waiting: Values of a large metric that have yet to be repeated, after the others.
        sent_at: When all of them were last packed, by the monotonic clock.
        has_ended: Whether Redis knows that the process is ending.
        refusals: How often Redis has rejected a repeat since the last accepted one.
    """

    definition: Definition
    sent_at: float
    values: dict[bytes, _Value] = field(default_factory=dict)
    waiting: list[bytes] = field(default_factory=list)
    has_ended: bool = False
    refusals: int = 0


class OwnValues:
    """The values of this process, by metric.

    Only one thread at a time may call its methods, except `due`.

    Attributes:
        ends: Whether batches packed from now on say that the process is ending.
    """

    def __init__(self, recorder: Recorder, known: KnownDefinitions) -> None:
        self._recorder, self._known = recorder, known
        self._metrics: dict[str, _OwnMetric] = {}
        self.ends = False
        self._attempts = 0

    def _now(self) -> float:
        return self._recorder.steady_clock()

    def resolve(self, batch: MetricBatch) -> MetricBatch:
        """Note the values in a finished batch; return it with changes turned into values.

        The same batch may be passed again, if it has to be packed again.
        """
        samples = merge_gauge_changes(batch.samples)
        changes = changes_of(batch, samples)
        assert isinstance(changes, GaugeChanges), "BUG: values of a metric that is not a gauge"
        metric = self._metrics.get(batch.name)
        if metric is None:
            metric = self._metrics[batch.name] = _OwnMetric(batch.definition, self._now())
        metric.definition, metric.has_ended = batch.definition, False
        bases = []
        for place, canonical in enumerate(batch.canonicals):
            before = metric.values.get(canonical)
            bases.append(0.0 if before is None else before[2])
            after = _changed(before, changes, place)
            if after is not None:
                metric.values[canonical] = after
        changed = (samples.flags & CHANGE) != 0
        if changed.any():
            value, flags = samples.value.copy(), samples.flags.copy()
            for row in np.flatnonzero(changed).tolist():
                value[row] = saturated_sum(value[row], bases[samples.series[row]])
            flags[changed] &= ~np.uint8(CHANGE)
            samples = replace(samples, value=value, flags=flags)
        return replace(batch, samples=samples)

    def pack(self, batch: MetricBatch) -> bytes | None:
        """Return the per-process values of the series of *batch* for record.lua, or None.

        Most metrics have no per-process values.
        """
        if batch.definition.options.per is None:
            return None
        metric = self._metrics[batch.name]
        batch.ends = self.ends
        if len(batch.canonicals) == len(metric.values) or batch.is_repeated:
            metric.sent_at = self._now()
        codes, times, values = zip(*map(metric.values.__getitem__, batch.canonicals), strict=True)
        mode = merge_mode(batch.definition.options.merge)
        return pack_values(codes, times, values, mode, this_process(), ends=self.ends)

    # -- values that are repeated -----------------------------------------------------------------

    def due(self) -> list[str]:
        """Return the metrics whose values must be sent again: all, if the process is ending."""
        if not self._metrics:
            return []
        oldest = self._now() - BEAT_SECONDS
        return [
            name
            # A copy, since several threads ask.
            for name, metric in list(self._metrics.items())
            if metric.values
            and not metric.has_ended
            and (metric.waiting or self.ends or metric.sent_at <= oldest)
        ]

    def due_shards(self, namespace: KnownNamespace) -> set[int]:
        """Return the shards of the metrics that are due."""
        return {keys.shard_of(name, namespace.shards) for name in self.due()}

    def repeated(self, shard: int, namespace: KnownNamespace) -> list[MetricBatch]:
        """Return batches without samples for the due metrics of a shard.

        They are limited to the size that `SendQueue.take` returns; the remaining values follow
        later.
        """
        batches, cost = [], 0.0
        for name in self.due():
            if keys.shard_of(name, namespace.shards) != shard:
                continue
            most = int((1 - cost - METRIC_COST) / SERIES_COST["gauge"])
            if most < 1:
                break
            metric = self._metrics[name]
            left = [each for each in metric.waiting if each in metric.values]
            canonicals = left or list(metric.values)
            canonicals, metric.waiting = canonicals[:most], canonicals[most:]
            cost += METRIC_COST + len(canonicals) * SERIES_COST["gauge"]
            definition = self._known.definition(name) or metric.definition
            batch = MetricBatch(name, definition, True, canonicals, Samples.none())
            batches.append(replace(batch, is_repeated=True))
        return batches

    def end(self, attempts: int) -> None:
        """Make all values due, marked as those of an ending process; try that a few times."""
        self.ends, self._attempts = True, attempts
        for metric in self._metrics.values():
            metric.waiting = []

    def tries_to_end(self) -> bool:
        """Return whether the end must still be announced and may be tried again.

        A process does not wait for this as long as for its samples.
        """
        self._attempts -= 1
        return self._attempts >= 0 and bool(self.due())

    def confirm(self, batch: MetricBatch) -> None:
        """Note that Redis has stored the values of a batch."""
        if batch.is_repeated:
            metric = self._metrics[batch.name]
            metric.has_ended, metric.refusals = batch.ends and not metric.waiting, 0

    def refuse(self, batch: MetricBatch) -> None:
        """Repeat the values of a rejected batch once, with what has been learned since.

        If that does not help, for example because the metric now has another type, they wait.
        """
        if not batch.is_repeated:
            return
        metric = self._metrics[batch.name]
        metric.waiting = []
        metric.refusals += 1
        if metric.refusals <= _MOST_REFUSALS:
            metric.sent_at = -inf
        else:
            metric.has_ended = self.ends

    def forget(self, batch: MetricBatch, ids: Iterable[int]) -> None:
        """Forget the values of deleted series, which have no id."""
        if batch.is_repeated:
            for canonical, number in zip(batch.canonicals, ids, strict=True):
                if number < 0:
                    self._metrics[batch.name].values.pop(canonical, None)

    def restored(self, shard: int, namespace: KnownNamespace) -> list[MetricBatch]:
        """Return the values of a shard as samples, because Redis lost data and some series.

        A value that was set long ago gets an age of one hour, because older samples may be
        rejected.
        """
        oldest_ms = self._recorder.now() * 1000 - HOUR
        batches = []
        for name, metric in self._metrics.items():
            is_elsewhere = keys.shard_of(name, namespace.shards) != shard
            if is_elsewhere or metric.has_ended or not metric.values:
                continue
            count = len(metric.values)
            codes, times, values = zip(*metric.values.values(), strict=True)
            samples = Samples(
                np.arange(count),
                np.maximum(np.array(times), oldest_ms).astype(np.int64),
                np.array(values),
                np.ones(count, np.int64),
                np.where(np.array(codes) != 0, OWN_TIME, 0).astype(np.uint8),
            )
            batches.append(MetricBatch(name, metric.definition, True, list(metric.values), samples))
        return batches


def _changed(before: _Value | None, changes: GaugeChanges, place: int) -> _Value | None:
    """Return a value after the changes of a flush, as record.lua changes shared values."""
    code, after = int(changes.code[place]), before
    if code & CHANGES_SHARED:
        _, last, base = before or (0, -1.0, 0.0)
        value = saturated_sum(base, float(changes.change[place]))
        after = (0, max(last, float(changes.change_time[place])), value)
    if code & SETS:
        time = float(changes.time[place])
        if after is None or time >= after[1]:
            after = (code & HAS_OWN_TIME, time, float(changes.value[place]))
    return after
