"""Distributions in the form of Prometheus' native histograms."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from redismetrics.columnar.arrays import Floats

from .distributions import Distributions
from .number_format import format_value

# The default maximum of Prometheus' clients (native histogram bucket limit 160).
MAX_BUCKETS = 160
# Bounds are powers of 2 ** (2 ** -schema); 8 per doubling is Prometheus' usual resolution.
_FINEST, _COARSEST = 3, -4
# Values nearer to zero are in the zero bucket.
_ZERO = 2.0**-128

# Both bounds belong to the bucket, or only the upper or the lower one does.
_BOTH, _UPPER, _LOWER = 3, 0, 1


def histogram_json(block: Distributions, row: int, steps: Sequence[int]) -> list[dict[str, Any]]:
    """Return the distributions of a series at *steps* in the form of the API."""
    with np.errstate(all="ignore"):
        single = block.take(np.array([row], np.int64))
        return [_histogram(single, step) for step in steps]


def _histogram(single: Distributions, step: int) -> dict[str, Any]:
    count, total = float(single.count[0, step]), float(single.total[0, step])
    shown = {"count": format_value(count), "sum": format_value(total)}
    low, high = float(single.low[0, step]), float(single.high[0, step])
    if count <= 0 or not math.isfinite(low) or not math.isfinite(high):
        return shown
    bounds = _bounds(low, high)
    counts = _counts(single, step, bounds)
    found = [
        [_rule(lower, upper), format_value(lower), format_value(upper), format_value(number)]
        for lower, upper, number in zip(
            bounds[:-1].tolist(), bounds[1:].tolist(), counts.tolist(), strict=True
        )
        if number > 0
    ]
    return {**shown, "buckets": found}


def _rule(lower: float, upper: float) -> int:
    if lower < 0 < upper:
        return _BOTH
    return _LOWER if upper <= 0 else _UPPER


def _bounds(low: float, high: float) -> Floats:
    """Return the bounds of at most `MAX_BUCKETS` buckets that cover all values."""
    for schema in range(_FINEST, _COARSEST - 1, -1):
        base = 2.0**-schema
        negative = _powers(max(-high, _ZERO), -low, base) if low < -_ZERO else np.zeros(0)
        positive = _powers(max(low, _ZERO), high, base) if high > _ZERO else np.zeros(0)
        parts = [-negative[::-1]]
        if low < _ZERO and high > -_ZERO:
            parts.append(np.array([-_ZERO, _ZERO]))
        bounds = np.unique(np.concatenate([*parts, positive]))
        if len(bounds) <= MAX_BUCKETS + 1:
            break
    return bounds


def _powers(low: float, high: float, base: float) -> Floats:
    """Return 2 ** (base * i) around the values from *low* to *high*."""
    first = math.ceil(math.log2(low) / base) - 1
    last = math.ceil(math.log2(high) / base)
    found = np.exp2(base * np.arange(first, last + 1))
    bounded: Floats = np.minimum(found, np.finfo(np.float64).max)
    return bounded


def _counts(single: Distributions, step: int, bounds: Floats) -> Floats:
    """Return the number of observations between neighbouring bounds."""
    cells = [
        replace(
            part,
            points=replace(part.points, group=np.where(part.points.group == step, 0, 1)),
        )
        for part in single.parts
    ]
    column = slice(step, step + 1)

    def pair(values: Floats) -> Floats:
        return np.concatenate([values[:, column], values[:, column]], axis=0)

    alone = Distributions(
        [{}, {}],
        np.zeros(2, np.bool_),
        np.ones((2, 1), np.bool_),
        pair(single.count),
        pair(single.total),
        pair(single.m2),
        pair(single.low),
        pair(single.high),
        cells,
    )
    cumulated = np.array([alone.cumulated(np.array([bound]))[0, 0] for bound in bounds.tolist()])
    cumulated[0] = 0.0
    cumulated[-1] = float(single.count[0, step])
    return np.maximum(np.diff(cumulated), 0.0)
