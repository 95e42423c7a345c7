"""The balance at the end: everything that is stored against everything that was recorded."""

import itertools
import math
from collections import defaultdict

from redismetrics import Metrics
from redismetrics.export.prometheus import export
from redismetrics.model.time import HOUR, MINUTE
from redismetrics.store import keys
from tests.fixtures.recorded import recorded_state
from tests.fixtures.servers import Server
from tests.fixtures.workers import new_worker, pull_forward

from .facts import METRICS, TAGS, TIMED, Ledger
from .judge import Balance, Judge, Totals, totals_of
from .processes import NAMESPACE, Writer, exits
from .readers import STREAMED, Subscriber, check_page

# By metric and writer: how many samples of each tag are stored.
Stored = dict[tuple[str, int], dict[str, int]]


class Closing:
    """Draws the balance when all processes have ended."""

    def __init__(
        self,
        server: Server,
        ledger: Ledger,
        writers: list[Writer],
        judge: Judge,
        balance: Balance,
    ) -> None:
        self._server, self._ledger, self._writers = server, ledger, writers
        self._judge, self._balance = judge, balance

    def draw(self, subscribers: list[Subscriber]) -> None:
        with Metrics(self._server.url, namespace=NAMESPACE) as reader:
            found = {metric: totals_of(reader, metric) for metric in METRICS[:-1]}
            stored = self._series(found)
            for subscriber in subscribers:
                subscriber.check(
                    {
                        (metric, series): total
                        for metric in STREAMED
                        for series, total in found[metric].items()
                    }
                )
            # What is confirmed is on the page for certain, so the least is all that is recorded.
            page, least = export(metrics=reader), self._judge.mark()
            check_page(page, self._writers, self._judge, least, complete=found["took"])
            self._seal_all()
            if self._series({m: totals_of(reader, m) for m in METRICS[:-1]}) != stored:
                self._judge.wrong("the worker has changed what is stored")
            for metric, writer in itertools.product(METRICS[:-1], self._writers):
                for sample in reader.query(metric, tags={"writer": writer.number}):
                    self._judge.sample("samples", sample, writer.number)
            self._slots(reader, stored)
            depth = reader.rollup("depth", group_by="writer", aggregations="count", window=None)
            live = {
                int(row.tags["writer"]): row.value
                for family in reader.live("depth")
                for row in family.series
            }
        self._check_redis()
        for writer in self._writers:
            flushes = depth.get(str(writer.number), {"count": 0})["count"]
            kept = sum(sum(stored[metric, writer.number].values()) for metric in METRICS[:-1])
            self._writer(writer, kept, flushes, live.get(writer.number, 0.0))
        balance = self._balance
        balance.writers = len(self._writers)
        balance.killed = sum(writer.killed for writer in self._writers)
        balance.exposed = sum(writer.exposed for writer in self._writers)
        if balance.recorded != balance.accounted:
            self._judge.wrong("the parts do not add up")

    def _series(self, found: dict[str, Totals]) -> Stored:
        """Compare all series with the books; return their counts."""
        stored: Stored = defaultdict(dict)
        for metric, totals in found.items():
            for writer, tag in itertools.product(self._writers, TAGS):
                count = self._judge.series(metric, writer, tag, totals, self._judge.bounds(writer))
                stored[metric, writer.number][tag] = count
            strangers = set(totals) - {
                f"{writer.number}/{tag}" for writer in self._writers for tag in TAGS
            }
            if strangers:
                self._judge.wrong(f"{metric} of {strangers}, which was not recorded")
        return stored

    # -- one writer -----------------------------------------------------------------------------

    def _writer(self, writer: Writer, kept: int, flushes: int, value: float) -> None:
        """Add the samples of a writer to the balance; compare them with its own statistics.

        The changes of a gauge in one flush are one sample. They are counted one by one, unless
        some were dropped.
        """
        book, balance = writer.book, self._balance
        changes = self._ledger.series("depth", writer.number, "x", book.recorded)
        depth = changes.before(book.recorded)
        counted = book.recorded - depth
        made = self._changes(writer, value)
        if writer.killed:
            balance.recorded += book.recorded
            balance.stored += kept + made
            if writer.exposed:
                balance.untold += book.recorded - kept - made
            else:
                balance.lost += book.recorded - kept - made
                balance.unconfirmed += book.recorded - book.confirmed
            if kept < book.confirmed - changes.before(book.confirmed) - book.dropped:
                self._judge.wrong(f"writer {writer.number}: {kept} stored, less than confirmed")
            if writer.settled not in (None, book.dropped):
                self._judge.wrong(
                    f"writer {writer.number}: {writer.settled} dropped when the clocks agreed "
                    f"again, {book.dropped} later"
                )
            return
        stats = writer.stats()
        dropped = sum(stats["dropped"].values())
        balance.dropped.update(stats["dropped"])
        about = f"writer {writer.number}: {kept} and {flushes} stored, its stats: {stats}"
        if stats["pending"] or stats["stored"] != kept + flushes:
            self._judge.wrong(f"not what is stored; {about}")
        if stats["recorded"] != stats["stored"] + dropped:
            self._judge.wrong(f"the statistics do not add up; {about}")
        if writer.settled not in (None, dropped):
            self._judge.wrong(
                f"samples were dropped after the clocks agreed again: {writer.settled} by then; "
                f"{about}"
            )
        if dropped:
            if not writer.exposed:
                self._judge.wrong(f"samples were dropped while no clock was wrong; {about}")
            # As samples: the changes of the gauge that were dropped are known as such only.
            gone = stats["recorded"] - counted - flushes
            if not -exits(writer.number) <= gone <= depth:
                self._judge.wrong(f"recorded {book.recorded}, of these {depth} changes; {about}")
            balance.recorded += stats["recorded"]
            balance.stored += kept + flushes
            return
        # The last one may have been interrupted before anything was done.
        interrupted = book.recorded - kept - made
        if not 0 <= interrupted <= exits(writer.number):
            self._judge.wrong(f"recorded {book.recorded}, {made} changes stored; {about}")
        balance.recorded += book.recorded - interrupted
        balance.stored += kept + made

    def _changes(self, writer: Writer, value: float) -> int:
        """Return how many of the first changes make up the value of the writer's gauge."""
        low, high = self._judge.bounds(writer)
        plain = self._ledger.series("depth", writer.number, "x", high)
        least, most = plain.before(low), plain.before(high)
        if not self._judge.counter("depth", writer, "x", value, (low, high)):
            self._judge.wrong(
                f"depth of {writer.number}: expected the sum of {least} to {most} changes, "
                f"got {value}"
            )
        elif int(value) in plain.sums:
            return plain.sums.index(int(value))
        return 0

    # -- slots ----------------------------------------------------------------------------------

    def _slots(self, reader: Metrics, stored: Stored) -> None:
        """Compare minutes and hours of samples with explicit times with the plain list."""
        for metric, (interval, width) in itertools.product(
            TIMED, (("minute", MINUTE), ("hour", HOUR))
        ):
            found: dict[tuple[int, int], tuple[float, ...]] = {}
            for row in reader.time_series(
                metric,
                interval=interval,
                aggregations=("count", "sum", "min", "max"),
                window=None,
                group_by="writer",
            ):
                at = round(row["timestamp"].timestamp() * 1000)
                found[int(row["writer"]), at] = tuple(
                    row[each] for each in ("count", "sum", "min", "max")
                )
            for writer in self._writers:
                if not writer.exposed:
                    self._slots_of(writer, metric, width, found, stored[metric, writer.number])

    def _slots_of(
        self,
        writer: Writer,
        metric: str,
        width: int,
        all_found: dict[tuple[int, int], tuple[float, ...]],
        counts: dict[str, int],
    ) -> None:
        values: dict[int, list[int]] = defaultdict(list)
        for tag, count in counts.items():
            plain = self._ledger.series(metric, writer.number, tag, writer.book.recorded)
            for at, value in zip(plain.times[:count], plain.values[:count], strict=True):
                values[at // width * width].append(value)
        # Counters that were added up in a flush have the extremes of the sums.
        fields = 2 if metric == "past" else 4
        expected = {
            at: (len(each), sum(each), min(each), max(each))[:fields] for at, each in values.items()
        }
        found = {
            at: row[:fields]
            for (number, at), row in all_found.items()
            if number == writer.number and row[0]
        }
        self._judge.checked("slots", len(expected))
        differ = sorted(
            at for at in {*found, *expected} if not _equal(found.get(at), expected.get(at))
        )
        if differ:
            self._judge.wrong(
                f"{metric} of {writer.number} by {width} ms: {len(differ)} slots differ; at "
                f"{differ[0]} expected {expected.get(differ[0])}, got {found.get(differ[0])}"
            )

    # -- the server -----------------------------------------------------------------------------

    def _seal_all(self) -> None:
        """Make all slots that are due now or later."""
        one = new_worker(self._server.url, NAMESPACE)
        try:
            for _ in one.once():
                pass
            with self._server.client() as admin:
                pull_forward(admin, NAMESPACE)
            for _ in one.once():
                pass
            if one.counts.failures:
                self._judge.wrong(f"a pass has failed: {one.counts.last_error}")
        finally:
            one.leave()
            one.store.close()

    def _check_redis(self) -> None:
        """Check that nothing was trimmed unsealed, nothing was late, nothing is left."""
        with self._server.client() as admin:
            if left := admin.zcard(keys.shard(NAMESPACE, 0).dirty):
                self._judge.wrong(f"{left} metrics are not sealed")
            for metric in METRICS:
                late = int(admin.hget(keys.rollup(NAMESPACE, 0, metric).state, "late") or 0)
                if late:
                    self._judge.wrong(f"{metric}: late is {late}")
                recorded = recorded_state(admin, NAMESPACE, metric)
                if recorded.never_sealed:
                    self._judge.wrong(f"{metric}: never_sealed is {recorded.never_sealed}")


def _equal(found: tuple[float, ...] | None, expected: tuple[float, ...] | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return all(
        math.isclose(one, other, rel_tol=1e-12) for one, other in zip(found, expected, strict=True)
    )
