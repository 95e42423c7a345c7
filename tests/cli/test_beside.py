"""`worker` with an archive and pushes beside it: the same code, and they cannot stop the worker."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import redis

pytest.importorskip("pyarrow", reason="no pyarrow: pip install 'redismetrics[archive]'")
pytest.importorskip("cramjam", reason="needs redismetrics[promql]")
pytest.importorskip("opentelemetry.proto", reason="needs redismetrics[otel]")

from redismetrics import Metrics
from redismetrics.store import keys
from tests.fixtures.clients import MakeWorker
from tests.fixtures.servers import PROCESS_PATIENCE, free_port, wait_until
from tests.fixtures.shell import ROOT, Shell
from tests.push.receivers import Receiver, receiving
from tests.push.test_command import get


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@contextmanager
def running(shell: Shell, *arguments: str, **environment: str) -> Iterator[str]:
    """Run a worker, yield the address of its page, and end it by SIGTERM."""
    port = free_port()
    options = ["--interval", "0.2", "--metrics-port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "redismetrics", "worker", *options, *arguments],
        cwd=ROOT,
        env={**shell.environment, "REDISMETRICS_PUSH_TO": "", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PROCESS_PATIENCE)
        assert (process.returncode, "Traceback" in err) == (0, False), err
    finally:
        process.kill()
        process.communicate()


def figures(at: str) -> dict[str, float]:
    """Return the samples of a page, by name with labels."""
    found = re.findall(r"^(\w+(?:{.*})?) (\S+)$", get(f"{at}/metrics")[1], re.MULTILINE)
    return {name: float(value) for name, value in found}


def soon(condition: Callable[[], object], what: str) -> None:
    wait_until(condition, what, PROCESS_PATIENCE)


@pytest.mark.slow
def test_a_worker_archives_and_pushes(
    metrics: Metrics,
    make_worker: MakeWorker,
    admin: redis.Redis,
    url: str,
    namespace: str,
    there: Receiver,
    tmp_path: Path,
) -> None:
    from tests.archive.tools import rows, settle

    before = time.time() - 7_200
    metrics.increment("jobs", 3, tags={"route": "a"}, timestamp=before)
    settle(metrics, make_worker(), admin, namespace)
    to = f"file://{tmp_path}/archive"
    services = ["--archive", to, "--archive-level", "hour", "--push", "--push-label", "job=shop"]
    address = f"remote-write+{there.url}"
    with running(Shell(url, namespace), *services, REDISMETRICS_PUSH_TO=address) as at:
        soon(lambda: there.bodies, "it pushes")
        soon(lambda: figures(at).get("redismetrics_archive_passes_total"), "it archives")
        found = figures(at)
        assert found['redismetrics_archive_rows_total{level="hour"}'] == 1
        assert found["redismetrics_archive_failures_total"] == 0
        target = f'{{target="{there.url}/api/v1/write"}}'
        soon(lambda: figures(at).get(f"redismetrics_push_samples_sent_total{target}"), "it counts")
        assert get(f"{at}/healthz") == (200, "ok\n")
        # The worker works as well.
        metrics.increment("jobs", 4, tags={"route": "a"})
        metrics.flush()
        soon(lambda: figures(at).get("redismetrics_worker_samples_total"), "it seals")
    assert [row["sum"] for row in rows(to, "hour")] == [3]
    assert metrics.query("redismetrics.archive_lag", aggregation="last") == 0
    # The leases are given back.
    for key in (keys.archive_leases(namespace), keys.push_leases(namespace)):
        leases = [msgpack.unpackb(each) for each in admin.hvals(key)]
        seconds, microseconds = admin.time()
        assert leases
        assert all(until <= 1e6 * seconds + microseconds for _, _, until in leases), leases


@pytest.mark.slow
def test_services_that_fail_are_shown_and_do_not_stop_the_worker(
    metrics: Metrics, url: str, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    services = ["--archive", f"file://{tmp_path}/file", "--push"]
    nowhere = f"remote-write+http://127.0.0.1:{free_port()}"
    metrics.increment("jobs")
    metrics.flush()
    with running(Shell(url, namespace), *services, REDISMETRICS_PUSH_TO=nowhere) as at:

        def health() -> tuple[int, str]:
            return get(f"{at}/healthz")

        soon(lambda: "archive: " in health()[1] and "push: " in health()[1], "both are shown")
        status, text = health()
        first, *others = text.splitlines()
        assert (status, first, len(others)) == (200, "ok", 2)
        assert f"archive: the archive in {tmp_path}/file failed" in text
        assert f"push: {nowhere.partition('+')[2]}/api/v1/write: " in text
        found = figures(at)
        assert found["redismetrics_archive_failures_total"] >= 1
        soon(lambda: figures(at).get("redismetrics_worker_samples_total"), "it seals")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--archive", "mysql://u:secret@h/d"],
            "must be postgresql://..., clickhouse://... or file:///folder",
        ),
        (["--archive"], "--archive must have a URL, got none"),
        (["--archive", "file:///x", "--archive-level", "week"], "level must be raw, minute"),
        (["--archive-level", "day"], "--archive-level must be given with --archive"),
        (["--archive", "file:///x", "--once"], "--archive must not be given with --once"),
        (["--push"], "--push must have a URL, got none"),
        (["--push", "http://x"], "write remote-write+http://x or otlp+http://x"),
        (["--push-interval", "15s"], "--push-interval must be given with --push"),
        (
            ["--push", "otlp+http://x", "--push-interval", "15"],
            "--push-interval must be a duration",
        ),
        (["--push", "otlp+http://x", "--push-label", "job"], "NAME=VALUE"),
        (["--push", "otlp+http://x", "--once"], "--push must not be given with --once"),
        (["--push", "otlp+http://127.0.0.1:1", "--interval", "0"], "--interval must be from 0.1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_options_are_refused(
    url: str, namespace: str, arguments: list[str], message: str
) -> None:
    status, _, err = Shell(url, namespace)("worker", *arguments)
    assert (status, message in err) == (2, True), err
    assert "secret" not in err


def test_without_its_extra_the_message_says_what_to_install(
    url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [each for each in sys.modules if each.startswith("redismetrics.archive.p")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, _, err = Shell(url, namespace)("worker", "--archive", f"file://{tmp_path}")
    assert (status, "pip install 'redismetrics[archive]'" in err) == (1, True), err


def test_the_help_names_the_services(shell: Any) -> None:
    status, out, _ = shell("worker", "--help")
    assert status == 0
    text = " ".join(out.split())
    assert "--archive [URL] (default: REDISMETRICS_ARCHIVE)" in text
    assert "--push [URL] (default: REDISMETRICS_PUSH_TO)" in text
