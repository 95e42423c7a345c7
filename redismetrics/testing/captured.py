"""The samples of a capture, and assertions on them.

    def test_a_refund_is_counted(captured):  # or `with redismetrics.testing.capture() as captured:`
        refund(order, shop="de")
        captured.counter("refunds", shop="de").increased_by(1)

Only the sink is replaced: names, tags and values are checked, and samples are drained, as usual.
"""

from collections import Counter as Tally
from collections.abc import Mapping
from math import fsum, isclose
from typing import Any, Literal

from redismetrics.columnar.samples import CHANGE
from redismetrics.model.label_sets import split_tags
from redismetrics.model.sample import Sample, read_metadata
from redismetrics.model.time import to_datetime
from redismetrics.model.validation import MetricType, Tags, clean_tags, unpack_tags
from redismetrics.recording.batch import MetricBatch

from .memory_sink import MemorySink

# Maximum number of series in the message of a failing assertion.
MAX_SHOWN = 30


class _Captured:
    """The captured series of one metric with certain tags.

    The assertions return True, or raise `AssertionError` with everything captured.
    """

    _kind: MetricType

    def __init__(self, captured: "Captured", name: str, tags: dict[str, str | None]) -> None:
        self._captured = captured
        self.name = name
        self.tags = tags

    @property
    def samples(self) -> list[Sample]:
        """The samples, ordered by time."""
        return self._captured.samples(self.name, self.tags)

    @property
    def exemplars(self) -> list[dict[str, str]]:
        """The labels of the exemplars that would be sent, ordered by time.

        These are the newest per series and bucket of each flush, and every access to a capture
        flushes.
        """
        return self._captured.exemplars(self.name, self.tags)

    def not_recorded(self) -> Literal[True]:
        """Assert that nothing was recorded."""
        __tracebackhide__ = True
        samples = self.samples
        return self._check(not samples, "nothing", _describe(self._kind, samples))

    def _of_kind(self) -> list[Sample]:
        __tracebackhide__ = True
        samples = self.samples
        other = next((sample.type for sample in samples if sample.type != self._kind), None)
        if other is not None:
            raise AssertionError(
                f"{self.name!r} was recorded as a {other}, not as a {self._kind}"
                f"{self._captured.describe()}"
            )
        return samples

    def _check(self, passed: bool, expected: str, got: str) -> Literal[True]:
        __tracebackhide__ = True
        if not passed:
            raise AssertionError(
                f"{self!r}: expected {expected}, got {got or 'nothing'}{self._captured.describe()}"
            )
        return True

    def __repr__(self) -> str:
        return f"{self._kind} {self.name}{_braces(self.tags)}"


class CapturedCounter(_Captured):
    """The increments of a counter."""

    _kind = "counter"

    @property
    def total(self) -> float:
        """The sum of the increments."""
        return fsum(sample.value * sample.count for sample in self._of_kind())

    @property
    def count(self) -> int:
        """The number of increments."""
        return sum(sample.count for sample in self._of_kind())

    def increased_by(self, amount: Any) -> Literal[True]:
        """Assert the sum of the increments, which is 0 if there were none."""
        __tracebackhide__ = True
        samples = self._of_kind()
        return self._check(
            _equal(self.total, amount), f"an increase of {amount}", _describe("counter", samples)
        )


class CapturedGauge(_Captured):
    """The values of a gauge."""

    _kind = "gauge"

    @property
    def values(self) -> list[float]:
        """All values, in order of their time.

        A change (`add`) applies to the previously captured value, initially 0.
        """
        return [sample.value for sample in self._of_kind()]

    @property
    def last(self) -> float | None:
        """The newest value; None if there is none."""
        return next(reversed(self.values), None)

    def is_now(self, value: Any) -> Literal[True]:
        """Assert the newest value."""
        __tracebackhide__ = True
        samples = self._of_kind()
        last = self.last
        return self._check(
            last is not None and _equal(last, value), f"{value}", _describe("gauge", samples)
        )


