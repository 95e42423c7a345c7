"""Evaluate a prepared expression on the answers to its selectors."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from redismetrics.columnar.arrays import Floats
from redismetrics.errors import EvaluationFailed

from . import aggregations, joins, nodes, ranking, windows
from .answer import Answer
from .budget import Budget
from .calls import Calls
from .distributions import Distributions
from .extended import smoothed_values
from .grouping import group_labels
from .instant import at_steps
from .notes import Notes
from .number_format import format_short
from .operators import COMPARISONS, SET_OPERATORS, calculate
from .prepare import Instruction, Prepared, strip
from .source import SampledSeries, Selected, Selector
from .vectors import Grid, Scalar, Vector, concatenate, drop_names, stretched, vector_of
from .windows import Windows

_RANKING = frozenset(["bottomk", "limit_ratio", "limitk", "topk"])
# Aggregations that are undefined for distributions and ignore them.
_FLOATS_ONLY = frozenset(["bottomk", "max", "min", "quantile", "stddev", "stdvar", "topk"])

Value = Scalar | str | Vector | Windows


def evaluate(prepared: Prepared, answers: Sequence[Selected], budget: Budget) -> Answer:
    """Return the result of *prepared*, given the answer to each of its selectors."""
    if len(answers) != len(prepared.selectors):
        raise ValueError(
            f"`answers` must have {len(prepared.selectors)} elements, one for each selector, "
            f"got {len(answers)}"
        )
    run = Evaluation(prepared, answers, budget)
    for answer in answers:
        run.notes.warnings.update(dict.fromkeys(answer.warnings))
        run.notes.infos.update(dict.fromkeys(answer.infos))
    # As in Prometheus, overflow and division by zero give Inf and NaN.
    with np.errstate(all="ignore"):
        value = run.result()
    if isinstance(value, Vector):
        value = drop_names(value)
    if isinstance(value, Windows):
        value = value.without_names()
    return Answer(prepared.kind, prepared.grid, value, run.notes.all_warnings, run.notes.all_infos)


@dataclass(slots=True)
class Evaluation:
    prepared: Prepared
    answers: Sequence[Selected]
    budget: Budget
    notes: Notes = field(init=False)

    def __post_init__(self) -> None:
        self.notes = Notes(self.prepared.expression)

    def result(self) -> Value:
        """Run all instructions; each takes its arguments from the stack."""
        stack: list[Any] = []
        cells: list[int] = []
        for instruction in self.prepared.program:
            self.budget.check()
            self.budget.held = sum(cells)
            first = len(stack) - instruction.arity
            arguments = stack[first:]
            del stack[first:], cells[first:]
            value = self._value(instruction, arguments)
            stack.append(value)
            cells.append(value.values.size if isinstance(value, Vector) else 0)
        result: Value = stack.pop()
        return result

    def _value(self, instruction: Instruction, arguments: list[Any]) -> Value:
        node = instruction.node
        steps = instruction.grid.count
        match node:
            case nodes.Number():
                return np.full(steps, node.value)
            case nodes.Text():
                return node.value
            case nodes.VectorSelector(range=width, modifier=modifier):
                if modifier and not width:
                    return self._smoothed(instruction)
                if width:
                    return self._windows(instruction)
                return stretched(self.at_steps(instruction)[0], steps)
            case nodes.Subquery():
                return self._subquery(instruction, node, arguments[0])
            case nodes.Parentheses():
                found: Value = arguments[0]
                return found
            case nodes.Negation():
                return _negated(arguments[0])
            case nodes.Binary():
                return self._binary(node, arguments[0], arguments[1])
            case nodes.Aggregation():
                return self._aggregation(node, arguments)
            case nodes.FunctionCall():
                return Calls(self, instruction, node, arguments).value()

    # Selectors.

    def selected(self, instruction: Instruction) -> tuple[Selector, Selected] | None:
        if instruction.selector < 0:
            return None
        number = instruction.selector
        return self.prepared.selectors[number], self.answers[number]

    def at_steps(self, instruction: Instruction) -> tuple[Vector, Floats]:
        """Return an instant selector's values, and the times of their samples in ms."""
        found = self.selected(instruction)
        if found is None:
            empty = Vector.empty(instruction.grid.count)
            return empty, empty.values
        selector, answer = found
        parts, times = [], []
        for series in answer.samples:
            part, seen = at_steps(series, selector, self.budget)
            parts.append(part)
            times.append(seen)
        for computed in answer.values:
            labels = list(computed.labels)
            drop = np.zeros(len(labels), np.bool_)
            parts.append(Vector(labels, computed.values, computed.present, drop))
            times.append(np.broadcast_to(selector.times.astype(np.float64), computed.values.shape))
        for series_of in answer.distributions:
            part = Vector.empty(selector.count)
            part.distributions = Distributions.of(series_of, drop=False)
            parts.append(part)
        vector = concatenate(parts, selector.count)
        self.budget.series(len(vector))
        return vector, np.concatenate(times) if times else vector.values

    def _windows(self, instruction: Instruction) -> Windows:
        found = self.selected(instruction)
        steps = instruction.grid.count
        if found is None:
            return _joined([], Grid(0, 0, 1), 0, steps)
        selector, answer = found
        grid = Grid(selector.start, selector.step, selector.count)
        windows_found = _joined(answer.samples, grid, selector.range, steps)
        windows_found.extension = instruction.extension
        for computed in answer.values:
            labels = list(computed.labels)
            drop = np.zeros(len(labels), np.bool_)
            windows_found.computed.append(Vector(labels, computed.values, computed.present, drop))
        for series in answer.distributions:
            part = Vector.empty(grid.count)
            part.distributions = Distributions.of(series, drop=False)
            windows_found.computed.append(part)
        self.budget.series(len(windows_found))
        return windows_found

    def _smoothed(self, instruction: Instruction) -> Vector:
        windows_found = self._windows(instruction)
        steps = instruction.grid.count
        if windows_found.extension is None:
            return Vector.empty(steps)
        found = smoothed_values(windows_found, windows_found.extension, self.budget)
        return stretched(found, steps)

    def _subquery(
        self, instruction: Instruction, node: nodes.Subquery, value: Vector | Scalar
    ) -> Windows:
        inner = instruction.inner
        assert inner is not None
        if not isinstance(value, Vector):
            value = vector_of(value)
        if value.distributions:
            self.notes.info(node.at, "a subquery of distributions is not supported; left out")
        offsets, times, values = windows.of_vector(value, inner)
        self.budget.read(len(times))
        assert instruction.ends is not None
        return Windows(
            value.labels,
            value.drop,
            offsets,
            times,
            values,
            instruction.ends,
            instruction.width,
            instruction.grid.count,
        )

    # Operators.

    def _binary(
        self, node: nodes.Binary, left: Vector | Scalar, right: Vector | Scalar
    ) -> Vector | Scalar:
        if isinstance(left, Vector) and isinstance(right, Vector):
            if node.operator in SET_OPERATORS:
                return joins.combine_sets(left, right, node, self.budget)
            return self._joined(node, left, right)
        if isinstance(left, Vector) and not isinstance(right, Vector):
            return self._with_scalar(node, left, right, swapped=False)
        if isinstance(right, Vector) and not isinstance(left, Vector):
            return self._with_scalar(node, right, left, swapped=True)
        assert not isinstance(left, Vector)
        assert not isinstance(right, Vector)
        values, kept = calculate(node.operator, left, right)
        return kept.astype(np.float64) if node.operator in COMPARISONS else values

    def _joined(self, node: nodes.Binary, left: Vector, right: Vector) -> Vector:
        found = joins.join(left, right, node, self.budget)
        first, second = left.distributions, right.distributions
        if first and second and node.operator == "+":
            found.distributions = joins.add_distributions(first, second, node)
        elif first and second:
            self._incompatible(node, "histogram", "histogram")
        elif first and len(right):
            self._incompatible(node, "histogram", "float")
        elif second and len(left):
            self._incompatible(node, "float", "histogram")
        return found

    def _incompatible(self, node: nodes.Binary, left: str, right: str) -> None:
        self.notes.info(
            node.at,
            "incompatible sample types encountered for binary operator "
            f'"{node.operator}": {left} {node.operator} {right}',
        )

    def _with_scalar(
        self, node: nodes.Binary, vector: Vector, scalar: Scalar, *, swapped: bool
    ) -> Vector:
        sides = (scalar, vector.values) if swapped else (vector.values, scalar)
        values, kept = calculate(node.operator, *sides)
        if node.bool:
            found = vector.with_values(kept.astype(np.float64))
        elif node.operator in COMPARISONS:
            # The value of the vector is kept, on whichever side it is.
            found = vector.where(kept)
        else:
            found = vector.with_values(values)
        block = vector.distributions
        if block and node.operator == "*":
            found.distributions = _renamed(block.scaled(scalar))
        elif block and node.operator == "/" and not swapped:
            found.distributions = _renamed(block.scaled(1.0 / scalar))
        elif block:
            types = ("float", "histogram") if swapped else ("histogram", "float")
            self._incompatible(node, *types)
        return found

    # Aggregations.

    def _aggregation(self, node: nodes.Aggregation, arguments: list[Any]) -> Vector:
        vector: Vector = arguments[-1]
        parameter: Scalar | None = arguments[0] if len(arguments) > 1 else None
        expression = strip(node.expression)
        if vector.distributions and node.operator in _FLOATS_ONLY:
            at = node.at if node.operator in _RANKING else expression.at
            self.notes.info(at, f"ignored histogram in {node.operator} aggregation")
            vector = vector.floats()
        if node.operator == "count_values":
            assert node.parameter is not None
            label = strip(node.parameter)
            assert isinstance(label, nodes.Text)
            if not label.value:
                raise EvaluationFailed(f'invalid label name "{label.value}"')
            return ranking.count_values(vector.floats(), node, label.value, self.budget)
        if node.operator in _RANKING:
            assert parameter is not None
            return self._ranked(node, vector, parameter)
        if node.operator == "quantile":
            assert parameter is not None
            assert node.parameter is not None
            self.notes.check_quantile(strip(node.parameter).at, parameter)
        if not vector.distributions:
            return aggregations.aggregate(vector, node, parameter, self.budget)
        return self._with_distributions(node, vector, vector.distributions)

    def _ranked(self, node: nodes.Aggregation, vector: Vector, parameter: Scalar) -> Vector:
        if node.operator == "limit_ratio":
            if not parameter.any():
                return Vector.empty(vector.steps)
            if np.isnan(parameter).any():
                raise EvaluationFailed("Ratio value is NaN")
            assert node.parameter is not None
            for wrong in ranking.first_invalid(parameter, -1.0, 1.0):
                self.notes.warning(
                    strip(node.parameter).at,
                    "ratio value should be between -1 and 1, got "
                    f"{format_short(wrong)}, capping to {1 if wrong > 0 else -1}",
                )
            return ranking.keep_ratio(vector, parameter)
        if parameter.max(initial=0.0) < 1:
            return Vector.empty(vector.steps)
        ranking.check_count(node.operator, parameter)
        if node.operator == "limitk":
            return ranking.keep_first(vector, node, parameter)
        return ranking.keep_extremes(vector, node, parameter, self.budget)

    def _with_distributions(
        self, node: nodes.Aggregation, vector: Vector, block: Distributions
    ) -> Vector:
        """Return `sum`, `avg`, `count` or `group` of floats and distributions."""
        groups = group_labels([*vector.labels, *block.labels], node)
        of_block = groups.number[len(vector) :]
        if node.operator in ("count", "group"):
            ones = Vector(block.labels, np.ones(block.present.shape), block.present, block.drop)
            both = concatenate([vector.floats(), ones], vector.steps)
            return aggregations.aggregate(both, node, None, self.budget)
        floats = aggregations.aggregate(vector.floats(), node, None, self.budget)
        drop = np.bincount(of_block, block.drop, len(groups)) > 0
        summed = block.summed(of_block, groups.labels, drop)
        if node.operator == "avg":
            counts = np.zeros(summed.present.shape)
            np.add.at(counts, of_block, block.present)
            summed = summed.averaged(np.maximum(counts, 1))
        own = group_labels(vector.labels, node)
        held = np.zeros(summed.present.shape, np.bool_)
        np.logical_or.at(held, groups.number[: len(vector)], vector.present)
        if (held & summed.present).any():
            self.notes.warning(
                strip(node.expression).at,
                "encountered a mix of histograms and floats for aggregation",
            )
        if len(own):
            number = np.zeros(len(own), np.int64)
            number[own.number] = groups.number[: len(vector)]
            floats = floats.where(~summed.present[number])
        floats.distributions = summed.where(~held)
        return floats


