"""The command `copy`: arguments, output, exit status, and the example of its page."""

import re
import shlex
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from redis.crc import key_slot

from redismetrics import Metrics
from redismetrics.admin import copying
from redismetrics.admin.copy_report import Progress
from redismetrics.admin.copying import copy
from redismetrics.store import keys
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.clusters import Cluster
from tests.fixtures.copies import NAMES, Stopped, copied
from tests.fixtures.servers import PROCESS_PATIENCE, Server, wait_until
from tests.fixtures.shell import Shell
from tests.system.faults.proxy import Proxy


@pytest.mark.slow
def test_copy_prints_a_table_and_its_exit_status_says_if_it_is_complete(
    make_metrics: MakeMetrics, server: Server, cluster: Cluster, url: str, namespace: str
) -> None:
    metrics = make_metrics(url)
    for number, name in enumerate(NAMES):
        metrics.increment(name, number + 1)
    metrics.flush()
    shell = Shell(url, namespace)
    sides: tuple[str, ...] = ("--from", url, "--to", cluster.url)
    status, out, err = shell("copy", *sides)
    assert (status, out) == (1, "")
    assert "in use, the last batch arrived" in err
    sides += ("--active",)  # or it would have to be left alone for some seconds
    status, out, err = shell("copy", *sides)
    assert (status, err) == (0, "")
    lines = [line.split("\t") for line in out.splitlines()]
    assert lines[0] == ["name", "series", "samples", "count", "fields", "bytes", "sides"]
    assert {line[0] for line in lines[1:-1]} == set(NAMES)
    assert {tuple(line[at] for at in (1, 2, 6)) for line in lines[1:-1]} == {("1", "1", "same")}
    assert "Copied 12 metrics" in lines[-1][0]
    assert "1 shard" in lines[-1][0]
    assert "16 shards" in lines[-1][0]
    assert Shell(cluster.url, namespace)("query", "jobs_4", "-a", "sum") == (0, "5\n", "")
    status, _, err = shell("copy", *sides)
    assert status == 1
    assert "already has 12 metrics" in err
    with make_metrics(cluster.url) as there:
        there.clear(confirm=True)
    report = shell.json("copy", *sides)
    assert report["complete"] is True
    assert (report["source_shards"], report["target_shards"], report["different"]) == (1, 16, [])
    assert report["metrics"][0]["source"] == report["metrics"][0]["target"]
    assert len(report["metrics"]) == 12
    with make_metrics(cluster.url) as there:
        there.clear(confirm=True)
    status, screen = shell.at_a_terminal("copy", *sides)
    assert status == 0
    assert "counting both sides" in screen
    assert "same" in screen


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--to", "redis://localhost"), "--from URL is missing"),
        (("--from", "redis://localhost"), "--to"),
        (("--to", "redis://localhost", "--reset", "--active"), "--reset can be combined"),
        (("--to", "http://:geheim@x", "--from", "redis://localhost"), "url"),
        (("--to", "redis://localhost", "--from", "redis://localhost", "--shards", "0"), "--shards"),
    ],
)
def test_invalid_arguments_of_copy_are_rejected(args: tuple[str, ...], message: str) -> None:
    status, out, err = Shell("redis://localhost:1/0", "x")("copy", *args)
    assert (status, out) == (2, "")
    assert message in err
    assert "geheim" not in err