class CapturedHistogram(_Captured):
    """The values of a histogram."""

    _kind: MetricType = "histogram"

    @property
    def values(self) -> list[float]:
        """All values, in order of their time."""
        return [value for sample in self._of_kind() for value in [sample.value] * sample.count]

    @property
    def count(self) -> int:
        """The number of values."""
        return len(self.values)

    def recorded(self, *values: Any) -> Literal[True]:
        """Assert the values, in any order."""
        __tracebackhide__ = True
        samples = self._of_kind()
        return self._check(
            _same(self.values, values), ", ".join(map(str, values)), _describe(self._kind, samples)
        )

    def recorded_times(self, times: int) -> Literal[True]:
        """Assert the number of values."""
        __tracebackhide__ = True
        samples = self._of_kind()
        return self._check(self.count == times, f"{times} values", _describe(self._kind, samples))


class CapturedSummary(CapturedHistogram):
    """The values of a summary."""

    _kind = "summary"


class CapturedInfo(_Captured):
    """The labels that were set on an info."""

    _kind: MetricType = "info"

    @property
    def labels(self) -> dict[str, str] | None:
        """The labels that were set last; None if there are none."""
        newest = [sample for sample in self._of_kind() if sample.value == 1]
        return split_tags(self._kind, self.name, newest[-1].tags)[1] if newest else None

    def is_now(self, value: Any) -> Literal[True]:
        """Assert the labels that were set last."""
        __tracebackhide__ = True
        labels = self.labels
        return self._check(
            labels == clean_tags(value), f"{value}", "" if labels is None else f"{labels}"
        )


class CapturedStateSet(_Captured):
    """The states that were set on a state set."""

    _kind: MetricType = "stateset"

    @property
    def state(self) -> str | None:
        """The state that was set last; None if there is none."""
        newest = [sample for sample in self._of_kind() if sample.value == 1]
        return newest[-1].tags.get(self.name) if newest else None

    def is_now(self, value: str) -> Literal[True]:
        """Assert the state that was set last."""
        __tracebackhide__ = True
        return self._check(self.state == value, value, self.state or "")


