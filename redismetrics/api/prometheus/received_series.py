"""Record the series of a remote-write request as gauges with the times of their samples."""

import math
import struct
from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from redismetrics.client.metrics import Metrics
from redismetrics.errors import InvalidMetric, one_line
from redismetrics.integrations.limits import CardinalityLimit, TimestampBounds
from redismetrics.model.definition import define
from redismetrics.promql.mapping.samples import STALE_METADATA

# The bits of a staleness marker, a NaN that says that a series has ended.
_STALE = 0x7FF0000000000002
# Series whose last value is remembered for that.
_MAX_REMEMBERED = 200_000
# Maximum number of messages about rejected series in a response.
_MAX_MESSAGES = 3


@dataclass(slots=True)
class Received:
    """The outcome of the samples in a request.

    Attributes:
        names: The number of recorded samples, by metric.
        refused: The number of rejected samples, by reason.
        messages: Why some of the series were rejected.
    """

    names: Tally[str] = field(default_factory=Tally)
    refused: Tally[str] = field(default_factory=Tally)
    messages: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """Return one sentence about the rejected samples."""
        recorded, refused = self.names.total(), self.refused.total()
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.refused.items()))
        examples = "".join(f"; {message}" for message in self.messages)
        return f"{refused} of {recorded + refused} samples were rejected: {reasons}{examples}"


class SeriesReceiver:
    """Records requests with one client. Thread-safe."""

    def __init__(self, metrics: Metrics, limit: CardinalityLimit) -> None:
        self._metrics = metrics
        self._limit = limit
        # The last value of each series, for staleness markers; the oldest are forgotten.
        self._last: OrderedDict[tuple[str, ...], float] = OrderedDict()

    def receive(self, request: Any) -> Received:
        """Record the samples that can be recorded.

        Raises:
            LimitExceeded: If there are too many new metrics or series; nothing is recorded.
        """
        received = Received()
        self._declare(request.metadata)
        series = list(self._checked(request.timeseries, received))
        self._limit.check(
            self._metrics,
            {name for name, _, _ in series},
            has_new_series=lambda: any(
                not self._metrics.internals.has_series(name, tags=tags) for name, tags, _ in series
            ),
        )
        bounds = TimestampBounds.now(self._metrics)
        for name, tags, samples in series:
            self._record(name, tags, samples, bounds, received)
        return received

    def _declare(self, metadata: Any) -> None:
        """Store help and unit of metrics, but not of histogram families.

        New metrics are left out while this process holds its maximum number of metrics.
        """
        metric_count, _, _ = self._metrics.internals.buffered_counts()
        for each in metadata:
            if metric_count >= self._limit.max_names:
                return
            known = self._metrics.internals.definition(each.metric_family_name)
            if known is None and (each.help or each.unit):
                try:
                    definition = define(
                        each.metric_family_name, "gauge", help=each.help, unit=each.unit
                    )
                    self._metrics.internals.declare_default(each.metric_family_name, definition)
                except InvalidMetric:
                    # Its help is too long, or its name is invalid: its samples report that.
                    continue
                metric_count += 1

    def _checked(
        self, timeseries: Any, received: Received
    ) -> Iterator[tuple[str, dict[str, str], Any]]:
        """Yield name, tags and samples of the series that can be recorded."""
        for each in timeseries:
            labels = {label.name: label.value for label in each.labels if label.value}
            name = labels.pop("__name__", "")
            if len(each.histograms):
                received.refused["native histograms"] += len(each.histograms)
            try:
                self._metrics.check(name, 0.0, type="gauge", tags=labels)
            except InvalidMetric as error:
                received.refused["of invalid series"] += len(each.samples)
                if len(received.messages) < _MAX_MESSAGES:
                    received.messages.append(one_line(error))
            else:
                if len(each.samples):
                    yield name, labels, each.samples

    def _record(
        self,
        name: str,
        tags: Mapping[str, str],
        samples: Any,
        bounds: TimestampBounds,
        received: Received,
    ) -> None:
        key = (name, *(text for pair in tags.items() for text in pair))
        last = self._last.get(key)
        for sample in samples:
            value, time_ms = sample.value, sample.timestamp
            metadata = None
            if not math.isfinite(value):
                if struct.unpack("<Q", struct.pack("<d", value))[0] != _STALE:
                    received.refused["not finite"] += 1
                    continue
                if last is None:
                    # This process received nothing of it, so there is nothing to end.
                    continue
                value, metadata = last, STALE_METADATA
            if time_ms < bounds.oldest_ms:
                received.refused["too old (max_age)"] += 1
            elif time_ms > bounds.newest_ms:
                received.refused["too far in the future (max_future)"] += 1
            else:
                self._metrics.gauge(
                    name, value, tags=tags, timestamp=time_ms / 1000, metadata=metadata
                )
                received.names[name] += 1
                last = None if metadata else value
        self._remember(key, last)

    def _remember(self, key: tuple[str, ...], last: float | None) -> None:
        if last is None:
            self._last.pop(key, None)
            return
        self._last[key] = last
        if len(self._last) > _MAX_REMEMBERED:
            try:
                self._last.popitem(last=False)
            except KeyError:
                # Another thread was faster.
                return
