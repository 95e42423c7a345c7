"""Real receivers: Prometheus, VictoriaMetrics, our own server, and OTLP; and their restarts."""

import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cramjam", reason="needs redismetrics[promql]")

from redismetrics import Metrics
from redismetrics.export import export
from redismetrics.push.credentials import Credentials
from redismetrics.push.remote_write import make_requests
from redismetrics.push.sender import PushSender
from redismetrics.push.service import PushOptions, PushService
from redismetrics.push.snapshot import read_snapshot
from redismetrics.push.targets import parse_targets
from redismetrics.recording.backoff import Backoff
from redismetrics.store.connection import Store
from tests.fixtures.exposition import samples
from tests.fixtures.prometheus import running_prometheus
from tests.fixtures.servers import PATIENCE, PATIENT, free_port, seconds_beside, wait_until
from tests.fixtures.webserver import running as serving
from tests.push.receivers import Receiver, otlp_points, receiving

Page = dict[tuple[str, frozenset[tuple[str, str]]], float]
LABELS = {"job": "shop"}
INTERVAL = 0.2


@pytest.fixture
def recorded(metrics: Metrics) -> Metrics:
    for number in range(200):
        tags = {"queue": "ab"[number % 2], "odd": 'x"\\\n'}
        metrics.increment("jobs", 0.5 + number, tags=tags)
        metrics.histogram("took_seconds", number / 50, tags=tags)
    metrics.gauge("depth", 4.25)
    metrics.summary("size").record(3)
    metrics.flush()
    return metrics


@pytest.fixture
def elsewhere(url: str, namespace: str) -> Iterator[Metrics]:
    """Return a client of the namespace that receives."""
    with Metrics(url, namespace=f"{namespace}-other") as client:
        yield client


@contextmanager
def pushing(metrics: Metrics, *targets: str) -> Iterator[PushService]:
    """Push in the meantime, as another process would."""
    senders = [PushSender(each, LABELS) for each in parse_targets(targets, Credentials())]
    options = PushOptions(INTERVAL, backoff=Backoff(INTERVAL, INTERVAL))
    context, settings = metrics.internals.query_context, metrics.settings
    store = Store(settings.url, settings.socket_timeout)
    service = PushService(context, store, senders, options, 86_400_000)
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        yield service
    finally:
        service.stop.set()
        thread.join(PATIENCE)


def page(metrics: Metrics) -> Page:
    """Return what the Prometheus page shows, with the labels that are added."""
    metrics.flush()
    return {
        (name, labels | set(LABELS.items())): value
        for (name, labels), value in samples(export(metrics=metrics), openmetrics=False).items()
    }


def asked(at: str) -> Page:
    """Return the samples that a receiver has, by its HTTP API."""
    import httpx

    query = {"query": '{job="shop"}', "time": str(time.time() + 1)}
    answer = httpx.get(f"{at}/api/v1/query", params=query, **PATIENT).json()
    found = {}
    for each in answer.get("data", {}).get("result", ()):
        name = each["metric"].pop("__name__")
        found[name, frozenset(each["metric"].items())] = float(each["value"][1])
    return found


@contextmanager
def running_victoria(folder: Path, port: int) -> Iterator[str]:
    """Run VictoriaMetrics; in the same folder, it continues with its previous data."""
    program = shutil.which("victoria-metrics")
    if program is None:
        pytest.skip("needs the program victoria-metrics: apt-get install victoria-metrics")
    command = [
        program,
        f"-storageDataPath={folder / 'data'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-search.latencyOffset=0s",
        "-search.disableCache",
        "-http.maxGracefulShutdownDuration=100ms",
    ]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"), "it starts")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)


def answers(url: str) -> bool:
    import httpx

    try:
        return httpx.get(url, **PATIENT).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def receiving_prometheus(folder: Path, port: int) -> Iterator[str]:
    flag = "--web.enable-remote-write-receiver"
    with running_prometheus(folder, "global: {}\n", port, flag) as at:
        yield at


RECEIVERS = {"prometheus": receiving_prometheus, "victoria-metrics": running_victoria}


@pytest.mark.slow
@pytest.mark.parametrize("program", RECEIVERS)
def test_totals_are_right_after_restarts_of_either_side(
    recorded: Metrics, tmp_path: Path, program: str
) -> None:
    run: Callable[[Path, int], Any] = RECEIVERS[program]
    pytest.importorskip("httpx", reason="needs httpx")
    port = free_port()
    target = f"http://127.0.0.1:{port}/api/v1/write"
    with run(tmp_path, port) as at:
        with pushing(recorded, target) as service:
            wait_until(lambda: asked(at) == page(recorded), "all totals are there")
            assert len(page(recorded)) > 30
        # The pusher starts again.
        recorded.increment("jobs", 7, tags={"queue": "a", "odd": 'x"\\\n'})
        with pushing(recorded, target):
            wait_until(lambda: asked(at) == page(recorded), "the new total is there")
    assert service.targets[0].queue.counts.refused == 0
    # The receiver starts again, while the pusher waits.
    with pushing(recorded, target) as service:
        recorded.histogram("took_seconds", 0.2, tags={"queue": "b", "odd": 'x"\\\n'})
        recorded.flush()
        counts = service.targets[0].queue.counts
        wait_until(lambda: counts.failures > 0, "the receiver is away")
        with run(tmp_path, port) as at:
            wait_until(lambda: asked(at) == page(recorded), "what waited is there")
            assert (counts.refused, counts.dropped) == (0, 0)


