"""Range vectors with the modifiers `anchored` and `smoothed`, which use samples beyond the window.

An *anchored* window also includes the last sample before it, within the lookback. A *smoothed* one
has interpolated values at its edges, from the nearest samples outside, within the lookback on both
sides (Prometheus' proposal 52).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from redismetrics.columnar.arrays import Bools, Floats, Ints
from redismetrics.errors import EvaluationFailed, InvalidExpression

from .budget import Budget
from .over_time import Result, taken
from .rates import lost_by_resets
from .vectors import Grid, Vector
from .windows import WindowBlock, Windows, counts_until

ALLOWED = {
    "anchored": ("changes", "delta", "increase", "rate", "resets"),
    "smoothed": ("delta", "increase", "rate"),
}


def check_function(modifier: str, function: str) -> None:
    """Raise `EvaluationFailed` if *function* does not accept a range vector with *modifier*."""
    if not function:
        raise InvalidExpression(
            f"parse error: a range with {modifier} must be in a call of one of "
            f"{', '.join(ALLOWED[modifier])}"
        )
    if function not in ALLOWED[modifier]:
        raise EvaluationFailed(
            f"{modifier} modifier can only be used with: {', '.join(ALLOWED[modifier])} - not with "
            f"{function}"
        )


@dataclass(frozen=True, slots=True)
class Extension:
    """How far a window extends beyond its edges.

    Attributes:
        modifier: ``anchored`` or ``smoothed``.
        width: Width of the window itself in ms.
        before: How far samples before it count, in ms.
        after: How far samples after it count, in ms.
    """

    modifier: str
    width: int
    before: int
    after: int

    def whole(self, start: int) -> tuple[int, int]:
        """Return the end of the first extended window, and the width of all of them."""
        return start + self.after, self.before + self.width + self.after


@dataclass(slots=True, eq=False)
class _Edges:
    """Windows with the samples beyond them; indexes as in `WindowBlock`.

    Attributes:
        block: The extended windows.
        begin: Start of each window itself, Unix ms, shape (windows,).
        end: End of each window itself.
        first: The sample at the left edge or after it.
        last: The sample at the right edge or before it; after it if smoothed.
        present: True where the window has a result.
    """

    block: WindowBlock
    begin: Ints
    end: Ints
    first: Ints
    last: Ints
    present: Bools


def _edges(windows: Windows, extension: Extension, rows: slice, block: WindowBlock) -> _Edges:
    end = windows.grid.start - extension.after
    grid = Grid(end, windows.grid.step, windows.grid.count)
    offsets = windows.offsets[rows.start : rows.stop + 1]
    base = (offsets[:-1] - offsets[0])[:, None]

    def until(moved: int) -> Ints:
        at = Grid(grid.start + moved, grid.step, grid.count)
        counts: Ints = counts_until(offsets, windows.times, at) + base
        return counts

    begin = grid.times - extension.width
    final = block.last - 1
    first = np.maximum(np.minimum(until(-extension.width) - 1, final), block.first)
    last = final
    if extension.modifier == "smoothed":
        last = np.minimum(until(-1), final)
    present = (block.sizes > 0) & (taken(block.times, last) > begin)
    present &= taken(block.times, first) <= grid.times
    return _Edges(block, begin, grid.times, first, last, present)


def call_extended(
    name: str, windows: Windows, extension: Extension, budget: Budget
) -> tuple[Floats, Bools]:
    """Return the function *name* of each extended window."""
    shape = (len(windows), windows.grid.count)
    values, present = np.zeros(shape), np.zeros(shape, np.bool_)
    for rows, block in windows.blocks(budget):
        edges = _edges(windows, extension, rows, block)
        values[rows], present[rows] = _FUNCTIONS[name](edges, extension)
    return values, present


def _difference(edges: _Edges, extension: Extension, *, is_counter: bool) -> Result:
    """Return right minus left edge, and the amount lost by counter resets between them."""
    block, first, last = edges.block, edges.first, edges.last
    left, right = taken(block.values, first), taken(block.values, last)
    if extension.modifier == "smoothed":
        is_before = taken(block.times, first) < edges.begin
        line = _line(block, first, first + 1, edges.begin, is_counter=is_counter)
        left = np.where(is_before, line, left)
        is_after = (taken(block.times, last) > edges.end) & (last > block.first)
        line = _line(block, last - 1, last, edges.end, is_counter=is_counter)
        right = np.where(is_after, line, right)
    change = right - left
    if is_counter:
        inner = first + (taken(block.times, first) <= edges.begin)
        until = last - (taken(block.times, last) >= edges.end)
        has_inner = until >= inner
        between = WindowBlock(
            block.times,
            block.values,
            block.starts,
            inner,
            until + 1,
            block.ends,
            block.width,
            block.budget,
        )
        before = np.where(has_inner, taken(block.values, until), left)
        fell = has_inner & (taken(block.values, inner) < left)
        change += np.where(has_inner, lost_by_resets(between), 0.0)
        change += np.where(fell, left, 0.0) + np.where(right < before, before, 0.0)
    return change, edges.present


def _line(block: WindowBlock, before: Ints, after: Ints, at: Ints, *, is_counter: bool) -> Floats:
    """Interpolate between two samples; after a reset, start from 0."""
    x0, x1 = taken(block.times, before), taken(block.times, after)
    y0, y1 = taken(block.values, before), taken(block.values, after)
    if is_counter:
        y0 = np.where(y1 < y0, 0.0, y0)
    return y0 + (y1 - y0) * (at - x0) / (x1 - x0)


def _increase(edges: _Edges, extension: Extension) -> Result:
    return _difference(edges, extension, is_counter=True)


def _rate(edges: _Edges, extension: Extension) -> Result:
    change, present = _difference(edges, extension, is_counter=True)
    return change / (extension.width / 1000), present


def _delta(edges: _Edges, extension: Extension) -> Result:
    return _difference(edges, extension, is_counter=False)


def _events(edges: _Edges, happened: Bools) -> Result:
    counted = np.concatenate([[0], np.cumsum(happened)])
    return taken(counted, edges.last) - taken(counted, edges.first), edges.present


def _changes(edges: _Edges, _: Extension) -> Result:
    before, after = edges.block.values[:-1], edges.block.values[1:]
    return _events(edges, (before != after) & ~(np.isnan(before) & np.isnan(after)))


def _resets(edges: _Edges, _: Extension) -> Result:
    return _events(edges, edges.block.values[1:] < edges.block.values[:-1])


_FUNCTIONS: dict[str, Callable[[_Edges, Extension], Result]] = {
    "changes": _changes,
    "delta": _delta,
    "increase": _increase,
    "rate": _rate,
    "resets": _resets,
}


def smoothed_values(windows: Windows, extension: Extension, budget: Budget) -> Vector:
    """Return the values of an instant selector, interpolated between its samples.

    After the last sample, its value is carried forward; before the first, there is none.
    """
    shape = (len(windows), windows.grid.count)
    values, present = np.zeros(shape), np.zeros(shape, np.bool_)
    for rows, block in windows.blocks(budget):
        offsets = windows.offsets[rows.start : rows.stop + 1]
        base = (offsets[:-1] - offsets[0])[:, None]
        at = Grid(windows.grid.start - extension.after, windows.grid.step, windows.grid.count)
        before = counts_until(offsets, windows.times, at) + base - 1
        line = _line(block, before, before + 1, at.times, is_counter=False)
        is_last = before + 1 >= block.last
        is_exact = taken(block.times, before) == at.times
        values[rows] = np.where(is_last | is_exact, taken(block.values, before), line)
        present[rows] = before >= block.first
    return Vector(windows.labels, values, present, windows.drop)
