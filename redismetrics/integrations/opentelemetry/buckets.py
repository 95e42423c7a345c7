"""The bucket counts of OpenTelemetry histograms, with explicit or exponential bounds. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from redismetrics.errors import InvalidValue, shown

# Buckets of one point; the SDK's default maximum is 160.
MAX_BINS = 2_000
# OpenTelemetry's own scales are -10 to 20.
_MAX_SCALE = 30
# Edges beyond 2 ** 1000 are treated as 2 ** 1000, so that sums of them stay finite.
_MAX_EXPONENT = 1000
# 2 ** -1074 is the smallest float above 0.
_MIN_EXPONENT = -1074


@dataclass(frozen=True, slots=True)
class Bin:
    """*count* values between *low* and *high*, both inclusive."""

    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class ExplicitBuckets:
    """Counts between fixed *bounds*: bucket i is (bounds[i-1], bounds[i]]; the last one is open.

    Raises:
        InvalidValue: If the number of counts is not one more than the number of bounds, or the
            bounds are not ascending.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.counts) > MAX_BINS:
            raise InvalidValue(f"buckets must be at most {MAX_BINS}, got {len(self.counts)}")
        if self.counts and len(self.counts) != len(self.bounds) + 1:
            raise InvalidValue(
                f"buckets must have {len(self.bounds) + 1} counts for {len(self.bounds)} bounds, "
                f"got {len(self.counts)}"
            )
        finite = all(map(math.isfinite, self.bounds))
        if not finite or any(a >= b for a, b in pairwise(self.bounds)):
            raise InvalidValue(
                f"buckets must have ascending finite bounds, got {shown(self.bounds, 80)}"
            )

    @property
    def size(self) -> int:
        """The number of buckets."""
        return len(self.counts)

    def bins(self) -> list[Bin]:
        """Return the buckets that are not empty, in ascending order."""
        edges = (-math.inf, *self.bounds, math.inf)
        return [
            Bin(_next_above(low), high, count)
            for (low, high), count in zip(pairwise(edges), self.counts, strict=False)
            if count
        ]

    def is_comparable(self, earlier: "Buckets | None") -> bool:
        """Return whether *earlier* can be subtracted bucket by bucket."""
        return (
            isinstance(earlier, ExplicitBuckets)
            and self.bounds == earlier.bounds
            and len(self.counts) == len(earlier.counts)
        )

    def subtract(self, earlier: "ExplicitBuckets") -> "ExplicitBuckets | None":
        """Return what was counted after a comparable *earlier*, or None if a count decreased."""
        counts = tuple(now - then for now, then in zip(self.counts, earlier.counts, strict=True))
        return ExplicitBuckets(self.bounds, counts) if min(counts, default=0) >= 0 else None


@dataclass(frozen=True, slots=True)
class ExponentialBuckets:
    """Counts by powers of base = 2 ** (2 ** -scale).

    Bucket i of *positive* is (base**i, base**(i+1)]; *negative* is mirrored. *zeros* counts the
    values from -*threshold* to *threshold*.

    https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram
    """

    scale: int
    zeros: int
    threshold: float
    positive: Mapping[int, int]
    negative: Mapping[int, int]

    @classmethod
    def from_dense(
        cls,
        scale: int,
        zeros: int,
        threshold: float,
        positive: tuple[int, Sequence[int]],
        negative: tuple[int, Sequence[int]],
    ) -> "ExponentialBuckets":
        """Return the buckets for an offset and dense counts of each sign.

        Raises:
            InvalidValue: If there are too many buckets, or *scale* or *threshold* is out of range.
        """
        size = len(positive[1]) + len(negative[1])
        if size > MAX_BINS:
            raise InvalidValue(f"buckets must be at most {MAX_BINS}, got {size}")
        if not -_MAX_SCALE <= scale <= _MAX_SCALE:
            raise InvalidValue(f"scale must be {-_MAX_SCALE} to {_MAX_SCALE}, got {scale}")
        if not 0 <= threshold < math.inf:
            raise InvalidValue(f"zero threshold must be a finite number >= 0, got {threshold}")
        signs = (
            {offset + index: count for index, count in enumerate(counts) if count}
            for offset, counts in (positive, negative)
        )
        return cls(scale, zeros, threshold, *signs)

    @property
    def size(self) -> int:
        """The number of buckets."""
        return len(self.positive) + len(self.negative) + 1

    @property
    def counts(self) -> list[int]:
        """The counts of all buckets, in no particular order."""
        return [self.zeros, *self.positive.values(), *self.negative.values()]

    def bins(self) -> list[Bin]:
        """Return the buckets that are not empty, in ascending order."""
        below = [
            Bin(-self._edge(index + 1), _next_below(-self._edge(index)), count)
            for index, count in sorted(self.negative.items(), reverse=True)
        ]
        zero = [Bin(-self.threshold, self.threshold, self.zeros)] if self.zeros else []
        above = [
            Bin(_next_above(self._edge(index)), self._edge(index + 1), count)
            for index, count in sorted(self.positive.items())
        ]
        return [*below, *zero, *above]

    def _edge(self, index: int) -> float:
        """Return base ** *index*."""
        exponent = math.ldexp(index, -self.scale)
        return 2.0 ** min(exponent, _MAX_EXPONENT) if exponent > _MIN_EXPONENT else 0.0

    def is_comparable(self, earlier: "Buckets | None") -> bool:
        """Return whether *earlier* can be subtracted; its scale may be finer."""
        return (
            isinstance(earlier, ExponentialBuckets)
            and earlier.scale >= self.scale
            and earlier.threshold == self.threshold
        )

    def subtract(self, earlier: "ExponentialBuckets") -> "ExponentialBuckets | None":
        """Return what was counted after a comparable *earlier*, or None if a count decreased."""
        shift = earlier.scale - self.scale
        if self.zeros < earlier.zeros:
            return None
        signs = []
        for now, then in (
            (self.positive, earlier.positive),
            (self.negative, earlier.negative),
        ):
            rest = dict(now)
            for index, count in then.items():
                rest[index >> shift] = rest.get(index >> shift, 0) - count
            if min(rest.values(), default=0) < 0:
                return None
            signs.append({index: count for index, count in rest.items() if count})
        return ExponentialBuckets(self.scale, self.zeros - earlier.zeros, self.threshold, *signs)


Buckets = ExplicitBuckets | ExponentialBuckets


def _next_above(value: float) -> float:
    return math.nextafter(value, math.inf) if math.isfinite(value) else value


def _next_below(value: float) -> float:
    return math.nextafter(value, -math.inf)
