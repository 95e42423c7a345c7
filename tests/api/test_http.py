"""The JSON API over HTTP: a real uvicorn, a real client, a real store."""

import gzip
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")
httpx = pytest.importorskip("httpx", reason="needs httpx")

from redismetrics import InvalidSetting, Metrics
from redismetrics.api.app import create_app
from redismetrics.api.limits import Limits
from redismetrics.api.server import read_token
from redismetrics.export import export
from tests.export.test_prometheus import of_users
from tests.fixtures.servers import PATIENCE, Server, wait_until
from tests.fixtures.webserver import Events, running

ROOT = Path(__file__).parents[2]
NEVER = 3600.0
TOKEN = "s3cret-t0ken"

Ask = Callable[..., Any]


@pytest.fixture
def metrics(url: str, namespace: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=namespace, flush_interval=0.05) as made:
        yield made


@pytest.fixture
def web(metrics: Metrics) -> Iterator[Any]:
    """A client of the application with the default limits, read-only."""
    with running(create_app(metrics)) as at, httpx.Client(base_url=at) as client:
        yield client


@pytest.fixture
def writable(metrics: Metrics) -> Iterator[Any]:
    app = create_app(metrics, allow_write=True, limits=Limits(max_batch=5, body_bytes=2_000))
    with running(app) as at, httpx.Client(base_url=at) as client:
        yield client


@pytest.fixture(scope="module")
def refusing(server: Server) -> Iterator[Any]:
    """A client of an application that records nothing in these tests, since all they ask is wrong."""
    with Metrics(server.url, namespace="refusing", flush_interval=NEVER) as metrics:
        app = create_app(metrics, allow_write=True, limits=Limits(max_batch=5, body_bytes=2_000))
        with running(app) as at, httpx.Client(base_url=at) as client:
            yield client
        assert metrics.stats()["recorded"] == 0


def fill(metrics: Metrics) -> None:
    for model, score in (("llama/3", 0.5), ("llama/3", 1.0), ("qwen", 0.25)):
        metrics.histogram("score", score, tags={"model": model})
    metrics.increment("jobs", 3, tags={"queue": "mail"}, metadata={"trace_id": "x1"})
    metrics.gauge("depth", 7)
    metrics.flush()


def told(response: Any, code: int) -> str:
    """The sentence of an error."""
    assert response.status_code == code, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"error", "message"}
    return str(body["message"])


# -- answers ------------------------------------------------------------------------------------------------------


def test_answers_are_those_of_the_client(web: Any, metrics: Metrics) -> None:
    fill(metrics)

    def same(path: str, wanted: dict[str, Any]) -> None:
        response = web.get(path)
        assert response.status_code == 200, response.text
        found = response.json()
        assert found.pop("timestamp")
        wanted.pop("timestamp")
        assert found == json.loads(metrics.to_json(wanted))

    same("/api/metrics", metrics.get_metrics())
    same("/api/metrics?name=jobs&limit=2&type=counter", metrics.get_metrics(name="jobs", limit=2))
    same(
        "/api/query?name=score&aggregation=mean&group_by=model&window=last_hour",
        metrics.get_aggregation("score", aggregation="mean", group_by="model", window="last_hour"),
    )
    same(
        "/api/query?name=score&aggregation=count&tag=model%3Dqwen",
        metrics.get_aggregation(
            "score", aggregation="count", window="last_24h", tags={"model": "qwen"}
        ),
    )
    same(
        "/api/query?name=score&aggregation=count&tag=!model",
        metrics.get_aggregation(
            "score", aggregation="count", window="last_24h", tags={"model": None}
        ),
    )
    same(
        "/api/time_series?name=score&interval=minute&aggregation=mean&aggregation=p95&window=5m",
        metrics.get_time_series(
            "score", interval="minute", aggregations=("mean", "p95"), window="5m"
        ),
    )
    same(
        "/api/rollup?name=score&group_by=model&aggregation=count&aggregation=max",
        metrics.get_rollups("score", group_by="model", aggregations=("count", "max")),
    )
    assert web.get("/api/rollup?name=score&group_by=model").json()["rollups"] == {
        "llama\\/3": {"mean": 0.75, "count": 2},
        "qwen": {"mean": 0.25, "count": 1},
    }
    assert web.get("/api/query?name=nobody&aggregation=mean").json()["results"] is None
    stats = web.get("/api/stats").json()
    assert stats["storage"]["metrics_stored"] == 5
    assert stats["recorder"]["recorded"] == 5
    assert [each["name"] for each in web.get("/api/names").json()["metrics"]] == [
        "depth",
        "jobs",
        "score",
    ]


