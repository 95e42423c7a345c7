"""Definitions of metrics: type, unit, help text, buckets and allowed tag keys."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from numbers import Integral
from typing import Any

import msgpack

from redismetrics.errors import InvalidTags, InvalidValue, TypeMismatch, shown

from .label_sets import LABEL_TYPES
from .options import Options, check_options, replace_options, unpack_options
from .units import TIME_UNITS
from .validation import MAX_NAME, TYPES, MetricType, check_name, check_number, check_type

MAX_HELP_BYTES = 4096
MAX_BUCKETS = 1000
# Number of decoded definitions to cache: every page reads those of the whole catalogue.
_MAX_CACHED = 10_000

# The default buckets of prometheus_client, in seconds.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_DEFAULT_BUCKETS = {
    unit: tuple(bound * round(1 / seconds) for bound in _SECONDS)
    for unit, seconds in TIME_UNITS.items()
}
# The default buckets of metrics with any other unit: 1, 2.5 and 5 times each power of ten.
_UNITLESS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0),
    *(100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 25_000.0, 50_000.0, 100_000.0),
)


# Elements of a packed definition that every version writes.
_ELEMENTS = 5
# An optional, meaningless rest after them.
_NO_OPTIONS, _NIL = b"\x80", b"\xc0"
_UNSET = Options()
_TYPE_NAME = re.compile("[a-z_]{1,32}", re.ASCII)


class NewerType(ValueError):
    """The type of a metric is unknown to this version."""


@dataclass(frozen=True, slots=True)
class Definition:
    """The definition of a metric, as stored in the catalogue.

    *buckets* are ascending finite upper bounds; only histograms have them, and +Inf is implied.
    *tag_keys* are the only tag keys allowed, or None if all are. *rest* holds the elements after
    these, each as msgpack and kept byte for byte: the options, and whatever a newer version added.
    """

    type: MetricType
    unit: str = ""
    help: str = ""
    buckets: tuple[float, ...] = ()
    tag_keys: tuple[str, ...] | None = None
    rest: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def options(self) -> Options:
        """The options of the metric that this version knows."""
        return unpack_options(self.rest[0])[0] if self._has_options else _UNSET

    @property
    def keeps_samples(self) -> bool:
        """Whether every sample is kept (the option `exact_samples`)."""
        # A fast path: most metrics have no options.
        return bool(self.rest) and self.options.exact_samples is True

    @property
    def has_unknown_options(self) -> bool:
        """Whether a newer version has set options or added elements that this version ignores."""
        return any(each not in (_NO_OPTIONS, _NIL) for each in self.rest[1:]) or (
            self._has_options and unpack_options(self.rest[0])[1]
        )

    @property
    def _has_options(self) -> bool:
        return bool(self.rest) and self.rest[0] != _NIL

    def with_options(self, new: Options) -> "Definition":
        """Return the definition with the options set in *new*; the others are unchanged."""
        packed = replace_options(self.rest[0] if self._has_options else _NO_OPTIONS, new)
        if not self._has_options and packed == _NO_OPTIONS:
            return self
        return replace(self, rest=(packed, *self.rest[1:]))

    def agrees_with(self, other: "Definition") -> bool:
        """Return whether both are equal, ignoring options and elements added by a newer version."""
        return replace(self, rest=other.rest) == other

    def pack(self) -> bytes:
        """Return the definition as msgpack."""
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
        if not self.rest:
            return packed
        elements: bytes = msgpack.Packer().pack_array_header(_ELEMENTS + len(self.rest))
        return elements + packed[1:] + b"".join(self.rest)

    @classmethod
    def unpack(cls, data: bytes) -> "Definition":
        """Return the definition that `pack` packed.

        Raises:
            NewerType: If only a newer version knows its type.
            ValueError, TypeError, msgpack.UnpackException: If *data* is something else.
        """
        return _unpack(data)


@lru_cache(_MAX_CACHED)
def _unpack(data: bytes) -> Definition:
    (kind, unit, text, buckets, keys), rest = _unpack_elements(data)
    if isinstance(kind, str) and kind not in TYPES and _TYPE_NAME.fullmatch(kind):
        raise NewerType(
            f"its type {kind!r} comes from a newer version of redismetrics; upgrade this process"
        )
    found = Definition(
        check_type(kind),
        unit,
        text,
        tuple(buckets),
        None if keys is None else tuple(keys),
        rest,
    )
    if not all(isinstance(each, str) for each in (unit, text, *(found.tag_keys or ()))):
        raise ValueError(f"unit, help and tag keys must be text, got {shown(found, 120)}")
    if (len(found.buckets) > 0) != (kind == "histogram") or (
        found.buckets and check_buckets(buckets, "") != found.buckets
    ):
        raise ValueError(
            f"buckets must be ascending, and are for histograms only, got {shown(buckets, 120)}"
        )
    # Corrupt options are reported here, not when they are first used.
    _ = found.options
    return found


def _unpack_elements(data: bytes) -> tuple[list[Any], tuple[bytes, ...]]:
    """Return the elements that every version writes, and the bytes of each element after them."""
    unpacker = msgpack.Unpacker(raw=False, max_buffer_size=len(data))
    unpacker.feed(data)
    count = unpacker.read_array_header()
    found = [unpacker.unpack() for _ in range(min(count, _ELEMENTS))]
    rest = []
    for _ in range(_ELEMENTS, count):
        begin = unpacker.tell()
        unpacker.skip()
        rest.append(data[begin : unpacker.tell()])
    if unpacker.tell() != len(data):
        raise ValueError(f"a definition must have {unpacker.tell()} bytes, got {len(data)}")
    return found, tuple(rest)


# A metric whose name contains one of these words is inferred to be a gauge.
_GAUGE_WORDS = ("depth", "size", "active", "current")


def infer_type(name: str, value: Any) -> MetricType:
    """Infer the type of an undeclared metric from its name and one value.

    A float means a histogram. An integer means a gauge if it is negative or the name contains
    depth, size, active or current, otherwise a counter.
    """
    # Integral includes numpy's integers.
    if not isinstance(value, Integral):
        return "histogram"
    if value < 0 or any(word in name for word in _GAUGE_WORDS):
        return "gauge"
    return "counter"


def check_amount(name: str, kind: MetricType, amount: float) -> None:
    """Raise `InvalidValue` if *amount* is negative and the metric is a counter."""
    if kind == "counter" and amount < 0:
        raise InvalidValue(f"counter {name!r} cannot decrease: amount must be >= 0, got {amount:g}")


def check_buckets(buckets: Iterable[float] | None, unit: str) -> tuple[float, ...]:
    """Return *buckets*, checked, without a final +Inf; None means the default of the unit.

    Raises:
        InvalidValue: If they are not 1 to 1,000 ascending finite numbers.
    """
    if buckets is None:
        return _DEFAULT_BUCKETS.get(unit, _UNITLESS)
    try:
        bounds = list(buckets)
    except TypeError as error:
        raise InvalidValue(f"buckets must be a list of bounds, got {shown(buckets)}") from error
    if bounds and bounds[-1] == math.inf:
        bounds.pop()
    clean = tuple(check_number(bound, "bucket") for bound in bounds)
    if not 1 <= len(clean) <= MAX_BUCKETS or any(a >= b for a, b in pairwise(clean)):
        raise InvalidValue(
            f"buckets must be 1 to {MAX_BUCKETS} ascending bounds, got {shown(clean, 80)}"
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
    **options: Any,
) -> Definition:
    """Return the checked definition of a metric; for *options* see `check_options`.

    Raises:
        InvalidMetric: If an argument is invalid (a subclass that says which).
    """
    check_name(name)
    checked = check_type(kind)
    for what, text, limit in (("help", help, MAX_HELP_BYTES), ("unit", unit, MAX_NAME)):
        if not isinstance(text, str) or len(text.encode("utf-8", "replace")) > limit:
            raise InvalidValue(f"{what} must be text of at most {limit} bytes, got {shown(text)}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidValue(f"{what} must be valid UTF-8, got {shown(text)}") from error
    if unit:
        check_name(unit, "unit")
        if checked in LABEL_TYPES:
            raise TypeMismatch(f"unit is for numbers, but {name!r} is of type {checked}")
    if buckets is not None and checked != "histogram":
        raise TypeMismatch(f"buckets are for histograms only, but {name!r} is a {checked}")
    keys = None
    if tag_keys is not None:
        if isinstance(tag_keys, str) or not isinstance(tag_keys, Iterable):
            raise InvalidTags(f"tag_keys must be a list of tag keys, got {shown(tag_keys, 80)}")
        keys = tuple(sorted({check_name(key, "tag key") for key in tag_keys}))
    bounds = check_buckets(buckets, unit) if checked == "histogram" else ()
    found = Definition(checked, unit, help, bounds, keys)
    return found.with_options(check_options(checked, **options)) if options else found
