"""Functions on range vectors: all windows, block by block."""

import numpy as np

from redismetrics.columnar.arrays import Floats

from . import over_time, rates, trends
from .budget import Budget
from .extended import call_extended
from .function_names import KEEP_NAME
from .over_time import Result
from .vectors import Grid, Scalar, Vector, concatenate, stretched
from .windows import WindowBlock, Windows

_OF_WINDOWS = {**over_time.FUNCTIONS, **rates.FUNCTIONS, "deriv": trends.derivative}


def call_with_range(
    name: str, windows: Windows, numbers: list[Scalar], grid: Grid, budget: Budget
) -> Vector:
    """Apply the function *name* to each window; *numbers* are its other arguments."""
    count = grid.count if numbers else windows.grid.count
    budget.hold(len(windows) * max(count, windows.grid.count))
    values = np.zeros((len(windows), count))
    present = np.zeros((len(windows), count), np.bool_)
    if windows.extension:
        values, present = call_extended(name, windows, windows.extension, budget)
    for rows, block in windows.blocks(budget) if not windows.extension else ():
        if not numbers:
            values[rows], present[rows] = _OF_WINDOWS[name](block)
            continue
        at_steps = _at_each_step(block, count)
        values[rows], present[rows] = _with_numbers(name, at_steps, numbers, grid)
    drop = windows.drop if name in KEEP_NAME else np.ones(len(windows), np.bool_)
    parts = [Vector(windows.labels, values, present, drop)]
    for part in windows.computed:
        dropped = part if name in KEEP_NAME else part.with_values(part.values)
        if part.distributions:
            block_of = part.distributions
            flags = block_of.drop if name in KEEP_NAME else np.ones(len(block_of), np.bool_)
            dropped.distributions = block_of.relabelled(block_of.labels, flags)
        parts.append(dropped)
    return concatenate([stretched(part, grid.count) for part in parts], grid.count)


def _at_each_step(block: WindowBlock, count: int) -> WindowBlock:
    """Repeat the window at each step, if there is only one."""
    shape = (block.first.shape[0], count)
    return WindowBlock(
        block.times,
        block.values,
        block.starts,
        np.broadcast_to(block.first, shape),
        np.broadcast_to(block.last, shape),
        np.broadcast_to(block.ends, (count,)),
        block.width,
        block.budget,
    )


def _with_numbers(name: str, block: WindowBlock, numbers: list[Scalar], grid: Grid) -> Result:
    at: Floats = grid.times.astype(np.float64)
    match name:
        case "predict_linear":
            return trends.prediction(block, numbers[0], at)
        case "quantile_over_time":
            return over_time.quantile(block, numbers[0])
        case _:
            return trends.smoothed(block, numbers[0], numbers[1])
