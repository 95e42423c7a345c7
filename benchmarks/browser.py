"""Chromium and the page that `redismetrics serve` serves, for what is measured or drawn there."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.results import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    # So that collecting garbage is possible before memory is read.
    "--js-flags=--expose-gc",
]


def missing() -> str:
    """Return what has to be installed to run a browser; empty if nothing."""
    if CHROMIUM is None:
        return "the browser chromium is not installed: apt-get install chromium"
    try:
        import playwright.sync_api
    except ImportError:
        return "playwright is not installed: pip install playwright"
    del playwright
    return ""


@contextmanager
def browser() -> Iterator[Any]:
    """Yield a browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield found
        found.close()


@contextmanager
def served(url: str, namespace: str) -> Iterator[str]:
    """Run `redismetrics serve` on a free port; yield its address.

    Raises:
        RuntimeError: If it ends at once.
    """
    command = [sys.executable, "-m", "redismetrics", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--url", url, "--namespace", namespace],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"serving on (http://\S+)", line)
        if not found:
            raise RuntimeError(f"redismetrics serve did not start: {line}")
        yield found[1]
    finally:
        process.terminate()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
