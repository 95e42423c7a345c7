"""
The interface of a source of series: queries in, columns out.

All selectors of an expression are known before it is evaluated, so the evaluation does no I/O:

1. `prepare(expression, start, end, step, lookback=)` of `prepare.py`, all times in Unix ms and a
   step of 0 for an instant query, parses and checks; it returns an object with *selectors*.
2. The caller gets one `Selected` for each selector, in whatever way suits it: in one round trip,
   awaited, from memory.
3. Its method ``evaluate(answers, budget)`` takes the answers in the same order and returns the
   result, with warnings and infos.

A selector requests the series of some matchers at `count` times, `start`, `start + step`, ... in
Unix milliseconds; `offset` and `@` are already included in these times. It is an *instant*
selector, or a *range* selector of a function: `rate(m[5m])`. For each series the source chooses how
to answer:

====================  ==========================================================================
`SampledSeries`       Recorded samples. The evaluator does what Prometheus does with them:
                      lookback, staleness, extrapolation, resets, every function. Suits gauges and
                      series received by remote write.
`ComputedSeries`      The value itself at each time, worked out by the source: of an instant
                      selector the value of the series, of a range selector the value of
                      `selector.function` over ``(time - range, time]``. Suits counters whose exact
                      changes are known: their running total, `increase`, `rate`, `delta`, `irate`.
`DistributionSeries`  Like `ComputedSeries`, but each value is a distribution of observations: what
                      Prometheus calls a native histogram.
====================  ==========================================================================

One answer may have parts of all kinds, and several of the same kind. A source without a better
answer for a function returns `SampledSeries`: the evaluator supports all functions on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from redismetrics.columnar.arrays import Bools, Floats, Ints
from redismetrics.columnar.percentiles import SortedPoints

from .budget import Budget
from .matchers import Matcher

# Labels of one series with `__name__`; no empty values. Never changed once made, so they may be
# shared.
Labels = dict[str, str]

# Prometheus' query.lookback-delta: 5 minutes.
LOOKBACK_MS = 300_000


@dataclass(frozen=True, slots=True)
class Selector:
    """One selector of an expression.

    Attributes:
        matchers: A series must match all of them.
        start: First time, Unix ms.
        step: Step between the times in ms; 0 if there is only one.
        count: Number of times, at least 1.
        range: Width of the window in ms; 0 for an instant selector.
        function: Name of the function of a range selector, such as ``rate``. Empty for an instant
            selector. Also empty for a range selector that only samples can answer: one that is
            itself the result, ``m[5m]``, of a function with more arguments, or with `anchored` or
            `smoothed`. The answer to it must be `SampledSeries`.
        lookback: The `lookback_delta` of the request in ms; None if there was none, so that the
            metric's own, or the default of 5 minutes, applies.
    """

    matchers: tuple[Matcher, ...]
    start: int
    step: int
    count: int
    range: int = 0
    function: str = ""
    lookback: int | None = None

    @property
    def end(self) -> int:
        return self.start + self.step * (self.count - 1)

    @property
    def reach(self) -> tuple[int, int]:
        """Return (after, until): samples matter if ``after < time <= until``, in Unix ms.

        For an instant selector with the default lookback.
        """
        width = self.range or (LOOKBACK_MS if self.lookback is None else self.lookback)
        return self.start - width, self.end

    @property
    def times(self) -> Ints:
        """Return all times, shape (count,)."""
        return self.start + self.step * np.arange(self.count, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class SampledSeries:
    """Recorded samples of some series, one series after another, each ordered by time.

    Attributes:
        labels: Labels of each series.
        offsets: Series i has the samples ``offsets[i] .. offsets[i + 1]``; shape (series + 1,).
        times: Unix ms, strictly ascending within a series, shape (samples,). All samples within
            `Selector.reach` must be included; others are ignored.
        values: Shape (samples,).
        stale: True for a staleness marker, which ends its series; shape (samples,). None means
            none.
        lookback: Lookback of each series in ms, shape (series,). None means the selector's, or 5
            minutes. Only for instant selectors.
    """

    labels: Sequence[Labels]
    offsets: Ints
    times: Ints
    values: Floats
    stale: Bools | None = None
    lookback: Ints | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ComputedSeries:
    """The value of each series at each time of the selector.

    Attributes:
        labels: Labels of each series.
        values: Shape (series, count); undefined where not present.
        present: True where the series has a value, shape (series, count). NaN is a value.
    """

    labels: Sequence[Labels]
    values: Floats
    present: Bools


@dataclass(frozen=True, slots=True, eq=False)
class DistributionSeries:
    """The distribution of observations of each series at each time of the selector.

    A *cell* is a series at a time; its number is ``series * count + time``. A cell may have rows in
    several parts, and several rows in one part: they are merged when a percentile is computed, as
    in `queries`, so the source need not merge digests.

    For `rate`, counts, totals and squares are per second, and `scale` is 1 / seconds: weights stay
    whole numbers.

    Attributes:
        labels: Labels of each series.
        present: True where there is a distribution, even an empty one; shape (series, count).
        count: Number of observations; 0 where not present. Shape (series, count), like those below.
        total: Sum of the observations.
        m2: Sum of the squared differences from the mean.
        low: Smallest observation; infinite where there is none.
        high: Largest observation; minus infinite where there is none.
        points: Points of the digests. `SortedPoints.group` is the number of the cell.
        scale: The value of one unit of weight of a point.
    """

    labels: Sequence[Labels]
    present: Bools
    count: Floats
    total: Floats
    m2: Floats
    low: Floats
    high: Floats
    points: Sequence[SortedPoints]
    scale: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Selected:
    """The answer to one selector; no two series have the same labels.

    Attributes:
        samples: Parts with recorded samples.
        values: Parts with computed values.
        distributions: Parts with distributions.
        warnings: Warnings for the user: results may be wrong.
        infos: Hints for the user: ``did you mean `jobs_completed_total`?``
    """

    samples: Sequence[SampledSeries] = ()
    values: Sequence[ComputedSeries] = ()
    distributions: Sequence[DistributionSeries] = ()
    warnings: Sequence[str] = ()
    infos: Sequence[str] = ()


class Source(Protocol):
    """A source that answers selectors directly, such as series in memory."""

    def select(self, selectors: Sequence[Selector], budget: Budget) -> Sequence[Selected]:
        """Return the answer to each selector.

        Count samples with `Budget.read`, and call `Budget.check` during long work.
        """
        ...