def test_times_are_unix_seconds_or_iso_text(web: Any, metrics: Metrics) -> None:
    began = datetime.now(UTC) - timedelta(hours=2)
    metrics.increment("jobs", 1, timestamp=began)
    metrics.increment("jobs", 2, timestamp=began + timedelta(minutes=10))
    metrics.flush()

    def total(**edges: Any) -> int:
        found = web.get("/api/query", params={"name": "jobs", "aggregation": "sum", **edges})
        assert found.status_code == 200, found.text
        return int(found.json()["results"])

    middle = began + timedelta(minutes=5)
    assert total() == 3
    assert total(since=middle.isoformat()) == 2
    assert total(since=began.timestamp() - 1, until=middle.timestamp()) == 1
    assert total(since=f"{middle:%Y-%m-%dT%H:%M:%SZ}", until=time.time()) == 2


def test_the_prometheus_page_is_negotiated(web: Any, metrics: Metrics) -> None:
    fill(metrics)
    text = web.get("/metrics")
    assert (of_users(text.text), text.headers["content-type"]) == (
        export(metrics=metrics),
        "text/plain; version=0.0.4; charset=utf-8",
    )
    found = web.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert of_users(found.text) == export(metrics=metrics, openmetrics=True)
    assert found.headers["content-type"].startswith("application/openmetrics-text")


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/api/query?aggregation=mean", "name must be given"),
        ("/api/query?name=x", "aggregation must be given"),
        ("/api/query?name=x&name=y&aggregation=sum", "name must be given once, got it 2 times"),
        ("/api/query?name=x&aggregation=sum&nmae=y", "unknown parameter 'nmae'; did you mean 'name'\\? .allowed: name, "),
        ("/api/query?name=x&aggregation=avg", "unknown aggregation 'avg'; did you mean 'mean'"),
        ("/api/query?name=a%20b&aggregation=sum", "invalid metric name 'a b'"),
        ("/api/query?name=x&aggregation=sum&window=soon", "window must be last_hour, .*, got 'soon'"),
        ("/api/query?name=x&aggregation=sum&window=1h&since=1", "window must not be combined with since or until"),
        ("/api/query?name=x&aggregation=sum&since=yesterday", "since must be Unix seconds or ISO 8601 .*, got 'yesterday'"),
        ("/api/query?name=x&aggregation=sum&since=2025-01-01T00:00:00", "since must be .* with a time zone"),
        ("/api/query?name=x&aggregation=sum&tag=shop", "tag must be KEY=VALUE, or !KEY .*, got 'shop'"),
        ("/api/query?name=x&aggregation=sum&tag=a%3D1&tag=a%3D2", "tag must have one value for 'a', got '1' and '2'"),
        ("/api/query?name=x&aggregation=sum&group_by=sum", "group_by must not hold 'sum'"),
        (
            "/api/query?name=x&aggregation=sum&window=400d",
            "window must be at most .* s long \\(limit window_seconds\\), got 3.456e.07 s",
        ),
        ("/api/query?name=x&aggregation=sum&until=1700000000", "window must be at most"),
        ("/api/time_series?name=x&interval=1s&window=30d", "interval must yield at most 50000 intervals"),
        ("/api/time_series?name=x&fill=yes", "fill must be true or false, got 'yes'"),
        ("/api/time_series?name=x&interval=fortnight", "interval must be minute"),
        ("/api/metrics?limit=10001", "limit must be a whole number from 0 to 10000, got '10001'"),
        ("/api/metrics?limit=-1", "limit must be"),
        ("/api/metrics?type=timer", "type must be counter, gauge or histogram, got 'timer'"),
        ("/api/stream?name=a%20b", ".*name.*'a b'"),
        ("/api/stream?every=0", "every must be a number from 0.1 to 3600, got '0'"),
        ("/api/stream?every=nan", "every must be a number"),
        ("/healthz?x=1", "unknown parameter 'x' .allowed: none"),
    ],
)  # fmt: skip
def test_a_wrong_question_is_answered_by_a_sentence(refusing: Any, path: str, wanted: str) -> None:
    assert re.match(wanted, told(refusing.get(path), 400))


