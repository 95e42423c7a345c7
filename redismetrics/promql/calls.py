"""Calls of functions."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from redismetrics.columnar.arrays import Floats

from . import label_functions, math_functions, nodes
from .function_names import (
    DATE_FUNCTIONS,
    HISTOGRAM_FUNCTIONS,
    MATH_FUNCTIONS,
    PARAMETER_FUNCTIONS,
    RANGE_FUNCTIONS,
    SCALAR_FUNCTIONS,
)
from .histogram_calls import HistogramCalls
from .info_function import InfoSeries
from .prepare import Instruction, strip
from .range_calls import call_with_range
from .vectors import Scalar, Vector, stretched, vector_of
from .windows import Windows

if TYPE_CHECKING:
    from .evaluate import Evaluation

_SORTS = frozenset(["sort", "sort_desc", "sort_by_label", "sort_by_label_desc"])


@dataclass(slots=True)
class Calls:
    """One call of a function.

    Attributes:
        run: The evaluation.
        instruction: The call's instruction.
        node: The call.
        arguments: Values of the arguments, without strings.
    """

    run: "Evaluation"
    instruction: Instruction
    node: nodes.FunctionCall
    arguments: list[Any]

    @property
    def steps(self) -> int:
        return self.instruction.grid.count

    def value(self) -> Vector | Scalar:
        """Return the value of the call."""
        name = self.node.function
        if name in RANGE_FUNCTIONS or name in PARAMETER_FUNCTIONS:
            return self._of_range(name)
        if name in SCALAR_FUNCTIONS:
            return self._scalar(name)
        if name in MATH_FUNCTIONS:
            return math_functions.calculate(name, self.arguments[0], self.arguments[1:])
        if name in DATE_FUNCTIONS:
            return self._date(name)
        if name in HISTOGRAM_FUNCTIONS:
            grid = self.instruction.grid
            return HistogramCalls(self.run, grid, self.node, self.arguments, self.texts()).value()
        if name in _SORTS:
            return self._sorted(name)
        return self._of_series(name)

    def texts(self) -> list[str]:
        """Return the string arguments."""
        found = [strip(argument) for argument in self.node.arguments]
        return [argument.value for argument in found if isinstance(argument, nodes.Text)]

    def _of_range(self, name: str) -> Vector:
        windows = next(value for value in self.arguments if isinstance(value, Windows))
        numbers = [value for value in self.arguments if not isinstance(value, Windows)]
        at = strip(self.node.arguments[0]).at
        if name == "quantile_over_time":
            self.run.notes.check_quantile(at, numbers[0])
        found = call_with_range(name, windows, numbers, self.instruction.grid, self.run.budget)
        if name in ("rate", "increase"):
            self._note_counters(found, at)
        if name != "absent_over_time":
            return found
        return label_functions.absent(found, self._absent_labels())

    def _note_counters(self, vector: Vector, at: int) -> None:
        """Add an info for each metric that does not look like a counter."""
        for row in np.flatnonzero(vector.present.any(axis=1)).tolist():
            labels = vector.labels[row]
            name = labels.get("__name__", "")
            if not name:
                continue
            kind = labels.get("__type__")
            if kind is not None:
                if kind not in ("counter", "histogram"):
                    self.run.notes.info(
                        at,
                        'metric might not be a counter, __type__ label is not set to "counter" or '
                        f'"histogram", got "{kind}": "{name}"',
                    )
            elif not name.endswith(("_total", "_sum", "_count", "_bucket")):
                self.run.notes.info(
                    at,
                    "metric might not be a counter, name does not end in "
                    f'_total/_sum/_count/_bucket: "{name}"',
                )

    def _absent_labels(self) -> dict[str, str]:
        argument = strip(self.node.arguments[0])
        if isinstance(argument, nodes.VectorSelector):
            return label_functions.absent_labels(argument.matchers)
        return {}

    def _scalar(self, name: str) -> Scalar:
        grid, prepared = self.instruction.grid, self.run.prepared
        match name:
            case "time":
                return grid.times / 1000
            case "max_of" | "min_of":
                operation = np.maximum if name == "max_of" else np.minimum
                found: Scalar = operation(*self.arguments)
                return found
            case "scalar":
                return _single_value(self.arguments[0])
        constants = {
            "pi": np.pi,
            "start": prepared.grid.start / 1000,
            "end": prepared.end / 1000,
            "step": prepared.grid.step / 1000,
            "range": (prepared.end - prepared.grid.start) / 1000,
        }
        return np.full(self.steps, constants[name])

    def _date(self, name: str) -> Vector:
        if self.arguments:
            return math_functions.date_part(name, self.arguments[0])
        seconds = np.trunc(self.instruction.grid.times / 1000)
        found = math_functions.date_part(name, vector_of(seconds))
        return replace(found, drop=np.zeros(1, np.bool_))

    def _sorted(self, name: str) -> Vector:
        vector: Vector = self.arguments[0]
        if self.run.prepared.kind == "range":
            self.run.notes.warning(
                self.node.at,
                "sort is ineffective for range queries since results are always ordered by labels",
            )
            return vector if "label" in name else vector.floats()
        descending = name.endswith("_desc")
        if "label" in name:
            names, budget = self.texts(), self.run.budget
            return label_functions.sort_by_labels(vector, names, budget, descending=descending)
        return label_functions.sort_by_value(vector, descending=descending)

    def _of_series(self, name: str) -> Vector:
        match name:
            case "absent":
                return label_functions.absent(self.arguments[0], self._absent_labels())
            case "info":
                return self._info()
            case "label_join":
                target, separator, *sources = self.texts()
                return label_functions.join_labels(self.arguments[0], target, separator, sources)
            case "label_replace":
                return label_functions.replace_label(self.arguments[0], *self.texts())
            case "start_timestamp":
                # Unknown, as for all series without start timestamps.
                vector: Vector = self.arguments[0]
                return vector.with_values(np.zeros(vector.values.shape))
            case "timestamp":
                return self._timestamp()
            case _:
                return vector_of(self.arguments[0])

    def _timestamp(self) -> Vector:
        if not self.arguments:
            vector, seen = self.run.at_steps(self.instruction)
            return stretched(vector.with_values(seen[: len(vector)] / 1000), self.steps)
        found: Vector = self.arguments[0]
        times = np.broadcast_to(self.instruction.grid.times / 1000, found.values.shape)
        return found.with_values(times)

    def _info(self) -> Vector:
        base: Vector = self.arguments[0]
        vector, seen = self.run.at_steps(self.instruction)
        vector = stretched(vector, self.steps)
        times: Floats = np.broadcast_to(seen, vector.values.shape)
        given = strip(self.node.arguments[1]) if len(self.node.arguments) > 1 else None
        matchers = given.matchers if isinstance(given, nodes.VectorSelector) else ()
        return InfoSeries(vector, times, matchers).enrich(base)


def _single_value(vector: Vector) -> Scalar:
    """Return the value where exactly one series is present, otherwise NaN."""
    if not len(vector):
        return np.full(vector.steps, np.nan)
    total = np.where(vector.present, vector.values, 0.0).sum(axis=0)
    if len(vector) == 1:
        total = vector.values[0]
    found: Scalar = np.where(vector.present.sum(axis=0) == 1, total, np.nan)
    return found
