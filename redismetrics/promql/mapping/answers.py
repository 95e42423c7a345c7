"""Answer the selectors of an expression from the store."""

from collections.abc import Iterable, Iterator, Sequence

from redismetrics.model.definition import Definition
from redismetrics.promql.budget import Budget
from redismetrics.promql.matchers import Matcher
from redismetrics.promql.source import (
    ComputedSeries,
    DistributionSeries,
    SampledSeries,
    Selected,
    Selector,
)
from redismetrics.queries import catalog
from redismetrics.queries.context import QueryContext
from redismetrics.queries.slots import SeriesSlots, read_many_slots
from redismetrics.store.driver import Operation, gather

from .buckets import histogram_counters
from .chosen import named
from .counters import CounterMath, current_totals
from .distributions import distributions
from .label_sets import label_set_samples
from .marks import mark_samples, names_marks
from .page import PageNames, Shown, page_names
from .reads import CHANGES, MappingOptions, lookback_of, slots_query
from .samples import gauge_samples

NAME = "__name__"
# Metrics read per round trip, which bounds the memory.
_METRICS_AT_ONCE = 50
# Functions of a window of distributions that only need to know whether, or how often, there was
# one.
_OF_PRESENCE = ("count_over_time", "present_over_time", "absent_over_time")
# Functions of a window of samples that look for resets of counters.
_OF_RESETS = ("increase", "rate", "irate", "resets")

Part = SampledSeries | ComputedSeries | DistributionSeries


def answer_selectors(
    context: QueryContext, selectors: Sequence[Selector], budget: Budget, options: MappingOptions
) -> Operation[list[Selected]]:
    """Return the answer to each of *selectors*."""
    if not selectors:
        return []
    definitions = yield from catalog.definitions(context)
    names = page_names(definitions)
    return (
        yield from gather(
            [
                _answer(context, definitions, names, selector, budget, options)
                for selector in selectors
            ]
        )
    )


def _answer(
    context: QueryContext,
    definitions: dict[str, Definition],
    names: PageNames,
    selector: Selector,
    budget: Budget,
    options: MappingOptions,
) -> Operation[Selected]:
    shown = matching_names(names, selector.matchers)
    parts: list[Part] = []
    # A metric with this name takes precedence.
    if not shown and names_marks(selector.matchers):
        marks = yield from mark_samples(context, selector, budget, options.external)
        return Selected([marks])
    infos = [] if shown else _did_you_mean(names, selector.matchers)
    for first in range(0, len(shown), _METRICS_AT_ONCE):
        some = shown[first : first + _METRICS_AT_ONCE]
        queries = [
            slots_query(of.metric, definitions[of.metric], of.form, selector, options)
            for _, of in some
        ]
        found = yield from read_many_slots(context, queries)
        for (name, of), slots in zip(some, found, strict=True):
            if slots is None or not slots.series:
                continue
            budget.series(sum(len(part.labels) for part in parts) + len(slots.series))
            budget.read(sum(len(table) for table, _ in slots.tables) + len(slots.samples))
            parts += _parts(selector, slots, name, of, budget, options)
            budget.hold(selector.count * sum(len(part.labels) for part in parts))
            if of.form == "gauge" and selector.function in _OF_RESETS and slots.tables:
                infos.append(
                    f"resets of `{name}` are missed within a minute, hour or day of which only "
                    "the last sample is read"
                )
    return Selected(
        [part for part in parts if isinstance(part, SampledSeries)],
        [part for part in parts if isinstance(part, ComputedSeries)],
        [part for part in parts if isinstance(part, DistributionSeries)],
        infos=infos,
    )


def matching_names(names: PageNames, matchers: Iterable[Matcher]) -> list[tuple[str, Shown]]:
    """Return the names on the page that match, and their meaning.

    A histogram's own name must be given exactly. All other selectors see its `_bucket`, `_sum` and
    `_count`, as they do when Prometheus scrapes the page, so no observation is found twice.
    """
    of_name = [each for each in matchers if each.name == NAME]
    for each in of_name:
        if each.op == "=":
            found = names.shown.get(each.value)
            chosen = [] if found is None else [(each.value, found)]
            break
    else:
        chosen = [each for each in names.shown.items() if each[1].form != "distribution"]
    for each in of_name:
        matches = each.predicate()
        chosen = [(name, of) for name, of in chosen if matches(name)]
    return chosen


def _did_you_mean(names: PageNames, matchers: Iterable[Matcher]) -> list[str]:
    """Return a hint if a selector names a counter without its suffix."""
    for each in matchers:
        if each.name == NAME and each.op == "=":
            similar = [
                name
                for name, of in names.shown.items()
                if of.form == "counter" and each.value in (of.metric, name.removesuffix("_total"))
            ]
            if similar:
                return [f"no metric is named `{each.value}`; did you mean `{similar[0]}`?"]
    return []


def _parts(
    selector: Selector,
    slots: SeriesSlots,
    name: str,
    of: Shown,
    budget: Budget,
    options: MappingOptions,
) -> Iterator[Part]:
    """Yield the series of a metric under one name on the page."""
    if of.form == "gauge":
        yield gauge_samples(slots, name, lookback_of(slots.definition, selector, options))
        return
    if of.form == "labels":
        lookback_ms = lookback_of(slots.definition, selector, options)
        yield label_set_samples(
            slots, of.metric, name, selector.matchers, options.external, lookback_ms
        )
        return
    if of.form == "distribution" and (not selector.range or selector.function in CHANGES):
        yield distributions(selector, slots, name, options, budget)
        return
    math = CounterMath.of(selector, slots, options)
    lines = len(slots.definition.buckets) + 1 if of.form == "bucket" else 1
    budget.hold(lines * len(slots.series) * (2 * selector.count + 1))
    if of.form == "counter":
        current = current_totals(slots, slice(1, 3))
        totals = [rows.summaries.total for rows in math.rows]
        yield math.values(named(slots.series, name), totals, current)
    elif of.form == "distribution":
        if selector.function in _OF_PRESENCE:
            yield from histogram_counters(math, name, "count", ())
    else:
        yield from histogram_counters(math, name, of.form, selector.matchers)
