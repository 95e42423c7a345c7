"""The result of an expression, and the `data` object of Prometheus' HTTP API."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .histogram_json import histogram_json
from .number_format import format_value, format_values
from .source import Labels
from .vectors import Grid, Scalar, Vector, key_of

if TYPE_CHECKING:
    from .windows import Windows


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The result of an expression.

    Attributes:
        kind: Whether this is an instant or a range query.
        grid: The times of the result.
        value: A scalar at each step, a string, an instant vector at each step, or a range vector.
        warnings: Reasons why the result may be wrong.
        infos: Further notes for the user.
    """

    kind: Literal["instant", "range"]
    grid: Grid
    value: "Scalar | str | Vector | Windows"
    warnings: Sequence[str] = ()
    infos: Sequence[str] = ()

    @property
    def result_type(self) -> str:
        """Return ``scalar``, ``string``, ``vector`` or ``matrix``."""
        if self.kind == "range":
            return "matrix"
        if isinstance(self.value, str):
            return "string"
        if isinstance(self.value, np.ndarray):
            return "scalar"
        return "vector" if isinstance(self.value, Vector) else "matrix"

    def data(self, limit: int | None = None) -> dict[str, Any]:
        """Return the `data` object of the HTTP API, with at most *limit* series."""
        return {"resultType": self.result_type, "result": self._result(limit)}

    def _result(self, limit: int | None) -> Any:
        value = self.value
        if isinstance(value, Vector):
            if self.kind == "range":
                return _matrix(value, self.grid, limit)
            return _vector(value, self.grid.start, limit)
        if isinstance(value, str):
            return [_seconds(self.grid.start), value]
        if isinstance(value, np.ndarray):
            if self.kind == "instant":
                return [_seconds(self.grid.start), format_value(float(value[0]))]
            times = [_seconds(time) for time in self.grid.times.tolist()]
            return [{"metric": {}, "values": _pairs(times, value.tolist())}]
        return _ranges(value, limit)


def _seconds(time: int) -> float | int:
    return time // 1000 if time % 1000 == 0 else time / 1000


def _pairs(times: Sequence[float], values: Sequence[float]) -> list[list[Any]]:
    return [[time, text] for time, text in zip(times, format_values(values), strict=True)]


def _vector(vector: Vector, time: int, limit: int | None) -> list[dict[str, Any]]:
    at = _seconds(time)
    rows: list[dict[str, Any]] = []
    for row in np.flatnonzero(vector.present[:, 0])[:limit].tolist():
        value = format_value(float(vector.values[row, 0]))
        rows.append({"metric": vector.labels[row], "value": [at, value]})
    block = vector.distributions
    if block:
        for row in np.flatnonzero(block.present[:, 0])[:limit].tolist():
            found = histogram_json(block, row, [0])
            rows.append({"metric": block.labels[row], "histogram": [at, found[0]]})
    return rows[:limit]


def _matrix(vector: Vector, grid: Grid, limit: int | None) -> list[dict[str, Any]]:
    """Return the series of a range query, sorted by labels."""
    times = np.array([_seconds(time) for time in grid.times.tolist()], object)
    rows: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}

    def entry(labels: Labels) -> dict[str, Any]:
        return rows.setdefault(key_of(labels), {"metric": labels})

    for row in np.flatnonzero(vector.present.any(axis=1)).tolist():
        held = vector.present[row]
        entry(vector.labels[row])["values"] = _pairs(
            times[held].tolist(), vector.values[row, held].tolist()
        )
    block = vector.distributions
    if block:
        for row in np.flatnonzero(block.present.any(axis=1)).tolist():
            steps = np.flatnonzero(block.present[row]).tolist()
            found = histogram_json(block, row, steps)
            pairs = [[times[step], shown] for step, shown in zip(steps, found, strict=True)]
            entry(block.labels[row])["histograms"] = pairs
    return [rows[key] for key in sorted(rows)][:limit]


def _ranges(windows: "Windows", limit: int | None) -> list[dict[str, Any]]:
    """Return the samples of a range vector, sorted by labels."""
    first, last = windows.bounds()
    rows: list[dict[str, Any]] = []
    for row, labels in enumerate(windows.labels):
        part = slice(int(first[row]), int(last[row]))
        if part.stop > part.start:
            times = [_seconds(time) for time in windows.times[part].tolist()]
            values = _pairs(times, windows.values[part].tolist())
            rows.append({"metric": labels, "values": values})
    rows.sort(key=lambda found: key_of(found["metric"]))
    return rows[:limit]
