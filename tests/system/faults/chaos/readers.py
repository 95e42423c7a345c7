"""A reader that asks in every way, and subscribers; each compares what it gets with the books."""

import random
import re
import threading
from collections import defaultdict

from redismetrics import Gap, Metrics, RedisMetricsError, StoreUnavailable
from redismetrics.export.prometheus import export

from .facts import METRICS, TAGS
from .judge import Judge, Totals, totals_of
from .processes import NAMESPACE, Writer

STREAMED = ("jobs", "took")
# Items that wait for the slow subscriber.
SHORT_QUEUE = 64
_LINE = re.compile(r'(\w+)\{tag="(\w)",writer="(\d+)"\} (\S+)')


class Reader:
    """Queries until the end: totals, one series by its tags, samples, and the Prometheus page."""

    def __init__(
        self, url: str, writers: list[Writer], judge: Judge, over: threading.Event
    ) -> None:
        self._url, self._writers, self._judge, self._over = url, writers, judge, over
        self._chance = random.Random()
        self._seen: dict[tuple[str, str], int] = defaultdict(int)

    def run(self) -> None:
        ways = [self._totals, self._totals, self._one_series, self._samples, self._page]
        with Metrics(self._url, namespace=NAMESPACE, socket_timeout=0.5) as reader:
            while not self._over.wait(0.02):
                try:
                    self._chance.choice(ways)(reader)
                except StoreUnavailable:
                    continue
                except RedisMetricsError as error:
                    self._judge.wrong(f"reader: {error!r}")
                    return

    def _totals(self, reader: Metrics) -> None:
        metric = self._chance.choice(METRICS[:-1])
        before = self._judge.mark()
        found = totals_of(reader, metric)
        self._judge.totals("totals", metric, found, before)
        for series, (count, _) in found.items():
            if count < self._seen[metric, series]:
                self._judge.wrong(
                    f"{metric} of {series}: {count} after {self._seen[metric, series]}"
                )
            self._seen[metric, series] = count

    def _one_series(self, reader: Metrics) -> None:
        metric, tag = self._chance.choice(METRICS[:-1]), self._chance.choice(TAGS)
        writer = self._chance.choice(list(self._writers))
        before = self._judge.mark()
        found = totals_of(reader, metric, tags={"writer": writer.number, "tag": tag})
        self._judge.totals("series", metric, found, before, tag=tag, only=writer.number)

    def _samples(self, reader: Metrics) -> None:
        metric, writer = self._chance.choice(METRICS[:-1]), self._chance.choice(self._writers)
        for sample in reader.query(metric, tags={"writer": writer.number}):
            self._judge.sample("samples", sample, writer.number)

    def _page(self, reader: Metrics) -> None:
        before = self._judge.mark()
        page = export(metrics=reader)
        check_page(page, self._writers, self._judge, before)


def check_page(
    page: str,
    writers: list[Writer],
    judge: Judge,
    before: dict[int, int],
    *,
    complete: Totals | None = None,
) -> None:
    """Check every line of the Prometheus page.

    *complete*: the totals of ``took``, if nothing is recorded any more and all must be on the page.
    """
    judge.checked("pages")
    lines = {
        (name, int(writer), tag): float(value) for name, tag, writer, value in _LINE.findall(page)
    }
    by_number = {writer.number: writer for writer in list(writers)}
    took: Totals = {}
    for (name, number, tag), value in lines.items():
        writer = by_number[number]
        bounds = (before.get(number, 0), writer.book.recorded)
        metric = name.removesuffix("_total")
        if name == "took_sum":
            took[f"{number}/{tag}"] = (int(lines["took_count", number, tag]), value)
        elif metric in ("jobs", "past", "depth"):
            judge.checked("lines of pages")
            if not judge.counter(metric, writer, tag, value, bounds):
                judge.wrong(f"page: {name} of {number}/{tag} is {value}: of another series?")
    for series in took:
        judge.checked("lines of pages")
        number, tag = series.split("/")
        writer = by_number[int(number)]
        bounds = (before.get(writer.number, 0), writer.book.recorded)
        judge.series("took", writer, tag, took, bounds, "page")
    if complete is not None and took != complete:
        differ = [each for each in {*took, *complete} if took.get(each) != complete.get(each)]
        judge.wrong(
            f"page: took of {differ[:3]} is {[took.get(each) for each in differ[:3]]}, "
            f"stored is {[complete.get(each) for each in differ[:3]]}"
        )


