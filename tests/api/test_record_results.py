"""`POST /api/record?wait=true` reports what became of the samples, under every drop reason."""

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")

httpx = pytest.importorskip("httpx", reason="needs httpx")

from redismetrics import Metrics
from redismetrics.api.app import create_app
from redismetrics.api.limits import Limits
from redismetrics.api.unsettled import result_of
from redismetrics.recording import sender
from redismetrics.recording.batch import MetricBatch
from redismetrics.recording.encode import EncodedBatch
from redismetrics.recording.flush_result import FlushResult, SettledWatch
from redismetrics.store import keys
from tests.fixtures.clients import NEVER
from tests.fixtures.servers import PATIENCE, PATIENT, Server, wait_until
from tests.fixtures.webserver import error_message, running
from tests.recording.helpers import collect

WAIT = "/api/record?wait=true"


@pytest.fixture
def metrics(url: str, namespace: str) -> Iterator[Metrics]:
    """A client that sends nothing by itself."""
    with Metrics(url, namespace=namespace, flush_interval=NEVER) as metrics:
        yield metrics


@pytest.fixture
def web(metrics: Metrics) -> Iterator[Any]:
    with (
        running(create_app(metrics, allow_write=True)) as at,
        httpx.Client(base_url=at, **PATIENT) as client,
    ):
        yield client


def result(response: Any) -> tuple[int, int, dict[str, int]]:
    """Return the numbers of a 200 response: recorded, stored, dropped by reason."""
    assert response.status_code == 200, response.text
    body = response.json()
    assert list(body) == ["recorded", "stored", "dropped"]
    assert body["recorded"] == body["stored"] + sum(body["dropped"].values())
    return body["recorded"], body["stored"], body["dropped"]


def test_the_result_arrives_when_the_samples_are_stored(
    web: Any, metrics: Metrics, url: str, namespace: str
) -> None:
    body = [{"name": "jobs", "value": 3}, {"name": "jobs"}, {"name": "depth", "type": "gauge"}]
    assert result(web.post(WAIT, json=body)) == (3, 3, {})
    # Another process sees them at once.
    with Metrics(url, namespace=namespace) as reader:
        assert reader.query("jobs", aggregation="sum") == 4
    # The application's own flush still reports them.
    assert metrics.flush() == FlushResult(3)
    # Without it, nothing is sent before flush_interval.
    for path in ("/api/record", "/api/record?wait=false"):
        response = web.post(path, json=body)
        assert (response.status_code, response.json()) == (202, {"recorded": 3})
    assert metrics.stats()["stored"] == 3


@pytest.mark.parametrize(("ahead", "reason"), [(360, "in_future"), (-30 * 86_400, "too_old")])
def test_samples_outside_the_time_bounds_of_redis_are_reported(
    url: str, namespace: str, ahead: int, reason: str
) -> None:
    with (
        Metrics(
            url, namespace=namespace, flush_interval=NEVER, clock=lambda: time.time() + ahead
        ) as metrics,
        running(create_app(metrics, allow_write=True)) as at,
    ):
        mine = time.time() + ahead
        body = [{"name": "jobs", "timestamp": mine}, {"name": "jobs", "timestamp": mine - 1}]
        assert result(httpx.post(at + WAIT, json=body, **PATIENT)) == (2, 0, {reason: 2})
        assert metrics.flush() == FlushResult(0, {reason: 2})


def test_type_mismatches_are_reported_here_and_not_to_the_application(
    web: Any, metrics: Metrics, url: str, namespace: str
) -> None:
    with Metrics(url, namespace=namespace) as other:
        other.gauge("jobs", 1)
    body = [{"name": "jobs", "type": "counter"}, {"name": "other"}]
    assert result(web.post(WAIT, json=body)) == (2, 1, {"type_mismatch": 1})
    assert metrics.flush() == FlushResult(1, {"type_mismatch": 1})