class Captured:
    """Everything recorded by all clients since the capture began, or since `clear`."""

    def __init__(self) -> None:
        self._sinks: list[MemorySink] = []
        self._samples: list[Sample] = []
        # Time, metric name, tags and labels.
        self._exemplars: list[tuple[int, str, dict[str, str], dict[str, str]]] = []
        # The newest value of each gauge, by number of the sink, name and tags.
        self._values: dict[tuple[int, str, bytes], float] = {}
        self._dropped_before: Tally[str] = Tally()
        self._dropped_in_all: Tally[str] | None = None

    def counter(self, name: str, tags: Tags | None = None, /, **more: Any) -> CapturedCounter:
        """Return the counter's series with at least these tags; None means without the tag."""
        return CapturedCounter(self, name, _selected(tags, more))

    def gauge(self, name: str, tags: Tags | None = None, /, **more: Any) -> CapturedGauge:
        """Return the gauge's series with at least these tags; None means without the tag."""
        return CapturedGauge(self, name, _selected(tags, more))

    def histogram(self, name: str, tags: Tags | None = None, /, **more: Any) -> CapturedHistogram:
        """Return the histogram's series with at least these tags; None means without the tag."""
        return CapturedHistogram(self, name, _selected(tags, more))

    def summary(self, name: str, tags: Tags | None = None, /, **more: Any) -> CapturedSummary:
        """Return the summary's series with at least these tags; None means without the tag."""
        return CapturedSummary(self, name, _selected(tags, more))

    def info(self, name: str, tags: Tags | None = None, /, **more: Any) -> CapturedInfo:
        """Return the info's series with at least these tags; None means without the tag."""
        return CapturedInfo(self, name, _selected(tags, more))

    def state_set(self, name: str, tags: Tags | None = None, /, **more: Any) -> CapturedStateSet:
        """Return the state set's series with at least these tags; None means without the tag."""
        return CapturedStateSet(self, name, _selected(tags, more))

    def samples(
        self, name: str | None = None, tags: Tags | None = None, /, **more: Any
    ) -> list[Sample]:
        """Return the samples as they would be stored, ordered by time.

        With a name, only of that metric, with at least these tags.
        """
        self._collect()
        selected = _selected(tags, more)
        found = [
            sample
            for sample in self._samples
            if (name is None or sample.name == name) and _matches(sample.tags, selected)
        ]
        return sorted(found, key=lambda sample: sample.timestamp)

    def exemplars(
        self, name: str, tags: Tags | None = None, /, **more: Any
    ) -> list[dict[str, str]]:
        """Return the labels of the exemplars of a metric, with at least these tags."""
        self._collect()
        selected = _selected(tags, more)
        found = [
            (time, labels)
            for time, of, own, labels in self._exemplars
            if of == name and _matches(own, selected)
        ]
        return [labels for _, labels in sorted(found, key=lambda each: each[0])]

    @property
    def names(self) -> list[str]:
        """The names of the recorded metrics, sorted."""
        return sorted({sample.name for sample in self.samples()})

    @property
    def dropped(self) -> dict[str, int]:
        """The number of samples that would be dropped, by reason (see docs/settings.md)."""
        self._collect()
        return dict(self._dropped() - self._dropped_before)

    def nothing_recorded(self) -> Literal[True]:
        """Assert that nothing was recorded."""
        __tracebackhide__ = True
        if self.samples():
            raise AssertionError(f"expected nothing, got samples{self.describe()}")
        return True

    def clear(self) -> None:
        """Forget everything captured so far, except the values that gauge changes apply to."""
        self._collect()
        self._samples.clear()
        self._exemplars.clear()
        self._dropped_before = self._dropped()

    def add_sink(self, sink: MemorySink) -> None:
        """Include the samples of *sink*. For `capture`."""
        self._sinks.append(sink)

    def end(self) -> None:
        """Take the last samples at the end of the capture. For `capture`."""
        self._collect()
        self._dropped_in_all = self._dropped()

    def _dropped(self) -> Tally[str]:
        if self._dropped_in_all is not None:
            return self._dropped_in_all
        return sum((sink.drops.totals() for sink in self._sinks), Tally[str]())

    def _collect(self) -> None:
        for number, sink in enumerate(self._sinks):
            for batch in sink.take():
                self._take(number, batch)

    def _take(self, sink: int, batch: MetricBatch) -> None:
        """Add the samples of a batch one by one; a change gets its resulting value."""
        samples = batch.samples
        for row in range(len(samples)):
            canonical = batch.canonicals[int(samples.series[row])]
            value = float(samples.value[row])
            if batch.kind == "gauge":
                key = (sink, batch.name, canonical)
                value += self._values.get(key, 0.0) if samples.flags[row] & CHANGE else 0.0
                self._values[key] = value
            self._samples.append(
                Sample(
                    batch.name,
                    batch.kind,
                    value,
                    int(samples.weight[row]),
                    unpack_tags(canonical),
                    to_datetime(int(samples.time[row])),
                    read_metadata(samples.metadata.get(row)),
                )
            )

        self._exemplars += [
            (each.time, batch.name, unpack_tags(batch.canonicals[each.series]), each.unpacked())
            for each in batch.exemplars
        ]

    def describe(self) -> str:
        """Describe everything captured, for a message."""
        found: dict[tuple[str, MetricType, str], list[Sample]] = {}
        for sample in self.samples():
            found.setdefault((sample.name, sample.type, _braces(sample.tags)), []).append(sample)
        lines = [
            f"  {kind} {name}{tags}: {_describe(kind, of_it)}"
            for (name, kind, tags), of_it in sorted(found.items())
        ]
        if len(lines) > MAX_SHOWN:
            lines[MAX_SHOWN:] = [f"  and {len(lines) - MAX_SHOWN} more series"]
        lines += [
            f"  dropped as {reason}: {count}" for reason, count in sorted(self.dropped.items())
        ]
        return "\nrecorded:\n" + "\n".join(lines) if lines else "\nnothing was recorded"

    def __repr__(self) -> str:
        return f"<Captured>{self.describe()}"


def _selected(tags: Tags | None, more: Mapping[str, Any]) -> dict[str, str | None]:
    given = {**(tags or {}), **more}
    missing = dict.fromkeys(key for key, value in given.items() if value is None)
    return {**clean_tags(given), **missing}


def _matches(tags: Mapping[str, str], selected: Mapping[str, str | None]) -> bool:
    return all(tags.get(key) == value for key, value in selected.items())


def _equal(value: float, expected: Any) -> bool:
    """Return whether both are equal up to rounding; *expected* may be a `pytest.approx`."""
    return bool(value == expected) or (
        isinstance(expected, int | float) and isclose(value, expected, rel_tol=1e-9)
    )


def _same(values: list[float], expected: tuple[Any, ...]) -> bool:
    """Return whether these are the same numbers, in any order."""
    left = list(values)
    for one in expected:
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


def _describe(kind: MetricType, samples: list[Sample]) -> str:
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
