"""Times as people write them: on the command line and in requests."""

import re
from contextlib import suppress
from datetime import datetime

from redismetrics.errors import InvalidQuery, shown

from .windows import window_ms

# What `parse_time` accepts, for messages and help texts.
TIME_FORMS = "Unix seconds, ISO 8601 with a time zone, or an age such as 2h"
# 9 September 2001: all later Unix seconds have at least ten digits.
OLDEST_SECONDS = 1_000_000_000
_YEAR = 366 * 86_400
# float() accepts more: underscores, spaces, digits of other scripts.
_NUMBER = re.compile(r"[0-9]{1,20}(?:\.[0-9]{0,9})?(?:[eE]\+?[0-9]{1,3})?\Z")


def parse_time(text: str, argument: str, now_s: float, hint: str = "") -> float | datetime:
    """Parse *text* into Unix seconds, or a datetime with a time zone.

    Numbers that look like a date, such as 2026 or 20261129, or like milliseconds are rejected: no
    sample is older than 2001 or more than a year ahead. 0 means from the beginning.

    Args:
        text: One of `TIME_FORMS`; an age counts back from *now_s*.
        argument: The name of the argument, for messages.
        now_s: The time now, in Unix seconds.
        hint: An extra hint about the forms, for messages.

    Raises:
        InvalidQuery: If *text* has none of these forms.
    """
    seconds = None
    with suppress(ValueError):
        seconds = float(text)
    if seconds is not None:
        plausible = seconds == 0 or OLDEST_SECONDS <= seconds <= now_s + _YEAR
        if plausible and _NUMBER.match(text):
            return seconds
        raise InvalidQuery(
            f"{argument} must be Unix seconds from {OLDEST_SECONDS} (2001) to a year from now, "
            f"or 0; write a date as 2026-11-29T00:00Z, got {shown(text, 80)}"
        )
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment
    with suppress(InvalidQuery):
        return window_ms(text, round(now_s * 1000) - 1)[0] / 1000
    raise InvalidQuery(f"{argument} must be {TIME_FORMS}{hint}, got {shown(text, 80)}")
