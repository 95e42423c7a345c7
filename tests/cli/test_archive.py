"""The command `archive`: arguments, output and exit status."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from redismetrics import Metrics
from tests.fixtures.clients import MakeWorker
from tests.fixtures.servers import PROCESS_PATIENCE, wait_until
from tests.fixtures.shell import ROOT, Shell

pytest.importorskip("pyarrow", reason="no pyarrow: pip install 'redismetrics[archive]'")


@pytest.fixture
def recorded(metrics: Metrics, make_worker: MakeWorker, admin: object, namespace: str) -> None:
    from tests.archive.tools import settle

    metrics.increment("jobs", 3, tags={"queue": "mail"}, timestamp=time.time() - 7_200)
    settle(metrics, make_worker(), admin, namespace)  # type: ignore[arg-type]


@pytest.mark.usefixtures("recorded")
def test_once_prints_what_was_archived(url: str, namespace: str, tmp_path: Path) -> None:
    shell, to = Shell(url, namespace), f"file://{tmp_path}/archive"
    args = ("archive", "--to", to, "--level", "hour")
    assert shell(*args, "--verify")[0] == 1
    assert "archive has no row" in shell(*args, "--verify")[2]
    assert shell(*args, "--once") == (0, "Archived 1 hour rows of 1 metrics.\n", "")
    assert shell(*args, "--once") == (0, "Archived no new rows of 1 metrics.\n", "")
    assert shell(*args, "--verify") == (0, "Compared 1 hour rows: none differ.\n", "")
    assert json.loads(shell(*args, "--verify", "--json")[1])["different"] == 0
    assert json.loads(shell(*args, "--backfill", "--json")[1])["rows"] == {"hour": 1}


@pytest.mark.slow
@pytest.mark.usefixtures("recorded")
def test_it_runs_until_it_is_stopped_and_records_its_lag(
    url: str, namespace: str, metrics: Metrics, tmp_path: Path
) -> None:
    shell = Shell(url, namespace)
    command = [
        sys.executable,
        "-m",
        "redismetrics",
        "archive",
        "--to",
        f"file://{tmp_path}/archive",
    ]
    with subprocess.Popen(
        [*command, "--level", "hour", "--json"],
        cwd=ROOT,
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_until(
                lambda: list(tmp_path.glob("archive/*/hour/*/*.parquet")),
                "it is archived",
                PROCESS_PATIENCE,
            )
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=PROCESS_PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 0
    assert json.loads(out.splitlines()[0])["rows"] == {"hour": 1}
    assert metrics.query("redismetrics.archive_lag", aggregation="last") == 0


def test_invalid_arguments_of_rules_are_rejected(url: str, namespace: str, tmp_path: Path) -> None:
    shell = Shell(url, namespace)
    status, _, err = shell("archive", "--to", "mysql://user:secret@host/db", "--once")
    assert status == 2
    assert "the archive must be postgresql://..., clickhouse://... or file:///folder" in err
    assert "secret" not in err
    status, _, err = shell("archive", "--to", f"file://{tmp_path}", "--level", "week", "--once")
    assert (status, "level must be raw, minute, hour or day, got 'week'" in err) == (2, True)
    status, _, err = shell("archive", "--to", "file://host/folder", "--once")
    assert (status, "with an absolute path" in err) == (2, True)
    assert shell("archive", "--to", f"file://{tmp_path}", "--verify", "--once")[0] == 2


def test_without_its_extra_the_message_says_what_to_install(
    url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(url, namespace)
    for driver, to in (("psycopg", "postgresql://host/db"), ("pyarrow", f"file://{tmp_path}")):
        for name in [each for each in sys.modules if each.startswith("redismetrics.archive.p")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, driver, None)
        status, _, err = shell("archive", "--to", to, "--once")
        assert status == 1
        assert "pip install 'redismetrics[archive]'" in err
