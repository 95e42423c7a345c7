"""The live stream: what arrives, once and whole, what is left out, and what it says when it may have missed something."""

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from redismetrics import (
    FormatMismatch,
    Gap,
    Gauge,
    InvalidQuery,
    Metrics,
    Sample,
    ScriptFailed,
    StoreUnavailable,
    Summary,
)
from redismetrics.store import keys
from redismetrics.stream.feed import Feed
from redismetrics.stream.subscription import Subscription
from tests.fixtures.exposition import HOSTILE_VALUES
from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.fixtures.workers import new_worker
from tests.system.faults.proxy import Proxy

ROOT = Path(__file__).parents[2]
NEVER = 3_600.0  # a flush interval beyond any test: what is flushed is flushed by the test

Make = Callable[..., Metrics]


@pytest.fixture
def make(url: str, namespace: str) -> Iterator[Make]:
    """Return a function that makes clients of this test's namespace, closed at its end."""
    made: list[Metrics] = []

    def client(to: str = url, **settings: Any) -> Metrics:
        made.append(Metrics(to, namespace=namespace, flush_interval=NEVER, **settings))
        return made[-1]

    yield client
    for client_ in made:
        client_.close(0.5)


@pytest.fixture
def metrics(make: Make) -> Metrics:
    return make()


@pytest.fixture
def other(make: Make) -> Metrics:
    """A second client of the same namespace, as in another process."""
    return make()


def take(stream: Subscription, count: int = 1) -> list[Sample]:
    """The next samples, each within seconds; a Gap among them is a failure."""
    items = [stream.get(PATIENCE) for _ in range(count)]
    samples = [item for item in items if isinstance(item, Sample)]
    assert len(samples) == count, items
    return samples


def gap(stream: Subscription) -> Gap:
    item = stream.get(PATIENCE)
    assert isinstance(item, Gap), item
    return item


def values(samples: list[Sample]) -> list[tuple[str, float]]:
    return [(sample.name, sample.value) for sample in samples]


def send(metrics: Metrics, name: str, value: float = 1.0, **tags: Any) -> None:
    """Record a gauge and see it stored, as a batch of its own."""
    metrics.gauge(name, value, tags=tags)
    metrics.flush()


def patterns(server: Server) -> int:
    """How many patterns all clients of the server are subscribed to."""
    with server.client() as client:
        return int(client.pubsub_numpat())


# -- subscribed ---------------------------------------------------------------------------------------------------


def test_it_is_subscribed_when_the_call_returns(
    server: Server, namespace: str, metrics: Metrics
) -> None:
    names = [f"m{number}" for number in range(300)]
    channels = [keys.channel(namespace, name) for name in names]
    before = patterns(server)
    with metrics.subscribe([*names, "a*", "b*"]), server.client() as client:
        assert dict(client.pubsub_numsub(*channels)) == {
            channel.encode(): 1 for channel in channels
        }
        assert patterns(server) == before + 2


def test_it_waits_for_the_server_to_confirm(server: Server, metrics: Metrics, make: Make) -> None:
    """A subscription that only was sent might miss what is recorded next."""
    with Proxy(server, unix=True) as proxy:
        late = make(proxy.url)
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


def test_what_was_recorded_before_is_not_received(metrics: Metrics, other: Metrics) -> None:
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


# -- which samples ------------------------------------------------------------------------------------------------

NAMES = ("jobs", "jobs_done", "jobs.done", "job", "queue/depth", "a:b", "zz")


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (None, NAMES),
        ("jobs", ("jobs",)),
        (["jobs", "zz"], ("jobs", "zz")),
        (("zz", "nobody"), ("zz",)),
        ("jobs*", ("jobs", "jobs_done", "jobs.done")),
        ("jobs?done", ("jobs_done", "jobs.done")),
        ("job[s]", ("jobs",)),
        ("*[^sz]", ("jobs_done", "jobs.done", "job", "queue/depth", "a:b")),
        ("a:*", ("a:b",)),
        ("*/*", ("queue/depth",)),
        (["zz", "j*_*"], ("jobs_done", "zz")),
        (iter(["zz"]), ("zz",)),
    ],
)
def test_names_and_patterns_choose_metrics(
    metrics: Metrics, other: Metrics, names: Any, wanted: tuple[str, ...]
) -> None:
    with metrics.subscribe(names) as stream:
        for value, name in enumerate(NAMES):
            send(other, name, value)
        assert values(take(stream, len(wanted))) == [
            (name, NAMES.index(name)) for name in NAMES if name in wanted
        ]
        last = wanted[0]
        send(other, last, 99)  # so nothing came between
        assert values(take(stream)) == [(last, 99)]


