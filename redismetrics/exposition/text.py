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

A reader rejects the whole page for one invalid line, so no name and no tag value may produce one.
Left out: `_created` (an extra series each, which Prometheus stores as such) and timestamps (the
values are current). Exemplars exist only in OpenMetrics, not in text 0.0.4.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from redismetrics.model.validation import MetricType
from redismetrics.store.pausing_gc import pausing_gc

from .families import Family, SeriesState
from .lines import (
    FEW_SERIES,
    LineForm,
    label_template,
    label_texts,
    lines_of_few,
    series_lines,
)
from .names import family_names, label_names
from .series_table import MAX_GROUP, SeriesTable

# Suffix of a family's name in the header of text 0.0.4.
SUFFIXES_IN_TEXT: dict[MetricType, str] = {"counter": "_total", "info": "_info"}
# Types with a different name in text 0.0.4.
_TYPES_IN_TEXT: dict[MetricType, MetricType] = {"info": "gauge", "stateset": "gauge"}
_WORD_SEPARATORS = re.compile(r"[_./:-]+")


def content_type(openmetrics: bool = False) -> str:
    """Return the Content-Type of a page, as expected by Prometheus."""
    if openmetrics:
        return "application/openmetrics-text; version=1.0.0; charset=utf-8"
    return "text/plain; version=0.0.4; charset=utf-8"


def render(families: Sequence[Family], *, openmetrics: bool = False) -> str:
    """Return the page of *families*, which must be in the order in which they were declared.

    If names collide after cleaning, the family declared first keeps its name. A family without
    series prints nothing but keeps its name, so that no other family is renamed when it becomes
    idle. Without any series, the page is empty, or only the EOF line.
    """
    return "".join(render_parts(families, openmetrics=openmetrics))


def render_parts(families: Sequence[Family], *, openmetrics: bool = False) -> Iterator[str]:
    """Yield the page from `render` in parts of at most a thousand series."""
    printed = []
    for family, base in zip(families, family_names(families), strict=True):
        if family.series:
            suffix = "" if openmetrics else SUFFIXES_IN_TEXT.get(family.definition.type, "")
            printed.append((base + suffix, base, family))
    printed.sort(key=lambda each: each[0])
    for some in _batches(printed):
        with pausing_gc():
            lines = lines_of_few([(base, family) for _, base, family in some], openmetrics)
        for (name, base, family), own in zip(some, lines, strict=True):
            yield _header(name, family, openmetrics)
            if own is None:
                yield from _series_lines(base, family, openmetrics)
            else:
                yield own
    if openmetrics:
        yield "# EOF\n"


def _batches(printed: list[tuple[str, str, Family]]) -> Iterator[list[tuple[str, str, Family]]]:
    """Yield families in order: neighbours with few series together, others separately."""
    few: list[tuple[str, str, Family]] = []
    count = 0
    for each in printed:
        size = len(each[2].series)
        if few and (size > FEW_SERIES or count + size > MAX_GROUP):
            yield few
            few, count = [], 0
        few.append(each)
        count += size
    if few:
        yield few


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
    """Return the help text of a family, or its name in words."""
    # Readers differ in whether they keep leading and trailing spaces, and one rejects a help text
    # of only spaces.
    words = family.definition.help.strip()
    if words:
        return words
    words = _WORD_SEPARATORS.sub(" ", family.name).strip()
    return words[:1].upper() + words[1:] if words else family.name


def _series_lines(base: str, family: Family, openmetrics: bool) -> Iterator[str]:
    """Yield the lines of all series in parts."""
    series = merge_equal_labels(family)
    definition = family.definition
    names = label_names(family, series, base)
    for group in series.groups():
        template = label_template(names, group.tag_keys)
        form = LineForm(definition.type, template, definition.buckets, openmetrics)
        heads = [label_texts(template, group.values)] if template else []
        yield "".join(series_lines(form, base, heads, series.rows_of(group)))


def merge_equal_labels(family: Family) -> SeriesTable:
    """Return the series ordered by tags, merging those that look the same to a reader.

    To Prometheus, an empty label is no label (the spec: SHOULD): of `{a=""}` and `{}`, it keeps the
    first without a warning (tested with 2.42). Here they become one series: counters and histograms
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
    """Return the states of each state set next to each other, as OpenMetrics requires."""
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
