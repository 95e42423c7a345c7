"""For tests of code that records: what it recorded, without a server, and a clock that a test moves.

    def test_a_refund_is_counted(captured):  # the fixture of the pytest plugin; elsewhere `with capture() as captured:`
        refund(order, shop="de")
        captured.counter("refunds", shop="de").increased_by(1)

Only the sending end is replaced: names, tags and values are checked, and samples are gathered, as they always are.
"""

from collections import Counter as Tally
from collections.abc import Mapping
from math import fsum, isclose
from typing import Any, Literal

from redismetrics.columnar.samples import CHANGE
from redismetrics.model.sample import Sample, read_metadata
from redismetrics.model.time import to_datetime
from redismetrics.model.validation import MetricType, Tags, clean_tags, unpack_tags
from redismetrics.recording import batch as metric_batch
from redismetrics.recording.batch import MetricBatch
from redismetrics.recording.flusher import Flusher
from redismetrics.recording.send_queue import SendQueue

_SHOWN = 30  # series in the message of a failing assertion


class _Captured:
    """Some series of what was captured: those of one metric that have certain tags."""

    _kind: MetricType

    def __init__(self, captured: "Captured", name: str, tags: dict[str, str | None]) -> None:
        self._captured = captured
        self.name = name
        self.tags = tags

    @property
    def samples(self) -> list[Sample]:
        """The samples, in order of their time."""
        return self._captured.samples(self.name, self.tags)

    def not_recorded(self) -> Literal[True]:
        """Assert that nothing was recorded."""
        __tracebackhide__ = True
        samples = self.samples
        return self._check(not samples, "nothing", _told(self._kind, samples))

    def _of_kind(self) -> list[Sample]:
        __tracebackhide__ = True
        samples = self.samples
        other = next((sample.type for sample in samples if sample.type != self._kind), None)
        if other is not None:
            raise AssertionError(
                f"{self.name!r} was recorded as a {other}, not as a {self._kind}{self._captured._list()}"
            )
        return samples

    def _check(self, fine: bool, wanted: str, got: str) -> Literal[True]:
        __tracebackhide__ = True
        if not fine:
            raise AssertionError(
                f"{self!r}: wanted {wanted}, got {got or 'nothing'}{self._captured._list()}"
            )
        return True

    def __repr__(self) -> str:
        return f"{self._kind} {self.name}{_braces(self.tags)}"


class CapturedCounter(_Captured):
    """What was counted. The assertions raise `AssertionError` with all that was captured, else return True."""

    _kind = "counter"

    @property
    def total(self) -> float:
        """The sum of the increments."""
        return fsum(sample.value * sample.count for sample in self._of_kind())

    @property
    def count(self) -> int:
        """How many increments there were."""
        return sum(sample.count for sample in self._of_kind())

    def increased_by(self, amount: Any) -> Literal[True]:
        """Assert what the increments add up to; 0 also where there was none."""
        __tracebackhide__ = True
        samples = self._of_kind()
        return self._check(
            _equal(self.total, amount), f"an increase of {amount}", _told("counter", samples)
        )


class CapturedGauge(_Captured):
    """What a gauge was set to. The assertions raise `AssertionError` with all that was captured, else return True."""

    _kind = "gauge"

    @property
    def values(self) -> list[float]:
        """All values, in order of their time. A change (`add`) is counted from what was captured, at first from 0."""
        return [sample.value for sample in self._of_kind()]

    @property
    def last(self) -> float | None:
        """The newest value, None where there was none."""
        return next(reversed(self.values), None)

    def is_now(self, value: Any) -> Literal[True]:
        """Assert the newest value."""
        __tracebackhide__ = True
        samples = self._of_kind()
        last = self.last
        return self._check(
            last is not None and _equal(last, value), f"{value}", _told("gauge", samples)
        )


