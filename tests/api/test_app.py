"""The application: routes, error responses, missing extras."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("uvicorn", reason="needs redismetrics[server]")


from redismetrics import InvalidSetting, Metrics
from redismetrics.api.app import create_app
from tests.fixtures.servers import PATIENCE
from tests.fixtures.webserver import error_message

ROOT = Path(__file__).parents[2]


def test_unknown_paths_and_methods_are_rejected(web: Any) -> None:
    error_message(web.get("/api/nothing"), 404)
    error_message(web.get("/api/query/"), 404)
    refused = web.post("/api/query?name=x&aggregation=sum")
    error_message(refused, 405)
    assert set(refused.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert (
        "access-control-allow-origin"
        not in web.get("/healthz", headers={"Origin": "http://evil.example"}).headers
    )


def test_host_header_does_not_change_the_query(refusing: Any) -> None:
    for host in ("[", "evil?name=y", "evil#", "a b", ""):
        answer = refusing.get("/api/query?name=x&aggregation=sum", headers={"Host": host})
        assert answer.status_code in (200, 400), host
        if answer.status_code == 200:
            assert answer.json()["results"] == 0


def test_client_without_store_is_rejected() -> None:
    with pytest.raises(InvalidSetting, match="none://"):
        create_app(Metrics("none://"))


WITHOUT = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
sys.exit(eval(compile(sys.argv[2], "code", "exec")))
"""


APP = "from redismetrics import Metrics; from redismetrics.api.app import create_app; "


@pytest.mark.parametrize(
    ("missing", "code", "expected"),
    [
        ("starlette", "import redismetrics.api.app", "redismetrics[server]"),
        (
            "uvicorn",
            "from redismetrics.api import server; server.serve(None, '127.0.0.1', 0)",
            "redismetrics[server]",
        ),
        ("opentelemetry", "import redismetrics.integrations.opentelemetry", "redismetrics[otel]"),
        (
            "opentelemetry",
            "import redismetrics.integrations.opentelemetry.receiver",
            "redismetrics[otel]",
        ),
        (
            "opentelemetry",
            (
                f"{APP}app = create_app(Metrics('redis://'), allow_write=True); "
                "assert not any(route.path == '/v1/metrics' for route in app.routes); "
                "assert len(app.routes) > 9"
            ),
            "",
        ),
    ],
)
def test_missing_extra_is_named(missing: str, code: str, expected: str) -> None:
    command = [sys.executable, "-c", WITHOUT, missing, code]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode != 0) == bool(expected), done.stderr
    last = done.stderr.strip().rpartition("\n")[2]
    assert not expected or (
        last.startswith("redismetrics.errors.MissingExtra: ")
        and f"pip install '{expected}'" in last
    )
