"""Lost connections: what was missed is read from the logs, once and in order, or a gap says so."""

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from redismetrics import (
    Metrics,
    Sample,
    ScriptFailed,
)
from redismetrics.stream.feed import Feed
from redismetrics.stream.subscription import Subscription
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.fixtures.streams import gap, send, take, values
from tests.fixtures.workers import new_worker
from tests.system.faults.proxy import Proxy

ROOT = Path(__file__).parents[2]


def moment() -> datetime:
    return datetime.now(UTC)


def test_a_restart_causes_no_gap_if_the_logs_are_complete(
    fresh_server: Callable[..., Server], make_metrics: MakeMetrics
) -> None:
    server = fresh_server()
    metrics, other = make_metrics(server.url), make_metrics(server.url)
    with metrics.subscribe() as stream:
        send(other, "depth", 1, queue="mail")
        take(stream)
        server.restart()
        send(other, "depth", 2, queue="mail")
        send(other, "late", 3)
        assert [(sample.value, sample.tags) for sample in take(stream, 2)] == [
            (2, {"queue": "mail"}),
            (3, {}),
        ]


def subscribe_with_ping(metrics: Metrics, ping_after: float) -> Subscription:
    """Subscribe to the metric "depth", with a ping after *ping_after* seconds of silence."""
    namespace = metrics.settings.namespace
    feed = Feed(namespace, "depth", queue=100, ping_after=ping_after)
    return Subscription(metrics._store, feed)


@pytest.mark.slow
@pytest.mark.parametrize("ping_after", [0.05, 60])
def test_a_connection_that_died_silently_is_detected_by_a_ping(
    fresh_server: Callable[..., Server], make_metrics: MakeMetrics, ping_after: float
) -> None:
    server = fresh_server(port=True)
    other = make_metrics(server.url)
    with Proxy(server) as proxy:
        stream = subscribe_with_ping(make_metrics(proxy.url), ping_after)
        proxy.deaf = True
        assert stream.get(timeout=0.4) is None
        if ping_after < 1:
            send(other, "depth", 5)  # what the proxy reads of it is lost
        wait_until(lambda: proxy.connections >= 2 or ping_after > 1, "another connection is tried")
        proxy.deaf = False
        found = stream.get(timeout=PATIENCE if ping_after < 1 else 0.4)
        stream.close()
    assert (found is None) == (ping_after > 1)
    assert found is None or (isinstance(found, Sample) and found.value == 5)


def test_an_idle_but_working_connection_is_kept(metrics: Metrics, other: Metrics) -> None:
    with subscribe_with_ping(metrics, 0.05) as stream:
        assert stream.get(timeout=0.5) is None  # ten times as long
        send(other, "depth", 1)
        assert [sample.value for sample in take(stream)] == [1]


@pytest.mark.parametrize("names", [["jobs", "jobs2"], "j*", None])
def test_samples_recorded_while_disconnected_are_caught_up_in_order(
    server: Server, make_metrics: MakeMetrics, other: Metrics, names: Any
) -> None:
    with Proxy(server, unix=True) as proxy, make_metrics(proxy.url).subscribe(names) as stream:
        for number in range(0, 100, 4):
            if number % 20 == 8:
                proxy.disconnect()
            for each in range(number, number + 4):
                send(other, ("jobs", "jobs2")[each % 3 == 0], each)
        assert [sample.value for sample in take(stream, 100)] == list(range(100))
        assert stream.get(0.05) is None


KILLED = """
import sys
from redismetrics import Metrics
with Metrics(sys.argv[1], namespace=sys.argv[2], flush_interval=3600) as metrics:
    for number in range(150):
        for name in ("a", "b", "c"):
            metrics.gauge(name, number, tags={"writer": sys.argv[3]})
        metrics.flush()
"""


@pytest.mark.slow
def test_every_sample_arrives_once_and_in_order_although_connections_are_killed(
    server: Server, url: str, namespace: str, metrics: Metrics
) -> None:
    with metrics.subscribe() as stream, server.client() as client:
        writers = [
            subprocess.Popen([sys.executable, "-c", KILLED, url, namespace, str(number)], cwd=ROOT)
            for number in range(3)
        ]
        found: list[Sample] = []
        for at in range(3 * 150 * 3):
            if at % 200 == 50:
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            found += take(stream)
        assert [writer.wait(PATIENCE) for writer in writers] == [0, 0, 0]
        assert stream.get(0.05) is None
    for writer in "012":
        of_writer = [
            (sample.value, sample.name) for sample in found if sample.tags["writer"] == writer
        ]
        assert of_writer == [(number, name) for number in range(150) for name in "abc"]


def test_a_block_whose_series_could_not_be_read_is_caught_up(
    server: Server, metrics: Metrics, make_metrics: MakeMetrics
) -> None:
    with (
        Proxy(server, unix=True) as proxy,
        make_metrics(proxy.url, socket_timeout=0.5).subscribe() as stream,
    ):
        proxy.cut_requests(2, when=lambda request: b":catalogue" in request)  # and its one retry
        send(metrics, "depth", 1)
        assert values(take(stream)) == [("depth", 1)]
        assert proxy.cut == 2
        send(metrics, "depth", 2)
        assert values(take(stream)) == [("depth", 2)]


