"""Glob patterns for metric names, with the semantics of Redis."""

import re


def glob_to_regex(pattern: str) -> str:
    """Return a regular expression that matches whole names like Redis (stringmatchlen)."""
    # The parts between the stars.
    parts, at = [""], 0
    while at < len(pattern):
        sign, at = pattern[at], at + 1
        if sign == "[":
            part, at = _class_to_regex(pattern, at)
            parts[-1] += part
        elif sign == "*":
            parts.append("")
        else:
            parts[-1] += "." if sign == "?" else re.escape(sign)
    if len(parts) == 1:
        return parts[0]
    # The first position where a part matches is as good as any later one. The atomic group prevents
    # backtracking, which could take exponential time for names that do not match.
    between = "".join(f"(?>.*?{part})" for part in parts[1:-1] if part)
    return f"{parts[0]}{between}.*{parts[-1]}"


def _class_to_regex(pattern: str, at: int) -> tuple[str, int]:
    """Translate the `[...]` whose contents begin at *at*; return it, and the position after it.

    An unclosed class extends to the end of the pattern.
    """
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
