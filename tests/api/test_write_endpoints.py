"""`POST /api/record`: a batch is checked whole before anything is recorded."""

import gzip
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")

httpx = pytest.importorskip("httpx", reason="needs httpx")


from redismetrics import Metrics
from redismetrics.api.app import create_app
from redismetrics.api.limits import Limits
from tests.fixtures.servers import PATIENT, Server
from tests.fixtures.webserver import error_message, running

NEVER = 3600.0
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def refusing_default(server: Server) -> Iterator[Any]:
    """`refusing` with the default limits."""
    with Metrics(server.url, namespace="bounds", flush_interval=NEVER) as metrics:
        with (
            running(create_app(metrics, allow_write=True)) as at,
            httpx.Client(base_url=at, **PATIENT) as client,
        ):
            yield client
        assert metrics.stats()["recorded"] == 0


def test_nothing_can_be_recorded_unless_writing_is_enabled(web: Any, metrics: Metrics) -> None:
    assert web.post("/api/record", json={"name": "x"}).status_code == 404
    assert web.post("/v1/metrics", content=b"").status_code == 404
    assert web.request("DELETE", "/api/metrics").status_code == 405
    assert metrics.stats()["recorded"] == 0


def test_infos_states_and_summaries_are_recorded(writable: Any, metrics: Metrics) -> None:
    metrics.declare("door", "stateset", states=["open", "shut"])
    several = [
        {"name": "build", "type": "info", "value": {"version": 2}, "tags": {"app": "shop"}},
        {"name": "door", "value": "shut"},
        {"name": "took", "type": "summary", "value": 0.5},
    ]
    answer = writable.post("/api/record?wait=true", json=several)
    assert answer.json() == {"recorded": 3, "stored": 3, "dropped": {}}
    shown = {
        family.name: [(each.tags, each.value) for each in family.series]
        for family in metrics.live()
    }
    assert shown == {
        "build": [({"app": "shop", "version": "2"}, 1)],
        "door": [({"door": "open"}, 0), ({"door": "shut"}, 1)],
        "took": [({}, 0.5)],
    }
    for wrong, says in (
        ({"name": "build", "value": "2"}, "its value must be a mapping of labels, got '2'"),
        ({"name": "door", "value": "ajar"}, "its value must be one of open, shut, got 'ajar'"),
        ({"name": "size", "value": {"a": 1}}, "value must be a number, got an object"),
        ({"name": "door", "value": "open", "job": 7}, "has no metadata"),
    ):
        answer = writable.post("/api/record", json=wrong)
        assert says in error_message(answer, 400)


