"""Run an archiver until it is stopped."""

import logging
from collections.abc import Callable
from threading import Event

from redismetrics.errors import RedisMetricsError, one_line

from .archiver import Archiver, PassReport

log = logging.getLogger("redismetrics")

# The longest pause after a failure, in seconds; the first is a hundredth of it.
MAX_PAUSE = 60.0


def run_archiver(
    archiver: Archiver, interval: float, stop: Event, report: Callable[[PassReport], None]
) -> None:
    """Make a pass every *interval* seconds until *stop* is set.

    If Redis or the archive does not answer, log it and try again: nothing is lost by that.
    """
    pause = MAX_PAUSE / 100
    while True:
        try:
            report(archiver.pass_once())
        except RedisMetricsError as error:
            log.warning("archiving failed, trying again in %.1f s: %s", pause, one_line(error))
            if stop.wait(pause):
                return
            pause = min(2 * pause, MAX_PAUSE)
            continue
        pause = MAX_PAUSE / 100
        if stop.wait(interval):
            return
