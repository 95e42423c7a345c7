"""Messages that a stranger may publish: large, crafted or unreadable ones don't spoil a stream."""

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from redismetrics import AsyncMetrics, FormatMismatch, Gap, Metrics, Sample
from redismetrics.columnar import block_codec
from redismetrics.columnar.block_codec import Block
from redismetrics.model.time import to_datetime
from redismetrics.store import keys
from redismetrics.stream import block_samples
from redismetrics.stream.block_samples import build_samples
from redismetrics.stream.delivery import DeliveryQueue
from redismetrics.stream.messages import LARGE
from redismetrics.stream.sizes import item_bytes, metadata_bytes
from tests.fixtures.servers import PATIENCE, Server
from tests.fixtures.streams import FAR, crafted, gap, send, take, values


def block_of(rows: int, **columns: Any) -> Block:
    return block_codec.unpack(crafted(rows, **columns))


def built(block: Block, limit: int = 100, max_bytes: int = 1 << 20, **tags: str) -> Any:
    return build_samples("jobs", "gauge", block, [tags], limit, max_bytes)


def test_only_the_newest_samples_of_a_block_are_built_and_the_others_are_a_gap() -> None:
    found = built(block_of(5_000), limit=10)
    assert [sample.value for sample in found.samples] == list(range(4_990, 5_000))
    assert found.missing == Gap(to_datetime(FAR), to_datetime(FAR + 4_989), 4_990)
    whole = built(block_of(10), limit=10)
    assert (len(whole.samples), whole.missing) == (10, None)


def test_a_gap_counts_the_samples_represented_by_centroids() -> None:
    block = block_of(4)
    block.samples.weight = np.array([5, 7, 1, 1])
    assert built(block, limit=2).missing.missed == 12


def test_samples_are_built_up_to_a_number_of_bytes_but_at_least_one() -> None:
    tags = {"text": "x" * 30_000}
    found = built(block_of(100), max_bytes=100_000, **tags)
    assert [sample.value for sample in found.samples] == [97, 98, 99]
    assert found.missing.missed == 97
    text = b'{"a":"' + b"x" * 4_000 + b'"}'
    found = built(block_of(100, metadata=dict.fromkeys(range(50, 100), text)), max_bytes=10_000)
    assert [sample.value for sample in found.samples] == [98, 99]
    assert len(built(block_of(3), max_bytes=1).samples) == 1


@pytest.mark.parametrize(
    "metadata",
    [
        {"list": [{}] * 500},
        {"list": [[]] * 500},
        {"list": [{"a": 1}] * 300},
        {"list": list(range(10**9, 10**9 + 300))},
        {"list": [1.5] * 300},
        {"text": "x" * 4_000},
        {"text": "\N{GRINNING FACE}" + "x" * 3_900},
        {str(number): None for number in range(300)},
    ],
)
@pytest.mark.parametrize("ascii", [True, False])
def test_the_size_of_metadata_is_not_underestimated(metadata: Any, ascii: bool) -> None:
    def size(value: Any) -> int:
        inner: list[Any] = []
        if isinstance(value, dict):
            inner = [*value, *value.values()]
        elif isinstance(value, list):
            inner = value
        return sys.getsizeof(value) + sum(map(size, inner))

    text = json.dumps(metadata, separators=(",", ":"), ensure_ascii=ascii).encode()
    assert metadata_bytes(text) + item_bytes({}) >= size(json.loads(text))
    assert metadata_bytes(text) < 80 * len(text)


def sample(number: int, tags: dict[str, str] | None = None) -> Sample:
    time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return Sample("jobs", "gauge", number, 1, tags or {}, time)


def test_a_queue_is_bounded_in_bytes() -> None:
    queue = DeliveryQueue(1_000)
    tags = {"text": "x" * 30_000}
    queue.put([sample(number, tags) for number in range(100)])
    kept = queue.max_bytes // item_bytes(tags)
    assert 20 < kept < 100
    first = queue.take()
    assert isinstance(first, Gap)
    assert first.missed == queue.missed == 100 - kept
    found = [queue.take() for _ in range(kept)]
    assert found == [sample(number, tags) for number in range(100 - kept, 100)]
    assert queue.take() is None
    huge = {"text": "x" * 2 * queue.max_bytes}
    queue.put([sample(1), sample(2, huge)])
    assert isinstance(queue.take(), Gap)
    assert queue.take() == sample(2, huge)


