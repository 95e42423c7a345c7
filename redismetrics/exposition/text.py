"""
The Prometheus page: families in, text out, without I/O.

Two formats: Prometheus text 0.0.4, and OpenMetrics 1.0.0
(github.com/OpenObservability/OpenMetrics, called "the spec" below). A series has the same name and
labels in both, so that a reader can change formats.

    0.0.4                                     OpenMetrics
    # HELP jobs_total Jobs done               # TYPE jobs counter
    # TYPE jobs_total counter                 # HELP jobs Jobs done
    jobs_total{queue="mail"} 3                jobs_total{queue="mail"} 3
                                              # EOF

A reader rejects the whole page for one invalid line, so no name and no tag value may lead to one.
Left out: `_created` (one more series each, which Prometheus stores as such) and timestamps (the
values are current). Exemplars are in OpenMetrics only: text 0.0.4 has none.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, chain
from typing import Any

from redismetrics.model.validation import MetricType

from .exemplars import with_exemplars
from .families import Family, SeriesState
from .names import escape_label_value, family_names, label_names
from .number_format import format_bound, format_values
from .series_table import SeriesGroup, SeriesTable

# What a header in text 0.0.4 appends to the name of a family.
SUFFIXES_IN_TEXT: dict[MetricType, str] = {"counter": "_total", "info": "_info"}
# Types that are called something else in text 0.0.4.
_TYPES_IN_TEXT: dict[MetricType, MetricType] = {"info": "gauge", "stateset": "gauge"}
_WORD_SEPARATORS = re.compile(r"[_./:-]+")


def content_type(openmetrics: bool = False) -> str:
    """Return the Content-Type of a page, as Prometheus expects it."""
    if openmetrics:
        return "application/openmetrics-text; version=1.0.0; charset=utf-8"
    return "text/plain; version=0.0.4; charset=utf-8"


def render(families: Sequence[Family], *, openmetrics: bool = False) -> str:
    """Return the page of *families*, which must be in the order in which they were declared.

    Where names collide after cleaning, the family declared first keeps its name. A family without
    series prints nothing but keeps its name, so that no other family is renamed when it becomes
    idle. Without any series the page is empty, or only the EOF line.
    """
    return "".join(render_parts(families, openmetrics=openmetrics))


def render_parts(families: Sequence[Family], *, openmetrics: bool = False) -> Iterator[str]:
    """Yield the page that `render` returns in parts of at most a thousand series."""
    printed = []
    for family, base in zip(families, family_names(families), strict=True):
        if family.series:
            suffix = "" if openmetrics else SUFFIXES_IN_TEXT.get(family.definition.type, "")
            printed.append((base + suffix, base, family))
    printed.sort(key=lambda each: each[0])
    for name, base, family in printed:
        yield _header(name, family, openmetrics)
        yield from _series_lines(base, family, openmetrics)
    if openmetrics:
        yield "# EOF\n"


def _header(name: str, family: Family, openmetrics: bool) -> str:
    definition = family.definition
    text = help_text(family).replace("\\", "\\\\").replace("\n", "\\n")
    if not openmetrics:
        kind = _TYPES_IN_TEXT.get(definition.type, definition.type)
        return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
    has_unit = definition.unit and name.endswith(f"_{definition.unit}")
    unit = f"# UNIT {name} {definition.unit}\n" if has_unit else ""
    text = text.replace('"', '\\"')
    return f"# TYPE {name} {definition.type}\n{unit}# HELP {name} {text}\n"


def help_text(family: Family) -> str:
    """Return the help text of a family; without one, its name in words."""
    # Readers differ in whether they keep spaces at the ends, and one rejects a help text of spaces.
    words = family.definition.help.strip()
    if words:
        return words
    words = _WORD_SEPARATORS.sub(" ", family.name).strip()
    return words[:1].upper() + words[1:] if words else family.name


def _series_lines(base: str, family: Family, openmetrics: bool) -> Iterator[str]:
    """Yield the lines of all series in parts.

    Series with the same tag keys have the same template, which is filled from columns.
    """
    series = merge_equal_labels(family)
    names = label_names(family, series, base)
    for group in series.groups():
        labels = _label_texts(group, names)
        rows = series.rows_of(group)
        braces = _braces(group)
        match family.definition.type:
            case "counter":
                lines = _fill([f"{base}_total{braces} %s\n"], labels, [format_values(rows.values)])
                if openmetrics and rows.exemplars:
                    lines = with_exemplars(lines, rows.texts, rows.exemplars, 0)
            case "gauge" | "stateset":
                lines = _fill([f"{base}{braces} %s\n"], labels, [format_values(rows.values)])
            case "info":
                lines = _fill([f"{base}_info{braces} %s\n"], labels, [format_values(rows.values)])
            case "histogram":
                bounds = family.definition.buckets
                lines = _histogram_lines(base, group, labels, rows, bounds, openmetrics)
            case "summary":
                lines = _sum_lines(base, group, labels, rows)
                if openmetrics:
                    # The spec: a sum must not be negative. The count is allowed without it.
                    lines = (
                        text if value >= 0 else text[text.index("\n") + 1 :]
                        for text, value in zip(lines, rows.values, strict=True)
                    )
        yield "".join(lines)


def _histogram_lines(
    base: str,
    group: SeriesGroup,
    labels: list[str],
    rows: SeriesTable,
    bounds: Sequence[float],
    openmetrics: bool,
) -> Iterator[str]:
    other_labels = "%s," if group.tag_keys else ""
    bucket_lines = [
        f'{base}_bucket{{{other_labels}le="{bound}"}} %s\n'
        for bound in (*map(format_bound, bounds), "+Inf")
    ]
    cumulative = zip(*map(accumulate, rows.buckets), strict=True)
    sums = _sum_lines(base, group, labels, rows)
    if openmetrics:
        # The spec: a sum is a counter, so it is not allowed with negative bounds, and must not be
        # negative or NaN. `_count` must be there if and only if `_sum` is. The count that is left
        # out is still in the +Inf bucket.
        negative_bounds = bool(bounds) and bounds[0] < 0
        sums = (
            text if value >= 0 and not negative_bounds else ""
            for text, value in zip(sums, rows.values, strict=True)
        )
    buckets = _fill(bucket_lines, labels, [*cumulative, rows.counts])
    if openmetrics and rows.exemplars:
        buckets = with_exemplars(buckets, rows.texts, rows.exemplars, 1)
    return chain.from_iterable(zip(buckets, sums, strict=True))


def _sum_lines(
    base: str, group: SeriesGroup, labels: list[str], rows: SeriesTable
) -> Iterator[str]:
    """Yield the sum and the count of each series of a histogram or summary."""
    lines = [f"{base}_sum{_braces(group)} %s\n", f"{base}_count{_braces(group)} %s\n"]
    return _fill(lines, labels, [format_values(rows.values), rows.counts])


def _fill(lines: list[str], labels: list[str], columns: Iterable[Iterable[Any]]) -> Iterator[str]:
    """Yield the *lines* of each series, each filled with the labels, if any, and its column."""
    fields = [each for column in columns for each in (labels, column)] if labels else columns
    return map("".join(lines).__mod__, zip(*fields, strict=True))


def _braces(group: SeriesGroup) -> str:
    return "{%s}" if group.tag_keys else ""


def _label_texts(group: SeriesGroup, names: dict[str, str]) -> list[str]:
    """Return the labels of each series of a group as text; an empty list if it has no labels."""
    template = ",".join(f'{names[key]}="%s"' for key in group.tag_keys)
    return list(map(template.__mod__, zip(*map(_escape, group.values), strict=True)))


def _escape(values: list[str]) -> list[str]:
    text = "".join(values)
    if "\\" in text or "\n" in text or '"' in text:
        return list(map(escape_label_value, values))
    return values


def merge_equal_labels(family: Family) -> SeriesTable:
    """Return the series in order of their tags, with those merged that are the same to a reader.

    To Prometheus an empty label is no label (the spec: SHOULD): of `{a=""}` and `{}` it keeps the
    first without a warning (tried with 2.42). Here they become one series: counters and histograms
    are added, and the newest gauge is kept.
    """
    if family.definition.type == "stateset":
        return _in_order_of_state_sets(family)
    series = SeriesTable.of(family.series).in_order()
    # The fast path.
    if not series.has_empty:
        return series
    merged: dict[tuple[tuple[str, str], ...], SeriesState] = {}
    for state in series:
        key = tuple((key, value) for key, value in state.tags.items() if value)
        same = merged.get(key)
        merged[key] = state if same is None else _merge(family.definition.type, same, state)
    return SeriesTable.of(merged.values())


def _in_order_of_state_sets(family: Family) -> SeriesTable:
    """Return the states of each state set one after another, as OpenMetrics demands."""
    return SeriesTable.of(
        sorted(
            family.series,
            key=lambda state: sorted(tag for tag in state.tags.items() if tag[0] != family.name),
        )
    )


def _merge(kind: MetricType, one: SeriesState, other: SeriesState) -> SeriesState:
    newest = max(one, other, key=lambda state: state.seen_ms)
    if kind in ("gauge", "info"):
        return replace(newest, tags=one.tags)
    buckets = tuple(a + b for a, b in zip(one.buckets, other.buckets, strict=True))
    return SeriesState(
        one.tags,
        newest.seen_ms,
        one.value + other.value,
        one.count + other.count,
        buckets,
        {**other.exemplars, **one.exemplars},
    )
