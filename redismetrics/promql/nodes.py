"""The expression tree: promql-parser's, with positions, Unix milliseconds and our matchers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .durations import Duration
from .matchers import Matcher

# A moment of `@`: Unix ms, or the start or end of the query.
Moment = int | Literal["start", "end"]


@dataclass(frozen=True, slots=True)
class Number:
    """A number.

    Attributes:
        at: Position of the node in the expression; all nodes have it.
    """

    at: int
    value: float


@dataclass(frozen=True, slots=True)
class Text:
    """A string."""

    at: int
    value: str


@dataclass(frozen=True, slots=True)
class VectorSelector:
    """Series selected by matchers.

    Attributes:
        range: Width of the window in ms; 0 for an instant selector.
        offset: Milliseconds into the past.
        moment: The time of `@`, if any.
        modifier: ``anchored``, ``smoothed`` or empty.
    """

    at: int
    matchers: tuple[Matcher, ...]
    range: Duration = 0
    offset: Duration = 0
    moment: Moment | None = None
    modifier: str = ""


@dataclass(frozen=True, slots=True)
class Subquery:
    """``expression[range:step]``; a step of 0 is the default."""

    at: int
    expression: "Node"
    range: Duration
    step: Duration
    offset: Duration = 0
    moment: Moment | None = None


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call of a function."""

    at: int
    function: str
    arguments: Sequence["Node"]


@dataclass(frozen=True, slots=True)
class Aggregation:
    """``sum by (labels) (expression)``.

    Attributes:
        operator: Lower-case name.
        parameter: The first of two arguments, as in ``topk(3, m)``.
        labels: The labels of ``by`` or ``without``.
    """

    at: int
    operator: str
    expression: "Node"
    parameter: "Node | None"
    labels: tuple[str, ...]
    without: bool


@dataclass(frozen=True, slots=True)
class Matching:
    """How two vectors are joined.

    Attributes:
        on: True for ``on``; otherwise *labels* are ignored.
        labels: The labels of ``on`` or ``ignoring``.
        many: The side that may have several series in a match group: "", "left" or "right".
        include: Labels of ``group_left`` or ``group_right``, taken from the other side.
        fill_left: Value for a missing sample on the left side, or on the side with several series,
            if any.
        fill_right: The same for the other side.
    """

    on: bool = False
    labels: tuple[str, ...] = ()
    many: Literal["", "left", "right"] = ""
    include: tuple[str, ...] = ()
    fill_left: float | None = None
    fill_right: float | None = None


@dataclass(frozen=True, slots=True)
class Binary:
    """Two expressions and an operator; *bool* is the modifier of comparisons."""

    at: int
    operator: str
    left: "Node"
    right: "Node"
    matching: Matching
    bool: bool


@dataclass(frozen=True, slots=True)
class Negation:
    """Unary minus."""

    at: int
    expression: "Node"


@dataclass(frozen=True, slots=True)
class Parentheses:
    """An expression in parentheses."""

    at: int
    expression: "Node"


Leaf = Number | Text | VectorSelector
Node = Leaf | Subquery | FunctionCall | Aggregation | Binary | Negation | Parentheses
