"""docs/security.md: its code runs, and each test it names is there."""

import ast
import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "security.md"


def test_the_code_runs_and_prints_what_the_page_says(url: str, namespace: str) -> None:
    assert doctest.DocTestParser().get_examples(PAGE.read_text()), "no examples found"
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


def test_each_test_that_the_page_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text())
    assert len(named) > 25
    missing = []
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text())
        if not any(
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
            for node in tree.body
        ):
            missing.append(f"{path}::{name}")
    assert missing == []


def test_each_bound_of_the_page_names_a_test() -> None:
    """A bold claim in a list, unless it is about what they can do."""
    items = re.split(r"\n(?=- |#|```|\|)", PAGE.read_text())
    claims = [item for item in items if item.startswith("- **")]
    assert len(claims) > 15
    assert [claim[:60] for claim in claims if "::test_" not in claim] == []


def test_the_links_of_both_pages_lead_somewhere() -> None:
    for page in (PAGE, ROOT / "SECURITY.md"):
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
