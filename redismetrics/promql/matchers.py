"""Label matchers: `=`, `!=`, `=~` and `!~`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from redismetrics.errors import InvalidExpression, MissingExtra

# Memory limit of one compiled expression. Enough for alternations of several thousand words; RE2
# rejects anything larger.
_MAX_REGEX_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on one label. A missing label counts as empty.

    Attributes:
        name: Name of the label; ``__name__`` is the metric.
        op: ``=``, ``!=``, ``=~`` or ``!~``.
        value: Text, or a regular expression (RE2) that the whole label must match.
    """

    name: str
    op: str
    value: str

    def __str__(self) -> str:
        return f"{self.name}{self.op}{self.value!r}"

    def predicate(self) -> Callable[[str], bool]:
        """Return a function that returns whether a value of the label matches.

        Call it once per distinct value.

        Raises:
            InvalidExpression: If the regular expression is invalid.
        """
        value = self.value
        if self.op == "=":
            return value.__eq__
        if self.op == "!=":
            return value.__ne__
        pattern = compiled(value)
        if self.op == "=~":
            return lambda text: pattern.fullmatch(text) is not None
        return lambda text: pattern.fullmatch(text) is None

    def select(self, values: Iterable[str]) -> set[str]:
        """Return those of *values* that match."""
        return set(filter(self.predicate(), values))

    @property
    def matches_empty(self) -> bool:
        """Return whether series without this label match."""
        return self.predicate()("")


@lru_cache(256)
def compiled(pattern: str) -> Any:
    """Return the compiled RE2 *pattern*, which runs in linear time on any text.

    Its `fullmatch` is PromQL's way of matching.

    Raises:
        InvalidExpression: If *pattern* is invalid or needs too much memory.
        MissingExtra: If google-re2 is not installed.
    """
    try:
        # PromQL's regular expressions match newlines with a dot.
        return compile_re2(pattern, dot_matches_newline=True)
    except ValueError as error:
        raise InvalidExpression(
            f"error parsing regexp: {error}: `{pattern[:200]}`; regular expressions must be RE2"
        ) from error


def compile_re2(pattern: str, *, dot_matches_newline: bool) -> Any:
    """Return the compiled RE2 *pattern*.

    Raises:
        ValueError: If *pattern* is invalid or needs too much memory, with the reason.
        MissingExtra: If google-re2 is not installed.
    """
    re2 = import_re2()
    options = re2.Options()
    options.max_mem = _MAX_REGEX_BYTES
    options.log_errors = False
    options.dot_nl = dot_matches_newline
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "invalid"
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(text) from error


def import_re2() -> Any:
    try:
        import re2
    except ImportError as error:
        raise MissingExtra(
            "PromQL needs google-re2: pip install 'redismetrics[promql]'. Where it has no wheel, "
            "as on Alpine, use an image based on Debian"
        ) from error
    return re2
