"""The users on docs/scaling.md may do their work, and nothing else."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from redismetrics import Metrics, ScriptFailed
from redismetrics.alerts.notify.groups import Sent
from redismetrics.alerts.notify.log_store import write_log
from redismetrics.alerts.packing import GroupStatus, StateChange
from redismetrics.alerts.store import SavedGroup, save_group
from redismetrics.export import export
from redismetrics.push.snapshot import read_snapshot
from redismetrics.store import keys, requests
from redismetrics.store import lease as leases
from redismetrics.store.cluster import SHARDS
from redismetrics.store.lease import take
from redismetrics.store.urls import SCHEMES
from tests.fixtures.servers import PATIENCE, Server, binaries, release, version
from tests.fixtures.workers import new_worker, pull_forward

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "scaling.md").read_text()
USERS = {
    line.split()[2]: line.split()[5:]
    for line in re.findall(r"^    (ACL SETUSER .*)$", PAGE, re.MULTILINE)
}


def test_the_page_names_every_scheme_and_the_number_of_shards() -> None:
    for scheme in SCHEMES:
        assert f"`{scheme}://" in PAGE or scheme in ("unix", "embedded", "none")
    assert f"has {SHARDS} shards" in PAGE


@pytest.fixture(scope="module", params=binaries(), ids=lambda path: version(path).replace(" ", "-"))
def server_with_users(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each kind of server on this machine, with the users of the page."""
    folder = Path(tempfile.mkdtemp(prefix="rm-", dir="/tmp"))
    old = release(request.param) < (7,)
    try:
        with Server.start(folder, request.param, port=True) as server, server.client() as admin:
            for user, rights in USERS.items():
                known = [right.replace("%R~", "~") if old else right for right in rights]
                admin.execute_command("ACL", "SETUSER", user, "reset", "on", ">password", *known)
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def as_user(server: Server, user: str, namespace: str = "prod") -> Metrics:
    url = server.url.replace("://", f"://{user}:password@")
    return Metrics(url, namespace=namespace, flush_interval=3_600)


@pytest.mark.slow
def test_each_user_of_the_page_may_do_its_work(server_with_users: Server) -> None:
    assert list(USERS) == ["writer", "worker", "reader"]
    worker = new_worker(server_with_users.url.replace("://", "://worker:password@"), "prod")
    with (
        as_user(server_with_users, "writer") as writer,
        as_user(server_with_users, "reader") as reader,
        server_with_users.client() as admin,
    ):
        with reader.subscribe("jobs") as one, reader.subscribe(types="gauge") as every:
            for value in range(1, 4):
                writer.increment("jobs", tags={"a": "b"})
                writer.histogram("took", value)
                writer.gauge("depth", value)
                writer.gauge("busy", per="process", merge="livesum").set(1.0)
                writer.flush()
            assert one.get(PATIENCE).value == 1
            assert every.get(PATIENCE).value == 1
        for _ in range(2):
            assert reader.query("jobs", aggregation="sum") == 3
            assert reader.query("took", aggregation="p50") == 2
            assert reader.time_series("jobs", aggregation="sum", interval="minute")[-1]["sum"] > 0
            worker.pass_once()
            pull_forward(admin, "prod", also=("trim", "sweep", "processes"))
            worker.pass_once()
        assert worker.counts.last_error is None
        assert len(reader.list_metrics()) == 4
        assert reader.alert_history() == reader.list_alerts() == reader.list_silences() == []
        assert reader.get_stats()["storage"]["names"] == 4
        assert writer.mark_process_dead(os.getpid()) == 1
        assert 'jobs_total{a="b"} 3' in export(metrics=reader)
    worker.leave()
    worker.store.close()


def more_rights(of: str) -> list[str]:
    """Return the rights that follow the text *of* in the section about permissions."""
    after = PAGE.partition("## Permissions")[2].partition(of)[2]
    return re.search(r"`(\+[a-z+| \n]+)`", after)[1].split()  # type: ignore[index]


