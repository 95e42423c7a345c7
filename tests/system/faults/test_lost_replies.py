"""A reply is lost and the batch is resent: it counts once, but only because of the guard."""

import hashlib
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import redis.retry

from redismetrics import Gauge, Metrics, StoreUnavailable, settings
from redismetrics.model.definition import Definition
from redismetrics.model.validation import pack_tags
from redismetrics.recording import drain, encode, redis_sink, write
from redismetrics.recording.backoff import Backoff
from redismetrics.recording.buffers import Buffer
from redismetrics.recording.known_series import KnownSeries
from redismetrics.store import driver, scripts
from redismetrics.store.namespace import open_namespace
from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.system.faults import proxy as proxies
from tests.system.faults.proxy import Proxy

# 10,000 increments; every second batch loses its reply.
FLUSHES, EACH, LOST = 400, 25, 200

REDIS_PY = int(redis.__version__.partition(".")[0])

GUARD = "if last_sequence and sequence <= last_sequence then\n  return last_reply\nend\n"


@pytest.fixture
def proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    # Our requests are single commands and come in one piece.
    monkeypatch.setattr(proxies, "QUIET", 0.002)
    with Proxy(server, unix=True) as proxy:
        yield proxy


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sender retry sooner than in production."""
    monkeypatch.setattr(redis_sink, "DEFAULT_BACKOFF", Backoff(first=0.002))


@pytest.fixture
def metrics(proxy: Proxy, namespace: str, quick: None) -> Iterator[Metrics]:
    """A client behind the proxy that flushes only on request and retries only what was cut.

    It waits long for a reply: a busy machine must not add retries to those that a test counts.
    """
    with Metrics(
        proxy.url, namespace=namespace, flush_interval=3_600, socket_timeout=PATIENCE
    ) as metrics:
        yield metrics


@pytest.fixture
def brief(proxy: Proxy, namespace: str, quick: None) -> Iterator[Metrics]:
    """A client behind the proxy that gives up on a reply soon."""
    with Metrics(
        proxy.url, namespace=namespace, flush_interval=3_600, socket_timeout=0.5
    ) as metrics:
        yield metrics


@pytest.fixture
def reader(url: str, namespace: str) -> Iterator[Metrics]:
    """A client with a direct connection."""
    with Metrics(url, namespace=namespace) as metrics:
        yield metrics


@pytest.fixture
def unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the guard from record.lua."""
    whole = scripts.script("record")
    assert whole.text.count(GUARD) == 1
    text = whole.text.replace(GUARD, "")
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(scripts, "script", lambda name: scripts.Script(name, text, sha))


def batches(namespace: str, writer: str, count: int, each: int) -> Iterator[write.WriteRequest]:
    """Yield batches of *each* increments, made as the flusher makes them."""
    chosen = settings.resolve({})
    for sequence in range(1, count + 1):
        buffer = Buffer(pack_tags({"a": "b"}))
        buffer.values += [1] * each
        batch, _ = drain.drain(
            "jobs", Definition("counter"), True, [buffer], int(time.time() * 1000), 100
        )
        assert batch is not None
        yield write.write_request(
            namespace,
            0,
            writer,
            sequence,
            sequence - 1,
            [encode.encode(batch, KnownSeries())],
            chosen,
        )


def totals(reader: Metrics) -> tuple[float, float]:
    """What a question answers, and what the Prometheus page shows."""
    (family,) = reader.live("jobs")
    return reader.query("jobs", aggregation="sum"), sum(series.value for series in family.series)


# -- our client ---------------------------------------------------------------------------------


def increments_through_lost_replies(
    proxy: Proxy, metrics: Metrics, flushes: int, lost: int
) -> None:
    proxy.lose_replies(lost, every=2)
    for _ in range(flushes):
        for _ in range(EACH):
            metrics.increment("jobs", tags={"a": "b"})
        metrics.flush()


@pytest.mark.slow
def test_ten_thousand_increments_with_two_hundred_lost_replies(
    proxy: Proxy, metrics: Metrics, reader: Metrics
) -> None:
    increments_through_lost_replies(proxy, metrics, FLUSHES, LOST)
    assert proxy.lost == LOST
    assert totals(reader) == (10_000, 10_000)
    stats = metrics.stats()
    assert (stats["recorded"], stats["stored"], stats["pending"]) == (10_000, 10_000, 0)
    assert (stats["dropped"], stats["batches"], stats["retries"], stats["lost_batches"]) == (
        {},
        FLUSHES,
        LOST,
        0,
    )