def test_series_and_rows_are_limited(metrics: Metrics) -> None:
    for number in range(6):
        metrics.increment("jobs", tags={"n": number})
        metrics.increment("few", tags={"n": number % 3})
    with (
        running(create_app(metrics, limits=Limits(max_series=5, max_rows=2))) as at,
        httpx.Client(base_url=at) as web,
    ):
        assert "a query must read at most 5 series (limit max_series), got 6" in told(
            web.get("/api/query?name=jobs&aggregation=sum"), 413
        )
        assert "all metrics" in told(web.get("/api/metrics"), 413)
        assert web.get("/api/metrics?name=few").status_code == 200
        assert "2 rows, got 3" in told(web.get("/api/rollup?name=few&group_by=n"), 413)
        assert "got 3" in told(web.get("/api/query?name=few&group_by=n&aggregation=sum"), 413)
        assert "(limit max_rows)" in told(
            web.get("/api/time_series?name=few&group_by=n&window=2m&interval=1m"), 413
        )
    with pytest.raises(InvalidSetting, match="max_rows must be a whole number above 0, got 0"):
        Limits(max_rows=0)


def test_paths_and_methods_that_are_not_there(web: Any) -> None:
    told(web.get("/api/nothing"), 404)
    told(web.get("/api/query/"), 404)
    refused = web.post("/api/query?name=x&aggregation=sum")
    told(refused, 405)
    assert set(refused.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert (
        "access-control-allow-origin"
        not in web.get("/healthz", headers={"Origin": "http://evil.example"}).headers
    )


# -- a store that is away -----------------------------------------------------------------------------------------


def test_without_its_store_all_but_healthz_says_503(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server()
    with Metrics(server.url, flush_interval=NEVER, socket_timeout=0.5) as metrics:
        app = create_app(metrics, allow_write=True)
        with running(app) as at, httpx.Client(base_url=at, timeout=PATIENCE) as web:
            assert web.get("/readyz").json() == {"status": "ok"}
            server.kill()
            assert web.get("/healthz").status_code == 200
            for path in (
                "/readyz",
                "/api/stats",
                "/api/metrics",
                "/metrics",
                "/api/query?name=x&aggregation=sum",
            ):
                answer = web.get(path)
                told(answer, 503)
                assert answer.headers["retry-after"] == "1"
            told(web.post("/api/record", json={"name": "x"}), 503)
            assert metrics.stats()["recorded"] == 0
            server.restart()
            assert web.get("/readyz").status_code == 200


def test_an_application_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="none://"):
        create_app(Metrics("none://"))


# -- the token ----------------------------------------------------------------------------------------------------


def test_the_token_guards_all_but_the_probes(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        running(create_app(metrics, token=TOKEN, allow_write=True)) as at,
        httpx.Client(base_url=at) as web,
    ):
        right = {"Authorization": f"Bearer {TOKEN}"}
        for path in ("/metrics", "/api/stats", "/openapi.json", "/api/stream", "/nowhere"):
            for wrong in (
                {},
                {"Authorization": TOKEN},
                {"Authorization": f"Basic {TOKEN}"},
                {"Authorization": "Bearer x"},
            ):
                refused = web.get(path, headers=wrong)
                told(refused, 401)
                assert refused.headers["www-authenticate"] == "Bearer"
        assert web.post("/api/record", json={"name": "x"}).status_code == 401
        assert metrics.stats()["recorded"] == 0
        assert web.get("/api/stats", headers=right).status_code == 200
        assert web.get("/healthz").status_code == web.get("/readyz").status_code == 200
    ours = [
        record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))
    ]
    assert all(TOKEN not in record.getMessage() for record in ours)


@pytest.mark.parametrize("token", ["", "two words", "käse", "line\n"])
def test_a_token_that_no_header_carries_is_refused(metrics: Metrics, token: str) -> None:
    with pytest.raises(InvalidSetting, match="token must be visible ASCII") as caught:
        create_app(metrics, token=token)
    assert not token or token not in str(caught.value)


