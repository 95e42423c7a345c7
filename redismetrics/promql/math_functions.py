"""Functions on the value of each sample: mathematics and dates."""

from collections.abc import Callable

import numpy as np

from redismetrics.columnar.arrays import Floats, Ints

from .vectors import Scalar, Vector, map_rows

_DAY = 86_400
# Beyond these seconds numpy has no dates: about the years -290 and 290 million.
_FARTHEST = 9.0e15

_PLAIN: dict[str, Callable[[Floats], Floats]] = {
    "abs": np.abs,
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "deg": np.degrees,
    "exp": np.exp,
    "floor": np.floor,
    "ln": np.log,
    "log10": np.log10,
    "log2": np.log2,
    "rad": np.radians,
    "sgn": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "tan": np.tan,
    "tanh": np.tanh,
}


def calculate(name: str, vector: Vector, numbers: list[Scalar]) -> Vector:
    """Apply the function *name* to each value; *numbers* are its other arguments."""
    match name:
        case "clamp":
            return _clamped(vector, numbers[0], numbers[1])
        case "clamp_min":
            return map_rows(vector, lambda values: np.maximum(values, numbers[0]))
        case "clamp_max":
            return map_rows(vector, lambda values: np.minimum(values, numbers[0]))
        case "round":
            return _rounded(vector, numbers[0] if numbers else np.ones(vector.steps))
        case _:
            return map_rows(vector, _PLAIN[name])


def _clamped(vector: Vector, low: Scalar, high: Scalar) -> Vector:
    values = np.maximum(low, np.minimum(high, vector.values))
    return vector.with_values(values, vector.present & ~(high < low))


def _rounded(vector: Vector, nearest: Scalar) -> Vector:
    """Round to multiples of *nearest*, halves upwards; uses the inverse, which is more exact."""
    inverse = 1.0 / nearest
    return vector.with_values(np.floor(vector.values * inverse + 0.5) / inverse)


def date_part(name: str, vector: Vector) -> Vector:
    """Return a part of the UTC date of each value, which is a Unix time in seconds."""
    valid = np.abs(vector.values) < _FARTHEST
    seconds = np.trunc(np.where(valid, vector.values, 0.0)).astype(np.int64)
    found = _DATE_PARTS[name](seconds).astype(np.float64)
    return vector.with_values(np.where(valid, found, np.nan))


def _since(seconds: Ints, unit: str, of: str) -> Ints:
    """Return how many units have begun since the start of the larger unit *of*."""
    time = seconds.astype("datetime64[s]")
    start = time.astype(f"datetime64[{of}]")
    passed = time.astype(f"datetime64[{unit}]") - start.astype(f"datetime64[{unit}]")
    found: Ints = passed.astype(np.int64)
    return found


def _days_in_month(seconds: Ints) -> Ints:
    month = seconds.astype("datetime64[s]").astype("datetime64[M]")
    days = (month + 1).astype("datetime64[D]") - month.astype("datetime64[D]")
    found: Ints = days.astype(np.int64)
    return found


_DATE_PARTS: dict[str, Callable[[Ints], Ints]] = {
    "day_of_month": lambda seconds: _since(seconds, "D", "M") + 1,
    # 1970-01-01 was a Thursday; Sunday is 0.
    "day_of_week": lambda seconds: (seconds // _DAY + 4) % 7,
    "day_of_year": lambda seconds: _since(seconds, "D", "Y") + 1,
    "days_in_month": _days_in_month,
    "hour": lambda seconds: seconds // 3600 % 24,
    "minute": lambda seconds: seconds // 60 % 60,
    "month": lambda seconds: _since(seconds, "M", "Y") + 1,
    "year": lambda seconds: (
        seconds.astype("datetime64[s]").astype("datetime64[Y]").astype(np.int64) + 1970
    ),
}
