"""The code on the documentation's pages runs and prints what the pages say."""

import importlib
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from redismetrics.testing import Captured
from tests.fixtures.clusters import Cluster
from tests.fixtures.pages import DOCS, ROOT, blocks, has_session, run_python, run_session
from tests.fixtures.sentinels import SentinelServers
from tests.fixtures.servers import PROCESS_PATIENCE, Server
from tests.fixtures.shell import Shell

pytest_plugins = ["pytester"]


# -- pages with a session of Python -------------------------------------------------------------


@dataclass(frozen=True)
class Session:
    """A page with `>>>` lines: what must be installed, and the options of Python."""

    needs: tuple[str, ...] = ()
    options: tuple[str, ...] = ("-W", "error")


SESSIONS = {
    "README.md": Session(),
    "docs/api.md": Session(),
    "docs/async-and-streams.md": Session(),
    "docs/deploying.md": Session(),
    "docs/http.md": Session(("starlette", "httpx"), options=()),
    "docs/notebooks.md": Session(("pandas", "pyarrow"), options=()),
    "docs/opentelemetry.md": Session(("starlette", "opentelemetry.sdk", "httpx"), options=()),
    "docs/operating.md": Session(),
    "docs/processes.md": Session(),
    "docs/prometheus-client.md": Session(("prometheus_client",)),
    "docs/promql.md": Session(("promql_parser", "re2")),
    "docs/scaling.md": Session(),
    "docs/security.md": Session(),
    "docs/telemetry.md": Session(),
    "docs/training.md": Session(),
    "docs/web.md": Session(("starlette",), options=()),
}


@pytest.mark.slow
@pytest.mark.parametrize("page", SESSIONS)
def test_a_session_prints_what_the_page_says(page: str, url: str, namespace: str) -> None:
    for name in SESSIONS[page].needs:
        pytest.importorskip(name)
    run_session(ROOT / page, url, namespace, *SESSIONS[page].options)


def test_every_page_with_a_session_is_run() -> None:
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    assert {page.relative_to(ROOT).as_posix() for page in pages if has_session(page)} == set(
        SESSIONS
    )


@pytest.mark.slow
def test_scaling_prints_the_same_on_a_cluster(
    fresh_server: Callable[..., Server], namespace: str
) -> None:
    run_session(DOCS / "scaling.md", Cluster(fresh_server).url, namespace)


@pytest.mark.slow
def test_scaling_prints_the_same_behind_sentinels(
    fresh_server: Callable[..., Server], tmp_path: Path, namespace: str
) -> None:
    watched = SentinelServers(fresh_server, tmp_path, sentinels=1)
    try:
        run_session(DOCS / "scaling.md", watched.url, namespace)
    finally:
        watched.end()


# -- docs/cli.md --------------------------------------------------------------------------------