@pytest.mark.parametrize(
    "names",
    [["jobs", "jobs*"], ["j*", "*s"], ["jobs", "jobs"], ["jobs", "*", "j*", "?obs", "[a-z]obs"]],
)
def test_names_and_patterns_that_overlap_deliver_once(
    metrics: Metrics, other: Metrics, names: list[str]
) -> None:
    with metrics.subscribe(names) as stream:
        for value in range(3):
            other.gauge("jobs", value)
            other.gauge("j_s", value)  # between, in the same batch
            other.flush()
        found = [
            sample for sample in take(stream, 6 if "j*" in names else 3) if sample.name == "jobs"
        ]
        assert values(found) == [("jobs", 0), ("jobs", 1), ("jobs", 2)]
        send(other, "jobs", 9)
        assert values(take(stream)) == [("jobs", 9)]


def test_another_namespace_is_not_received(url: str, metrics: Metrics, other: Metrics) -> None:
    with (
        metrics.subscribe("*") as stream,
        Metrics(url, namespace=f"{metrics.settings.namespace}2") as longer,
        Metrics(url, namespace=metrics.settings.namespace[:-1]) as shorter,
    ):
        send(longer, "depth", 1)
        send(shorter, "depth", 2)
        send(other, "depth", 3)
        assert values(take(stream)) == [("depth", 3)]


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ({"queue": "mail"}, [0, 1]),
        ({"queue": "mail", "n": 1}, [0]),
        ({"n": 1}, [0, 2]),
        ({"n": None}, [1, 3]),  # as in a question: without the tag
        ({"queue": "mail", "n": None}, [1]),
        ({}, [0, 1, 2, 3]),
        (None, [0, 1, 2, 3]),
        ({"queue": "nobody"}, []),
    ],
)
def test_tags_choose_series(metrics: Metrics, other: Metrics, tags: Any, wanted: list[int]) -> None:
    series: list[dict[str, Any]] = [
        {"queue": "mail", "n": 1},
        {"queue": "mail"},
        {"queue": "audio", "n": 1},
        {},
    ]
    with metrics.subscribe("depth", tags=tags) as stream, metrics.subscribe("depth") as all_of_them:
        for value, of_series in enumerate(series):
            other.gauge("depth", value, tags=of_series)
        other.flush()
        take(all_of_them, 4)
        found: list[Any] = []
        while len(found) < len(wanted) or (item := stream.get(0.05)) is not None:
            found.append(stream.get(PATIENCE) if len(found) < len(wanted) else item)
        assert [sample.value for sample in found] == wanted
        assert [sample.value for sample in metrics.query("depth", tags=tags)] == wanted


@pytest.mark.parametrize(
    ("types", "wanted"),
    [
        (None, ["counter", "gauge", "histogram"]),
        ("gauge", ["gauge"]),
        (["counter", "histogram"], ["counter", "histogram"]),
        (iter(["gauge"]), ["gauge"]),
    ],
)
def test_types_choose_metrics(
    metrics: Metrics, other: Metrics, types: Any, wanted: list[str]
) -> None:
    with metrics.subscribe(types=types) as stream:
        for value in (1, 2):
            other.increment("jobs", value)
            other.gauge("depth", value)
            other.histogram("took", value)
            other.flush()
        assert [(sample.type, sample.value) for sample in take(stream, 2 * len(wanted))] == [
            (kind, value) for value in (1, 2) for kind in wanted
        ]


# -- what a sample holds ------------------------------------------------------------------------------------------