def test_without_the_guard_the_total_is_wrong(
    proxy: Proxy, metrics: Metrics, reader: Metrics, unguarded: None
) -> None:
    increments_through_lost_replies(proxy, metrics, 40, 20)
    assert proxy.lost == 20
    assert totals(reader) != (40 * EACH, 40 * EACH)
    assert totals(reader) == (
        (40 + 20) * EACH,
        (40 + 20) * EACH,
    )  # each lost reply counted its batch twice


@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram"])
def test_every_type_counts_once(proxy: Proxy, metrics: Metrics, reader: Metrics, kind: str) -> None:
    gauge = Gauge("depth", metrics=metrics)
    proxy.lose_replies(20, every=2)
    for number in range(40):
        if kind == "counter":
            metrics.increment("jobs", 2, tags={"n": number % 3})
        elif kind == "gauge":
            gauge.add(1.5)
        else:
            metrics.histogram("took", number % 5)
        metrics.flush()
    assert proxy.lost == 20
    if kind == "counter":
        assert [row["sum"] for row in reader.query("jobs", aggregation="sum", group_by="n")] == [
            28,
            26,
            26,
        ]
    elif kind == "gauge":
        assert [sample.value for sample in reader.query("depth")] == [
            1.5 * number for number in range(1, 41)
        ]
        assert reader.live("depth")[0].series[0].value == 60
    else:
        series = reader.live("took")[0].series[0]
        assert (series.count, series.value, sum(series.buckets)) == (40, 80, 40)
        assert reader.query("took", aggregation="count") == 40


def test_an_unconfirmed_batch_is_never_changed(
    proxy: Proxy, brief: Metrics, reader: Metrics
) -> None:
    brief.increment("jobs")
    brief.flush()
    proxy.deaf = True
    brief.increment("jobs")
    with pytest.raises(StoreUnavailable):
        brief.flush(0.05)
    for _ in range(10):  # samples in the meantime wait for their own batch
        brief.increment("jobs", tags={"b": "c"})
    assert brief.stats()["in_doubt"] == 1
    proxy.lose_replies(3)
    proxy.deaf = False
    brief.flush()
    assert proxy.lost == 3
    assert totals(reader) == (12, 12)
    assert brief.stats()["batches"] == 3


# -- retries of redis-py ------------------------------------------------------------------------


