"""The values of expressions: series by steps, with presence separate from NaN."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from redismetrics.columnar.arrays import Bools, Floats, Ints
from redismetrics.errors import EvaluationFailed

from .distributions import Distributions
from .source import Labels

# The labels that describe a metric. They are dropped together with its name (PROM-39).
METADATA = ("__name__", "__type__", "__unit__")

SAME_LABELS = "vector cannot contain metrics with the same labelset"


@dataclass(frozen=True, slots=True)
class Grid:
    """The times of an evaluation: *count* steps of *step* ms from *start*, Unix ms."""

    start: int
    step: int
    count: int

    @property
    def times(self) -> Ints:
        """Return all times, shape (count,)."""
        return self.start + self.step * np.arange(self.count, dtype=np.int64)

    @property
    def end(self) -> int:
        return self.start + self.step * (self.count - 1)


@dataclass(slots=True, eq=False)
class Vector:
    """An instant vector at each step.

    Attributes:
        labels: Labels of each series.
        values: Shape (series, steps); undefined where not present.
        present: Shape (series, steps).
        drop: True for a series whose name is dropped from the result, shape (series,). Until then,
            `label_replace` and `by (__name__)` see it, as in Prometheus with the feature flag
            promql-delayed-name-removal.
        distributions: Series whose values are distributions.
    """

    labels: list[Labels]
    values: Floats
    present: Bools
    drop: Bools
    distributions: Distributions | None = None

    @property
    def steps(self) -> int:
        return int(self.values.shape[1])

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def empty(cls, steps: int) -> "Vector":
        return cls([], np.zeros((0, steps)), np.zeros((0, steps), np.bool_), np.zeros(0, np.bool_))

    def with_values(self, values: Floats, present: Bools | None = None) -> "Vector":
        """Return these series with other values, without their names and distributions."""
        present = self.present if present is None else present
        return Vector(self.labels, values, present, np.ones(len(self), np.bool_))

    def take(self, rows: Ints) -> "Vector":
        """Return the series at *rows*, in that order, without distributions."""
        labels = [self.labels[row] for row in rows.tolist()]
        return Vector(labels, self.values[rows], self.present[rows], self.drop[rows])

    def where(self, present: Bools) -> "Vector":
        """Return this vector where *present* is also true, without distributions."""
        return replace(self, present=self.present & present, distributions=None)

    def floats(self) -> "Vector":
        return replace(self, distributions=None) if self.distributions else self


# A scalar at each step, shape (steps,).
Scalar = Floats


Key = tuple[str, ...]
K = TypeVar("K")


def key_of(labels: Labels) -> tuple[tuple[str, str], ...]:
    """Return a key that is equal for equal labels."""
    return tuple(sorted(labels.items()))


def by_labels(labels: Sequence[Labels], names: Sequence[str]) -> list[Key]:
    """Return the values of *names* of each series; "" if missing."""
    return [tuple([of_series.get(name, "") for name in names]) for of_series in labels]


def without_labels(labels: Iterable[Labels], names: Iterable[str]) -> list[Labels]:
    """Return the labels of each series without *names*."""
    left_out = frozenset(names)
    return [
        {name: value for name, value in of_series.items() if name not in left_out}
        for of_series in labels
    ]


def number_keys(keys: Iterable[K]) -> tuple[Ints, list[K]]:
    """Return the number of each key, shape (keys,), and the distinct keys in order of number."""
    numbers: dict[K, int] = {}
    found = [numbers.setdefault(key, len(numbers)) for key in keys]
    return np.array(found, np.int64), list(numbers)


def merge_same_labels(vector: Vector, keys: Sequence[object] | None = None) -> Vector:
    """Return *vector* with series of equal labels merged.

    Raises:
        EvaluationFailed: If two of them are present at the same step.
    """
    keys = [key_of(labels) for labels in vector.labels] if keys is None else keys
    numbers, distinct = number_keys(keys)
    distributions = vector.distributions and vector.distributions.merge_same_labels()
    if len(distinct) == len(vector):
        return replace(vector, distributions=distributions)
    first = np.full(len(distinct), len(vector), np.int64)
    np.minimum.at(first, numbers, np.arange(len(vector)))
    order = np.argsort(numbers, kind="stable")
    starts = np.searchsorted(numbers[order], np.arange(len(distinct)))
    counts = np.add.reduceat(vector.present[order].astype(np.int32), starts, axis=0)
    if counts.max(initial=0) > 1:
        raise EvaluationFailed(SAME_LABELS)
    values = np.where(vector.present, vector.values, 0.0)[order]
    return Vector(
        [vector.labels[row] for row in first.tolist()],
        np.add.reduceat(values, starts, axis=0),
        counts > 0,
        vector.drop[first],
        distributions,
    )


def drop_names(vector: Vector) -> Vector:
    """Return *vector* without the names marked to be dropped.

    Raises:
        EvaluationFailed: If two series with equal labels are then present at the same step.
    """
    if not vector.drop.any() and not (vector.distributions and vector.distributions.drop.any()):
        return merge_same_labels(vector)
    plain = without_labels(vector.labels, METADATA)
    labels = [
        plain[row] if drop else vector.labels[row] for row, drop in enumerate(vector.drop.tolist())
    ]
    distributions = vector.distributions and vector.distributions.drop_names(METADATA)
    return merge_same_labels(replace(vector, labels=labels, distributions=distributions))


def concatenate(parts: Sequence[Vector], steps: int) -> Vector:
    """Return all series of *parts*, with names and distributions."""
    parts = [part for part in parts if len(part) or part.distributions]
    if not parts:
        return Vector.empty(steps)
    if len(parts) == 1:
        return parts[0]
    blocks = [part.distributions for part in parts if part.distributions]
    return Vector(
        [labels for part in parts for labels in part.labels],
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.present for part in parts]),
        np.concatenate([part.drop for part in parts]),
        Distributions.concatenate(blocks) if blocks else None,
    )


def map_rows(vector: Vector, function: Callable[[Floats], Floats]) -> Vector:
    """Apply *function* to all values of a vector."""
    return vector.with_values(function(vector.values))


def vector_of(value: Scalar) -> Vector:
    """Return a scalar as a vector with one series without labels."""
    return Vector([{}], value[None, :], np.ones((1, len(value)), np.bool_), np.zeros(1, np.bool_))


def stretched(vector: Vector, steps: int) -> Vector:
    """Return a vector at a single time repeated at each of *steps*."""
    if vector.steps == steps:
        return vector
    shape = (len(vector), steps)
    return replace(
        vector,
        values=np.broadcast_to(vector.values, shape),
        present=np.broadcast_to(vector.present, shape),
        distributions=vector.distributions and vector.distributions.stretched(steps),
    )
