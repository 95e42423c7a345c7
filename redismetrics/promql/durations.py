"""Calculated durations: ``[5m + step()]``, ``offset (1h / 2)``.

promql-parser supports only plain durations. So calculated ones are replaced by plain ones of the
same length before parsing, and put into the tree afterwards.
"""

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from redismetrics.errors import InvalidExpression

from .tokens import Token, refuse

# Maximum number of tokens of a calculation; they nest less deeply than Python's stack.
_MAX_TOKENS = 100

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_UNITS["y"] = 365 * _UNITS["d"]
_PART = re.compile(r"([0-9]+)(ms|[smhdwy])")

_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "%": 2, "^": 4}
# Unary minus: -2 ^ 2 is -4, and -2 * 2 is (-2) * 2.
_SIGN = 3
_OF_QUERY = ("range", "step")
_OF_TWO = ("max_of", "min_of")


@dataclass(frozen=True, slots=True)
class Calculation:
    """A number of seconds that is computed once the query is known.

    Attributes:
        at: Its position in the expression.
        name: An operator, the name of a function, or ``number``.
        parts: Its operands.
        value: The number.
    """

    at: int
    name: str
    parts: tuple["Calculation", ...] = ()
    value: float = 0.0

    def seconds(self, step: float, length: float) -> float:
        """Return the result for a query with this *step* and *length*, both in seconds.

        Raises:
            InvalidExpression: If there is a division by zero or a number is too large.
        """
        if self.name == "number":
            return self.value
        if self.name in _OF_QUERY:
            return step if self.name == "step" else length
        numbers = [part.seconds(step, length) for part in self.parts]
        try:
            return _OPERATIONS[self.name](*numbers)
        except (ZeroDivisionError, OverflowError, TypeError, ValueError) as error:
            raise InvalidExpression(
                f"parse error: a duration cannot be calculated: {error}"
            ) from error

    def __str__(self) -> str:
        if self.name == "number":
            return f"{self.value:g}"
        if self.name in _OF_QUERY:
            return f"{self.name}()"
        if self.name in _OF_TWO:
            return f"{self.name}({self.parts[0]}, {self.parts[1]})"
        if self.name == "negative":
            return f"-{self.parts[0]}"
        return f"({self.parts[0]} {self.name} {self.parts[1]})"


_OPERATIONS: dict[str, Callable[..., float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": math.fmod,
    "^": math.pow,
    "negative": operator.neg,
    "max_of": max,
    "min_of": min,
}


def cut_out(expression: str, tokens: Sequence[Token]) -> tuple[str, dict[int, Calculation]]:
    """Return *expression* with calculated durations replaced, and the calculations by position."""
    found: dict[int, Calculation] = {}
    for first, stop in _places(tokens):
        part = tokens[first:stop]
        if part:
            found[part[0].at] = _Reader(expression, part).whole()
            end = part[-1].at + len(part[-1].text)
            hidden = re.sub(r"[^\n]", " ", expression[part[0].at + 2 : end])
            expression = f"{expression[: part[0].at]}1s{hidden}{expression[end:]}"
    return expression, found


def _places(tokens: Sequence[Token]) -> list[tuple[int, int]]:
    """Return the positions of durations: (first token, the one after the last)."""
    places = []
    for number, token in enumerate(tokens):
        if token.text == "[":
            first, depth = number + 1, 0
            for at in range(number + 1, len(tokens)):
                text = tokens[at].text
                depth += (text == "(") - (text == ")")
                if text in (":", "]") and not depth:
                    places.append((first, at))
                    first = at + 1
                if text == "]":
                    break
        elif token.kind == "word" and token.text.lower() == "offset":
            places.append((number + 1, _end_of_offset(tokens, number + 1)))
    return [(first, stop) for first, stop in places if _is_calculated(tokens[first:stop])]


def _end_of_offset(tokens: Sequence[Token], at: int) -> int:
    """Return the token after a duration that follows `offset`; an operator is not part of it."""
    while at < len(tokens) and tokens[at].text in ("+", "-"):
        at += 1
    if at < len(tokens) and tokens[at].kind == "word":
        at += 1
    if at >= len(tokens) or tokens[at].text != "(":
        return at + 1
    depth = 0
    for behind in range(at, len(tokens)):
        depth += (tokens[behind].text == "(") - (tokens[behind].text == ")")
        if not depth:
            return behind + 1
    return len(tokens)


def _is_calculated(tokens: Sequence[Token]) -> bool:
    """Return whether a duration is more than a signed number."""
    has_sign = bool(tokens) and tokens[0].text in ("+", "-")
    return len(tokens) > 1 + has_sign or (len(tokens) == 1 and has_sign)


class _Reader:
    """Reads a calculation, by precedence climbing."""

    def __init__(self, expression: str, tokens: Sequence[Token]) -> None:
        self._expression = expression
        self._tokens = tokens
        self._next = 0

    def whole(self) -> Calculation:
        if len(self._tokens) > _MAX_TOKENS:
            self._refuse(f"a duration must have at most {_MAX_TOKENS} parts, got more")
        found = self._sum(1)
        if self._text():
            self._refuse(f"unexpected {self._text()!r} in a duration")
        return found

    def _text(self) -> str:
        return self._tokens[self._next].text.lower() if self._next < len(self._tokens) else ""

    def _refuse(self, reason: str) -> None:
        at = self._tokens[min(self._next, len(self._tokens) - 1)].at
        refuse(self._expression, at, reason)

    def _take(self, text: str) -> None:
        if self._text() != text:
            self._refuse(f"a duration must have {text!r} here, got {self._text()!r}")
        self._next += 1

    def _sum(self, least: int) -> Calculation:
        left = self._operand()
        while _PRECEDENCE.get(name := self._text(), 0) >= least:
            self._next += 1
            # Powers are grouped from the right.
            right = self._sum(_PRECEDENCE[name] + (name != "^"))
            left = Calculation(left.at, name, (left, right))
        return left

    def _operand(self) -> Calculation:
        name = self._text()
        at = self._tokens[min(self._next, len(self._tokens) - 1)].at
        if name in ("+", "-"):
            self._next += 1
            inner = self._sum(_SIGN)
            return Calculation(at, "negative", (inner,)) if name == "-" else inner
        if name == "(":
            self._next += 1
            inner = self._sum(1)
            self._take(")")
            return inner
        if name in _OF_QUERY:
            self._next += 1
            self._take("(")
            self._take(")")
            return Calculation(at, name)
        if name in _OF_TWO:
            self._next += 1
            self._take("(")
            first = self._sum(1)
            self._take(",")
            second = self._sum(1)
            self._take(")")
            return Calculation(at, name, (first, second))
        return self._number(at, name)

    def _number(self, at: int, text: str) -> Calculation:
        self._next += 1
        parts = _PART.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            total = sum(int(number) * _UNITS[unit] for number, unit in parts)
            return Calculation(at, "number", value=total)
        try:
            return Calculation(at, "number", value=float(text))
        except ValueError:
            self._next -= 1
            refuse(self._expression, at, f"a duration must be a number such as 5m, got {text!r}")


Duration = int | Calculation


def milliseconds(duration: Duration, step: int, length: int) -> int:
    """Return a duration in ms, for a query with this *step* and *length* in ms."""
    if isinstance(duration, int):
        return duration
    seconds = duration.seconds(step / 1000, length / 1000)
    if not math.isfinite(seconds) or abs(seconds) > 1e11:
        raise InvalidExpression(
            f"parse error: a duration must be a number of seconds, got {seconds}"
        )
    return round(seconds * 1000)
