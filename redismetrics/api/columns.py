"""The parameters ``shape``, ``top`` and ``order``: results as columns, of the largest groups."""

from collections.abc import Mapping
from typing import Any

from redismetrics.errors import InvalidQuery, shown
from redismetrics.queries.arguments import check_aggregation
from redismetrics.queries.columns import Largest

from . import schemas
from .limits import Limits
from .parameters import Parameter, read_whole

_SHAPES = ("rows", "columns")


def _read_shape(text: str) -> str:
    if text not in _SHAPES:
        raise InvalidQuery(f"shape must be {' or '.join(_SHAPES)}, got {shown(text, 80)}")
    return text


def parameters(limits: Limits) -> tuple[Parameter, ...]:
    """Return the parameters that determine the shape of a result."""
    most = limits.max_rows
    return (
        Parameter(
            "shape",
            "rows, or columns: a list of values for each group.",
            {"type": "string", "enum": list(_SHAPES)},
            _read_shape,
            default="rows",
        ),
        Parameter(
            "top",
            "Maximum number of groups to return; needs shape=columns.",
            {"type": "integer", "minimum": 1, "maximum": most},
            read_whole("top", 1, most),
        ),
        Parameter(
            "order",
            "Sort groups by this aggregation over the window, the largest first; needs "
            "shape=columns (default: the first aggregation if top is given, otherwise by tags).",
            schemas.AGGREGATION,
            check_aggregation,
        ),
    )


def read_largest(values: Mapping[str, Any], aggregations: tuple[str, ...]) -> Largest | None:
    """Return which groups to return as columns; None for a result in rows.

    Raises:
        InvalidQuery: If rows are requested with a parameter for columns.
    """
    top, order = values["top"], values["order"]
    if values["shape"] == "columns":
        return Largest(aggregations[0] if order is None and top is not None else order, top)
    for name in ("top", "order"):
        if values[name] is not None:
            raise InvalidQuery(
                f"{name} must be given with shape=columns, got {shown(str(values[name]), 80)} "
                "without it"
            )
    return None


def _groups(value: schemas.Schema) -> dict[str, Any]:
    group = schemas.object_schema(
        tags={"type": "object", "additionalProperties": {"type": ["string", "null"]}},
        values={"type": "object", "additionalProperties": value},
    )
    return {
        "groups": {"type": "array", "items": group},
        "left_off": {"type": "integer", "minimum": 0},
    }


TIME_SERIES = schemas.result_schema(
    times=schemas.UNIX_TIMES,
    interval={"type": "integer", "minimum": 1},
    **_groups({"type": "array", "items": schemas.VALUE}),
)
ROLLUP = schemas.result_schema(**_groups(schemas.VALUE))
