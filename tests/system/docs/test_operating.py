"""docs/operating.md: its examples run and print what stands there."""

import doctest
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "operating.md"


def test_the_examples_run(url: str, namespace: str) -> None:
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
        [sys.executable, "-c", runner, str(PAGE)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert doctest.DocTestParser().get_examples(PAGE.read_text()), "no examples found"
