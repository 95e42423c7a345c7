"""Find and load lua/*.lua: inside the package when installed, beside it in a checkout."""

from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua script: its text and the SHA-1 that EVALSHA names it by."""

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
            text = path.read_text(encoding="utf-8")
            return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())
    raise RuntimeError(f"BUG: lua/{name}.lua is neither in the package {here} nor beside it")


NAMES = ("record", "commit", "forget")
