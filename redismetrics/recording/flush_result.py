"""The report of a flush: the number of stored samples, and of dropped samples by reason."""

from collections import Counter as Tally
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FlushResult:
    """The result of `flush`: what was stored or dropped since the previous flush.

    Attributes:
        stored: The number of samples that Redis confirmed.
        dropped: The number of samples that are not and never will be stored, by reason (see
            docs/settings.md). Empty if all are stored.
    """

    stored: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def since(self, earlier: "FlushResult") -> "FlushResult":
        """Return the difference from *earlier*; both count from the same start."""
        dropped = {
            reason: count - earlier.dropped.get(reason, 0)
            for reason, count in self.dropped.items()
            if count > earlier.dropped.get(reason, 0)
        }
        return FlushResult(max(self.stored - earlier.stored, 0), dropped)


class SettledWatch:
    """Counts stored and dropped samples of metrics with these *names*.

    Samples that were given up without looking at their metrics have the name "".
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        # By name, and by name and reason.
        self.stored: Tally[str] = Tally()
        self.dropped: Tally[tuple[str, str]] = Tally()

    def store(self, name: str, count: int) -> None:
        """Count samples of a metric as stored."""
        if name in self._names:
            self.stored[name] += count

    def drop(self, name: str, reason: str, count: int) -> None:
        """Count samples of a metric as dropped; an empty *name* means any metric."""
        if not name or name in self._names:
            self.dropped[name, reason] += count

    def result(self) -> FlushResult:
        """Return what was stored and dropped so far, over all names."""
        dropped: Tally[str] = Tally()
        for (_, reason), count in self.dropped.items():
            dropped[reason] += count
        return FlushResult(self.stored.total(), dict(dropped))
