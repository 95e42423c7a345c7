"""The middleware under real servers, which end by a signal."""

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from redismetrics import Metrics
from tests.fixtures.servers import PATIENCE, wait_until

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning"
)

for _package in ("starlette", "flask", "uvicorn", "gunicorn"):
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "endpoint"),
    [
        (["uvicorn", "served:app", "--port", "0", "--log-level", "info"], "/users/{id}"),
        (
            ["gunicorn", "served:flasks", "--bind", "127.0.0.1:0", "--workers", "2", "--preload"],
            "/users/<id>",
        ),
    ],
    ids=["uvicorn", "gunicorn"],
)
def test_real_server_stores_every_request(
    url: str, namespace: str, tmp_path: Path, command: list[str], endpoint: str
) -> None:
    (tmp_path / "served.py").write_text(SERVED)
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
