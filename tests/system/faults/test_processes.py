"""Processes and threads: forked, spawned, ended cleanly or not. Each sample is stored once.

Nothing hangs: every wait here is bounded, and a child that exceeds it is killed by its id.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from redismetrics import Counter, Gauge, Metrics
from tests.fixtures.servers import Server, wait_until

ROOT = Path(__file__).parents[3]
# Nothing listens on this port.
NOWHERE = "redis://127.0.0.1:1/0"
PATIENCE = 120.0

# From Python 3.12 on a fork with several threads warns. That it works is what is tested.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]


@pytest.fixture
def metrics(url: str, namespace: str) -> Iterator[Metrics]:
    with Metrics(url, namespace=namespace) as metrics:
        yield metrics


def in_child(run: Callable[[], object]) -> int:
    """Fork; the child calls *run* and `os._exit`. Return its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        run()
        code = 0
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    """Wait for a child and return its exit code; kill it and fail if it hangs."""
    status: list[int] = []

    def is_over() -> bool:
        found, code = os.waitpid(pid, os.WNOHANG)
        if found:
            status.append(code)
        return bool(found)

    try:
        wait_until(is_over, f"child {pid} ends", PATIENCE)
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return os.waitstatus_to_exitcode(status[0])


def joined(processes: list[Any]) -> list[int | None]:
    """Wait for children of multiprocessing in the same way."""
    until = time.monotonic() + PATIENCE
    for process in processes:
        process.join(max(until - time.monotonic(), 0))
    codes = [process.exitcode for process in processes]
    for process in processes:
        if process.is_alive():
            process.kill()
    return codes


