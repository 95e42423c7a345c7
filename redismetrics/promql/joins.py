"""Operators between two vectors: join series with equal matching labels."""

from dataclasses import dataclass, replace

import numpy as np

from redismetrics.columnar.arrays import Bools, Floats, Ints, ragged
from redismetrics.errors import EvaluationFailed

from .budget import Budget
from .distributions import Distributions
from .nodes import Binary, Matching
from .operators import ARITHMETIC, SET_OPERATORS, calculate
from .source import Labels
from .vectors import (
    METADATA,
    SAME_LABELS,
    Vector,
    by_labels,
    concatenate,
    key_of,
    merge_same_labels,
    number_keys,
    without_labels,
)


def match_labels(labels: list[Labels], matching: Matching) -> list[Labels]:
    """Return the labels of each series that take part in the matching."""
    if not matching.on:
        return without_labels(labels, ("__name__", *matching.labels))
    return [
        {name: of_series[name] for name in matching.labels if name in of_series}
        for of_series in labels
    ]


def _signatures(
    left: list[Labels], right: list[Labels], matching: Matching
) -> tuple[Ints, Ints, int]:
    """Return the number of the match group of each series of both sides, and of all groups."""
    both = [*left, *right]
    keys: list[tuple[object, ...]]
    if matching.on:
        keys = list(by_labels(both, matching.labels))
    else:
        keys = [key_of(labels) for labels in match_labels(both, matching)]
    numbers, distinct = number_keys(keys)
    return numbers[: len(left)], numbers[len(left) :], len(distinct)


def _any_present(present: Bools, group: Ints, groups: int) -> Bools:
    """Return where any series of each group is present, shape (groups, steps)."""
    found = np.zeros((groups, present.shape[1]), np.bool_)
    np.logical_or.at(found, group, present)
    return found


def combine_sets(left: Vector, right: Vector, node: Binary, budget: Budget) -> Vector:
    """Return ``left and right``, ``left or right`` or ``left unless right``."""
    first, second = left.distributions, right.distributions
    labels = [*left.labels, *(first.labels if first else [])]
    others = [*right.labels, *(second.labels if second else [])]
    group, other, groups = _signatures(labels, others, node.matching)
    budget.hold(groups * left.steps)
    if node.operator == "or":
        held = _presence(left)
        hidden = _any_present(held, group, groups)[other]
        kept = _masked(right, ~hidden)
        return merge_same_labels(concatenate([left, kept], left.steps))
    found = _any_present(_presence(right), other, groups)[group]
    return _masked(left, found if node.operator == "and" else ~found)


def _presence(vector: Vector) -> Bools:
    if not vector.distributions:
        return vector.present
    return np.concatenate([vector.present, vector.distributions.present])


def _masked(vector: Vector, kept: Bools) -> Vector:
    masked = vector.where(kept[: len(vector)])
    if vector.distributions:
        masked.distributions = vector.distributions.where(kept[len(vector) :])
    return masked


def join(left: Vector, right: Vector, node: Binary, budget: Budget) -> Vector:
    """Return ``left operator right`` for arithmetic and comparisons, without distributions.

    Raises:
        EvaluationFailed: If several series match where only one may.
    """
    assert node.operator not in SET_OPERATORS
    matching = node.matching
    many, one = (right, left) if matching.many == "right" else (left, right)
    group, other, groups = _signatures(many.labels, one.labels, matching)
    budget.hold(groups * left.steps)
    # As in Prometheus, fill_left applies to the "many" side even if that is on the right.
    fill_many, fill_one = matching.fill_left, matching.fill_right
    _check_one_side(many, one, other, groups, node, filled=fill_many is not None)
    pairs = _pairs(many, one, group, other, groups, node, budget)
    parts = [_joined(many, one, pairs, node)]
    if fill_one is not None:
        lonely = many.where(~_any_present(one.present, other, groups)[group])
        parts.append(_filled_one(lonely, fill_one, node))
    matched = _any_present(many.present, group, groups)
    if fill_many is not None:
        lonely = one.where(~matched[other])
        parts.append(_filled_many(lonely, fill_many, node))
    _check_many_side(parts, group, groups, node)
    kept = [replace(part.vector, present=part.kept) for part in parts]
    return merge_same_labels(concatenate(kept, left.steps))