def test_increments_counted_together_arrive_as_one_sample_with_its_count(
    metrics: Metrics, other: Metrics
) -> None:
    with metrics.subscribe("jobs") as stream:
        for _ in range(352):
            other.increment("jobs", tags={"queue": "mail"})
        other.increment("jobs", 5, tags={"queue": "audio"})
        before = time.time()
        other.flush()
        one, five = take(stream, 2)
    assert (one.name, one.type, one.value, one.count, one.tags) == (
        "jobs",
        "counter",
        1,
        352,
        {"queue": "mail"},
    )
    assert (five.value, five.count, five.tags) == (5, 1, {"queue": "audio"})
    assert one.metadata == {}
    assert not one.approximate
    assert one.timestamp.tzinfo is UTC
    assert abs(one.timestamp.timestamp() - before) < 5


def test_a_change_of_a_gauge_arrives_as_its_resulting_value(
    metrics: Metrics, other: Metrics
) -> None:
    with metrics.subscribe("depth") as stream:
        for client, change in ((metrics, 5), (other, 2.5), (metrics, -1)):
            handle = Gauge("depth", {"queue": "mail"}, metrics=client)
            handle.add(change)
            handle.add(1)
            client.flush()
        assert [sample.value for sample in take(stream, 3)] == [6, 9.5, 9.5]


