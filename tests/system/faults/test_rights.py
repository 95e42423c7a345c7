"""Users without a right: nothing is written, and the error names the right.

Once it is granted everything is stored once.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest
import redis

from redismetrics import Gauge, Metrics, ScriptFailed
from redismetrics.recording import redis_sink
from redismetrics.recording.backoff import Backoff
from redismetrics.store import keys, metric_keys
from redismetrics.store.driver import run
from redismetrics.store.due_slot import DueSlot
from redismetrics.store.namespace import open_namespace
from redismetrics.stream.subscription import Subscription
from redismetrics.worker import Worker, commit, downsample, queue, seal
from tests.fixtures import workers
from tests.fixtures.clients import fail_to_send
from tests.fixtures.servers import PATIENCE, Server, Servers, binaries, version, wait_until
from tests.fixtures.workers import Steps, new_worker, pull_forward

# The rights in the documentation. In Redis 6.2 a new user has all channels, and none can be added.
LEAST = (
    "resetchannels",
    "~rm:*",
    "&rm:*",
    "+@read",
    "+@write",
    "+publish",
    "+time",
    "+evalsha",
    "+script|load",
)

# The commands of the script and of the sender. The error must name the missing one.
INSIDE = (
    "get",
    "time",
    "hget",
    "hmget",
    "hlen",
    "zcard",
    "set",
    "hset",
    "zadd",
    "zrem",
    "publish",
)
OUTSIDE = ("evalsha", "hgetall")

Make = Callable[..., Metrics]


@pytest.fixture(scope="module", params=binaries(), ids=lambda path: version(path).replace(" ", "-"))
def guarded(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each kind of server on this machine. Its default user may do everything."""
    with Servers() as servers:
        yield servers.start(request.param, port=True)