def _negated(value: Vector | Scalar) -> Vector | Scalar:
    if not isinstance(value, Vector):
        return -value
    found = value.with_values(-value.values)
    if value.distributions:
        found.distributions = _renamed(value.distributions.scaled(np.full(value.steps, -1.0)))
    return found


def _renamed(block: Distributions) -> Distributions:
    return block.relabelled(block.labels, np.ones(len(block), np.bool_))


def _joined(parts: Sequence[SampledSeries], grid: Grid, width: int, steps: int) -> Windows:
    """Return the windows of all series in *parts*."""
    labels = [of_series for part in parts for of_series in part.labels]
    nothing = (np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0))
    columns = [windows.without_stale(part) for part in parts] or [nothing]
    sizes = np.concatenate([np.diff(offsets) for offsets, _, _ in columns])
    times = [column[int(offsets[0]) : int(offsets[-1])] for offsets, column, _ in columns]
    values = [column[int(offsets[0]) : int(offsets[-1])] for offsets, _, column in columns]
    return Windows(
        labels,
        np.zeros(len(labels), np.bool_),
        np.concatenate([[0], np.cumsum(sizes)]),
        times[0] if len(times) == 1 else np.concatenate(times),
        values[0] if len(values) == 1 else np.concatenate(values),
        grid,
        width,
        steps,
    )