@dataclass(slots=True, eq=False)
class _Joined:
    """Results of a join: the matched cells, and those kept by a comparison."""

    vector: Vector
    kept: Bools
    group: Ints


def _check_one_side(
    many: Vector, one: Vector, other: Ints, groups: int, node: Binary, *, filled: bool
) -> None:
    """Raise if two series on the "one" side are in a match group at the same step."""
    if len(np.unique(other)) == len(other):
        return
    counts = np.zeros((groups, one.steps), np.int32)
    np.add.at(counts, other, one.present)
    active = np.ones(one.steps, np.bool_) if filled else many.present.any(axis=0)
    double = np.argwhere((counts > 1) & active)
    if not len(double):
        return
    number, step = double[0].tolist()
    rows = np.flatnonzero((other == number) & one.present[:, step])[:2].tolist()
    names = [shown_labels(one.labels[row]) for row in reversed(rows)]
    key = shown_labels(match_labels([one.labels[rows[0]]], node.matching)[0])
    side = "left" if node.matching.many == "right" else "right"
    raise EvaluationFailed(
        f"found duplicate series for the match group {key} on the {side} hand-side of the "
        f"operation: [{names[0]}, {names[1]}];many-to-many matching not allowed: matching labels "
        "must be unique on one side"
    )


def shown_labels(labels: Labels) -> str:
    """Return labels in Prometheus' notation."""
    return "{" + ", ".join(f'{name}="{labels[name]}"' for name in sorted(labels)) + "}"


@dataclass(slots=True, eq=False)
class _Pairs:
    """Matching rows of both sides; rows on the "one" side are merged where labels allow it."""

    many: Ints
    one: Ints
    values: Floats
    present: Bools
    group: Ints


def _pairs(
    many: Vector,
    one: Vector,
    group: Ints,
    other: Ints,
    groups: int,
    node: Binary,
    budget: Budget,
) -> _Pairs:
    """Return which series match.

    Series on the "one" side with the same match group and the same included labels are never
    present at the same step, so they share a row.
    """
    included = by_labels(one.labels, node.matching.include)
    keys = list(zip(other.tolist(), included, strict=True))
    number, distinct = number_keys(keys)
    shape = (len(distinct), one.steps)
    values, present = np.zeros(shape), np.zeros(shape, np.bool_)
    np.add.at(values, number, np.where(one.present, one.values, 0.0))
    np.logical_or.at(present, number, one.present)
    row_of = np.zeros(len(distinct), np.int64)
    row_of[number] = np.arange(len(number))
    of_group = np.array([key[0] for key in distinct], np.int64)
    # All rows on the "one" side, one group after another.
    order = np.argsort(of_group, kind="stable")
    size = np.bincount(of_group, minlength=groups)[group]
    begin = np.searchsorted(of_group[order], group)
    total = int(size.sum())
    budget.series(total)
    budget.hold(total * many.steps)
    rows = order[ragged(begin, size)]
    left = np.repeat(np.arange(len(many)), size)
    return _Pairs(left, row_of[rows], values[rows], present[rows], group[left])


def _joined(many: Vector, one: Vector, pairs: _Pairs, node: Binary) -> _Joined:
    own = [many.labels[row] for row in pairs.many.tolist()]
    others = [one.labels[row] for row in pairs.one.tolist()]
    present = many.present[pairs.many] & pairs.present
    values, kept = _values(node, many.values[pairs.many], pairs.values)
    drop = many.drop[pairs.many]
    return _result(own, others, Vector(own, values, present, drop), kept, pairs.group, node)


