"""Regular expressions in templates: RE2, as in Go, so that no pattern takes exponential time."""

import re
from functools import lru_cache, partial
from typing import Any

from redismetrics.promql.matchers import compile_re2

from .errors import ExpansionError

_GROUP = re.compile(r"\$(?:(\$)|\{(\w+)\}|(\w+))")


@lru_cache(256)
def _compile(pattern: str) -> Any:
    try:
        return compile_re2(pattern, dot_matches_newline=False)
    except ValueError as error:
        raise ExpansionError(f"error parsing regexp: {error}: `{pattern}`") from error


def matches(pattern: str, text: str) -> bool:
    """Return whether *pattern* matches anywhere in *text*."""
    return _compile(pattern).search(text) is not None


def replace_all(pattern: str, new: str, text: str) -> str:
    """Replace each match; `$1`, `${1}` and `${name}` in *new* refer to its groups."""
    compiled = _compile(pattern)
    names = compiled.groupindex
    parts = []
    at = 0
    for found in compiled.finditer(text):
        expanded = _GROUP.sub(partial(_group, found, names), new)
        parts += [text[at : found.start()], expanded]
        at = found.end()
    return "".join((*parts, text[at:]))


def _group(found: Any, names: Any, wanted: re.Match[str]) -> str:
    if wanted[1]:
        return "$"
    name = wanted[2] or wanted[3]
    place = int(name) if name.isascii() and name.isdigit() else names.get(name, -1)
    if not 0 <= place <= found.re.groups:
        return ""
    return found.group(place) or ""
