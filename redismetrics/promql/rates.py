"""Rates of counters and gauges from samples, extrapolated like Prometheus."""

from collections.abc import Callable

import numpy as np

from redismetrics.columnar.arrays import Floats

from .over_time import Result, taken
from .windows import WindowBlock

# A window is extrapolated to its edge if it is at most this many sample distances away.
_NEAR = 1.1


def rate(block: WindowBlock) -> Result:
    return _extrapolated(block, is_counter=True, is_rate=True)


def increase(block: WindowBlock) -> Result:
    return _extrapolated(block, is_counter=True, is_rate=False)


def delta(block: WindowBlock) -> Result:
    return _extrapolated(block, is_counter=False, is_rate=False)


def _extrapolated(block: WindowBlock, *, is_counter: bool, is_rate: bool) -> Result:
    """Return the difference of last and first sample, extrapolated to the edges of the window.

    If an edge is further away than `_NEAR` average distances between samples, the series is assumed
    to begin or end half a distance beyond its sample. A counter is not extrapolated below zero.
    """
    first, last = block.first, block.last - 1
    present = last > first
    if not present.any():
        return np.zeros(first.shape), present
    begin, end = taken(block.times, first), taken(block.times, last)
    before = taken(block.values, first)
    change = taken(block.values, last) - before
    if is_counter:
        change += lost_by_resets(block)
    sampled = (end - begin) / 1000
    distance = sampled / (last - first)
    to_start = (begin - (block.ends - block.width)) / 1000
    to_end = (block.ends - end) / 1000
    to_start = np.where(to_start >= distance * _NEAR, distance / 2, to_start)
    to_end = np.where(to_end >= distance * _NEAR, distance / 2, to_end)
    if is_counter:
        rises = (change > 0) & (before >= 0)
        to_zero = np.where(rises, sampled * (before / change), to_start)
        to_start = np.minimum(to_start, to_zero)
    factor = (sampled + to_start + to_end) / sampled
    if is_rate:
        factor /= block.width / 1000
    return change * factor, present


def lost_by_resets(block: WindowBlock) -> Floats:
    """Return the sum of the values before each reset in each window."""
    values = block.values
    drops = np.zeros(len(values))
    fell = (values[1:] < values[:-1]) & ~block.starts[1:]
    if not fell.any():
        return np.zeros(block.first.shape)
    drops[1:] = np.where(fell, values[:-1], 0.0)
    if np.isfinite(drops).all():
        lost = np.cumsum(drops)
        return taken(lost, block.last - 1) - taken(lost, block.first)
    result = np.zeros(block.first.shape)
    inner = WindowBlock(
        block.times,
        drops,
        block.starts,
        block.first + 1,
        block.last,
        block.ends,
        block.width,
        block.budget,
    )
    for part in inner.expanded(inner.sizes > 0):
        result.reshape(-1)[part.cells] = part.sums(part.values)
    return result


def instant_rate(block: WindowBlock) -> Result:
    return _of_last_two(block, is_rate=True)


def instant_delta(block: WindowBlock) -> Result:
    return _of_last_two(block, is_rate=False)


def _of_last_two(block: WindowBlock, *, is_rate: bool) -> Result:
    last = block.last - 1
    present = last > block.first
    before, after = taken(block.values, last - 1), taken(block.values, last)
    change = after - before
    if is_rate:
        change = np.where(after < before, after, change)
        change /= (taken(block.times, last) - taken(block.times, last - 1)) / 1000
    return change, present


FUNCTIONS: dict[str, Callable[[WindowBlock], Result]] = {
    "delta": delta,
    "idelta": instant_delta,
    "increase": increase,
    "irate": instant_rate,
    "rate": rate,
}
