"""Random and nearly valid bytes for the readers that have no such tests in their own packages.

Bytes from Redis raise `FormatMismatch`, those of a setting `InvalidSetting`, and those from HTTP
give a status below 500; never another error, and never much memory.
"""

import contextlib
import gzip
import json
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redismetrics import FormatMismatch, InvalidSetting, Metrics, StoreUnavailable
from redismetrics.exposition.read import read_families
from redismetrics.model.definition import Definition, define
from redismetrics.model.validation import TYPES, pack_tags
from redismetrics.recording import write
from redismetrics.settings import Settings, resolve
from redismetrics.store import catalog, keys, namespace, stats
from redismetrics.store.connection import Store
from redismetrics.store.replies import read_definition, read_series
from redismetrics.worker import queue

MEMORY = 4 << 20
NUMBERS = st.sampled_from(
    [
        b"",
        b"0",
        b"-1",
        b"nan",
        b"inf",
        b"1e400",
        b"9" * 40,
        b"\xff",
        b"1 2 3",
        b"minute 0 0",
        b"raw:1",
    ]
)
PACKED = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(TYPES)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=15,
).map(msgpack.packb)
SOUND = Definition("histogram", "s", "help", (1.0, 2.0), ("a",)).pack() + bytes(9)
BYTES = (
    st.binary(max_size=60)
    | NUMBERS
    | PACKED
    | PACKED.map(lambda packed: packed + bytes(9))
    | st.just(SOUND)
    | st.integers(1, len(SOUND)).map(lambda size: SOUND[:size])
    # Headers that announce 2^32 - 1 elements.
    | st.sampled_from(
        [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\x91" * 5_000]
    )
)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


def drive(operation: Any, *replies: Any) -> Any:
    """Run an operation with these replies."""
    next(operation)
    for reply in replies:
        try:
            operation.send(reply)
        except StopIteration as done:
            return done.value
    return None


def sent() -> write.WriteRequest:
    return write.WriteRequest(0, 1, ("EVALSHA",))


READERS: dict[str, Callable[[bytes, bytes], Any]] = {
    "definition": lambda one, two: read_definition("jobs", one),
    "series": lambda one, two: read_series([one, two, pack_tags({"a": "b"}), one]),
    "configuration": lambda one, two: drive(
        namespace.Namespace("n").config(), [[b"retentions", one, b"shards", two]]
    ),
    "format": lambda one, two: drive(namespace.Namespace("n").config(), [[b"format", one]]),
    "reply": lambda one, two: drive(write.record(sent()), [one]),
    "catalogue": lambda one, two: drive(catalog.catalogue("n", 1), [[one, two]]),
    "pending": lambda one, two: drive(queue.pending("n", 0, 0, 0, 1), [[one, two]]),
    "live": lambda one, two: drive(
        read_families("n", 1, {"took": Definition("histogram", buckets=(1.0,))}, 0),
        [[one, two], [pack_tags({}), b"0"]],
    ),
    "exemplars": lambda one, two: drive(
        read_families("n", 1, {"jobs": Definition("counter")}, 0, exemplars=True),
        [[one, two, b"0 0", one], [], [pack_tags({}), b"0"]],
    ),
    "values of processes": lambda one, two: drive(
        read_families("n", 1, {"busy": define("busy", "gauge", per="process")}, 0),
        [[b"0 writer", one, b"0 ", two], [pack_tags({}), b"0"]],
    ),
    "writers": lambda one, two: drive(
        stats.server_state("n", 1), [b"used_memory:1\r\n", [b"1", b"0"], [], [one, two]]
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("reader", list(READERS))
@given(one=BYTES, two=BYTES)
@settings(max_examples=150)
def test_stored_bytes_are_read_or_raise_our_error(reader: str, one: bytes, two: bytes) -> None:
    with bounded(), contextlib.suppress(FormatMismatch, StoreUnavailable):
        READERS[reader](one, two)


@pytest.mark.slow
@given(
    kind=st.sampled_from(TYPES),
    values=st.lists(st.floats(), min_size=80, max_size=80),
    field=st.integers(-3, 2**70),
)
def test_totals_with_any_numbers_are_read_or_raise_our_error(
    kind: Any, values: list[float], field: int
) -> None:
    definition = Definition(kind, buckets=(1.0,) if kind == "histogram" else ())
    width, rows = keys.totals_shape(kind, len(definition.buckets))
    state = struct.pack(f"<{width * rows}d", *values[: width * rows])
    series = [pack_tags({"a": "b"}), str(field * rows).encode()]
    with bounded(), contextlib.suppress(FormatMismatch):
        operation = read_families("n", 1, {"jobs": definition}, 0)
        drive(operation, [[str(field).encode(), state], series])


@given(
    st.dictionaries(
        st.sampled_from(sorted(Settings.__dataclass_fields__)),
        st.text(max_size=12) | st.floats().map(str),
    )
)
def test_environment_variables_are_accepted_or_raise_our_error(given_: dict[str, str]) -> None:
    with contextlib.suppress(InvalidSetting):
        resolve({f"REDISMETRICS_{name.upper()}": text for name, text in given_.items()})


@given(
    st.sampled_from(["redis://", "unix://", "rediss://", "redis:", "", "http://", "redis://h:"]),
    st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_urls_are_accepted_or_raise_an_error_without_the_password(scheme: str, rest: str) -> None:
    caught = None
    try:
        Store(f"{scheme}:hunter2@{rest}" if scheme.endswith("//") else scheme + rest, 1.0).close()
    except InvalidSetting as error:
        caught = error
    assert "hunter2" not in str(caught)


# -- bytes from HTTP ---------------------------------------------------------------------------

OTLP = {
    "resourceMetrics": [
        {
            "scopeMetrics": [
                {
                    "metrics": [
                        {
                            "name": "jobs",
                            "sum": {
                                "aggregationTemporality": 1,
                                "isMonotonic": True,
                                "dataPoints": [{"asInt": "3", "timeUnixNano": "1"}],
                            },
                        }
                    ]
                }
            ]
        }
    ]
}
SAMPLE = {
    "name": "jobs",
    "value": 1,
    "type": "counter",
    "tags": {"a": "b"},
    "timestamp": None,
    "metadata": {"id": 1},
}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["nan", "1e999", "jobs"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=3)
            | st.sampled_from(
                [
                    *SAMPLE,
                    *OTLP,
                    "scopeMetrics",
                    "metrics",
                    "sum",
                    "gauge",
                    "histogram",
                    "dataPoints",
                    "asInt",
                    "asDouble",
                    "attributes",
                    "bucketCounts",
                    "count",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@st.composite
def changed(draw: st.DrawFn, sound: Any) -> Any:
    """Return *sound* with one part replaced by anything."""
    if draw(st.integers(0, 4)) == 0 or not isinstance(sound, dict | list) or not sound:
        return draw(JSON)
    key = draw(st.sampled_from(sorted(sound) if isinstance(sound, dict) else range(len(sound))))
    copy = sound.copy()
    copy[key] = draw(changed(sound[key]))
    return copy


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


BODIES = (
    st.binary(max_size=200)
    | changed(OTLP).map(as_json)
    | changed(SAMPLE).map(as_json)
    | changed([SAMPLE]).map(as_json)
)


@pytest.fixture(scope="module")
def web(server: Any) -> Iterator[Any]:
    pytest.importorskip("starlette", reason="pip install 'redismetrics[server]'")
    pytest.importorskip("opentelemetry.proto", reason="pip install 'redismetrics[otel]'")
    testclient = pytest.importorskip("starlette.testclient", reason="pip install httpx")
    from redismetrics.api.app import create_app

    with Metrics(server.url, namespace="any-bytes", flush_interval=3_600) as metrics:
        yield testclient.TestClient(
            create_app(metrics, allow_write=True), raise_server_exceptions=True
        )


@pytest.mark.parametrize(("path", "sound"), [("/v1/metrics", OTLP), ("/api/record", SAMPLE)])
def test_valid_bodies_are_accepted(web: Any, path: str, sound: Any) -> None:
    answer = web.post(path, content=as_json(sound), headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 202), answer.text


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/v1/metrics", "/api/record"])
@given(
    body=BODIES,
    kind=st.sampled_from(["json", "x-protobuf"]),
    packing=st.sampled_from(["", "gzip", "gzip", "br"]),
    cut=st.integers(0, 5),
)
@settings(max_examples=150)
def test_bodies_are_accepted_or_rejected(
    web: Any, path: str, body: bytes, kind: str, packing: str, cut: int
) -> None:
    sent = gzip.compress(body) if packing else body
    headers = {
        "Content-Type": f"application/{kind}",
        **({"Content-Encoding": packing} if packing else {}),
    }
    answer = web.post(path, content=sent[: len(sent) - cut if packing else None], headers=headers)
    assert answer.status_code < 500
