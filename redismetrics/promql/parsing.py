"""Parse an expression with promql-parser, and add positions to its tree.

promql-parser has no positions and loses negative times of `@`. Its tree has the order of the
expression, so both are taken from the tokens during conversion.
"""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, Literal

from redismetrics.errors import InvalidExpression, MissingExtra

from . import nodes, trampoline
from .durations import Duration
from .function_names import FUNCTIONS
from .matchers import Matcher, compiled
from .nodes import Moment, Node
from .tokens import Token, place, refuse, scan
from .trampoline import Step
from .unknown_syntax import PlainExpression, take_out

_MATCH_OPERATORS = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
_ARGUMENT = re.compile(r"expected type (\w+) in call to function '(\w+)', got (\w+)")
_TYPES = {"matrix": "range vector", "vector": "instant vector"}
_GROUPS = ("group_left", "group_right")
_FILLS = ("fill", "fill_left", "fill_right")
_BYTE = re.compile(r"\\(?:x[89a-fA-F]|[2-3][0-7]{2})")
_ESCAPE = re.compile(r"(\\(?:x..|[0-7]{3}|u.{4}|U.{8}|.))|([^\\]+)")
_DURATION = re.compile(r"(?:[0-9]+(?:ms|[smhdwy]))+")
# The latest time of @, in ms: times are int64, also with the offsets and ranges before them.
_MOST_MS = 10**18


@lru_cache(256)
def parse(expression: str) -> Node:
    """Return the syntax tree of an expression.

    Raises:
        InvalidExpression: If it cannot be parsed or exceeds the limits of `tokens`.
        MissingExtra: If promql-parser or google-re2 is not installed.
    """
    parser = import_parser()
    tokens = scan(expression, FUNCTIONS)
    if not tokens:
        refuse(expression, 0, "no expression found in input")
    plain = take_out(expression, tokens)
    if plain.text != expression:
        tokens = scan(plain.text, FUNCTIONS)
    try:
        tree = parser.parse(plain.text)
        negatives = {at: parser.parse(text) for at, text in plain.selectors.items()}
    except ValueError as error:
        raise _explained(expression, tokens, error) from error
    return trampoline.run(_Converter(plain, tokens, negatives, parser).node(tree))


def formatted(expression: str) -> str:
    """Return an expression in Prometheus' standard format.

    An expression with syntax that the parser does not know, such as calculated durations, is
    returned unchanged.

    Raises:
        InvalidExpression: Like `parse`.
    """
    parse(expression)
    if take_out(expression, scan(expression, FUNCTIONS)).text != expression:
        return " ".join(expression.split())
    text: str = import_parser().parse(expression).prettify()
    return text


def import_parser() -> Any:
    try:
        import promql_parser
    except ImportError as error:
        raise MissingExtra(
            "PromQL needs promql-parser: pip install 'redismetrics[promql]'"
        ) from error
    return promql_parser


def _explained(expression: str, tokens: list[Token], error: ValueError) -> InvalidExpression:
    """Return the parser's error with a position, if the tokens show what it could not parse."""
    reason, at = str(error), 0
    if reason == "invalid promql query":
        reason = "unexpected token or end of input"
    for number, token in enumerate(tokens):
        after = tokens[number + 1 : number + 3]
        if token.text in ("<", ">") and after and after[0].text == "/":
            reason, at = f"the operator {token.text}/ is not supported", token.at
    if (match := _ARGUMENT.fullmatch(reason)) and not at:
        wanted, name, got = match.groups()
        reason = (
            f'expected type {_TYPES.get(wanted, wanted)} in call to function "{name}", '
            f"got {_TYPES.get(got, got)}"
        )
        places = [number for number, token in enumerate(tokens) if token.text == name]
        if len(places) == 1:
            at = tokens[places[0]].at
    return InvalidExpression(f"{place(expression, at)}: parse error: {reason}")


def _unquoted(token: str, parsed: str) -> str:
    r"""Return the value of a string, in which \xff is a byte, not a character as in the parser.

    Bytes that are not UTF-8 become surrogates.
    """
    if token[0] == "`" or not _BYTE.search(token):
        return parsed
    data = bytearray()
    for escape, text in _ESCAPE.findall(token[1:-1]):
        if escape[1:2] == "x":
            data += bytes.fromhex(escape[2:])
        elif escape[1:2].isdigit():
            data.append(int(escape[1:], 8) & 0xFF)
        else:
            data += text.encode() or escape.encode().decode("unicode_escape").encode()
    return data.decode(errors="surrogateescape")


