"""Load the Lua scripts: from the package when installed, from ../lua in a checkout.

A line ``-- @include "name"`` of a script is replaced by the text of include/name.lua, which may
include others.
"""

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from pathlib import Path

_INCLUDE = re.compile(r'^-- @include\b(?: "(\w+)"$)?.*\n', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua script: its text, includes expanded, and the SHA-1 that EVALSHA names it by."""

    name: str
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """Return the script of that name, without ``.lua``."""
    here = Path(__file__).parents[1]
    for folder in (here / "lua", here.parent / "lua"):
        path = folder / f"{name}.lua"
        if path.is_file():
            text = expand(path)
            return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())
    raise RuntimeError(f"BUG: lua/{name}.lua is neither in the package {here} nor beside it")


def expand(script: Path) -> str:
    """Return the text of a script, each file it includes in place of the first line that names it.

    Raises:
        RuntimeError: If a line names no file.
    """
    seen: set[str] = set()

    def read(path: Path) -> str:
        def included(line: re.Match[str]) -> str:
            name, file = line[1], script.parent / "include" / f"{line[1]}.lua"
            if name is None or not file.is_file():
                found = line[0].strip()
                raise RuntimeError(f"BUG: {path}: {found!r} must name a file in include/")
            if name in seen:
                return ""
            seen.add(name)
            return read(file)

        return _INCLUDE.sub(included, path.read_text(encoding="utf-8"))

    return read(script)


NAMES = ("record", "commit", "forget")
