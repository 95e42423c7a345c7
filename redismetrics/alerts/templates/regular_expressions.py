"""Regular expressions of templates: RE2, as in Go, so that no pattern takes exponential time."""

import re
from functools import lru_cache, partial
from typing import Any

from redismetrics.errors import MissingExtra

from .errors import ExpansionError

_GROUP = re.compile(r"\$(?:(\$)|\{(\w+)\}|(\w+))")


@lru_cache(256)
def _compile(pattern: str) -> Any:
    try:
        import re2
    except ImportError as error:
        raise MissingExtra(
            "regular expressions of templates need RE2: pip install 'redismetrics[alerts]'"
        ) from error
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0]
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        raise ExpansionError(f"error parsing regexp: {reason}: `{pattern}`") from error


def matches(pattern: str, text: str) -> bool:
    """Return whether *pattern* matches anywhere in *text*."""
    return _compile(pattern).search(text) is not None


def replace_all(pattern: str, new: str, text: str) -> str:
    """Replace each match; `$1`, `${1}` and `${name}` in *new* are groups of it."""
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
    place = int(name) if name.isdigit() else names.get(name, -1)
    if not 0 <= place <= found.re.groups:
        return ""
    return found.group(place) or ""
