"""Each claim on docs/security.md names a test, and each test that it names exists."""

import ast
import re
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "security.md"


def test_each_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text())
    assert len(named) > 25
    assert [f"{path}::{name}" for path, name in named if name not in functions(path)] == []


@lru_cache
def functions(path: str) -> set[str]:
    """Return the names of the functions of a file of tests."""
    body = ast.parse((ROOT / path).read_text()).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_claim_on_the_page_names_a_test() -> None:
    """Claims are the list items that begin with bold text."""
    items = re.split(r"\n(?=- |#|```|\|)", PAGE.read_text())
    claims = [item for item in items if item.startswith("- **")]
    assert len(claims) > 15
    assert [claim[:60] for claim in claims if "::test_" not in claim] == []
