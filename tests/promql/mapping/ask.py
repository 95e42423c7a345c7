"""Ask the mapping for the answer to one selector."""

from typing import Any

from redismetrics import Metrics
from redismetrics.promql.budget import Budget
from redismetrics.promql.mapping.answers import answer_selectors
from redismetrics.promql.mapping.reads import MappingOptions
from redismetrics.promql.matchers import Matcher
from redismetrics.promql.source import Selected, Selector

MINUTE, HOUR = 60_000, 3_600_000


def ask(
    metrics: Metrics,
    name: str,
    *matchers: Matcher,
    options: MappingOptions | None = None,
    budget: Budget | None = None,
    **selector: Any,
) -> Selected:
    """Return the answer; *selector* are the fields of `Selector`, of an instant by default."""
    fields = {"step": 0, "count": 1, **selector}
    chosen = Selector((Matcher("__name__", "=", name), *matchers), **fields)
    internals = metrics.internals
    answer = answer_selectors(
        internals.query_context, [chosen], budget or Budget.of(), options or MappingOptions()
    )
    (found,) = internals.run(answer, flush=True)
    return found


def values(found: Selected) -> dict[tuple[tuple[str, str], ...], list[float | None]]:
    """Return the values of each computed series by its labels without the name; None: absent."""
    rows: dict[tuple[tuple[str, str], ...], list[float | None]] = {}
    for part in found.values:
        for labels, value, present in zip(part.labels, part.values, part.present, strict=True):
            key = tuple(sorted((name, text) for name, text in labels.items() if name[0] != "_"))
            assert key not in rows
            rows[key] = [
                each if there else None
                for each, there in zip(value.tolist(), present.tolist(), strict=True)
            ]
    return rows
