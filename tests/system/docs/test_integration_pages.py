"""The code of docs/http.md and docs/opentelemetry.md runs, and prints what the pages say."""

import doctest
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs redismetrics[server]")
pytest.importorskip("opentelemetry.sdk", reason="needs redismetrics[otel]")
pytest.importorskip("httpx", reason="needs httpx")

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("page", ["http", "opentelemetry"])
def test_the_code_of_a_page_runs_and_prints_what_it_says(
    page: str, url: str, namespace: str
) -> None:
    path = ROOT / "docs" / f"{page}.md"
    assert doctest.DocTestParser().get_examples(path.read_text()), "no examples found"
    runner = (
        "import doctest, sys; sys.exit(doctest.testfile(sys.argv[1], module_relative=False).failed)"
    )
    environ = {
        **os.environ,
        "REDISMETRICS_URL": url,
        "REDISMETRICS_NAMESPACE": namespace,
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", runner, str(path)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
