"""Workers are killed, stopped and overtaken at every step; servers restart, fail over, trim logs.

Each sample counts once: at every moment the results for windows of every resolution are compared
with a plain list of what was recorded.
"""

import contextlib
import itertools
import math
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Self

import pytest
import redis

from redismetrics import Metrics, StoreUnavailable
from redismetrics.model.time import DAY, HOUR, MINUTE, SECOND, slot_of
from redismetrics.recording import redis_sink
from redismetrics.recording.backoff import Backoff
from redismetrics.store import keys, scripts
from redismetrics.store.driver import run
from redismetrics.store.due_slot import DueSlot
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.namespace import open_namespace
from redismetrics.worker import Worker, __main__, cleanup, downsample, seal
from redismetrics.worker.commit import Outcome
from tests.fixtures import workers
from tests.fixtures.clients import MakeWorker
from tests.fixtures.recorded import recorded_state
from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.fixtures.workers import Steps, contents, new_worker, pull_forward
from tests.system.faults import proxy as proxies
from tests.system.faults.proxy import Proxy
from tests.system.faults.test_processes import ended, in_child

# From Python 3.12 on a fork with several threads warns. That it works is what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")

NEVER = 3_600.0

Window = tuple[float, float] | None


class Book:
    """A client and a list of what it recorded: the same samples in a counter and a histogram."""

    def __init__(self, url: str, namespace: str, **settings: Any) -> None:
        self.metrics = Metrics(url, namespace=namespace, flush_interval=NEVER, **settings)
        self.samples: list[tuple[int, int, str]] = []

    def record(self, time_ms: int, value: int) -> None:
        tag = "xy"[value % 2]
        for record, name in ((self.metrics.increment, "jobs"), (self.metrics.histogram, "took")):
            record(name, value, tags={"tag": tag}, timestamp=time_ms / 1000)
        self.samples.append((time_ms, value, tag))

    def fill(self, hour: int, seed: int = 0) -> None:
        """Record two hours of samples from *hour* on, some close together, in two flushes."""
        for number in range(12):
            self.record(hour + number * 9 * MINUTE + 13_500 + seed, number + 1 + seed)
        self.metrics.flush()
        for number in range(8):
            self.record(hour + 5 * MINUTE + number * 11_250 + seed, 100 + number + seed)
        self.metrics.flush()

    def windows(self, hour: int) -> list[Window]:
        """Return a window for each resolution, and some that cut hours and minutes."""
        edges = [
            (hour, hour + HOUR),
            (slot_of(hour, DAY), slot_of(hour, DAY) + DAY),
            (hour + 5 * MINUTE, hour + 85 * MINUTE),
            (hour + 5 * MINUTE + 500, hour + 6 * MINUTE + 30_000),
        ]
        return [None, *((since / 1000, until / 1000) for since, until in edges)]

    def results(self, window: Window) -> list[dict[str, Any]]:
        names = ("count", "sum", "min", "max")
        return [
            self.metrics.rollup(name, group_by="tag", aggregations=names, window=window)
            for name in ("jobs", "took")
        ]

    def expected(self, window: Window) -> list[dict[str, Any]]:
        since, until = (0.0, math.inf) if window is None else window
        inside = [
            (tag, value) for at, value, tag in self.samples if since * 1000 <= at < until * 1000
        ]
        rows = {}
        for tag in sorted({tag for tag, _ in inside}):
            of_tag = [value for each, value in inside if each == tag]
            rows[tag] = {
                "count": len(of_tag),
                "sum": sum(of_tag),
                "min": min(of_tag),
                "max": max(of_tag),
            }
        return [rows, rows]

    def check(self, hour: int) -> None:
        for window in self.windows(hour):
            assert self.results(window) == self.expected(window), window

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.metrics.close(0.5)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients and workers retry soon, and the proxy recognise the end of a request soon."""
    monkeypatch.setattr(redis_sink, "DEFAULT_BACKOFF", Backoff(first=0.01))
    limits = replace(workers.LIMITS, backoff=0.01, longest_backoff=0.05)
    monkeypatch.setattr(workers, "LIMITS", limits)
    monkeypatch.setattr(proxies, "QUIET", 0.001)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every coarse slot due as soon as something is sealed into it."""
    monkeypatch.setattr(workers, "LIMITS", replace(workers.LIMITS, grace_ms=-40 * DAY))


@pytest.fixture
def proxy(server: Server, quick: None) -> Iterator[Proxy]:
    with Proxy(server, unix=True) as proxy:
        yield proxy