class Subscriber:
    """Adds up what a stream delivers, until nothing more comes after the end.

    A *slow* one has a short queue and pauses, so that it must get gaps.
    """

    def __init__(self, url: str, judge: Judge, *, slow: bool = False) -> None:
        self.name = "slow stream" if slow else "stream"
        self._url, self._judge, self._slow = url, judge, slow
        self.subscribed, self.all_sent = threading.Event(), threading.Event()
        self.received: dict[tuple[str, str], tuple[int, float]] = {}
        # Gaps, samples that these say are missing, and gaps that do not say how many.
        self.gaps = self.missed = self.open_gaps = 0
        self._thread = threading.Thread(target=self._run, name=f"chaos-{self.name}")

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Wait until nothing more comes, once `all_sent` is set."""
        self._thread.join()

    def _run(self) -> None:
        try:
            with (
                Metrics(self._url, namespace=NAMESPACE, socket_timeout=0.5) as metrics,
                metrics.subscribe(STREAMED, queue=SHORT_QUEUE if self._slow else 1 << 20) as stream,
            ):
                self.subscribed.set()
                while True:
                    item = stream.get(timeout=1.0)
                    if item is None:
                        if self.all_sent.is_set():
                            return
                    elif isinstance(item, Gap):
                        self.gaps += 1
                        self.missed += item.missed or 0
                        self.open_gaps += item.missed is None
                        if self._slow and not self.all_sent.is_set():
                            self.all_sent.wait(0.2)
                    else:
                        self._judge.sample(f"samples of the {self.name}", item)
                        key = item.name, f"{item.tags['writer']}/{item.tags['tag']}"
                        count, total = self.received.get(key, (0, 0))
                        self.received[key] = count + item.count, total + item.value * item.count
        except RedisMetricsError as error:
            self._judge.wrong(f"{self.name}: {error!r}")
        finally:
            self.subscribed.set()

    def check(self, stored: dict[tuple[str, str], tuple[int, float]]) -> None:
        """Check that it received everything once, or gaps where something is missing."""
        surplus = {
            key: (count, stored.get(key))
            for key, (count, _) in self.received.items()
            if count > stored.get(key, (0, 0))[0]
        }
        if surplus:
            self._judge.wrong(f"{self.name}: (received, stored) {dict(list(surplus.items())[:3])}")
        missing = sum(count for count, _ in stored.values()) - sum(
            count for count, _ in self.received.values()
        )
        self._judge.checked(f"gaps of the {self.name}", self.gaps)
        self._judge.checked(f"samples in gaps of the {self.name}", missing)
        right = missing >= self.missed if self.open_gaps else missing == self.missed
        if not right:
            self._judge.wrong(
                f"{self.name}: {missing} samples are missing, "
                f"{self.gaps} gaps report {self.missed}, {self.open_gaps} of them no number"
            )
        if not self.gaps:
            differ = [key for key in stored if not near(self.received.get(key), stored[key])]
            if differ:
                self._judge.wrong(
                    f"{self.name}: of {differ[:3]} it received "
                    f"{[self.received.get(key) for key in differ[:3]]}, "
                    f"stored is {[stored[key] for key in differ[:3]]}"
                )


def near(received: tuple[int, float] | None, stored: tuple[int, float]) -> bool:
    """Compare counts exactly and sums approximately: sums of compressed samples are rounded."""
    count, total = received or (0, 0.0)
    return count == stored[0] and abs(total - stored[1]) <= 1e-9 * abs(stored[1])
