"""Aggregations that keep series: `topk`, `bottomk`, `limitk`, `limit_ratio`; and `count_values`."""

import hashlib
import math

import numpy as np

from redismetrics.columnar.arrays import Bools, Floats, Ints
from redismetrics.errors import EvaluationFailed

from .budget import Budget
from .grouping import Groups, group_labels
from .nodes import Aggregation
from .number_format import format_label
from .source import Labels
from .vectors import Scalar, Vector
from .windows import BLOCK_CELLS


def check_count(name: str, count: Scalar) -> None:
    """Check the k of `topk`, `bottomk` and `limitk`."""
    if np.isnan(count).any():
        raise EvaluationFailed("Parameter value is NaN")
    for value in (count.min(initial=0.0), count.max(initial=0.0)):
        if not -(2.0**63) < value < 2.0**63:
            side = "under" if value < 0 else "over"
            raise EvaluationFailed(f"Scalar value {value:g} {side}flows int64 in {name}")


def keep_extremes(vector: Vector, node: Aggregation, count: Scalar, budget: Budget) -> Vector:
    """Return the series with the *count* largest or smallest values of each group at each step.

    Among equal values, the earlier series is kept; NaN is kept last.
    """
    groups = group_labels(vector.labels, node)
    kept = np.zeros(vector.present.shape, np.bool_)
    rank = np.zeros(vector.present.shape, np.int64)
    sign = -1.0 if node.operator == "topk" else 1.0
    limit = np.clip(count, 0, len(vector)).astype(np.int64)
    for _, rows in groups.stacks():
        width = max(1, BLOCK_CELLS // rows.size)
        for step in range(0, vector.steps, width):
            budget.check()
            part = slice(step, step + width)
            order = _order(sign * vector.values[rows, part], vector.present[rows, part])
            place = np.empty_like(order)
            np.put_along_axis(place, order, np.arange(rows.shape[1])[None, :, None], axis=1)
            rank[rows, part] = place
            kept[rows, part] = place < limit[part]
    kept &= vector.present
    return _chosen(vector, groups, kept, rank)


def _order(values: Floats, present: Bools) -> Ints:
    """Return the order of values along axis 1: numbers, then NaN, then absent values."""
    rank = np.where(present, np.where(np.isnan(values), 1, 0), 2).astype(np.int8)
    if not rank.any():
        return np.argsort(values, axis=1, kind="stable")
    by_value = np.argsort(np.where(rank == 0, values, 0.0), axis=1, kind="stable")
    by_rank = np.argsort(np.take_along_axis(rank, by_value, axis=1), axis=1, kind="stable")
    return np.take_along_axis(by_value, by_rank, axis=1)


def _chosen(vector: Vector, groups: Groups, kept: Bools, rank: Ints) -> Vector:
    """Return the series that are kept at any step; for an instant query, ordered by rank."""
    rows = np.flatnonzero(kept.any(axis=1))
    if vector.steps == 1:
        rows = rows[np.lexsort((rank[rows, 0], groups.number[rows]))]
    found = vector.take(rows)
    found.present = kept[rows]
    return found


def keep_first(vector: Vector, node: Aggregation, count: Scalar) -> Vector:
    """Return the first *count* present series of each group at each step."""
    labels, present = _all_series(vector)
    groups = group_labels(labels, node)
    kept = np.zeros(present.shape, np.bool_)
    limit = np.maximum(count, 0)
    for _, rows in groups.stacks():
        number = np.cumsum(present[rows], axis=1)
        kept[rows] = number <= limit
    return _kept(vector, kept)


def keep_ratio(vector: Vector, ratio: Scalar) -> Vector:
    """Return a share of the series; a negative ratio gives the complement of ``1 + ratio``."""
    labels, _ = _all_series(vector)
    place = np.array([_place(of_series) for of_series in labels]).reshape(-1, 1)
    ratio = np.clip(ratio, -1.0, 1.0)
    kept = np.where(ratio >= 0, place < ratio, place >= 1 + ratio)
    return _kept(vector, kept)


def _place(labels: Labels) -> float:
    """Return a number from 0 to 1 that depends only on the labels."""
    text = repr(sorted(labels.items())).encode(errors="surrogatepass")
    number = int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "big")
    return number / 2.0**48


def _all_series(vector: Vector) -> tuple[list[Labels], Bools]:
    if not vector.distributions:
        return vector.labels, vector.present
    block = vector.distributions
    return [*vector.labels, *block.labels], np.concatenate([vector.present, block.present])


def _kept(vector: Vector, kept: Bools) -> Vector:
    found = vector.where(kept[: len(vector)])
    if vector.distributions:
        found.distributions = vector.distributions.where(kept[len(vector) :])
    return found


def count_values(vector: Vector, node: Aggregation, label: str, budget: Budget) -> Vector:
    """Return the number of series in each group with each value, which becomes *label*."""
    values, number = np.unique(vector.values[vector.present], return_inverse=True)
    series, step = np.nonzero(vector.present)
    budget.check()
    # A pair of a series and a value has its own labels, and so its group.
    pairs, of_cell = np.unique(series * max(len(values), 1) + number, return_inverse=True)
    budget.series(len(pairs))
    texts = [format_label(value) for value in values.tolist()]
    labels = []
    for pair in pairs.tolist():
        row, of_value = divmod(pair, len(values))
        labels.append({**vector.labels[row], label: texts[of_value]})
    groups = group_labels(labels, _with_label(node, label))
    budget.hold(len(groups) * vector.steps)
    counts = np.zeros((len(groups), vector.steps))
    np.add.at(counts, (groups.number[of_cell], step), 1.0)
    return Vector(groups.labels, counts, counts > 0, np.zeros(len(groups), np.bool_))


def _with_label(node: Aggregation, label: str) -> Aggregation:
    if node.without:
        return node
    labels = tuple(sorted({*node.labels, label}))
    return Aggregation(node.at, node.operator, node.expression, None, labels, without=False)


def first_invalid(values: Scalar, low: float, high: float) -> list[float]:
    """Return the smallest value below *low* and the largest above *high*, and NaN, if any."""
    found = []
    if np.isnan(values).any():
        found.append(math.nan)
    if (values > high).any():
        found.append(float(np.nanmax(values)))
    if (values < low).any():
        found.append(float(np.nanmin(values)))
    return found