@pytest.fixture
def default_client(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """A client with redis-py's default retries, but no pauses. (`from_url` has none by default.)"""
    if REDIS_PY < 6:
        pytest.skip(f"redis-py {redis.__version__} does not retry by default")
    monkeypatch.setattr(redis.retry, "sleep", lambda seconds: None)
    with redis.Redis(unix_socket_path=urlsplit(proxy.url).path, protocol=2) as client:
        client.response_callbacks.clear()  # raw replies, as the driver expects them
        yield client


@pytest.mark.slow
def test_a_batch_resent_by_redis_py_counts_once(
    proxy: Proxy, default_client: redis.Redis, reader: Metrics, namespace: str
) -> None:
    driver.run(default_client, open_namespace(namespace))
    proxy.lose_replies(LOST, every=2)
    held = [
        driver.run(default_client, write.record(batch)).held
        for batch in batches(namespace, "writer", FLUSHES, EACH)
    ]
    assert proxy.lost == LOST
    assert held == list(range(FLUSHES))
    assert totals(reader) == (10_000, 10_000)


def test_without_the_guard_a_resend_by_redis_py_counts_twice(
    proxy: Proxy, default_client: redis.Redis, reader: Metrics, namespace: str, unguarded: None
) -> None:
    proxy.lose_replies(20, every=2)
    for batch in batches(namespace, "writer", 40, EACH):
        driver.run(default_client, write.record(batch))
    assert proxy.lost == 20
    assert totals(reader) != (1_000, 1_000)
    assert totals(reader) == (1_500, 1_500)


def test_a_resent_batch_gets_its_first_reply(server: Server, namespace: str) -> None:
    first, second = batches(namespace, "writer", 2, 1)
    with server.client(protocol=2) as client:
        client.response_callbacks.clear()
        replies = [
            driver.run(client, write.record(batch))
            for batch in (first, first, second, second, first)
        ]
    assert replies[0] == replies[1]
    # The guard keeps only the reply of the last batch.
    assert replies[2] == replies[3] == replies[4]
    assert [replies[0].held, replies[2].held] == [0, 1]


# -- other faults of a connection ---------------------------------------------------------------


@pytest.mark.slow
def test_requests_cut_before_the_server_are_resent(
    proxy: Proxy, metrics: Metrics, reader: Metrics
) -> None:
    proxy.cut_requests(50, every=2)
    for _ in range(100):
        metrics.increment("jobs", 3)
        metrics.flush()
    assert (proxy.cut, proxy.lost) == (50, 0)
    assert totals(reader) == (300, 300)
    assert metrics.stats()["lost_batches"] == 0


@pytest.mark.slow
def test_cut_requests_and_lost_replies_together(
    proxy: Proxy, metrics: Metrics, reader: Metrics
) -> None:
    proxy.cut_requests(30, every=3)
    proxy.lose_replies(30, every=2)
    for _ in range(100):
        metrics.increment("jobs", 3)
        metrics.flush()
    assert (proxy.cut, proxy.lost) == (30, 30)
    assert totals(reader) == (300, 300)


def test_every_command_of_a_new_client_may_be_cut(
    proxy: Proxy, reader: Metrics, namespace: str, quick: None
) -> None:
    proxy.cut_requests(6, when=lambda request: True)
    with Metrics(
        proxy.url, namespace=namespace, flush_interval=3_600, socket_timeout=0.5
    ) as metrics:
        metrics.increment("jobs", 3)
        metrics.flush()
        proxy.lose_replies(6, when=lambda request: True)
        metrics.increment("jobs", 3)
        metrics.increment("new")
        metrics.flush()
    assert (proxy.cut, proxy.lost) == (6, 6)
    assert totals(reader) == (6, 6)
    assert reader.query("new", aggregation="sum") == 1


@pytest.mark.slow
def test_samples_are_kept_while_the_server_does_not_reply(
    proxy: Proxy, brief: Metrics, reader: Metrics
) -> None:
    brief.increment("jobs")
    brief.flush()
    proxy.deaf = True
    for _ in range(3):
        brief.increment("jobs")
        with pytest.raises(StoreUnavailable):
            brief.flush(0.2)
    assert totals(reader) == (1, 1)
    proxy.deaf = False
    brief.flush()
    assert totals(reader) == (4, 4)


@pytest.mark.slow
def test_replies_after_the_time_out(
    proxy: Proxy, reader: Metrics, namespace: str, quick: None
) -> None:
    with Metrics(
        proxy.url, namespace=namespace, flush_interval=3_600, socket_timeout=0.2
    ) as metrics:
        metrics.increment("jobs")
        metrics.flush()
        for _ in range(3):
            proxy.delay = 0.5
            metrics.increment("jobs")
            with pytest.raises(StoreUnavailable):
                metrics.flush(0.4)
            proxy.delay = 0.0
            metrics.flush()
        assert metrics.stats()["retries"] > 0
    assert totals(reader) == (4, 4)


def test_replies_that_come_byte_by_byte(proxy: Proxy, metrics: Metrics, reader: Metrics) -> None:
    proxy.trickle = True
    for _ in range(10):
        metrics.increment("jobs", 2)
        metrics.flush()
    assert metrics.query("jobs", aggregation="sum") == 20
    assert totals(reader) == (20, 20)
    assert metrics.stats()["retries"] == 0


def test_close_after_a_lost_reply_stores_once(
    proxy: Proxy, reader: Metrics, namespace: str
) -> None:
    metrics = Metrics(proxy.url, namespace=namespace, flush_interval=3_600, socket_timeout=0.5)
    metrics.increment("jobs", 5)
    proxy.lose_replies(2)
    metrics.close()
    assert proxy.lost == 2
    assert totals(reader) == (5, 5)
    assert metrics.stats()["dropped"] == {}


@pytest.mark.parametrize(
    "connected",
    [
        True,
        pytest.param(
            False,
            marks=pytest.mark.skipif(
                REDIS_PY < 7,
                reason="redis-py before 7 raises if the connection breaks in its handshake",
            ),
        ),
    ],
)
def test_a_query_survives_a_lost_reply(proxy: Proxy, metrics: Metrics, connected: bool) -> None:
    metrics.increment("jobs", 5)
    metrics.flush()
    if connected:
        assert metrics.query("jobs", aggregation="sum") == 5
    queries: list[Callable[[], Any]] = [
        lambda: metrics.query("jobs", aggregation="sum"),
        lambda: metrics.live("jobs")[0].series[0].value,
    ]
    for query in queries:
        proxy.lose_replies(1, when=lambda request: True)
        assert query() == 5
    assert proxy.lost == 2
    wait_until(lambda: metrics.stats()["pending"] == 0, "nothing is pending")


def test_the_last_batch_of_a_process_counts_once(
    proxy: Proxy, reader: Metrics, namespace: str, quick: None
) -> None:
    """Values of a process that ends are merged once, though the reply is lost."""
    with Metrics(
        proxy.url, namespace=namespace, flush_interval=3_600, socket_timeout=0.5
    ) as metrics:
        metrics.gauge("busy", per="process", merge="sum").set(2.5)
        metrics.flush()
        proxy.lose_replies(1)
    assert [row.value for row in reader.live("busy")[0].series] == [2.5]
    assert proxy.lost == 1
