"""What is recorded and what is answered: types, names, tags, values, Sample. Pure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from typing import Any

import msgpack

from redismetrics.errors import InvalidTags, InvalidValue, TypeMismatch

from .validation import MAX_NAME, MetricType, check_name, check_number, check_type

MAX_HELP_BYTES = 4096
MAX_BUCKETS = 100


# prometheus_client's default buckets, in seconds.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_UNITLESS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0,
    250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 25_000.0, 50_000.0, 100_000.0,
)  # fmt: skip
_DEFAULT_BUCKETS: dict[str, tuple[float, ...]] = {
    "seconds": _SECONDS,
    "s": _SECONDS,
    "milliseconds": tuple(bound * 1000 for bound in _SECONDS),
    "ms": tuple(bound * 1000 for bound in _SECONDS),
}


@dataclass(frozen=True, slots=True)
class Definition:
    """What is known of a metric besides its samples: the value in the catalogue.

    *buckets* are ascending finite upper bounds (only histograms have them; +Inf is implied), *tag_keys* the
    only keys allowed, or None when any is.
    """

    type: MetricType
    unit: str = ""
    help: str = ""
    buckets: tuple[float, ...] = ()
    tag_keys: tuple[str, ...] | None = None

    def pack(self) -> bytes:
        packed: bytes = msgpack.packb(
            [
                self.type,
                self.unit,
                self.help,
                self.buckets,
                None if self.tag_keys is None else sorted(self.tag_keys),
            ],
            use_bin_type=False,
        )
        return packed

    @classmethod
    def unpack(cls, data: bytes) -> "Definition":
        """The inverse of `pack`; raises ValueError or TypeError for other bytes."""
        kind, unit, text, buckets, keys = msgpack.unpackb(data, raw=False)
        found = cls(
            check_type(kind), unit, text, tuple(buckets), None if keys is None else tuple(keys)
        )
        if not all(isinstance(each, str) for each in (unit, text, *(found.tag_keys or ()))):
            raise ValueError(f"wanted text for unit, help and tag keys, got {found!r:.120}")
        if (len(found.buckets) > 0) != (kind == "histogram") or (
            found.buckets and check_buckets(buckets, "") != found.buckets
        ):
            raise ValueError(
                f"wanted ascending bounds of a histogram and of nothing else, got {buckets!r:.120}"
            )
        return found


_GAUGE_WORDS = ("depth", "size", "active", "current")


def infer_type(name: str, value: Any) -> MetricType:
    """Guess a type as the original did: float -> histogram; an integer -> gauge by name, else counter.

    Repaired: a negative integer is a gauge, since a counter can't go down.
    """
    if not isinstance(value, Integral):  # numpy's integers are
        return "histogram"
    if value < 0 or any(word in name for word in _GAUGE_WORDS):
        return "gauge"
    return "counter"


def check_buckets(buckets: Iterable[float] | None, unit: str) -> tuple[float, ...]:
    """Return ascending finite bounds; None gives the default of the unit. A closing +Inf is taken off."""
    if buckets is None:
        return _DEFAULT_BUCKETS.get(unit, _UNITLESS)
    try:
        bounds = list(buckets)
    except TypeError as error:
        raise InvalidValue(f"buckets: wanted several bounds, got {buckets!r:.60}") from error
    if bounds and bounds[-1] == math.inf:
        bounds.pop()
    clean = tuple(check_number(bound, "bucket") for bound in bounds)
    if not 1 <= len(clean) <= MAX_BUCKETS or any(a >= b for a, b in pairwise(clean)):
        raise InvalidValue(
            f"buckets: wanted 1 to {MAX_BUCKETS} ascending bounds, got {clean!r:.80}"
        )
    return clean


def define(
    name: str,
    kind: object,
    *,
    help: str = "",
    unit: str = "",
    buckets: Iterable[float] | None = None,
    tag_keys: Iterable[str] | None = None,
) -> Definition:
    """Return the checked definition of a metric; raises branches of `InvalidMetric`."""
    check_name(name)
    checked = check_type(kind)
    for what, text, limit in (("help", help, MAX_HELP_BYTES), ("unit", unit, MAX_NAME)):
        if not isinstance(text, str) or len(text.encode("utf-8", "replace")) > limit:
            raise InvalidValue(f"{what}: wanted text of at most {limit} bytes, got {text!r:.60}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidValue(
                f"{what}: wanted text that is valid UTF-8, got {text!r:.60}"
            ) from error
    if unit:
        check_name(unit, "unit")
    if buckets is not None and checked != "histogram":
        raise TypeMismatch(f"{name!r} is declared as a {checked}; buckets are for histograms")
    keys = None
    if tag_keys is not None:
        if isinstance(tag_keys, str) or not isinstance(tag_keys, Iterable):
            raise InvalidTags(f"tag_keys: wanted several keys, got {tag_keys!r:.80}")
        keys = tuple(sorted({check_name(key, "tag key") for key in tag_keys}))
    bounds = check_buckets(buckets, unit) if checked == "histogram" else ()
    return Definition(checked, unit, help, bounds, keys)


TIME_UNITS = {"s": 1.0, "seconds": 1.0, "ms": 0.001, "milliseconds": 0.001}