@pytest.fixture
def admin(guarded: Server) -> Iterator[redis.Redis]:
    with guarded.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def make(guarded: Server, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Return a function that makes clients of this test's namespace for a user."""
    monkeypatch.setattr(redis_sink, "DEFAULT_BACKOFF", Backoff(first=0.01))
    made: list[Metrics] = []

    def client(user: str = "", **settings: Any) -> Metrics:
        url = guarded.url.replace("redis://", f"redis://{user}:secret@") if user else guarded.url
        made.append(Metrics(url, namespace=namespace, flush_interval=3_600, **settings))
        return made[-1]

    yield client
    for client_ in made:
        client_.close(0.2)


def set_user(admin: redis.Redis, name: str, *rights: str) -> None:
    admin.execute_command("ACL", "SETUSER", name, "reset", "on", ">secret", *rights)


class Moment(float):
    """A time that equals any less than a second away: it is computed from the time that is left."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Moment) and abs(self - other) < 1

    __hash__ = float.__hash__


def expiry(admin: redis.Redis, key: bytes) -> Moment | None:
    """Return when a key expires, by the server's clock; None if it does not."""
    with admin.pipeline() as pipeline:
        (seconds, microseconds), left = pipeline.time().pttl(key).execute()
    return Moment(seconds + microseconds / 1e6 + left / 1000) if left >= 0 else None


def contents(admin: redis.Redis) -> dict[bytes, Any]:
    """Return the contents of every key of this server, and when it expires.

    Not the dump of a key: the fields of a large hash have no fixed order.
    """
    read = {
        b"string": admin.get,
        b"hash": admin.hgetall,
        b"zset": lambda key: admin.zrange(key, 0, -1, withscores=True),
    }
    return {key: (expiry(admin, key), read[admin.type(key)](key)) for key in admin.scan_iter()}


def record(metrics: Metrics) -> None:
    metrics.increment("jobs", 3, tags={"a": "b"})
    metrics.increment("new_jobs", 2, tags={"c": "d"})
    metrics.gauge("depth", 4)
    Gauge("users", metrics=metrics).add(1)
    metrics.histogram("took", 2.5)


def answers(metrics: Metrics) -> list[Any]:
    total = [metrics.query(name, aggregation="sum") for name in ("jobs", "new_jobs", "took")]
    live = [metrics.live(name)[0].series[0].value for name in ("jobs", "depth", "users", "took")]
    return [
        *total,
        *live,
        metrics.query("depth", aggregation="count"),
        metrics.query("users", aggregation="count"),
    ]


def refused_then_stored(
    make: Make, admin: redis.Redis, lacking: tuple[str, ...], named: str
) -> None:
    """Check that nothing is stored without the rights *lacking*, and all once with them."""
    owner = make()
    record(owner)
    owner.flush()
    set_user(admin, "writer", *LEAST, *lacking)
    before = contents(admin)

    metrics = make("writer")
    record(metrics)
    for _ in range(3):
        with pytest.raises(ScriptFailed, match=named):
            metrics.flush()
    assert contents(admin) == before
    stats = metrics.stats()
    assert (stats["recorded"], stats["pending"], stats["stored"], stats["dropped"]) == (5, 5, 0, {})

    set_user(admin, "writer", *LEAST)
    wait_until(lambda: metrics.stats()["pending"] == 0, "the samples are stored")
    assert metrics.stats()["dropped"] == {}
    assert metrics.stats()["unpublished"] == 0
    assert answers(owner) == [6, 4, 5, 6, 4, 2, 5, 2, 2]


def scripts_know_rights(guarded: Server) -> bool:
    """True if a script can ask whether its user may run a command: from version 7 on."""
    return guarded.release >= (7,)


@pytest.mark.slow
@pytest.mark.parametrize("command", INSIDE)
def test_a_user_without_a_command_of_the_script(
    make: Make, admin: redis.Redis, guarded: Server, command: str
) -> None:
    # The script checks commands that write. For one that reads, old servers do not name it.
    writes = command in ("set", "hset", "zadd", "zrem", "publish")
    named = (
        f"(?i)lack {command} "
        if writes
        else f"'{command}'|(?i:user executing the script can't run this command)"
    )
    refused_then_stored(make, admin, (f"-{command}",), named)


def test_exemplars_need_the_right_to_expire_keys(make: Make, admin: redis.Redis) -> None:
    set_user(admin, "writer", *LEAST, "-expire")
    metrics = make("writer")
    metrics.increment("jobs")
    metrics.flush()
    before = contents(admin)
    metrics.increment("jobs", exemplar={"trace_id": "t1"})
    with pytest.raises(ScriptFailed, match=r"(?i)lack expire "):
        metrics.flush()
    assert contents(admin) == before
    set_user(admin, "writer", *LEAST)
    wait_until(lambda: metrics.stats()["pending"] == 0, "the sample is stored")
    assert [each.labels for each in make().exemplars("jobs")] == [{"trace_id": "t1"}]
    assert make().query("jobs", aggregation="sum") == 2


@pytest.mark.parametrize("command", OUTSIDE)
def test_a_user_without_a_command_of_the_sender(
    make: Make, admin: redis.Redis, guarded: Server, command: str
) -> None:
    named = f"'{command}'" if scripts_know_rights(guarded) else "no permissions to run"
    refused_then_stored(make, admin, (f"-{command}",), named)


@pytest.mark.parametrize(
    "rights", [("resetchannels",), ("resetchannels", "&other:*"), ("resetchannels", "&rm:x")]
)
def test_a_user_without_the_channels(
    make: Make, admin: redis.Redis, rights: tuple[str, ...]
) -> None:
    refused_then_stored(make, admin, rights, "PUBLISH rm:")


def test_a_user_who_may_publish_some_metrics_only(
    make: Make, admin: redis.Redis, guarded: Server, namespace: str
) -> None:
    if not scripts_know_rights(guarded):
        pytest.skip("in Redis 6.2 scripts cannot ask about a right")
    refused_then_stored(
        make, admin, ("resetchannels", f"&rm:{namespace}:stream:jobs"), "PUBLISH rm:.*:stream:"
    )


def test_a_user_who_may_not_load_scripts(make: Make, admin: redis.Redis) -> None:
    set_user(admin, "writer", *LEAST, "-script")
    admin.script_flush()
    metrics = make("writer")
    metrics.increment("jobs")
    with pytest.raises(ScriptFailed, match="script"):
        metrics.flush()
    assert metrics.stats()["pending"] == 1
    owner = make()
    owner.increment("jobs")
    owner.flush()  # loads the script for all
    wait_until(lambda: metrics.stats()["pending"] == 0, "the sample is stored")
    assert owner.query("jobs", aggregation="sum") == 2


@pytest.mark.parametrize("keys", [("~other:*",), ("~rm:x",)])
def test_a_user_without_the_keys(make: Make, admin: redis.Redis, keys: tuple[str, ...]) -> None:
    refused_then_stored(make, admin, ("resetkeys", *keys), "(?i)no permissions to access|keys")


def test_a_user_who_may_only_read_the_keys(make: Make, admin: redis.Redis, guarded: Server) -> None:
    if not scripts_know_rights(guarded):
        pytest.skip("read-only keys need Redis 7")
    refused_then_stored(make, admin, ("resetkeys", "%R~rm:*"), "(?i)no permissions to access|keys")


def test_a_user_without_read_access_cannot_trim_the_log(make: Make, admin: redis.Redis) -> None:
    owner = make(log_bytes=1 << 18, samples_per_flush=10_000)
    for number in range(12):
        for value in range(1_000):
            owner.histogram("took", value + 1 / (value + number + 1))
        owner.flush()
    held = owner.query("took", aggregation="count")
    set_user(admin, "writer", *LEAST, "-zrange")
    before = contents(admin)
    metrics = make("writer", log_bytes=1 << 16, samples_per_flush=10_000)
    for value in range(1_000):
        metrics.histogram("took", value + 1 / 7)
    with pytest.raises(ScriptFailed):
        metrics.flush()
    assert contents(admin) == before
    set_user(admin, "writer", *LEAST)
    wait_until(lambda: metrics.stats()["pending"] == 0, "the samples are stored")
    storage = owner.get_stats()["storage"]
    assert storage["metrics_stored"] == 13_000
    assert storage["metrics_dropped"]["never_sealed"] == 13_000 - owner.query(
        "took", aggregation="count"
    )
    assert owner.query("took", aggregation="count") <= held + 1_000


def test_the_documented_rights_suffice_to_record_query_and_listen(
    make: Make, admin: redis.Redis, namespace: str
) -> None:
    set_user(admin, "writer", *LEAST)
    metrics = make("writer")
    record(metrics)
    metrics.flush()
    stats = metrics.stats()
    assert (stats["stored"], stats["unpublished"], stats["last_error"]) == (5, 0, None)
    assert answers(metrics) == [3, 2, 2.5, 3, 4, 1, 2.5, 1, 1]
    assert [row["name"] for row in metrics.list_metrics()] == [
        "depth",
        "jobs",
        "new_jobs",
        "took",
        "users",
    ]
    assert metrics.tag_values("jobs", "a") == ["b"]
    assert metrics.time_series("jobs", aggregation="sum")[0]["sum"] == 3
    assert metrics.get_metrics(name="jobs")["count"] == 1


def test_listening_needs_subscribe_too(make: Make, admin: redis.Redis) -> None:
    set_user(
        admin,
        "writer",
        *LEAST,
        "+subscribe",
        "+psubscribe",
        "+unsubscribe",
        "+punsubscribe",
        "+ping",
    )
    metrics = make("writer")
    subscription: Subscription
    with metrics.subscribe("jobs") as subscription:
        metrics.increment("jobs")
        metrics.flush()
        assert subscription.get(PATIENCE).name == "jobs"


def test_reading_needs_only_read_and_time(make: Make, admin: redis.Redis) -> None:
    owner = make()
    record(owner)
    owner.flush()
    set_user(admin, "reader", "~rm:*", "+@read", "+time")
    before = contents(admin)
    metrics = make("reader")
    assert answers(metrics) == [3, 2, 2.5, 3, 4, 1, 2.5, 1, 1]
    assert len(metrics.list_metrics()) == 5
    assert contents(admin) == before


def test_server_statistics_need_info_too(make: Make, admin: redis.Redis) -> None:
    set_user(admin, "writer", *LEAST)
    metrics = make("writer")
    record(metrics)
    metrics.flush()
    with pytest.raises(ScriptFailed, match=r"(?i)no permissions to run the 'info'"):
        metrics.get_stats()
    set_user(admin, "writer", *LEAST, "+info")
    assert metrics.get_stats()["storage"]["metrics_stored"] == 5


def test_a_user_who_may_record_and_query_may_delete(make: Make, admin: redis.Redis) -> None:
    set_user(admin, "writer", *LEAST)
    metrics = make("writer")
    record(metrics)
    assert metrics.delete_metric("jobs")
    assert metrics.clear(confirm=True) == 4
    assert metrics.list_metrics() == []


@pytest.mark.parametrize(
    "rights",
    [
        ("-del",),
        ("-zrem",),
        ("-hdel",),
        ("-hset",),
        ("-hkeys",),
        ("-evalsha",),
    ],
    ids=" ".join,
)
def test_a_user_without_permission_deletes_nothing(
    make: Make, admin: redis.Redis, rights: tuple[str, ...]
) -> None:
    owner = make()
    record(owner)
    owner.flush()
    set_user(admin, "writer", *LEAST, *rights)
    before = contents(admin)
    with pytest.raises(ScriptFailed):
        make("writer").delete_metric("jobs")
    assert contents(admin) == before


def test_a_wrong_password_raises_and_is_never_shown(make: Make, admin: redis.Redis) -> None:
    admin.execute_command("ACL", "SETUSER", "writer", "reset", "on", ">another", *LEAST)
    metrics = make("writer")
    metrics.increment("jobs")
    fail_to_send(metrics)
    with pytest.raises(Exception, match=r"(?i)invalid username-password|WRONGPASS") as raised:
        metrics.flush(0.1)
    assert "secret" not in str(raised.value) + str(metrics.stats())
    assert "Redis refused the login: " in str(raised.value)
    assert "check the user and the password in the URL" in str(raised.value)
    set_user(admin, "writer", *LEAST)
    wait_until(lambda: metrics.stats()["pending"] == 0, "the sample is stored")
    assert make().query("jobs", aggregation="sum") == 1


# -- workers ------------------------------------------------------------------------------------

# The commands of a commit, and those by which a pass reads.
COMMITTING = (
    "hset",
    "hdel",
    "hincrby",
    "zadd",
    "zrem",
    "zremrangebyscore",
    "expireat",
    "persist",
    "del",
)
READING = (
    "get",
    "time",
    "hget",
    "hmget",
    "hgetall",
    "hlen",
    "hstrlen",
    "zrange",
    "zcard",
    "evalsha",
)


@pytest.fixture
def make_worker(guarded: Server, namespace: str) -> Iterator[Callable[..., Worker]]:
    """Return a function that makes workers of this test's namespace for a user."""
    made: list[Worker] = []

    def worker(user: str = "") -> Worker:
        url = guarded.url.replace("redis://", f"redis://{user}:secret@") if user else guarded.url
        made.append(new_worker(url, namespace))
        return made[-1]

    yield worker
    for each in made:
        each.leave()
        each.store.close()


def works_with_the_right_only(
    make: Make,
    make_worker: Callable[..., Worker],
    admin: redis.Redis,
    namespace: str,
    lacking: tuple[str, ...],
    named: str,
) -> None:
    """Check that a worker does nothing without the rights *lacking*, and all with them."""
    owner = make()
    owner.increment("jobs", 3, tags={"a": "b"})
    owner.histogram("took", 2.5)
    owner.flush()
    for work in ("seal", "make"):
        if work == "make":
            pull_forward(admin, namespace)
        was = workers.contents(admin, namespace)
        set_user(admin, "worker", *LEAST, *lacking)
        worker = make_worker("worker")
        try:
            worker.pass_once(alone=True)
            message = worker.counts.last_error
        except ScriptFailed as error:
            message = str(error)
        assert message is not None
        assert re.search(named, message), message
        assert workers.contents(admin, namespace) == was
        set_user(admin, "worker", *LEAST)
        while worker.pass_once(alone=True):
            pass
        assert worker.counts.last_error is None
        assert workers.contents(admin, namespace) != was
        assert [owner.query(name, aggregation="sum") for name in ("jobs", "took")] == [3, 2.5]
    assert admin.zcard(keys.shard(namespace, 0).dirty) == 0
    assert [admin.hlen(keys.rollup(namespace, 0, name).due) for name in ("jobs", "took")] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMITTING)
