"""The middleware in processes: when its client is made, and real servers that end by a signal."""

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from redismetrics import Metrics
from tests.fixtures.pages import run_python
from tests.fixtures.servers import PATIENCE, wait_until
from tests.recording.helpers import NOWHERE

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"
)

for _package in ("starlette", "flask", "django", "uvicorn", "gunicorn"):
    pytest.importorskip(_package)


ROOT = Path(__file__).parents[2]


SERVED = """
import redismetrics
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from redismetrics.integrations.asgi import MetricsMiddleware
async def hello(request): return PlainTextResponse("hello")
app = Starlette(routes=[Route("/users/{id}", hello)])
app.add_middleware(MetricsMiddleware)
from flask import Flask
from redismetrics.integrations.wsgi import MetricsMiddleware as Wsgi
flasks = Flask("x")
@flasks.get("/users/<id>")
def user(id): return "hello"
flasks.wsgi_app = Wsgi(flasks.wsgi_app)
"""

# Django has no lifespan, so the application is wrapped too.
SERVED_DJANGO = """
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path
from redismetrics.integrations.asgi import MetricsMiddleware
settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["redismetrics.integrations.django.MetricsMiddleware"],
)
async def user(request, id): return HttpResponse("hello")
urlpatterns = [path("users/<id>", user)]
app = MetricsMiddleware(get_asgi_application())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "endpoint"),
    [
        (["uvicorn", "served:app", "--port", "0", "--log-level", "info"], "/users/{id}"),
        (
            ["gunicorn", "served:flasks", "--bind", "127.0.0.1:0", "--workers", "2", "--preload"],
            "/users/<id>",
        ),
        (["uvicorn", "served_django:app", "--port", "0"], "/users/<id>"),
    ],
    ids=["uvicorn", "gunicorn", "uvicorn with django"],
)
def test_real_server_stores_every_request(
    url: str, namespace: str, tmp_path: Path, command: list[str], endpoint: str
) -> None:
    (tmp_path / "served.py").write_text(SERVED)
    (tmp_path / "served_django.py").write_text(SERVED_DJANGO)
    environ = {**os.environ, "REDISMETRICS_URL": url, "REDISMETRICS_NAMESPACE": namespace}
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(tmp_path)])
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=tmp_path, env=environ, stdout=log, stderr=log
    )
    try:

        def port() -> str | None:
            found = re.search(r"http://127\.0\.0\.1:(\d+)", (tmp_path / "log").read_text())
            return found[1] if found and found[1] != "0" else None

        wait_until(lambda: port() is not None or process.poll() is not None, "the server to listen")
        assert process.poll() is None, (tmp_path / "log").read_text()
        for number in range(30):
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port()}/users/{number}", timeout=PATIENCE
            ) as answer:
                assert answer.read() == b"hello"
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{port()}/nobody", timeout=PATIENCE)
    finally:
        process.terminate()
        process.wait(PATIENCE)
        log.close()
    with Metrics(url, namespace=namespace) as metrics:
        rows = metrics.query(
            "http_requests", aggregation="sum", group_by=["method", "endpoint", "status"]
        )
        assert {(row["method"], row["endpoint"], row["status"]): row["sum"] for row in rows} == {
            ("GET", endpoint, "200"): 30,
            ("GET", "unmatched", "404"): 1,
        }
        assert metrics.query("http_request_duration_seconds", aggregation="count") == 31


# Middleware is made before the application declares and configures anything.
EARLY = """
import sys, threading
from redismetrics.integrations import {kind}
middleware = {kind}.MetricsMiddleware(None)
print("numpy" in sys.modules, threading.active_count())
import redismetrics
redismetrics.declare("http_request_duration_seconds", "histogram", unit="seconds", buckets=[1])
redismetrics.configure("none://")
middleware._requests.finish(0.0, "GET", "/", 200)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_the_default_client_is_made_with_the_middleware(kind: str) -> None:
    """In a process of its own, which has loaded nothing. No thread starts, and nothing is sent."""
    done = run_python("-c", EARLY.format(kind=kind), REDISMETRICS_URL=NOWHERE)
    assert (done.stdout, done.stderr) == ("True 1\n", "")


def test_an_invalid_setting_is_logged_with_the_middleware() -> None:
    code = "from redismetrics.integrations import wsgi; wsgi.MetricsMiddleware(None)"
    done = run_python("-c", code, REDISMETRICS_URL="localhost")
    assert done.returncode == 0
    assert "InvalidSetting: url must start with" in done.stderr


@pytest.mark.slow
def test_middleware_that_records_nothing_loads_nothing() -> None:
    done = run_python("-c", EARLY.format(kind="wsgi"), REDISMETRICS_URL="none://")
    assert (done.stdout, done.stderr) == ("False 1\n", "")