def test_the_token_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_token(None) is None
    monkeypatch.setenv("REDISMETRICS_TOKEN", " abc ")
    assert read_token(None) == "abc"
    file = tmp_path / "token"
    with pytest.raises(InvalidSetting, match="No such file"):
        read_token(file)
    file.write_text("\n")
    with pytest.raises(InvalidSetting, match="must hold 1 to 4096 characters, got 0"):
        read_token(file)
    file.write_text("def\n")
    assert read_token(file) == "def"


# -- recording ----------------------------------------------------------------------------------------------------


def test_nothing_can_be_recorded_where_writing_is_off(web: Any, metrics: Metrics) -> None:
    assert web.post("/api/record", json={"name": "x"}).status_code == 404
    assert web.post("/v1/metrics", content=b"").status_code == 404
    assert web.request("DELETE", "/api/metrics").status_code == 405
    assert metrics.stats()["recorded"] == 0


def test_samples_are_recorded_as_record_takes_them(writable: Any, metrics: Metrics) -> None:
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
        "histogram", 0.75, {"experiment_id": "e1", "model": "llama"}, {"experiment_id": "e1", "note": "n"},
    )  # fmt: skip
    assert metrics.query("depth", aggregation="last") == -1


@pytest.mark.parametrize(
    ("body", "code", "wanted"),
    [
        ("{", 400, "body must be JSON"),
        ("[" * 1900, 400, "body must be JSON"),
        ('{"name": "x", "value": NaN}', 400, "body must be JSON"),
        ("[]", 400, "body must hold 1 to 5 samples"),
        ("[1]", 400, "sample 0: sample must be an object with a name, got 1"),
        ('[{"name": "x"}, {"value": 1}]', 400, "sample 1: invalid metric name .* nothing was recorded"),
        ('[{"name": "x"}, {"name": "y", "value": "1"}]', 400, "sample 1: value must be a finite number, got '1'"),
        ('[{"name": "x", "type": "gauge"}, {"name": "x", "type": "counter"}]', 400, "sample 1: 'x' is a gauge .* counter"),
        ('[{"name": "x"}, {"name": "x", "value": -1}]', 400, "sample 1: .*wanted an amount of at least 0"),
        ('{"name": "x", "type": "timer"}', 400, "sample 0: type must be counter"),
        ('{"name": "x", "timestamp": "2025-01-01"}', 400, "sample 0: timestamp must be Unix seconds"),
        ('{"name": "x", "timestamp": 1000}', 400, "sample 0: timestamp must be .*max_age"),
        ('{"name": "x", "timestamp": 1e11}', 400, "sample 0: timestamp must be .*max_future"),
        ('{"name": "x", "tags": 5}', 400, "sample 0: tags: wanted a mapping"),
        ('{"name": "x", "tags": {"a": [1]}}', 400, "sample 0: tag 'a' must be"),
        (json.dumps([{"name": "x"}] * 6), 413, "body must hold 1 to 5 samples .limit max_batch., got 6"),
        (json.dumps({"name": "x", "note": "n" * 2000}), 413, "body must be at most 2000 bytes"),
    ],
)  # fmt: skip
def test_a_batch_is_recorded_whole_or_not_at_all(
    refusing: Any, body: str, code: int, wanted: str
) -> None:
    found = told(
        refusing.post("/api/record", content=body, headers={"Content-Type": "application/json"}),
        code,
    )
    assert re.match(wanted, found), found
    assert refusing.get("/api/stats").json()["recorder"]["recorded"] == 0