def test_samples_that_can_not_be_encoded_are_reported(
    web: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = sender.encode

    def fails(batch: MetricBatch, *others: Any) -> EncodedBatch:
        if batch.name == "bad":
            raise ArithmeticError("a fault of our own")
        return original(batch, *others)

    monkeypatch.setattr(sender, "encode", fails)
    body = [{"name": "bad"}, {"name": "good"}, {"name": "bad"}]
    assert result(web.post(WAIT, json=body)) == (3, 1, {"failed": 2})


@pytest.mark.slow
def test_samples_that_redis_refuses_are_reported_to_the_repeat(
    web: Any, metrics: Metrics, server: Server, namespace: str
) -> None:
    with server.client() as direct:
        direct.set(keys.metric(namespace, 0, "bad").series, "no such thing")
    body, headers = [{"name": "bad"}, {"name": "good"}], {"Idempotency-Key": "k1"}
    message = error_message(web.post(WAIT, json=body, headers=headers), 504)
    assert "they are in this process's buffer and still being sent; repeat the request" in message
    wait_until(lambda: metrics.stats()["pending"] == 0, "all is settled")
    wait_until(
        lambda: web.post(WAIT, json=body, headers=headers).status_code == 200, "it is remembered"
    )
    assert result(web.post(WAIT, json=body, headers=headers)) == (2, 1, {"refused": 1})
    assert metrics.stats()["recorded"] == 2


def test_samples_beyond_the_buffer_are_reported(url: str, namespace: str) -> None:
    with (
        Metrics(
            url,
            namespace=namespace,
            flush_interval=NEVER,
            buffer_bytes=1 << 16,
            samples_per_flush=10_000,
        ) as metrics,
        running(create_app(metrics, allow_write=True)) as at,
    ):
        body = [
            {"name": f"metric_{number:03}", "tags": {"n": n}, "metadata": {"n": n}}
            for number in range(100)
            for n in range(50)
        ]
        recorded, stored, dropped = result(httpx.post(at + WAIT, json=body, **PATIENT))
        assert (recorded, set(dropped)) == (5_000, {"buffer_full"})
        found = metrics.stats()
        assert (found["stored"], found["dropped"]) == (stored, dropped)


@pytest.fixture
def leaving(
    namespace: str, fresh_server: Callable[..., Server]
) -> Iterator[tuple[Server, Metrics, str]]:
    """A server that is killed after it has reported to be up, the client and its application."""
    server = fresh_server()
    with Metrics(server.url, namespace=namespace, flush_interval=NEVER) as metrics:
        app = create_app(metrics, allow_write=True, limits=Limits(wait_seconds=0.2))
        claim, check = app.state.service.keys.claim, app.state.service.check_store

        def claim_and_leave(*given: Any) -> Any:
            reply = claim(*given)
            server.kill()
            return reply

        def check_and_leave() -> None:
            check()
            server.kill()

        app.state.service.keys.claim = claim_and_leave
        app.state.service.check_store = check_and_leave
        with running(app) as at:
            yield server, metrics, at
        server.restart()


@pytest.mark.slow
def test_samples_that_waited_too_long_are_reported_to_the_repeat(
    leaving: tuple[Server, Metrics, str],
) -> None:
    server, metrics, at = leaving
    now = [0.0]
    metrics._recorder.steady_clock = lambda: now[0]
    body, headers = {"name": "jobs"}, {"Idempotency-Key": "k1"}
    message = error_message(httpx.post(at + WAIT, json=body, headers=headers, **PATIENT), 504)
    assert "within 0.2 s (limit wait_seconds)" in message
    # This process recognises the repeat although Redis is away.
    assert httpx.post(at + WAIT, json=body, headers=headers, **PATIENT).status_code == 409
    assert httpx.post(at + WAIT, json={"name": "x"}, headers=headers, **PATIENT).status_code == 422
    now[0] += metrics.settings.buffer_age + 1
    metrics.increment("other")
    collect(metrics)
    assert metrics.stats()["dropped"] == {"expired": 1}
    server.restart()
    repeat = partial(httpx.post, at + WAIT, json=body, headers=headers)
    wait_until(lambda: repeat().status_code == 200, "it is remembered")
    assert result(repeat()) == (1, 0, {"expired": 1})
    server.kill()


def test_a_timeout_says_what_to_do(leaving: tuple[Server, Metrics, str]) -> None:
    server, metrics, at = leaving
    message = error_message(httpx.post(at + WAIT, json={"name": "jobs"}, **PATIENT), 504)
    assert "without an Idempotency-Key, a retry would count the samples again" in message
    server.restart()
    assert metrics.flush() == FlushResult(1)
    server.kill()


def test_a_request_that_the_close_of_the_client_interrupts_is_not_confirmed(
    leaving: tuple[Server, Metrics, str],
) -> None:
    _, metrics, at = leaving
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(httpx.post, at + WAIT, json={"name": "jobs"}, timeout=PATIENCE)
        wait_until(lambda: metrics.stats()["recorded"] == 1, "it is recorded")
        metrics.close(0)
        response = answer.result()
    assert metrics.stats()["dropped"] == {"unsent": 1}
    # The close may come just before the time is up.
    if response.status_code != 504:
        # A request that was not waiting yet when the client closed has not seen the reason.
        assert result(response) in ((1, 0, {"unsent": 1}), (1, 0, {"closed": 1}))


def test_a_closed_client_records_nothing(url: str, namespace: str) -> None:
    metrics = Metrics(url, namespace=namespace, flush_interval=NEVER)
    with running(create_app(metrics, allow_write=True)) as at:
        metrics.close()
        for path in ("/api/record", WAIT):
            message = error_message(httpx.post(at + path, json={"name": "jobs"}, **PATIENT), 503)
            assert "closed" in message


def test_only_a_share_of_concurrent_samples_is_reported() -> None:
    watch = SettledWatch(["jobs", "depth"])
    watch.store("jobs", 6)
    watch.drop("jobs", "in_future", 2)
    watch.drop("depth", "failed", 3)
    own = Tally({"jobs": 4, "depth": 3})
    assert result_of(own, watch) == FlushResult(3, {"in_future": 1, "failed": 3})


def test_samples_given_up_without_a_look_at_their_metrics_are_reported() -> None:
    watch = SettledWatch(["jobs"])
    watch.store("jobs", 1)
    watch.drop("", "unsent", 2)
    assert result_of(Tally({"jobs": 3}), watch) == FlushResult(1, {"unsent": 2})
    watch.drop("", "unsent", 7)
    assert result_of(Tally({"jobs": 3}), watch) == FlushResult(0, {"unsent": 3})


def test_samples_that_no_watch_saw_were_recorded_while_the_client_closed() -> None:
    watch = SettledWatch(["jobs"])
    watch.store("jobs", 1)
    assert result_of(Tally({"jobs": 3}), watch) == FlushResult(1, {"closed": 2})