@pytest.fixture
def make_book(url: str, namespace: str) -> Iterator[Callable[..., Book]]:
    """Return a function that makes books; they are closed at the end."""
    with contextlib.ExitStack() as made:
        yield lambda to=url: made.enter_context(Book(to, namespace))


@pytest.fixture
def hour() -> int:
    """The start of an hour that has ended and for which samples are still accepted."""
    return slot_of(int(time.time() * 1000), HOUR) - 3 * HOUR


def work(url: str, namespace: str) -> None:
    """Do all work there is, as a worker's process does."""
    for _ in new_worker(url, namespace, socket_timeout=10).once():
        pass


def nothing_left(admin: redis.Redis, namespace: str) -> bool:
    """True if all is sealed and every coarse slot is made."""
    due = [admin.hlen(keys.rollup(namespace, 0, name).due) for name in ("jobs", "took")]
    return not admin.zcard(keys.shard(namespace, 0).dirty) and due == [0, 0]


def metric_of(client: Any, namespace: str, name: str) -> MetricLocation:
    return MetricLocation(namespace, 0, name, run(client, open_namespace(namespace)).retention)


def at_request(number: int, act: Callable[[], bool]) -> proxies.When:
    """Call *act* at request *number*; if it returns true, the fault hits the request."""
    seen = itertools.count(1)
    return lambda request: next(seen) == number and act()


# -- at every step ------------------------------------------------------------------------------


