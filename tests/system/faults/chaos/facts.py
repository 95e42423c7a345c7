"""What the writers record, as a function of the seed; their books; and plain lists of it."""

import mmap
import random
import struct
import threading
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from redismetrics.model.time import HOUR

# Samples with explicit times are at most this old.
BACK = 3 * HOUR
METRICS = ("jobs", "past", "took", "past_took", "depth")
# These have samples with explicit times.
TIMED = ("past", "past_took")
TAGS = "xy"
# A value is a random number times this, plus the number of its series. More than all series of a
# run, and a prime, so that a sum of values shows the series from which they are.
STEP = 10_007


def series_number(metric: str, writer: int, tag: str) -> int:
    """Return the number of a series: from 1 to `STEP`, different for up to 1,000 writers."""
    return 1 + METRICS.index(metric) + len(METRICS) * (TAGS.index(tag) + 2 * writer)


def fits(metric: str, writer: int, tag: str, count: int, total: float) -> bool:
    """True if *total* can be the sum of *count* values of the series."""
    return (round(total) - count * series_number(metric, writer, tag)) % STEP == 0


class Fact(NamedTuple):
    """One recorded sample. The metric, the writer and *tag* identify its series."""

    metric: str
    tag: str
    value: int
    time_ms: int | None


def facts(seed: int, number: int, base_ms: int) -> Iterator[Fact]:
    """Yield what writer *number* records, without end."""
    chance = random.Random(f"{seed} {number}")
    metrics = METRICS
    if number % 3 == 2:
        # With a wrong clock it sends nothing that the server accepts.
        metrics = tuple(metric for metric in METRICS if metric not in TIMED)
    while True:
        metric = chance.choice(metrics)
        tag = "x" if metric == "depth" else chance.choice(TAGS)
        value = chance.randint(1, 1_000) * STEP + series_number(metric, number, tag)
        at = base_ms - chance.randrange(BACK) if metric in TIMED else None
        yield Fact(metric, tag, value, at)


class Book:
    """The numbers of samples that a writer recorded and got settled, in a mapped file.

    Attributes:
        recorded: Recorded, written before each.
        confirmed: Recorded before the last `flush` that returned, so stored or dropped by then.
        dropped: Dropped by then. It is written before `confirmed`, so read it after that.
        offset_ms: How much the writer's clock is ahead of ours. The run writes it.
    """

    SHAPE = struct.Struct("<qqqq")

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_bytes(bytes(self.SHAPE.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), self.SHAPE.size)

    def _get(self, field: int) -> int:
        return int(struct.unpack_from("<q", self._map, 8 * field)[0])

    def _set(self, field: int, count: int) -> None:
        struct.pack_into("<q", self._map, 8 * field, count)

    recorded = property(lambda self: self._get(0), lambda self, count: self._set(0, count))
    confirmed = property(lambda self: self._get(1), lambda self, count: self._set(1, count))
    dropped = property(lambda self: self._get(2), lambda self, count: self._set(2, count))

    offset_ms = property(lambda self: self._get(3), lambda self, ms: self._set(3, ms))

    @property
    def end(self) -> Path:
        """The file in which a writer that was not killed leaves its `stats()`."""
        return self.path.with_suffix(".end")


class SeriesList:
    """The samples of one series in the order of recording, as columns.

    Attributes:
        at: How many samples the writer had recorded before each.
        values: The values.
        times: The explicit times in ms, or 0.
        sums: The sum of the first n values for each n from 0 on.
    """

    def __init__(self) -> None:
        self.at, self.values, self.times = array("q"), array("q"), array("q")
        self.sums = array("q", [0])

    def before(self, count: int) -> int:
        """Return how many are among the first *count* samples of the writer."""
        return bisect_left(self.at, count)


class Ledger:
    """Plain lists of what the writers recorded, made when needed."""

    def __init__(self, seed: int, base_ms: int) -> None:
        self._seed, self._base_ms = seed, base_ms
        self._sources: dict[int, Iterator[Fact]] = {}
        self._counts: dict[int, int] = defaultdict(int)
        self._series: dict[tuple[str, int, str], SeriesList] = defaultdict(SeriesList)
        # The main thread, readers and subscribers use it.
        self._lock = threading.Lock()

    def series(self, metric: str, writer: int, tag: str, count: int) -> SeriesList:
        """Return a series, with at least what is among the first *count* samples of *writer*."""
        with self._lock:
            source = self._sources.setdefault(writer, facts(self._seed, writer, self._base_ms))
            for at in range(self._counts[writer], count):
                fact = next(source)
                found = self._series[fact.metric, writer, fact.tag]
                found.at.append(at)
                found.values.append(fact.value)
                found.times.append(fact.time_ms or 0)
                found.sums.append(found.sums[-1] + fact.value)
            self._counts[writer] = max(self._counts[writer], count)
            return self._series[metric, writer, tag]
