"""How a client ends: what `close` sends, and what it counts."""

import gc
import logging
import time
from collections.abc import Callable

import pytest

from redismetrics import Metrics, StoreUnavailable
from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.recording.helpers import (
    NEVER,
    NOWHERE,
    Make,
    balanced,
    client_threads,
    python,
)


def test_close_sends_what_is_left_once(make: Make) -> None:
    first, second = make(flush_interval=NEVER), make()
    first.increment("jobs", 3)
    first.close()
    first.close()
    assert second.query("jobs", aggregation="sum") == 3
    stats = balanced(first)
    assert (stats["stored"], stats["pending"]) == (1, 0)


def test_close_counts_samples_never_sent(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    metrics = make(NOWHERE, flush_interval=NEVER)
    for _ in range(3):
        metrics.increment("jobs")
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, "redismetrics"):
        metrics.close(0.3)
    # Else it would try for ever.
    assert time.monotonic() - began < PATIENCE
    stats = balanced(metrics)
    assert (stats["dropped"], stats["pending"], stats["buffer_bytes"]) == ({"unsent": 3}, 0, 0)
    assert "closed with 3 samples never sent and 0 sent but never confirmed" in caplog.text


def test_close_counts_samples_sent_but_never_confirmed(
    make: Make, fresh_server: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    server = fresh_server()
    metrics = make(server.url, flush_interval=NEVER, socket_timeout=0.2)
    metrics.increment("jobs")
    metrics.flush()
    server.pause()
    metrics.increment("jobs", 5)
    with pytest.raises(StoreUnavailable):
        metrics.flush(0.1)
    metrics.increment("jobs")
    with caplog.at_level(logging.WARNING, "redismetrics"):
        metrics.close(0.3)
    stats = balanced(metrics)
    assert (stats["stored"], stats["pending"], stats["in_doubt"]) == (1, 0, 0)
    assert stats["dropped"] == {"unknown": 1, "unsent": 1}
    assert "closed with 1 samples never sent and 1 sent but never confirmed" in caplog.text


def test_close_counts_samples_taken_but_not_sent(
    make: Make, fresh_server: Callable[..., Server]
) -> None:
    server = fresh_server()
    metrics = make(server.url, flush_interval=NEVER, socket_timeout=1)
    metrics.increment("jobs")
    metrics.flush()
    server.pause()
    metrics.increment("new", 5)  # its sender looks up the new name and waits
    with pytest.raises(StoreUnavailable):
        metrics.flush(0.1)
    metrics.close(0.1)
    stats = balanced(metrics)
    assert (stats["stored"], stats["pending"], stats["dropped"]) == (1, 0, {"unsent": 1})
    wait_until(
        lambda: not any(thread.is_alive() for thread in metrics._sink.threads),
        "its threads end",
    )
    server.resume()
    assert {**balanced(metrics), "last_error": None} == stats
    assert make(server.url).query("new", aggregation="count") == 0


@pytest.mark.slow
def test_unreferenced_clients_send_what_is_left_and_stop(url: str, namespace: str) -> None:
    code = f"""
import gc, json, os, threading, time
import redismetrics as rm
def count():
    # The helper is one of the process, not of a client.
    threads = [each for each in threading.enumerate() if each.name != "redismetrics-helper"]
    return len(threads), len(os.listdir("/proc/self/fd"))
asking = rm.Metrics({url!r}, namespace={namespace!r})
asking.query("jobs")
before = count()
handles = []
for number in range(30):
    metrics = rm.Metrics({url!r}, namespace={namespace!r}, worker=number % 10 == 0)
    handle = rm.Counter("jobs", metrics=metrics)
    handle.increment()
    metrics.query("jobs")
    handle.increment()
    if number < 2:
        handles.append(handle)  # it holds its client
del metrics, handle
until = time.monotonic() + 60
while count()[0] > before[0] + 5 and time.monotonic() < until:
    gc.collect()
    time.sleep(0.05)
gc.collect()
threads, files = (now - then for now, then in zip(count(), before))
for handle in handles:
    handle.increment()
del handle, handles
while count()[0] > before[0] and time.monotonic() < until:
    gc.collect()
    time.sleep(0.05)
gc.collect()
rest = [now - then for now, then in zip(count(), before)]
print(json.dumps([threads, files <= 6, rest, asking.query("jobs", aggregation="sum")]))
"""
    # Two threads of each of two clients, and a worker of one of them.
    assert python(code) == [5, True, [0, 0], 62]


@pytest.mark.slow
def test_an_unreferenced_client_retries_until_redis_is_back(
    fresh_server: Callable[..., Server], namespace: str
) -> None:
    server = fresh_server()
    server.pause()
    before = client_threads()
    Metrics(server.url, namespace=namespace, socket_timeout=0.2).increment("jobs")
    gc.collect()
    (collector,) = [
        thread for thread in client_threads() - before if thread.name.endswith("collector")
    ]
    # Longer than the two seconds that the end of a process waits.
    collector.join(2.5)
    assert collector.is_alive()
    server.resume()
    collector.join(PATIENCE)
    assert not collector.is_alive()
    with Metrics(server.url, namespace=namespace) as metrics:
        assert metrics.query("jobs", aggregation="sum") == 1
