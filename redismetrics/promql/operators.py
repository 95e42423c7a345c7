"""Operators between numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np

from redismetrics.columnar.arrays import Bools, Floats

SET_OPERATORS = frozenset(["and", "or", "unless"])


def _power(left: Floats, right: Floats) -> Floats:
    found: Floats = np.power(left, right)
    return found


ARITHMETIC: dict[str, Callable[[Floats, Floats], Floats]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    # The remainder as in C, with the sign of the left side.
    "%": np.fmod,
    "^": _power,
    "atan2": np.arctan2,
}
COMPARISONS: dict[str, Callable[[Any, Any], Bools]] = {
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}


def calculate(operator: str, left: Floats, right: Floats) -> tuple[Floats, Bools]:
    """Return the values of ``left operator right``, and where they are kept.

    A comparison keeps the value of the left side where it holds.
    """
    if operator in ARITHMETIC:
        values = ARITHMETIC[operator](left, right)
        return values, np.ones(values.shape, np.bool_)
    kept = COMPARISONS[operator](left, right)
    return np.broadcast_to(left, kept.shape), kept
