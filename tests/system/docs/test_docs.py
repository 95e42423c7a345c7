"""What the documentation and comments say about the code: settings, public names, Lua heads."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import redismetrics
from redismetrics.settings import Settings

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "redismetrics"


def test_the_table_of_settings_is_complete() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| `REDISMETRICS_(\w+)` \|", text, re.MULTILINE))
    assert rows == {name: name.upper() for name in Settings.__dataclass_fields__}


def test_every_public_name_has_a_docstring_and_is_no_submodule() -> None:
    submodules = {path.stem for path in PACKAGE.iterdir()}
    for name in redismetrics.__all__:
        assert getattr(redismetrics, name).__doc__, f"{name} has no docstring"
        assert name not in submodules, f"{name} is a submodule too"
    assert redismetrics.__all__ == sorted(redismetrics.__all__)


@pytest.mark.parametrize(
    "word",
    ["query", "time_series", "rollup", "subscribe", "declare", "measure", "get_stats", "digest"],
)
def test_the_api_page_names_what_people_call(word: str) -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    assert f"`{word}(" in text or f"`{word}`" in text


SCRIPTS = sorted((ROOT / "lua").glob("*.lua"))
INCLUDES = sorted((ROOT / "lua" / "include").glob("*.lua"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_lua_head_declares_what_the_body_uses_and_nothing_else(path: Path) -> None:
    lines = path.read_text().splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("--"))
    head, body = "\n".join(lines[:end]), "\n".join(lines[end:])
    for table in ("KEYS", "ARGV"):
        declared = {int(number) for number in re.findall(rf"{table}\[(\d+)\]", head)}
        used = {int(number) for number in re.findall(rf"{table}\[(\d+)\]", body)}
        # `KEYS[3+]` declares the first of many, whose numbers the body computes.
        repeated = re.search(rf"{table}\[(\d+)\+\]", head)
        computed = re.search(rf"{table}\[[^\]]*[a-z]", body)
        if repeated:
            first = int(repeated[1])
            assert computed, f"{table}[{first}+] is declared and never used"
            used = {number for number in used if number < first}
        else:
            assert not computed, f"{table} has numbers that are not declared"
        assert used == declared - ({first} if repeated else set()), (
            f"{table}: used {sorted(used)}, declared {sorted(declared)}"
        )
    parts = [head.find(f"-- {part}") for part in ("KEYS[", "ARGV[", "Returns ", "Why Lua ")]
    assert -1 < parts[0] < parts[1] < parts[2] < parts[3]
    assert head.startswith(f"-- {path.stem}: ")


@pytest.mark.parametrize("path", INCLUDES, ids=lambda path: path.stem)
def test_a_lua_include_says_what_it_is_and_uses_no_key_or_argument_itself(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("-- ")
    assert not re.search(r"\b(KEYS|ARGV)\b", text)
    line = re.compile(f'^-- @include "{path.stem}"( for .*)?$', re.MULTILINE)
    assert any(map(line.search, (script.read_text() for script in SCRIPTS))), (
        "no script includes it"
    )


@pytest.mark.parametrize("path", [*SCRIPTS, *INCLUDES], ids=lambda path: path.stem)
def test_lua_files_are_short_and_search_no_keys(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"'(KEYS|SCAN|HSCAN|FLUSHALL)'", text)
    lines = text.splitlines()
    assert len(lines) <= 450
    assert [line for line in lines if len(line) > 100] == []


def test_import_loads_neither_numpy_nor_redis() -> None:
    code = textwrap.dedent(
        """
        import sys, redismetrics
        redismetrics.Counter("made_at_import")
        heavy = {"asyncio", "numpy", "pcodec", "fastdigest", "redis"}
        sys.exit(",".join(sorted(heavy & set(sys.modules))) or None)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
