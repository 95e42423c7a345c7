"""
The Prometheus page: families in, text out. Pure.

Two formats: Prometheus text 0.0.4, and OpenMetrics 1.0.0 (github.com/OpenObservability/OpenMetrics, quoted below as
"the spec"). One series has the same name and labels in both, so that a reader may change over.

    0.0.4                                     OpenMetrics
    # HELP jobs_total Jobs done               # TYPE jobs counter
    # TYPE jobs_total counter                 # HELP jobs Jobs done
    jobs_total{queue="mail"} 3                jobs_total{queue="mail"} 3
                                              # EOF

One bad line makes a reader throw the whole page away, so no name and no tag value may lead to one. Left out: `_created`
(a second series each, and Prometheus stores it as one), timestamps (the series are as they stand now), exemplars.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, chain
from typing import Any

from redismetrics.model.validation import MetricType

from .families import Family, SeriesState, SeriesStates, StateBlock

# All sample names a family may have in either format, after its own name; the spec reserves `_created`.
_SUFFIXES: dict[MetricType, tuple[str, ...]] = {
    "counter": ("", "_total", "_created"),
    "gauge": ("",),
    "histogram": ("", "_bucket", "_sum", "_count", "_created"),
}
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_:]")
_NOT_IN_LABEL = re.compile(r"[^A-Za-z0-9_]")
_BETWEEN_WORDS = re.compile(r"[_./:-]+")

_EXACT = 2**53  # from here on a float no longer holds every integer
_NOT_FINITE = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


def content_type(openmetrics: bool = False) -> str:
    """Return the Content-Type of a page, as Prometheus expects it."""
    if openmetrics:
        return "application/openmetrics-text; version=1.0.0; charset=utf-8"
    return "text/plain; version=0.0.4; charset=utf-8"


def render(families: Sequence[Family], *, openmetrics: bool = False) -> str:
    """Return the page of *families*, which come in the order in which they were declared.

    Where names collide after cleaning, the family declared first keeps its name. One without series prints nothing but
    holds its name, so that another doesn't change its own when this one goes idle. No series at all: empty text, or
    the EOF line.
    """
    return "".join(pieces(families, openmetrics=openmetrics))


def pieces(families: Sequence[Family], *, openmetrics: bool = False) -> Iterator[str]:
    """Yield the page that `render` returns, at most a thousand series at a time."""
    pages = []
    for family, base in zip(families, _page_names(families), strict=True):
        if family.series:
            name = (
                f"{base}_total" if family.definition.type == "counter" and not openmetrics else base
            )
            pages.append((name, base, family))
    pages.sort(key=lambda page: page[0])
    for name, base, family in pages:
        yield _head(name, family, openmetrics)
        yield from _body(base, family, openmetrics)
    if openmetrics:
        yield "# EOF\n"


def _page_names(families: Iterable[Family]) -> list[str]:
    """Return the families' names: no sample of one can be taken for one of another, in either format."""
    names = []
    taken: set[str] = set()
    for family in families:
        kind = family.definition.type
        clean = _NOT_IN_NAME.sub("_", family.name)
        if kind == "counter":
            clean = clean.removesuffix("_total") or clean
        name, number = clean, 1
        while not taken.isdisjoint(claims := [name + suffix for suffix in _SUFFIXES[kind]]):
            number += 1
            name = f"{clean}_{number}"
        taken.update(claims)
        names.append(name)
    return names


def _label_names(family: Family, series: SeriesStates) -> dict[str, str]:
    """Return the label name of each tag key of *family*: one for all its *series*, no two the same.

    Keys that are fine as they are come first, so that a new key never renames one of them.
    """
    keys = set(family.definition.tag_keys or ()).union(*series.tag_keys)
    reserved = {"le", "quantile"} if family.definition.type == "histogram" else set()

    def is_reserved(label: str) -> bool:
        return label in reserved or label.startswith("__")

    labels = {key: key for key in keys if not _NOT_IN_LABEL.search(key) and not is_reserved(key)}
    taken = set(labels)
    for key in sorted(keys - taken):
        label = clean = _NOT_IN_LABEL.sub("_", key)
        if is_reserved(clean) or clean in taken:
            label = clean = f"tag_{clean}"
        number = 1
        while label in taken:
            number += 1
            label = f"{clean}_{number}"
        taken.add(label)
        labels[key] = label
    return labels


def _head(name: str, family: Family, openmetrics: bool) -> str:
    definition = family.definition
    # Readers differ in whether they keep spaces at the ends, and one rejects a help text of nothing else.
    text = definition.help.strip() or _in_words(family.name)
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    if not openmetrics:
        return f"# HELP {name} {text}\n# TYPE {name} {definition.type}\n"
    has_unit = definition.unit and name.endswith(f"_{definition.unit}")
    unit = f"# UNIT {name} {definition.unit}\n" if has_unit else ""
    text = text.replace('"', '\\"')
    return f"# TYPE {name} {definition.type}\n{unit}# HELP {name} {text}\n"


def _in_words(name: str) -> str:
    words = _BETWEEN_WORDS.sub(" ", name).strip()
    return words[:1].upper() + words[1:] if words else name