class Child:
    """A worker's process behind the proxy, which is killed or stopped at request *number*.

    *how*: killed "before" the server gets the request or "after" that and before the reply; or
    stopped ("asleep").
    """

    def __init__(self, proxy: Proxy, namespace: str, number: int, how: str) -> None:
        self._how = how
        self._hits = threading.Event()
        self._pids: list[int] = []
        self._through = lambda before=proxy.cut + proxy.lost: proxy.cut + proxy.lost > before
        plan = proxy.lose_replies if how == "after" else proxy.cut_requests
        plan(1, when=at_request(number, self._hit))
        self._pids.append(in_child(lambda: work(proxy.url, namespace)))

    def _hit(self) -> bool:
        wait_until(lambda: self._pids, "the process id is known")
        os.kill(self._pids[0], signal.SIGSTOP if self._how == "asleep" else signal.SIGKILL)
        self._hits.set()
        return self._how != "asleep"

    def hit(self) -> bool:
        """Wait until it is hit and the server has its request; return False if it ended before."""
        pid = self._pids[0]
        _, status = os.waitpid(pid, os.WUNTRACED)
        if not self._hits.is_set():
            assert os.waitstatus_to_exitcode(status) == 0
            return False
        if self._how == "asleep":
            assert os.WIFSTOPPED(status)
        else:
            assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
            wait_until(self._through, "the request is through, or lost")
        return True

    def wake(self) -> None:
        """Let it continue to its end."""
        os.kill(self._pids[0], signal.SIGCONT)
        assert ended(self._pids[0]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("how", ["before", "after", "asleep"])
def test_a_worker_may_be_killed_or_stopped_at_any_step(
    proxy: Proxy,
    admin: redis.Redis,
    url: str,
    namespace: str,
    at_once: None,
    make_worker: MakeWorker,
    hour: int,
    how: str,
) -> None:
    """At its first request, its second (asleep: its third) and so on, until there are no more."""
    for number in itertools.count(1, 2 if how == "asleep" else 1):
        at = f"{namespace}-{number}"
        with Book(url, at) as book:
            book.fill(hour)
            child = Child(proxy, at, number, how)
            was_hit = child.hit()
            if was_hit and how == "asleep":
                admin.delete(keys.workers(at))  # stopped for longer than it counts as alive
                book.fill(hour, seed=1_000)
                for _ in make_worker(of=at).once():
                    pass
                book.check(hour)
                assert nothing_left(admin, at)
                book.fill(hour, seed=2_000)
                child.wake()
            else:
                book.check(hour)
            for _ in make_worker(of=at).once():
                pass
            book.check(hour)
        assert nothing_left(admin, at)
        levels = {field.split()[0] for field in admin.hkeys(keys.rollup(at, 0, "took").held)}
        assert levels == {b"raw", b"minute", b"hour", b"day", b"samples"}
        if not was_hit:
            break
    assert number > 20


def test_stale_commit_is_rejected(
    url: str, admin: redis.Redis, namespace: str, make_worker: MakeWorker, make_book: Any, hour: int
) -> None:
    """A stopped worker that wakes up has an old version: its commit is rejected and repeated."""
    book = make_book()
    book.fill(hour)
    sleeper, other = make_worker(), make_worker()
    client = sleeper.client()
    asleep = Steps(client, seal.seal(metric_of(client, namespace, "jobs")))
    asleep.until_script()
    other.pass_once(alone=True)
    sealed = contents(admin, namespace)
    assert asleep.finish().outcome is Outcome.AGAIN
    assert contents(admin, namespace) == sealed
    book.check(hour)


@pytest.mark.parametrize("trips", [1, 2, 3])
def test_a_commit_between_two_round_trips_is_detected(
    admin: redis.Redis,
    namespace: str,
    make_worker: MakeWorker,
    make_book: Any,
    hour: int,
    trips: int,
) -> None:
    book = make_book()
    book.fill(hour)
    make_worker().pass_once(alone=True)
    book.fill(hour, seed=1_000)
    one, other = make_worker(), make_worker()
    client = one.client()
    sealing = Steps(client, seal.seal(metric_of(client, namespace, "jobs")))
    for _ in range(trips):
        sealing.step()
    other.pass_once(alone=True)
    sealed = contents(admin, namespace)
    assert sealing.finish().outcome is Outcome.AGAIN
    assert contents(admin, namespace) == sealed
    book.check(hour)


def jobs_due(admin: redis.Redis, namespace: str, level: str) -> list[str]:
    found = (each.decode() for each in admin.hkeys(keys.rollup(namespace, 0, "jobs").due))
    return sorted(each for each in found if each.startswith(level))


@pytest.mark.parametrize("what", ["seal", "hour", "day", "span", "trim"])
def test_a_commit_sent_twice_applies_once(
    admin: redis.Redis,
    namespace: str,
    make_worker: MakeWorker,
    make_book: Any,
    hour: int,
    what: str,
) -> None:
    book = make_book()
    book.fill(hour)
    one = make_worker()
    client = one.client()
    metric = metric_of(client, namespace, "jobs")
    if what != "seal":
        one.pass_once(alone=True)
        pull_forward(admin, namespace)
    for finer in ("hour", "day"):
        if what in ("day", "span") and what != finer:
            for each in jobs_due(admin, namespace, finer):
                run(client, downsample.downsample(metric, DueSlot.parse(each)))
    if what == "seal":
        operation = seal.seal(metric)
    elif what == "trim":
        operation = cleanup.trim(metric)
    else:
        operation = downsample.downsample(
            metric, DueSlot.parse(jobs_due(admin, namespace, what)[0])
        )
    steps = Steps(client, operation)
    steps.until_script()
    commit = steps.commands[0]
    before = contents(admin, namespace)
    assert steps.finish().outcome is Outcome.DONE
    once = contents(admin, namespace)
    assert once != before
    assert client.execute_command(*commit) == [b"version"]
    assert contents(admin, namespace) == once
    book.check(hour)


@pytest.mark.slow
def test_lost_replies_of_commits_change_nothing(
    proxy: Proxy,
    admin: redis.Redis,
    namespace: str,
    at_once: None,
    make_worker: MakeWorker,
    make_book: Any,
    hour: int,
) -> None:
    book = make_book()
    book.fill(hour)
    one = make_worker(proxy.url)
    proxy.lose_replies(8, every=2)
    for number in range(40):
        try:
            if not one.pass_once(alone=True):
                break
        except StoreUnavailable:
            one.disconnect()
            book.fill(hour, seed=10 * number)
        book.check(hour)
    assert proxy.lost == 8
    assert nothing_left(admin, namespace)
    assert one.counts.failures == 0


@pytest.mark.parametrize("what", ["first seal", "seal", "hour"])
def test_a_metric_deleted_during_a_commit_stays_deleted(
    admin: redis.Redis,
    namespace: str,
    make_worker: MakeWorker,
    make_book: Any,
    hour: int,
    what: str,
) -> None:
    book = make_book()
    one = make_worker()
    if what != "first seal":
        book.fill(hour)
        one.pass_once(alone=True)
    book.fill(hour, seed=1_000)
    client = one.client()
    metric = metric_of(client, namespace, "jobs")
    operation = (
        downsample.downsample(metric, DueSlot.parse(jobs_due(admin, namespace, "hour")[0]))
        if what == "hour"
        else seal.seal(metric)
    )
    steps = Steps(client, operation)
    steps.until_script()
    assert book.metrics.delete_metric("jobs")
    before = contents(admin, namespace)
    assert steps.finish().outcome is Outcome.AGAIN
    assert contents(admin, namespace) == before
    one.pass_once(alone=True)
    assert book.metrics.query("jobs", aggregation="count") == 0
    book.metrics.increment("jobs", 3, timestamp=hour / 1000)
    book.metrics.flush()
    for _ in range(2):
        assert book.metrics.query("jobs", aggregation="sum") == 3
        one.pass_once(alone=True)


# -- all at once --------------------------------------------------------------------------------


BURSTS, METRICS, EACH = 60, 8, 20


def write(url: str, namespace: str, number: int) -> None:
    """Record a fixed number of samples and end when all are stored."""
    with Metrics(url, namespace=namespace, flush_interval=0.02) as metrics:
        now = time.time()
        for burst in range(BURSTS):
            for at in range(EACH):
                metrics.histogram(
                    "took", at, tags={"writer": number}, timestamp=now - 97 * (burst % 5)
                )
                for metric in range(METRICS):
                    metrics.increment(f"jobs_{metric}", tags={"writer": number})
            time.sleep(0.02)
        metrics.flush(PATIENCE)
        stats = metrics.stats()
    assert stats["stored"] == (METRICS + 1) * BURSTS * EACH
    assert stats["dropped"] == {}


def work_on(url: str, namespace: str) -> None:
    """Run a worker until SIGTERM."""
    one = new_worker(url, namespace, replace(workers.LIMITS, interval=0.02))
    __main__.stop_by_signal(one)
    one.run()
    assert one.counts.failures == 0


@pytest.mark.slow
def test_two_workers_at_full_load_without_scripts_and_connections(
    admin: redis.Redis,
    url: str,
    namespace: str,
    quick: None,
    at_once: None,
    make_worker: MakeWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Worker, "is_mine", lambda *_: True)  # each assumes that the other is dead
    writers = [in_child(lambda number=number: write(url, namespace, number)) for number in range(2)]
    workers = [in_child(lambda: work_on(url, namespace)) for _ in range(2)]
    left = set(writers)
    chance = random.Random(1)
    with Metrics(url, namespace=namespace) as reader:
        seen = 0.0
        while left:
            if chance.random() < 0.5:
                admin.script_flush()
            else:
                admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            with contextlib.suppress(StoreUnavailable):
                now = reader.query("jobs_0", aggregation="sum")
                assert now >= seen  # never decreases
                seen = now
            time.sleep(0.06)
            for pid in list(left):
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    assert status == 0
                    left.remove(pid)
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
        assert [ended(pid) for pid in workers] == [0, 0]
        assert admin.zcard(keys.workers(namespace)) == 0
        assert admin.hget(keys.rollup(namespace, 0, "took").state, "sealed") is not None
        for _ in range(2):
            for metric in range(METRICS):
                rows = reader.query(f"jobs_{metric}", aggregation="sum", group_by="writer")
                assert rows == [
                    {"writer": str(number), "sum": BURSTS * EACH} for number in range(2)
                ]
            assert reader.query("took", aggregation="count") == 2 * BURSTS * EACH
            assert reader.query("took", aggregation="sum") == 2 * BURSTS * sum(range(EACH))
            for _ in make_worker().once():
                pass
        names = ["took", *(f"jobs_{metric}" for metric in range(METRICS))]
        assert [admin.hlen(keys.rollup(namespace, 0, name).due) for name in names] == [0] * (
            METRICS + 1
        )


@pytest.mark.slow
def test_a_server_killed_while_a_worker_seals_loses_nothing(
    fresh_server: Callable[..., Server],
    namespace: str,
    quick: None,
    at_once: None,
    make_worker: MakeWorker,
    make_book: Any,
    hour: int,
) -> None:
    store = fresh_server()
    book = make_book(store.url)
    book.fill(hour)
    child = in_child(lambda: work_on(store.url, namespace))
    chance = random.Random(2)
    try:
        for number in range(1, 9):
            book.record(hour + number * 7_000, number)
            book.metrics.flush()
            time.sleep(chance.random() * 0.05)
            store.kill()
            book.record(hour + number * 7_001, number)
            store.restart()
            book.metrics.flush()
            book.check(hour)
    finally:
        os.kill(child, signal.SIGTERM)
    assert ended(child) == 0
    for _ in make_worker(store.url).once():
        pass
    book.check(hour)
    with store.client() as admin:
        assert nothing_left(admin, namespace)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["before", "after"])