def test_samples_are_recorded_like_calls_of_record(writable: Any, metrics: Metrics) -> None:
    one = {
        "name": "score",
        "value": 0.75,
        "tags": {"model": "llama"},
        "experiment_id": "e1",
        "note": "n",
    }
    answer = writable.post("/api/record", json=one)
    assert (answer.status_code, answer.json()) == (202, {"recorded": 1})
    when = (datetime.now(UTC) - timedelta(minutes=5)).replace(microsecond=0)
    several = [
        {"name": "jobs", "type": "counter", "value": 2, "timestamp": when.isoformat()},
        {"name": "jobs"},
        {
            "name": "depth",
            "type": "gauge",
            "value": -1,
            "timestamp": time.time() - 60,
            "metadata": {"a": [1]},
        },
    ]
    body = gzip.compress(json.dumps(several).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert writable.post("/api/record", content=body, headers=headers).json() == {"recorded": 3}
    metrics.flush()
    assert metrics.query("jobs", aggregation="sum") == 3
    assert metrics.query("jobs", aggregation="sum", window=(when, when + timedelta(seconds=1))) == 2
    (score,) = metrics.get_metrics(name="score")["metrics"]
    assert (score["type"], score["value"], score["tags"], score["metadata"]) == (
        "histogram",
        0.75,
        {"experiment_id": "e1", "model": "llama"},
        {"experiment_id": "e1", "note": "n"},
    )
    assert metrics.query("depth", aggregation="last") == -1


@pytest.mark.parametrize(
    ("body", "code", "expected"),
    [
        ("{", 400, "body must be JSON"),
        ("[" * 1900, 400, "body must be JSON"),
        ('{"name": "x", "value": NaN}', 400, "body must be JSON"),
        ("[]", 400, "body must hold 1 to 5 samples"),
        ("[1]", 400, "sample 0: sample must be an object with a name, got 1"),
        (
            '[{"name": "x"}, {"value": 1}]',
            400,
            "sample 1: invalid metric name .* nothing was recorded",
        ),
        (
            '[{"name": "x"}, {"name": "y", "value": "1"}]',
            400,
            "sample 1: value must be a finite number, got '1'",
        ),
        (
            '[{"name": "x", "type": "gauge"}, {"name": "x", "type": "counter"}]',
            400,
            "sample 1: 'x' is a gauge .* counter",
        ),
        ('[{"name": "x"}, {"name": "x", "value": -1}]', 400, "sample 1: .*amount must be >= 0"),
        ('{"name": "x", "type": "timer"}', 400, "sample 0: type must be counter"),
        (
            '{"name": "x", "timestamp": "2025-01-01"}',
            400,
            "sample 0: timestamp must be Unix seconds",
        ),
        ('{"name": "x", "timestamp": 1000}', 400, "sample 0: timestamp must be .*max_age"),
        ('{"name": "x", "timestamp": 1e11}', 400, "sample 0: timestamp must be .*max_future"),
        ('{"name": "x", "tags": 5}', 400, "sample 0: tags must be a mapping"),
        ('{"name": "x", "tags": {"a": [1]}}', 400, "sample 0: tag 'a' must be"),
        (
            json.dumps([{"name": "x"}] * 6),
            413,
            "body must hold 1 to 5 samples .limit max_batch., got 6",
        ),
        (json.dumps({"name": "x", "note": "n" * 2000}), 413, "body must be at most 2000 bytes"),
    ],
)
def test_invalid_batch_is_rejected_whole(
    refusing: Any, body: str, code: int, expected: str
) -> None:
    found = error_message(
        refusing.post("/api/record", content=body, headers={"Content-Type": "application/json"}),
        code,
    )
    assert re.match(expected, found), found
    assert refusing.get("/api/stats").json()["recorder"]["recorded"] == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "x", "value": 1e999}',
        b'{"name": "x", "value": -Infinity}',
        b'{"name": "x", "value": ' + b"9" * 400 + b"}",
        b'{"name": "x", "value": ' + b"9" * 9_000 + b"}",
        b'{"name": "x", "timestamp": 1e999}',
        b'{"name": "x", "timestamp": 1e308}',
        b'{"name": "x", "timestamp": "9999-12-31T23:59:59-23:59"}',
        b'{"name": "x", "timestamp": "0001-01-01T00:00:00+23:59"}',
        b'{"name": "x", "metadata": {"a": 1e999}}',
        b'{"name": "x", "metadata": ' + b'{"a":' * 600 + b"1" + b"}" * 600 + b"}",
        b'{"name": "x", "note": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"name": "x", "tags": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}",
        b'{"name": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"name": "\\ud800"}',
        b'{"name": "x", "tags": {"a": "\\ud800"}}',
        b'{"name": "x", "metadata": {"a": "\\ud800"}}',
        b'{"name": "x", "type": {}}',
        b'{"name": "x", "type": ["counter"]}',
        b'{"name": ["x"]}',
        b'{"name": "x", "value": {"value": 1}}',
        b'{"name": "x", "tags": {"\\u0000": "1"}}',
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"null",
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)
def test_json_that_is_not_a_sample_is_rejected(refusing_default: Any, body: bytes) -> None:
    error_message(refusing_default.post("/api/record", content=body, headers=JSON), 400)


@pytest.mark.slow
@pytest.mark.parametrize("limit", [{"max_recorded_series": 5}, {"max_recorded_bytes": 200}])
def test_existing_callers_are_not_blocked_by_new_series(
    url: str, namespace: str, limit: dict[str, int]
) -> None:
    with (
        Metrics(url, namespace=namespace, flush_interval=NEVER) as metrics,
        running(create_app(metrics, allow_write=True, limits=Limits(**limit))) as at,
    ):
        known = {"name": "jobs", "tags": {"queue": "mail"}, "model": "llama"}
        assert httpx.post(f"{at}/api/record", json=known, **PATIENT).status_code == 202
        for number in range(20):
            new = {"name": "flood", "tags": {"n": f"{number:050}"}}
            last = httpx.post(f"{at}/api/record", json=new, **PATIENT).status_code
        assert last == 413
        assert httpx.post(f"{at}/api/record", json=[known, known], **PATIENT).status_code == 202
        # New ones are still rejected, also beside known ones.
        for other in ({**known, "model": "qwen"}, {"name": "more"}, new):
            assert httpx.post(f"{at}/api/record", json=[known, other], **PATIENT).status_code == 413
        assert metrics.query("jobs", aggregation="sum") == 3
