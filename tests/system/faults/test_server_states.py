"""A server that runs but refuses: full, read-only, loading, busy with a script, of another format.

In each state recording continues and keeps everything, `flush` and queries raise what the state is,
and a worker fails cleanly. After the state has passed everything is stored once.
"""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import redis

from redismetrics import FormatMismatch, Metrics, StoreError
from redismetrics.model.time import DAY
from redismetrics.recording import redis_sink
from redismetrics.recording.backoff import Backoff
from redismetrics.store import keys
from tests.fixtures import workers
from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.fixtures.workers import new_worker

pytestmark = pytest.mark.slow

NEVER = 3_600.0
BUSY = "while true do end"
# A server that loads them serves its clients after each thousand.
MANY_WRITES = "for n = 1, 300000 do redis.call('SET', 'other', n) end"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_sink, "DEFAULT_BACKOFF", Backoff(first=0.02, longest=0.1))
    monkeypatch.setattr(workers, "LIMITS", replace(workers.LIMITS, grace_ms=-40 * DAY))


def settled(metrics: Metrics) -> None:
    wait_until(lambda: metrics.stats()["pending"] == 0, "everything is stored")
    stats = metrics.stats()
    assert (stats["recorded"], stats["dropped"]) == (stats["stored"], {})


def refusal(metrics: Metrics) -> str:
    """Return the message of `flush` while nothing can be stored."""
    with pytest.raises(StoreError) as raised:
        metrics.flush(0.15)
    return str(raised.value)


@contextlib.contextmanager
def full(server: Server) -> Iterator[None]:
    """Fill the server up to `maxmemory`; nothing is evicted."""
    with server.client() as admin:
        used = admin.info("memory")["used_memory"]
        admin.config_set("maxmemory", used + (1 << 20))
        with contextlib.suppress(redis.ResponseError):
            for number in range(1 << 12):
                admin.set(f"other:{number}", bytes(1 << 13))
            pytest.fail("the server never became full")
        # Lower than used, so that memory which clients free makes no difference.
        admin.config_set("maxmemory", admin.info("memory")["used_memory"] - (1 << 18))
        yield
        admin.delete(*admin.keys("other:*"))
        admin.config_set("maxmemory", 0)


@contextlib.contextmanager
def busy(server: Server) -> Iterator[None]:
    """Block the server by a script that does not end."""

    def occupy() -> None:
        with server.client(socket_timeout=None) as client, contextlib.suppress(redis.RedisError):
            client.eval(BUSY, 0)

    with server.client() as admin:
        admin.config_set("lua-time-limit", 20)
        thread = threading.Thread(target=occupy)
        thread.start()

        def is_busy() -> bool:
            try:
                admin.ping()
            except redis.ResponseError as error:
                return "BUSY" in str(error)
            return False

        wait_until(is_busy, "the server is busy")
        try:
            yield
        finally:
            admin.script_kill()
            thread.join()


@contextlib.contextmanager
def loading(server: Server) -> Iterator[None]:
    """Let the server load its data after a restart, slowly until the end of the block."""
    with server.client() as admin:
        admin.eval(MANY_WRITES, 0)
    server.kill()
    # Sleep after one in five commands.
    args, server.args = server.args, (*server.args, "--key-load-delay", "-5")
    thread = threading.Thread(target=server.restart)
    thread.start()

    def is_loading() -> bool:
        with redis.Redis.from_url(server.socket_url, socket_timeout=PATIENCE) as admin:
            try:
                admin.ping()
            except redis.exceptions.BusyLoadingError:
                return True
            except redis.RedisError:
                return False
        pytest.fail("loading ended before the test saw it")

    wait_until(is_loading, "the server is loading")
    try:
        yield
    finally:
        with (
            redis.Redis.from_url(server.socket_url, socket_timeout=PATIENCE) as admin,
            contextlib.suppress(redis.ResponseError),
        ):
            admin.config_set("key-load-delay", 0)  # Redis 6.2 refuses and needs 3 s
        thread.join()
        server.args = args


@contextlib.contextmanager
def read_only(server: Server) -> Iterator[None]:
    """Make the server the replica of a missing primary: it refuses writes until it is promoted."""
    with server.client() as admin:
        admin.replicaof("127.0.0.1", "1")
        yield
        admin.replicaof("NO", "ONE")


