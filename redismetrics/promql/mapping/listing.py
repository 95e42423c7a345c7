"""List the series that selectors match, their labels, and the metadata of metrics."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from redismetrics.exposition.number_format import format_bound
from redismetrics.model.definition import Definition
from redismetrics.model.time import OPEN_UNTIL, SECOND
from redismetrics.promql.budget import Budget
from redismetrics.promql.matchers import Matcher
from redismetrics.promql.source import LOOKBACK_MS, Labels
from redismetrics.queries import catalog
from redismetrics.queries.context import QueryContext
from redismetrics.store import stats
from redismetrics.store.driver import Operation

from . import marks
from .answers import NAME, matching_names
from .chosen import BUCKET_LABEL, matching_labels
from .page import PageNames, Shown, page_names
from .reads import MappingOptions

Matchers = tuple[Matcher, ...]

# Metrics whose series are read per round trip, which bounds the memory.
_METRICS_AT_ONCE = 200


class Span(NamedTuple):
    """The time range of a list of series, in ms, both inclusive; None means open."""

    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """The series of a metric under one name on the page.

    Attributes:
        name: The name.
        series: Labels of each series, without `__name__` and `le`.
        bounds: The values of `le` of each series; empty unless the name is for buckets.
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
    span: Span,
) -> Operation[list[Listed]]:
    """Return the series that match any of *selections*, or all series; a series may be repeated.

    Without a selection, histograms are also listed under their own names. Metrics that had no
    current value when *span* starts are left out, and so are marks outside of it. All series of
    other metrics are listed, because there are no times per series.
    """
    definitions = yield from catalog.definitions(context)
    names = page_names(definitions)
    found: list[Listed] = []
    chosen = _chosen_names(names, selections)
    metrics = list(dict.fromkeys(of.metric for _, of, _ in chosen))
    if span.start is not None and metrics:
        metrics = yield from _recorded_since(context, definitions, metrics, span.start, options)
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
    if marks.NAME not in names.shown:
        found.append((yield from _listed_marks(context, selections, options.external, span)))
        budget.series(sum(map(len, found)))
    return [each for each in found if len(each)]


def _recorded_since(
    context: QueryContext,
    definitions: Mapping[str, Definition],
    metrics: list[str],
    start_ms: int,
    options: MappingOptions,
) -> Operation[list[str]]:
    """Return the metrics that may have a value at *start_ms* or later."""
    config = yield from context.namespace.config()
    found = yield from stats.readable_activity(context.namespace.name, config, metrics)
    return [
        name
        for name, activity in found.items()
        if activity.last_ms + _valid_ms(definitions[name], options) >= start_ms
    ]


def _valid_ms(definition: Definition, options: MappingOptions) -> int:
    """Return how long a value of a metric is valid at most, in ms; totals until they are idle."""
    lookback = definition.options.lookback
    return max(options.idle_ms, LOOKBACK_MS, 0 if lookback is None else round(lookback * SECOND))


def _listed_marks(
    context: QueryContext,
    selections: Sequence[Matchers],
    external: Mapping[str, str],
    span: Span,
) -> Operation[Listed]:
    of_marks = [each for each in selections if marks.finds_marks(each)]
    if selections and not of_marks:
        return Listed(marks.NAME, [], [])
    since_ms = 0 if span.start is None else span.start
    until_ms = OPEN_UNTIL if span.end is None else span.end + 1
    found = yield from marks.mark_labels(context, of_marks or [()], since_ms, until_ms, external)
    # The name is added to those of each list.
    labels = [{key: each[key] for key in each if key != NAME} for each in found]
    return Listed(marks.NAME, labels, [])


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
    names = page_names(definitions)
    found = {names.families[name]: _metadata(each) for name, each in definitions.items()}
    if marks.NAME not in names.shown and (yield from marks.has_marks(context)):
        found[marks.NAME] = {"type": "gauge", "help": marks.HELP, "unit": ""}
    return found


def _metadata(definition: Definition) -> dict[str, str]:
    return {"type": definition.type, "help": definition.help, "unit": definition.unit}