def test_a_time_and_metadata_of_its_own_come_along(metrics: Metrics, other: Metrics) -> None:
    when = datetime.fromtimestamp(time.time() // 1 - 600, UTC).replace(microsecond=123_000)
    with metrics.subscribe() as stream:
        other.increment("jobs", timestamp=when)
        other.gauge("depth", 2, metadata={"note": "ü", "n": [1, None]})
        other.histogram(
            "took", 0.25, timestamp=when, metadata={"trace_id": "a"}, tags={"queue": "mail"}
        )
        other.flush()
        jobs, depth, took = take(stream, 3)
    assert (jobs.timestamp, jobs.metadata) == (when, {})
    assert depth.metadata == {"note": "ü", "n": [1, None]}
    assert took == Sample("took", "histogram", 0.25, 1, {"queue": "mail"}, when, {"trace_id": "a"})


def test_what_is_streamed_is_what_is_stored(metrics: Metrics, other: Metrics) -> None:
    with metrics.subscribe("took") as stream:
        for number in range(500):
            other.histogram("took", number / 8, tags={"n": number % 7})
        other.flush()
        found = take(stream, 500)
    key = lambda sample: (sample.tags["n"], sample.value)  # noqa: E731
    assert sorted(found, key=key) == sorted(metrics.query("took"), key=key)


def test_compacted_samples_arrive_as_centroids_that_count_all(metrics: Metrics, make: Make) -> None:
    other = make(samples_per_flush=20)
    with metrics.subscribe("took") as stream:
        for number in range(1_000):
            other.histogram("took", number)
        other.flush()
        send(other, "end")
        found = take(stream)
        while sum(sample.count for sample in found) < 1_000:
            found += take(stream)
    assert len(found) <= 40  # the 1,000 may lie in two minutes
    assert sum(sample.count for sample in found) == 1_000
    assert sum(sample.count * sample.value for sample in found) == pytest.approx(sum(range(1_000)))
    assert all(sample.approximate == (sample.count > 1) for sample in found)
    assert any(sample.approximate for sample in found)


def test_any_tag_value_comes_back_exactly(metrics: Metrics, other: Metrics) -> None:
    assert len(HOSTILE_VALUES) > 10
    with metrics.subscribe() as stream:
        for value in HOSTILE_VALUES:
            other.gauge(
                "depth", 1, tags={"value": value, value if value in ("le", "a.b") else "key": "x"}
            )
        other.flush()
        assert [
            sample.tags["value"] for sample in take(stream, len(HOSTILE_VALUES))
        ] == HOSTILE_VALUES


# -- who records, and what comes later ----------------------------------------------------------------------------

CHILD = """
import sys
from redismetrics import Metrics
with Metrics(sys.argv[1], namespace=sys.argv[2], tags={"process": sys.argv[3]}) as metrics:
    for amount in range(1, 4):
        metrics.increment("jobs", amount)
        metrics.flush()
"""


def test_the_samples_of_all_clients_and_processes_arrive_in_order(
    url: str, namespace: str, metrics: Metrics, other: Metrics
) -> None:
    with metrics.subscribe("jobs") as stream:
        children = [
            subprocess.Popen([sys.executable, "-c", CHILD, url, namespace, str(number)], cwd=ROOT)
            for number in range(2)
        ]
        for amount in (1, 2, 3):
            for client, process in ((metrics, "here"), (other, "there")):
                client.increment("jobs", amount, tags={"process": process})
                client.flush()
        assert [child.wait(PATIENCE) for child in children] == [0, 0]
        found = take(stream, 12)
    for process in ("0", "1", "here", "there"):
        assert [sample.value for sample in found if sample.tags["process"] == process] == [1, 2, 3]


def test_metrics_and_series_that_come_later_are_known(metrics: Metrics, other: Metrics) -> None:
    with metrics.subscribe() as stream:
        send(other, "depth", 1)
        send(other, "depth", 2, queue="mail")  # a new series of a metric it knows
        send(metrics, "took", 3, queue="audio")  # a new metric, from another client
        send(other, "depth", 4, queue="mail")
        assert [(sample.name, sample.value, sample.tags) for sample in take(stream, 4)] == [
            ("depth", 1, {}),
            ("depth", 2, {"queue": "mail"}),
            ("took", 3, {"queue": "audio"}),
            ("depth", 4, {"queue": "mail"}),
        ]


@pytest.mark.parametrize("how", ["delete_metric", "clear"])
def test_what_is_recorded_after_a_deletion_has_the_right_tags(
    metrics: Metrics, other: Metrics, how: str
) -> None:
    with metrics.subscribe() as stream:
        send(other, "depth", 1, queue="mail")
        send(other, "depth", 2, queue="audio")
        take(stream, 2)
        assert (
            metrics.delete_metric("depth")
            if how == "delete_metric"
            else metrics.clear(confirm=True) == 1
        )
        send(metrics, "depth", 3, queue="audio")
        send(other, "depth", 4, queue="mail")
        send(other, "depth", 5, queue="new")
        assert [(sample.value, sample.tags["queue"]) for sample in take(stream, 3)] == [
            (3, "audio"),
            (4, "mail"),
            (5, "new"),
        ]


def test_a_deleted_metric_comes_back_as_another_type(metrics: Metrics, make: Make) -> None:
    with metrics.subscribe() as stream, metrics.subscribe(types="counter") as counters:
        send(make(), "jobs", 1)
        assert take(stream)[0].type == "gauge"
        assert metrics.delete_metric("jobs")
        with make() as other:
            other.increment("jobs", 2)
            other.flush()
            assert (found := take(stream)[0]).type == "counter"
            assert take(counters) == [found]


# -- waiting, and the end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 0.05, 0.3])
def test_get_returns_none_in_time(metrics: Metrics, timeout: float) -> None:
    with metrics.subscribe() as stream:
        began = time.monotonic()
        assert stream.get(timeout) is None
        assert timeout <= time.monotonic() - began < timeout + 1


def test_get_without_time_takes_what_is_there(metrics: Metrics, other: Metrics) -> None:
    with metrics.subscribe(tags={"queue": "mail"}) as stream, metrics.subscribe() as all_of_them:
        send(other, "depth", 1)  # not chosen, and in the way
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


def test_get_waits_as_long_as_it_takes(metrics: Metrics, other: Metrics) -> None:
    with metrics.subscribe() as stream:
        timer = threading.Timer(0.5, send, (other, "depth", 7))
        timer.start()
        item = stream.get()
        timer.join()
        assert isinstance(item, Sample)
        assert item.value == 7


def test_close_from_another_thread_ends_an_iteration(metrics: Metrics, other: Metrics) -> None:
    """Whatever it is doing at that moment: waiting, reading, or looking up a series."""
    for number in range(12):
        stream = metrics.subscribe()
        found: list[Any] = []
        failed: list[BaseException] = []

        def read(
            stream: Subscription = stream, found: list[Any] = found, failed: list[Any] = failed
        ) -> None:
            try:
                found.extend(stream)
            except BaseException as error:  # noqa: BLE001  # told by the test
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
    assert stream.get(PATIENCE) is None
    assert time.monotonic() - began < 2
    timer.join()


def test_after_close_there_is_nothing(metrics: Metrics, other: Metrics) -> None:
    stream = metrics.subscribe()
    other.gauge("depth", 1)
    other.gauge("depth", 2)
    other.flush()
    assert take(stream)[0].value == 1  # and the other is held already
    stream.close()
    stream.close()
    assert stream.get() is None
    assert list(stream) == []
    with stream as same:
        assert same is stream


# -- wrong arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"names": []}, "at least one"),
        ({"names": ""}, "names"),
        ({"names": "a b"}, "names"),
        ({"names": "jobs\\*"}, "names"),
        ({"names": "jöbs"}, "names"),
        ({"names": "jobs\n"}, "names"),
        ({"names": "9"}, "metric name"),
        ({"names": "a]"}, "metric name"),
        ({"names": "x" * 201}, "names"),
        ({"names": 5}, "names"),
        ({"names": [5]}, "names"),
        ({"names": ["jobs", None]}, "names"),
        ({"names": b"jobs"}, "names"),
        ({"types": "meter"}, "type"),
        ({"types": ["gauge", "Gauge"]}, "type"),
        ({"types": []}, "type"),
        ({"types": 5}, "type"),
        ({"types": [None]}, "type"),
        ({"tags": "a=b"}, "tags"),
        ({"tags": {"a b": "c"}}, "tag key"),
        ({"tags": {"a b": None}}, "tag key"),
        ({"tags": {"a": []}}, "tag"),
        ({"tags": {5: "x"}}, "tag key"),
        ({"every": 0}, "every"),
        ({"every": "5"}, "every"),
        ({"every": float("inf")}, "every"),
        ({"every": float("nan")}, "every"),
        ({"queue": 0}, "queue"),
        ({"queue": 1.5}, "queue"),
        ({"queue": True}, "queue"),
    ],
)
def test_a_wrong_argument_is_told_before_anything_is_connected(
    options: dict[str, Any], says: str
) -> None:
    with Metrics("redis://127.0.0.1:1/0") as metrics, pytest.raises(InvalidQuery, match=says):
        metrics.subscribe(**options)


