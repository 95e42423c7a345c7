"""A Lua script is its own text with the files that it includes."""

import os
import subprocess
import sys
import zipfile
from hashlib import sha1
from pathlib import Path

import pytest

from redismetrics.store.scripts import NAMES, expand, script

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "include").mkdir()
    return tmp_path


def write(path: Path, text: str) -> None:
    path.write_text(text)


def test_an_include_replaces_the_line_that_names_it(folder: Path) -> None:
    write(folder / "include" / "one.lua", "-- one\nlocal one = 1\n")
    write(folder / "main.lua", '-- main\n\n-- @include "one"\n\nreturn one\n')
    assert expand(folder, "main") == "-- main\n\n-- one\nlocal one = 1\n\nreturn one\n"


def test_an_include_may_include_others_and_each_is_there_once(folder: Path) -> None:
    write(folder / "include" / "one.lua", "one\n")
    write(folder / "include" / "two.lua", '-- @include "one"\n-- @include "two"\ntwo\n')
    lines = [f'-- @include "{name}"\n' for name in ("two", "one", "two")]
    write(folder / "main.lua", "".join([*lines, "main\n"]))
    assert expand(folder, "main") == "one\ntwo\nmain\n"


def test_only_a_whole_line_is_an_include(folder: Path) -> None:
    text = '-- a line -- @include "one" names a file\n  -- @include "one"\n-- @included\n'
    write(folder / "main.lua", text)
    assert expand(folder, "main") == text


@pytest.mark.parametrize(
    "line",
    ['-- @include "missing"', "-- @include one", '-- @include "one" "two"', "-- @include"],
)
def test_an_include_that_is_missing_or_misspelt_is_an_error(folder: Path, line: str) -> None:
    write(folder / "include" / "one.lua", "one\n")
    write(folder / "main.lua", f"{line}\n")
    with pytest.raises(RuntimeError, match=r"main\.lua: .* must name a file in include/"):
        expand(folder, "main")


@pytest.mark.parametrize("name", NAMES)
def test_a_script_has_no_include_left_and_the_hash_of_the_text_that_is_sent(name: str) -> None:
    found = script(name)
    assert "@include" not in found.text
    assert found.sha == sha1(found.text.encode()).hexdigest()


@pytest.mark.parametrize(
    "lua", ["redismetrics/lua", "lua"], ids=["as in a wheel", "as in a checkout"]
)
def test_the_package_works_from_a_zip_file(
    lua: str, tmp_path: Path, url: str, namespace: str
) -> None:
    archive = tmp_path / "redismetrics.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in (ROOT / "redismetrics").rglob("*.py"):
            file.write(path, path.relative_to(ROOT))
        for path in (ROOT / "lua").rglob("*.lua"):
            file.write(path, Path(lua) / path.relative_to(ROOT / "lua"))
    code = """
import sys
import redismetrics
with redismetrics.Metrics(sys.argv[1], namespace=sys.argv[2]) as metrics:
    metrics.increment("jobs", 3)
    print(redismetrics.__file__, metrics.query("jobs", aggregation="sum"))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, url, namespace],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(archive)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"{archive / 'redismetrics/__init__.py'} 3\n", done.stderr
