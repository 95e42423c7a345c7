"""A Lua script is its own text with the files that it includes."""

from hashlib import sha1
from pathlib import Path

import pytest

from redismetrics.store.scripts import NAMES, expand, script


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "include").mkdir()
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_an_include_takes_the_place_of_the_line_that_names_it(folder: Path) -> None:
    write(folder / "include" / "one.lua", "-- one\nlocal one = 1\n")
    main = write(folder / "main.lua", '-- main\n\n-- @include "one"\n\nreturn one\n')
    assert expand(main) == "-- main\n\n-- one\nlocal one = 1\n\nreturn one\n"


def test_an_include_may_include_others_and_each_is_there_once(folder: Path) -> None:
    write(folder / "include" / "one.lua", "one\n")
    write(folder / "include" / "two.lua", '-- @include "one"\n-- @include "two"\ntwo\n')
    lines = [f'-- @include "{name}"\n' for name in ("two", "one", "two")]
    main = write(folder / "main.lua", "".join([*lines, "main\n"]))
    assert expand(main) == "one\ntwo\nmain\n"


def test_only_a_whole_line_is_an_include(folder: Path) -> None:
    text = '-- a line -- @include "one" names a file\n  -- @include "one"\n-- @included\n'
    assert expand(write(folder / "main.lua", text)) == text


@pytest.mark.parametrize(
    "line",
    ['-- @include "missing"', "-- @include one", '-- @include "one" "two"', "-- @include"],
)
def test_an_include_that_is_missing_or_misspelt_is_an_error(folder: Path, line: str) -> None:
    write(folder / "include" / "one.lua", "one\n")
    main = write(folder / "main.lua", f"{line}\n")
    with pytest.raises(RuntimeError, match=r"main\.lua: .* must name a file in include/"):
        expand(main)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_has_no_include_left_and_the_hash_of_the_text_that_is_sent(name: str) -> None:
    found = script(name)
    assert "@include" not in found.text
    assert found.sha == sha1(found.text.encode()).hexdigest()
