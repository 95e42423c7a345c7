"""Values of dead processes become one field of each series."""

import struct
from collections.abc import Callable, Iterator

import pytest
import redis

from redismetrics import Metrics
from redismetrics.columnar.process_values import (
    BEAT_SECONDS,
    ENDED_MS,
    GONE_MS,
    MOST_ENDED,
    MOST_GONE,
)
from redismetrics.model.options import MERGE_MODES
from redismetrics.model.time import monotonic
from redismetrics.settings import resolve
from redismetrics.store import keys
from redismetrics.store.driver import Operation
from redismetrics.store.due_slot import PROCESSES
from redismetrics.store.metric_keys import MetricLocation
from redismetrics.store.namespace import Namespace
from redismetrics.worker import Worker, processes
from redismetrics.worker.commit import CommitPlan, MetricVersion, Outcome, commit
from redismetrics.worker.processes import INTERVAL_MS, MOST_REMOVED, SILENT_MS
from tests.fixtures.servers import PATIENCE, Server
from tests.fixtures.workers import Steps, new_worker, pull_forward
from tests.worker.conftest import ALL_KEPT, SHORT
from tests.worker.tools import NEVER

MERGED = {"sum": 7, "min": 3, "max": 4, "mostrecent": 4}

MakeProcess = Callable[[], Metrics]


@pytest.fixture
def make_process(moving_server: Server, namespace: str) -> Iterator[MakeProcess]:
    """Return a function that makes a client, as in another process."""
    made: list[Metrics] = []

    def make() -> Metrics:
        made.append(
            Metrics(
                moving_server.url,
                namespace=namespace,
                flush_interval=NEVER,
                clock=lambda: moving_server.time,
            )
        )
        return made[-1]

    yield make
    for metrics in made:
        metrics.close(0.5)


@pytest.fixture
def admin(moving_server: Server) -> Iterator[redis.Redis]:
    with moving_server.client() as client:
        yield client


@pytest.fixture
def worker(moving_server: Server, namespace: str) -> Iterator[Worker]:
    worker = new_worker(moving_server.url, namespace)
    yield worker
    worker.leave()
    worker.store.close()


def set_in(metrics: Metrics, value: float, mode: str, **tags: str) -> None:
    metrics.declare("jobs", "gauge", per="process", merge=mode)
    metrics.gauge("jobs", value, tags=tags)
    metrics.flush()


def page(metrics: Metrics) -> list[float]:
    return sorted(row.value for row in metrics.live("jobs")[0].series)


def fields(admin: redis.Redis, namespace: str) -> set[bytes]:
    return set(admin.hkeys(keys.metric(namespace, 0, "jobs").totals))


def look(worker: Worker, server: Server, seconds: float = INTERVAL_MS / 1000 + 1) -> None:
    """Let time pass, and let a worker do what is due."""
    worker.pass_once()
    server.advance(seconds)
    worker.pass_once()


@pytest.mark.parametrize("mode", MERGE_MODES)
def test_values_of_killed_processes_are_merged(
    make_process: MakeProcess,
    worker: Worker,
    admin: redis.Redis,
    moving_server: Server,
    namespace: str,
    mode: str,
) -> None:
    gone = [make_process() for _ in range(2)]
    for metrics, value in zip(gone, (3, 4), strict=True):
        set_in(metrics, value, mode)
        moving_server.advance(1)
    own = {f"0 {metrics._sink.sender.writer}".encode() for metrics in gone}
    assert fields(admin, namespace) == own
    before = page(gone[0])
    look(worker, moving_server)
    reader = make_process()
    if mode == "all":
        # Each has a row still: the clients are of one process, so it is one.
        assert fields(admin, namespace) == own
        assert page(reader) == [4]
        return
    assert fields(admin, namespace) == {b"0 "}
    if mode.startswith("live"):
        assert page(reader) == []
    else:
        assert page(reader) == before == [MERGED[mode]]


