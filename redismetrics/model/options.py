"""Options of one metric: how it differs from the defaults of its namespace.

A definition stores them as one msgpack map; see DEFINITION in store/keys.py. Entries that this
version does not know are kept byte for byte.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import msgpack

from redismetrics.errors import InvalidName, InvalidValue, TypeMismatch, shown

from .validation import check_number, did_you_mean, tag_text

# How the values of a gauge's processes are merged; the modes of prometheus_client.
MERGE_MODES = (
    *("all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum"),
    *("mostrecent", "livemostrecent"),
)
# Minimum and maximum of each numeric option. Data is stored by the hour.
_MOST_SECONDS = 100 * 366 * 86_400
_SECONDS = {
    "retention": (3600, _MOST_SECONDS),
    "lookback": (1, 366 * 86_400),
    "longest": (3600, _MOST_SECONDS),
}
_INTERNAL = ("kept_from", "longest")
_COUNTS = {
    "max_tag_values": (1, 1 << 26),
    "max_series": (1, 1 << 26),
    "kept_from": (0, 1 << 40),
}
MAX_STATES = 100
# The types of the metrics that may have an option; all types may have the others.
_TYPES = {
    "exact_samples": ("gauge", "histogram", "summary"),
    "per": ("gauge",),
    "merge": ("gauge",),
    "states": ("stateset",),
}


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a metric. None means not given.

    Attributes:
        exact_samples: Keep each sample, with its time and metadata, for as long as `retention`.
        retention: How long the exact samples of the metric are kept, in seconds.
        lookback: Maximum age of the sample that PromQL uses as the current one, in seconds.
        max_tag_values: Maximum values per tag; overrides the setting of the same name.
        max_series: Maximum number of series; overrides the setting of the same name.
        per: "process": each process has its own value.
        merge: How these values are combined; see `MERGE_MODES`.
        states: The states of a state set.
        kept_from: Unix seconds. Data from before this time follows the namespace's retention,
            because it was stored before the option `retention` was increased. Not set by callers.
        longest: The longest `retention` before it was reduced, in seconds: keys written at that
            time may live that long. Not set by callers.
    """

    exact_samples: bool | None = None
    retention: float | None = None
    lookback: float | None = None
    max_tag_values: int | None = None
    max_series: int | None = None
    per: str | None = None
    merge: str | None = None
    states: tuple[str, ...] | None = None
    kept_from: int | None = None
    longest: float | None = None

    def given(self) -> dict[str, Any]:
        """Return the options that are not None, by name."""
        found = {name: getattr(self, name) for name in _NAMES}
        return {name: value for name, value in found.items() if value is not None}

    def shown(self) -> dict[str, Any]:
        """Return the options that a caller gave, by name, ready for JSON."""
        found = {name: value for name, value in self.given().items() if name not in _INTERNAL}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
        }

    def at(self, now_s: int, before: "Options") -> "Options":
        """Return these options in the form to store when they replace *before* at *now_s*."""
        if self.retention is None:
            return self
        if before.retention is not None and self.retention < before.retention:
            return replace(self, longest=max(before.retention, before.longest or 0))
        if self.retention == before.retention:
            return self
        # Without the option, the namespace's retention is at least that long.
        kept_from = now_s - int(before.retention or _SECONDS["retention"][0])
        return replace(self, kept_from=max(kept_from, before.kept_from or 0, 0))

    def updated(self, new: "Options") -> "Options":
        """Return these options, overridden by those set in *new*."""
        return replace(self, **new.given())


_NAMES = tuple(each.name for each in fields(Options))
# The names as msgpack, and back.
_KEYS: dict[str, bytes] = {name: msgpack.packb(name) for name in _NAMES}
_BY_KEY = {key: name for name, key in _KEYS.items()}


