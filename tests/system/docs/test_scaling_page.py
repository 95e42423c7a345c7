"""What docs/scaling.md says holds: its code prints the same on each kind of store, its users may do their work and no other's."""

import doctest
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from redismetrics import Metrics, ScriptFailed
from redismetrics.export import export
from redismetrics.store.cluster import SHARDS
from redismetrics.store.urls import SCHEMES
from tests.fixtures.clusters import Cluster
from tests.fixtures.servers import Server, binaries, release, version
from tests.fixtures.workers import new_worker, pull_forward
from tests.store.test_sentinel import Watched

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "scaling.md").read_text()
USERS = {
    line.split()[2]: line.split()[5:]
    for line in re.findall(r"^    (ACL SETUSER .*)$", PAGE, re.MULTILINE)
}


def run_page(url: str, namespace: str) -> None:
    assert doctest.DocTestParser().get_examples(PAGE), "no examples found"
    runner = (
        "import doctest, sys; sys.exit(doctest.testfile(sys.argv[1], module_relative=False).failed)"
    )
    environ = {
        **os.environ,
        "REDISMETRICS_URL": url,
        "REDISMETRICS_NAMESPACE": namespace,
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", runner, str(ROOT / "docs" / "scaling.md")],
        env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_code_prints_the_same_on_one_server(url: str, namespace: str) -> None:
    run_page(url, namespace)


def test_the_code_prints_the_same_on_a_cluster(
    fresh_server: Callable[..., Server], namespace: str
) -> None:
    run_page(Cluster(fresh_server).url, namespace)


def test_the_code_prints_the_same_behind_sentinels(
    fresh_server: Callable[..., Server], tmp_path: Path, namespace: str
) -> None:
    watched = Watched(fresh_server, tmp_path, sentinels=1)
    try:
        run_page(watched.url, namespace)
    finally:
        watched.end()


def test_the_page_names_every_url_and_its_links_lead_somewhere() -> None:
    for scheme in SCHEMES:
        assert f"`{scheme}://" in PAGE or scheme in ("unix", "embedded", "none")
    assert f"has {SHARDS} shards" in PAGE
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", PAGE)]
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


@pytest.fixture(scope="module", params=binaries(), ids=lambda path: version(path).replace(" ", "-"))
def guarded(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of each kind there is here, with the page's users."""
    folder = Path(tempfile.mkdtemp(prefix="rm-", dir="/tmp"))
    old = release(request.param) < (7,)
    try:
        with Server.start(folder, request.param, port=True) as server, server.client() as admin:
            for user, rights in USERS.items():
                told = [right.replace("%R~", "~") if old else right for right in rights]
                admin.execute_command("ACL", "SETUSER", user, "reset", "on", ">password", *told)
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def as_user(server: Server, user: str, namespace: str = "prod") -> Metrics:
    url = server.url.replace("://", f"://{user}:password@")
    return Metrics(url, namespace=namespace, flush_interval=3_600)


def test_each_user_of_the_page_may_do_its_work(guarded: Server) -> None:
    assert list(USERS) == ["writer", "worker", "reader"]
    worker = new_worker(guarded.url.replace("://", "://worker:password@"), "prod")
    with (
        as_user(guarded, "writer") as writer,
        as_user(guarded, "reader") as reader,
        guarded.client() as admin,
    ):
        with reader.subscribe("jobs") as one, reader.subscribe(types="gauge") as every:
            for value in range(1, 4):
                writer.increment("jobs", tags={"a": "b"})
                writer.histogram("took", value)
                writer.gauge("depth", value)
                writer.flush()
            assert one.get(5).value == 1
            assert every.get(5).value == 1
        for _ in range(2):
            assert reader.query("jobs", aggregation="sum") == 3
            assert reader.query("took", aggregation="p50") == 2
            assert reader.time_series("jobs", aggregation="sum", interval="minute")[-1]["sum"] > 0
            worker.pass_once()
            pull_forward(admin, "prod", also=("trim", "sweep"))
            worker.pass_once()
        assert worker.counts.last_error is None
        assert len(reader.list_metrics()) == 3
        assert reader.get_stats()["storage"]["names"] == 3
        assert 'jobs_total{a="b"} 3' in export(metrics=reader)
    worker.leave()
    worker.store.close()


@pytest.mark.parametrize(
    ("user", "namespace"), [("reader", "prod"), ("worker", "prod"), ("writer", "other")]
)
def test_a_user_may_not_record_what_is_not_its_own(
    guarded: Server, user: str, namespace: str
) -> None:
    with as_user(guarded, user, namespace) as metrics:
        metrics.increment("jobs")
        with pytest.raises(ScriptFailed, match=r"(?i)no permissions|lack|NOPERM"):
            metrics.flush(1)
        assert metrics.stats()["pending"] == 1
        metrics.close(0.1)
