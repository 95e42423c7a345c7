"""Histogram functions, for distributions and for classic histograms with the label `le`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from redismetrics.columnar.arrays import Floats
from redismetrics.exposition.number_format import format_bound

from . import buckets, nodes
from .buckets import ClassicHistograms, Stack
from .distributions import Distributions
from .number_format import format_short
from .prepare import strip
from .vectors import Grid, Scalar, Vector, concatenate, merge_same_labels

if TYPE_CHECKING:
    from .evaluate import Evaluation

_FORCED = (
    "input to histogram_quantile needed to be fixed for monotonicity (see "
    "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)"
)


@dataclass(slots=True)
class HistogramCalls:
    """One call of a histogram function.

    Attributes:
        run: The evaluation.
        grid: The times of the call.
        node: The call.
        arguments: Values of the arguments, without strings.
        texts: String arguments.
    """

    run: "Evaluation"
    grid: Grid
    node: nodes.FunctionCall
    arguments: list[Any]
    texts: list[str]

    def value(self) -> Vector:
        match self.node.function:
            case "histogram_quantile":
                return self._quantile(self.arguments[0], self.arguments[1], 0, 1)
            case "histogram_quantiles":
                return self._quantiles()
            case "histogram_fraction":
                return self._fraction(*self.arguments)
            case name:
                return self._statistic(name, self.arguments[0])

    def _at(self, argument: int) -> int:
        return strip(self.node.arguments[argument]).at

    def _statistic(self, name: str, vector: Vector) -> Vector:
        block = vector.distributions
        if block is None:
            return Vector.empty(vector.steps)
        values = {
            "histogram_count": block.count,
            "histogram_sum": block.total,
            "histogram_avg": block.total / block.count,
            "histogram_stdvar": block.m2 / block.count,
            "histogram_stddev": np.sqrt(block.m2 / block.count),
        }[name]
        return _of_block(block, values)

    def _quantile(self, ranks: Scalar, vector: Vector, rank_at: int, vector_at: int) -> Vector:
        self.run.notes.check_quantile(self._at(rank_at), ranks)
        classic = self._classic(vector, vector_at)

        def calculate(stack: Stack, step: slice, numbers: list[int]) -> Floats:
            fixed, forced, repairs = buckets.make_monotonic(stack)
            if forced.any():
                rows, steps = np.nonzero(forced)
                times = self.grid.times[step][steps]
                self._note_forced(
                    classic.names[numbers[int(rows[0])]], vector_at, repairs, times.tolist()
                )
            return buckets.quantiles(fixed, ranks[step])

        parts = [self._of_stacks(classic, vector.steps, calculate)]
        if vector.distributions:
            parts.append(_of_block(vector.distributions, vector.distributions.quantiles(ranks)))
        return merge_same_labels(concatenate(parts, vector.steps))

    def _note_forced(
        self, name: str, vector_at: int, repairs: buckets.Repairs, times: list[int]
    ) -> None:
        of_metric = f' for metric name "{name}"' if name else ""
        first, last = (
            datetime.fromtimestamp(time / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            for time in (min(times), max(times))
        )
        when = f"at timestamp {first}"
        if len(times) > 1:
            when = f"over {len(times)} samples from {first} to {last}"
        self.run.notes.info(
            self._at(vector_at),
            f"{_FORCED}{of_metric}, from buckets {format_short(repairs.low)} to "
            f"{format_short(repairs.high)}, with a max diff of {repairs.largest:.2g}, {when}",
        )

    def _quantiles(self) -> Vector:
        vector, ranks = self.arguments[0], self.arguments[1:]
        label = self.texts[0]
        parts = []
        for number, rank in enumerate(ranks):
            found = self._quantile(rank, vector, number + 2, 0)
            for value in np.unique(rank).tolist():
                part = found.where(np.broadcast_to(_equal(rank, value), found.present.shape))
                text = format_bound(value) if np.isfinite(value) else format_short(value)
                labels = [buckets.labels_with(old, label, text) for old in found.labels]
                parts.append(replace(part, labels=labels))
        return merge_same_labels(concatenate(parts, vector.steps))

    def _fraction(self, lower: Scalar, upper: Scalar, vector: Vector) -> Vector:
        classic = self._classic(vector, 2)

        def calculate(stack: Stack, step: slice, _: list[int]) -> Floats:
            return buckets.fractions(stack, lower[step], upper[step])

        parts = [self._of_stacks(classic, vector.steps, calculate)]
        if vector.distributions:
            found = vector.distributions.fractions(lower, upper)
            parts.append(_of_block(vector.distributions, found))
        return merge_same_labels(concatenate(parts, vector.steps))

    def _classic(self, vector: Vector, vector_at: int) -> ClassicHistograms:
        classic, wrong = buckets.classic_histograms(vector.floats())
        for name, bound in wrong[:10]:
            of_metric = f' for metric name "{name}"' if name else ""
            self.run.notes.warning(
                self._at(vector_at),
                f'bucket label "le" is missing or has a malformed value of "{bound}"{of_metric}',
            )
        return classic

    def _of_stacks(
        self,
        classic: ClassicHistograms,
        steps: int,
        calculate: Callable[[Stack, slice, list[int]], Floats],
    ) -> Vector:
        shape = (len(classic.groups), steps)
        self.run.budget.hold(shape[0] * steps)
        values, present = np.zeros(shape), np.zeros(shape, np.bool_)
        for numbers, step, stack in buckets.stacks(classic, self.run.budget):
            values[numbers, step] = calculate(stack, step, numbers.tolist())
            present[numbers, step] = stack.size > 0
        drop = np.ones(shape[0], np.bool_)
        return Vector(classic.groups.labels, values, present, drop)


def _of_block(block: Distributions, values: Floats) -> Vector:
    """Return a number per distribution; the names are dropped."""
    return Vector(block.labels, values, block.present, np.ones(len(block), np.bool_))


def _equal(values: Floats, value: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.isnan(values) if np.isnan(value) else values == value