def check_options(kind: str, **given: Any) -> Options:
    """Return the checked options of a metric of type *kind*. None means not given.

    Raises:
        InvalidValue: If a value is invalid.
        TypeMismatch: If an option does not apply to metrics of this type.
    """
    found = {name: value for name, value in given.items() if value is not None}
    for name, value in found.items():
        allowed = _TYPES.get(name)
        if allowed is not None and kind not in allowed and value is not False:
            named = " and ".join(filter(None, (", ".join(allowed[:-1]), allowed[-1])))
            raise TypeMismatch(f"{name} is for {named} metrics, got a {kind}")
    if "merge" in found and "per" not in found:
        raise InvalidValue(
            f"merge needs per='process': it merges the values of processes, got "
            f"merge={shown(found['merge'])} alone"
        )
    return Options(**{name: _checked(name, value) for name, value in found.items()})


def _checked(name: str, value: Any) -> Any:
    """Return the checked value of one option, in the form that is stored."""
    if name == "exact_samples":
        if not isinstance(value, bool):
            raise InvalidValue(f"exact_samples must be True or False, got {shown(value)}")
        return value
    if name in _SECONDS:
        return _check_number(name, value, "a number of seconds", *_SECONDS[name])
    if name in _COUNTS:
        number = _check_number(name, value, "a whole number", *_COUNTS[name])
        if number != int(number):
            raise InvalidValue(f"{name} must be a whole number, got {shown(value)}")
        return int(number)
    if name == "per":
        return _check_choice(name, value, ("process",))
    if name == "merge":
        return _check_choice(name, value, MERGE_MODES)
    return _check_states(value)


def _check_number(name: str, value: Any, kind: str, least: int, most: int) -> float:
    if isinstance(value, bool) or not least <= check_number(value, name) <= most:
        raise InvalidValue(f"{name} must be {kind} from {least} to {most}, got {shown(value)}")
    return check_number(value, name)


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if isinstance(value, str) and value in choices:
        return str(value)
    quoted = ", ".join(map(repr, choices))
    raise InvalidValue(f"{name} must be {quoted}, got {shown(value)}{did_you_mean(value, choices)}")


def _check_states(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidValue(f"states must be a list of names, got {shown(value)}")
    states = tuple(tag_text("states", each) if isinstance(each, str) else each for each in value)
    if (
        not 1 <= len(states) <= MAX_STATES
        or not all(isinstance(each, str) and each for each in states)
        or len(set(states)) < len(states)
    ):
        raise InvalidValue(
            f"states must be 1 to {MAX_STATES} different names, got {shown(states, 120)}"
        )
    return states


# -- as msgpack -----------------------------------------------------------------------------------


# A few hundred distinct option maps are common even where there are many metrics.
@lru_cache(1_000)
def unpack_options(data: bytes) -> tuple[Options, bool]:
    """Return the options in a msgpack map, and whether it has any that this version does not know.

    An option whose value has an unexpected form counts as unknown.
    """
    known, unknown = {}, False
    for key, value in _entries(data).items():
        name = _BY_KEY.get(key)
        try:
            if name is None:
                raise InvalidName(f"option {shown(key)}")
            known[name] = _checked(name, msgpack.unpackb(value))
        except (ValueError, TypeError, msgpack.UnpackException):
            unknown = True
    return Options(**known), unknown


def replace_options(data: bytes, new: Options) -> bytes:
    """Return a msgpack map of the options in *data*, overridden by those set in *new*.

    Entries that do not change keep their bytes and their position.
    """
    before, _ = unpack_options(data)
    entries = _entries(data)
    for name, value in new.given().items():
        if getattr(before, name) != value:
            entries[_KEYS[name]] = msgpack.packb(value)
    packed: bytes = msgpack.Packer().pack_map_header(len(entries))
    return packed + b"".join(key + value for key, value in entries.items())


def _entries(data: bytes) -> dict[bytes, bytes]:
    """Return the entries of a msgpack map, with keys and values still packed."""
    unpacker = msgpack.Unpacker(raw=False, max_buffer_size=len(data))
    unpacker.feed(data)
    found = {}
    for _ in range(unpacker.read_map_header()):
        begin = unpacker.tell()
        unpacker.skip()
        middle = unpacker.tell()
        unpacker.skip()
        found[data[begin:middle]] = data[middle : unpacker.tell()]
    return found
