"""Results of expressions as JSON text.

A range query of 1,000 series has millions of numbers, so the values of each series are formatted in
one go, without a list per number.
"""

from collections.abc import Iterator

import numpy as np

from redismetrics.promql.answer import Answer
from redismetrics.promql.budget import Budget
from redismetrics.promql.number_format import format_time, format_values
from redismetrics.promql.vectors import Vector, key_of

from .envelope import to_json

_TRUNCATED = "results truncated due to limit"


def render(answer: Answer, limit: int | None, budget: Budget) -> tuple[str, list[str]]:
    """Return the `data` of a result as JSON, and warnings; at most *limit* series."""
    value = answer.value
    if answer.kind == "range" and isinstance(value, Vector) and not value.distributions:
        parts = list(_series(answer, value, budget))
        kept = parts[:limit]
        text = f'{{"resultType":"matrix","result":[{",".join(kept)}]}}'
        return text, [_TRUNCATED] if len(kept) < len(parts) else []
    data = answer.data()
    result = data["result"]
    is_truncated = limit is not None and answer.result_type in ("vector", "matrix")
    if is_truncated and len(result) > limit:  # type: ignore[operator]
        return to_json({**data, "result": result[:limit]}), [_TRUNCATED]
    return to_json(data), []


def _series(answer: Answer, vector: Vector, budget: Budget) -> Iterator[str]:
    """Yield each series of a range query, sorted by labels."""
    times = np.array(list(map(format_time, answer.grid.times.tolist())), object)
    rows = np.flatnonzero(vector.present.any(axis=1)).tolist()
    for row in sorted(rows, key=lambda each: key_of(vector.labels[each])):
        held = vector.present[row]
        values = format_values(vector.values[row, held].tolist())
        pairs = map('[%s,"%s"]'.__mod__, zip(times[held].tolist(), values, strict=True))
        yield f'{{"metric":{to_json(vector.labels[row])},"values":[{",".join(pairs)}]}}'
        budget.check()