def test_a_worker_without_a_command_of_its_commit(
    make: Make,
    make_worker: Callable[..., Worker],
    admin: redis.Redis,
    guarded: Server,
    namespace: str,
    command: str,
) -> None:
    if command == "del" and not scripts_know_rights(guarded):
        pytest.skip("in Redis 6.2 scripts cannot ask about a right, and DEL cannot be tried")
    # The heartbeat is a separate command.
    named = f"(?i)lack {command} |'{command}'|no permissions to run the 'zadd'"
    works_with_the_right_only(make, make_worker, admin, namespace, (f"-{command}",), named)


@pytest.mark.slow
@pytest.mark.parametrize("command", READING)
def test_a_worker_without_a_command_that_reads(
    make: Make, make_worker: Callable[..., Worker], admin: redis.Redis, namespace: str, command: str
) -> None:
    named = (
        f"'{command}'|(?i:user executing the script can't run this command)|no permissions to run"
    )
    works_with_the_right_only(make, make_worker, admin, namespace, (f"-{command}",), named)


@pytest.mark.parametrize("rights", [("~other:*",), ("~rm:x",), ("%R~rm:*",)])
def test_a_worker_without_the_keys(
    make: Make,
    make_worker: Callable[..., Worker],
    admin: redis.Redis,
    guarded: Server,
    namespace: str,
    rights: tuple[str, ...],
) -> None:
    if rights[0].startswith("%") and not scripts_know_rights(guarded):
        pytest.skip("read-only keys need Redis 7")
    works_with_the_right_only(
        make,
        make_worker,
        admin,
        namespace,
        ("resetkeys", *rights),
        "(?i)no permissions to access|keys|not allowed",
    )