State = Callable[[Server], contextlib.AbstractContextManager[None]]
STATES = pytest.mark.parametrize(
    ("state", "says"),
    [
        (full, "used memory > 'maxmemory'.*; give the server more memory"),
        (busy, "(?i)busy"),
        (loading, "(?i)loading"),
        (read_only, "read only replica.*; use the URL of its primary"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)


@STATES
def test_samples_recorded_during_the_state_are_stored_once_afterwards(
    fresh_server: Callable[..., Server], namespace: str, state: State, says: str
) -> None:
    server = fresh_server(port=True)
    with Metrics(server.url, namespace=namespace, flush_interval=NEVER) as metrics:
        metrics.increment("jobs", 5)
        metrics.histogram("took", 2.5)
        metrics.flush()
        with state(server):
            for number in range(3):
                metrics.increment("jobs")
                metrics.increment("new", tags={"n": number})
                metrics.histogram("took", number)
                wait_until(lambda: re.search(says, refusal(metrics)), f"flush raises {says}")
            stats = metrics.stats()
            assert (stats["recorded"], stats["stored"], stats["pending"], stats["dropped"]) == (
                11,
                2,
                9,
                {},
            )
        settled(metrics)
        assert metrics.query("jobs", aggregation="sum") == 8
        assert metrics.query("new", aggregation="count") == 3
        assert metrics.query("took", aggregation="sum") == 5.5


@pytest.mark.parametrize("state", [busy, loading], ids=["busy", "loading"])
def test_a_query_raises_the_error_of_the_server(
    fresh_server: Callable[..., Server], namespace: str, state: State
) -> None:
    server = fresh_server(port=True)
    with Metrics(server.url, namespace=namespace, flush_interval=NEVER) as metrics:
        metrics.increment("jobs", 5)
        metrics.flush()
        with state(server), pytest.raises(StoreError, match=r"(?i)busy|loading"):
            metrics.query("jobs", aggregation="sum")
        assert metrics.query("jobs", aggregation="sum") == 5


@pytest.mark.parametrize("state", [full, read_only], ids=["full", "read_only"])
def test_a_server_that_refuses_writes_still_answers_queries(
    fresh_server: Callable[..., Server], namespace: str, state: State
) -> None:
    server = fresh_server(port=True)
    with Metrics(server.url, namespace=namespace, flush_interval=NEVER) as metrics:
        metrics.increment("jobs", 5)
        metrics.flush()
        with state(server):
            assert metrics.query("jobs", aggregation="sum") == 5
            assert [family.name for family in metrics.live()] == ["jobs"]


@STATES
def test_a_worker_continues_after_the_state_has_passed(
    fresh_server: Callable[..., Server], namespace: str, state: State, says: str
) -> None:
    server = fresh_server(port=True)
    with Metrics(server.url, namespace=namespace, flush_interval=NEVER) as metrics:
        for number in range(20):
            metrics.histogram("took", number)
            metrics.increment("jobs", number)
        metrics.flush()
        one = new_worker(server.url, namespace)
        with state(server):
            with contextlib.suppress(StoreError):
                one.pass_once(alone=True)
            with server.client() as admin, contextlib.suppress(redis.RedisError):
                assert admin.hget(keys.rollup(namespace, 0, "took").state, "sealed") is None
        one.disconnect()
        while one.pass_once(alone=True):
            pass
        one.store.close()
        assert (
            metrics.query("took", aggregation="sum")
            == metrics.query("jobs", aggregation="sum")
            == sum(range(20))
        )
        with server.client() as admin:
            assert admin.zcard(keys.shard(namespace, 0).dirty) == 0


@pytest.mark.parametrize(
    "written",
    [keys.FORMAT - 1, keys.FORMAT + 1, "junk", ""],
    ids=["older", "newer", "junk", "nothing"],
)
def test_another_format_raises_and_is_not_changed(
    server: Server, namespace: str, written: object
) -> None:
    with server.client() as admin:
        admin.hset(keys.config(namespace), mapping={"format": str(written), "shards": 1})
        with Metrics(server.url, namespace=namespace, flush_interval=NEVER) as metrics:
            metrics.increment("jobs")
            for call in (lambda: metrics.flush(0.5), metrics.list_metrics, metrics.live):
                with pytest.raises(FormatMismatch, match=namespace):
                    call()
            one = new_worker(server.url, namespace)
            with pytest.raises(FormatMismatch, match=namespace):
                one.pass_once(alone=True)
            one.store.close()
            metrics.close(0.1)
        assert admin.hgetall(keys.config(namespace)) == {
            b"format": str(written).encode(),
            b"shards": b"1",
        }
        assert not list(admin.scan_iter(f"rm:{{{namespace}:*"))
