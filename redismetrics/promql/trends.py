"""Functions that fit a line to the samples of a window, or smooth them."""

import numpy as np

from redismetrics.columnar.arrays import Floats
from redismetrics.errors import EvaluationFailed

from .over_time import Result
from .windows import Expanded, WindowBlock


def derivative(block: WindowBlock) -> Result:
    """Return the slope of each window, per second."""
    result = np.zeros(block.first.shape)
    present = block.sizes >= 2
    for part in block.expanded(present):
        result.reshape(-1)[part.cells] = _line(part)[0]
    return result, present


def prediction(block: WindowBlock, seconds: Floats, at: Floats) -> Result:
    """Return the value of the line through each window.

    Args:
        block: Windows, one for each step.
        seconds: How long after *at* to predict, shape (steps,).
        at: Time of each step, Unix ms, shape (steps,).
    """
    result = np.zeros(block.first.shape)
    present = block.sizes >= 2
    until = np.broadcast_to(at / 1000 + seconds, result.shape).reshape(-1)
    for part in block.expanded(present):
        slope, time, value = _line(part)
        result.reshape(-1)[part.cells] = value + slope * (until[part.cells] - time)
    return result, present


def _line(part: Expanded) -> tuple[Floats, Floats, Floats]:
    """Return the slope per second, and time (s) and value of a point of each window's line.

    Least squares around the means, so that large times and values do not cost precision.
    """
    origin = part.times[part.starts]
    time = (part.times - np.repeat(origin, part.sizes)) / 1000
    mean_time, mean = part.sums(time) / part.sizes, part.sums(part.values) / part.sizes
    x, y = time - part.spread(mean_time), part.values - part.spread(mean)
    slope = part.sums(x * y) / part.sums(x * x)
    first = part.values[part.starts]
    is_flat = np.logical_and.reduceat(part.values == part.spread(first), part.starts)
    flat_slope = np.where(np.isinf(first), np.nan, 0.0)
    slope = np.where(is_flat, flat_slope, slope)
    mean = np.where(is_flat, np.where(np.isinf(first), np.nan, first), mean)
    return slope, origin / 1000 + mean_time, mean


def smoothed(block: WindowBlock, factors: Floats, trends: Floats) -> Result:
    """Return the last value of double exponential smoothing (Holt's linear method).

    It is linear in the samples, so each window is a weighted sum of them. The weight of a sample
    depends on how far it is from the end.

    Args:
        block: Windows, one for each step.
        factors: Smoothing factor of each step, shape (steps,).
        trends: Trend factor of each step, shape (steps,).
    """
    _check_factor("smoothing", "sf", factors)
    _check_factor("trend", "tf", trends)
    result = np.zeros(block.first.shape)
    present = block.sizes >= 2
    pairs = np.unique(np.stack([factors, trends], axis=1), axis=0)
    for factor, trend in pairs.tolist():
        of_steps = (factors == factor) & (trends == trend)
        for part in block.expanded(present & of_steps):
            result.reshape(-1)[part.cells] = _smooth(part, factor, trend)
    return result, present


def _check_factor(name: str, symbol: str, values: Floats) -> None:
    wrong = values[~((values > 0) & (values < 1))]
    if len(wrong):
        raise EvaluationFailed(
            f"invalid {name} factor. Expected: 0 < {symbol} < 1, got: {wrong[0]:f}"
        )


def _smooth(part: Expanded, factor: float, trend: float) -> Floats:
    """Return s(n-1), where s(0) = x(0), b(0) = x(1) - x(0), and for i from 1

    s(i) = factor x(i) + (1 - factor) (s(i-1) + b(i)),
    b(i) = trend (s(i-1) - s(i-2)) + (1 - trend) b(i-1) from i = 2, b(1) = b(0).
    """
    rest = 1 - factor
    influence = _influence(factor, trend, int(part.sizes.max()))
    begin, sizes = part.starts, part.sizes
    distance = np.repeat(begin + sizes - 1, sizes) - np.arange(len(part.values))
    weighted = factor * influence[distance, 0] * part.values
    first, second = part.values[begin], part.values[begin + 1]
    # The state after the second sample.
    slope = second - first
    value = factor * second + rest * (first + slope)
    later = influence[sizes - 2]
    total = part.sums(weighted) - weighted[begin] - weighted[begin + 1]
    found: Floats = total + later[:, 0] * value + later[:, 1] * first + later[:, 2] * slope
    return found


def _influence(factor: float, trend: float, count: int) -> Floats:
    """Return how a state (s(i-1), s(i-2), b(i-1)) influences s after k steps, for k from 0.

    The shape is (at least *count*, 3). The first column is also the influence of a sample.
    """
    rest = 1 - factor
    power = np.array(
        [
            [rest * (1 + trend), -rest * trend, rest * (1 - trend)],
            [1.0, 0.0, 0.0],
            [trend, -trend, 1 - trend],
        ]
    )
    table = np.array([[1.0, 0.0, 0.0]])
    while len(table) < count:
        table = np.concatenate([table, table @ power])
        power = power @ power
    return table