@pytest.mark.parametrize("command", ["hscan", "hget", "hdel", "evalsha"])
def test_a_worker_without_permission_removes_no_writers(
    make: Make, make_worker: Callable[..., Worker], admin: redis.Redis, namespace: str, command: str
) -> None:
    owner = make()
    record(owner)
    owner.flush()
    retention = run(make_worker().client(), open_namespace(namespace)).retention
    writers = keys.shard(namespace, 0).writers
    old = msgpack.packb([1, 1_000_000, b""], use_bin_type=False)
    admin.hset(writers, mapping={f"writer{number}": old for number in range(3)})
    set_user(admin, "worker", *LEAST, f"-{command}")
    before = contents(admin)
    with pytest.raises(ScriptFailed, match=r"(?i)can't run this command|no permissions"):
        run(make_worker("worker").client(), queue.prune_writers(namespace, 0, retention))
    assert contents(admin) == before
    set_user(admin, "worker", *LEAST)
    assert run(make_worker("worker").client(), queue.prune_writers(namespace, 0, retention)) == 3
    assert admin.hlen(writers) == 1


@pytest.mark.parametrize("work", ["seal", "make"])
def test_a_full_server_applies_a_commit_completely_or_not_at_all(
    make: Make, make_worker: Callable[..., Worker], admin: redis.Redis, namespace: str, work: str
) -> None:
    owner = make()
    record(owner)
    owner.flush()
    client = make_worker().client()
    metric = metric_keys.MetricLocation(
        namespace, 0, "took", run(client, open_namespace(namespace)).retention
    )
    operation = seal.seal(metric)
    if work == "make":
        assert run(client, operation).outcome is commit.Outcome.DONE
        due = [DueSlot.parse(each) for each in admin.hkeys(metric.worked.due)]
        (hour,) = [each for each in due if each.resolution == "hour"]
        operation = downsample.downsample(metric, hour)
    steps = Steps(client, operation)
    steps.until_script()
    run(client, queue.prune_writers(namespace, 0, metric.retention))
    before = workers.contents(admin, namespace)
    admin.config_set("maxmemory", 1)
    try:
        with pytest.raises(ScriptFailed, match="maxmemory"):
            steps.finish()
        assert workers.contents(admin, namespace) == before
    finally:
        admin.config_set("maxmemory", 0)
    worker = make_worker()
    worker.pass_once(alone=True)
    assert worker.counts.failures == 0
    assert owner.query("took", aggregation="sum") == 2.5


def test_the_documented_rights_suffice_for_a_worker(
    make: Make, make_worker: Callable[..., Worker], admin: redis.Redis, namespace: str
) -> None:
    set_user(admin, "worker", *LEAST)
    owner = make()
    record(owner)
    owner.flush()
    writers = keys.shard(namespace, 0).writers
    admin.hset(writers, "gone", msgpack.packb([1, 1_000_000, b""], use_bin_type=False))
    worker = make_worker("worker")
    worker.pass_once()
    pull_forward(admin, namespace, also=("trim", "sweep"))
    worker.pass_once()
    assert (worker.counts.failures, worker.counts.writers_pruned) == (0, 1)
    worker.leave()
    assert admin.zcard(keys.workers(namespace)) == 0
    assert answers(owner) == [3, 2, 2.5, 3, 4, 1, 2.5, 1, 1]