class CapturedHistogram(_Captured):
    """The values of a distribution. The assertions raise `AssertionError` with all that was captured, else return True."""

    _kind = "histogram"

    @property
    def values(self) -> list[float]:
        """All values, in order of their time."""
        return [value for sample in self._of_kind() for value in [sample.value] * sample.count]

    @property
    def count(self) -> int:
        """How many values there were."""
        return len(self.values)

    def recorded(self, *values: Any) -> Literal[True]:
        """Assert the values, in any order."""
        __tracebackhide__ = True
        samples = self._of_kind()
        return self._check(
            _same(self.values, values), ", ".join(map(str, values)), _told("histogram", samples)
        )

    def recorded_times(self, times: int) -> Literal[True]:
        """Assert how many values there were, whatever they are."""
        __tracebackhide__ = True
        samples = self._of_kind()
        return self._check(self.count == times, f"{times} values", _told("histogram", samples))


class Captured:
    """All that was recorded since the capture began, or since `clear`, by the default client and by every other."""

    def __init__(self) -> None:
        self._memories: list[_Memory] = []
        self._samples: list[Sample] = []
        self._values: dict[tuple[int, str, bytes], float] = {}
        self._dropped_before: Tally[str] = Tally()
        self._dropped_in_all: Tally[str] | None = None

    def counter(self, name: str, tags: Tags | None = None, /, **more: Any) -> CapturedCounter:
        """The counter of that name: the series with these tags, and any others; a tag of None is missing."""
        return CapturedCounter(self, name, _wanted(tags, more))

    def gauge(self, name: str, tags: Tags | None = None, /, **more: Any) -> CapturedGauge:
        """The gauge of that name: the series with these tags, and any others; a tag of None is missing."""
        return CapturedGauge(self, name, _wanted(tags, more))

    def histogram(self, name: str, tags: Tags | None = None, /, **more: Any) -> CapturedHistogram:
        """The histogram of that name: the series with these tags, and any others; a tag of None is missing."""
        return CapturedHistogram(self, name, _wanted(tags, more))

    def samples(
        self, name: str | None = None, tags: Tags | None = None, /, **more: Any
    ) -> list[Sample]:
        """The samples as they would be stored, of all metrics or of one, in order of their time."""
        self._gather()
        wanted = _wanted(tags, more)
        found = [
            sample
            for sample in self._samples
            if (name is None or sample.name == name)
            and all(sample.tags.get(key) == value for key, value in wanted.items())
        ]
        return sorted(found, key=lambda sample: sample.timestamp)

    @property
    def names(self) -> list[str]:
        """The names of the metrics that were recorded, sorted."""
        return sorted({sample.name for sample in self.samples()})

    @property
    def dropped(self) -> dict[str, int]:
        """How many samples would be dropped, by reason (see docs/settings.md)."""
        self._gather()
        return dict(self._dropped() - self._dropped_before)

    def nothing_recorded(self) -> Literal[True]:
        """Assert that there is nothing at all."""
        __tracebackhide__ = True
        if self.samples():
            raise AssertionError(f"wanted nothing recorded, got something{self._list()}")
        return True

    def clear(self) -> None:
        """Forget what was captured so far; gauges keep the values that changes are counted from."""
        self._gather()
        self._samples.clear()
        self._dropped_before = self._dropped()

    def _end(self) -> None:
        self._gather()
        self._dropped_in_all = self._dropped()

    def _dropped(self) -> Tally[str]:
        if self._dropped_in_all is not None:
            return self._dropped_in_all
        return sum((memory.flusher.recorder.dropped() for memory in self._memories), Tally[str]())

    def _gather(self) -> None:
        for number_, memory in enumerate(self._memories):
            if memory.flusher.send_queue is memory:
                memory.flusher.collect(int(memory.flusher.clock() * 1000))
            with memory.change:
                taken, memory.batches = memory.batches, []
            for batch in taken:
                self._take(number_, batch)

    def _take(self, memory: int, batch: MetricBatch) -> None:
        """The samples of a batch, one by one, as a reader makes them of a block; a change gets the value it leads to."""
        samples = batch.samples
        for row in range(len(samples)):
            canonical = batch.canonicals[int(samples.series[row])]
            value = float(samples.value[row])
            if batch.kind == "gauge":
                key = (memory, batch.name, canonical)
                value += self._values.get(key, 0.0) if samples.flags[row] & CHANGE else 0.0
                self._values[key] = value
            self._samples.append(
                Sample(
                    batch.name, batch.kind, value, int(samples.weight[row]), unpack_tags(canonical),
                    to_datetime(int(samples.time[row])), read_metadata(samples.metadata.get(row)),
                )
            )  # fmt: skip

    def _list(self) -> str:
        """All that was captured, for a message."""
        found: dict[tuple[str, MetricType, str], list[Sample]] = {}
        for sample in self.samples():
            found.setdefault((sample.name, sample.type, _braces(sample.tags)), []).append(sample)
        lines = [
            f"  {kind} {name}{tags}: {_told(kind, of_it)}"
            for (name, kind, tags), of_it in sorted(found.items())
        ]
        if len(lines) > _SHOWN:
            lines[_SHOWN:] = [f"  and {len(lines) - _SHOWN} more series"]
        lines += [
            f"  dropped as {reason}: {count}" for reason, count in sorted(self.dropped.items())
        ]
        return "\nrecorded:\n" + "\n".join(lines) if lines else "\nnothing was recorded"

    def __repr__(self) -> str:
        return f"<Captured>{self._list()}"


