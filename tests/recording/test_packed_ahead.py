"""A batch packed while the server works on another is packed again if the reply says so."""

from collections.abc import Callable
from typing import Any

import pytest

from redismetrics import Gauge, Metrics
from redismetrics.recording import write
from redismetrics.recording.write import WriteReply, WriteRequest
from redismetrics.store.driver import Operation
from tests.fixtures.servers import Server
from tests.recording.helpers import NEVER, Make, balanced, collect


def send_two(metrics: Metrics, first: Callable[[], object], second: Callable[[], object]) -> None:
    """Send what the two functions record as two batches, the second one packed ahead."""
    sink = metrics._sink
    with sink.sending.lock:
        first()
        collect(metrics)
        sink.send_queue.lines[0][0].alone = True
        second()
        collect(metrics)
        sink.sender.send_all()
    metrics.flush()


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], bool]]:
    """What each reply says, from now on: reasons of refusals, and whether a batch was ahead."""
    found: list[tuple[list[str], bool]] = []
    record = write.record

    def recording(sent: WriteRequest, meanwhile: Any) -> Operation[WriteReply]:
        reply = yield from record(sent, meanwhile)
        sender = meanwhile.func.__self__
        found.append(([reason for _, reason, _ in reply.problems], bool(sender._ahead)))
        return reply

    monkeypatch.setattr(write, "record", recording)
    return found


def test_a_batch_is_packed_while_another_is_sent(
    make: Make, replies: list[tuple[list[str], bool]]
) -> None:
    metrics = make(flush_interval=NEVER)
    for _ in range(2):
        send_two(
            metrics,
            lambda: metrics.increment("jobs", 2, tags={"a": "b"}),
            lambda: metrics.increment("more", 3, tags={"a": "b"}),
        )
    # At first the catalogue must be asked.
    assert replies == [([], False), ([], False), ([], True), ([], False)]
    assert balanced(metrics)["stored"] == 4
    assert metrics.query("jobs", aggregation="sum") == 4
    assert metrics.query("more", aggregation="sum") == 6


def test_refused_samples_go_before_those_packed_ahead(
    make: Make, replies: list[tuple[list[str], bool]]
) -> None:
    metrics, other = make(flush_interval=NEVER), make(flush_interval=NEVER)
    gauge = Gauge("depth", {"a": "b"}, metrics=metrics)
    gauge.set(1)
    metrics.flush()
    assert other.delete_series("depth", {"a": "b"}) == 1
    send_two(metrics, lambda: gauge.add(3), lambda: gauge.set(7))
    assert replies[1] == (["unknown_series"], True)
    assert [reasons for reasons, _ in replies[2:]] == [[]] * len(replies[2:])
    (family,) = metrics.live("depth")
    assert [series.value for series in family.series] == [7]
    assert balanced(metrics)["stored"] == 3


def test_a_batch_packed_ahead_is_repacked_if_redis_lost_its_ids(
    make: Make, fresh_server: Callable[..., Server], replies: list[tuple[list[str], bool]]
) -> None:
    server = fresh_server()
    metrics = make(server.url, flush_interval=NEVER)
    other = make(server.url, flush_interval=NEVER)
    metrics.increment("jobs", tags={"a": "ours"})
    metrics.increment("more")
    metrics.flush()
    with server.client() as direct:
        direct.flushall()
    # The other process's series gets the id that ours had.
    other.increment("jobs", 100, tags={"a": "theirs"})
    other.flush()
    send_two(
        metrics,
        # It names no id, so it is not refused.
        lambda: metrics.increment("more", tags={"new": "series"}),
        lambda: metrics.increment("jobs", 7, tags={"a": "ours"}),
    )
    assert replies[2:] == [([], True), ([], False)]
    assert metrics.query("jobs", aggregation="sum", group_by="a") == [
        {"a": "ours", "sum": 7},
        {"a": "theirs", "sum": 100},
    ]
    assert balanced(metrics)["lost_batches"] == 1
