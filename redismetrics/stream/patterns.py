"""Glob patterns of metric names."""

import re
from collections.abc import Iterable
from typing import Any

from redismetrics.errors import InvalidMetric, InvalidQuery
from redismetrics.model.validation import check_name

_PATTERN = re.compile(r"[A-Za-z0-9_./:*?\[\]^-]{1,200}\Z")


def several(what: str, given: Any) -> list[Any]:
    """Text means one; duplicates collapse."""
    try:
        found = [given] if isinstance(given, str) else list(dict.fromkeys(given))
    except TypeError as error:
        raise InvalidQuery(f"{what}: wanted text or several texts, got {given!r:.80}") from error
    if not found:
        raise InvalidQuery(f"{what}: wanted at least one, got none")
    return found


def select(names: str | Iterable[str] | None) -> tuple[list[str], list[str]]:
    """Exact names, and patterns with `*`, `?`, `[...]`."""
    if names is None:
        return [], ["*"]
    exact, patterns = [], []
    for name in several("names", names):
        if not isinstance(name, str) or not _PATTERN.match(name):
            raise InvalidQuery(
                f"names: wanted metric names or patterns with * ? [...], got {name!r:.80}"
            )
        if any(sign in name for sign in "*?["):
            patterns.append(name)
        else:
            try:
                exact.append(check_name(name))
            except InvalidMetric as error:
                raise InvalidQuery(str(error)) from error
    return exact, patterns


def glob(pattern: str) -> str:
    """The regular expression that matches what Redis' own matcher (stringmatchlen) does, for whole names."""
    parts, at = [""], 0  # what stands between stars
    while at < len(pattern):
        sign, at = pattern[at], at + 1
        if sign == "[":
            one, at = _class(pattern, at)
            parts[-1] += one
        elif sign == "*":
            parts.append("")
        else:
            parts[-1] += "." if sign == "?" else re.escape(sign)
    if len(parts) == 1:
        return parts[0]
    # The first place where a part fits is as good as any: without the atomic group a name could take ages not to match.
    between = "".join(f"(?>.*?{part})" for part in parts[1:-1] if part)
    return f"{parts[0]}{between}.*{parts[-1]}"


def _class(pattern: str, at: int) -> tuple[str, int]:
    """A `[...]`, which begins at *at*, as a regular expression; where the rest begins. An unclosed one goes to the end."""
    inverted = pattern[at : at + 1] == "^"
    at += inverted
    parts = []
    while at < len(pattern) and pattern[at] != "]":
        if pattern[at + 1 : at + 2] == "-" and at + 2 < len(pattern):
            low, high = sorted((pattern[at], pattern[at + 2]))
            parts.append(f"{re.escape(low)}-{re.escape(high)}")
            at += 3
        else:
            parts.append(re.escape(pattern[at]))
            at += 1
    inside = "".join(parts)
    if not inside:
        return ("." if inverted else r"(?!)"), at + 1
    return f"[{'^' if inverted else ''}{inside}]", at + 1