def test_copy_names_a_side_that_does_not_answer(
    make_metrics: MakeMetrics, url: str, namespace: str
) -> None:
    metrics = make_metrics(url)
    metrics.increment("jobs")
    metrics.flush()
    status, out, err = Shell(url, namespace)(
        "copy", "--from", url, "--to", "redis://:geheim@127.0.0.1:1/0"
    )
    assert (status, out) == (1, "")
    assert "127.0.0.1:1" in err
    assert "repeat the copy" in err
    assert "geheim" not in err


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=lambda each: each.name)
def test_a_killed_copy_command_can_be_repeated(
    make_metrics: MakeMetrics,
    cluster: Cluster,
    server: Server,
    namespace: str,
    how: signal.Signals,
) -> None:
    metrics = make_metrics(server.url)
    many = [f"jobs_{number}" for number in range(300)]
    for name in many:
        metrics.increment(name, 3)
    metrics.flush()
    shell = Shell(server.url, namespace)
    sides = ("--to", cluster.url, "--active", "--from")
    noted_in = keys.copying(namespace)
    node = cluster.nodes[cluster.owner(key_slot(noted_in.encode()))]
    with Proxy(server) as proxy, node.client() as admin:
        # Copying takes seconds, so that it is not over before it is killed.
        proxy.delay = 0.02
        with shell.start("copy", *sides, proxy.url) as process:
            wait_until(
                lambda: process.poll() is not None or admin.hlen(noted_in) > 20,
                "some metrics are copied",
                PROCESS_PATIENCE,
            )
            process.send_signal(how)
            assert process.wait() == (
                -signal.SIGKILL if how is signal.SIGKILL else 128 + signal.SIGTERM
            )
        noted = admin.hlen(noted_in)
    assert 20 < noted < 300
    if how is signal.SIGKILL:  # else it took its lock along
        status, _, err = shell("copy", *sides, server.url)
        assert status == 1
        assert "is being written by another copy; wait for it to finish, or 30 s" in err
        lock = keys.copier(namespace)
        with cluster.nodes[cluster.owner(key_slot(lock.encode()))].client() as admin:
            admin.delete(lock)
    assert shell("copy", *sides, server.url)[0] == 0
    with make_metrics(cluster.url) as there:
        assert [there.query(name, aggregation="sum") for name in many] == [3] * 300


def test_an_interrupted_copy_can_be_cancelled(
    make_metrics: MakeMetrics, second_server: Server, server: Server, url: str, namespace: str
) -> None:
    metrics = make_metrics(url)
    for name in NAMES:
        metrics.increment(name)
    metrics.flush()

    def stop(progress: Progress) -> None:
        if progress.phase == "counting":
            raise Stopped

    with pytest.raises(Stopped):
        copied(url, second_server.url, namespace, on_progress=stop)
    shell = Shell(second_server.url, namespace)
    assert "is being copied to here" in shell("list")[2]
    assert shell("copy", "--reset", "--to", second_server.url) == (0, "Deleted 12 metrics.\n", "")
    assert shell("copy", "--reset", "--to", second_server.url, "--json") == (
        0,
        '{"deleted": 0}\n',
        "",
    )
    assert shell("list") == (0, "", "")
    there = make_metrics(second_server.url)
    there.increment("jobs")
    there.flush()
    assert there.query("jobs", aggregation="sum") == 1


@pytest.mark.slow
def test_the_example_of_the_scaling_page_prints_its_output(
    fresh_server: Callable[..., Server], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
    (block,) = re.findall(r"```console\n\$ (.*?)```", page, re.DOTALL)
    command, _, printed = block.partition("\n")
    monkeypatch.setattr(copying, "copy", partial(copy, idle_seconds=0.2))
    old = fresh_server(port=True)
    urls = {"redis://old:6379/0": old.url, "redis+cluster://new-1:6379,new-2:6379": cluster.url}
    with Metrics(old.url, namespace="prod") as metrics:
        for shop, times in (("berlin", 3), ("oslo", 1)):
            metrics.increment("orders_placed", times, tags={"shop": shop})
        for value in (1.5, 2.5, 3.5):
            metrics.histogram("delivery_ms", value)
    status, out, err = Shell(old.url, "prod")(
        *(urls.get(word, word) for word in shlex.split(command)[1:])
    )
    assert (status, err) == (0, "")
    for shown, real in urls.items():
        out = out.replace(real, shown)
    assert alike(out) == alike(printed)


def alike(printed: str) -> str:
    """Remove what differs between runs: the bytes of times, and seconds."""
    return re.sub(r"\d+\tsame|in [0-9.]+ s", "", printed)
