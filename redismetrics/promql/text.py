"""Numbers as Go writes them, which Prometheus' answers and messages use."""

import math
from decimal import Decimal
from functools import lru_cache


@lru_cache(10_000)
def format_float(value: float) -> str:
    """Return the shortest digits that give *value*, without an exponent (Go's 'f', -1)."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    if "e" in text:
        text = f"{Decimal(text):f}"
    return text.removesuffix(".0")


def format_short(value: float) -> str:
    """Return *value* as Go's %g."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value != 0 and not 1e-4 <= abs(value) < 1e21:
        mantissa, _, exponent = f"{Decimal(repr(value)).normalize():E}".partition("E")
        return f"{mantissa}e{exponent[0]}{exponent[1:]:>02}"
    return format_float(value)