def command_lines() -> list[tuple[str, str]]:
    """Return each command of docs/cli.md and what is printed below it."""
    found = []
    for block in blocks(DOCS / "cli.md", "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            found.append((command, printed))
    return found


@pytest.mark.slow
def test_the_commands_print_what_is_below_them(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("typer", reason="needs redismetrics[cli]")
    with server.client(db=1) as client:
        client.flushdb()
    script = tmp_path / "redismetrics"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m redismetrics "$@"\n')
    script.chmod(0o755)
    shell = Shell(server.url.replace("db=0", "db=1"), "docs")
    environment = {**shell.environment, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    commands = command_lines()
    assert len(commands) > 20
    for command, printed in commands:
        words = shlex.split(command.removesuffix(" 2>&1"))
        if {"|", "--"} & set(words):
            done = subprocess.run(
                ["bash", "-c", command],
                env=environment,
                capture_output=True,
                text=True,
                timeout=PROCESS_PATIENCE,
                check=False,
            )
            status, out, err = done.returncode, done.stdout, done.stderr
        else:
            assert words.pop(0) == "redismetrics"
            status, out, err = shell(*words)
            if command.endswith(" 2>&1"):
                out, err = out + err, ""
        ending = f"exit status {status}\n" if status else ""
        assert (out + ending, err) == (printed, ""), command


def test_every_command_is_on_the_page() -> None:
    typer = pytest.importorskip("typer", reason="needs redismetrics[cli]")
    app = importlib.import_module("redismetrics.cli.main").app
    text = (DOCS / "cli.md").read_text()
    for name in typer.main.get_command(app).commands:
        assert re.search(rf"`{name}`|redismetrics {name}\b", text), name


# -- docs/testing.md ----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_tests_on_the_page_about_testing_pass(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = blocks(DOCS / "testing.md", "python")
    pytester.makepyfile(
        **{f"test_{number}": f"import pytest\n{code}" for number, code in enumerate(codes)}
    )
    # Where the package is installed, the plugin would be loaded twice.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_subprocess(
        "-p", "redismetrics.testing.pytest_plugin", "-p", "no:cacheprovider"
    )
    result.assert_outcomes(passed=2)


def test_the_message_on_the_page_about_testing_is_the_one_raised(captured: Captured) -> None:
    import redismetrics

    for amount in (12.5, 3):
        redismetrics.increment("refunds", tags={"shop": "de"})
        redismetrics.histogram("refund_amount", amount, tags={"shop": "de"})
    with pytest.raises(AssertionError) as failed:
        captured.counter("refunds", shop="de").increased_by(1)
    assert f"AssertionError: {failed.value}\n" in blocks(DOCS / "testing.md", "text")


# -- docs/frameworks.md -------------------------------------------------------------------------

FRAMEWORKS = [
    "fastapi",
    "flask",
    "django",
    "django asgi",
    "asgi page",
    "wsgi page",
    "django page",
    "celery",
    "process",
]

# Importing a framework may warn of what the framework itself should change.
old_frameworks = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"
)


@pytest.fixture
def framework_code(request: pytest.FixtureRequest) -> str:
    codes = blocks(DOCS / "frameworks.md", "python")
    assert len(codes) == len(FRAMEWORKS)
    return codes[FRAMEWORKS.index(request.param)]


def names_of(code: str) -> dict[str, object]:
    """Run *code* in this process; return the names that it defines."""
    names: dict[str, object] = {}
    exec(compile(code, "frameworks.md", "exec"), names)
    return names


@old_frameworks
@pytest.mark.parametrize("framework_code", ["fastapi"], indirect=True)
def test_fastapi(captured: Captured, framework_code: str) -> None:
    pytest.importorskip("fastapi")
    app = names_of(framework_code)["app"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it prefers another client than httpx
        from starlette.testclient import TestClient

    TestClient(app).get("/users/7")  # type: ignore[arg-type]
    counted = captured.counter("http_requests", endpoint="/users/{id}", status="200")
    assert counted.increased_by(1)


@old_frameworks
@pytest.mark.parametrize("framework_code", ["flask"], indirect=True)
def test_flask(captured: Captured, framework_code: str) -> None:
    pytest.importorskip("flask")
    app = names_of(framework_code)["app"]
    app.test_client().get("/users/7", buffered=True)  # type: ignore[attr-defined]
    counted = captured.counter("http_requests", endpoint="/users/<int:id>", status="200")
    assert counted.increased_by(1)


@old_frameworks
@pytest.mark.parametrize("framework_code", ["django"], indirect=True)
def test_django(captured: Captured, framework_code: str) -> None:
    pytest.importorskip("django")
    from django.utils.module_loading import import_string

    middleware = names_of(framework_code)["MIDDLEWARE"]
    assert all(callable(import_string(path)) for path in middleware)  # type: ignore[attr-defined]


# Run after the three blocks, whose names are in `made`.
SHOW_PAGES = """
import redismetrics
redismetrics.increment("orders", 3)
from starlette.testclient import TestClient
from django.conf import settings
from django.test import RequestFactory
settings.configure()
print(TestClient(made[0]["app"]).get("/metrics").text)
print(made[1]["app"].test_client().get("/metrics").text)
response = made[2]["metrics"](RequestFactory().get("/metrics"))
print(response["Content-Type"])
print(response.content.decode())
"""


@pytest.mark.slow
def test_web_frameworks_serve_the_prometheus_page(url: str, namespace: str) -> None:
    """In a process of its own, with a default client and settings of Django."""
    for name in ("fastapi", "httpx", "flask", "django"):
        pytest.importorskip(name)
    codes = blocks(DOCS / "frameworks.md", "python")
    pages = [codes[FRAMEWORKS.index(f"{name} page")] for name in ("asgi", "wsgi", "django")]
    wrapped = codes[FRAMEWORKS.index("django asgi")]
    run_all = f"made = [{{}} for _ in range(3)]\nfor code, names in zip({pages!r}, made):"
    done = run_python(
        "-c",
        f"{run_all}\n    exec(code, names)\n{SHOW_PAGES}\n{wrapped}print(application)",
        REDISMETRICS_URL=url,
        REDISMETRICS_NAMESPACE=namespace,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines().count("orders_total 3") == 3
    assert "text/plain; version=0.0.4; charset=utf-8" in done.stdout.splitlines()
    assert "asgi.MetricsMiddleware object" in done.stdout.splitlines()[-1]


@pytest.mark.slow
@old_frameworks
@pytest.mark.parametrize("framework_code", ["celery"], indirect=True)
def test_celery(framework_code: str) -> None:
    """In a process of its own: Celery's signals stay connected as long as a process lives."""
    pytest.importorskip("celery")
    done = run_python("-c", framework_code)
    assert done.returncode == 0, done.stderr


@old_frameworks
@pytest.mark.parametrize("framework_code", ["process"], indirect=True)
def test_process_metrics(captured: Captured, framework_code: str) -> None:
    names = names_of(framework_code)
    assert captured.gauge("python_info").is_now(1)
    names["watching"].stop()  # type: ignore[attr-defined]
