"""List the series that selectors match, their labels and what is known of metrics."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from redismetrics.exposition.number_format import format_bound
from redismetrics.model.definition import Definition
from redismetrics.promql.budget import Budget
from redismetrics.promql.matchers import Matcher
from redismetrics.promql.source import Labels
from redismetrics.queries import catalog
from redismetrics.queries.context import QueryContext
from redismetrics.store.driver import Operation

from .answers import NAME, matching_names
from .chosen import BUCKET_LABEL, matching_labels
from .page import PageNames, Shown, page_names
from .reads import MappingOptions

Matchers = tuple[Matcher, ...]

# Metrics whose series are read in one round trip: bounds the memory.
_METRICS_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Listed:
    """The series that one name of the page shows of a metric.

    Attributes:
        name: The name.
        series: Labels of each series, without `__name__` and `le`.
        bounds: The values of `le` of each series; empty unless the name is that of buckets.
    """

    name: str
    series: list[Labels]
    bounds: list[str]

    def __len__(self) -> int:
        return len(self.series) * (len(self.bounds) or 1)

    def labels(self) -> Iterator[Labels]:
        """Yield the labels of each series."""
        for each in self.series:
            if not self.bounds:
                yield {NAME: self.name, **each}
            for bound in self.bounds:
                yield {NAME: self.name, **each, BUCKET_LABEL: bound}


def list_series(
    context: QueryContext,
    selections: Sequence[Matchers],
    options: MappingOptions,
    budget: Budget,
) -> Operation[list[Listed]]:
    """Return the series that match one of *selections*, or without any, all; a series may repeat.

    Without a selection, histograms are listed by their own names, too.
    """
    definitions = yield from catalog.definitions(context)
    names = page_names(definitions)
    found: list[Listed] = []
    chosen = _chosen_names(names, selections)
    metrics = list(dict.fromkeys(of.metric for _, of, _ in chosen))
    for first in range(0, len(metrics), _METRICS_AT_ONCE):
        some = metrics[first : first + _METRICS_AT_ONCE]
        tags = yield from catalog.series_tags(context, some)
        for name, of, matchers in chosen:
            if of.metric in tags:
                definition = definitions[of.metric]
                labels = matching_labels(definition, tags[of.metric], matchers, options.external)
                found.append(Listed(name, labels, _bounds(definition, of, matchers)))
        budget.series(sum(map(len, found)))
        budget.check()
    return [each for each in found if len(each)]


def _chosen_names(
    names: PageNames, selections: Sequence[Matchers]
) -> list[tuple[str, Shown, Matchers]]:
    if not selections:
        return [(name, of, ()) for name, of in names.shown.items()]
    return [
        (name, of, matchers)
        for matchers in selections
        for name, of in matching_names(names, matchers)
    ]


def _bounds(definition: Definition, of: Shown, matchers: Matchers) -> list[str]:
    if of.form != "bucket":
        return []
    texts = [*map(format_bound, definition.buckets), "+Inf"]
    for each in matchers:
        if each.name == BUCKET_LABEL:
            chosen = each.select(texts)
            texts = [text for text in texts if text in chosen]
    return texts


def label_names(listed: Iterable[Listed]) -> list[str]:
    """Return the names of the labels of these series, sorted."""
    found: set[str] = set()
    for each in listed:
        found |= {NAME, *(BUCKET_LABEL for _ in each.bounds[:1])}
        for labels in each.series:
            found.update(labels)
    return sorted(found)


def label_values(listed: Iterable[Listed], name: str) -> list[str]:
    """Return the values that a label has in these series, sorted."""
    found: set[str] = set()
    for each in listed:
        if name == NAME:
            found.add(each.name)
        elif name == BUCKET_LABEL and each.bounds:
            found.update(each.bounds)
        else:
            found.update(labels[name] for labels in each.series if name in labels)
    return sorted(found)


def list_metadata(context: QueryContext) -> Operation[dict[str, dict[str, str]]]:
    """Return type, help and unit of each family of the page, by its name."""
    definitions = yield from catalog.definitions(context)
    families = page_names(definitions).families
    return {families[name]: _metadata(each) for name, each in definitions.items()}


def _metadata(definition: Definition) -> dict[str, str]:
    return {"type": definition.type, "help": definition.help, "unit": definition.unit}