def test_a_server_killed_during_a_commit_loses_nothing(
    fresh_server: Callable[..., Server],
    namespace: str,
    quick: None,
    at_once: None,
    make_worker: MakeWorker,
    make_book: Any,
    hour: int,
    how: str,
) -> None:
    """At each commit of a pass: before it arrives, and before its reply is sent."""
    store = fresh_server()
    book = make_book(store.url)
    book.fill(hour)
    with Proxy(store, unix=True) as proxy:
        one = make_worker(proxy.url)
        for number in range(1, 9):
            book.fill(hour, seed=100 * number)
            if how == "before":
                proxy.cut_requests(
                    1,
                    every=number,
                    when=lambda request: proxies.has_script(request) and (store.kill() or True),
                )
            else:
                proxy.lose_replies(1, every=number)
            try:
                for _ in range(3):
                    one.pass_once(alone=True)
            except StoreUnavailable:
                one.disconnect()
            proxy.cut_requests(0)
            proxy.lose_replies(0)
            if store.running:
                store.kill()
            store.restart()
            book.check(hour)
        while one.pass_once(alone=True):
            pass
    book.check(hour)
    with store.client() as admin:
        assert nothing_left(admin, namespace)


# -- failover -----------------------------------------------------------------------------------


class Pair:
    """A server and its replica, which takes over on `part`."""

    def __init__(self, start: Callable[..., Server]) -> None:
        self.old = start(port=True, args=("--repl-diskless-sync-delay", "0"))
        self.new = start(port=True, args=("--replicaof", "127.0.0.1", str(self.old.port)))
        with self.new.client() as client:
            wait_until(
                lambda: client.info("replication")["master_link_status"] == "up",
                "the replica is connected",
            )

    def part(self) -> None:
        """Promote the replica; later writes to the old server are lost."""
        with self.old.client() as old, self.new.client() as new:
            assert old.wait(1, 5_000) == 1
            new.replicaof("NO", "ONE")