class _Converter:
    """Converts a tree while it reads the tokens in the same order."""

    def __init__(
        self,
        plain: PlainExpression,
        tokens: list[Token],
        negatives: Mapping[int, Any],
        parser: Any,
    ) -> None:
        self._plain = plain
        self._expression = plain.text
        self._tokens = tokens
        self._negatives = negatives
        self._next = 0
        self._parser = parser
        self._convert: dict[str, Callable[[Any, int], Step[Node]]] = {
            "NumberLiteral": self._number,
            "StringLiteral": self._text,
            "VectorSelector": self._vector,
            "MatrixSelector": self._matrix,
            "SubqueryExpr": self._subquery,
            "Call": self._call,
            "AggregateExpr": self._aggregation,
            "BinaryExpr": self._binary,
            "UnaryExpr": self._negation,
            "ParenExpr": self._parentheses,
        }

    def node(self, tree: Any) -> Step[Node]:
        at = self._here()
        # The parser leaves out unary plus.
        while self._take("+"):
            pass
        converted = yield self._convert[type(tree).__name__](tree, at)
        return converted  # type: ignore[no-any-return]

    # Tokens.

    def _here(self) -> int:
        return self._tokens[self._next].at if self._next < len(self._tokens) else 0

    def _is(self, *texts: str) -> bool:
        return self._next < len(self._tokens) and self._tokens[self._next].text.lower() in texts

    def _take(self, *texts: str) -> bool:
        found = self._is(*texts)
        self._next += found
        return found

    def _followed_by_brackets(self, *texts: str) -> bool:
        following = self._tokens[self._next + 1 : self._next + 2]
        return self._is(*texts) and bool(following) and following[0].text == "("

    def _skip(self) -> str:
        token = self._tokens[self._next]
        self._next += 1
        return token.text

    def _skip_brackets(self, opening: str) -> None:
        """Skip brackets and their contents, if they come next."""
        depth = 0
        while self._is(opening) or depth:
            depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(self._skip(), 0)
            if not depth:
                return

    def _brackets(self, width: Any, step: Any, at: int) -> tuple[Duration, Duration]:
        """Skip ``[range:step]``; return both, given the plain ones in ms."""
        self._take("[")
        width = self._duration(width, at)
        self._skip()
        if self._take(":") and not self._is("]"):
            step = self._duration(step, at)
            self._skip()
        self._take("]")
        return width, step

    def _duration(self, plain: timedelta, at: int) -> Duration:
        """Return the calculated duration at this position, or the plain one, which must be > 0."""
        found = self._plain.calculations.get(self._here())
        return self._positive(plain, at) if found is None else found

    def _modifiers(self, plain: timedelta | None) -> tuple[Duration, Moment | None, str]:
        """Skip `offset` and `@`; return the offset, the time of `@`, and the modifier."""
        modifier = self._modifier_here()
        moment: Moment | None = None
        offset: Duration = _ms(plain)
        while self._is("offset", "@"):
            if self._skip() != "@":
                offset = self._plain.calculations.get(self._here(), offset)
                self._take("-", "+")
                self._skip()
            elif self._is("start", "end"):
                word = self._skip().lower()
                moment = "start" if word == "start" else "end"
                self._skip_brackets("(")
            else:
                moment = self._seconds()
            modifier = modifier or self._modifier_here()
        return offset, moment, modifier

    def _modifier_here(self) -> str:
        """Return the modifier that was removed between the last and the next token, or ""."""
        after = self._tokens[self._next - 1].at
        until = self._here() if self._next < len(self._tokens) else len(self._expression)
        for at, modifier in self._plain.modifiers.items():
            if after < at < until:
                return modifier
        return ""

    def _seconds(self) -> int:
        at = self._here()
        sign = -1 if self._take("-") else 1
        self._take("+")
        text = self._skip()
        try:
            if _DURATION.fullmatch(text):
                moment = _ms(self._parser.parse_duration(text))
            else:
                moment = round(float(text) * 1000)
        except (ValueError, OverflowError):
            refuse(self._expression, at, "the time of @ must be Unix seconds")
        if moment > _MOST_MS:
            refuse(self._expression, at, f"timestamp out of bounds for @ modifier: {text}")
        return sign * moment

    # Nodes.

    def _number(self, tree: Any, at: int) -> Step[Node]:
        # The parser applies signs to numbers.
        while self._take("-", "+"):
            pass
        self._skip()
        yield from ()
        return nodes.Number(at, float(tree.val))

    def _text(self, tree: Any, at: int) -> Step[Node]:
        token = self._skip()
        yield from ()
        return nodes.Text(at, _unquoted(token, str(tree.val)))

    def _vector(self, tree: Any, at: int) -> Step[Node]:
        yield from ()
        if not self._is("{"):
            self._skip()
        self._skip_brackets("{")
        negative = self._negatives.get(at)
        matchers = self._matchers(tree if negative is None else negative, at)
        if negative is not None:
            matchers = matchers[:-1]
        return nodes.VectorSelector(at, matchers, 0, *self._modifiers(tree.offset))

    def _matrix(self, tree: Any, at: int) -> Step[Node]:
        yield from ()
        inner = tree.vector_selector
        if not self._is("{"):
            self._skip()
        self._skip_brackets("{")
        width, _ = self._brackets(tree.range, 0, at)
        matchers = self._matchers(inner, at)
        return nodes.VectorSelector(at, matchers, width, *self._modifiers(inner.offset))

    def _subquery(self, tree: Any, at: int) -> Step[Node]:
        expression = yield self.node(tree.expr)
        width, step = self._brackets(tree.range, 0 if tree.step is None else tree.step, at)
        offset, moment, modifier = self._modifiers(tree.offset)
        if modifier:
            refuse(self._expression, at, f"{modifier} must follow a selector, got a subquery")
        return nodes.Subquery(at, expression, width, step, offset, moment)

    def _call(self, tree: Any, at: int) -> Step[Node]:
        self._skip()
        self._take("(")
        arguments = []
        for argument in tree.args:
            arguments.append((yield self.node(argument)))
            self._take(",")
        self._take(")")
        return nodes.FunctionCall(at, tree.func.name, tuple(arguments))

    def _aggregation(self, tree: Any, at: int) -> Step[Node]:
        operator = self._skip().lower()
        self._grouping()
        self._take("(")
        parameter = None
        if tree.param is not None:
            parameter = yield self.node(tree.param)
            self._take(",")
        expression = yield self.node(tree.expr)
        self._take(",")
        self._take(")")
        self._grouping()
        modifier = tree.modifier
        without = modifier is not None and modifier.type == self._parser.AggModifierType.Without
        labels = () if modifier is None else tuple(sorted(set(modifier.labels)))
        return nodes.Aggregation(at, operator, expression, parameter, labels, without)

    def _grouping(self) -> None:
        if self._take("by", "without"):
            self._skip_brackets("(")

    def _binary(self, tree: Any, at: int) -> Step[Node]:
        left = yield self.node(tree.lhs)
        operator = self._skip().lower()
        self._take("bool")
        if self._followed_by_brackets("on", "ignoring"):
            self._skip()
            self._skip_brackets("(")
            if self._take(*_GROUPS):
                self._skip_brackets("(")
        while self._followed_by_brackets(*_FILLS):
            self._skip()
            self._skip_brackets("(")
        right = yield self.node(tree.rhs)
        modifier = tree.modifier
        is_bool = modifier is not None and modifier.return_bool
        return nodes.Binary(at, operator, left, right, self._matching(modifier), is_bool)

    def _matching(self, modifier: Any) -> nodes.Matching:
        if modifier is None:
            return nodes.Matching()
        labels = modifier.matching
        cardinality = self._parser.VectorMatchCardinality
        many: Literal["", "left", "right"] = ""
        if modifier.card == cardinality.ManyToOne:
            many = "left"
        elif modifier.card == cardinality.OneToMany:
            many = "right"
        return nodes.Matching(
            labels is not None and labels.type == self._parser.LabelModifierType.Include,
            () if labels is None else tuple(sorted(set(labels.labels))),
            many,
            tuple(modifier.group_labels or ()),
            modifier.fill_values.lhs,
            modifier.fill_values.rhs,
        )

    def _negation(self, tree: Any, at: int) -> Step[Node]:
        self._take("-")
        expression = yield self.node(tree.expr)
        return nodes.Negation(at, expression)

    def _parentheses(self, tree: Any, at: int) -> Step[Node]:
        self._take("(")
        expression = yield self.node(tree.expr)
        self._take(")")
        return nodes.Parentheses(at, expression)

    def _matchers(self, tree: Any, at: int) -> tuple[Matcher, ...]:
        if tree.matchers.or_matchers:
            refuse(self._expression, at, 'unexpected "or" in label matching; use "=~" with "|"')
        found = [] if tree.name is None else [Matcher("__name__", "=", tree.name)]
        for matcher in tree.matchers.matchers:
            operator = _MATCH_OPERATORS[re.sub(r".*\.", "", str(matcher.op))]
            if operator in ("=~", "!~"):
                try:
                    compiled(matcher.value)
                except InvalidExpression as error:
                    refuse(self._expression, at, str(error))
            found.append(Matcher(matcher.name, operator, matcher.value))
        return tuple(found)

    def _positive(self, duration: timedelta, at: int) -> int:
        if (found := _ms(duration)) <= 0:
            refuse(self._expression, at, "duration must be greater than 0")
        return found


def _ms(duration: timedelta | None) -> int:
    return 0 if duration is None else duration // timedelta(milliseconds=1)
