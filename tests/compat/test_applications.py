"""Exporters from PyPI, unmodified, under servers with four workers on two "hosts".

They are run by `redismetrics run`; their totals are the requests that were answered.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.fixtures.hosts import Host
from tests.fixtures.programs import Programs
from tests.fixtures.servers import PROCESS_PATIENCE, wait_until

# Each starts a dozen processes, which takes long where others do so too.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

FASTAPI = """
import os
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from prometheus_fastapi_instrumentator import Instrumentator

app = FastAPI()
Instrumentator(excluded_handlers=["/metrics"]).instrument(app).expose(app)

@app.get("/work", response_class=PlainTextResponse)
def work():
    return str(os.getpid())
"""
STARLETTE = """
import os
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette_exporter import PrometheusMiddleware, handle_metrics

async def work(request):
    return PlainTextResponse(str(os.getpid()))

app = Starlette()
app.add_middleware(PrometheusMiddleware, skip_paths=["/metrics"])
app.add_route("/metrics", handle_metrics)
app.add_route("/work", work)
"""
FLASK = """
import os
from flask import Flask
from prometheus_flask_exporter import PrometheusMetrics

app = Flask(__name__)
PrometheusMetrics(app)

@app.route("/work")
def work():
    return str(os.getpid())
"""
DJANGO = """
import os
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="x", ALLOWED_HOSTS=["*"], ROOT_URLCONF="app", INSTALLED_APPS=["django_prometheus"],
    MIDDLEWARE=["django_prometheus.middleware.PrometheusBeforeMiddleware",
                "django_prometheus.middleware.PrometheusAfterMiddleware"],
    PROMETHEUS_EXPORT_MIGRATIONS=False,
)
django.setup()
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import include, path

urlpatterns = [path("work", lambda _: HttpResponse(str(os.getpid())), name="work"),
               path("", include("django_prometheus.urls"))]
app = get_wsgi_application()
"""
UVICORN = ("uvicorn", "app:app", "--workers", "4", "--port", "{port}", "--log-level", "warning")
GUNICORN = ("gunicorn", "app:app", "--workers", "4", "--bind", "127.0.0.1:{port}")
GUNICORN_RECYCLING = (*GUNICORN, "--max-requests", "15", "--max-requests-jitter", "10")

APPLICATIONS = {
    "fastapi": (
        "prometheus_fastapi_instrumentator",
        FASTAPI,
        (*UVICORN, "--limit-max-requests", "15"),
        'http_requests_total{handler="/work",method="GET",status="2xx"}',
    ),
    "starlette": (
        "starlette_exporter",
        STARLETTE,
        UVICORN,
        'starlette_requests_total{app_name="starlette",method="GET",path="/work",status_code="200"}',
    ),
    "flask": (
        "prometheus_flask_exporter",
        FLASK,
        GUNICORN_RECYCLING,
        'flask_http_request_total{method="GET",status="200"}',
    ),
    "django": (
        "django_prometheus",
        DJANGO,
        GUNICORN_RECYCLING,
        'django_http_requests_total_by_view_transport_method_total{method="GET",transport="http",view="work"}',
    ),
}


@pytest.fixture
def hosts(programs: Programs, tmp_path: Path) -> Iterator[list[Host]]:
    """Hosts that a test adds, stopped at its end."""
    found: list[Host] = []
    yield found
    for host in found:
        host.stop()


def add_hosts(
    found: list[Host], programs: Programs, folder: Path, app: str, command: Sequence[str]
) -> None:
    environment = {**programs.environment, "REDISMETRICS_FLUSH_INTERVAL": "0.2"}
    found += [Host(folder / name, app, command, environment).start() for name in ("a", "b")]


@pytest.mark.parametrize("name", APPLICATIONS)
def test_totals_on_the_page_are_the_requests_that_were_answered(
    programs: Programs, hosts: list[Host], tmp_path: Path, name: str
) -> None:
    package, app, command, sample = APPLICATIONS[name]
    pytest.importorskip(package)
    add_hosts(hosts, programs, tmp_path, app, command)

    def settled() -> bool:
        answered = sum(host.answered.total() for host in hosts)
        return all(host.page().get(sample) == answered for host in hosts)

    def both_processes_answer(host: Host) -> bool:
        if len(host.answered) < 2:
            host.send(10)
        return len(host.answered) >= 2

    for host in hosts:
        host.send(120)
        # On a busy machine the second process may start later than the first answers everything.
        wait_until(partial(both_processes_answer, host), "both processes answer", PROCESS_PATIENCE)
    wait_until(settled, "the page shows what was answered")
    before = [host.answered.copy() for host in hosts]
    first, second = hosts
    first.stop()
    first.start()
    second.kill_workers()
    for host in hosts:
        host.send(60)
    wait_until(settled, "the page shows what was answered")
    for host, earlier in zip(hosts, before, strict=True):
        # After the restart and the kills only new processes answered.
        assert not (host.answered - earlier).keys() & earlier.keys()
        # Recycled workers: more processes answered than there are at a time.
        assert len(host.answered) > 4 or "max" not in " ".join(command), host.answered
