"""One linear scan of an expression: its tokens, and limits that protect the parser.

promql-parser is recursive, and slow on long chains: a sum of 5,000 terms overflows the thread's
stack and crashes the process, and 8 kB of additions take 0.7 s, which no timeout can interrupt. So
nothing that exceeds the limits here reaches it.
"""

import difflib
import re
from collections.abc import Collection
from itertools import pairwise
from typing import NamedTuple, NoReturn

from redismetrics.errors import InvalidExpression

# Generous: the longest expression of the dashboards of kube-prometheus has 2 kB.
MAX_BYTES = 64 * 1024
# Maximum nesting of brackets. 100 levels take the parser 0.4 ms.
MAX_NESTING = 100
# 300 additions take the parser 11 ms, and its time grows quadratically.
MAX_OPERATORS = 300

AGGREGATIONS = frozenset(
    [
        "avg",
        "bottomk",
        "count",
        "count_values",
        "group",
        "limit_ratio",
        "limitk",
        "max",
        "min",
        "quantile",
        "stddev",
        "stdvar",
        "sum",
        "topk",
    ]
)
_WORD_OPERATORS = frozenset(["and", "atan2", "or", "unless"])
_BEFORE_BRACKET = _WORD_OPERATORS | {
    "bool", "by", "fill", "fill_left", "fill_right", "group_left", "group_right", "ignoring",
    "offset", "on", "without",
}  # fmt: skip
# Words that are not names.
WORDS = _BEFORE_BRACKET

# Written in any case inside durations.
_OF_DURATIONS = frozenset(["max_of", "min_of", "range", "step"])
_SYMBOL_OPERATORS = frozenset(["+", "-", "*", "/", "%", "^", "==", "!=", "<=", ">=", "<", ">", "["])
_CLOSING = {")": "(", "]": "[", "}": "{"}
_NAMES = {"(": "parenthesis", "[": "bracket", "{": "brace"}

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+|\#[^\n]*)
      |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
      |(?P<number>0[xX][0-9a-fA-F]+
        |(?:[0-9]+(?:ms|[smhdwy]))+(?![0-9A-Za-z_])
        |(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      |(?P<word>[A-Za-z_:][A-Za-z0-9_:]*)
      |(?P<symbol><=|>=|==|!=|=~|!~|[-+*/%^<>=@,(){}\[\]])
      |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """A token: its kind (text, number, word or symbol), its text and its position."""

    kind: str
    text: str
    at: int


def place(expression: str, at: int) -> str:
    """Return the position of a character in Prometheus' notation: ``line:column``, from 1."""
    return f"{expression.count(chr(10), 0, at) + 1}:{at - expression.rfind(chr(10), 0, at)}"


def refuse(expression: str, at: int, reason: str) -> NoReturn:
    """Raise `InvalidExpression` with the position of a character and *reason*."""
    raise InvalidExpression(f"{place(expression, at)}: parse error: {reason}")


def scan(expression: str, functions: Collection[str]) -> list[Token]:
    """Return the tokens of an expression, without white space and comments.

    *functions* are the names of known functions.

    Raises:
        InvalidExpression: If the expression is too long, nests too deeply or has too many
            operators, if a bracket or quote is not closed, or if a function is unknown.
    """
    length = len(expression.encode(errors="surrogatepass"))
    if length > MAX_BYTES:
        raise InvalidExpression(
            f"an expression must have at most {MAX_BYTES} bytes, got {length}; split it"
        )
    tokens = _tokens(expression)
    _check_brackets(expression, tokens)
    for token, following in pairwise(tokens):
        if following.text == "(" and token.kind == "word":
            _check_call(expression, token, functions)
    return tokens


def _tokens(expression: str) -> list[Token]:
    tokens: list[Token] = []
    at, in_brackets = 0, False
    while match := _TOKEN.match(expression, at):
        kind, text = match.lastgroup or "other", match.group()
        if kind == "other":
            _refuse_character(expression, at)
        if in_brackets and text.startswith(":"):
            # Elsewhere, a name may begin with a colon.
            kind, text = "symbol", ":"
        if kind != "space":
            tokens.append(Token(kind, text, at))
        in_brackets = text == "[" or (in_brackets and text != "]")
        at += len(text)
    return tokens


def _refuse_character(expression: str, at: int) -> NoReturn:
    character = expression[at]
    if character in "\"'`":
        refuse(expression, at, f"unterminated quoted string {character}")
    refuse(expression, at, f"unexpected character: {character!r}")


def _check_brackets(expression: str, tokens: list[Token]) -> None:
    """Check that brackets match, and limit what costs the parser time and stack."""
    opened: list[Token] = []
    operators = 0
    in_braces = False
    for token in tokens:
        text = token.text
        if token.kind == "word":
            operators += text.lower() in _WORD_OPERATORS
        if token.kind != "symbol":
            continue
        operators += text in _SYMBOL_OPERATORS and not in_braces
        if operators > MAX_OPERATORS:
            refuse(
                expression,
                token.at,
                f"an expression must have at most {MAX_OPERATORS} operators, got more; split it",
            )
        if text in _NAMES:
            opened.append(token)
            in_braces = text == "{"
            if len(opened) > MAX_NESTING:
                refuse(
                    expression,
                    token.at,
                    f"brackets must nest at most {MAX_NESTING} deep, got more; split it",
                )
        elif text in _CLOSING:
            if not opened or opened[-1].text != _CLOSING[text]:
                refuse(expression, token.at, f"unexpected right {_NAMES[_CLOSING[text]]} {text!r}")
            opened.pop()
            in_braces = False
    if opened:
        last = opened[-1]
        refuse(expression, last.at, f"unclosed left {_NAMES[last.text]}")


def _check_call(expression: str, token: Token, functions: Collection[str]) -> None:
    name = token.text
    if name in functions or name.lower() in AGGREGATIONS | _BEFORE_BRACKET | _OF_DURATIONS:
        return
    near = difflib.get_close_matches(name, [*functions, *AGGREGATIONS], 1)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    refuse(expression, token.at, f'unknown function with name "{name}"{hint}')