def script(
    code: str, *, timeout: float = PATIENCE, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run *code* in a new interpreter."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )


# -- many processes -----------------------------------------------------------------------------


def increments(url: str, namespace: str, number: int, count: int) -> None:
    """Record in a process of its own that never closes its client."""
    metrics = Metrics(url, namespace=namespace, flush_interval=0.1)
    handle = Counter("jobs", {"kind": "handle"}, metrics=metrics)
    tags = {"kind": "call"}
    for _ in range(count // 2):
        handle.increment()
        metrics.increment("jobs", tags=tags)
    metrics.histogram("took", float(number))


def test_eight_processes_that_never_close(url: str, namespace: str, metrics: Metrics) -> None:
    processes = []
    for number in range(8):
        context = multiprocessing.get_context("fork" if number % 2 else "spawn")
        processes.append(context.Process(target=increments, args=(url, namespace, number, 100_000)))
    for process in processes:
        process.start()
    assert joined(processes) == [0] * 8
    rows = metrics.query("jobs", aggregation="sum", group_by="kind")
    assert rows == [{"kind": "call", "sum": 400_000}, {"kind": "handle", "sum": 400_000}]
    assert metrics.query("took", aggregation="count") == 8
    assert metrics.query("took", aggregation="sum") == sum(range(8))
    (family,) = metrics.live("jobs")
    assert sum(series.value for series in family.series) == 800_000


def exits(url: str, namespace: str, how: str) -> None:
    metrics = Metrics(url, namespace=namespace)
    metrics.increment("jobs", 5)
    if how == "sys.exit":
        sys.exit(3)
    if how == "raises":
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - ends with the process
        raise KeyError("k")
    metrics.close()


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.parametrize(("how", "code"), [("sys.exit", 3), ("raises", 1), ("close", 0)])
def test_children_of_multiprocessing_send_at_any_end(
    url: str, namespace: str, metrics: Metrics, start: str, how: str, code: int
) -> None:
    process = multiprocessing.get_context(start).Process(target=exits, args=(url, namespace, how))
    process.start()
    assert joined([process]) == [code]
    assert metrics.query("jobs", aggregation="sum") == 5


def short_lived(url: str, namespace: str) -> None:
    import gc

    metrics = Metrics(url, namespace=namespace)
    metrics.increment("jobs")
    other = Metrics(url, namespace=namespace)
    other.increment("jobs")
    other.close()
    del other
    gc.collect()
    metrics.increment("jobs")
    assert metrics.stats()["dropped"] == {}


def test_a_client_deleted_in_a_child_does_not_affect_another(
    url: str, namespace: str, metrics: Metrics
) -> None:
    process = multiprocessing.get_context("fork").Process(target=short_lived, args=(url, namespace))
    process.start()
    assert joined([process]) == [0]
    assert metrics.query("jobs", aggregation="sum") == 3


def test_a_pool_of_processes(url: str, namespace: str, metrics: Metrics) -> None:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.starmap(increments, [(url, namespace, number, 1_000) for number in range(6)])
        pool.close()
        pool.join()
    assert metrics.query("jobs", aggregation="sum") == 6_000


# -- fork ---------------------------------------------------------------------------------------


def test_children_that_flush_and_end(metrics: Metrics) -> None:
    metrics.increment("jobs", 1_000)

    def run() -> None:
        metrics.increment("jobs")
        metrics.flush()

    pids = [in_child(run) for _ in range(4)]
    assert [ended(pid) for pid in pids] == [0] * 4
    assert metrics.query("jobs", aggregation="sum") == 1_004
    assert len({sample.count for sample in metrics.query("jobs")}) == 1


def test_a_forked_child_inherits_no_samples(
    url: str, namespace: str, fresh_server: Callable[..., Server]
) -> None:
    server = fresh_server()
    server.pause()
    with Metrics(
        server.url, namespace=namespace, socket_timeout=0.2, flush_interval=0.05
    ) as metrics:
        handle = Counter("jobs", metrics=metrics)
        writer = metrics.stats()["writer"]
        for _ in range(100):
            handle.increment()
            metrics.increment("jobs")
        wait_until(lambda: metrics.stats()["last_error"], "its sender has failed")
        # In a buffer, in the queue or unconfirmed: the child inherits none of it.
        metrics.increment("jobs")

        def run() -> None:
            stats = metrics.stats()
            assert (stats["recorded"], stats["pending"], stats["dropped"]) == (0, 0, {})
            assert stats["writer"] != writer
            handle.increment(1_000)
            os.kill(server.pid, signal.SIGCONT)
            metrics.flush()
            assert metrics.stats()["stored"] == 1
            metrics.close()

        assert ended(in_child(run)) == 0
        server.resume()
        metrics.flush()
        stats = metrics.stats()
        assert (stats["recorded"], stats["stored"], stats["dropped"]) == (201, 201, {})
        assert metrics.query("jobs", aggregation="sum") == 1_201


def test_a_child_knows_what_was_declared_before_the_fork(metrics: Metrics) -> None:
    metrics.declare(
        "took", "histogram", unit="seconds", help="how long", buckets=[1, 2], tag_keys=["a"]
    )
    metrics.gauge("level", 3)

    def run() -> None:
        metrics.record("took", 1)  # without the declaration it would become a counter
        metrics.record("level", 4)
        metrics.measure("took", lambda: None)
        metrics.flush()
        assert metrics.stats()["stored"] == 3

    assert ended(in_child(run)) == 0
    (listed, *_) = [row for row in metrics.list_metrics() if row["name"] == "took"]
    assert (listed["type"], listed["unit"], listed["help"]) == ("histogram", "seconds", "how long")
    (family,) = metrics.live("took")
    assert family.series[0].buckets == (2, 0)
    assert sorted(sample.value for sample in metrics.query("level")) == [3, 4]


def test_forks_while_other_threads_record(metrics: Metrics) -> None:
    stop = threading.Event()
    counts = [0, 0]
    handle = Counter("jobs", {"who": "parent"}, metrics=metrics)
    gauge = Gauge("depth", metrics=metrics)

    def record(number: int) -> None:
        while not stop.is_set():
            handle.increment()
            gauge.add(1.0)
            metrics.increment("jobs", tags={"who": "parent"})
            metrics.stats()
            counts[number] += 2

    def run() -> None:
        for _ in range(100):
            handle.increment()
            metrics.increment("jobs", tags={"who": "child"})
        gauge.add(1.0)
        metrics.flush()
        assert metrics.stats()["stored"] == 201

    threads = [threading.Thread(target=record, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        codes = [ended(in_child(run)) for _ in range(30)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert codes == [0] * 30
    metrics.flush()
    rows = metrics.query("jobs", aggregation="sum", group_by="who")
    assert rows == [{"who": "child", "sum": 3_000}, {"who": "parent", "sum": sum(counts) + 3_000}]
    assert metrics.live("depth")[0].series[0].value == sum(counts) / 2 + 30
    assert metrics.stats()["dropped"] == {}


def test_grandchildren_of_a_recording_process(url: str, namespace: str, metrics: Metrics) -> None:
    metrics.increment("jobs")

    def grandchild() -> None:
        metrics.increment("jobs", 100)
        metrics.flush()

    def child() -> None:
        metrics.increment("jobs", 10)
        assert ended(in_child(grandchild)) == 0
        metrics.flush()

    assert ended(in_child(child)) == 0
    assert metrics.query("jobs", aggregation="sum") == 111


def test_the_child_of_a_closed_client_stays_closed(url: str, namespace: str) -> None:
    metrics = Metrics(url, namespace=namespace)
    metrics.increment("jobs")
    metrics.close()

    def run() -> None:
        metrics.increment("jobs")
        assert metrics.stats()["dropped"] == {"closed": 1}
        assert threading.active_count() == 1

    assert ended(in_child(run)) == 0


def test_a_child_that_only_queries_starts_no_thread(metrics: Metrics) -> None:
    metrics.increment("jobs", 7)
    metrics.flush()

    def run() -> None:
        assert metrics.query("jobs", aggregation="sum") == 7
        assert threading.active_count() == 1

    assert ended(in_child(run)) == 0


# -- threads ------------------------------------------------------------------------------------


def test_eight_threads(url: str, namespace: str) -> None:
    with Metrics(url, namespace=namespace, flush_interval=0.05) as metrics:
        shared = Counter("jobs", {"how": "shared"}, metrics=metrics)
        gauge = Gauge("depth", metrics=metrics)

        def run(number: int) -> None:
            own = Counter("jobs", {"how": "own", "n": number}, metrics=metrics)
            for value in range(10_000):
                shared.increment()
                own.increment()
                metrics.increment("jobs", tags={"how": "call"})
                if not value % 10:
                    metrics.histogram("took", float(value), tags={"n": str(number)})
                    gauge.add(1.0)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        metrics.flush()
        rows = metrics.query("jobs", aggregation="sum", group_by="how")
        assert rows == [{"how": how, "sum": 80_000} for how in ("call", "own", "shared")]
        assert len(metrics.query("jobs", aggregation="sum", group_by="n")) == 9
        assert metrics.query("took", aggregation="count") == 8_000
        assert metrics.query("took", aggregation="sum") == 8 * sum(range(0, 10_000, 10))
        assert metrics.live("depth")[0].series[0].value == 8_000
        assert metrics.stats()["dropped"] == {}


def test_recording_in_a_signal_handler(url: str, namespace: str) -> None:
    code = f"""if True:
        import signal, time
        from redismetrics import Counter, Metrics
        metrics = Metrics({url!r}, namespace={namespace!r}, flush_interval=0.01)
        handle = Counter("signals", metrics=metrics)
        seen = 0
        def handler(*_):
            global seen
            seen += 1
            handle.increment()
            metrics.increment("signals", tags={{"n": seen}})  # a new series, each time
            metrics.gauge("depth", seen, metadata={{"n": seen}})
            metrics.increment("signals", timestamp=time.time())
            metrics.record("other", seen)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        until = time.monotonic() + 0.7
        main = 0
        while time.monotonic() < until:
            main += 1
            handle.increment()
            metrics.histogram("took", 1.5, tags={{"n": main % 50}})
            metrics.stats()
            if not main % 50:
                metrics.flush()
        signal.setitimer(signal.ITIMER_REAL, 0)
        metrics.flush()
        total = metrics.query("signals", aggregation="sum")
        assert total == 3 * seen + main, (total, seen, main)
        assert metrics.query("depth", aggregation="count") == seen > 20
        assert metrics.query("other", aggregation="count") == seen
        assert metrics.query("took", aggregation="count") == main
        assert metrics.stats()["dropped"] == {{}}, metrics.stats()
    """
    result = script(code)
    assert (result.returncode, result.stderr) == (0, "")


def test_recording_in_a_finalizer(metrics: Metrics) -> None:
    handle = Counter("gone", metrics=metrics)

    class Thing:
        def __init__(self) -> None:
            self.me = self  # only the garbage collector frees it, at any allocation

        def __del__(self) -> None:
            handle.increment()
            metrics.increment("gone", tags={"how": "call"})

    import gc

    for number in range(3_000):
        Thing()
        metrics.histogram("took", float(number), tags={"n": number % 500})
        if not number % 100:
            metrics.flush()
    gc.collect()
    assert metrics.query("gone", aggregation="sum") == 6_000


# -- the end of a process -----------------------------------------------------------------------


def test_the_end_of_the_interpreter_sends_what_is_left(
    url: str, namespace: str, metrics: Metrics
) -> None:
    result = script(f"""if True:
        import atexit
        import redismetrics
        redismetrics.configure({url!r}, namespace={namespace!r})
        own = redismetrics.Metrics({url!r}, namespace={namespace!r})
        atexit.register(own.increment, "jobs", 1_000)  # registered after ours, so it runs before
        for _ in range(10):
            redismetrics.increment("jobs")
            own.increment("jobs", 10)
        own.histogram("took", 2.5)
    """)
    assert (result.returncode, result.stderr) == (0, "")
    assert metrics.query("jobs", aggregation="sum") == 1_110
    assert metrics.query("took", aggregation="sum") == 2.5


def test_a_process_that_records_only_at_exit(url: str, namespace: str, metrics: Metrics) -> None:
    result = script(f"""if True:
        import atexit
        import redismetrics
        own = redismetrics.Metrics({url!r}, namespace={namespace!r})
        atexit.register(lambda: own.increment("jobs"))
    """)
    assert (result.returncode, result.stderr) == (0, "")
    assert metrics.query("jobs", aggregation="sum") == 1


@pytest.mark.parametrize(
    "how", ["raise KeyError('k')", "raise SystemExit(5)", "import sys; sys.exit(6)"]
)
def test_a_process_that_ends_with_an_error_sends_what_is_left(
    url: str, namespace: str, metrics: Metrics, how: str
) -> None:
    result = script(f"""if True:
        import redismetrics
        redismetrics.configure({url!r}, namespace={namespace!r})
        redismetrics.increment("jobs")
        {how}
    """)
    assert result.returncode != 0
    assert metrics.query("jobs", aggregation="sum") == 1


LEAVES = """if True:
    import atexit, logging, sys, time
    logging.basicConfig(format="%(levelname)s %(message)s")
    atexit.register(lambda: print(time.monotonic()))  # registered first, so it runs last
    from redismetrics import Metrics
    metrics = [Metrics({url!r}, namespace={namespace!r}) for _ in range({clients})]
    for each in metrics:
        for _ in range(3):
            each.increment("jobs")
    {wait}
    print(time.monotonic())
"""


@pytest.mark.parametrize(
    ("what", "begun", "clients"),
    [("away", True, 1), ("away", False, 20), ("deaf", False, 1), ("deaf", True, 20)],
)
def test_the_end_takes_at_most_2_seconds_without_a_server(
    fresh_server: Callable[..., Server], namespace: str, what: str, begun: bool, clients: int
) -> None:
    wait = (
        "metrics[0]._sink.collector.collect(int(time.time() * 1000)); time.sleep(0.1)"
        if begun
        else "pass"
    )
    url = NOWHERE
    if what == "deaf":
        server = fresh_server()
        server.pause()
        url = server.url
    result = script(LEAVES.format(url=url, namespace=namespace, clients=clients, wait=wait))
    assert result.returncode == 0
    leaves, left = map(float, result.stdout.split())
    # 2 s, and more on a busy machine. One after the other they would take 40 s.
    assert left - leaves < 30
    assert (
        result.stderr.count("closed with 3 samples never sent and 0 sent but never confirmed")
        == clients
    )
    assert "Traceback" not in result.stderr


def test_the_end_without_replies_reports_unconfirmed_batches(
    fresh_server: Callable[..., Server], namespace: str
) -> None:
    server = fresh_server()
    result = script(f"""if True:
        import atexit, logging, os, signal, time
        logging.basicConfig(format="%(levelname)s %(message)s")
        atexit.register(lambda: print(time.monotonic()))
        from redismetrics import Metrics, StoreUnavailable
        metrics = Metrics({server.url!r}, namespace={namespace!r}, flush_interval=60)
        metrics.increment("jobs")
        metrics.flush()
        os.kill({server.pid}, signal.SIGSTOP)
        metrics.increment("jobs")
        try:
            metrics.flush(0.2)
        except StoreUnavailable:
            metrics.increment("jobs")
            print(time.monotonic())
    """)
    leaves, left = map(float, result.stdout.split())
    assert left - leaves < 30
    assert "closed with 1 samples never sent and 1 sent but never confirmed" in result.stderr
    server.resume()
    with Metrics(server.url, namespace=namespace) as metrics:
        assert metrics.query("jobs", aggregation="sum") in (
            1,
            2,
        )  # unconfirmed: the server may have read it


def test_children_end_in_time_without_a_server(namespace: str) -> None:
    processes = [
        multiprocessing.get_context("fork").Process(
            target=increments, args=(NOWHERE, namespace, number, 100)
        )
        for number in range(2)
    ]
    began = time.monotonic()
    for process in processes:
        process.start()
    assert joined(processes) == [0, 0]
    assert time.monotonic() - began < 30


def test_closing_twice_and_from_many_threads(url: str, namespace: str) -> None:
    metrics = Metrics(url, namespace=namespace)
    for _ in range(1_000):
        metrics.increment("jobs")
    threads = [threading.Thread(target=metrics.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    metrics.close()
    stats = metrics.stats()
    assert (stats["stored"], stats["pending"], stats["dropped"]) == (1_000, 0, {})
    with Metrics(url, namespace=namespace) as reader:
        assert reader.query("jobs", aggregation="sum") == 1_000


def test_recording_while_another_thread_closes(url: str, namespace: str) -> None:
    metrics = Metrics(url, namespace=namespace, flush_interval=0.01)
    count = [0]
    stop = threading.Event()

    def run() -> None:
        handle = Counter("jobs", metrics=metrics)
        while not stop.is_set():
            handle.increment()
            metrics.increment("jobs")
            count[0] += 2

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_until(lambda: metrics.stats()["stored"] > 1_000, "some are stored")
        metrics.close()
        closed = metrics.stats()["stored"]
        wait_until(lambda: metrics.stats()["dropped"].get("closed", 0) > 1_000, "some are too late")
    finally:
        stop.set()
        thread.join()
    stats = metrics.stats()
    assert stats["stored"] == closed
    assert stats["recorded"] == stats["stored"] + stats["pending"] + sum(stats["dropped"].values())
    assert (
        stats["stored"]
        + stats["dropped"]["closed"]
        + stats["dropped"].get("unsent", 0)
        + stats["pending"]
        == count[0]
    )
    assert stats["pending"] <= 2  # calls that ran during close()
    with Metrics(url, namespace=namespace) as reader:
        assert reader.query("jobs", aggregation="sum") == closed