def test_without_a_server_it_says_so_at_once() -> None:
    with Metrics("redis://127.0.0.1:1/0") as metrics, pytest.raises(StoreUnavailable):
        metrics.subscribe()


def test_a_client_of_no_store_has_nothing_to_subscribe_to() -> None:
    with Metrics("none://") as metrics, pytest.raises(InvalidQuery, match="none://"):
        metrics.subscribe()


def test_a_user_who_may_not_subscribe_is_told_and_leaves_no_connection(
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
                "the refused connections are closed, not the one for asking",
            )
            assert "default" in users()


# -- cuts ---------------------------------------------------------------------------------------------------------


def moment() -> datetime:
    return datetime.now(UTC)


def test_a_restart_of_the_server_is_no_gap_when_the_logs_have_all(
    fresh_server: Callable[..., Server], make: Make
) -> None:
    server = fresh_server()
    metrics, other = make(server.url), make(server.url)
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


@pytest.mark.parametrize("ping_after", [0.05, 60])
def test_a_connection_that_died_silently_is_detected_by_a_ping(
    fresh_server: Callable[..., Server], make: Make, ping_after: float
) -> None:
    server = fresh_server(port=True)
    other = make(server.url)
    with Proxy(server) as proxy:
        stream = subscribe_with_ping(make(proxy.url), ping_after)
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


def test_a_quiet_connection_that_lives_is_kept(metrics: Metrics, other: Metrics) -> None:
    with subscribe_with_ping(metrics, 0.05) as stream:
        assert stream.get(timeout=0.5) is None  # ten times as long
        send(other, "depth", 1)
        assert [sample.value for sample in take(stream)] == [1]


@pytest.mark.parametrize("names", [["jobs", "jobs2"], "j*", None])
def test_what_is_recorded_while_the_line_is_cut_is_caught_up_in_order(
    server: Server, make: Make, other: Metrics, names: Any
) -> None:
    with Proxy(server, unix=True) as proxy, make(proxy.url).subscribe(names) as stream:
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


