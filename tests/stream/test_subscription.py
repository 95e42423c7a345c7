"""Subscribing, waiting for items, and closing."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from redismetrics import (
    InvalidQuery,
    Metrics,
    Sample,
    ScriptFailed,
    StoreUnavailable,
)
from redismetrics.store import keys
from redismetrics.stream.subscription import Subscription
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.fixtures.streams import gap, patterns, send, take, values
from tests.system.faults.proxy import Proxy

ROOT = Path(__file__).parents[2]


def test_subscribe_returns_when_subscribed(
    server: Server, namespace: str, metrics: Metrics
) -> None:
    names = [f"m{number}" for number in range(300)]
    channels = [keys.channel(namespace, name) for name in names]
    with metrics.subscribe(names), server.client() as client:
        assert dict(client.pubsub_numsub(*channels)) == {
            channel.encode(): 1 for channel in channels
        }
    before = patterns(server)
    with metrics.subscribe(["a", "b*"]):
        assert patterns(server) == before + 1


def test_all_subscriptions_of_a_namespace_are_one_pattern_in_redis(
    server: Server, metrics: Metrics, other: Metrics
) -> None:
    """Redis compares each message with every pattern of every namespace."""
    before = patterns(server)
    with ExitStack() as stack:
        streams = [
            stack.enter_context(metrics.subscribe([f"*{number}{letter}*" for letter in "abcdefgh"]))
            for number in range(5)
        ]
        assert patterns(server) == before + 1
        send(other, "jobs_1a_2b", 5)
        send(other, "jobs_1", 6)
        send(other, "jobs_2b_1a", 7)
        for number in (1, 2):
            assert values(take(streams[number], 2)) == [("jobs_1a_2b", 5), ("jobs_2b_1a", 7)]
        assert streams[0].get(0) is None


@pytest.mark.slow
def test_subscribe_waits_for_the_confirmation(
    server: Server, metrics: Metrics, make_metrics: MakeMetrics
) -> None:
    """Otherwise the subscription could miss what is recorded next."""
    with Proxy(server, unix=True) as proxy:
        late = make_metrics(proxy.url)
        proxy.delay = 0.1
        began = time.monotonic()
        with late.subscribe("depth", types="gauge") as stream:
            assert time.monotonic() - began >= 0.1
            send(metrics, "depth", 5)
            assert values(take(stream)) == [("depth", 5)]


@pytest.mark.parametrize("names", [None, "jobs", "jobs*"])
def test_a_sample_recorded_right_after_is_received(
    metrics: Metrics, other: Metrics, names: Any
) -> None:
    for number in range(20):
        with metrics.subscribe(names) as stream:
            other.increment("jobs", number)
            other.flush()
            assert values(take(stream)) == [("jobs", number)]


def test_samples_recorded_before_are_not_received(metrics: Metrics, other: Metrics) -> None:
    send(other, "depth", 1)
    with metrics.subscribe() as stream:
        send(other, "depth", 2)
        assert values(take(stream)) == [("depth", 2)]


def test_closing_leaves_no_connection_behind(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server()
    with Metrics(server.url) as metrics:
        for _ in range(3):
            with metrics.subscribe():
                wait_until(lambda: patterns(server) == 1, "the server knows of one subscription")
        wait_until(lambda: patterns(server) == 0, "the server knows of no subscription")


@pytest.mark.parametrize("timeout", [0, 0.05, 0.3])
def test_get_returns_none_in_time(metrics: Metrics, timeout: float) -> None:
    with metrics.subscribe() as stream:
        began = time.monotonic()
        assert stream.get(timeout) is None
        assert timeout <= time.monotonic() - began < timeout + PATIENCE


def test_get_with_timeout_0_takes_what_is_there(metrics: Metrics, other: Metrics) -> None:
    with metrics.subscribe(tags={"queue": "mail"}) as stream, metrics.subscribe() as all_of_them:
        send(other, "depth", 1)  # not selected
        send(other, "depth", 2, queue="mail")
        take(all_of_them, 2)
        found: list[Any] = []
        wait_until(
            lambda: found.append(stream.get(0)) or found[-1] is not None, "a sample is received"
        )
        assert found[-1] == all_of_them_last(metrics)
        assert stream.get(0) is None


def all_of_them_last(metrics: Metrics) -> Sample:
    found: list[Sample] = metrics.query("depth", tags={"queue": "mail"})
    return found[-1]


def test_get_without_timeout_waits_for_an_item(metrics: Metrics, other: Metrics) -> None:
    with metrics.subscribe() as stream:
        timer = threading.Timer(0.5, send, (other, "depth", 7))
        timer.start()
        item = stream.get()
        timer.join()
        assert isinstance(item, Sample)
        assert item.value == 7


def test_close_from_another_thread_ends_an_iteration(metrics: Metrics, other: Metrics) -> None:
    """Whatever it is doing at that moment: waiting, reading, or reading the series."""
    for number in range(12):
        stream = metrics.subscribe()
        found: list[Any] = []
        failed: list[BaseException] = []

        def read(
            stream: Subscription = stream, found: list[Any] = found, failed: list[Any] = failed
        ) -> None:
            try:
                found.extend(stream)
            except BaseException as error:  # noqa: BLE001  # the test fails with it
                failed.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        if number % 3:
            other.gauge("depth", number, tags={"n": number})
            other.flush()
        if number % 3 == 2:
            wait_until(lambda: found, "a sample is received")  # noqa: B023
        time.sleep(number % 5 / 1000)
        stream.close()
        reader.join(PATIENCE)
        assert not reader.is_alive()
        assert failed == []
        assert stream.get(0) is None


def test_close_ends_a_get_at_once(metrics: Metrics) -> None:
    stream = metrics.subscribe()
    timer = threading.Timer(0.1, stream.close)
    began = time.monotonic()
    timer.start()
    assert stream.get(2 * PATIENCE) is None
    assert time.monotonic() - began < PATIENCE
    timer.join()


def test_a_closed_subscription_yields_nothing(metrics: Metrics, other: Metrics) -> None:
    stream = metrics.subscribe()
    other.gauge("depth", 1)
    other.gauge("depth", 2)
    other.flush()
    assert take(stream)[0].value == 1  # and the second one is queued
    stream.close()
    stream.close()
    assert stream.get() is None
    assert list(stream) == []
    with stream as same:
        assert same is stream


def test_an_unreachable_server_raises_at_once() -> None:
    with Metrics("redis://127.0.0.1:1/0") as metrics, pytest.raises(StoreUnavailable):
        metrics.subscribe()


def test_a_client_of_none_cannot_subscribe() -> None:
    with Metrics("none://") as metrics, pytest.raises(InvalidQuery, match="none://"):
        metrics.subscribe()


def test_a_user_without_permission_gets_an_error_and_leaves_no_connection(
    fresh_server: Callable[..., Server],
) -> None:
    server = fresh_server(port=True)
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "deaf", "on", ">secret", "~*", "resetchannels", "+@all"
        )
        with Metrics(f"redis://deaf:secret@127.0.0.1:{server.port}/0") as metrics:
            for options in ({}, {"names": ["a", "b*"]}):
                with pytest.raises(ScriptFailed, match=r"(?i)perm|channel"):
                    metrics.subscribe(**options)
            users = lambda: [each["user"] for each in client.client_list()]  # noqa: E731
            wait_until(
                lambda: users().count("deaf") == 1,
                "the rejected connections are closed, not the one for queries",
            )
            assert "default" in users()


def test_a_slow_reader_gets_a_gap_that_counts_what_it_missed(
    metrics: Metrics, other: Metrics
) -> None:
    with metrics.subscribe(queue=10) as stream:
        for number in range(50):
            other.gauge("depth", number)
            other.increment("jobs", 1)
            other.increment("jobs", 1)
            other.flush()  # two items, three samples
        wait_until(lambda: stream.missed == 3 * 45, "everything was received")
        hole = gap(stream)
        assert hole.missed == 135
        assert hole.since <= hole.until <= datetime.now(UTC)
        assert values(take(stream, 10)) == [
            each for number in range(45, 50) for each in (("depth", number), ("jobs", 1))
        ]
        send(other, "depth", 99)
        assert values(take(stream)) == [("depth", 99)]
        assert stream.missed == 135


def test_two_subscriptions_of_one_client_each_get_everything(
    metrics: Metrics, other: Metrics
) -> None:
    with metrics.subscribe("depth") as one, metrics.subscribe(["dep*"]) as two:
        send(other, "depth", 1)
        assert take(one) == take(two)
        one.close()
        send(other, "depth", 2)
        assert values(take(two)) == [("depth", 2)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_samples_of_a_forked_child_arrive(metrics: Metrics) -> None:
    with metrics.subscribe("jobs") as stream:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                metrics.increment("jobs", 3, tags={"who": "child"})
                metrics.flush()
                # Otherwise a loop that reads until it is closed would never end and never wait.
                assert stream.closed
                assert stream.get(PATIENCE) is None
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        (sample,) = take(stream)
        assert (sample.value, sample.tags) == (3, {"who": "child"})
        metrics.increment("jobs", 4, tags={"who": "parent"})
        metrics.flush()
        assert take(stream)[0].tags == {"who": "parent"}