@pytest.fixture
def pair(fresh_server: Callable[..., Server]) -> Pair:
    return Pair(fresh_server)


@pytest.mark.slow
def test_queries_stay_correct_after_a_failover_that_loses_commits(
    pair: Pair, namespace: str, at_once: None, make_worker: MakeWorker, make_book: Any, hour: int
) -> None:
    old, new = make_book(pair.old.url), make_book(pair.new.url)
    one = make_worker(pair.old.url)
    old.fill(hour)
    one.pass_once(alone=True)
    old.fill(hour, seed=1_000)
    pair.part()
    new.samples = list(old.samples)
    new.check(hour)  # fills its cache
    assert one.pass_once(alone=True) > 0
    old.fill(hour, seed=2_000)  # lost, with all later commits
    assert one.pass_once(alone=True) > 0
    old.check(hour)

    one.disconnect()
    one.store = make_worker(pair.new.url).store
    new.check(hour)
    one.pass_once(alone=True)
    new.check(hour)
    new.fill(hour, seed=3_000)
    for _ in one.once():
        new.check(hour)
    with pair.new.client() as admin:
        assert nothing_left(admin, namespace)


@pytest.mark.slow
def test_a_commit_for_another_log_of_the_same_version_is_rejected(
    pair: Pair, namespace: str, make_worker: MakeWorker, make_book: Any, hour: int
) -> None:
    """The commit was read from the old server: from blocks that the new one never had."""
    old, new = make_book(pair.old.url), make_book(pair.new.url)
    old.fill(hour)
    make_worker(pair.old.url).pass_once(alone=True)
    old.fill(hour, seed=1_000)
    pair.part()
    new.samples = list(old.samples)
    old.fill(hour, seed=2_000)
    refused(pair, namespace, make_worker, new, hour, b"log")


@pytest.mark.slow
def test_a_commit_for_a_log_with_different_blocks_of_the_same_count_is_rejected(
    pair: Pair, namespace: str, make_worker: MakeWorker, make_book: Any, hour: int
) -> None:
    old, new = make_book(pair.old.url), make_book(pair.new.url)
    old.fill(hour)
    make_worker(pair.old.url).pass_once(alone=True)
    pair.part()
    new.samples = list(old.samples)
    old.fill(hour, seed=1_000)
    new.fill(hour, seed=2_000)
    # Give the blocks the same scores, as if they were written at the same time.
    with pair.old.client() as there, pair.new.client() as here:
        log = keys.metric(namespace, 0, "jobs").log
        for (_, score), (member, _) in zip(
            there.zrange(log, -2, -1, withscores=True),
            here.zrange(log, -2, -1, withscores=True),
            strict=True,
        ):
            here.zadd(log, {member: score})
    refused(pair, namespace, make_worker, new, hour, b"log")


