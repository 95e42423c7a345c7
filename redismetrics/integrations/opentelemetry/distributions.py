"""Bucket counts as a `Distribution`: exact count and sum, one point within each bucket. Pure."""

import math
from collections.abc import Iterable

from redismetrics.errors import InvalidValue
from redismetrics.model.sample import MAX_COUNT, Distribution

from .buckets import Bin, Buckets

# Relative error of a bucket edge that is computed as a power, or of a rounded minimum or maximum.
_EDGE_TOLERANCE = 1e-9


def distribution(
    count: int,
    total: float | None,
    low: float | None,
    high: float | None,
    buckets: Buckets | None,
) -> Distribution:
    """Return the distribution of *count* values with this sum, minimum and maximum, where known.

    Each bucket becomes one point. All points lie at the same fraction between the lower and upper
    edge of their bucket, chosen such that they add up to *total*. Without buckets, the mean
    represents all values. Without *low* or *high*, the outermost points are the minimum and
    maximum.

    Raises:
        InvalidValue: If *count* is not 1 to MAX_COUNT, or the numbers contradict each other or are
            not finite.
    """
    for name, value in (("sum", total), ("min", low), ("max", high)):
        if value is not None and not math.isfinite(value):
            raise InvalidValue(f"{name} must be a finite number, got {value}")
    if not 1 <= count <= MAX_COUNT:
        raise InvalidValue(f"count must be 1 to {MAX_COUNT}, got {count}")
    if low is not None and high is not None and low > high:
        raise InvalidValue(f"min must not be above max, got {low:g} and {high:g}")
    if count == 1 and total is not None:
        return Distribution((total,), (1,), total, total, total)
    if buckets is None or not buckets.size:
        bins = [Bin(-math.inf, math.inf, count)]
    else:
        bins = buckets.bins()
    counted = sum(each.count for each in bins)
    if counted != count:
        raise InvalidValue(f"buckets must have counts that add up to {count}, got {counted}")
    try:
        finite = _close_open_bins(_clip(bins, low, high), count, total)
        return _place_points(finite, count, total, low, high)
    except OverflowError as error:
        raise InvalidValue("buckets must hold values whose sum fits into a float") from error


def _place_points(
    bins: list[Bin], count: int, total: float | None, low: float | None, high: float | None
) -> Distribution:
    """Return a distribution with one point per bin; all bins are finite."""
    weights = tuple(each.count for each in bins)
    floor = math.fsum(each.low * each.count for each in bins)
    reach = math.fsum((each.high - each.low) * each.count for each in bins)
    if total is None:
        fraction = 0.5
    else:
        fraction = min(max((total - floor) / reach, 0.0), 1.0) if reach > 0 else 0.0
    values = tuple(
        _clamp_to_extremes(min(each.low + fraction * (each.high - each.low), each.high), low, high)
        for each in bins
    )
    if total is None:
        total = math.fsum(value * weight for value, weight in zip(values, weights, strict=True))
    mean = total / count
    minimum = values[0] if low is None else low
    maximum = values[-1] if high is None else high
    is_constant = math.isclose(mean, minimum) and math.isclose(mean, maximum)
    if low is None or high is None or not is_constant:
        # If the mean is outside the extremes, the sender contradicts itself: trust the sum.
        minimum, maximum = min(minimum, mean), max(maximum, mean)
    minimum, maximum = min(minimum, values[0]), max(maximum, values[-1])
    return Distribution(values, weights, total, minimum, maximum)


def _clamp_to_extremes(value: float, low: float | None, high: float | None) -> float:
    """Return *value*, or the extreme that it exceeds by a rounding error."""
    for extreme, is_beyond in (
        (low, low is not None and value < low),
        (high, high is not None and value > high),
    ):
        if (
            extreme is not None
            and is_beyond
            and math.isclose(value, extreme, rel_tol=_EDGE_TOLERANCE)
        ):
            return extreme
    return value


def _clip(bins: Iterable[Bin], low: float | None, high: float | None) -> list[Bin]:
    """Return the bins clipped to [*low*, *high*]; a bin entirely outside is unchanged."""
    clipped = []
    for each in bins:
        first = each.low if low is None else max(each.low, low)
        last = each.high if high is None else min(each.high, high)
        if first > last and math.isclose(first, last, rel_tol=_EDGE_TOLERANCE):
            # The value is on an edge, and was counted in the next bucket by a rounding error.
            first = last = last if last == high else first
        clipped.append(Bin(first, last, each.count) if first <= last else each)
    return clipped


def _close_open_bins(bins: list[Bin], count: int, total: float | None) -> list[Bin]:
    """Return the bins with finite edges.

    Values below the lowest bound are assumed to start at 0, as in Prometheus. Values above the
    highest bound are placed where the sum requires it, assuming that all others are in the middle
    of their bins.
    """
    bins = list(bins)
    if math.isinf(bins[0].low) and math.isinf(bins[-1].high) and len(bins) == 1:
        mean = 0.0 if total is None else total / count
        return [Bin(mean, mean, count)]
    if math.isinf(bins[0].low):
        first = bins[0]
        bins[0] = Bin(min(0.0, first.high), first.high, first.count)
    if math.isinf(bins[-1].high):
        last = bins[-1]
        position = last.low
        if total is not None:
            rest = total - math.fsum((each.low + each.high) / 2 * each.count for each in bins[:-1])
            position = max(last.low, rest / last.count)
        bins[-1] = Bin(position, position, last.count)
    return bins