@pytest.mark.slow
def test_every_sample_in_prometheus_is_a_total_of_ours(recorded: Metrics, tmp_path: Path) -> None:
    httpx = pytest.importorskip("httpx", reason="needs httpx")
    tags = {"queue": "b"}
    recorded.increment("mails", tags=tags)
    recorded.flush()
    totals = [1]
    with receiving_prometheus(tmp_path, free_port()) as at:
        with pushing(recorded, f"{at}/api/v1/write") as service:
            until = time.monotonic() + seconds_beside(4)
            while time.monotonic() < until:
                amount = len(totals) % 5
                recorded.increment("mails", amount, tags=tags)
                totals.append(totals[-1] + amount)
                recorded.flush()
                time.sleep(INTERVAL / 7)
            wait_until(lambda: asked(at) == page(recorded), "all totals are there")
            counts = service.targets[0].queue.counts
            assert (counts.refused, counts.dropped) == (0, 0)
        (series,) = httpx.get(
            f"{at}/api/v1/query",
            params={"query": "mails_total[1h]", "time": str(time.time() + 1)},
            **PATIENT,
        ).json()["data"]["result"]
    times, values = zip(*((at, int(value)) for at, value in series["values"]), strict=True)
    print(f"{len(values)} samples of {len(set(values))} totals, {counts.sent} in all series")
    assert set(values) <= set(totals)
    assert list(values) == sorted(values)
    assert values[-1] == totals[-1]
    assert list(times) == sorted(set(times))


@pytest.mark.slow
def test_prometheus_accepts_a_repeat_and_rejects_older_samples(
    recorded: Metrics, tmp_path: Path
) -> None:
    pytest.importorskip("httpx", reason="needs httpx")
    context = recorded.internals.query_context
    with receiving_prometheus(tmp_path, free_port()) as at:
        (target,) = parse_targets([f"remote-write+{at}"], Credentials())
        sender = PushSender(target, LABELS)

        def snapshot() -> Any:
            return recorded.internals.run(read_snapshot(context, 86_400_000))

        (old,) = make_requests(snapshot(), LABELS)
        recorded.gauge("depth", 5)
        recorded.flush()
        (new,) = make_requests(snapshot(), LABELS)
        assert [sender.send(each) for each in (new, new)] == [(0, ""), (0, "")]
        assert asked(at) == page(recorded)
        refused, reason = sender.send(old)
        assert refused == old.samples
        assert "answered 400: out of order sample" in reason


def test_our_own_server_takes_all_samples_as_gauges(recorded: Metrics, elsewhere: Metrics) -> None:
    pytest.importorskip("starlette", reason="needs redismetrics[server]")
    from redismetrics.api.app import create_app

    with serving(create_app(elsewhere, allow_write=True)) as at:
        with pushing(recorded, f"remote-write+{at}") as service:
            counts = service.targets[0].queue.counts
            wait_until(lambda: counts.sent >= len(page(recorded)), "they are taken")
        assert counts.refused == 0
    assert page(recorded) == samples(export(metrics=elsewhere), openmetrics=False)


@pytest.mark.slow
def test_otlp_streams_continue_after_restarts_of_either_side(recorded: Metrics) -> None:
    pytest.importorskip("opentelemetry.proto", reason="needs redismetrics[otel]")
    port = free_port()
    key = ("jobs_total", (("odd", 'x"\\\n'), ("queue", "a")))

    def last(receiver: Receiver) -> Any:
        return otlp_points(receiver.bodies[-1])[key][1]

    target = f"otlp+http://127.0.0.1:{port}"
    with receiving(port=port) as first:
        with pushing(recorded, target):
            first.wait_for(2)
        points = [otlp_points(body)[key][1] for body in first.bodies]
        times = [point.time_unix_nano for point in points]
        assert times == sorted(set(times))
        total = sum(0.5 + number for number in range(0, 200, 2))
        assert {point.as_double for point in points} == {total}
        recorded.increment("jobs", 7, tags={"queue": "a", "odd": 'x"\\\n'})
        recorded.flush()
        with pushing(recorded, target):
            wait_until(lambda: last(first).as_double == total + 7, "the new total is there")
    with pushing(recorded, target) as service:
        wait_until(lambda: service.targets[0].queue.counts.failures > 0, "the receiver is away")
        with receiving(port=port) as second:
            second.wait_for(2)
    # The same stream throughout: a cumulative one whose start did not move.
    starts = {point.start_time_unix_nano for point in [*points, last(first), last(second)]}
    assert len(starts) == 1
    assert last(second).as_double == total + 7
    _, histogram = otlp_points(second.bodies[-1])[
        "took_seconds", (("odd", 'x"\\\n'), ("queue", "b"))
    ]
    assert histogram.count == sum(histogram.bucket_counts) == 100
    assert len(histogram.bucket_counts) == len(histogram.explicit_bounds) + 1


def test_our_own_receiver_of_otlp_counts_each_increment_once(
    metrics: Metrics, elsewhere: Metrics
) -> None:
    pytest.importorskip("starlette", reason="needs redismetrics[server]")
    pytest.importorskip("opentelemetry.proto", reason="needs redismetrics[otel]")
    from redismetrics.api.app import create_app

    metrics.gauge("ready", 1)
    metrics.flush()
    with serving(create_app(elsewhere, allow_write=True)) as at:
        # The counter is added after the receiver began: its first total counts in full.
        metrics.increment("jobs", 3)
        metrics.flush()
        for number in range(3):
            with pushing(metrics, f"otlp+{at}") as service:
                counts = service.targets[0].queue.counts
                wait_until(lambda: counts.sent >= 2, "they are taken")  # noqa: B023
            assert counts.refused == 0
            metrics.increment("jobs", number)
            metrics.flush()
        with pushing(metrics, f"otlp+{at}") as service:
            counts = service.targets[0].queue.counts
            wait_until(lambda: counts.sent >= 2, "they are taken")
    assert elsewhere.query("jobs_total", aggregation="sum") == 6
