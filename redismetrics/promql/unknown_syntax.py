"""Syntax that promql-parser does not know, replaced in an expression before it is parsed.

It is replaced by known syntax of the same length, so that positions do not change.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from .durations import Calculation, cut_out
from .tokens import WORDS, Token

# A matcher that replaces others.
_POSITIVE = '{a="b"}'


@dataclass(frozen=True, slots=True)
class PlainExpression:
    """An expression that the parser can parse, and what was removed from it, by position.

    Attributes:
        text: The expression.
        calculations: Calculated durations.
        modifiers: `anchored` and `smoothed`.
        selectors: Second arguments of `info` with only negative matchers, with one more matcher.
    """

    text: str
    calculations: Mapping[int, Calculation]
    modifiers: Mapping[int, str]
    selectors: Mapping[int, str]


def take_out(expression: str, tokens: list[Token]) -> PlainExpression:
    """Return the expression without syntax that the parser does not know."""
    text, calculations = cut_out(expression, tokens)
    text, modifiers = _without_modifiers(text, tokens)
    text, selectors = _without_negatives(text, tokens)
    return PlainExpression(text, calculations, modifiers, selectors)


def _without_modifiers(expression: str, tokens: list[Token]) -> tuple[str, dict[int, str]]:
    """Return *expression* without `anchored` and `smoothed`, and their positions.

    The parser does not know them. They follow a selector, or its `offset` or `@`.
    """
    found: dict[int, str] = {}
    for before, token in pairwise(tokens):
        is_name = before.kind == "word" and before.text.lower() not in WORDS
        if token.text in ("anchored", "smoothed") and (
            is_name or before.kind == "number" or before.text in ("]", "}", ")")
        ):
            found[token.at] = token.text
            end = token.at + len(token.text)
            expression = expression[: token.at] + " " * len(token.text) + expression[end:]
    return expression, found


def _without_negatives(expression: str, tokens: list[Token]) -> tuple[str, dict[int, str]]:
    """Return *expression* with replaced matchers where those of `info` are only negative.

    The parser requires a matcher that does not match the empty string.
    """
    found: dict[int, str] = {}
    if not any(token.text == "info" for token in tokens):
        return expression, found
    for number, token in enumerate(tokens[1:], 1):
        if token.text != "{" or tokens[number - 1].text != ",":
            continue
        inner = []
        for following in tokens[number + 1 :]:
            if following.text == "}":
                break
            inner.append(following)
        is_negative = [each.text in ("!=", "!~") for each in inner if "=" in each.text[:2]]
        end = following.at + 1
        if is_negative and all(is_negative) and end - token.at >= len(_POSITIVE):
            found[token.at] = f"{expression[token.at : end - 1]},{_POSITIVE[1:]}"
            hidden = _POSITIVE.ljust(end - token.at)
            expression = f"{expression[: token.at]}{hidden}{expression[end:]}"
    return expression, found
