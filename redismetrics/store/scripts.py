"""Load the Lua scripts: from the package when installed, from ../lua in a checkout.

A line ``-- @include "name"`` in a script is replaced by the text of include/name.lua, which may
include others. If it ends in ``for f, g``, the script uses only these functions of that file, and
rarely: the file is run when one of them is first called. Redis creates all functions of a script
again for each call, which may take longer than the call itself.
"""

import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_INCLUDE = re.compile(r'^-- @include\b(?: "(\w+)"(?: for (\w+(?:, \w+)*))?$)?.*\n', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua script: its text with includes expanded, and its SHA-1 for EVALSHA."""

    name: str
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """Return the script with this name, given without ``.lua``."""
    # Imported here because it takes several milliseconds.
    from importlib.resources import files

    package = files("redismetrics")
    # Resources need not be files: the package may be imported from a zip file, where paths have a
    # parent too.
    beside: Traversable = package.parent  # type: ignore[attr-defined]
    for folder in (package / "lua", beside / "lua"):
        if (folder / f"{name}.lua").is_file():
            text = expand(folder, name)
            return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())
    raise RuntimeError(f"BUG: lua/{name}.lua is neither in the package {package} nor next to it")


def expand(folder: "Traversable", name: str) -> str:
    """Return the text of a script, with each include expanded at its first occurrence.

    Raises:
        RuntimeError: If an included file does not exist.
    """
    seen: set[str] = set()

    def read(file: "Traversable") -> str:
        def included(line: re.Match[str]) -> str:
            name, part = line[1], folder / "include" / f"{line[1]}.lua"
            if name is None or not part.is_file():
                found = line[0].strip()
                raise RuntimeError(f"BUG: {file.name}: {found!r} must name a file in include/")
            if name in seen:
                return ""
            seen.add(name)
            text = read(part)
            return text if line[2] is None else _deferred(text, line[2])

        return _INCLUDE.sub(included, file.read_text(encoding="utf-8"))

    return read(folder / f"{name}.lua")


def _deferred(text: str, functions: str) -> str:
    """Return Lua code that runs *text*, which defines *functions*, on their first call."""
    stubs = "".join(
        f"{name} = function(...)\n{functions} = load()\nreturn {name}(...)\nend\n"
        for name in functions.split(", ")
    )
    return (
        f"local {functions}\ndo\nlocal function load()\n{text}return {functions}\nend\n{stubs}end\n"
    )


NAMES = (
    "record",
    "commit",
    "define",
    "forget",
    "delete",
    "delete_series",
    "end_values",
    "lease",
    "alerts",
    "sent",
)
