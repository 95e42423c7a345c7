"""Durations in Prometheus' notation: 1h30m, 5m, 250ms."""

import re

_FORM = re.compile(
    r"(?:(\d{1,18})y)?(?:(\d{1,18})w)?(?:(\d{1,18})d)?(?:(\d{1,18})h)?"
    r"(?:(\d{1,18})m(?!s))?(?:(\d{1,18})s)?(?:(\d{1,18})ms)?",
    re.ASCII,
)
_UNITS_MS = (31_536_000_000, 604_800_000, 86_400_000, 3_600_000, 60_000, 1_000, 1)
_LONGEST_MS = 2**63 // 1_000_000


def parse_duration(text: str) -> int:
    """Parse a duration to ms. Units must be in descending order; 0 needs no unit.

    Raises:
        ValueError: If *text* is not a duration, or longer than 292 years.
    """
    if text == "0":
        return 0
    if not text:
        raise ValueError("empty duration string")
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f'not a valid duration string: "{text}"')
    milliseconds = sum(
        int(number) * unit for number, unit in zip(found.groups(), _UNITS_MS, strict=True) if number
    )
    if milliseconds > _LONGEST_MS:
        raise ValueError("duration out of range")
    return milliseconds


def duration_text(milliseconds: int) -> str:
    """Return a duration in its shortest form, with years, weeks and days only if they are whole."""
    if milliseconds == 0:
        return "0s"
    parts = []
    rest = milliseconds
    for unit, name in zip(_UNITS_MS, ("y", "w", "d", "h", "m", "s", "ms"), strict=True):
        if name in ("y", "w") and rest % unit:
            continue
        if rest >= unit:
            parts.append(f"{rest // unit}{name}")
            rest %= unit
    return "".join(parts)