@pytest.mark.slow
def test_a_commit_for_another_state_with_the_same_number_is_rejected(
    pair: Pair, namespace: str, make_worker: MakeWorker, make_book: Any, hour: int
) -> None:
    """Both have made the same number of commits since the failover."""
    old, new = make_book(pair.old.url), make_book(pair.new.url)
    old.fill(hour)
    make_worker(pair.old.url).pass_once(alone=True)
    pair.part()
    new.samples = list(old.samples)
    new.fill(hour, seed=2_000)
    old.samples = list(new.samples)
    for server in (pair.old, pair.new):
        if server is pair.old:
            old.fill(hour, seed=1_000)
        make_worker(server.url).pass_once(alone=True)
    with pair.old.client() as there, pair.new.client() as here:
        state = keys.rollup(namespace, 0, "jobs").state
        sealed = there.hget(state, "sealed")
        here.hset(state, "sealed", sealed)  # possible if the clocks differ
        numbers = [each.hget(state, "version").split(b".")[0] for each in (there, here)]
        assert numbers[0] == numbers[1]
    old.fill(hour, seed=3_000)
    refused(pair, namespace, make_worker, new, hour, b"version")


def refused(
    pair: Pair, namespace: str, make_worker: MakeWorker, new: Book, hour: int, why: bytes
) -> None:
    """Read from the old server and commit to the new one: the commit is rejected."""
    there, here = make_worker(pair.old.url).client(), make_worker(pair.new.url).client()
    steps = Steps(there, seal.seal(metric_of(there, namespace, "jobs")))
    steps.until_script()
    load(here)
    with pair.new.client() as admin:
        before = contents(admin, namespace)
        assert here.execute_command(*steps.commands[0]) == [why]
        assert contents(admin, namespace) == before
    new.check(hour)
    make_worker(pair.new.url).pass_once(alone=True)
    new.check(hour)


def load(client: Any) -> None:
    for name in scripts.NAMES:
        client.execute_command("SCRIPT LOAD", scripts.script(name).text)


@pytest.mark.slow
def test_reads_across_a_failover_are_discarded(
    pair: Pair, namespace: str, make_worker: MakeWorker, make_book: Any, hour: int
) -> None:
    """A worker read data of the next version; its server is back at the first one."""
    old, new = make_book(pair.old.url), make_book(pair.new.url)
    old.fill(hour)
    make_worker(pair.old.url).pass_once(alone=True)
    old.fill(hour, seed=1_000)
    pair.part()
    new.samples = list(old.samples)
    there, here = make_worker(pair.old.url).client(), make_worker(pair.new.url).client()
    load(here)
    steps = Steps(there, seal.seal(metric_of(there, namespace, "jobs")))
    steps.step()
    steps.step()  # the log is read, but its minutes are not
    make_worker(pair.old.url).pass_once(alone=True)
    while steps.commands and steps.commands[0][0] != "EVALSHA":
        steps.step()
    if steps.commands:
        here.execute_command(*steps.commands[0])
    new.check(hour)
    make_worker(pair.new.url).pass_once(alone=True)
    new.check(hour)


# -- the log is trimmed -------------------------------------------------------------------------


def balance(metrics: Metrics, admin: redis.Redis, namespace: str, name: str) -> dict[str, int]:
    """Return what became of the samples of a metric; every one must be accounted for."""
    state = {
        key.decode(): value
        for key, value in admin.hgetall(keys.rollup(namespace, 0, name).state).items()
    }
    found = {each: int(float(state.get(each, 0))) for each in ("late", "pruned")}
    recorded = recorded_state(admin, namespace, name)
    found |= {"samples": recorded.samples, "never_sealed": recorded.never_sealed}
    count = metrics.query(name, aggregation="count")
    assert found["samples"] == count + found["never_sealed"] + found["late"], (found, count)
    return found


