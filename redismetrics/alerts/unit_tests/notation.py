"""The series notation of promtool's tests: `up{job="a"}`, with values such as `1+2x3 _ stale`.

https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/
"""

import re

# Values of one series of a test.
MAX_VALUES = 1_000_000

_NUMBER = r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[iI][nN][fF]|[nN][aA][nN])"
_REPEATED = re.compile(
    rf"(?P<first>{_NUMBER})(?:(?P<step>[+-]{_NUMBER.replace('[+-]?', '', 1)}))?x(?P<times>\d+)"
)
_SINGLE = re.compile(_NUMBER)
_MISSING = re.compile(r"_(?:x(?P<times>\d+))?")


class Stale:
    """A marker for the end of a series."""


STALE = Stale()


def parse_values(text: str) -> list[float | Stale | None]:
    """Return the values of a series, one per interval; None if it has none.

    Raises:
        ValueError: If *text* is not in promtool's notation, or has more than a million values.
    """
    found: list[float | Stale | None] = []
    for word in text.split():
        times = re.search(r"x(\d+)$", word)
        if times and len(found) + int(times[1]) > MAX_VALUES:
            raise ValueError(f"a series must have at most {MAX_VALUES} values, got {word!r}")
        found += _expanded(word)
    return found


def _expanded(word: str) -> list[float | Stale | None]:
    missing = _MISSING.fullmatch(word)
    if missing:
        return [None] * (int(missing["times"]) if missing["times"] else 1)
    if word == "stale":
        return [STALE]
    if _SINGLE.fullmatch(word):
        return [_number(word)]
    repeated = _REPEATED.fullmatch(word)
    if repeated is None:
        reason = "native histograms are not supported" if "{" in word else "it is not a value"
        raise ValueError(f"series values must be like 1 2+3x4 _ stale, got {word!r}: {reason}")
    value = _number(repeated["first"])
    step = _number(repeated["step"]) if repeated["step"] else 0.0
    values: list[float | Stale | None] = []
    # Added up like Prometheus, so that the rounding is the same.
    for _ in range(int(repeated["times"]) + 1):
        values.append(value)
        value += step
    return values


def _number(text: str) -> float:
    # Not hexadecimal: 0x5 is 0, and five times more.
    return float(text)
