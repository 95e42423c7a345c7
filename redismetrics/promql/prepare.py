"""Prepare an expression: its selectors with their times, and the order of evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from redismetrics.errors import EvaluationFailed, InvalidExpression

from . import nodes, trampoline
from .answer import Answer
from .budget import Budget
from .durations import Duration, milliseconds
from .extended import Extension, check_function
from .function_names import RANGE_FUNCTIONS
from .info_function import info_matchers
from .nodes import Moment, Node
from .parsing import parse
from .source import LOOKBACK_MS, Selected, Selector
from .trampoline import Step
from .vectors import Grid

# The step of a subquery without one: Prometheus' default evaluation interval.
_SUBQUERY_STEP = 60_000
# Steps of a subquery or range query. Far beyond Prometheus' 11,000 points per series, but a
# subquery of a week at 1 s has 604,800.
MAX_STEPS = 1_000_000

Kind = Literal["instant", "range"]


@dataclass(frozen=True, slots=True)
class Instruction:
    """One node of the tree, which is run after its arguments.

    Attributes:
        node: The node.
        grid: The times at which it is evaluated.
        arity: The number of results of earlier instructions that it uses.
        selector: Number of its selector, or -1.
        inner: The times of a subquery's expression.
        ends: The ends of a subquery's windows.
        width: The width of a subquery's windows in ms.
        extension: How windows of a selector with `anchored` or `smoothed` are extended.
    """

    node: Node
    grid: Grid
    arity: int = 0
    selector: int = -1
    inner: Grid | None = None
    ends: Grid | None = None
    width: int = 0
    extension: Extension | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """An expression with its times.

    Attributes:
        expression: The text.
        kind: Whether this is an instant or a range query.
        grid: The times of the result.
        end: The requested end, which may be after the last step.
        selectors: The distinct selectors for the source.
        program: The instructions in order of execution.
    """

    expression: str
    kind: Kind
    grid: Grid
    end: int
    selectors: Sequence[Selector]
    program: Sequence[Instruction]

    def evaluate(self, answers: Sequence[Selected], budget: Budget) -> Answer:
        """Return the result, given the answer to each selector.

        Raises:
            EvaluationFailed: If the expression cannot be evaluated on this data or within the
                budget.
            EvaluationTimeout: If it takes too long.
        """
        # Imported here, so that an expression can be checked without loading all operations.
        from .evaluate import evaluate

        return evaluate(self, answers, budget)


def prepare(
    expression: str, start: int, end: int, step: int, *, lookback: int | None = None
) -> Prepared:
    """Return the expression ready to be evaluated.

    Args:
        expression: PromQL.
        start: First time, Unix ms.
        end: End, inclusive, Unix ms; equal to *start* for an instant query.
        step: Step in ms; 0 for an instant query.
        lookback: Lookback in ms; None means the metric's own, or 5 minutes.

    Raises:
        InvalidExpression: If the expression is invalid, or not for a range query.
        EvaluationFailed: If it has more than `MAX_STEPS` steps.
    """
    return prepare_tree(parse(expression), expression, start, end, step, lookback=lookback)


def prepare_tree(
    tree: Node, expression: str, start: int, end: int, step: int, *, lookback: int | None = None
) -> Prepared:
    """Return a parsed expression ready to be evaluated; see `prepare`."""
    kind: Kind = "range" if step else "instant"
    if step < 0 or end < start or (not step and end != start):
        raise InvalidExpression(
            f"`step` must be positive and `end` not before `start`, got {step} ms and "
            f"{end - start} ms after the start"
        )
    bare = strip(tree)
    if step and (is_range(bare) or isinstance(bare, nodes.Text)):
        name = "string" if isinstance(bare, nodes.Text) else "range vector"
        raise InvalidExpression(
            f'invalid expression type "{name}" for range query, must be Scalar or instant Vector'
        )
    grid = Grid(start, step, (end - start) // step + 1 if step else 1)
    _check_steps(grid.count)
    compiler = _Compiler(start, end, step, lookback)
    trampoline.run(compiler.compile(tree, grid))
    return Prepared(expression, kind, grid, end, tuple(compiler.selectors), tuple(compiler.program))


def strip(node: Node) -> Node:
    """Return *node* without surrounding parentheses."""
    while isinstance(node, nodes.Parentheses):
        node = node.expression
    return node


def is_range(node: Node) -> bool:
    """Return whether *node* is a range vector."""
    return isinstance(node, nodes.Subquery) or (
        isinstance(node, nodes.VectorSelector) and node.range != 0
    )


def is_instant(node: Node) -> bool:
    """Return whether *node* is an instant selector."""
    return isinstance(node, nodes.VectorSelector) and not node.range


def _check_steps(count: int) -> None:
    if count > MAX_STEPS:
        raise EvaluationFailed(
            f"a query must have at most {MAX_STEPS} steps, got {count}; use a longer step"
        )


class _Compiler:
    def __init__(self, start: int, end: int, step: int, lookback: int | None) -> None:
        self._moments = {"start": start, "end": end}
        self._step = step
        self._lookback = lookback
        self.program: list[Instruction] = []
        self._numbers: dict[Selector, int] = {}

    @property
    def selectors(self) -> list[Selector]:
        return list(self._numbers)

    def compile(self, node: Node, grid: Grid, function: str = "") -> Step[None]:
        """Append the instructions of *node*, which may be an argument of *function*."""
        children: Sequence[Node] = ()
        selector, inner, ends, width, extension = -1, None, None, 0, None
        match node:
            case nodes.VectorSelector(modifier=modifier) if modifier:
                extension = self._extension(node, function)
                selector = self._select(node, grid, "", extension)
            case nodes.VectorSelector():
                selector = self._select(node, grid, function)
            case nodes.Subquery():
                width = self._positive(node.range)
                ends = Grid(*self._reference(grid, node.offset, node.moment))
                inner = self._inner_grid(node, ends, width)
                yield self.compile(node.expression, inner)
            case nodes.FunctionCall(function="info"):
                selector = self._info_selector(node, grid)
                children = node.arguments[:1]
            case nodes.FunctionCall(function="timestamp") if is_instant(strip(node.arguments[0])):
                # The times of the samples, which its value does not have.
                child = strip(node.arguments[0])
                assert isinstance(child, nodes.VectorSelector)
                selector = self._select(child, grid, "")
            case nodes.FunctionCall():
                children = [part for part in node.arguments if not _is_text(part)]
            case nodes.Aggregation():
                parameter = [] if node.parameter is None else [node.parameter]
                children = [*(part for part in parameter if not _is_text(part)), node.expression]
            case nodes.Binary():
                children = (node.left, node.right)
            case nodes.Negation() | nodes.Parentheses():
                children = (node.expression,)
        name = node.function if isinstance(node, nodes.FunctionCall) else ""
        for child in children:
            yield self.compile(strip(child), grid, name)
        arity = 1 if inner else len(children)
        self.program.append(Instruction(node, grid, arity, selector, inner, ends, width, extension))

    def _select(
        self,
        node: nodes.VectorSelector,
        grid: Grid,
        function: str,
        extension: Extension | None = None,
    ) -> int:
        start, step, count = self._reference(grid, node.offset, node.moment)
        width = self._positive(node.range) if node.range else 0
        if extension:
            start, width = extension.whole(start)
        # A source may compute functions without other arguments.
        function = function if width and function in RANGE_FUNCTIONS else ""
        return self._number(
            Selector(node.matchers, start, step, count, width, function, self._lookback)
        )

    def _extension(self, node: nodes.VectorSelector, function: str) -> Extension:
        lookback = LOOKBACK_MS if self._lookback is None else self._lookback
        after = lookback if node.modifier == "smoothed" else 0
        if not node.range:
            if node.modifier == "anchored":
                raise InvalidExpression("parse error: anchored must follow a range, such as m[5m]")
            return Extension(node.modifier, 0, lookback, after)
        check_function(node.modifier, function)
        return Extension(node.modifier, self._positive(node.range), lookback, after)

    def _number(self, selector: Selector) -> int:
        if not selector.count:
            return -1
        return self._numbers.setdefault(selector, len(self._numbers))

    def _ms(self, duration: Duration) -> int:
        moments = self._moments
        return milliseconds(duration, self._step, moments["end"] - moments["start"])

    def _positive(self, duration: Duration) -> int:
        found = self._ms(duration)
        if found <= 0:
            raise InvalidExpression(
                f"parse error: duration must be greater than 0, got {found / 1000:g} s"
            )
        return found

    def _reference(
        self, grid: Grid, offset: Duration, moment: Moment | None
    ) -> tuple[int, int, int]:
        """Return start, step and count of the times that a selector covers."""
        offset = self._ms(offset)
        if moment is None:
            return grid.start - offset, grid.step if grid.count > 1 else 0, grid.count
        if isinstance(moment, str):
            moment = self._moments[moment]
        return moment - offset, 0, min(grid.count, 1)

    def _inner_grid(self, node: nodes.Subquery, ends: Grid, width: int) -> Grid:
        """Return the times of a subquery's expression: multiples of its step in the windows."""
        step = self._positive(node.step) if node.step else _SUBQUERY_STEP
        before = ends.start - width
        # Go's division truncates, so that negative times begin one step earlier.
        first = step * (before // step if before >= 0 else -(-before // step))
        if first <= before:
            first += step
        length = max(0, (ends.end - first) // step + 1) if ends.count else 0
        _check_steps(length)
        return Grid(first, step, length)

    def _info_selector(self, node: nodes.FunctionCall, grid: Grid) -> int:
        given = node.arguments[1] if len(node.arguments) > 1 else None
        matchers = given.matchers if isinstance(given, nodes.VectorSelector) else ()
        offset, moment = self._first_reference(node.arguments[0])
        reference = self._reference(grid, offset, moment)
        return self._number(Selector(info_matchers(matchers), *reference, lookback=self._lookback))

    def _first_reference(self, node: Node) -> tuple[int, Moment | None]:
        """Return offset and `@` of the first selector: info series are looked up there."""
        waiting = [(node, 0)]
        while waiting:
            current, offset = waiting.pop()
            match current:
                case nodes.VectorSelector():
                    return offset + self._ms(current.offset), current.moment
                case nodes.Subquery():
                    offset += self._ms(current.offset)
                    if current.moment is not None:
                        return offset, current.moment
                    waiting.append((current.expression, offset))
                case nodes.FunctionCall():
                    waiting.extend((part, offset) for part in reversed(current.arguments))
                case nodes.Aggregation() | nodes.Negation() | nodes.Parentheses():
                    waiting.append((current.expression, offset))
                case nodes.Binary():
                    waiting.extend([(current.right, offset), (current.left, offset)])
        return 0, None


def _is_text(node: Node) -> bool:
    return isinstance(strip(node), nodes.Text)
