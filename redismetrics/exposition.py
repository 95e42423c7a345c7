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

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from .model import Family, Live, MetricType

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
    pages = []
    for family, base in zip(families, _page_names(families), strict=True):
        if family.series:
            name = f"{base}_total" if family.definition.type == "counter" and not openmetrics else base
            pages.append((name, base, family))
    pages.sort(key=lambda page: page[0])
    lines: list[str] = []
    for name, base, family in pages:
        lines.extend(_head(name, family, openmetrics))
        lines.extend(_body(base, family, openmetrics))
    if openmetrics:
        lines.append("# EOF")
    lines.append("")  # the last line ends, too
    return "\n".join(lines)


# -- names


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


def _label_names(family: Family) -> dict[str, str]:
    """Return the label name of each tag key of *family*: one for all its series, no two the same.

    Keys that are fine as they are come first, so that a new key never renames one of them.
    """
    keys = set(family.definition.tag_keys or ()).union(*(live.tags for live in family.series))
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


# -- lines


def _head(name: str, family: Family, openmetrics: bool) -> Iterator[str]:
    definition = family.definition
    # Readers differ in whether they keep spaces at the ends, and one rejects a help text of nothing else.
    text = definition.help.strip() or _in_words(family.name)
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    if not openmetrics:
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} {definition.type}"
        return
    yield f"# TYPE {name} {definition.type}"
    if definition.unit and name.endswith(f"_{definition.unit}"):
        yield f"# UNIT {name} {definition.unit}"
    text = text.replace('"', '\\"')
    yield f"# HELP {name} {text}"


def _in_words(name: str) -> str:
    words = _BETWEEN_WORDS.sub(" ", name).strip()
    return words[:1].upper() + words[1:] if words else name


def _body(base: str, family: Family, openmetrics: bool) -> Iterator[str]:
    label_names = _label_names(family)
    series = ((_labels(live, label_names), live) for live in _distinct(family))
    match family.definition.type:
        case "counter":
            for labels, live in series:
                yield f"{base}_total{_braced(labels)} {_number(live.value)}"
        case "gauge":
            for labels, live in series:
                yield f"{base}{_braced(labels)} {_number(live.value)}"
        case "histogram":
            yield from _histogram(base, family.definition.buckets, series, openmetrics)


def _histogram(
    base: str, bounds: Sequence[float], series: Iterable[tuple[str, Live]], openmetrics: bool
) -> Iterator[str]:
    closings = [f'le="{_bound(bound)}"}} ' for bound in bounds]
    for labels, live in series:
        start = f"{base}_bucket{{{labels}{',' if labels else ''}"
        total = 0
        for closing, count in zip(closings, live.buckets, strict=True):
            total += count
            yield f"{start}{closing}{total}"
        yield f'{start}le="+Inf"}} {live.count}'
        # The spec: a sum is a counter, so it can't be there with negative bounds, nor be negative or NaN; `_count`
        # is there if and only if `_sum` is. What is left out is still in the +Inf bucket.
        if not openmetrics or (live.value >= 0 and not (bounds and bounds[0] < 0)):
            yield f"{base}_sum{_braced(labels)} {_number(live.value)}"
            yield f"{base}_count{_braced(labels)} {live.count}"


def _distinct(family: Family) -> list[Live]:
    """Return the series in order of their tags, no two the same to a reader.

    To Prometheus an empty label is no label (the spec: SHOULD), so of `{a=""}` and `{}` it keeps the first and says
    nothing (tried, 2.42). They are one series here: counters and histograms are added up, of gauges the newest counts.
    """
    series = sorted(family.series, key=lambda live: sorted(live.tags.items()))
    if not any("" in live.tags.values() for live in series):  # the fast path
        return series
    distinct: dict[tuple[tuple[str, str], ...], Live] = {}
    for live in series:
        key = tuple(sorted((key, value) for key, value in live.tags.items() if value))
        same = distinct.get(key)
        distinct[key] = live if same is None else _joined(family.definition.type, same, live)
    return list(distinct.values())


def _joined(kind: MetricType, one: Live, other: Live) -> Live:
    newest = max(one, other, key=lambda live: live.seen_ms)
    if kind == "gauge":
        return replace(newest, tags=one.tags)
    buckets = tuple(a + b for a, b in zip(one.buckets, other.buckets, strict=True))
    return Live(one.tags, newest.seen_ms, one.value + other.value, one.count + other.count, buckets)


def _labels(live: Live, label_names: dict[str, str]) -> str:
    pairs = []
    for key, value in sorted(live.tags.items()):
        text = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
        pairs.append(f'{label_names[key]}="{text}"')
    return ",".join(pairs)


def _braced(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


# -- numbers


def _number(value: float) -> str:
    """Return *value* so that a reader has the same float again; integers without a point, as the spec wants it."""
    if -_EXACT < value < _EXACT and value == int(value):
        return str(int(value))
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(float(value))


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
