"""`redismetrics push` on the command line."""

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("cramjam", reason="needs redismetrics[promql]")
pytest.importorskip("typer", reason="needs redismetrics[cli]")

from redismetrics import Metrics
from tests.fixtures.servers import PATIENCE, PROCESS_PATIENCE, free_port, wait_until
from tests.fixtures.shell import Shell
from tests.push.receivers import Receiver, receiving


@pytest.fixture
def shell(url: str, namespace: str) -> Shell:
    return Shell(url, namespace)


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


@contextmanager
def running(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run `redismetrics push`, and end it by SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "redismetrics", "push", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
    )
    try:
        yield process
        process.terminate()
        _, err = process.communicate(timeout=PROCESS_PATIENCE)
        assert (process.returncode, "Traceback" in err) == (0, False), err
    finally:
        process.kill()


@pytest.mark.slow
def test_it_runs_until_sigterm_and_has_a_page_of_its_own(
    metrics: Metrics, url: str, namespace: str, there: Receiver
) -> None:
    metrics.increment("jobs", 3)
    metrics.flush()
    port = free_port()
    options = ["--url", url, "--namespace", namespace, "--interval", "100ms"]
    to = f"remote-write+{there.url}"
    with running(*options, "--metrics-port", str(port), REDISMETRICS_PUSH_TO=to):
        there.wait_for(2)
        at = f"http://127.0.0.1:{port}"
        assert get(f"{at}/healthz") == (200, "ok\n")
        name = f'{{target="{there.url}/api/v1/write"}}'
        wait_until(
            lambda: re.search(
                rf"^redismetrics_push_samples_sent_total{re.escape(name)} [1-9]",
                get(f"{at}/metrics")[1],
                re.MULTILINE,
            ),
            "it is counted",
        )
        page = get(f"{at}/metrics")[1]
        assert f"redismetrics_push_has_lease{name} 1" in page
        assert f"redismetrics_push_samples_refused_total{name} 0" in page


@pytest.mark.slow
def test_it_runs_before_redis_does(there: Receiver) -> None:
    port, page = free_port(), free_port()
    options = ["--to", f"remote-write+{there.url}", "--metrics-port", str(page)]
    with running("--url", f"redis://127.0.0.1:{port}", *options):
        wait_until(lambda: get(f"http://127.0.0.1:{page}/healthz")[0] == 503, "it says so")
        assert "did not answer" in get(f"http://127.0.0.1:{page}/healthz")[1]


def test_once_ends_with_the_status_of_its_targets(
    shell: Shell, metrics: Metrics, there: Receiver
) -> None:
    metrics.increment("jobs", 3)
    metrics.flush()
    to = ["push", "--once", "--to", f"remote-write+{there.url}"]
    assert shell(*to)[0] == 0
    there.answers = [(400, {}, b"out of order")]
    status, _, err = shell(*to)
    assert status == 1
    assert "1 samples were rejected, 0 were not sent: answered 400: out of order" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--to"),
        (("--to", "http://a"), "write remote-write+http://a or otlp+http://a"),
        (("--to", "http://a:b@c"), "no user and password"),
        (("--to", "otlp+http://a", "--interval", "15"), "--interval must be a duration such as"),
        (("--to", "otlp+http://a", "--interval", "0"), "--interval must be more than 0"),
        (("--to", "otlp+http://a", "--external-label", "job"), "NAME=VALUE"),
    ],
)
def test_a_wrong_command_line(shell: Shell, arguments: tuple[str, ...], message: str) -> None:
    status, _, err = shell("push", *arguments)
    assert (status, message in err) == (2, True), err


def test_a_missing_credentials_file_is_not_a_usage_error(shell: Shell, tmp_path: Path) -> None:
    status, _, err = shell("push", "--to", f"otlp+http://a#token-file={tmp_path}/none")
    assert status == 1
    assert "cannot read credentials" in err
