"""What a worker remembers of its own commits: it reads less, and stores the same."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from redismetrics import Metrics
from redismetrics.model.retention import DEFAULT_RETENTION
from redismetrics.store import keys
from redismetrics.store.driver import Client, Command, Operation, T, run
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.worker import worker as worker_module
from redismetrics.worker.limits import DEFAULT_LIMITS, WorkerLimits
from redismetrics.worker.memory import KEPT_FOR, Memory, Remembered
from tests.fixtures.servers import Server
from tests.fixtures.workers import contents, new_worker
from tests.worker.tools import NEVER, Make, due, waiting

NAMES = ("count", "level", "took")
Record = Callable[[int], None]


@pytest.fixture
def url(moving_server: Server) -> str:
    """The URL of a server on which nothing becomes due while a test runs."""
    return moving_server.url


@pytest.fixture
def admin(moving_server: Server) -> Iterator[redis.Redis]:
    with moving_server.client() as admin:
        yield admin


def client(server: Server, namespace: str) -> Metrics:
    return Metrics(server.url, namespace=namespace, flush_interval=NEVER, clock=lambda: server.time)


@pytest.fixture
def metrics(moving_server: Server, namespace: str) -> Iterator[Metrics]:
    with client(moving_server, namespace) as metrics:
        yield metrics


@pytest.fixture
def record(moving_server: Server, metrics: Metrics) -> Record:
    """Return a function that flushes samples of one minute of all types, drawn by a number."""
    return recorder(moving_server, metrics)


def recorder(server: Server, metrics: Metrics, samples: int = 1) -> Record:
    begin = server.time // 60 * 60 - 120

    def flush(number: int) -> None:
        for series in range(3):
            tags, at = {"route": str(series)}, begin + number
            metrics.increment("count", number + series + 1, tags=tags, timestamp=at)
            for sample in range(samples):
                value = (7 * number + 31 * sample + series) % 101 / 8
                metrics.gauge("level", value, tags=tags, timestamp=at)
                metrics.histogram("took", value, tags=tags, timestamp=at)
        metrics.flush()

    return flush


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Command]:
    """Return a list to which the commands of all workers of this test are added."""
    commands: list[Command] = []

    def noted(operation: Operation[T]) -> Operation[T]:
        try:
            trip = next(operation)
            while True:
                commands.extend(trip)
                trip = operation.send((yield trip))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    def noting(client: Client, operation: Operation[T]) -> T:
        return run(client, noted(operation))

    monkeypatch.setattr(worker_module, "run", noting)
    return commands


def reads(sent: list[Command], name: str) -> list[str]:
    """Return the names of the commands that read keys of a metric, and forget all commands."""
    key = f":{name}:"
    found = [each[0] for each in sent if key in str(each[1:2]) and each[0] != "EVALSHA"]
    sent.clear()
    return found


def sums(metrics: Metrics) -> list[float]:
    return [metrics.query(name, aggregation="sum") for name in NAMES]


def test_a_worker_does_not_reread_its_own_writes(
    make: Make, record: Record, sent: list[Command], metrics: Metrics
) -> None:
    one = make()
    record(0)
    one.pass_once()
    assert len(reads(sent, "took")) > 8
    for number in (1, 2):
        record(number)
        one.pass_once()
        # The version, the log, the changes with their rows, and the version again.
        assert reads(sent, "took") == ["HMGET", "ZRANGEBYSCORE", "HMGET", "HGET"]
    assert metrics.query("count", aggregation="sum") == 3 * (1 + 2 + 3) + 9


@pytest.mark.parametrize("samples", [1, 40], ids=["few", "many"])
def test_it_stores_what_a_worker_without_memory_stores(
    moving_server: Server, admin: redis.Redis, namespace: str, samples: int
) -> None:
    """Few are merged in plain Python, and many with numpy: in the end not all are kept exactly."""
    stored = []
    for at, size in enumerate((0, DEFAULT_LIMITS.memory_bytes)):
        name = f"{namespace}-{at}"
        with client(moving_server, name) as metrics:
            one = new_worker(moving_server.url, name, WorkerLimits(memory_bytes=size))
            flush = recorder(moving_server, metrics, samples)
            for number in range(12):
                flush(number)
                one.pass_once()
            one.leave()
            one.store.close()
            assert one.counts.conflicts == 0
            assert sums(metrics)[0] == 3 * sum(range(1, 13)) + 36
            stored.append(written(admin, name))
    assert stored[0] == stored[1]
    assert len(stored[0]) == 3 * len(NAMES)


def written(admin: redis.Redis, namespace: str) -> dict[bytes, Any]:
    """Return what commits wrote of minutes, exact samples and sizes, and whether it expires."""
    kinds = (b":minute:", b":raw:", b":held")
    return {
        key.replace(namespace.encode(), b""): found
        for key, found in contents(admin, namespace).items()
        if any(kind in key for kind in kinds)
    }


def test_a_commit_of_another_worker_is_not_undone(
    make: Make, record: Record, metrics: Metrics
) -> None:
    one, other = make(), make()
    for number, worker in enumerate((one, other, one, one, other)):
        record(number)
        worker.pass_once(alone=True)
    assert one.counts.conflicts == other.counts.conflicts == 0
    assert metrics.query("took", aggregation="count") == 15
    assert sums(metrics)[0] == 3 * sum(range(1, 6)) + 15


def test_a_metric_deleted_in_the_meantime_starts_over(
    make: Make, record: Record, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    one = make()
    record(0)
    one.pass_once()
    metrics.delete_metric("took")
    record(1)
    one.pass_once()
    assert metrics.query("took", aggregation="count") == 3
    assert due(admin, namespace, "took") == due(admin, namespace, "level")


def test_keys_that_were_removed_expire_when_they_are_written_again(
    make: Make, record: Record, admin: redis.Redis, namespace: str, metrics: Metrics
) -> None:
    """As if the server had to evict them."""
    one = make()
    for number in (0, 1):
        record(number)
        one.pass_once()
    before = contents(admin, namespace)
    (minutes,) = admin.scan_iter(f"rm:{{{namespace}:0}}:took:minute:*")
    (samples,) = admin.scan_iter(f"rm:{{{namespace}:0}}:took:raw:*")
    assert (admin.ttl(minutes), before[samples][0]) == (-1, True)
    ttl = admin.ttl(samples)
    admin.delete(samples)
    record(2)
    one.pass_once()
    # It expires at the same time; partitions are hours and more.
    assert ttl > 0
    assert admin.ttl(samples) == pytest.approx(ttl, abs=120)
    assert metrics.query("took", aggregation="count") == 9


def test_a_patient_pass_does_not_read_blocks_that_may_wait(
    make: Make, record: Record, sent: list[Command], admin: redis.Redis, namespace: str
) -> None:
    one = make()
    record(0)
    one.pass_once(patience=3600)
    assert reads(sent, "took") == ["ZCOUNT"]
    assert waiting(admin, namespace) == list(NAMES)
    for number in range(1, DEFAULT_LIMITS.few_blocks):
        record(number)
    one.pass_once(patience=3600)
    assert len(reads(sent, "took")) > 8
    assert waiting(admin, namespace) == []


def place(name: str) -> MetricLocation:
    return MetricLocation("app", 0, name, DEFAULT_RETENTION)


def entry(size: int, at: float) -> Remembered:
    return Remembered(b"1.a", b"0", {}, [], {(0, 0): (b"x" * size, None)}, {}, at)


def test_memory_is_bounded() -> None:
    memory = Memory(100_000)
    for number in range(10):
        memory.put(place(f"m{number}"), entry(29_000, 0.0))
    known = [name for name in map("m{}".format, range(10)) if memory.get(place(name))]
    assert known == ["m0", "m1", "m2"]
    memory.forget(place("m1"))
    memory.forget(place("m1"))
    memory.put(place("m9"), entry(29_000, 1.0))
    assert memory.get(place("m9")) is not None
    memory.put(place("m0"), entry(10, 2.0))
    memory.put(place("m8"), entry(29_000, 3.0))
    assert memory.get(place("m8")) is not None


def test_metrics_no_longer_sealed_are_forgotten() -> None:
    memory = Memory(100_000)
    memory.put(place("idle"), entry(10, 0.0))
    memory.put(place("busy"), entry(10, 1.0))
    memory.put(place("busy"), entry(10, KEPT_FOR - 1))
    assert memory.get(place("idle")) is not None
    memory.put(place("busy"), entry(10, KEPT_FOR))
    assert memory.get(place("idle")) is None
    assert memory.get(place("busy")) is not None


def test_hours_need_all_cells() -> None:
    known = Remembered(b"1.a", b"0", {}, [], {(60_000, 0): (b"t", b"s")}, {})
    assert known.hours([(60_000, 0), (120_000, 0)]) is None
    (hour,) = known.hours([(60_000, 0)]) or []
    assert (hour.cells, hour.tables, hour.samples) == ([(60_000, 0)], [b"t", None], [b"s", None])


def test_first_of_the_totals_is_written_with_the_rows(
    make: Make, record: Record, admin: redis.Redis, namespace: str
) -> None:
    one = make()
    for number in range(3):
        record(number)
        one.pass_once()
        totals = admin.hgetall(keys.metric(namespace, 0, "took").totals)
        assert totals[b"first"] == b"%d" % (number + 1)
        assert not any(name.startswith(b"+") for name in totals)
