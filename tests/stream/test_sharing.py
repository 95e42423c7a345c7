"""All streams of a client share one connection, and none of them disturbs the others."""

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest

from redismetrics import AsyncMetrics, Metrics, ScriptFailed
from redismetrics.store import keys
from redismetrics.store.replies import STAMP_BYTES
from redismetrics.stream import inbox as inbox_module
from redismetrics.stream.feed import Feed
from redismetrics.stream.hub import hub_of
from redismetrics.stream.inbox import MAX_BYTES, FellBehind, Inbox, Interest
from redismetrics.stream.messages import DecodedBlocks, Message
from redismetrics.stream.steps import Describe, WantedMetric
from redismetrics.stream.subscription import Subscription
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.fixtures.streams import patterns, send, take, values

STREAMS, PATTERNS = 100, 32


def connections(server: Server) -> int:
    with server.client() as client:
        return len(client.client_list(_type="pubsub"))


def calls(server: Server, command: str) -> int:
    with server.client() as client:
        return int(client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


def wanted(number: int) -> list[str]:
    """Return 32 patterns, of which one matches the metric "jobs"."""
    return ["jo*", *(f"*{number}x{each}*" for each in range(1, PATTERNS))]


def test_100_streams_of_32_patterns_are_one_connection_and_one_pattern(
    fresh_server: Callable[..., Server],
) -> None:
    """Redis compares each message with all patterns, and sends it to each connection."""
    server = fresh_server()

    async def run() -> None:
        async with AsyncMetrics(server.url) as metrics, AsyncExitStack() as stack:
            metrics.gauge("depth", 1)
            await metrics.flush()
            streams = [
                await stack.enter_async_context(metrics.subscribe(wanted(number)))
                for number in range(STREAMS)
            ]
            assert (connections(server), patterns(server)) == (1, 1)
            before = calls(server, "hgetall")
            metrics.increment("jobs", 7)
            await metrics.flush()
            for stream in streams:
                assert (await stream.get(PATIENCE)).value == 7
            assert calls(server, "hgetall") == before + 1
        assert connections(server) == 0

    asyncio.run(run())


def test_streams_in_threads_share_a_connection_too(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server()
    with Metrics(server.url) as metrics, Metrics(server.url) as other, ExitStack() as stack:
        streams = [
            stack.enter_context(metrics.subscribe(names))
            for names in (None, "jobs", ["jobs", "depth"], "j*", None)
        ]
        assert (connections(server), patterns(server)) == (1, 1)
        send(other, "jobs", 7)
        assert [values(take(stream)) for stream in streams] == [[("jobs", 7)]] * 5
        stack.close()
        wait_until(lambda: connections(server) == 0, "the connection is closed")


def test_unwanted_channels_are_unsubscribed(
    server: Server, namespace: str, metrics: Metrics, other: Metrics
) -> None:
    channels = [keys.channel(namespace, name) for name in ("a", "b", "c")]

    def subscribers() -> list[int]:
        with server.client() as client:
            return [count for _, count in client.pubsub_numsub(*channels)]

    before = patterns(server)
    with metrics.subscribe(["a", "b"]) as stream:
        with metrics.subscribe(["b", "c"]), metrics.subscribe("b*"):
            assert (subscribers(), patterns(server)) == ([1, 1, 1], before + 1)
        wait_until(lambda: subscribers() == [1, 1, 0], "the channels of one stream are left")
        wait_until(lambda: patterns(server) == before, "no pattern is left")
        with metrics.subscribe("c") as again:
            send(other, "c", 1)
            send(other, "b", 2)
            assert values(take(again)) == [("c", 1)]
            assert values(take(stream)) == [("b", 2)]


def test_a_rejected_subscription_does_not_affect_other_streams(
    fresh_server: Callable[..., Server],
) -> None:
    server = fresh_server(port=True)
    url = f"redis://reader:secret@127.0.0.1:{server.port}/0"
    with server.client() as client, Metrics(server.url) as other, Metrics(url) as metrics:
        channel = keys.channel("default", "jobs")
        client.execute_command(
            *("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@all"),
            *("resetchannels", f"&{channel}"),
        )
        with metrics.subscribe("jobs") as stream:
            number = client.client_list(_type="pubsub")[0]["id"]
            for names in ("depth", None, ["jobs", "depth"]):
                with pytest.raises(ScriptFailed, match=r"(?i)perm|channel"):
                    metrics.subscribe(names)
            with metrics.subscribe("jobs") as second:
                send(other, "jobs", 1)
                assert values(take(stream)) == values(take(second)) == [("jobs", 1)]
            assert [each["id"] for each in client.client_list(_type="pubsub")] == [number]


def block_of(server: Server, namespace: str, name: str) -> bytes:
    """Return the newest message of a metric, as it was published."""
    with server.client() as client:
        (block,) = client.zrange(keys.metric(namespace, 0, name).log, -1, -1)
        entry = client.hget(keys.shard(namespace, 0).catalogue, name)
        assert isinstance(entry, bytes)
        return bytes(block) + entry[-STAMP_BYTES:]


def test_a_message_from_before_a_stream_joined_is_not_delivered_to_it(
    server: Server, namespace: str, metrics: Metrics, other: Metrics
) -> None:
    """The shared connection may still be busy with older messages."""
    with metrics.subscribe("jobs") as first:
        send(other, "jobs", 1)
        old = block_of(server, namespace, "jobs")
        with metrics.subscribe("jobs") as second, server.client() as client:
            client.publish(keys.channel(namespace, "jobs"), old)
            send(other, "jobs", 2)
            assert values(take(second)) == [("jobs", 2)]
            assert values(take(first, 2)) == [("jobs", 1), ("jobs", 2)]


def slow_stream(metrics: Metrics, go_on: threading.Event) -> Subscription[Any]:
    """Return a stream that processes nothing before *go_on* is set."""
    feed = Feed(metrics.settings.namespace, "jobs", queue=100_000)
    has_tags = feed._selection.has_tags

    def wait(tags: Any) -> bool:
        assert go_on.wait(PATIENCE)
        return has_tags(tags)

    feed._selection.has_tags = wait  # type: ignore[method-assign]
    return Subscription(metrics._store, feed)


def test_a_stream_that_falls_behind_reads_the_logs_and_delays_no_other(
    metrics: Metrics, other: Metrics
) -> None:
    go_on = threading.Event()
    note = {"text": "x" * 4000}
    sizes = [1, *[500] * (3 * MAX_BYTES // (500 * 4000))]
    with slow_stream(metrics, go_on) as slow, metrics.subscribe("jobs") as quick:
        for number, size in enumerate(sizes):
            for _ in range(size):
                other.gauge("jobs", number, tags={"n": str(_ % 50)}, metadata=note)
            other.flush()
        expected = sorted(value for value, size in enumerate(sizes) for _ in range(size))
        assert sorted(sample.value for sample in take(quick, sum(sizes))) == expected
        go_on.set()
        assert sorted(sample.value for sample in take(slow, sum(sizes))) == expected
        assert slow.missed == quick.missed == 0
        send(other, "jobs", -1)
        assert values(take(slow)) == values(take(quick)) == [("jobs", -1)]


def test_a_stream_that_falls_behind_keeps_its_connection_and_descriptions(
    fresh_server: Callable[..., Server],
    make_metrics: MakeMetrics,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise it reads all descriptions again, and falls behind again meanwhile."""
    server = fresh_server()
    metrics, other = make_metrics(server.url), make_metrics(server.url)
    hub = hub_of(metrics._store)
    with metrics.subscribe() as stream, server.client() as client:
        for number in range(20):
            send(other, f"depth_{number}")
        take(stream, 20)
        monkeypatch.setattr(inbox_module, "MAX_MESSAGES", 5)
        (connection,) = client.client_list(_type="pubsub")
        step = Describe(namespace, [WantedMetric(0, "depth_7", [], b"")])
        (known,) = hub._descriptions.get(step) or ()
        (inbox,) = hub._relay._inboxes
        with hub._describing:
            send(other, "new")
            for number in range(20):
                send(other, f"depth_{number}", 2)
            wait_until(lambda: inbox._error is not None, "the stream has fallen behind")
        assert [value for _, value in values(take(stream, 21))] == [1, *[2] * 20]
        assert [each["id"] for each in client.client_list(_type="pubsub")] == [connection["id"]]
        assert (hub._descriptions.get(step) or [None])[0] is known
        assert hub._relay._inboxes != [inbox]


@pytest.mark.parametrize(("size", "count"), [(10, 10_000), (MAX_BYTES // 4, 4), (MAX_BYTES * 2, 1)])
def test_an_inbox_is_bounded_in_messages_and_bytes(size: int, count: int) -> None:
    inbox = Inbox(Interest(frozenset(), False, lambda _: True), 1.0)
    message = Message(b"jobs", bytes(size), DecodedBlocks())
    for _ in range(count):
        inbox.put(message)
    taken = inbox._take()
    assert set(taken) == {message}
    for _ in range(len(taken) + 1):
        inbox.put(message)
    with pytest.raises(FellBehind, match="fell behind"):
        inbox._take()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_opens_its_own_connection(
    fresh_server: Callable[..., Server], make_metrics: MakeMetrics
) -> None:
    # A server of its own: connections of earlier tests may end meanwhile.
    server = fresh_server()
    metrics, other = make_metrics(server.url), make_metrics(server.url)
    with metrics.subscribe("jobs") as stream:
        before = connections(server)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                with metrics.subscribe("jobs") as own:
                    assert connections(server) == before + 1
                    send(metrics, "jobs", 1)
                    assert values(take(own)) == [("jobs", 1)]
                    status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        send(other, "jobs", 2)
        assert values(take(stream, 2)) == [("jobs", 1), ("jobs", 2)]


def test_a_stream_can_be_opened_after_a_thread_could_not_be_started(
    metrics: Metrics, other: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "redismetrics-relay":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            metrics.subscribe("jobs")
    found: list[Any] = []

    def read() -> None:
        with metrics.subscribe("jobs") as stream:
            send(other, "jobs", 1)
            found.extend(values(take(stream)))

    # In a thread of its own: it must not wait for the thread that could not be started.
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(PATIENCE)
    assert found == [("jobs", 1)]


def test_clients_and_their_streams_are_collected(url: str, namespace: str) -> None:
    import gc
    import weakref

    async def run() -> weakref.ref[Any]:
        async with AsyncMetrics(url, namespace=namespace) as metrics:
            async with metrics.subscribe("jobs"):
                pass
            return weakref.ref(metrics._store)

    def run_in_threads() -> weakref.ref[Any]:
        with Metrics(url, namespace=namespace) as metrics:
            with metrics.subscribe("jobs"):
                pass
            return weakref.ref(metrics._store)

    stores = [asyncio.run(run()), run_in_threads()]

    def gone() -> bool:
        gc.collect()
        return [store() for store in stores] == [None, None]

    wait_until(gone, "the clients are collected")
