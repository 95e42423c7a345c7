"""A real Prometheus server scrapes a page."""

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from redismetrics.export import wsgi_app
from redismetrics.exposition.text import render
from tests.fixtures.exposition import (
    OPENMETRICS,
    TEXT,
    FakeMetrics,
    hostile_families,
    samples,
    served,
)
from tests.fixtures.servers import PATIENCE, PROCESS_PATIENCE, free_port

pytestmark = pytest.mark.slow

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="prometheus is not installed (Debian package: prometheus)",
)


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[str]:
    """Run a server that scrapes /openmetrics and /text of *target*; yield its address."""
    config = folder / "prometheus.yml"
    jobs = [
        {
            "job_name": job,
            "metrics_path": f"/{job}",
            "static_configs": [{"targets": [f"127.0.0.1:{target}"]}],
        }
        for job in ("openmetrics", "text")
    ]
    config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address={address}"],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield f"http://{address}"
        finally:
            process.terminate()
            try:
                process.wait(timeout=PROCESS_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ask(server: str, query: str) -> list[dict[str, Any]]:
    url = f"{server}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return result


@needs_prometheus
def test_a_prometheus_server_stores_every_sample_of_a_hostile_page(tmp_path: Path) -> None:
    metrics: Any = FakeMetrics(hostile_families())
    app = wsgi_app(metrics)
    formats = {}

    def either(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/text":
            del environ["HTTP_ACCEPT"]

        def note(status: str, headers: list[tuple[str, str]], *failure: Any) -> Any:
            formats[environ["PATH_INFO"]] = dict(headers)["Content-Type"]
            return start_response(status, headers, *failure)

        return app(environ, note)

    with served(either) as port, prometheus(tmp_path, port) as server:
        stored: dict[str, Any] = {}
        until = time.monotonic() + PATIENCE
        while len(stored) < 2 and time.monotonic() < until:
            time.sleep(0.25)
            try:
                up = [one["metric"]["job"] for one in ask(server, "up") if one["value"][1] == "1"]
                stored = {job: ask(server, f'{{job="{job}"}}') for job in up}
            except OSError:  # not yet listening
                continue
    log = (tmp_path / "prometheus.log").read_text()
    assert set(stored) == {"openmetrics", "text"}, log
    assert formats == {"/openmetrics": OPENMETRICS, "/text": TEXT}
    for job, rows in stored.items():
        found = {}
        for row in rows:
            name, labels = row["metric"]["__name__"], row["metric"]
            if (name == "up" and "x" not in labels) or name.startswith(
                "scrape_"
            ):  # the server's own
                continue
            tags = {
                (key, tag)
                for key, tag in labels.items()
                if key not in ("__name__", "job", "instance")
            }
            found[name, frozenset(tags)] = float(row["value"][1])
        page = render(metrics.families, openmetrics=job == "openmetrics")
        expected = {
            (name, frozenset((key, tag) for key, tag in labels if tag)): value
            for (name, labels), value in samples(page, job == "openmetrics").items()
        }
        assert found == expected