def test_a_log_trimmed_by_size_before_the_commit(
    admin: redis.Redis, url: str, namespace: str, make_worker: MakeWorker
) -> None:
    with Metrics(
        url, namespace=namespace, flush_interval=NEVER, log_bytes=1 << 16, samples_per_flush=10_000
    ) as metrics:

        def record() -> None:
            for value in range(1_000):
                metrics.histogram("took", value + 1 / (value + 3))
            metrics.flush()

        for _ in range(6):
            record()
        one = make_worker()
        client = one.client()
        steps = Steps(client, seal.seal(metric_of(client, namespace, "took")))
        steps.until_script()
        for _ in range(6):
            record()
        cut = balance(metrics, admin, namespace, "took")
        assert cut["never_sealed"] > 0
        before = contents(admin, namespace)
        assert steps.finish().outcome is Outcome.AGAIN
        assert contents(admin, namespace) == before
        one.pass_once(alone=True)
        assert balance(metrics, admin, namespace, "took") == cut
        assert metrics.query("took", aggregation="count") == 12_000 - cut["never_sealed"]
        assert one.counts.samples == 12_000 - cut["never_sealed"]


def test_a_log_trimmed_by_age_before_the_commit(
    moving_server: Server, namespace: str, make_worker: MakeWorker
) -> None:
    clock = lambda: moving_server.time  # noqa: E731
    with (
        Metrics(
            moving_server.url, namespace=namespace, flush_interval=NEVER, log_age=60, clock=clock
        ) as metrics,
        moving_server.client() as admin,
    ):
        for _ in range(3):
            metrics.increment("jobs", 2)
            metrics.flush()
        client = make_worker(moving_server.url).client()
        steps = Steps(client, seal.seal(metric_of(client, namespace, "jobs")))
        steps.until_script()
        moving_server.advance(61)
        metrics.increment("jobs", 2)
        metrics.flush()
        before = contents(admin, namespace)
        assert steps.finish().outcome is Outcome.AGAIN
        assert contents(admin, namespace) == before
        one = make_worker(moving_server.url)
        one.pass_once(alone=True)
        assert balance(metrics, admin, namespace, "jobs")["never_sealed"] == 3
        assert metrics.query("jobs", aggregation="sum") == 2
        assert one.counts.samples == 1


# -- too late -----------------------------------------------------------------------------------


SHORT = {"raw_retention": 3_600, "minute_retention": 7_200, "max_age": 3_600}


def test_samples_sealed_after_their_retention_are_counted_as_late(
    moving_server: Server, namespace: str, make_worker: MakeWorker
) -> None:
    hour = slot_of(int(moving_server.time * 1000), HOUR) + DAY
    moving_server.set_time((hour + 65 * MINUTE) / 1000)
    clock = lambda: moving_server.time  # noqa: E731
    with (
        Metrics(
            moving_server.url, namespace=namespace, flush_interval=NEVER, clock=clock, **SHORT
        ) as metrics,
        moving_server.client() as admin,
    ):
        for _ in range(3):
            # Its minute expires at hour + 3 h.
            metrics.increment("jobs", 2, timestamp=(hour + 50 * MINUTE) / 1000)
            metrics.increment("jobs", 5)
        metrics.flush()
        one = make_worker(moving_server.url)
        client = one.client()
        steps = Steps(client, seal.seal(metric_of(client, namespace, "jobs")))
        steps.until_script()
        moving_server.set_time((hour + 3 * HOUR - SECOND) / 1000)
        assert metrics.query("jobs", aggregation="sum") == 21
        moving_server.set_time((hour + 3 * HOUR) / 1000)
        before = contents(admin, namespace)
        assert steps.finish().outcome is Outcome.AGAIN
        assert contents(admin, namespace) == before
        one.pass_once(alone=True)
        assert (one.counts.samples, one.counts.late) == (6, 3)
        assert balance(metrics, admin, namespace, "jobs")["late"] == 3
        assert metrics.query("jobs", aggregation="sum") == 15
        assert admin.zcard(keys.shard(namespace, 0).dirty) == 0
        assert metrics.get_stats()["storage"]["metrics_dropped"] == {"never_sealed": 0, "late": 3}
        for _ in range(2):
            pull_forward(admin, namespace)
            one.pass_once(alone=True)
        assert metrics.query("jobs", aggregation="sum") == 15


