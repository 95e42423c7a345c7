"""Each claim on docs/security.md names a test, and each test that it names exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "security.md"


def test_each_test_that_the_page_names_exists() -> None:
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


def test_each_claim_of_the_page_names_a_test() -> None:
    """Claims are the list items that begin with bold text."""
    items = re.split(r"\n(?=- |#|```|\|)", PAGE.read_text())
    claims = [item for item in items if item.startswith("- **")]
    assert len(claims) > 15
    assert [claim[:60] for claim in claims if "::test_" not in claim] == []
