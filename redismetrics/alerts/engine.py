"""The interface for evaluating the expressions of rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

# A series of a result: its labels, and its value.
Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True, slots=True)
class RuleAnswer:
    """The result of an expression.

    Attributes:
        series: The series; a single one without labels if the result is a number.
        has_data: Whether any selector of the expression found a series, or it has no selectors.
        error: Why it could not be evaluated, empty if it could. With an error, *series* is empty.
    """

    series: Sequence[Sample] = ()
    has_data: bool = True
    error: str = ""


class Engine(Protocol):
    """Evaluates expressions at a given time, and writes the series of recording rules."""

    def instant(self, expressions: Sequence[str], at_ms: int) -> list[RuleAnswer]:
        """Return the answer to each expression; the selected data is read only once."""
        ...

    def selects(self, expression: str) -> set[str] | None:
        """Return the names of the metrics that an expression selects; None if it may select any."""
        ...

    def write(
        self, series: Sequence[Sample], ended: Sequence[Mapping[str, str]], at_ms: int
    ) -> None:
        """Write samples and the ends of vanished series; the next query sees them.

        Raises:
            RuleFailed: If they cannot be written.
        """
        ...

    def settle(self) -> None:
        """Wait until written samples are stored."""
        ...
