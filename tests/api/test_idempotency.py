"""`Idempotency-Key`: a repeated request counts once, whichever process it reaches."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")

httpx = pytest.importorskip("httpx", reason="needs httpx")

from redismetrics import Metrics
from redismetrics.api import idempotency
from redismetrics.api.app import create_app
from redismetrics.api.limits import Limits
from redismetrics.store import keys, requests
from tests.fixtures.clients import NEVER
from tests.fixtures.servers import PATIENCE, PATIENT, Server, wait_until
from tests.fixtures.webserver import error_message, running

RECORD, WAIT = "/api/record", "/api/record?wait=true"
JOB = {"name": "jobs", "value": 3}
Serve = Callable[..., Any]


@pytest.fixture
def serve(url: str, namespace: str) -> Iterator[Serve]:
    """Return a function that starts one more server, with a client of its own."""
    stops: list[Callable[[], None]] = []

    def start(**limits: Any) -> Any:
        metrics = Metrics(url, namespace=namespace, flush_interval=NEVER)
        app = create_app(metrics, allow_write=True, limits=Limits(**limits))
        context = running(app)
        client = httpx.Client(base_url=context.__enter__(), **PATIENT)

        def stop() -> None:
            client.close()
            context.__exit__(None, None, None)
            metrics.close()

        stops.append(stop)
        client.app, client.stop = app, stop
        return client

    yield start
    for stop in stops:
        stop()


def total(url: str, namespace: str) -> Any:
    with Metrics(url, namespace=namespace) as reader:
        return reader.query("jobs", aggregation="sum")


def key(text: str) -> dict[str, str]:
    return {"Idempotency-Key": text}


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        (RECORD, 202, {"recorded": 1}),
        (WAIT, 200, {"recorded": 1, "stored": 1, "dropped": {}}),
    ],
)
def test_a_repeat_gets_the_first_response_and_records_nothing(
    serve: Serve, url: str, namespace: str, path: str, status: int, expected: Any
) -> None:
    first, second = serve(), serve()
    # The same process, another one, and one that started later; also with quotation marks.
    for web, text in ((first, "a-1"), (first, '"a-1"'), (second, "a-1"), (serve(), "a-1")):
        response = web.post(path, json=JOB, headers=key(text))
        assert (response.status_code, response.json()) == (status, expected)
    assert first.post(path, json=JOB, headers=key("a-2")).status_code == status
    assert first.post(path, json=JOB).status_code == status
    for web in (first, second):
        web.stop()
        web.stop = lambda: None
    assert total(url, namespace) == 9


def test_a_key_of_another_request_is_rejected(serve: Serve, url: str, namespace: str) -> None:
    first, second = serve(), serve()
    assert first.post(RECORD, json=JOB, headers=key("k")).status_code == 202
    for web in (first, second):
        for path, body in ((RECORD, {"name": "jobs", "value": 4}), (WAIT, JOB)):
            message = error_message(web.post(path, json=body, headers=key("k")), 422)
            assert message.startswith("Idempotency-Key must be new for another request")
    assert first.get("/api/stats").json()["recorder"]["recorded"] == 1


def test_concurrent_repeats_count_once(serve: Serve, url: str, namespace: str) -> None:
    servers = [serve(), serve()]
    start = threading.Barrier(12)

    def send(number: int) -> int:
        start.wait()
        at = str(servers[number % 2].base_url).rstrip("/")
        status: int = httpx.post(at + WAIT, json=JOB, headers=key("k"), **PATIENT).status_code
        return status

    with ThreadPoolExecutor(12) as threads:
        statuses = set(threads.map(send, range(12)))
    assert statuses <= {200, 409}
    assert 200 in statuses
    assert total(url, namespace) == 3


def test_a_repeat_while_the_first_request_runs_gets_a_conflict(serve: Serve) -> None:
    first, second = serve(), serve()
    service = first.app.state.service
    claimed, go_on = threading.Event(), threading.Event()
    original = service.keys.claim

    def claim(*given: Any) -> Any:
        reply = original(*given)
        claimed.set()
        assert go_on.wait(PATIENCE)
        return reply

    service.keys.claim = claim
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(first.post, RECORD, json=JOB, headers=key("k"))
        assert claimed.wait(PATIENCE)
        response = second.post(RECORD, json=JOB, headers=key("k"))
        go_on.set()
        assert answer.result().json() == {"recorded": 1}
    assert "is not settled yet; repeat it later with the same key" in error_message(response, 409)
    assert response.headers["retry-after"] == "1"
    assert second.post(RECORD, json=JOB, headers=key("k")).json() == {"recorded": 1}


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"content": b"{"}, 400),
        ({"json": {"name": "jobs", "value": "x"}}, 400),
        ({"json": [JOB] * 6}, 413),
    ],
)
def test_a_request_that_recorded_nothing_is_not_remembered(
    serve: Serve, given: dict[str, Any], code: int
) -> None:
    web = serve(max_batch=5)
    headers = {**key("k"), "Content-Type": "application/json"}
    assert web.post(RECORD, headers=headers, **given).status_code == code
    assert web.post(RECORD, headers=headers, json=JOB).status_code == 202


@pytest.mark.parametrize("text", ["", '""', "a\tb", "x" * 256, "é"])
def test_invalid_keys_are_rejected(serve: Serve, text: str) -> None:
    headers = {"Idempotency-Key": text.encode("latin-1")}
    message = error_message(serve().post(RECORD, json=JOB, headers=headers), 400)
    assert message.startswith("Idempotency-Key must be one value of 1 to 255 visible ASCII")


def test_two_keys_are_rejected(serve: Serve) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    error_message(serve().post(RECORD, json=JOB, headers=headers), 400)


def test_keys_are_forgotten_after_an_hour_and_have_bounded_size(
    serve: Serve, server: Server, namespace: str
) -> None:
    web = serve()
    web.post(RECORD, json=JOB, headers=key("x" * 255))
    many = [{"name": "jobs", "tags": {"n": n}} for n in range(1_000)]
    web.post(WAIT, json=many, headers=key("y"))
    with server.client() as direct:
        found = list(direct.scan_iter(keys.request(namespace, "*"), count=10_000))
        assert len(found) == 2
        for each in found:
            assert len(each) <= len(keys.request(namespace, "")) + 32
            assert direct.strlen(each) < 200
            assert 3_500 < direct.ttl(each) <= 3_600
        listed = keys.requests(namespace)
        assert direct.zcard(listed) == 2
        assert 10_700 < direct.ttl(listed) <= 10_800


def test_servers_of_other_versions_find_these_bytes(
    serve: Serve, server: Server, namespace: str
) -> None:
    body = b'{"name":"jobs","value":3}'
    headers = {**key("k"), "Content-Type": "application/json"}
    assert serve().post(RECORD, content=body, headers=headers).status_code == 202
    # Hashes of the key, and of "0 " (without `wait`) and the body.
    name = f"rm:{namespace}:request:{hashlib.sha256(b'k').hexdigest()[:32]}"
    sent = hashlib.sha256(b"0 " + body).hexdigest()[:32]
    with server.client() as direct:
        assert direct.get(name) == b'{"sent":"%b","reply":[202,{"recorded":1}]}' % sent.encode()


def test_clear_forgets_all_keys(
    serve: Serve, server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "_DELETED_AT_ONCE", 2)
    web = serve()
    for text in "abcde":
        assert web.post(RECORD, json=JOB, headers=key(text)).status_code == 202
    with server.client() as direct, Metrics(server.url, namespace=namespace) as other:
        assert len(list(direct.scan_iter(keys.request(namespace, "*"), count=10_000))) == 5
        other.clear(confirm=True)
        assert not list(direct.scan_iter(keys.request(namespace, "*"), count=10_000))
        assert not direct.exists(keys.requests(namespace))
    # It counts again, as a new request.
    response = serve().post(WAIT, json=JOB, headers=key("a"))
    assert response.json() == {"recorded": 1, "stored": 1, "dropped": {}}


def test_only_keys_of_the_last_hours_are_listed(
    metrics: Metrics, server: Server, namespace: str
) -> None:
    for number, now_ms in enumerate((0, 1, requests.LISTED_MS, requests.LISTED_MS + 1)):
        operation = requests.claim(namespace, f"{number:032}", b"{}", 60_000, now_ms)
        assert metrics.internals.run(operation) is None
    with server.client() as direct:
        listed = direct.zrange(keys.requests(namespace), 0, -1)
    assert [int(each) for each in listed] == [2, 3]


def test_new_keys_are_limited_and_old_ones_still_recognised(serve: Serve) -> None:
    web = serve(max_idempotency_keys=2)
    for text in ("a", "b", "a"):
        assert web.post(RECORD, json=JOB, headers=key(text)).status_code == 202
    message = error_message(web.post(RECORD, json=JOB, headers=key("c")), 503)
    assert "at most 2 keys per hour (limit max_idempotency_keys)" in message
    assert web.post(RECORD, json=JOB, headers=key("b")).status_code == 202
    assert web.post(RECORD, json=JOB).status_code == 202
    assert web.get("/api/stats").json()["recorder"]["recorded"] == 3


def test_the_limit_counts_the_keys_of_the_last_hour(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_000.0]
    monkeypatch.setattr(idempotency, "monotonic", lambda: now[0])
    web = serve(max_idempotency_keys=2)
    assert web.post(RECORD, json=JOB, headers=key("a")).status_code == 202
    now[0] += 1_800
    assert web.post(RECORD, json=JOB, headers=key("b")).status_code == 202
    now[0] += 1_799
    assert web.post(RECORD, json=JOB, headers=key("c")).status_code == 503
    now[0] += 2
    assert web.post(RECORD, json=JOB, headers=key("c")).status_code == 202
    assert web.post(RECORD, json=JOB, headers=key("d")).status_code == 503


def test_a_request_that_could_not_be_remembered_counts_once(
    namespace: str, fresh_server: Callable[..., Server]
) -> None:
    server = fresh_server()
    with Metrics(server.url, namespace=namespace, flush_interval=NEVER) as metrics:
        app = create_app(metrics, allow_write=True)
        service = app.state.service
        original = service.keys.claim

        def claim(*given: Any) -> Any:
            reply = original(*given)
            server.kill()
            return reply

        service.keys.claim = claim
        with running(app) as at:
            # Redis goes away before the request is remembered: this process does so.
            for _ in range(2):
                response = httpx.post(at + RECORD, json=JOB, headers=key("k"), **PATIENT)
                assert (response.status_code, response.json()) == (202, {"recorded": 1})
            server.restart()
            with server.client() as direct:
                (name,) = direct.scan_iter(keys.request(namespace, "*"))
                wait_until(lambda: direct.ttl(name) > 3_500, "it is remembered")
            response = httpx.post(at + RECORD, json=JOB, headers=key("k"), **PATIENT)
            assert (response.status_code, response.json()) == (202, {"recorded": 1})
        assert metrics.query("jobs", aggregation="sum") == 3


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"[]", b"null", b'{"sent": 5}', b'{"reply": [202, {}]}', b"[" * 5_000, b"\xff"],
)
def test_foreign_values_in_place_of_a_request_are_errors(
    serve: Serve, server: Server, namespace: str, value: bytes
) -> None:
    web = serve()
    web.post(RECORD, json=JOB, headers=key("k"))
    with server.client() as direct:
        (name,) = direct.scan_iter(keys.request(namespace, "*"), count=10_000)
        direct.set(name, value)
        assert web.post(RECORD, json=JOB, headers=key("k")).status_code in (422, 500)
        direct.delete(name)
        direct.hset(name, "a", "b")
        error_message(web.post(RECORD, json=JOB, headers=key("k")), 500)


def test_the_document_describes_wait_and_the_key(serve: Serve) -> None:
    described = serve().get("/openapi.json").json()["paths"][RECORD]["post"]
    names = {(each["in"], each["name"]) for each in described["parameters"]}
    assert names == {("query", "wait"), ("header", "Idempotency-Key")}
    assert {"200", "202", "409", "422", "504"} <= described["responses"].keys()
    assert "SIGTERM" in described["summary"]
