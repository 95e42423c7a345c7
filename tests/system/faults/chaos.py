"""Kill writers, workers and the server at random moments; afterwards account for every sample.

    python -m tests.system.faults.chaos --seconds 300 --seed 7

Prints the balance. The exit status is 0 if it is exact, else 1 after a list of what is wrong.

    writers ──┬── socket ────────────────> server  (append-only file, synced before each reply)
              └── proxy (loses replies) ─>   ^  ^
    two workers, for which every slot is due ┘  └── a reader that compares each result with the
                                                    books of the writers, and a subscriber that
                                                    must receive everything once

The samples of a writer depend only on the seed and its number. So its book is two numbers: how many
it recorded, written before each, and how many a `flush` confirmed. They are in a mapped file, which
survives SIGKILL. The samples of a series are stored in the order of recording, so what is stored of
it must be its first samples: at least those confirmed, at most those recorded. Count, sum, minutes
and hours must equal a plain list of them. The values are random, so that a lost and a doubled batch
change the sum even if they do not change the count.

The seed determines what is recorded, what is done, in which order and after which pauses, but not
what the processes do at that moment.
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import math
import mmap
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

from redismetrics import Gap, Gauge, Metrics, RedisMetricsError, StoreUnavailable
from redismetrics.model.time import DAY, HOUR, MINUTE
from redismetrics.store import keys, scripts
from redismetrics.worker import __main__
from redismetrics.worker.limits import WorkerLimits
from tests.fixtures.servers import Server, wait_until
from tests.fixtures.workers import new_worker, pull_forward
from tests.system.faults import proxy as proxies
from tests.system.faults.proxy import Proxy

ROOT = Path(__file__).parents[3]
NAMESPACE = "chaos"
WRITERS, WORKERS = 4, 2
# Samples with explicit times are at most this old.
BACK = 3 * HOUR
PATIENCE = 60.0
GUARD = "if last_sequence and sequence <= last_sequence then\n  return last_reply\nend\n"
METRICS = ("jobs", "past", "took", "past_took", "depth")
# These have samples with explicit times.
TIMED = ("past", "past_took")


class Fact(NamedTuple):
    """One recorded sample. The metric, the writer and *tag* identify its series."""

    metric: str
    tag: str
    value: int
    time_ms: int | None


def facts(seed: int, number: int, base_ms: int) -> Iterator[Fact]:
    """Yield what writer *number* records, without end."""
    chance = random.Random(f"{seed} {number}")
    while True:
        metric, tag = chance.choice(METRICS), chance.choice("xy")
        value = chance.randint(1, 1_000)
        at = base_ms - chance.randrange(BACK) if metric in TIMED else None
        yield Fact(metric, "x" if metric == "depth" else tag, value, at)


class Book:
    """The numbers of samples that a writer recorded and got confirmed, in a mapped file."""

    SHAPE = struct.Struct("<qq")

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_bytes(bytes(self.SHAPE.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), self.SHAPE.size)

    @property
    def recorded(self) -> int:
        return struct.unpack_from("<q", self._map, 0)[0]

    @recorded.setter
    def recorded(self, count: int) -> None:
        struct.pack_into("<q", self._map, 0, count)

    @property
    def confirmed(self) -> int:
        return struct.unpack_from("<q", self._map, 8)[0]

    @confirmed.setter
    def confirmed(self, count: int) -> None:
        struct.pack_into("<q", self._map, 8, count)

    @property
    def end(self) -> Path:
        """The file in which a writer that was not killed leaves its `stats()`."""
        return self.path.with_suffix(".end")


# -- the processes ------------------------------------------------------------------------------


def write(url: str, path: str, seed: int, number: int, base_ms: int) -> None:
    """Record until SIGTERM, then close the client."""
    terminated = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: terminated.set())
    book, chance = Book(Path(path)), random.Random()
    metrics = Metrics(url, namespace=NAMESPACE, flush_interval=0.05, socket_timeout=0.5)
    gauge = Gauge("depth", {"writer": number, "tag": "x"}, metrics=metrics)
    for count, fact in enumerate(facts(seed, number, base_ms), 1):
        book.recorded = count
        if fact.metric == "depth":
            gauge.add(fact.value)
        else:
            record = metrics.histogram if "took" in fact.metric else metrics.increment
            at = None if fact.time_ms is None else fact.time_ms / 1000
            record(fact.metric, fact.value, tags={"writer": number, "tag": fact.tag}, timestamp=at)
        if terminated.is_set():
            break
        if not chance.randrange(50):
            time.sleep(chance.random() * 0.01)
        if not chance.randrange(400):
            with contextlib.suppress(StoreUnavailable):
                metrics.flush(chance.random())
                book.confirmed = count
    metrics.close(PATIENCE / 2)
    book.end.write_text(json.dumps(metrics.stats(), default=str))


def work(url: str) -> int:
    """Run a worker for which every coarse slot is due as soon as something is sealed into it."""
    limits = WorkerLimits(grace_ms=-40 * DAY)
    arguments = ["--url", url, "--namespace", NAMESPACE, "--interval", "0.1"]
    return __main__.main(arguments, limits=limits)


def without_guard() -> None:
    """Remove the guard from record.lua in this process, so that a resent batch counts again."""
    whole = scripts.script("record")
    assert whole.text.count(GUARD) == 1
    text = whole.text.replace(GUARD, "")
    unguarded = scripts.Script(
        "record", text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    )
    guarded = scripts.script
    scripts.script = lambda name: unguarded if name == "record" else guarded(name)  # type: ignore[assignment]


def spawn(*arguments: Any, errors: Path) -> "subprocess.Popen[bytes]":
    with errors.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.system.faults.chaos", *map(str, arguments)],
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )


@dataclass
class Writer:
    """A writing process, running or ended."""

    number: int
    book: Book
    process: "subprocess.Popen[bytes]"
    killed: bool = False

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.book.end.read_text())
        return found


# -- the expected results -----------------------------------------------------------------------


class Ledger:
    """Plain lists of what the writers recorded, made when needed."""

    def __init__(self, seed: int, base_ms: int) -> None:
        self._sources: dict[int, Iterator[Fact]] = {}
        self._lists: dict[int, list[Fact]] = defaultdict(list)
        self._seed, self._base_ms = seed, base_ms

    def first(self, writer: int, count: int) -> list[Fact]:
        """Return the first *count* samples of *writer*."""
        source = self._sources.setdefault(writer, facts(self._seed, writer, self._base_ms))
        known = self._lists[writer]
        known += itertools.islice(source, max(count - len(known), 0))
        return known[:count]


@dataclass
class Balance:
    """The balance at the end; *wrong* is empty if it is exact."""

    recorded: int = 0
    stored: int = 0
    dropped: Tally[str] = field(default_factory=Tally)
    lost: int = 0
    unconfirmed: int = 0
    writers: int = 0
    killed: int = 0
    events: Tally[str] = field(default_factory=Tally)
    queries: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        done = ", ".join(f"{what} {count}" for what, count in sorted(self.events.items()))
        lines = [
            f"done: {done}; {self.queries} results compared with the books in the meantime",
            f"recorded {self.recorded:,} by {self.writers} writers, {self.killed} of them killed",
            f"  = stored {self.stored:,}",
            f"  + dropped {self.dropped.total():,} {dict(self.dropped)}",
            f"  + lost {self.lost:,} of {self.unconfirmed:,} unconfirmed ones of killed writers",
            *(f"WRONG: {each}" for each in self.wrong),
            "exact" if not self.wrong else f"NOT exact: {len(self.wrong)} wrong",
        ]
        return "\n".join(lines)


def _near(received: tuple[int, float], stored: tuple[int, float]) -> bool:
    """Compare counts exactly and sums approximately: sums of compressed samples are rounded."""
    return received[0] == stored[0] and math.isclose(received[1], stored[1], rel_tol=1e-9)


class Chaos:
    """One run; a context manager that ends all processes."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        report: Callable[[str], None] = lambda _: None,
        *,
        guarded: bool = True,
    ) -> None:
        self.folder, self.seed, self._report, self._guarded = folder, seed, report, guarded
        self.base_ms = int(time.time() * 1000)
        self.ledger = Ledger(seed, self.base_ms)
        self.balance = Balance()
        self.writers: list[Writer] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self._chance = random.Random(seed)
        self._stack = contextlib.ExitStack()
        self._over, self._subscribed, self._received_all = (
            threading.Event(),
            threading.Event(),
            threading.Event(),
        )
        self._received: dict[str, tuple[int, float]] = {}
        self.gaps = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.server = stack.enter_context(
                Server.start(self.folder, args=("--appendfsync", "always"))
            )
            self.proxy = stack.enter_context(Proxy(self.server, unix=True))
            stack.callback(self._kill_all)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._stack.close()

    def _kill_all(self) -> None:
        for process in [*(writer.process for writer in self.writers), *self.workers]:
            process.kill()
            process.wait()

    @property
    def errors(self) -> Path:
        """The log of the processes."""
        return self.folder / "errors"

    def run(self, seconds: float) -> Balance:
        """Run and kill for *seconds*, end everything cleanly, and return the balance."""
        self.proxy.lose_replies(1_000_000, every=7)
        for _ in range(WRITERS):
            self.start_writer()
        for _ in range(WORKERS):
            self.start_worker()
        reading = threading.Thread(target=self._read, name="chaos-reader")
        reading.start()
        listening = threading.Thread(target=self._listen, name="chaos-subscriber")
        listening.start()
        wait_until(self._subscribed.is_set, "the subscriber is connected", PATIENCE)
        for writer in self.writers:
            wait_until(
                lambda writer=writer: writer.book.recorded,
                f"writer {writer.number} records",
                PATIENCE,
            )
        until = time.monotonic() + seconds
        actions = (
            [self.kill_writer] * 4
            + [self.end_writer] * 2
            + [self.kill_worker] * 2
            + [self.kill_server] * 2
        )
        actions += [self.pause_server, self.forget_scripts, self.cut_connections]
        try:
            while time.monotonic() < until and not self.balance.wrong:
                time.sleep(self._chance.random() * 0.6)
                self._chance.choice(actions)()
            needed = {
                "worker killed": self.kill_worker,
                "writer killed": self.kill_writer,
                "server killed": self.kill_server,
            }
            # On a busy machine a short run does little.
            for what, action in needed.items():
                if not self.balance.events[what]:
                    action()
        finally:
            self._over.set()
            reading.join()
            if sys.exc_info()[0] is not None:
                self._received_all.set()
        self._end_all()
        self._received_all.set()
        listening.join()
        self._draw()
        return self.balance

    # -- actions --------------------------------------------------------------------------------

    def start_writer(self) -> None:
        number = len(self.writers)
        path = self.folder / f"writer-{number}"
        book = Book(path)
        url = self.proxy.url if number % 2 else self.server.url
        process = spawn(
            "write" if self._guarded else "write-unguarded",
            url,
            path,
            self.seed,
            number,
            self.base_ms,
            errors=self.errors,
        )
        self.writers.append(Writer(number, book, process))

    def start_worker(self) -> None:
        self.workers.append(spawn("work", self.server.url, errors=self.errors))

    def _alive(self) -> Writer:
        """Return a writer that runs and has recorded; the books of others are empty."""
        writer = self._chance.choice([each for each in self.writers if each.process.poll() is None])
        wait_until(lambda: writer.book.recorded, f"writer {writer.number} records", PATIENCE)
        return writer

    def kill_writer(self) -> None:
        writer = self._alive()
        writer.process.kill()
        writer.process.wait()
        writer.killed = True
        self._did("writer killed", f"{writer.number} at {writer.book.recorded}")
        self.start_writer()

    def end_writer(self) -> None:
        writer = self._alive()
        writer.process.terminate()
        self._did("writer ended", str(writer.number))
        self._await(writer)
        self.start_writer()

    def kill_worker(self) -> None:
        victim = self._chance.randrange(WORKERS)
        process = self.workers[victim]
        process.kill()
        process.wait()
        self._did("worker killed", str(victim))
        self.workers[victim] = spawn("work", self.server.url, errors=self.errors)

    def kill_server(self) -> None:
        self.server.kill()
        self._did("server killed")
        time.sleep(self._chance.random() * 0.3)
        self.server.restart()

    def pause_server(self) -> None:
        self.server.pause()
        self._did("server paused")
        time.sleep(self._chance.random() * 0.8)
        self.server.resume()

    def forget_scripts(self) -> None:
        with self.server.client() as admin:
            admin.script_flush()
        self._did("scripts flushed")

    def cut_connections(self) -> None:
        with self.server.client() as admin:
            admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        self._did("connections cut")

    def _did(self, what: str, which: str = "") -> None:
        self.balance.events[what] += 1
        self._report(f"{time.time() - self.base_ms / 1000:7.2f} s  {what} {which}")

    def _await(self, writer: Writer) -> None:
        writer.process.wait(PATIENCE)
        if writer.process.returncode:
            self.balance.wrong.append(
                f"writer {writer.number} ended with {writer.process.returncode}"
            )

    def _end_all(self) -> None:
        self.proxy.lose_replies(0)
        for writer in self.writers:
            if writer.process.poll() is None:
                wait_until(
                    lambda writer=writer: writer.book.recorded,
                    f"writer {writer.number} records",
                    PATIENCE,
                )
                writer.process.terminate()
        for writer in self.writers:
            if not writer.killed:
                self._await(writer)
        for process in self.workers:
            process.terminate()
            # -SIGTERM: it ended before it had installed its signal handler.
            if process.wait(PATIENCE) not in (0, -signal.SIGTERM):
                self.balance.wrong.append(f"a worker ended with {process.returncode}")

    # -- the reader -----------------------------------------------------------------------------

    def _read(self) -> None:
        """Query until the end.

        Each result is between what was confirmed before the query and recorded after it.
        """
        chance = random.Random()
        seen: dict[tuple[str, str], int] = defaultdict(int)
        with Metrics(self.server.url, namespace=NAMESPACE, socket_timeout=0.5) as reader:
            while not self._over.wait(0.02):
                metric = chance.choice(METRICS[:-1])
                before = {writer.number: writer.book.confirmed for writer in list(self.writers)}
                try:
                    found = self._totals(reader, metric)
                except StoreUnavailable:
                    continue
                except RedisMetricsError as error:
                    self.balance.wrong.append(f"reader: {error!r}")
                    return
                self.balance.queries += 1
                for writer in list(self.writers):
                    recorded, confirmed = writer.book.recorded, before.get(writer.number, 0)
                    for tag in "xy":
                        self._judge(metric, writer.number, tag, found, confirmed, recorded)
                for series, (count, _) in found.items():
                    if count < seen[metric, series]:
                        self.balance.wrong.append(
                            f"{metric} of {series}: {count} after {seen[metric, series]}"
                        )
                    seen[metric, series] = count

    def _listen(self) -> None:
        """Add up what the stream delivers, until nothing more comes after the end."""
        try:
            with (
                Metrics(self.server.url, namespace=NAMESPACE, socket_timeout=0.5) as metrics,
                metrics.subscribe("jobs", queue=1 << 20) as stream,
            ):
                self._subscribed.set()
                while True:
                    item = stream.get(timeout=1.0)
                    if item is None:
                        if self._received_all.is_set():
                            return
                        continue
                    if isinstance(item, Gap):
                        self.gaps += 1
                        continue
                    series = f"{item.tags['writer']}/{item.tags['tag']}"
                    count, total = self._received.get(series, (0, 0))
                    self._received[series] = count + item.count, total + item.value * item.count
        except RedisMetricsError as error:
            self.balance.wrong.append(f"subscriber: {error!r}")
        finally:
            self._subscribed.set()

    @staticmethod
    def _totals(reader: Metrics, metric: str) -> dict[str, tuple[int, float]]:
        """Return count and sum of each "<writer>/<tag>"."""
        rows = reader.rollup(
            metric, group_by=("writer", "tag"), aggregations=("count", "sum"), window=None
        )
        return {key: (row["count"], row["sum"]) for key, row in rows.items()}

    def _judge(
        self,
        metric: str,
        writer: int,
        tag: str,
        found: dict[str, tuple[int, float]],
        confirmed: int,
        recorded: int,
    ) -> list[Fact]:
        """Compare a series with its writer's book; return the plain list of its stored samples."""
        count, total = found.get(f"{writer}/{tag}", (0, 0))
        facts_ = self.ledger.first(writer, recorded)
        of_series = [
            at for at, fact in enumerate(facts_) if (fact.metric, fact.tag) == (metric, tag)
        ]
        least = sum(at < confirmed for at in of_series)
        if not least <= count <= len(of_series):
            self.balance.wrong.append(
                f"{metric} of {writer}/{tag}: "
                f"expected {least} (confirmed) to {len(of_series)}, got {count}"
            )
        stored = [facts_[at] for at in of_series[:count]]
        expected = sum(fact.value for fact in stored)
        if total != expected:
            self.balance.wrong.append(
                f"{metric} of {writer}/{tag}: the sum of {count} is {total}, expected {expected}"
            )
        return stored

    # -- the balance ----------------------------------------------------------------------------

    def _draw(self) -> None:
        balance = self.balance
        balance.writers, balance.killed = (
            len(self.writers),
            sum(writer.killed for writer in self.writers),
        )
        with Metrics(self.server.url, namespace=NAMESPACE) as reader:
            stored = self._check_series(reader)
            found = self._totals(reader, "jobs")
            differ = [
                each for each in found if not _near(self._received.get(each, (0, 0)), found[each])
            ]
            if self.gaps or differ:
                self.balance.wrong.append(
                    f"the subscriber had {self.gaps} gaps; of {differ[:3]} it received "
                    f"{[self._received.get(series) for series in differ[:3]]}, "
                    f"stored is {[found[each] for each in differ[:3]]}"
                )
            self._seal_all()
            if self._check_series(reader) != stored:
                balance.wrong.append("the worker has changed what is stored")
            self._check_slots(reader, [fact for facts_ in stored.values() for fact in facts_])
            flushes = reader.rollup("depth", group_by="writer", aggregations="count", window=None)
            live = {
                row.tags["writer"]: row.value
                for family in reader.live("depth")
                for row in family.series
            }
        self._check_redis()
        for writer in self.writers:
            recorded, kept = writer.book.recorded, len(stored[writer.number])
            kept += self._gauge(writer, live.get(str(writer.number), 0))
            balance.recorded += recorded
            balance.stored += kept
            if writer.killed:
                balance.lost += recorded - kept
                balance.unconfirmed += recorded - writer.book.confirmed
                continue
            stats = writer.stats()
            balance.dropped.update(stats["dropped"])
            # The changes of a gauge in one flush are one sample.
            counted = sum(
                fact.metric != "depth" for fact in self.ledger.first(writer.number, recorded)
            )
            counted += flushes.get(str(writer.number), {"count": 0})["count"]
            if not stats["dropped"] and (stats["recorded"], stats["stored"], stats["pending"]) != (
                counted,
                counted,
                0,
            ):
                balance.wrong.append(
                    f"writer {writer.number} recorded {counted}, its stats say {stats}"
                )
            if recorded != kept + sum(stats["dropped"].values()):
                balance.wrong.append(
                    f"writer {writer.number}: recorded {recorded}, stored {kept}: {stats}"
                )
        if balance.recorded != balance.stored + balance.dropped.total() + balance.lost:
            balance.wrong.append("the parts do not add up")

    def _bounds(self, writer: Writer) -> tuple[int, int]:
        """Return the least and the most samples of a writer that can be stored."""
        recorded = writer.book.recorded
        if writer.killed:
            return writer.book.confirmed, recorded
        return (
            (recorded, recorded)
            if not writer.stats()["dropped"]
            else (writer.book.confirmed, recorded)
        )

    def _check_series(self, reader: Metrics) -> dict[int, list[Fact]]:
        """Compare all series with the books; return what is stored, without gauges."""
        stored: dict[int, list[Fact]] = defaultdict(list)
        for metric in METRICS[:-1]:
            found = self._totals(reader, metric)
            for writer, tag in itertools.product(self.writers, "xy"):
                stored[writer.number] += self._judge(
                    metric, writer.number, tag, found, *self._bounds(writer)
                )
            strangers = set(found) - {
                f"{writer.number}/{tag}" for writer in self.writers for tag in "xy"
            }
            if strangers:
                self.balance.wrong.append(f"{metric} of {strangers}, which was not recorded")
        return stored

    def _gauge(self, writer: Writer, value: float) -> int:
        """Return how many of the first changes make up the value of the writer's gauge."""
        changes = [
            (at, fact.value)
            for at, fact in enumerate(self.ledger.first(writer.number, writer.book.recorded))
            if fact.metric == "depth"
        ]
        sums = list(itertools.accumulate((change for _, change in changes), initial=0))
        least, most = (sum(at < bound for at, _ in changes) for bound in self._bounds(writer))
        if value not in sums[least : most + 1]:
            self.balance.wrong.append(
                f"depth of {writer.number}: expected one of {sums[least : most + 1]}, got {value}"
            )
            return 0
        return sums.index(int(value))

    def _check_slots(self, reader: Metrics, stored: list[Fact]) -> None:
        """Compare minutes and hours of samples with explicit times with the plain list."""
        for metric, (interval, width) in itertools.product(
            TIMED, (("minute", MINUTE), ("hour", HOUR))
        ):
            values: dict[int, list[int]] = defaultdict(list)
            for fact in stored:
                if fact.metric == metric and fact.time_ms is not None:
                    values[fact.time_ms // width * width].append(fact.value)
            rows = reader.time_series(
                metric, interval=interval, aggregations=("count", "sum", "min", "max"), window=None
            )
            found = {
                round(row["timestamp"].timestamp() * 1000): (
                    row["count"],
                    row["sum"],
                    row["min"],
                    row["max"],
                )
                for row in rows
            }
            expected = {
                slot: (len(each), sum(each), min(each), max(each)) for slot, each in values.items()
            }
            if metric == "past":
                # Counters that were added up in a flush have the extremes of the sums.
                found, expected = (
                    {at: row[:2] for at, row in rows.items()} for rows in (found, expected)
                )
            if found != expected:
                differ = sorted(
                    slot for slot in {*found, *expected} if found.get(slot) != expected.get(slot)
                )
                self.balance.wrong.append(
                    f"{metric} by {interval}: {len(differ)} slots differ; at {differ[0]} "
                    f"expected {expected.get(differ[0])}, got {found.get(differ[0])}"
                )

    def _seal_all(self) -> None:
        """Make all slots that are due now or later."""
        one = new_worker(self.server.url, NAMESPACE)
        try:
            for _ in one.once():
                pass
            with self.server.client() as admin:
                pull_forward(admin, NAMESPACE)
            for _ in one.once():
                pass
            if one.counts.failures:
                self.balance.wrong.append(f"a pass has failed: {one.counts.last_error}")
        finally:
            one.leave()
            one.store.close()

    def _check_redis(self) -> None:
        """Check that nothing was trimmed unsealed, nothing was late, nothing is left."""
        with self.server.client() as admin:
            if left := admin.zcard(keys.shard(NAMESPACE, 0).dirty):
                self.balance.wrong.append(f"{left} metrics are not sealed")
            for metric in METRICS:
                state = admin.hgetall(keys.metric(NAMESPACE, 0, metric).state)
                for what in (b"never_sealed", b"late"):
                    if int(state.get(what, 0)):
                        self.balance.wrong.append(
                            f"{metric}: {what.decode()} is {state[what].decode()}"
                        )


def run(
    seconds: float,
    seed: int,
    report: Callable[[str], None] = lambda _: None,
    *,
    guarded: bool = True,
) -> tuple[Balance, str]:
    """Run once in a temporary folder; return the balance and the log of the processes."""
    folder = Path(tempfile.mkdtemp(prefix="rm-chaos-", dir=tempfile.gettempdir()))
    proxies.QUIET = 0.002
    try:
        with Chaos(folder, seed, report, guarded=guarded) as chaos:
            balance = chaos.run(seconds)
            return balance, chaos.errors.read_text(errors="replace")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def bugs(log: str) -> list[str]:
    """Return the lines of the log that report a bug."""
    return [line for line in log.splitlines() if "BUG:" in line or "Traceback" in line]


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["write-unguarded"]:
        without_guard()
    if arguments[:1] in (["write"], ["write-unguarded"]):
        write(arguments[1], arguments[2], *map(int, arguments[3:]))
        return 0
    if arguments[:1] == ["work"]:
        return work(arguments[1])
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.faults.chaos",
        description="Kill everything at random, then account for every sample.",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        help="how long to kill (default: %(default)g)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=int(time.time()),
        help="determines what is done and when (default: the time)",
    )
    parser.add_argument(
        "--without-guard",
        action="store_true",
        help="remove the guard from record.lua: the balance must be wrong",
    )
    parser.add_argument("--verbose", action="store_true", help="print each action")
    given = parser.parse_args(arguments)
    print(f"seed {given.seed}, {given.seconds:g} s", flush=True)
    report = partial(print, flush=True) if given.verbose else lambda _: None
    balance, log = run(given.seconds, given.seed, report, guarded=not given.without_guard)
    print(balance)
    for line in (found := bugs(log)):
        print(f"log: {line}")
    return int(bool(balance.wrong or found))


if __name__ == "__main__":
    sys.exit(main())
