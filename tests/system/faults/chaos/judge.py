"""Compare what is read with the books of the writers."""

import threading
from collections import Counter as Tally
from dataclasses import dataclass, field
from typing import Any

from redismetrics import Metrics, Sample

from .facts import TAGS, Ledger, fits
from .processes import Writer, exits

# (count, sum) of each "<writer>/<tag>".
Totals = dict[str, tuple[int, float]]


@dataclass
class Balance:
    """The balance at the end; *wrong* is empty if it is exact.

    Attributes:
        lost: Lost by writers that were killed, which *unconfirmed* allows.
        untold: Lost or dropped by writers that were killed and had dropped some: which, they could
            not say any more.
    """

    recorded: int = 0
    stored: int = 0
    dropped: Tally[str] = field(default_factory=Tally)
    lost: int = 0
    unconfirmed: int = 0
    untold: int = 0
    writers: int = 0
    killed: int = 0
    exposed: int = 0
    events: Tally[str] = field(default_factory=Tally)
    checks: Tally[str] = field(default_factory=Tally)
    wrong: list[str] = field(default_factory=list)

    @property
    def accounted(self) -> int:
        """How many samples are stored, dropped or lost."""
        return self.stored + self.dropped.total() + self.lost + self.untold

    def __str__(self) -> str:
        done = ", ".join(f"{what} {count}" for what, count in sorted(self.events.items()))
        compared = ", ".join(f"{what} {count:,}" for what, count in sorted(self.checks.items()))
        lines = [
            f"done: {done}",
            f"compared with the books: {compared}",
            f"recorded {self.recorded:,} by {self.writers} writers, {self.killed} of them killed",
            f"  ({self.exposed} writers lived while clocks were far apart)",
            f"  = stored {self.stored:,}",
            f"  + dropped {self.dropped.total():,} {dict(self.dropped)}",
            f"  + lost {self.lost:,} of {self.unconfirmed:,} unconfirmed ones of killed writers",
            f"  + lost or dropped {self.untold:,} by killed ones while clocks were far apart",
            *(f"WRONG: {each}" for each in self.wrong[:100]),
            "exact" if not self.wrong else f"NOT exact: {len(self.wrong)} wrong",
        ]
        return "\n".join(lines)


class Judge:
    """Adds to the balance what contradicts the books. Any thread may call it."""

    def __init__(self, ledger: Ledger, writers: list[Writer], balance: Balance) -> None:
        self._ledger, self._writers, self._balance = ledger, writers, balance
        self._lock = threading.Lock()

    def checked(self, what: str, count: int = 1) -> None:
        with self._lock:
            self._balance.checks[what] += count

    def wrong(self, message: str) -> None:
        with self._lock:
            self._balance.wrong.append(message)

    # -- the bounds -----------------------------------------------------------------------------

    def mark(self) -> dict[int, int]:
        """Return what is confirmed of each writer now, before something is read."""
        return {writer.number: writer.book.confirmed for writer in list(self._writers)}

    def bounds(self, writer: Writer) -> tuple[int, int]:
        """Return how many of the samples of an ended writer are stored: least and most."""
        recorded = writer.book.recorded
        if writer.killed:
            return writer.book.confirmed, recorded
        # The last one may have been interrupted before anything was done.
        return recorded - exits(writer.number), recorded

    # -- what is read ---------------------------------------------------------------------------

    def totals(
        self,
        what: str,
        metric: str,
        found: Totals,
        before: dict[int, int],
        *,
        tag: str | None = None,
        only: int | None = None,
    ) -> None:
        """Check count and sum of each series; with *tag* and *only*, those of one series."""
        self.checked(what)
        for writer in list(self._writers):
            recorded = writer.book.recorded
            for each in TAGS if tag is None else (tag,):
                if only in (None, writer.number):
                    bounds = (before.get(writer.number, 0), recorded)
                    self.series(metric, writer, each, found, bounds, what)
        known = {
            f"{writer.number}/{each}"
            for writer in list(self._writers)
            for each in (TAGS if tag is None else (tag,))
            if only in (None, writer.number)
        }
        if strangers := set(found) - known:
            self.wrong(f"{what}: {metric} of {strangers}, which was not recorded or not requested")

    def series(
        self,
        metric: str,
        writer: Writer,
        tag: str,
        found: Totals,
        bounds: tuple[int, int],
        what: str = "at the end",
    ) -> int:
        """Check count and sum of a series; return the count."""
        count, total = found.get(f"{writer.number}/{tag}", (0, 0))
        plain = self._ledger.series(metric, writer.number, tag, bounds[1])
        least, most = plain.before(bounds[0]), plain.before(bounds[1])
        name = f"{what}: {metric} of {writer.number}/{tag}"
        if writer.exposed:
            if not count <= most or not fits(metric, writer.number, tag, count, total):
                self.wrong(f"{name}: {count} with a sum of {total:.0f}, of {most} recorded")
            return count
        if not least <= count <= most:
            self.wrong(f"{name}: expected {least} (confirmed) to {most}, got {count}")
        elif total != plain.sums[count]:
            self.wrong(f"{name}: the sum of {count} is {total}, expected {plain.sums[count]}")
        return count

    def counter(
        self, metric: str, writer: Writer, tag: str, total: float, bounds: tuple[int, int]
    ) -> bool:
        """True if *total* is the sum of some of the first samples of a series."""
        plain = self._ledger.series(metric, writer.number, tag, bounds[1])
        least, most = plain.before(bounds[0]), plain.before(bounds[1])
        if writer.exposed:
            return total <= plain.sums[most] and any(
                fits(metric, writer.number, tag, count, total) for count in range(most + 1)
            )
        return total in plain.sums[least : most + 1]

    def sample(self, what: str, sample: Sample, writer: int | None = None) -> None:
        """Check that a sample of a query or a stream has the tags of its value."""
        self.checked(what)
        number, tag = int(sample.tags["writer"]), sample.tags["tag"]
        if writer not in (None, number):
            self.wrong(f"{what}: a sample of writer {number}, requested were those of {writer}")
        # The means of compressed samples are rounded.
        total = sample.value * sample.count
        if not sample.approximate and not fits(sample.name, number, tag, sample.count, total):
            self.wrong(f"{what}: {sample} has the tags of another series")


def totals_of(reader: Metrics, metric: str, **options: Any) -> Totals:
    """Return count and sum of each "<writer>/<tag>"."""
    rows = reader.rollup(
        metric,
        group_by=("writer", "tag"),
        aggregations=("count", "sum"),
        window=None,
        **options,
    )
    return {key: (row["count"], row["sum"]) for key, row in rows.items()}