def test_samples_that_have_left_the_log_are_a_gap_and_the_rest_follows(
    server: Server, make_metrics: MakeMetrics
) -> None:
    writer = make_metrics(log_bytes=1 << 16)
    with Proxy(server, unix=True) as proxy, make_metrics(proxy.url).subscribe("note") as stream:
        send(writer, "note", 0)
        take(stream)
        proxy.deaf = True
        proxy.disconnect()
        for number in range(1, 101):
            writer.gauge("note", number, metadata={"text": f"{number}" * 700})
            writer.flush()
        proxy.deaf = False
        proxy.disconnect()
        hole = gap(stream)
        rest = [sample.value for sample in take(stream, 1)]
        while rest[-1] < 100:
            rest += [sample.value for sample in take(stream)]
    assert rest == list(range(int(rest[0]), 101))
    assert rest[0] > 1
    missing = [sample.timestamp for sample in writer.query("note") if 0 < sample.value < rest[0]]
    assert hole.missed is None
    assert all(hole.since <= each <= hole.until for each in missing)


@pytest.mark.parametrize("seconds", [50, 70])
def test_a_disconnection_longer_than_the_replay_window_is_exactly_one_gap(
    moving_server: Server, namespace: str, make_metrics: MakeMetrics, seconds: float
) -> None:
    server = moving_server
    clock = lambda: server.time  # noqa: E731
    writer, sealing = make_metrics(server.url, clock=clock), new_worker(server.url, namespace)
    with (
        Proxy(server, unix=True) as proxy,
        make_metrics(proxy.url, clock=clock).subscribe() as stream,
    ):
        for name in ("a", "b", "c"):
            send(writer, name, 0)
        take(stream, 3)
        began = server.time
        proxy.deaf = True
        proxy.disconnect()
        send(writer, "a", 1)
        send(writer, "b", 1)
        sealing.pass_once()
        server.advance(seconds)
        send(writer, "a", 2)
        send(writer, "c", 2)
        sealing.pass_once()
        sealing.pass_once()
        proxy.deaf = False
        proxy.disconnect()
        if seconds > 60:
            hole = gap(stream)
            assert (hole.since.timestamp(), hole.missed) == (pytest.approx(began, abs=0.01), None)
            assert began <= hole.until.timestamp() < server.time
            expected = [("a", 2), ("c", 2)]
        else:
            expected = [("a", 1), ("b", 1), ("a", 2), ("c", 2)]
        assert values(take(stream, len(expected))) == expected
        send(writer, "b", 3)
        assert values(take(stream)) == [("b", 3)]
        proxy.disconnect()  # the gap is not repeated
        send(writer, "b", 4)
        assert values(take(stream)) == [("b", 4)]
    sealing.leave()
    sealing.store.close()


def test_a_server_that_lost_its_data_is_a_gap_and_series_are_not_mixed_up(
    fresh_server: Callable[..., Server], make_metrics: MakeMetrics
) -> None:
    """Series begin at 0 again there."""
    server = fresh_server()
    metrics = make_metrics(server.url)
    with metrics.subscribe() as stream:
        send(make_metrics(server.url), "depth", 1, queue="mail")
        take(stream)
        server.stop()
        server.forget()
        server.restart()
        send(
            make_metrics(server.url), "depth", 2, queue="audio"
        )  # before the stream is back, perhaps: the clock doesn't tell
        gap(stream)
        (sample,) = take(stream)
        assert (sample.value, sample.tags) == (2, {"queue": "audio"})


def test_close_ends_the_wait_for_an_unreachable_server(
    fresh_server: Callable[..., Server], make_metrics: MakeMetrics
) -> None:
    server = fresh_server()
    stream = make_metrics(server.url).subscribe()
    server.stop()
    found: list[Any] = []
    reader = threading.Thread(target=lambda: found.extend(stream))
    reader.start()
    reader.join(0.5)
    assert reader.is_alive()
    stream.close()
    reader.join(PATIENCE)
    assert not reader.is_alive()
    assert found == []


@pytest.mark.slow
def test_a_lost_permission_raises_once_and_the_stream_continues_when_it_is_back(
    fresh_server: Callable[..., Server],
) -> None:
    server = fresh_server(port=True)
    url = f"redis://reader:secret@127.0.0.1:{server.port}/0"
    with server.client() as client, Metrics(server.url) as other, Metrics(url) as metrics:
        client.execute_command(
            "ACL", "SETUSER", "reader", "on", ">secret", "~*", "allchannels", "+@all"
        )
        with metrics.subscribe("depth") as stream:
            send(other, "depth", 1)
            take(stream)
            client.execute_command(
                "ACL", "SETUSER", "reader", "resetchannels"
            )  # and its subscriptions are cut
            with pytest.raises(ScriptFailed, match=r"(?i)perm|channel"):
                stream.get(PATIENCE)
            send(other, "depth", 2)
            assert stream.get(0.5) is None
            client.execute_command("ACL", "SETUSER", "reader", "allchannels")
            assert values(take(stream)) == [("depth", 2)]


def test_blocks_from_the_log_wait_for_a_slow_reader(
    server: Server, make_metrics: MakeMetrics, other: Metrics
) -> None:
    with Proxy(server, unix=True) as proxy, make_metrics(proxy.url).subscribe(queue=2) as stream:
        proxy.deaf = True
        proxy.disconnect()
        for number in range(40):
            send(other, "depth", number)
        proxy.deaf = False
        proxy.disconnect()
        assert [sample.value for sample in take(stream, 40)] == list(range(40))
        assert stream.missed == 0
