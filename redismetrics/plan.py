"""Which parts of the store answer for a window: each instant covered once. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read for the window [since_ms, until_ms): the log, of which the samples within it count."""

    since_ms: int
    until_ms: int

    def __contains__(self, timestamp_ms: int) -> bool:
        return self.since_ms <= timestamp_ms < self.until_ms


def plan(since_ms: int, until_ms: int) -> Plan:
    """Plan the reading of a window. Everything that is kept is in the log."""
    return Plan(since_ms, max(since_ms, until_ms))