def test_samples_that_were_not_built_are_a_gap_before_the_others() -> None:
    queue = DeliveryQueue(3)
    queue.put([sample(1), sample(2)])
    missing = Gap(sample(3).timestamp, sample(7).timestamp, 5)
    queue.put([sample(8), sample(9)], [400, 400], missing)
    assert queue.take() == Gap(sample(1).timestamp, sample(7).timestamp, 7)
    assert [queue.take() for _ in range(3)] == [sample(8), sample(9), None]
    assert queue.missed == 7


def test_a_crafted_message_is_a_gap_and_the_stream_continues(
    server: Server, namespace: str, metrics: Metrics, other: Metrics, monkeypatch: Any
) -> None:
    made: list[int] = []
    build = block_samples._build

    def count(*arguments: Any) -> list[Sample]:
        found = build(*arguments)
        made.append(len(found))
        return found

    monkeypatch.setattr(block_samples, "_build", count)
    send(other, "jobs", 1)
    with metrics.subscribe("jobs", queue=50) as stream, server.client() as client:
        client.publish(keys.channel(namespace, "jobs"), crafted(300_000))
        assert gap(stream).missed == 299_950
        assert values(take(stream, 50))[0] == ("jobs", 299_950)
        send(other, "jobs", 2)
        assert values(take(stream)) == [("jobs", 2)]
        assert stream.missed == 299_950
    assert made == [50, 1]


def test_large_messages_do_not_block_the_event_loop(
    server: Server, url: str, namespace: str, other: Metrics, monkeypatch: Any
) -> None:
    """They are decoded, once for all streams, and made into samples in a thread."""
    decoded: list[tuple[bool, bool]] = []
    built_in: list[tuple[bool, bool]] = []
    unpack, build = block_codec.unpack, block_samples._build
    loop_thread = threading.current_thread()

    def noting(found: list[tuple[bool, bool]], function: Callable[..., Any]) -> Any:
        def call(*arguments: Any) -> Any:
            size = len(arguments[0]) if isinstance(arguments[0], bytes) else len(arguments[-1])
            found.append((size > LARGE, threading.current_thread() is loop_thread))
            return function(*arguments)

        return call

    async def run() -> None:
        async with (
            AsyncMetrics(url, namespace=namespace) as metrics,
            metrics.subscribe("jobs") as first,
            metrics.subscribe("jo*") as second,
        ):
            monkeypatch.setattr(block_codec, "unpack", noting(decoded, unpack))
            monkeypatch.setattr(block_samples, "_build", noting(built_in, build))
            with server.client() as client:
                for sequence, rows in enumerate((LARGE + 1, 10), 1):
                    client.publish(keys.channel(namespace, "jobs"), crafted(rows, sequence))
                    for stream in (first, second):
                        for number in range(rows):
                            assert (await stream.get(PATIENCE)).value == number

    send(other, "jobs", 1)
    asyncio.run(run())
    # A message comes twice: for its channel, and for the pattern.
    assert decoded == [(True, False), (False, True)]
    assert built_in == [(True, False), (True, False), (False, True), (False, True)]


def test_unreadable_messages_push_out_no_samples(
    server: Server, namespace: str, metrics: Metrics, other: Metrics
) -> None:
    with metrics.subscribe("jobs", queue=5) as stream, server.client() as client:
        send(other, "jobs", 1)
        for _ in range(50):
            client.publish(keys.channel(namespace, "jobs"), b"junk")
        send(other, "jobs", 2)
        assert values(take(stream)) == [("jobs", 1)]
        with pytest.raises(FormatMismatch, match="corrupt block"):
            stream.get(PATIENCE)
        found = None
        while found is None or isinstance(found, FormatMismatch):
            try:
                found = stream.get(PATIENCE)
            except FormatMismatch as error:
                found = error
        assert found.value == 2
        assert (stream.unreadable, stream.missed) == (50, 0)
        client.publish(keys.channel(namespace, "jobs"), b"junk")
        with pytest.raises(FormatMismatch, match="corrupt block"):
            stream.get(PATIENCE)
        assert stream.unreadable == 51
