"""Remote write: what is recorded, what is refused and how that is answered."""

import importlib
import struct
import time
from typing import Any

import pytest

pytest.importorskip("cramjam", reason="needs redismetrics[promql]")

from redismetrics import Metrics
from redismetrics.api.app import create_app
from redismetrics.api.limits import Limits
from redismetrics.exposition.remote_write_message import decode, encode, new_request
from tests.api.prometheus.answers import data, error
from tests.fixtures.servers import PATIENT
from tests.fixtures.webserver import running

NOW = int(time.time()) * 1000
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}

Samples = list[tuple[int, float]]


def body(*series: tuple[dict[str, str], Samples]) -> bytes:
    request = new_request()
    for labels, samples in series:
        each = request.timeseries.add()
        for name, value in sorted(labels.items()):
            each.labels.add(name=name, value=value)
        for at, value in samples:
            each.samples.add(timestamp=at, value=value)
    return encode(request)


def write(web: Any, *series: tuple[dict[str, str], Samples]) -> Any:
    return web.post("/write", content=body(*series), headers=HEADERS)


def values(web: Any, query: str, at: float) -> Any:
    """Return the value of each series of an instant query by its label `instance`."""
    result = data(web.get("/query", params={"query": query, "time": at}))["result"]
    return {each["metric"].get("instance", ""): each["value"][1] for each in result}


def test_samples_keep_their_times(prometheus: Any, metrics: Metrics) -> None:
    labels = {"__name__": "memory_bytes", "instance": "a", "empty": ""}
    response = write(prometheus, (labels, [(NOW - 60_000, 1.5), (NOW - 45_250, 2.5)]))
    assert response.status_code == 204, response.text
    assert response.content == b""
    found = metrics.query("memory_bytes")
    assert [(each.value, each.tags) for each in found] == [
        (1.5, {"instance": "a"}),
        (2.5, {"instance": "a"}),
    ]
    assert [round(each.timestamp.timestamp() * 1000) for each in found] == [
        NOW - 60_000,
        NOW - 45_250,
    ]
    assert metrics.list_metrics()[0]["type"] == "gauge"
    assert values(prometheus, "memory_bytes", NOW / 1000 - 46) == {"a": "1.5"}
    assert values(prometheus, "memory_bytes", NOW / 1000) == {"a": "2.5"}


def test_received_counters_are_extrapolated_and_reset_as_in_prometheus(prometheus: Any) -> None:
    samples = [
        (NOW - 60_000 + 10_000 * number, float(value))
        for number, value in enumerate([10, 20, 30, 5, 15, 25, 35])
    ]
    assert write(prometheus, ({"__name__": "requests_total"}, samples)).status_code == 204
    # 20 + 35 in 60 s, extrapolated by half an interval at the open edge.
    found = values(prometheus, "increase(requests_total[65s])", NOW / 1000)
    assert float(found[""]) == pytest.approx(55 * 65 / 60)
    assert values(prometheus, "resets(requests_total[2m])", NOW / 1000) == {"": "1"}


def test_staleness_marker_ends_a_series(prometheus: Any) -> None:
    labels = {"__name__": "up", "instance": "a"}
    write(prometheus, (labels, [(NOW - 60_000, 1.0), (NOW - 45_000, 1.0)]))
    write(prometheus, (labels, [(NOW - 30_000, STALE)]))
    assert values(prometheus, "up", NOW / 1000 - 31) == {"a": "1"}
    assert values(prometheus, "up", NOW / 1000 - 30) == {}
    assert values(prometheus, "up", NOW / 1000) == {}
    assert values(prometheus, "count_over_time(up[5m])", NOW / 1000) == {"a": "2"}
    write(prometheus, (labels, [(NOW - 15_000, 1.0)]))
    assert values(prometheus, "up", NOW / 1000) == {"a": "1"}


def test_refused_samples_are_counted_and_the_others_stored(
    prometheus: Any, metrics: Metrics
) -> None:
    response = write(
        prometheus,
        ({"__name__": "ok"}, [(NOW, 1.0), (NOW + 1, float("nan")), (NOW + 2, float("inf"))]),
        ({"__name__": "old"}, [(NOW - 40 * 86_400_000, 1.0)]),
        ({"__name__": "new"}, [(NOW + 86_400_000, 1.0)]),
        ({"__name__": "bad name"}, [(NOW, 1.0), (NOW + 1, 1.0)]),
        ({"instance": "a"}, [(NOW, 1.0)]),
    )
    message = error(response, 400, "bad_data")
    assert message.startswith(
        "7 of 8 samples were rejected: 2 not finite, 3 of invalid series, "
        "1 too far in the future (max_future), 1 too old (max_age); "
    )
    assert "'bad name'" in message
    assert [each["name"] for each in metrics.list_metrics()] == ["ok"]