def test_live_processes_keep_their_fields(
    make_process: MakeProcess,
    worker: Worker,
    admin: redis.Redis,
    moving_server: Server,
    namespace: str,
) -> None:
    living, gone = make_process(), make_process()
    set_in(gone, 3, "sum")
    set_in(living, 4, "sum")
    for _ in range(7):
        worker.pass_once()
        moving_server.advance(GONE_MS / 1000 / 3 + 1)
        set_in(living, 4, "sum")
    worker.pass_once()
    assert fields(admin, namespace) == {b"0 ", f"0 {living._sink.sender.writer}".encode()}
    assert page(living) == [7]


@pytest.mark.parametrize("mode", MERGED)
def test_a_process_that_comes_back_counts_once(
    make_process: MakeProcess, worker: Worker, moving_server: Server, mode: str
) -> None:
    one, other = make_process(), make_process()
    set_in(one, 3, mode)
    moving_server.advance(1)
    set_in(other, 4, mode)
    look(worker, moving_server)
    assert page(one) == [MERGED[mode]]
    moving_server.advance(1)
    set_in(one, 50, mode)
    assert page(one) == [{"sum": 54, "min": 4, "max": 50, "mostrecent": 50}[mode]]


def test_the_sum_is_kept_of_values_beyond_the_separate_ones(
    make_process: MakeProcess,
    worker: Worker,
    admin: redis.Redis,
    moving_server: Server,
    namespace: str,
) -> None:
    for number in range(MOST_GONE + 5):
        set_in(make_process(), 2.0**number, "sum")
    look(worker, moving_server)
    assert fields(admin, namespace) == {b"0 "}
    assert page(make_process()) == [2.0 ** (MOST_GONE + 5) - 1]


def test_rows_of_ended_processes_are_few_and_go_after_a_day(
    make_process: MakeProcess,
    worker: Worker,
    admin: redis.Redis,
    moving_server: Server,
    namespace: str,
) -> None:
    metrics = make_process()
    set_in(metrics, 3, "all")
    live = keys.metric(namespace, 0, "jobs").totals
    (own,) = fields(admin, namespace)
    data = admin.hget(live, own)
    for pid in range(MOST_ENDED + 20):
        clock = struct.unpack_from("<d", data, 16)[0] - 1000 * pid
        admin.hset(
            live,
            f"0 gone{pid}",
            data[:16] + struct.pack("<dI", clock, 1_000_000 + pid) + data[28:],
        )
    look(worker, moving_server, SILENT_MS / 1000 + 1)
    assert len(fields(admin, namespace) - {b"0 "}) == MOST_ENDED
    assert len(page(metrics)) == MOST_ENDED
    look(worker, moving_server, ENDED_MS / 1000)
    assert fields(admin, namespace) == {b"0 "}
    assert page(metrics) == []