def _body(base: str, family: Family, openmetrics: bool) -> Iterator[str]:
    """The lines of all series, in pieces: a template of one series' lines is filled from columns."""
    series = _distinct(family)
    label_names = _label_names(family, series)
    for run in series.runs():
        labels, rows = _labels(run, label_names), series[run.rows.start : run.rows.stop]
        match family.definition.type:
            case "counter":
                filled = _filled(
                    [f"{base}_total{_braces(run)} %s\n"], labels, [_numbers(rows.values)]
                )
            case "gauge":
                filled = _filled([f"{base}{_braces(run)} %s\n"], labels, [_numbers(rows.values)])
            case "histogram":
                filled = _histograms(
                    base, run, labels, rows, family.definition.buckets, openmetrics
                )
        yield "".join(filled)


def _histograms(
    base: str,
    run: StateBlock,
    labels: list[str],
    rows: SeriesStates,
    bounds: Sequence[float],
    openmetrics: bool,
) -> Iterator[str]:
    within = "%s," if run.tag_keys else ""
    lines = [
        f'{base}_bucket{{{within}le="{bound}"}} %s\n' for bound in (*map(_bound, bounds), "+Inf")
    ]
    cumulative = zip(*map(accumulate, rows.buckets), strict=True)
    sums = [f"{base}_sum{_braces(run)} %s\n", f"{base}_count{_braces(run)} %s\n"]
    endings = _filled(sums, labels, [_numbers(rows.values), rows.counts])
    if openmetrics:
        # The spec: a sum is a counter, so it can't be there with negative bounds, nor be negative or NaN; `_count` is
        # there if and only if `_sum` is. What is left out is still in the +Inf bucket.
        below = bool(bounds) and bounds[0] < 0
        endings = (
            text if value >= 0 and not below else ""
            for text, value in zip(endings, rows.values, strict=True)
        )
    return chain.from_iterable(
        zip(_filled(lines, labels, [*cumulative, rows.counts]), endings, strict=True)
    )


def _filled(lines: list[str], labels: list[str], columns: Iterable[Iterable[Any]]) -> Iterator[str]:
    """The *lines* of each series; a line takes its labels, if there are any, and what stands in its column."""
    filling = [each for column in columns for each in (labels, column)] if labels else columns
    return map("".join(lines).__mod__, zip(*filling, strict=True))


def _braces(run: StateBlock) -> str:
    return "{%s}" if run.tag_keys else ""


def _labels(run: StateBlock, label_names: dict[str, str]) -> list[str]:
    """The labels of each series of a run as text; nothing where it has none."""
    pairs = [f'{label_names[key]}="%s"' for key in run.tag_keys]
    return list(map(",".join(pairs).__mod__, zip(*map(_escaped, run.values), strict=True)))


def _escaped(values: list[str]) -> list[str]:
    text = "".join(values)
    if "\\" in text or "\n" in text or '"' in text:
        return [
            value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"') for value in values
        ]
    return values


def _distinct(family: Family) -> SeriesStates:
    """Return the series in order of their tags, no two the same to a reader.

    To Prometheus an empty label is no label (the spec: SHOULD), so of `{a=""}` and `{}` it keeps the first and says
    nothing (tried, 2.42). They are one series here: counters and histograms are added up, of gauges the newest counts.
    """
    series = SeriesStates.of(family.series).in_order()
    if not series.has_empty:  # the fast path
        return series
    distinct: dict[tuple[tuple[str, str], ...], SeriesState] = {}
    for live in series:
        key = tuple((key, value) for key, value in live.tags.items() if value)
        same = distinct.get(key)
        distinct[key] = live if same is None else _joined(family.definition.type, same, live)
    return SeriesStates.of(distinct.values())


def _joined(kind: MetricType, one: SeriesState, other: SeriesState) -> SeriesState:
    newest = max(one, other, key=lambda live: live.seen_ms)
    if kind == "gauge":
        return replace(newest, tags=one.tags)
    buckets = tuple(a + b for a, b in zip(one.buckets, other.buckets, strict=True))
    return SeriesState(
        one.tags, newest.seen_ms, one.value + other.value, one.count + other.count, buckets
    )


def _numbers(values: Iterable[float]) -> list[int | str]:
    """Return *values* so that a reader has the same floats again; integers without a point, as the spec wants it."""
    return [
        int(value)
        if value.is_integer() and -_EXACT < value < _EXACT
        else _NOT_FINITE.get(text := repr(value), text)
        for value in values
    ]


def _bound(value: float) -> str:
    """Return *value* as it stands in `le`: the spec's canonical numbers, Go's %g with a `.0` added to integers.

    Labels are compared as text, so 1e+06 and 1000000.0 would be two series. Go changes to exponents from 1e+06 on,
    Python's repr from 1e+16; below 1e-04 they agree.
    """
    text = repr(float(value))
    whole, _, fraction = text.lstrip("-").partition(".")
    if len(whole) <= 6 or "e" in text:
        return text
    mantissa = f"{whole[0]}.{whole[1:]}{fraction}".rstrip("0").rstrip(".")
    return f"{'-' if value < 0 else ''}{mantissa}e+{len(whole) - 1:02d}"