def test_a_server_that_records_may_remember_requests_and_clear_forgets_them(
    server_with_users: Server,
) -> None:
    rights = {each for user in ("writer", "reader") for each in USERS[user] if each[0] == "+"}
    with server_with_users.client() as admin:
        kept = [each for each in USERS["writer"] if each[0] != "+"]
        admin.execute_command(
            "ACL",
            "SETUSER",
            "server",
            "reset",
            "on",
            ">password",
            *kept,
            *rights,
            *more_rights("serve --allow-write"),
        )
        with as_user(server_with_users, "server") as metrics:
            claim = requests.claim("prod", "0" * 32, b"{}", 60_000, 1_790_000_000_000)
            assert metrics.internals.run(claim) is None
            metrics.internals.run(requests.remember("prod", "0" * 32, b"{}", 60_000))
            assert metrics.internals.run(requests.find("prod", "0" * 32)) == b"{}"
            metrics.increment("jobs", exemplar={"trace_id": "t1"})
            assert metrics.flush().stored == 1
            assert metrics.delete_mark(metrics.mark("deploy").id)
            silence = metrics.silence_alerts("a=b", comment="x", author="y")
            assert metrics.expire_silence(silence["id"])
        admin.execute_command("ACL", "SETUSER", "server", *more_rights("`clear` needs"))
        with as_user(server_with_users, "server") as metrics:
            metrics.clear(confirm=True)
            assert metrics.internals.run(requests.find("prod", "0" * 32)) is None


def test_a_writer_and_reader_may_record_list_and_delete_marks(server_with_users: Server) -> None:
    rights = {each for user in ("writer", "reader") for each in USERS[user] if each[0] == "+"}
    kept = [each for each in USERS["writer"] if each[0] != "+"]
    with server_with_users.client() as admin:
        rules = [*kept, *rights, *more_rights("A writer that creates")]
        admin.execute_command("ACL", "SETUSER", "marker", "reset", "on", ">password", *rules)
    with as_user(server_with_users, "marker") as metrics:
        mark = metrics.mark("deploy")
        with as_user(server_with_users, "reader") as reader:
            assert reader.marks() == [mark]
        assert metrics.delete_mark(mark.id)


def test_a_worker_may_evaluate_rules_send_alerts_and_silence_them(
    server_with_users: Server,
) -> None:
    rights = {each for user in USERS.values() for each in user if each[0] == "+"}
    kept = [each for each in USERS["writer"] if each[0] != "+"]
    with server_with_users.client() as admin:
        rules = [*kept, *rights, *more_rights("alert rules")]
        admin.execute_command("ACL", "SETUSER", "alerts", "reset", "on", ">password", *rules)
    with as_user(server_with_users, "alerts") as metrics:
        run = metrics.internals.run
        lease = run(take(keys.alerts("prod").leases, "g", "me", 60_000))
        status = GroupStatus(name="g", evaluated_at=1_790_000_000_000)
        change = StateChange(1_790_000_000_000, "g", "A", {}, "inactive", "firing", 1.0)
        group = SavedGroup(status)
        assert run(save_group("prod", "g", lease.fence, SavedGroup(), group, [change]))
        # Another process has written it since.
        assert run(save_group("prod", "g", lease.fence, SavedGroup(), group, [change]))
        assert run(take(keys.alerts("prod").leases, "notify", "me", 60_000)).holder == "me"
        assert not run(write_log("prod", 1, {"a": Sent(1)}, ["b"]))
        silence = metrics.silence_alerts("a=b", comment="x", author="y")
        metrics.expire_silence(silence["id"])
        assert [each["after"] for each in metrics.alert_history(since=0)] == ["firing"]


def test_a_reader_with_more_rights_may_push(server_with_users: Server) -> None:
    after = PAGE.partition("(pushing.md)** needs")[2]
    (key,) = re.findall("`(~rm:[^`]*)`", after.partition("\n- ")[0])
    rules = [*USERS["reader"], key, *more_rights("(pushing.md)**")]
    with server_with_users.client() as admin, as_user(server_with_users, "writer") as metrics:
        metrics.increment("jobs")
        metrics.flush()
        admin.execute_command("ACL", "SETUSER", "push", "reset", "on", ">password", *rules)
    with as_user(server_with_users, "push") as metrics:
        run = metrics.internals.run
        snapshot = run(read_snapshot(metrics.internals.query_context, 60_000))
        assert "jobs_total" in [each.name for each in snapshot.families]
        assert run(take(keys.push_leases("prod"), "target", "me", 60_000)).holder == "me"
        assert run(leases.release(keys.push_leases("prod"), "target", "me")).valid_ms == 0
        with pytest.raises(ScriptFailed):
            run(take(keys.alerts("prod").leases, "target", "me", 60_000))


@pytest.mark.parametrize(
    ("user", "namespace"), [("reader", "prod"), ("worker", "prod"), ("writer", "other")]
)
def test_a_user_may_not_record_in_another_namespace_or_without_permission(
    server_with_users: Server, user: str, namespace: str
) -> None:
    with as_user(server_with_users, user, namespace) as metrics:
        metrics.increment("jobs")
        with pytest.raises(ScriptFailed, match=r"(?i)no permissions|lack|NOPERM"):
            metrics.flush()
        assert metrics.stats()["pending"] == 1
        metrics.close(0.1)
