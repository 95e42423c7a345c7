"""How many metrics and series a process records for others: nobody's names and tags may take all its memory."""

from collections.abc import Iterable
from dataclasses import dataclass

from redismetrics.verbs import Recording


class NoRoom(Exception):
    """More than this process records for others; nothing was recorded."""


@dataclass(frozen=True, slots=True)
class Room:
    """The bounds. What requests under way bring together may exceed that of series by as much as they hold."""

    names: int
    series: int

    def check(self, metrics: Recording, names: Iterable[str]) -> None:
        """Raise `NoRoom` where metrics of these *names* can't be recorded as well.

        A metric is remembered for as long as the process runs, a series until it was idle for a while.
        """
        known = metrics._recorder.metrics
        count = len(known) + len({name for name in names if name not in known})
        if count > self.names:
            raise NoRoom(f"names: wanted at most {self.names} in this process (the limit recorded_names), got {count}")
        held = sum(len(metric.buffers) for metric in list(known.values()))
        if held >= self.series:
            raise NoRoom(
                f"series: wanted at most {self.series} in this process (the limit recorded_series), got {held}"
            )