def test_minutes_are_kept_until_their_hour_is_downsampled(
    moving_server: Server, namespace: str, make_worker: MakeWorker
) -> None:
    """After a pause of the worker. There are two chunks of series, made one after the other."""
    hour = slot_of(int(moving_server.time * 1000), HOUR) + DAY
    moving_server.set_time((hour + 10 * MINUTE) / 1000)
    clock = lambda: moving_server.time  # noqa: E731
    with (
        Metrics(
            moving_server.url, namespace=namespace, flush_interval=NEVER, clock=clock, **SHORT
        ) as metrics,
        moving_server.client() as admin,
    ):
        for number in range(200):
            metrics.histogram("took", 2, tags={"n": number})
        metrics.flush()
        one = make_worker(moving_server.url)
        one.pass_once(alone=True)
        minutes = keys.data(namespace, 0, "took", "minute", hour)
        assert admin.ttl(minutes) == -1
        moving_server.advance(20 * 3600)
        client = one.client()
        metric = metric_of(client, namespace, "took")
        hours = sorted(
            each.decode()
            for each in admin.hkeys(keys.rollup(namespace, 0, "took").due)
            if each[:4] == b"hour"
        )
        assert len(hours) == 2
        for left in (1, 0):
            assert (
                run(client, downsample.downsample(metric, DueSlot.parse(hours[left]))).outcome
                is Outcome.DONE
            )
            assert admin.exists(minutes) == left
            assert metrics.query("took", aggregation="sum") == 400
        one.pass_once(alone=True)
        assert metrics.query("took", aggregation="count") == 200
        moving_server.advance(30 * 3600)
        one.pass_once(alone=True)
        assert metrics.query("took", aggregation="sum") == 400
        left = {
            each.decode().split()[0] for each in admin.hkeys(keys.rollup(namespace, 0, "took").due)
        }
        assert left - {"fold-day"} == {
            "span"
        }  # whether an eighth day has ended meanwhile, the date says


@pytest.mark.parametrize("raw", ["kept", "gone"])
def test_a_late_sample_rebuilds_its_hour_and_day(
    admin: redis.Redis, namespace: str, make_worker: MakeWorker, make_book: Any, hour: int, raw: str
) -> None:
    """If the exact samples of its minute are gone, it is added to the rollup that exists."""
    book = make_book()
    book.fill(hour)
    one = make_worker()

    def make_all() -> None:
        pull_forward(admin, namespace)
        one.pass_once(alone=True)
        assert nothing_left(admin, namespace)
        book.check(hour)

    one.pass_once(alone=True)
    make_all()
    partial = book.windows(hour)[-1]
    for number in range(3):
        if raw == "gone":
            for name in ("jobs", "took"):
                admin.delete(keys.data(namespace, 0, name, "raw", hour))
            book.windows = lambda hour: [
                each for each in Book.windows(book, hour) if each != partial
            ]  # type: ignore[method-assign]
        for at in (5 * MINUTE + 700, 9 * MINUTE + 13_500, 50 * MINUTE):
            book.record(hour + at + number, 500 + number)
        book.metrics.flush()
        book.check(hour)
        one.pass_once(alone=True)
        assert {each.split()[0] for each in jobs_due(admin, namespace, "")} == {
            "hour",
            "day",
            "span",
        }
        assert len(jobs_due(admin, namespace, "hour")) == 1
        book.check(hour)
        assert (
            book.metrics.query("took", aggregation="p50")
            == sorted(value for _, value, _ in book.samples)[(len(book.samples) - 1) // 2]
            or len(book.samples) % 2 == 0
        )
        make_all()


def test_a_day_is_not_downsampled_while_one_of_its_hours_is_due(
    admin: redis.Redis, namespace: str, make_worker: MakeWorker, make_book: Any, hour: int
) -> None:
    book = make_book()
    book.fill(hour)
    one = make_worker()
    one.pass_once(alone=True)
    pull_forward(admin, namespace)
    one.pass_once(alone=True)
    book.record(hour + MINUTE, 7)
    book.metrics.flush()
    one.pass_once(alone=True)
    client = one.client()
    metric = metric_of(client, namespace, "jobs")
    (day,) = jobs_due(admin, namespace, f"day {slot_of(hour, DAY) // 1000}")
    before = contents(admin, namespace)
    assert run(client, downsample.downsample(metric, DueSlot.parse(day))).outcome is Outcome.NOTHING
    assert contents(admin, namespace) == before
    making = Steps(
        client, downsample.downsample(metric, DueSlot.parse(jobs_due(admin, namespace, "hour")[0]))
    )
    making.until_script()
    book.record(hour + 2 * MINUTE, 7)  # arrives while its hour is being rebuilt
    book.metrics.flush()
    make_worker().pass_once(alone=True)
    assert making.finish().outcome is Outcome.AGAIN
    book.check(hour)
    pull_forward(admin, namespace)
    one.pass_once(alone=True)
    assert nothing_left(admin, namespace)
    book.check(hour)
