"""Human-readable numbers, in the formats of Prometheus' templates."""

import math


def humanize(value: float) -> str:
    """Return a number with four digits and a metric prefix: 1.235k, 12.3m."""
    if value == 0 or not math.isfinite(value):
        return _four_digits(value)
    if abs(value) >= 1:
        return _scaled(value, 1000, ("k", "M", "G", "T", "P", "E", "Z", "Y"))
    return _small(value, "")


def humanize_1024(value: float) -> str:
    """Return a number with four digits and a binary prefix: 1.5ki."""
    if abs(value) <= 1 or not math.isfinite(value):
        return _four_digits(value)
    return _scaled(value, 1024, ("ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"))


def humanize_duration(value: float) -> str:
    """Return seconds as days, hours, minutes and seconds, or as a fraction of a second."""
    if not math.isfinite(value):
        return _four_digits(value)
    if value == 0:
        return "0s"
    if abs(value) < 1:
        return _small(value, "s")
    sign, value = ("-", -value) if value < 0 else ("", value)
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
    if hours:
        return f"{sign}{hours}h {minutes}m {seconds}s"
    if minutes:
        return f"{sign}{minutes}m {seconds}s"
    return f"{sign}{_four_digits(value)}s"


def humanize_percentage(value: float) -> str:
    """Return a ratio as a percentage with four digits."""
    return f"{_four_digits(value * 100)}%"


def _four_digits(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return f"{value:.4g}"


def _scaled(value: float, base: int, prefixes: tuple[str, ...]) -> str:
    found = ""
    for prefix in prefixes:
        if abs(value) < base:
            break
        found = prefix
        value /= base
    return _four_digits(value) + found


def _small(value: float, unit: str) -> str:
    found = ""
    for prefix in ("m", "u", "n", "p", "f", "a", "z", "y"):
        if abs(value) >= 1:
            break
        found = prefix
        value *= 1000
    return _four_digits(value) + found + unit