def test_killed_in_the_midst_of_recording_every_sample_comes_once_and_in_the_order_of_its_writer(
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


def test_a_block_whose_series_could_not_be_looked_up_is_caught_up(
    server: Server, metrics: Metrics, make: Make
) -> None:
    with (
        Proxy(server, unix=True) as proxy,
        make(proxy.url, socket_timeout=0.5).subscribe() as stream,
    ):
        proxy.cut_requests(2, when=lambda request: b":catalogue" in request)  # and its one retry
        send(metrics, "depth", 1)
        assert values(take(stream)) == [("depth", 1)]
        assert proxy.cut == 2
        send(metrics, "depth", 2)
        assert values(take(stream)) == [("depth", 2)]


def test_of_a_cut_the_bytes_of_the_log_do_not_reach_over_the_rest_comes_after_a_gap(
    server: Server, make: Make
) -> None:
    writer = make(log_bytes=1 << 16)
    with Proxy(server, unix=True) as proxy, make(proxy.url).subscribe("note") as stream:
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
def test_a_cut_longer_than_the_replay_window_is_exactly_one_gap(
    moving_server: Server, namespace: str, make: Make, seconds: float
) -> None:
    server = moving_server
    clock = lambda: server.time  # noqa: E731
    writer, sealing = make(server.url, clock=clock), new_worker(server.url, namespace)
    with Proxy(server, unix=True) as proxy, make(proxy.url, clock=clock).subscribe() as stream:
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
            wanted = [("a", 2), ("c", 2)]
        else:
            wanted = [("a", 1), ("b", 1), ("a", 2), ("c", 2)]
        assert values(take(stream, len(wanted))) == wanted
        send(writer, "b", 3)
        assert values(take(stream)) == [("b", 3)]
        proxy.disconnect()  # told once
        send(writer, "b", 4)
        assert values(take(stream)) == [("b", 4)]
    sealing.leave()
    sealing.store.close()


def test_a_server_that_lost_its_data_is_a_gap_and_does_not_mix_up_series(
    fresh_server: Callable[..., Server], make: Make
) -> None:
    """Series begin at 0 again there."""
    server = fresh_server()
    metrics = make(server.url)
    with metrics.subscribe() as stream:
        send(make(server.url), "depth", 1, queue="mail")
        take(stream)
        server.stop()
        server.forget()
        server.restart()
        send(
            make(server.url), "depth", 2, queue="audio"
        )  # before the stream is back, perhaps: the clock doesn't tell
        gap(stream)
        (sample,) = take(stream)
        assert (sample.value, sample.tags) == (2, {"queue": "audio"})


def test_close_ends_the_wait_for_a_server_that_is_gone(
    fresh_server: Callable[..., Server], make: Make
) -> None:
    server = fresh_server()
    stream = make(server.url).subscribe()
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


def test_what_a_user_may_not_do_any_more_is_told_once_and_goes_on_when_he_may(
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


# -- a slow reader, and summaries ---------------------------------------------------------------------------------


def test_a_slow_reader_is_told_how_much_it_missed(metrics: Metrics, other: Metrics) -> None:
    with metrics.subscribe(queue=10) as stream:
        for number in range(50):
            other.gauge("depth", number)
            other.increment("jobs", 1)
            other.increment("jobs", 1)
            other.flush()  # two items, three samples
        wait_until(lambda: stream.missed == 3 * 45, "all has come")
        hole = gap(stream)
        assert hole.missed == 135
        assert hole.since <= hole.until <= moment()
        assert values(take(stream, 10)) == [
            each for number in range(45, 50) for each in (("depth", number), ("jobs", 1))
        ]
        send(other, "depth", 99)
        assert values(take(stream)) == [("depth", 99)]
        assert stream.missed == 135


def test_what_is_caught_up_waits_for_a_reader_and_is_not_dropped(
    server: Server, make: Make, other: Metrics
) -> None:
    with Proxy(server, unix=True) as proxy, make(proxy.url).subscribe(queue=2) as stream:
        proxy.deaf = True
        proxy.disconnect()
        for number in range(40):
            send(other, "depth", number)
        proxy.deaf = False
        proxy.disconnect()
        assert [sample.value for sample in take(stream, 40)] == list(range(40))
        assert stream.missed == 0


def test_summaries_count_every_sample_once(metrics: Metrics, make: Make) -> None:
    other = make(samples_per_flush=20)
    with metrics.subscribe(["took", "jobs"], tags={"queue": "mail"}, every=0.2) as stream:
        for number in range(1_000):
            other.histogram("took", number, tags={"queue": "mail"})
            other.histogram("took", number, tags={"queue": "audio"})
            other.increment("jobs", 2, tags={"queue": "mail"})
            if number % 250 == 249:
                other.flush()
        found: list[Any] = []
        while sum(each.count for each in found) < 2_000:
            found.append(stream.get(PATIENCE))
            assert isinstance(found[-1], Summary), found[-1]
    took, jobs = ([each for each in found if each.name == name] for name in ("took", "jobs"))
    assert (sum(each.sum for each in took), sum(each.sum for each in jobs)) == (
        sum(range(1_000)),
        2_000,
    )
    assert (min(each.min for each in took), max(each.max for each in took)) == (0, 999)
    assert (took[-1].last, took[-1].type, took[-1].tags, jobs[0].mean) == (
        999,
        "histogram",
        {"queue": "mail"},
        2,
    )
    for of_metric in (took, jobs):
        assert all(one.until <= two.since for one, two in itertools.pairwise(of_metric))
        assert all(each.since < each.until for each in of_metric)
        assert all(round(each.until.timestamp() * 1000) % 200 == 0 for each in of_metric)


# -- what is no sample --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("junk", [b"junk", b"\x99" * 50, b"\xff" * 500, b"\0"])
@pytest.mark.parametrize("names", ["depth", None])
def test_a_message_that_can_t_be_read_is_told_and_the_next_goes_on(
    server: Server, namespace: str, metrics: Metrics, other: Metrics, names: Any, junk: bytes
) -> None:
    with metrics.subscribe(names) as stream, server.client() as client:
        send(other, "depth", 1)
        assert client.publish(keys.channel(namespace, "depth"), junk) == 1
        send(other, "depth", 2)
        assert values(take(stream)) == [("depth", 1)]
        with pytest.raises(FormatMismatch, match=r"^block: "):
            stream.get(PATIENCE)
        assert values(take(stream)) == [("depth", 2)]


def test_a_message_that_can_t_be_read_ends_no_iteration_for_good(
    server: Server, namespace: str, metrics: Metrics, other: Metrics
) -> None:
    with metrics.subscribe() as stream, server.client() as client:
        client.publish(keys.channel(namespace, "depth"), b"junk")
        send(other, "depth", 2)
        with pytest.raises(FormatMismatch):
            next(iter(stream))
        item = next(iter(stream))
        assert isinstance(item, Sample)
        assert item.value == 2


def test_an_empty_message_is_ignored(
    server: Server, namespace: str, metrics: Metrics, other: Metrics
) -> None:
    """record.lua tries its rights on Redis 6.2 with one."""
    with metrics.subscribe() as stream, server.client() as client:
        assert client.publish(keys.channel(namespace, "depth"), b"") == 1
        send(other, "depth", 2)
        assert values(take(stream)) == [("depth", 2)]


def test_the_samples_of_a_metric_deleted_before_they_were_read_are_skipped(
    server: Server, make: Make, metrics: Metrics, other: Metrics
) -> None:
    """Nobody can tell any more what series they were of."""
    with Proxy(server, unix=True) as proxy, make(proxy.url).subscribe() as stream:
        send(other, "other", 0)
        take(stream)
        proxy.deaf = True
        proxy.disconnect()
        send(other, "depth", 1, queue="mail")
        assert metrics.delete_metric("depth")
        send(other, "depth", 2, queue="mail")
        proxy.deaf = False
        proxy.disconnect()
        assert values(take(stream)) == [("depth", 2)]


# -- several ------------------------------------------------------------------------------------------------------


def test_two_streams_of_one_client_each_get_all(metrics: Metrics, other: Metrics) -> None:
    with metrics.subscribe("depth") as one, metrics.subscribe(["dep*"]) as two:
        send(other, "depth", 1)
        assert take(one) == take(two)
        one.close()
        send(other, "depth", 2)
        assert values(take(two)) == [("depth", 2)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_what_a_forked_child_records_arrives(metrics: Metrics) -> None:
    with metrics.subscribe("jobs") as stream:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                metrics.increment("jobs", 3, tags={"who": "child"})
                metrics.flush()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        (sample,) = take(stream)
        assert (sample.value, sample.tags) == (3, {"who": "child"})
        metrics.increment("jobs", 4, tags={"who": "parent"})
        metrics.flush()
        assert take(stream)[0].tags == {"who": "parent"}