def test_metric_of_another_type_is_refused(prometheus: Any, metrics: Metrics) -> None:
    metrics.increment("jobs")
    metrics.flush()
    message = error(write(prometheus, ({"__name__": "jobs"}, [(NOW, 1.0)])), 400, "bad_data")
    assert "jobs" in message
    assert metrics.query("jobs", aggregation="sum") == 1


def test_metadata_gives_help_and_unit(prometheus: Any, metrics: Metrics) -> None:
    request = new_request()
    request.metadata.add(metric_family_name="heap", help="In use.", unit="bytes", type=2)
    response = prometheus.post("/write", content=encode(request), headers=HEADERS)
    assert response.status_code == 204
    assert write(prometheus, ({"__name__": "heap"}, [(NOW, 1.0)])).status_code == 204
    assert data(prometheus.get("/metadata?metric=heap")) == {
        "heap": [{"type": "gauge", "help": "In use.", "unit": "bytes"}]
    }


@pytest.mark.parametrize(
    ("content", "headers", "code", "message"),
    [
        (b"", {}, 400, "block of snappy"),
        (b"\xff" * 9, {}, 400, "block of snappy"),
        (b"\x05\xff\xff", {}, 400, "block of snappy"),
        (b"\x03\x08abc", {}, 400, "WriteRequest"),
        (b"\xff\xff\xff\x7f", {}, 413, "remote_write_bytes"),
        (body(), {"Content-Encoding": "gzip"}, 415, "Content-Encoding must be snappy"),
        (body(), {"Content-Type": "application/json"}, 415, "Content-Type must be"),
        (
            body(),
            {"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"},
            415,
            "version 1.0",
        ),
    ],
)
def test_other_bodies_are_rejected(
    prometheus: Any, content: bytes, headers: dict[str, str], code: int, message: str
) -> None:
    response = prometheus.post("/write", content=content, headers={**HEADERS, **headers})
    assert response.status_code == code
    assert message in response.json()["error"]


def test_a_flood_of_series_is_rejected_as_a_whole(metrics: Metrics) -> None:
    httpx = pytest.importorskip("httpx", reason="needs httpx")
    app = create_app(metrics, allow_write=True, limits=Limits(max_recorded_names=2))
    with running(app) as at, httpx.Client(base_url=f"{at}/api/v1", **PATIENT) as web:
        names = [({"__name__": f"m{number}"}, [(NOW, 1.0)]) for number in range(3)]
        assert write(web, *names).status_code == 413
    assert metrics.list_metrics() == []


def test_a_flood_of_metadata_is_not_kept(metrics: Metrics) -> None:
    httpx = pytest.importorskip("httpx", reason="needs httpx")
    app = create_app(metrics, allow_write=True, limits=Limits(max_recorded_names=2))
    request = new_request()
    for number in range(5):
        request.metadata.add(metric_family_name=f"m{number}", help="Much.")
    with running(app) as at, httpx.Client(base_url=f"{at}/api/v1", **PATIENT) as web:
        response = web.post("/write", content=encode(request), headers=HEADERS)
        assert response.status_code == 204
        assert write(web, ({"__name__": "m1"}, [(NOW, 1.0)])).status_code == 204
    assert metrics.internals.buffered_counts()[0] == 2


def one_series_of(inner: bytes) -> bytes:
    """Return a request with one series, whose bytes are *inner*."""
    length, rest = b"", len(inner)
    while rest >= 0x80:
        length, rest = length + bytes([rest & 0x7F | 0x80]), rest >> 7
    return b"\x0a" + length + bytes([rest]) + inner


@pytest.mark.slow
@pytest.mark.parametrize(
    "bomb",
    [b"\x0a\x00" * 1_100_000, one_series_of(b"\x12\x00" * 1_100_000)],
    ids=["series", "samples"],
)
def test_millions_of_empty_messages_are_refused_before_memory_is_taken(
    prometheus: Any, bomb: bytes
) -> None:
    content = bytes(importlib.import_module("cramjam").snappy.compress_raw(bomb))
    response = prometheus.post("/write", content=content, headers=HEADERS)
    assert "at most 1000000 series, labels and samples" in error(response, 400, "bad_data")


def test_a_large_request_is_decoded_as_it_was_sent() -> None:
    request = new_request()
    for number in range(4000):
        series = request.timeseries.add()
        for label in range(10):
            series.labels.add(name=f"label_{label}", value=f"{number}" * 5)
        series.samples.add(value=number, timestamp=1_700_000_000_000 + number)
    assert request.ByteSize() > 1 << 20
    assert decode(encode(request), 16 << 20) == request


def test_without_writing_there_is_no_endpoint(metrics: Metrics) -> None:
    httpx = pytest.importorskip("httpx", reason="needs httpx")
    with (
        running(create_app(metrics)) as at,
        httpx.Client(base_url=f"{at}/api/v1", **PATIENT) as web,
    ):
        assert write(web, ({"__name__": "a"}, [(NOW, 1.0)])).status_code in (404, 405)