def _wanted(tags: Tags | None, more: Mapping[str, Any]) -> dict[str, str | None]:
    given = {**(tags or {}), **more}
    missing = dict.fromkeys(key for key, value in given.items() if value is None)
    return {**clean_tags(given), **missing}


def _equal(value: float, wanted: Any) -> bool:
    """Equal up to rounding; *wanted* may be what pytest.approx gives."""
    return bool(value == wanted) or (
        isinstance(wanted, int | float) and isclose(value, wanted, rel_tol=1e-9)
    )


def _same(values: list[float], wanted: tuple[Any, ...]) -> bool:
    """The same numbers, in any order?"""
    left = list(values)
    for one in wanted:
        at = next((at for at, value in enumerate(left) if _equal(value, one)), None)
        if at is None:
            return False
        del left[at]
    return not left


def _braces(tags: Mapping[str, str | None]) -> str:
    return (
        "{" + ", ".join(f"{key}={value!r}" for key, value in sorted(tags.items())) + "}"
        if tags
        else ""
    )


def _told(kind: MetricType, samples: list[Sample]) -> str:
    if not samples:
        return ""
    if kind == "counter":
        total, count = (
            fsum(sample.value * sample.count for sample in samples),
            sum(sample.count for sample in samples),
        )
        return f"{total:g}" + (f" in {count} increments" if count > 1 else "")
    values = [
        f"{value:g}" for sample in samples for value in [sample.value] * min(sample.count, 11)
    ]
    shown = ", ".join(values[-10:]) if kind == "gauge" else ", ".join(values[:10])
    return shown + (
        f" ({sum(sample.count for sample in samples)} values)" if len(values) > 10 else ""
    )


class _Memory(SendQueue):
    """The sending end of one flusher during a capture: what would be sent is kept, and so stored."""

    sends = False

    def __init__(self, flusher: Flusher) -> None:
        super().__init__(flusher.settings, flusher.recorder, flusher.clock)
        self.flusher = flusher  # kept, so that a client that is let go of keeps what it recorded
        self.batches: list[MetricBatch] = []

    def put(self, found: list[MetricBatch]) -> int:
        """Keep what the store would take, by its age, too."""
        now_ms = self.flusher.clock() * 1000
        oldest, newest = (
            now_ms - self._settings.max_age * 1000,
            now_ms + self._settings.max_future * 1000,
        )
        with self.change:
            for batch in found:
                kept, too_old, in_future = metric_batch.drop_outside(
                    batch, int(oldest), int(newest)
                )
                if kept is not None:
                    self.batches.append(kept)
                count = 0 if kept is None else kept.samples.count
                self.drained += count + too_old + in_future
                self.confirm(count)
                self.drop_locked("too_old", too_old)
                self.drop_locked("in_future", in_future)
            return self.drained
