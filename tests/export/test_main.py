"""`python -m redismetrics.export`: print the page, or serve it."""

import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from redismetrics.errors import InvalidSetting, StoreUnavailable
from redismetrics.export.__main__ import main
from redismetrics.exposition.text import render
from tests.fixtures.exposition import UTF8, FakeMetrics, fake_module, g
from tests.fixtures.servers import PATIENCE, PROCESS_PATIENCE


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Put a fake in the place of `Metrics`; returns what it was made with, then the fakes."""
    made: list[Any] = []

    def make(**given: Any) -> FakeMetrics:
        if given["url"] == "nonsense":
            raise InvalidSetting("url must start with redis://, got 'nonsense'")
        error = (
            StoreUnavailable("no answer\nfrom Redis") if given["url"] == "redis://away" else None
        )
        metrics = FakeMetrics([g("a"), *UTF8], error)
        made.extend([given, metrics])
        return metrics

    fake_module(monkeypatch, "client.metrics", Metrics=make)
    return made


def test_main_prints_the_page(made: list[Any], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main([]) == 0
    assert capfdbinary.readouterr() == (render([g("a"), *UTF8]).encode(), b"")
    assert main(["--metric", "a", "--openmetrics", "--url", "redis://x", "--namespace", "ns"]) == 0
    assert capfdbinary.readouterr().out == b"# TYPE a gauge\n# HELP a A\na 1\n# EOF\n"
    for options in ([], ["--openmetrics"]):
        assert main(["--metric", "unknown", *options]) == 1
        assert capfdbinary.readouterr() == (
            b"",
            b"no metric 'unknown' in namespace 'fake'; `redismetrics list` prints all metrics\n",
        )
    assert made[0] == {"url": None, "namespace": None}
    assert made[2] == {"url": "redis://x", "namespace": "ns"}
    assert all(metrics.closed for metrics in made[1::2])


def test_main_prints_an_error_of_redis(made: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", "redis://away"]) == 1
    assert capsys.readouterr() == ("", "no answer from Redis\n")
    assert made[1].closed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--serve", "9464"], "must be HOST:PORT"),
        (["--serve", "localhost:"], "must be HOST:PORT"),
        (["--serve", "localhost:http"], "must be HOST:PORT"),
        (["--serve", ":65536"], "must be HOST:PORT"),
        (["--serve", ":-1"], "must be HOST:PORT"),
        (["--serve", "::1:80"], "must be HOST:PORT"),
        (["--serve", "http://localhost:80"], "must be HOST:PORT"),
        (["--serve", ":0", "--metric", "a"], "leave out --metric"),
        (["--serve", ":0", "--openmetrics"], "leave out --metric"),
        (["--url", "nonsense"], "url must start with redis://"),
        (["surplus"], "unrecognized arguments"),
    ],
)
def test_main_rejects_wrong_arguments(
    made: list[Any], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert made == []


def test_main_says_that_the_address_is_taken(
    made: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--serve", f":{port}"]) == 1
    assert f"cannot listen on 127.0.0.1:{port}: " in capsys.readouterr().err
    assert main(["--serve", "a..b:0"]) == 1
    assert "cannot listen on a..b:0: " in capsys.readouterr().err
    assert made[1].closed


SERVE = """
import sys, types
from redismetrics.exposition.families import Family, SeriesState
from redismetrics.model.definition import define
class Metrics:
    def __init__(self, **given): pass
    def live(self, name=None, exemplars=False):
        return [Family("a", define("a", "gauge"), [SeriesState({}, 0, 1.0)])]
    def self_metrics(self): return []
    def close(self): print("closed", flush=True)
name = "redismetrics.client.metrics"
module = sys.modules[name] = types.ModuleType(name)
module.Metrics = Metrics
from redismetrics.export.__main__ import main
sys.exit(main(["--serve", sys.argv[1]]))
"""


@pytest.mark.parametrize(
    ("address", "host"), [(":0", "127.0.0.1"), ("localhost:0", "localhost"), ("[::1]:0", "[::1]")]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_serves_until_it_is_stopped(address: str, host: str, number: signal.Signals) -> None:
    if "::1" in address:
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    )
    with process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            assert said.startswith(f"serving on http://{host}:")
            url = said.removeprefix("serving on ").strip()
            where = urllib.parse.urlsplit(url)
            # A client that connects and says nothing holds up neither the next one nor the end.
            with socket.create_connection((where.hostname, where.port), timeout=5):
                with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                    assert answer.read() == b"# HELP a A\n# TYPE a gauge\na 1\n"
                process.send_signal(number)
                out, err = process.communicate(timeout=PROCESS_PATIENCE)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (0, "closed\n", "")
