"""Numbers in the format of a Prometheus page."""

from collections.abc import Iterable
from functools import lru_cache

# From here on a float cannot represent every integer.
_EXACT = 2**53
_NOT_FINITE = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


def format_values(values: Iterable[float]) -> list[int | str]:
    """Format *values* losslessly; integers without a decimal point."""
    return [
        int(value)
        if value.is_integer() and -_EXACT < value < _EXACT
        else _NOT_FINITE.get(text := repr(value), text)
        for value in values
    ]


def format_bound(value: float) -> str:
    """Format *value* as the label `le`: a canonical number of OpenMetrics.

    These are Go's %g with `.0` added to integers. Labels are compared as text, so 1e+06 and
    1000000.0 would be two series. Go uses exponents from 1e+06 on, Python's repr from 1e+16; below
    1e-04 they agree.
    """
    # 0.0 and -0.0 are equal, but not the same text.
    return _format_bound(value) if value else repr(float(value))


@lru_cache(1_000)
def _format_bound(value: float) -> str:
    text = repr(float(value))
    whole, _, fraction = text.lstrip("-").partition(".")
    if len(whole) <= 6 or "e" in text:
        return text
    mantissa = f"{whole[0]}.{whole[1:]}{fraction}".rstrip("0").rstrip(".")
    return f"{'-' if value < 0 else ''}{mantissa}e+{len(whole) - 1:02d}"
