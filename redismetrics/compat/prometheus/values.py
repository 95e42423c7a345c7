"""The values behind `child._value`: a local number, and its series in Redis.

prometheus_client creates one for each number of a child. The bucket counts of a histogram and the
count of a summary stay local: Redis derives them from the observations.
"""

import os
import threading
import weakref
from contextlib import suppress
from math import inf, isnan
from typing import Any

from prometheus_client.samples import Exemplar

from redismetrics.errors import InvalidMetric
from redismetrics.model.validation import MetricType
from redismetrics.recording.instruments import Instrument
from redismetrics.recording.methods import ONE, Recording

# The largest float, stored instead of infinity.
LARGEST = 1.7976931348623157e308

_all: "weakref.WeakSet[_Local]" = weakref.WeakSet()


class _Local:
    """A number of this process only, like prometheus_client's `MutexValue`."""

    _multiprocess = False

    def begin(self) -> None:
        """Start from zero: initially, and in a forked child."""
        # Another thread of the parent may have held the old one.
        self._lock = threading.Lock()
        self._value = 0.0
        self._exemplar: Exemplar | None = None

    def inc(self, amount: float) -> None:
        with self._lock:
            self._value += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        with self._lock:
            self._value = value

    def get(self) -> float:
        with self._lock:
            return self._value

    def set_exemplar(self, exemplar: Exemplar | None) -> None:
        with self._lock:
            self._exemplar = exemplar

    def get_exemplar(self) -> Exemplar | None:
        with self._lock:
            return self._exemplar


class LocalValue(_Local):
    """A number that is not recorded."""

    def __init__(self) -> None:
        self.begin()
        _all.add(self)


class SeriesValue(_Local, Instrument):
    """A number of this process whose changes are recorded in a series."""

    def __init__(self, name: str, tags: dict[str, str], metrics: Recording) -> None:
        self.begin()
        super().__init__(name, tags, metrics=metrics)
        _all.add(self)

    def create(self) -> None:
        """Create the series, so that all pages show it before its first event."""

    def take_over(self, value: float) -> None:
        """Record the counts made before this replaced another value."""
        self.inc(value)

    def note_exemplar(self, exemplar: Exemplar | None) -> None:
        """Record the exemplar of the last count; one that can't be stored stays in this process."""
        client, number = self._metrics, None if exemplar is None else as_finite(exemplar.value)
        if exemplar is None or number is None or client is None or self.buffer is None:
            return
        with suppress(InvalidMetric):
            client.internals.note_exemplar(
                self.name,
                self.buffer.canonical,
                number,
                exemplar.labels,
                float(exemplar.timestamp or self._clock()),
            )

    def begin_at(self, value: float) -> None:
        """Set the local number without recording it."""
        with self._lock:
            self._value = value


class CounterValue(SeriesValue):
    """The total of a counter."""

    kind: MetricType = "counter"

    def create(self) -> None:
        self._append(0)

    def inc(self, amount: float) -> None:
        with self._lock:
            self._value += amount
        if amount is ONE or (amount.__class__ is float and 0.0 <= amount <= 1.7e308):
            self._append(amount)
        else:
            self._record(amount)

    def set_exemplar(self, exemplar: Exemplar | None) -> None:
        super().set_exemplar(exemplar)
        self.note_exemplar(exemplar)

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Set the local total. An increase is recorded; a reset stays local."""
        with self._lock:
            growth, self._value = value - self._value, value
        self._record(growth)

    def _record(self, amount: Any) -> None:
        number = as_finite(amount)
        if number is not None and number >= 0:
            self._append(number)


class HistogramSum(SeriesValue):
    """The sum of a histogram: the amounts added to it are the observations.

    Its series starts with the first observation. Until then, `Pages` adds it to the pages of this
    process.
    """

    kind: MetricType = "histogram"

    def inc(self, amount: float) -> None:
        with self._lock:
            self._value += amount
        if amount.__class__ is float and -1.7e308 <= amount <= 1.7e308:
            self._append((self._clock(), amount))
        else:
            number = as_finite(amount)
            if number is not None:
                self._append((self._clock(), number))


class BucketValue(LocalValue):
    """The number of observations in a bucket; its exemplar is recorded with the *observed* sum."""

    def __init__(self, observed: HistogramSum) -> None:
        super().__init__()
        self._observed = observed

    def set_exemplar(self, exemplar: Exemplar | None) -> None:
        super().set_exemplar(exemplar)
        self._observed.note_exemplar(exemplar)


class SummarySum(HistogramSum):
    """The sum of a summary."""

    kind: MetricType = "summary"


class SharedGaugeValue(SeriesValue):
    """A gauge with the mode `mostrecent`: one value for all processes, the newest by time."""

    kind: MetricType = "gauge"

    def create(self) -> None:
        # A change by 0, which keeps the value of another process.
        self._append((-self._clock(), 0.0))

    def inc(self, amount: float) -> None:
        with self._lock:
            self._value = value = self._value + amount
            # In the order of the changes.
            if value.__class__ is float and -1.7e308 <= value <= 1.7e308:
                self._append((self._clock(), value))
            else:
                self._record(value)

    def set(self, value: float, timestamp: float | None = None) -> None:
        with self._lock:
            self._value = value
            if value.__class__ is float and -1.7e308 <= value <= 1.7e308:
                self._append((self._clock(), value))
            else:
                self._record(value)

    def take_over(self, value: float) -> None:
        if value:
            self.set(value)

    def _record(self, value: Any) -> None:
        number = as_finite(value)
        if number is not None:
            self._append((self._clock(), number))


class GaugeValue(SharedGaugeValue):
    """A gauge with another mode: one value per process."""

    def create(self) -> None:
        self._append((self._clock(), self._value))

    def take_over(self, value: float) -> None:
        self.set(value)


def as_finite(value: Any) -> float | None:
    """Return *value* as a storable number: infinity as LARGEST, None for NaN."""
    number = float(value)
    if isnan(number):
        return None
    return min(max(number, -LARGEST), LARGEST)


def from_finite(value: float) -> float:
    """Undo `as_finite`. A sum of capped numbers becomes infinity too."""
    if abs(value) < LARGEST:
        return value
    return inf if value > 0 else -inf


def _begin_in_child() -> None:
    for value in list(_all):
        value.begin()


os.register_at_fork(after_in_child=_begin_in_child)
