"""Split a template into text and the tokens of its actions.

The grammar is that of Go's package text/template: https://pkg.go.dev/text/template
"""

import re
from collections.abc import Generator
from typing import NamedTuple

from .errors import TemplateSyntaxError

_ACTION = re.compile(r"\{\{(?P<trim>-[ \t\r\n])?")
_COMMENT = re.compile(r"[ \t\r\n]*/\*.*?\*/(?P<end>[ \t\r\n]+-\}\}|\}\})", re.DOTALL)
_END = re.compile(r"[ \t\r\n]+-\}\}|\}\}")
_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n]+)
    | (?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)
    | (?P<char>'(?:[^'\\\n]|\\.)+')
    | (?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+
        |(?:[0-9][0-9_]*)?\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9][0-9_]*\.?(?:[eE][+-]?[0-9]+)?))
    | (?P<variable>\$\w*)
    | (?P<field>\.[^\W\d]\w*)
    | (?P<word>[^\W\d]\w*)
    | (?P<sign>:=|[().,|=])
    """,
    re.VERBOSE,
)


class TemplateToken(NamedTuple):
    """One token: *kind* is `text`, `action`, `end`, a group of the pattern, or the sign itself."""

    kind: str
    text: str
    line: int


def tokens(template: str) -> Generator[TemplateToken, None, None]:
    """Yield the tokens of *template*: each action is `action`, its tokens, `end`.

    Raises:
        TemplateSyntaxError: If an action, comment or string is not closed, or has an unexpected
            character.
    """
    at = 0
    trims_next = False
    while at <= len(template):
        action = _ACTION.search(template, at)
        text = template[at : action.start() if action else len(template)]
        if trims_next:
            text = text.lstrip(" \t\r\n")
        if action and action["trim"]:
            text = text.rstrip(" \t\r\n")
        if text:
            yield TemplateToken("text", text, template.count("\n", 0, at) + 1)
        if action is None:
            return
        comment = _COMMENT.match(template, action.end())
        if comment:
            trims_next = comment["end"] != "}}"
            at = comment.end()
            continue
        if template.startswith("/*", action.end()):
            raise TemplateSyntaxError("unclosed comment", _line(template, at))
        yield TemplateToken("action", "{{", _line(template, action.start()))
        at, trims_next = yield from _inside(template, action.end())


def _line(template: str, at: int) -> int:
    return template.count("\n", 0, at) + 1


def _inside(template: str, at: int) -> Generator[TemplateToken, None, tuple[int, bool]]:
    """Yield the tokens of an action; return where it ends, and whether it trims the next text."""
    while True:
        end = _END.match(template, at)
        if end:
            yield TemplateToken("end", end[0], _line(template, at))
            return end.end(), end[0] != "}}"
        found = _TOKEN.match(template, at)
        if found is None:
            raise TemplateSyntaxError(_problem(template, at), _line(template, at))
        kind = found.lastgroup or ""
        yield TemplateToken(found[0] if kind == "sign" else kind, found[0], _line(template, at))
        at = found.end()


def _problem(template: str, at: int) -> str:
    if at >= len(template):
        return "unclosed action"
    if template[at] == '"':
        return "unterminated quoted string"
    if template[at] == "`":
        return "unterminated raw quoted string"
    return f"unexpected {template[at]!r} in action"