def test_many_values_are_merged_in_several_commits(
    make_process: MakeProcess,
    worker: Worker,
    admin: redis.Redis,
    moving_server: Server,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert MOST_REMOVED > 1
    monkeypatch.setattr(processes, "MOST_REMOVED", 4)
    for number in range(6):
        metrics = make_process()
        for tag in "ab":
            set_in(metrics, number, "sum", tag=tag)
    for _ in range(5):
        look(worker, moving_server)
    assert fields(admin, namespace) == {b"0 ", b"1 "}
    assert page(make_process()) == [15, 15]


def test_the_next_look_is_scheduled_while_a_process_has_a_value(
    make_process: MakeProcess,
    worker: Worker,
    admin: redis.Redis,
    moving_server: Server,
    namespace: str,
) -> None:
    metrics = make_process()
    set_in(metrics, 3, "livesum")
    pending, member = keys.pending(namespace, 0), PROCESSES.pending_member("jobs")
    worker.pass_once()
    assert admin.zscore(pending, member) == pytest.approx(
        moving_server.time * 1000 + INTERVAL_MS, abs=1000
    )
    look(worker, moving_server)
    # Nobody has one any more.
    assert admin.zscore(pending, member) is None
    set_in(metrics, 3, "livesum")
    worker.pass_once()
    assert admin.zscore(pending, member) is not None


def test_a_value_sent_in_the_meantime_is_kept(
    make_process: MakeProcess,
    worker: Worker,
    admin: redis.Redis,
    moving_server: Server,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metrics = make_process()
    set_in(metrics, 3, "sum")
    worker.pass_once()
    moving_server.advance(INTERVAL_MS / 1000 + 1)
    left = [5]

    def late(metric: MetricLocation, seen: MetricVersion, plan: CommitPlan) -> Operation[Outcome]:
        # Between what the worker has read and its commit.
        if left:
            assert plan.totals
            set_in(metrics, left.pop(), "sum")
        return commit(metric, seen, plan)

    monkeypatch.setattr(processes, "commit", late)
    worker.pass_once()
    assert not left
    assert fields(admin, namespace) == {f"0 {metrics._sink.sender.writer}".encode()}
    assert page(metrics) == [5]


def test_a_live_value_sent_in_the_meantime_is_kept(
    make_process: MakeProcess, worker: Worker, namespace: str
) -> None:
    metrics = make_process()
    set_in(metrics, 3, "livesum")
    ending = processes.end_live_values(Namespace(namespace), lambda process: True)
    steps = Steps(worker.client(), ending)
    steps.until_script()
    # What was read is outdated, so it is read again.
    set_in(metrics, 5, "livesum")
    steps.step()
    assert steps.commands[0][0] == "HGETALL"
    assert page(metrics) == [5]
    assert (steps.finish(), page(metrics)) == (1, [])


def test_values_of_a_deleted_series_are_removed(
    make_process: MakeProcess,
    worker: Worker,
    admin: redis.Redis,
    moving_server: Server,
    namespace: str,
) -> None:
    metrics = make_process()
    for tag in "ab":
        set_in(metrics, 3, "all", tag=tag)
    live = keys.metric(namespace, 0, "jobs").totals
    stale = {name: data for name, data in admin.hgetall(live).items() if name.startswith(b"0 ")}
    assert metrics.delete_series("jobs", {"tag": "a"}) == 1
    # A batch that was under way.
    admin.hset(live, mapping=stale)
    look(worker, moving_server)
    assert not fields(admin, namespace) & stale.keys()
    assert page(metrics) == [3]


def test_idle_series_are_forgotten_with_their_values_unless_a_process_repeats_them(
    moving_server: Server, worker: Worker, admin: redis.Redis, namespace: str
) -> None:
    made = [
        Metrics(
            moving_server.url,
            namespace=namespace,
            flush_interval=NEVER,
            clock=lambda: moving_server.time,
            **SHORT,
        )
        for _ in range(2)
    ]
    for metrics, mode in ((made[0], "livesum"), (made[1], "sum")):
        name = f"jobs_{mode}"
        for tag in "ab":
            metrics.gauge(name, per="process", merge=mode).with_tags(tag=tag).set(2.0)
        metrics.flush()
    worker.settings = resolve({}, url=moving_server.url, namespace=namespace, **SHORT)
    worker.pass_once()
    # The first one goes on living.
    for _ in range(3):
        moving_server.advance(ALL_KEPT / 2)
        recorder = made[0]._recorder
        later = recorder.steady_clock() + BEAT_SECONDS
        recorder.steady_clock = lambda later=later: later
        assert made[0]._sink._send_once(monotonic() + PATIENCE)
        worker.pass_once()
        pull_forward(admin, namespace, also=("sweep",))
        worker.pass_once()
    assert worker.counts.last_error is None
    assert {each["name"]: each["series"] for each in made[0].list_metrics()} == {"jobs_livesum": 2}
    assert not admin.exists(keys.metric(namespace, 0, "jobs_sum").totals)
    for metrics in made:
        metrics.close(0.5)


def test_a_metric_without_process_values_is_not_checked(
    make_process: MakeProcess, worker: Worker, admin: redis.Redis, namespace: str
) -> None:
    metrics = make_process()
    metrics.increment("jobs")
    metrics.flush()
    worker.pass_once()
    pending = keys.pending(namespace, 0)
    assert admin.zscore(pending, PROCESSES.pending_member("jobs")) is None
    admin.zadd(pending, {PROCESSES.pending_member("jobs"): 1})
    worker.pass_once()
    assert admin.zscore(pending, PROCESSES.pending_member("jobs")) is None
    assert metrics.query("jobs", aggregation="sum") == 1
