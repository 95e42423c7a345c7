"""Conditions on the labels of alerts, as used in Alertmanager's routes and silences.

https://prometheus.io/docs/alerting/latest/configuration/#matcher
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from redismetrics.errors import InvalidExpression
from redismetrics.promql.matchers import compiled

MAX_MATCHERS = 100
MAX_TEXT = 1024

_MATCHER = re.compile(
    r"""\s*(?P<name>"(?:[^"\\]|\\.)*"|[^\s=!~"{},]+)\s*(?P<op>=~|!~|!=|=)\s*"""
    r"""(?P<value>"(?:[^"\\]|\\.)*"|[^"{},\s]*)\s*"""
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\"}


@dataclass(frozen=True, slots=True)
class LabelMatcher:
    """A condition on a label. A missing label counts as empty.

    A regular expression (RE2) must match the whole value.
    """

    name: str
    value: str
    is_regex: bool = False
    is_equal: bool = True

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether an alert with *labels* meets the condition."""
        value = labels.get(self.name, "")
        if self.is_regex:
            return (compiled(self.value).fullmatch(value) is not None) == self.is_equal
        return (value == self.value) == self.is_equal

    def __str__(self) -> str:
        op = ("=~" if self.is_regex else "=") if self.is_equal else "!~" if self.is_regex else "!="
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{op}"{escaped}"'


def matches_all(matchers: Iterable[LabelMatcher], labels: Mapping[str, str]) -> bool:
    """Return whether an alert with *labels* meets all *matchers*."""
    return all(each.matches(labels) for each in matchers)


def check_matcher(name: str, value: str, *, is_regex: bool, is_equal: bool) -> LabelMatcher:
    """Return a matcher from its separate parts.

    Raises:
        ValueError: If the name is empty, a text is longer than 1,024 characters, or the regular
            expression is not valid.
    """
    if not name:
        raise ValueError("name of a matcher must not be empty")
    for what, text in (("name", name), ("value", value)):
        if len(text) > MAX_TEXT:
            raise ValueError(
                f"{what} of a matcher must have at most {MAX_TEXT} characters, got {len(text)}"
            )
    if is_regex:
        try:
            compiled(value)
        except InvalidExpression as error:
            raise ValueError(str(error)) from error
    return LabelMatcher(name, value, is_regex, is_equal)


def parse_matchers(text: str) -> list[LabelMatcher]:
    """Return the matchers of `severity="page", job=~"api.*"`, with or without braces.

    Raises:
        ValueError: If *text* has another form, no matchers, or more than 100.
    """
    inside = text.strip()
    if inside.startswith("{") and inside.endswith("}"):
        inside = inside[1:-1]
    found: list[LabelMatcher] = []
    at = 0
    while at < len(inside):
        match = _MATCHER.match(inside, at)
        if match is None or len(found) >= MAX_MATCHERS:
            break
        op = match["op"]
        found.append(
            check_matcher(
                _unquoted(match["name"]),
                _unquoted(match["value"]),
                is_regex="~" in op,
                is_equal="!" not in op,
            )
        )
        at = match.end()
        if at < len(inside):
            if inside[at] != ",":
                break
            at += 1
    if at < len(inside) or not found:
        raise ValueError(
            f'matchers must be 1 to {MAX_MATCHERS} like severity="page", got {text[:100]!r}'
        )
    return found


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[0]), text[1:-1])
