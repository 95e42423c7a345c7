"""Groups of series for aggregations, stacked so that one operation handles all groups of a size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from redismetrics.columnar.arrays import Bools, Ints

from .nodes import Aggregation
from .source import Labels
from .vectors import by_labels, key_of, number_keys, without_labels


@dataclass(slots=True, eq=False)
class Groups:
    """Groups of series.

    Attributes:
        number: Number of each series' group, shape (series,).
        labels: Labels of each group.
    """

    number: Ints
    labels: list[Labels]

    def __len__(self) -> int:
        return len(self.labels)

    def any_of(self, flags: Bools) -> Bools:
        """Return whether any series of each group has its flag set, shape (groups,)."""
        return np.bincount(self.number, flags, len(self)) > 0

    def stacks(self) -> Iterator[tuple[Ints, Ints]]:
        """Yield groups of equal size: their numbers, and the rows of each, shape (groups, size)."""
        order = np.argsort(self.number, kind="stable")
        sizes = np.bincount(self.number, minlength=len(self))
        begin = np.cumsum(sizes) - sizes
        for size in np.unique(sizes).tolist():
            if size:
                groups = np.flatnonzero(sizes == size)
                yield groups, order[begin[groups][:, None] + np.arange(size)]

    def ordered(self) -> tuple[Ints, Ints]:
        """Return all rows, one group after another, and the start of each group."""
        order = np.argsort(self.number, kind="stable")
        sizes = np.bincount(self.number, minlength=len(self))
        return order, np.cumsum(sizes) - sizes


def group_labels(labels: Sequence[Labels], node: Aggregation) -> Groups:
    """Return the groups of ``by`` or ``without``."""
    if node.without:
        plain = without_labels(labels, ("__name__", *node.labels))
        number, keys = number_keys([key_of(of_series) for of_series in plain])
        return Groups(number, [dict(key) for key in keys])
    number, values = number_keys(by_labels(labels, node.labels))
    found = [
        {name: value for name, value in zip(node.labels, key, strict=True) if value}
        for key in values
    ]
    return Groups(number, found)
