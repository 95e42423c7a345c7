"""Numbers and times in the format of Prometheus, which is Go's."""

import math
from collections.abc import Iterable
from decimal import Decimal

_NOT_FINITE = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


def format_values(values: Iterable[float]) -> list[str]:
    """Format each sample's value like the HTTP API.

    These are the shortest digits that read back as the same float. Prometheus writes an exponent
    only below 1e-06 and from 1e+21 on; Python from 1e-04 down and from 1e+16 on.
    """
    texts = list(map(repr, values))
    joined = ",".join(texts)
    if ".0" in joined:
        joined = f"{joined},".replace(".0,", ",")[:-1]
        texts = joined.split(",")
    # "e": an exponent. "n": inf or nan.
    if "e" in joined or "n" in joined:
        texts = [_format_rare(text) if "e" in text or "n" in text else text for text in texts]
    return texts


def format_value(value: float) -> str:
    """Format one value like `format_values`."""
    return format_values([value])[0]


def _format_rare(text: str) -> str:
    if text in _NOT_FINITE:
        return _NOT_FINITE[text]
    return text if not 1e-6 <= abs(float(text)) < 1e21 else f"{Decimal(text):f}"


def format_label(value: float) -> str:
    """Format *value* without an exponent (Go's 'f', -1), for the labels of `count_values`."""
    text = format_value(value)
    return f"{Decimal(text):f}" if "e" in text else text


def format_short(value: float) -> str:
    """Format *value* like Go's %g, for messages."""
    if math.isfinite(value) and value != 0 and not 1e-4 <= abs(value) < 1e21:
        mantissa, _, exponent = f"{Decimal(repr(value)).normalize():E}".partition("E")
        return f"{mantissa}e{exponent[0]}{exponent[1:]:>02}"
    return format_value(value)


def format_time(time_ms: int) -> str:
    """Format a time as Unix seconds, with milliseconds only if needed."""
    seconds, milliseconds = divmod(abs(time_ms), 1000)
    sign = "-" if time_ms < 0 else ""
    return f"{sign}{seconds}.{milliseconds:03}" if milliseconds else f"{sign}{seconds}"
