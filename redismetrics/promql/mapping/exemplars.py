"""The exemplars of the series that selectors match."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from redismetrics.exposition.number_format import format_bound
from redismetrics.model.definition import Definition
from redismetrics.model.exemplar import EXEMPLAR_TYPES, Exemplar
from redismetrics.model.time import to_ms
from redismetrics.promql.budget import Budget
from redismetrics.promql.matchers import Matcher
from redismetrics.promql.source import Labels
from redismetrics.queries import catalog
from redismetrics.queries.context import QueryContext
from redismetrics.queries.exemplars import exemplars
from redismetrics.store.driver import Operation

from .answers import NAME, matching_names
from .chosen import BUCKET_LABEL, matching_labels
from .page import Shown, page_names
from .reads import MappingOptions

Matchers = tuple[Matcher, ...]
# The forms whose samples have exemplars in OpenMetrics, and histograms under their own name.
_FORMS = ("counter", "bucket", "distribution")


def matching_exemplars(
    context: QueryContext,
    selections: Iterable[Matchers],
    start: int | None,
    end: int | None,
    options: MappingOptions,
    budget: Budget,
) -> Operation[list[dict[str, Any]]]:
    """Return the exemplars from *start* to *end*, in ms, of the series that *selections* match.

    Each row has the labels of a series as `seriesLabels`, and its `exemplars`, ordered by time.
    """
    definitions = yield from catalog.definitions(context)
    names = page_names(definitions)
    # By labels of the series, then by time and value: several selections may match.
    of_series: dict[tuple[tuple[str, str], ...], dict[tuple[int, float], Exemplar]] = {}
    read: dict[str, list[Exemplar]] = {}
    for matchers in selections:
        for name, of in matching_names(names, matchers):
            definition = definitions[of.metric]
            if of.form not in _FORMS or definition.type not in EXEMPLAR_TYPES:
                continue
            if of.metric not in read:
                budget.check()
                read[of.metric] = yield from exemplars(context, of.metric, None)
            inside = (each for each in read[of.metric] if _is_inside(each, start, end))
            for labels, each in _matching(inside, name, of, definition, matchers, options.external):
                key = tuple(sorted(labels.items()))
                of_series.setdefault(key, {})[to_ms(each.timestamp), each.value] = each
    budget.series(len(of_series))
    return [
        {
            "seriesLabels": dict(key),
            "exemplars": [found[order] for order in sorted(found)],
        }
        for key, found in sorted(of_series.items())
    ]


def _is_inside(exemplar: Exemplar, start: int | None, end: int | None) -> bool:
    at = to_ms(exemplar.timestamp)
    return (start is None or start <= at) and (end is None or at <= end)


def _matching(
    found: Iterable[Exemplar],
    name: str,
    of: Shown,
    definition: Definition,
    matchers: Matchers,
    external: Mapping[str, str],
) -> Iterator[tuple[Labels, Exemplar]]:
    """Yield each matching exemplar with the labels of its series."""
    of_bucket = [each.predicate() for each in matchers if each.name == BUCKET_LABEL]
    for each in found:
        for labels in matching_labels(definition, {0: each.tags}, matchers, external):
            series = {NAME: name, **labels}
            if of.form == "bucket" and each.le is not None:
                bound = "+Inf" if each.le == float("inf") else format_bound(each.le)
                if not all(matches(bound) for matches in of_bucket):
                    continue
                series[BUCKET_LABEL] = bound
            yield series, each
