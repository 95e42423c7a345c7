"""The service: leases, what a target answers, and repeats."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cramjam", reason="needs redismetrics[promql]")

from redismetrics import Metrics, StoreUnavailable
from redismetrics.exposition.remote_write_message import decode
from redismetrics.push import service as service_module
from redismetrics.push.credentials import BadCredentials, Credentials
from redismetrics.push.page import push_counts
from redismetrics.push.sender import PushSender
from redismetrics.push.service import PushOptions, PushService
from redismetrics.push.targets import parse_targets
from redismetrics.recording.backoff import Backoff
from redismetrics.store import keys
from redismetrics.store.connection import Store
from redismetrics.store.lease import release, take
from tests.fixtures.servers import PATIENCE, wait_until
from tests.push.receivers import Receiver, partial_success, receiving

Make = Callable[..., PushService]
NEVER, SOON = 3_600.0, 0.05


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def make(metrics: Metrics) -> Make:
    """Make a service of one target; a failed request is repeated at once."""

    def make(
        target: str,
        interval: float = NEVER,
        credentials: Credentials = Credentials(),  # noqa: B008
        url: str = metrics.settings.url,
    ) -> PushService:
        senders = [PushSender(each, {}) for each in parse_targets([target], credentials)]
        store = Store(url, metrics.settings.socket_timeout)
        options = PushOptions(interval, lease=60.0, backoff=Backoff(0.0, 0.0))
        return PushService(metrics.internals.query_context, store, senders, options, 86_400_000)

    metrics.increment("jobs", 3)
    metrics.flush()
    return make


@contextmanager
def running(service: PushService) -> Iterator[PushService]:
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        yield service
    finally:
        service.stop.set()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def totals(receiver: Receiver) -> list[tuple[float, int]]:
    """Return value and time of each sample of `jobs_total` received by remote write."""
    return [
        (sample.value, sample.timestamp)
        for body in receiver.bodies
        for series in decode(body, 1 << 20).timeseries
        for sample in series.samples
    ]


def counts(service: PushService) -> dict[str, float]:
    return {name: next(iter(each.values())) for name, each in push_counts(service).items()}


def test_totals_are_pushed_at_each_interval(make: Make, there: Receiver, metrics: Metrics) -> None:
    with running(make(f"remote-write+{there.url}", interval=SOON)):
        there.wait_for(3)
    found = totals(there)
    assert {value for value, _ in found} == {3}
    times = [time for _, time in found]
    assert times == sorted(set(times))
    assert there.headers[0]["X-Prometheus-Remote-Write-Version"] == "0.1.0"
    assert there.headers[0]["Content-Encoding"] == "snappy"


def test_a_repeat_is_the_same_request(make: Make, there: Receiver) -> None:
    there.answers = [(503, {}, b""), (429, {"Retry-After": "0"}, b"")]
    service = make(f"remote-write+{there.url}")
    with running(service):
        there.wait_for(3)
        wait_until(lambda: counts(service)["samples_sent"] == 1, "it is taken")
    assert len(set(there.bodies)) == 1
    assert counts(service) == {
        "samples_sent": 1,
        "samples_refused": 0,
        "samples_dropped": 0,
        "failures": 2,
        "waiting_bytes": 0,
        "behind_seconds": 0,
        "has_lease": 1,
    }


@pytest.mark.parametrize(
    ("protocol", "status", "is_repeated"),
    [
        ("remote-write", 400, False),
        ("remote-write", 401, False),
        ("remote-write", 500, True),
        ("otlp", 400, False),
        ("otlp", 500, False),
        ("otlp", 503, True),
    ],
)
def test_which_answers_are_repeated(
    make: Make, there: Receiver, protocol: str, status: int, is_repeated: bool
) -> None:
    there.answers = [(status, {}, b"no\nmore")]
    service = make(f"{protocol}+{there.url}")
    with running(service):
        there.wait_for(1 + is_repeated)
    assert counts(service)["samples_refused"] == (not is_repeated)
    assert counts(service)["samples_sent"] == is_repeated
    if not is_repeated:
        assert service.targets[0].queue.last_error == f"answered {status}: no more"


def test_points_that_a_receiver_of_otlp_rejects_are_counted(
    make: Make, there: Receiver, metrics: Metrics
) -> None:
    metrics.gauge("depth", 1)
    metrics.flush()
    there.answers = [partial_success(1, "not jobs")]
    service = make(f"otlp+{there.url}")
    problem = f"{there.url}/v1/metrics: 1 samples were rejected, 0 were not sent: not jobs"
    assert service.run_once() == [problem]
    assert counts(service)["samples_sent"] == 1


def test_one_process_pushes_and_the_next_takes_over(make: Make, there: Receiver) -> None:
    with receiving() as other:
        with running(make(f"remote-write+{there.url}", interval=SOON)) as first:
            there.wait_for(1)
            assert make(f"remote-write+{there.url}").run_once() == [
                f"{there.url}/api/v1/write: another process pushes to it"
            ]
            # Another target has a lease of its own.
            assert make(f"remote-write+{other.url}").run_once() == []
            assert counts(first)["has_lease"] == 1
        # It gave back its lease.
        assert make(f"remote-write+{there.url}").run_once() == []


def test_a_lost_lease_ends_pushing(
    make: Make, there: Receiver, metrics: Metrics, namespace: str
) -> None:
    service = make(f"remote-write+{there.url}", interval=SOON)
    key, name = keys.push_leases(namespace), service.targets[0].sender.target.lease_name
    with running(service):
        there.wait_for(1)
        metrics.internals.run(release(key, name, service._holder))
        metrics.internals.run(take(key, name, "another", 60_000))
        wait_until(lambda: not service.targets[0].has_lease, "the lease is lost")
        before = len(there.bodies)
        passed = service.passed_at
        wait_until(lambda: service.passed_at > passed + 3 * SOON, "it goes on waiting")
        assert len(there.bodies) == before


def test_the_lease_expires_and_clear_removes_it(
    make: Make, there: Receiver, metrics: Metrics, namespace: str, admin: Any
) -> None:
    with running(make(f"remote-write+{there.url}")):
        there.wait_for(1)
        assert 0 < admin.ttl(keys.push_leases(namespace)) <= 86_400
        assert there.url.encode() not in b"".join(admin.hgetall(keys.push_leases(namespace)))
        metrics.clear(confirm=True)
        assert not admin.exists(keys.push_leases(namespace))


def test_credentials_are_sent_and_never_shown(
    make: Make, there: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    file.write_text("hush")
    there.answers = [(401, {}, b"unknown token hush"), (302, {"Location": f"{there.url}/x"}, b"")]
    service = make(
        f"remote-write+{there.url}/w?key=hush", credentials=Credentials(token_file=str(file))
    )
    assert service.run_once() == [
        f"{there.url}/w: 1 samples were rejected, 0 were not sent: answered 401: unknown token ***"
    ]
    assert there.headers[0]["Authorization"] == "Bearer hush"
    assert "hush" not in caplog.text
    # A redirect could take the token elsewhere.
    assert "answered 302" in make(f"remote-write+{there.url}/v").run_once()[0]
    assert len(there.bodies) == 2
    with pytest.raises(BadCredentials):
        make(f"remote-write+{there.url}#token-file={tmp_path}/none")


@pytest.mark.parametrize(
    ("kind", "text", "reply"),
    [
        ("basic_file", "user:hush hush", "no user:hush hush, nor hush hush alone"),
        ("headers_file", "X-Key: hush hushed", "hushed? hush!"),
        ("token_file", "abc", "?key=hush%21, or key hush!"),
    ],
)
def test_a_reply_that_repeats_secrets_is_shown_without_them(
    make: Make, there: Receiver, tmp_path: Path, kind: str, text: str, reply: str
) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    there.answers = [(401, {}, reply.encode())]
    credentials = Credentials(**{kind: str(file)})
    service = make(f"remote-write+{there.url}/w?key=hush%21", credentials=credentials)
    (problem,) = service.run_once()
    assert "answered 401: " in problem
    assert "hu" not in problem.partition("answered")[2]


@pytest.mark.slow
def test_an_unreachable_target_is_waited_for(make: Make) -> None:
    with receiving() as gone:
        url = gone.url
    service = make(f"remote-write+{url}")
    with running(service):
        wait_until(lambda: counts(service)["failures"] > 1, "it is tried again")
        assert counts(service)["waiting_bytes"] > 0
        assert counts(service)["behind_seconds"] > 0
        with receiving(Receiver(), port=int(url.rpartition(":")[2])) as back:
            back.wait_for(1)
    assert totals(back)[0][0] == 3
    assert counts(service)["samples_dropped"] == 0


@pytest.mark.slow
def test_an_unreachable_store_is_waited_for(
    make: Make, there: Receiver, fresh_server: Any, namespace: str
) -> None:
    server = fresh_server()
    with Metrics(server.url, namespace=namespace) as metrics:
        metrics.increment("jobs", 5)
        metrics.flush()
        service = make(f"remote-write+{there.url}", interval=SOON, url=server.url)
        with running(service):
            there.wait_for(1)
            server.kill()
            wait_until(lambda: service.unreachable is not None, "it notes it")
            server.restart()
            wait_until(lambda: service.unreachable is None, "it goes on")
        with pytest.raises(StoreUnavailable):
            make(f"remote-write+{there.url}", url="redis://127.0.0.1:1").run_once()


@pytest.mark.slow
def test_an_internal_error_does_not_end_pushing(
    make: Make,
    there: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    read, left = service_module.read_snapshot, [1]

    def failing(*args: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise ZeroDivisionError("of ours")
        return read(*args)

    monkeypatch.setattr(service_module, "read_snapshot", failing)
    service = make(f"remote-write+{there.url}", interval=SOON)
    with running(service):
        there.wait_for(1)
        wait_until(lambda: service.unreachable is None, "it goes on")
    assert caplog.text.count("BUG: the totals cannot be pushed") == 1
