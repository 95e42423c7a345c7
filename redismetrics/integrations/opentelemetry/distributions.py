"""Histograms that OpenTelemetry counted in buckets, as distributions: exact count and sum, points within the buckets. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from redismetrics.errors import InvalidValue
from redismetrics.model.sample import MAX_COUNT, Distribution

MAX_BINS = 2_000  # of one point
_MAX_SCALE = 30  # OpenTelemetry's own are from -10 to 20
_LARGEST_POWER = 1000  # edges beyond 2 ** 1000 are taken for it, so that sums of them stay numbers


@dataclass(frozen=True, slots=True)
class Bin:
    """So many values from *low* to *high*, both included."""

    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram's counts between fixed *bounds*: one more count than bounds, bucket i is (bounds[i-1], bounds[i]]."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.counts) > MAX_BINS:
            raise InvalidValue(f"buckets: wanted at most {MAX_BINS}, got {len(self.counts)}")
        if self.counts and len(self.counts) != len(self.bounds) + 1:
            raise InvalidValue(
                f"buckets: wanted {len(self.bounds) + 1} counts, got {len(self.counts)}"
            )
        if not all(map(math.isfinite, self.bounds)) or any(
            a >= b for a, b in pairwise(self.bounds)
        ):
            raise InvalidValue(f"buckets: wanted ascending finite bounds, got {self.bounds!r:.80}")

    @property
    def size(self) -> int:
        return len(self.counts)

    def bins(self) -> list[Bin]:
        edges = (-math.inf, *self.bounds, math.inf)
        return [
            Bin(_above(low), high, n)
            for (low, high), n in zip(pairwise(edges), self.counts, strict=False)
            if n
        ]

    def fits(self, before: "Buckets | Exponential | None") -> bool:
        """Can what was counted after *before* be told by bucket?"""
        return (
            isinstance(before, Buckets)
            and self.bounds == before.bounds
            and len(self.counts) == len(before.counts)
        )

    def since(self, before: "Buckets") -> "Buckets | None":
        """What was counted after *before*, which fits; None where a count went down."""
        counts = tuple(now - then for now, then in zip(self.counts, before.counts, strict=True))
        return Buckets(self.bounds, counts) if min(counts, default=0) >= 0 else None


@dataclass(frozen=True, slots=True)
class Exponential:
    """A histogram's counts by powers of a base, 2 ** (2 ** -scale): bucket i is (base**i, base**(i+1)], *negative* mirrored.

    https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram
    """

    scale: int
    zeros: int
    threshold: float
    positive: Mapping[int, int]
    negative: Mapping[int, int]

    @classmethod
    def of(
        cls, scale: int, zeros: int, threshold: float, positive: tuple[int, Sequence[int]],
        negative: tuple[int, Sequence[int]],
    ) -> "Exponential":  # fmt: skip
        """From an offset and dense counts for each sign."""
        if len(positive[1]) + len(negative[1]) > MAX_BINS:
            raise InvalidValue(
                f"buckets: wanted at most {MAX_BINS}, got {len(positive[1]) + len(negative[1])}"
            )
        if not -_MAX_SCALE <= scale <= _MAX_SCALE:
            raise InvalidValue(f"scale: wanted {-_MAX_SCALE} to {_MAX_SCALE}, got {scale}")
        if not 0 <= threshold < math.inf:
            raise InvalidValue(f"zero threshold: wanted a number of at least 0, got {threshold}")
        sides = (
            {offset + at: n for at, n in enumerate(counts) if n}
            for offset, counts in (positive, negative)
        )
        return cls(scale, zeros, threshold, *sides)

    @property
    def size(self) -> int:
        return len(self.positive) + len(self.negative) + 1

    @property
    def counts(self) -> list[int]:
        return [self.zeros, *self.positive.values(), *self.negative.values()]

    def bins(self) -> list[Bin]:
        below = [
            Bin(-self._edge(i + 1), _below(-self._edge(i)), n)
            for i, n in sorted(self.negative.items(), reverse=True)
        ]
        zero = [Bin(-self.threshold, self.threshold, self.zeros)] if self.zeros else []
        above = [
            Bin(_above(self._edge(i)), self._edge(i + 1), n)
            for i, n in sorted(self.positive.items())
        ]
        return [*below, *zero, *above]

    def _edge(self, index: int) -> float:
        power = math.ldexp(index, -self.scale)
        return 2.0 ** min(power, _LARGEST_POWER) if power > -1074 else 0.0

    def fits(self, before: "Buckets | Exponential | None") -> bool:
        """Can what was counted after *before* be told by bucket? Its scale may have been finer."""
        return (
            isinstance(before, Exponential)
            and before.scale >= self.scale
            and before.threshold == self.threshold
        )

    def since(self, before: "Exponential") -> "Exponential | None":
        """What was counted after *before*, which fits; None where a count went down."""
        shift = before.scale - self.scale
        if self.zeros < before.zeros:
            return None
        sides = []
        for now, then in ((self.positive, before.positive), (self.negative, before.negative)):
            left = dict(now)
            for index, n in then.items():
                left[index >> shift] = left.get(index >> shift, 0) - n
            if min(left.values(), default=0) < 0:
                return None
            sides.append({index: n for index, n in left.items() if n})
        return Exponential(self.scale, self.zeros - before.zeros, self.threshold, *sides)


def _above(value: float) -> float:
    return math.nextafter(value, math.inf) if math.isfinite(value) else value


def _below(value: float) -> float:
    return math.nextafter(value, -math.inf)


def distribution(
    count: int,
    total: float | None,
    low: float | None,
    high: float | None,
    buckets: Buckets | Exponential | None,
) -> Distribution:
    """The distribution of *count* values (at least 1) with this sum, smallest and largest value, as far as known.

    The points lie in their buckets, all at the same fraction of the way from its lower to its upper edge: the fraction at
    which they add up to *total*. Where no bucket tells, the mean stands for all. Without *low* or *high* the outermost points
    are taken for the smallest and the largest value.

    Raises:
        InvalidValue: numbers that contradict each other or are not finite.
    """
    for what, value in (("sum", total), ("min", low), ("max", high)):
        if value is not None and not math.isfinite(value):
            raise InvalidValue(f"{what}: wanted a finite number, got {value}")
    if not 1 <= count <= MAX_COUNT:
        raise InvalidValue(f"count: wanted 1 to {MAX_COUNT}, got {count}")
    if low is not None and high is not None and low > high:
        raise InvalidValue(
            f"min and max: wanted the first not above the second, got {low:g} and {high:g}"
        )
    if count == 1 and total is not None:
        return Distribution((total,), (1,), total, total, total)
    bins = (
        [Bin(-math.inf, math.inf, count)] if buckets is None or not buckets.size else buckets.bins()
    )
    found = sum(each.count for each in bins)
    if found != count:
        raise InvalidValue(f"buckets: wanted counts that add up to {count}, got {found}")
    try:
        return _placed(_bounded(_clipped(bins, low, high), count, total), count, total, low, high)
    except OverflowError as error:
        raise InvalidValue(
            "buckets: wanted values whose sum a float can hold, got others"
        ) from error


def _placed(
    bins: list[Bin], count: int, total: float | None, low: float | None, high: float | None
) -> Distribution:
    """One point for each bin, which has an end on both sides."""
    weights = tuple(each.count for each in bins)
    floor = math.fsum(each.low * each.count for each in bins)
    reach = math.fsum((each.high - each.low) * each.count for each in bins)
    fraction = (
        0.5 if total is None else min(max((total - floor) / reach, 0.0), 1.0) if reach > 0 else 0.0
    )
    values = tuple(
        _inside(min(each.low + fraction * (each.high - each.low), each.high), low, high)
        for each in bins
    )
    if total is None:
        total = math.fsum(value * weight for value, weight in zip(values, weights, strict=True))
    mean = total / count
    least, most = (values[0] if low is None else low), (values[-1] if high is None else high)
    if low is None or high is None or not math.isclose(mean, least) or not math.isclose(mean, most):
        least, most = (
            min(least, mean),
            max(most, mean),
        )  # who counted contradicts itself: the sum is believed
    least, most = min(least, values[0]), max(most, values[-1])
    return Distribution(values, weights, total, least, most)


def _inside(value: float, low: float | None, high: float | None) -> float:
    """*value*, or the extreme beyond which only a bound's last digit has brought it."""
    for extreme, beyond in (
        (low, low is not None and value < low),
        (high, high is not None and value > high),
    ):
        if extreme is not None and beyond and math.isclose(value, extreme, rel_tol=1e-9):
            return extreme
    return value


def _clipped(bins: Iterable[Bin], low: float | None, high: float | None) -> list[Bin]:
    """The bins without what lies outside *low* to *high*; where nothing else is left of one, it stays as it is."""
    clipped = []
    for each in bins:
        first = each.low if low is None else max(each.low, low)
        last = each.high if high is None else min(each.high, high)
        if first > last and math.isclose(
            first, last, rel_tol=1e-9
        ):  # on an edge, and counted beyond it by its last digit
            first = last = last if last == high else first
        clipped.append(Bin(first, last, each.count) if first <= last else each)
    return clipped


def _bounded(bins: list[Bin], count: int, total: float | None) -> list[Bin]:
    """The bins with an end where they had none.

    Below the lowest bound values are taken to be from 0, as everybody does. Above the highest they are where the sum wants
    them, all others being in the middle of their bins.
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
        where = last.low
        if total is not None:
            rest = total - math.fsum((each.low + each.high) / 2 * each.count for each in bins[:-1])
            where = max(last.low, rest / last.count)
        bins[-1] = Bin(where, where, last.count)
    return bins