def test_bodies_are_bounded_however_they_come(writable: Any, metrics: Metrics) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    bomb = gzip.compress(b" " * 10_000_000, 1)
    assert len(bomb) > 2_000
    bomb = gzip.compress(b" " * 100_000)
    assert len(bomb) < 2_000
    assert "also decompressed" in told(
        writable.post("/api/record", content=bomb, headers=headers), 413
    )
    assert "ends early" in told(
        writable.post("/api/record", content=gzip.compress(b"{}")[:-4], headers=headers), 400
    )
    assert "not valid gzip" in told(
        writable.post("/api/record", content=b"{}", headers=headers), 400
    )
    plain = {"Content-Type": "application/json"}
    assert "Content-Encoding" in told(
        writable.post("/api/record", content=b"{}", headers={**plain, "Content-Encoding": "br"}),
        415,
    )
    in_parts = (b" " * 500 for _ in range(10))  # chunked: no length is told
    assert "at most 2000 bytes" in told(
        writable.post("/api/record", content=in_parts, headers=plain), 413
    )
    # What a page of another site may send without being asked:
    assert "Content-Type" in told(writable.post("/api/record", content=b'{"name": "x"}'), 415)
    assert "Content-Type" in told(writable.post("/api/record", data={"name": "x"}), 415)
    assert metrics.stats()["recorded"] == 0
    two = gzip.compress(b'[{"name": ') + gzip.compress(b'"x"}]')
    assert writable.post("/api/record", content=two, headers=headers).json() == {"recorded": 1}


# -- the command --------------------------------------------------------------------------------------------------


def test_serve_answers_until_it_is_stopped(url: str, metrics: Metrics, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    where = ("--url", url, "--namespace", metrics.settings.namespace)
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "redismetrics",
        "serve",
        "--port",
        "0",
        "--allow-write",
        *where,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*command, "--token-file", str(file)],
        cwd=tmp_path,
        env=environment,
        stdout=pipe,
        stderr=pipe,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("serving on http://127.0.0.1:"), line + process.stderr.read()
            at = line.removeprefix("serving on ").strip()
            with httpx.Client(base_url=at, headers={"Authorization": f"Bearer {TOKEN}"}) as web:
                assert web.post("/api/record", json={"name": "jobs", "value": 5}).status_code == 202
                wait_until(
                    lambda: metrics.query("jobs", aggregation="sum") == 5,
                    "what was recorded is stored",
                )
                assert web.get("/api/query?name=jobs&aggregation=sum").json()["results"] == 5
                assert httpx.get(f"{at}/api/stats").status_code == 401
                events = Events(web, "/api/stream")
                assert events.open.wait(PATIENCE)
                process.send_signal(signal.SIGTERM)
                out, said = process.communicate(timeout=PATIENCE)
                assert events.ended.wait(PATIENCE)
        finally:
            process.kill()
    assert (out, said) == ("", "")
    assert process.returncode in (0, -signal.SIGTERM)


def test_serve_says_what_is_wrong(url: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "redismetrics", "serve", "--url", url, *arguments]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        return done.returncode, done.stderr

    code, said = run("--token-file", str(tmp_path / "none"))
    assert code == 1
    assert said.startswith("redismetrics: token file ")
    code, said = run("--host", "203.0.113.7", "--port", "0")
    assert code == 1
    assert said.startswith("anybody who reaches 203.0.113.7 may ask: no token\nredismetrics: ")


WITHOUT = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
sys.exit(eval(compile(sys.argv[2], "code", "exec")))
"""
APP = "from redismetrics import Metrics; from redismetrics.api.app import create_app; "


@pytest.mark.parametrize(
    ("missing", "code", "wanted"),
    [
        ("starlette", "import redismetrics.api.app", "redismetrics[server]"),
        ("uvicorn", "from redismetrics.api import server; server.serve(None, '127.0.0.1', 0)", "redismetrics[server]"),
        ("opentelemetry", "import redismetrics.integrations.opentelemetry", "redismetrics[otel]"),
        ("opentelemetry", "import redismetrics.integrations.opentelemetry.receiver", "redismetrics[otel]"),
        ("opentelemetry", (f"{APP}app = create_app(Metrics('redis://'), allow_write=True); "
         "assert not any(route.path == '/v1/metrics' for route in app.routes); assert len(app.routes) > 9"), ""),
    ],
)  # fmt: skip
def test_a_missing_extra_is_named(missing: str, code: str, wanted: str) -> None:
    command = [sys.executable, "-c", WITHOUT, missing, code]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode != 0) == bool(wanted), done.stderr
    last = done.stderr.strip().rpartition("\n")[2]
    assert not wanted or (
        last.startswith("redismetrics.errors.MissingExtra: ") and f"pip install '{wanted}'" in last
    )


def test_head_asks_without_a_body(web: Any) -> None:
    for path in ("/metrics", "/api/stats", "/api/stream"):
        found = web.head(path)
        assert (found.status_code, found.content) == (200, b"")
