"""`python -m redismetrics.export` in a process of its own, with a real Redis."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from redismetrics import InvalidQuery, Metrics, ScriptFailed
from redismetrics.export import export, negotiate
from tests.export.pages import at, page
from tests.fixtures.clients import MakeMetrics
from tests.fixtures.exposition import (
    OPENMETRICS,
    TEXT,
    of_users,
)
from tests.fixtures.servers import PATIENCE, Server

ROOT = Path(__file__).parents[2]


def test_one_metric_alone_has_its_plain_name(metrics: Metrics) -> None:
    for number, name in enumerate(("a.b", "a_b")):
        metrics.gauge(name, number)
        metrics.flush()
    assert export("a_b", metrics=metrics) == "# HELP a_b A b\n# TYPE a_b gauge\na_b 1\n"
    assert export("nobody", metrics=metrics) == ""
    assert export("nobody", metrics=metrics, openmetrics=True) == "# EOF\n"
    with pytest.raises(InvalidQuery):
        export("no name", metrics=metrics)


def test_negotiate_returns_the_page_and_its_type(metrics: Metrics) -> None:
    metrics.increment("jobs")
    body, kind = negotiate(None, metrics=metrics)
    assert (of_users(body.decode()), kind) == (export(metrics=metrics), TEXT)
    body, kind = negotiate("application/openmetrics-text", metrics=metrics)
    assert (of_users(body.decode()), kind) == (
        export(metrics=metrics, openmetrics=True),
        OPENMETRICS,
    )


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "redismetrics.export", *arguments]


def run_export(metrics: Metrics, *arguments: str) -> tuple[int, str, str]:
    """Run the command with the environment of *metrics*; return status, stdout and stderr."""
    environment = {
        **os.environ,
        "REDISMETRICS_URL": str(metrics.settings.url),
        "REDISMETRICS_NAMESPACE": metrics.settings.namespace,
        "PYTHONIOENCODING": "ascii",  # a page is UTF-8 nevertheless
    }
    done = subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--openmetrics",)])
def test_a_metric_that_does_not_exist_is_an_error(metrics: Metrics, more: tuple[str, ...]) -> None:
    message = (
        f"no metric 'nobody' in namespace '{metrics.settings.namespace}'; "
        "`redismetrics list` prints all metrics\n"
    )
    assert run_export(metrics, "--metric", "nobody", *more) == (1, "", message)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), {}),
        (("--openmetrics",), {"openmetrics": True}),
        (("--metric", "jobs"), {"name": "jobs"}),
    ],
)
def test_the_command_prints_the_page(
    metrics: Metrics, arguments: tuple[str, ...], options: dict[str, Any]
) -> None:
    metrics.increment("jobs", 3, tags={"queue": "Büro"})
    metrics.gauge("depth", 7)
    expected = export(metrics=metrics, **options)
    status, printed, said = run_export(metrics, *arguments)
    assert (status, of_users(printed), said) == (0, expected, "")
    assert ("redismetrics_store_series 2" in printed) == ("--metric" not in arguments)


def test_url_and_namespace_can_be_arguments(url: str, metrics: Metrics) -> None:
    metrics.gauge("depth", 7)
    metrics.flush()
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("REDISMETRICS_")
    }
    where = ("--url", url, "--namespace", metrics.settings.namespace)
    done = subprocess.run(
        command(*where),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    expected = "# HELP depth Depth\n# TYPE depth gauge\ndepth 7\n"
    assert (done.returncode, of_users(done.stdout.decode()), done.stderr) == (0, expected, b"")


def test_an_unreachable_redis_is_one_line_without_the_password(metrics: Metrics) -> None:
    code, page_, said = run_export(metrics, "--url", "redis://:secret@127.0.0.1:1/0")
    assert (code, page_) == (1, "")
    assert said.count("\n") == 1
    assert "secret" not in said


def test_serve_reads_redis_for_each_scrape(url: str, metrics: Metrics) -> None:
    metrics.increment("jobs")
    metrics.flush()
    where = ("--url", url, "--namespace", metrics.settings.namespace)
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command("--serve", "127.0.0.1:0", *where), cwd=ROOT, stdout=pipe, stderr=pipe
    ) as process:
        try:
            assert process.stderr is not None
            address = process.stderr.readline().decode().removeprefix("serving on ").strip()
            assert address.startswith("http://127.0.0.1:"), address
            for count in (1, 2):
                with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
                    assert of_users(answer.read().decode()).splitlines() == [
                        "# HELP jobs_total Jobs",
                        "# TYPE jobs_total counter",
                        f"jobs_total {count}",
                    ]
                    assert answer.headers["Content-Type"] == TEXT
                metrics.increment("jobs")
                metrics.flush()
            asked = urllib.request.Request(
                address, headers={"Accept": "application/openmetrics-text"}
            )
            with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
                assert of_users(answer.read().decode()) == export(metrics=metrics, openmetrics=True)
                assert answer.headers["Content-Type"] == OPENMETRICS
            process.send_signal(signal.SIGTERM)
            out, said = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert (process.returncode, out, said) == (0, b"", b"")


def test_the_permissions_of_a_reader_are_enough(
    fresh_server: Callable[..., Server], make_metrics: MakeMetrics
) -> None:
    server = fresh_server(port=True)
    writer = make_metrics(server.url)
    writer.increment("jobs", 5, tags={"queue": "mail"})
    writer.histogram("took", 0.25)
    writer.flush()
    rights = "on >secret resetkeys %R~rm:* resetchannels -@all +@read +time"
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", *rights.split())
        reader = make_metrics(f"redis://reader:secret@127.0.0.1:{server.port}/0")
        assert page(reader) == page(writer)
        assert page(reader)[at("jobs_total", queue="mail")] == 5
        assert export("jobs", metrics=reader) == export("jobs", metrics=writer)
        reader.increment("jobs")
        with pytest.raises(ScriptFailed, match=r"(?i)perm"):  # the permissions above forbid writing
            reader.flush()