def _filled_one(lonely: Vector, fill: float, node: Binary) -> _Joined:
    """Return the results of series on the "many" side with a fill value for the "one" side."""
    others = match_labels(lonely.labels, node.matching)
    values, kept = _values(node, lonely.values, np.full(lonely.values.shape, fill))
    group = np.full(len(lonely), -1, np.int64)
    found = replace(lonely, values=values)
    return _result(lonely.labels, others, found, kept, group, node)


def _filled_many(lonely: Vector, fill: float, node: Binary) -> _Joined:
    """Return the results of series on the "one" side with a fill value for the "many" side."""
    own = match_labels(lonely.labels, node.matching)
    values, kept = _values(node, np.full(lonely.values.shape, fill), lonely.values)
    group = np.full(len(lonely), -1, np.int64)
    found = replace(lonely, values=values, drop=np.zeros(len(lonely), np.bool_))
    return _result(own, lonely.labels, found, kept, group, node)


def _values(node: Binary, many: Floats, one: Floats) -> tuple[Floats, Bools]:
    left, right = (one, many) if node.matching.many == "right" else (many, one)
    values, kept = calculate(node.operator, left, right)
    if node.bool:
        return kept.astype(np.float64), np.ones(kept.shape, np.bool_)
    return values, kept


def _result(
    own: list[Labels],
    others: list[Labels],
    values: Vector,
    kept: Bools,
    group: Ints,
    node: Binary,
) -> _Joined:
    """Return the results with their labels, given the labels of both sides."""
    labels = [_result_labels(*pair, node) for pair in zip(own, others, strict=True)]
    drop = values.drop | node.bool
    return _Joined(replace(values, labels=labels, drop=drop), values.present & kept, group)


def _result_labels(own: Labels, other: Labels, node: Binary) -> Labels:
    matching = node.matching
    labels = dict(own)
    if node.operator in ARITHMETIC:
        for name in METADATA:
            labels.pop(name, None)
    if not matching.many:
        if matching.on:
            labels = {name: value for name, value in labels.items() if name in matching.labels}
        else:
            for name in matching.labels:
                labels.pop(name, None)
    for name in matching.include:
        labels.pop(name, None)
        if other.get(name):
            labels[name] = other[name]
    return labels


def _check_many_side(parts: list[_Joined], group: Ints, groups: int, node: Binary) -> None:
    """Raise if two results of a match group are the same series at the same step.

    This includes results that a comparison drops.
    """
    joined = parts[0]
    if not node.matching.many:
        if len(np.unique(joined.group)) == len(joined.group):
            return
        counts = np.zeros((groups, joined.vector.steps), np.int32)
        np.add.at(counts, joined.group, joined.vector.present)
        if counts.max(initial=0) > 1:
            raise EvaluationFailed(
                "multiple matches for labels: many-to-one matching must be explicit "
                "(group_left/group_right)"
            )
        return
    keys = [
        (number, key_of(labels))
        for number, labels in zip(joined.group.tolist(), joined.vector.labels, strict=True)
    ]
    try:
        merge_same_labels(joined.vector, keys)
    except EvaluationFailed as error:
        if str(error) != SAME_LABELS:
            raise
        raise EvaluationFailed(
            "multiple matches for labels: grouping labels must ensure unique matches"
        ) from error


def add_distributions(left: Distributions, right: Distributions, node: Binary) -> Distributions:
    """Return the sums of distributions with equal matching labels."""
    group, other, groups = _signatures(left.labels, right.labels, node.matching)
    both = _any_present(left.present, group, groups) & _any_present(right.present, other, groups)
    joined = Distributions.concatenate([left.where(both[group]), right.where(both[other])])
    first = np.unique(np.concatenate([group, other]), return_index=True)[1]
    labels = [_result_labels(joined.labels[row], {}, node) for row in first.tolist()]
    return joined.summed(np.concatenate([group, other]), labels, np.zeros(groups, np.bool_))
