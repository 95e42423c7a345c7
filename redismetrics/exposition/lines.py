"""The lines of series on a Prometheus page, for many series at once.

Series of the same type, tag keys and buckets have the same template, which is filled from columns.
A family with many series has its name in the template. Many families with few series each are
combined: their names are an extra column.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

from redismetrics.model.definition import Definition
from redismetrics.model.validation import MetricType

from .exemplars import with_exemplars
from .families import Family
from .names import escape_label_value, unique_labels
from .number_format import format_bound, format_values
from .series_table import SeriesTable, concat, split_texts

# Families with more series than this are not combined with others.
FEW_SERIES = 50

# Placeholder for the name of a family if that is a column.
_NAME = "%s"


class LineForm(NamedTuple):
    """What the lines of series have in common.

    Attributes:
        kind: Type of the family.
        labels: Template of the labels; empty if there are none.
        bounds: Buckets of a histogram.
        openmetrics: Whether the page is in OpenMetrics.
    """

    kind: MetricType
    labels: str
    bounds: tuple[float, ...]
    openmetrics: bool

    @property
    def braces(self) -> str:
        return "{%s}" if self.labels else ""


# A family with few series: its position, the base of its names, and its series.
_Few = tuple[int, str, SeriesTable]


def lines_of_few(families: Sequence[tuple[str, Family]], openmetrics: bool) -> list[str | None]:
    """Return the lines of families with few series each, given with their base names.

    None for a family with many series, or whose series do not all have the same labels.
    """
    found: list[str | None] = [None] * len(families)
    alike: dict[LineForm, list[_Few]] = {}
    for place, (base, family) in enumerate(families):
        if isinstance(family.series, SeriesTable):
            form = _common_form(family.definition, family.series, openmetrics)
            if form is not None:
                few = (place, base, family.series.in_order())
                alike.setdefault(form, []).append(few)
    for form, members in alike.items():
        rows = concat([table for _, _, table in members])
        heads = [[base for _, base, table in members for _ in range(len(table))]]
        if form.labels:
            parts = split_texts(rows.texts)
            width = len(parts) // len(rows)
            heads.append(label_texts(form.labels, [parts[at::width] for at in range(1, width, 2)]))
        lines = list(series_lines(form, _NAME, heads, rows))
        end = 0
        for place, _, table in members:
            begin, end = end, end + len(table)
            found[place] = "".join(lines[begin:end])
    return found


def _common_form(definition: Definition, series: SeriesTable, openmetrics: bool) -> LineForm | None:
    """Return the common form of the lines of all *series*; None if there is no single one."""
    if (
        len(series) > FEW_SERIES
        or len(series.tag_keys) != 1
        or series.has_empty
        or (openmetrics and series.exemplars)
        or definition.type == "stateset"
        # 0.0 and -0.0 are equal, but not the same text.
        or 0.0 in definition.buckets
    ):
        return None
    (keys,) = series.tag_keys
    labels = _template(definition.type, definition.tag_keys, keys)
    return LineForm(definition.type, labels, definition.buckets, openmetrics)


@lru_cache(1_000)
def _template(kind: MetricType, allowed: tuple[str, ...] | None, keys: tuple[str, ...]) -> str:
    return label_template(unique_labels(kind, {*keys, *(allowed or ())}), keys)


def label_template(names: dict[str, str], keys: Sequence[str]) -> str:
    """Return the template of the labels of series with these tag keys."""
    return ",".join(f'{names[key]}="%s"' for key in keys)


def label_texts(template: str, values: list[list[str]]) -> list[str]:
    """Return the labels of each series as text; *values* has one list per label."""
    return list(map(template.__mod__, zip(*map(_escape, values), strict=True)))


def _escape(values: list[str]) -> list[str]:
    text = "".join(values)
    if "\\" in text or "\n" in text or '"' in text:
        return list(map(escape_label_value, values))
    return values


def series_lines(
    form: LineForm, base: str, heads: list[list[str]], rows: SeriesTable
) -> Iterator[str]:
    """Yield the lines of each series.

    Args:
        form: What the lines have in common.
        base: Prefix of the names; "%s" if it is in the first column of *heads*.
        heads: Columns at the beginning of each line: the names, if they differ, and the labels, if
            there are any.
        rows: The series.
    """
    match form.kind:
        case "histogram":
            return _histogram_lines(form, base, heads, rows)
        case "summary":
            lines = _sum_lines(form, base, heads, rows)
            return lines if not form.openmetrics else _without_negative_sums(lines, rows)
        case "counter":
            lines = _value_lines(f"{base}_total", form, heads, rows)
            if form.openmetrics and rows.exemplars:
                lines = with_exemplars(lines, rows.texts, rows.exemplars, 0)
            return lines
        case "info":
            return _value_lines(f"{base}_info", form, heads, rows)
        case _:
            return _value_lines(base, form, heads, rows)


def _value_lines(
    name: str, form: LineForm, heads: list[list[str]], rows: SeriesTable
) -> Iterator[str]:
    return _fill(f"{name}{form.braces} %s\n", heads, [format_values(rows.values)])


def _without_negative_sums(lines: Iterable[str], rows: SeriesTable) -> Iterator[str]:
    """The spec: a sum must not be negative. The count may be shown without it."""
    for text, value in zip(lines, rows.values, strict=True):
        yield text if value >= 0 else text[text.index("\n") + 1 :]


def _histogram_lines(
    form: LineForm, base: str, heads: list[list[str]], rows: SeriesTable
) -> Iterator[str]:
    bounds = form.bounds
    cumulative = zip(*map(accumulate, rows.buckets), strict=True)
    sums = _sum_lines(form, base, heads, rows)
    if form.openmetrics:
        # The spec: a sum is a counter, so it is not allowed with negative bounds, and must not be
        # negative or NaN. `_count` must be there if and only if `_sum` is. The count that is left
        # out is still in the +Inf bucket.
        negative_bounds = bool(bounds) and bounds[0] < 0
        sums = (
            text if value >= 0 and not negative_bounds else ""
            for text, value in zip(sums, rows.values, strict=True)
        )
    other_labels = "%s," if form.labels else ""
    template = "".join(
        f'{base}_bucket{{{other_labels}le="{bound}"}} %s\n'
        for bound in (*map(format_bound, bounds), "+Inf")
    )
    buckets = _fill(template, heads, [*cumulative, rows.counts])
    if form.openmetrics and rows.exemplars:
        buckets = with_exemplars(buckets, rows.texts, rows.exemplars, 1)
    return map("".join, zip(buckets, sums, strict=True))


def _sum_lines(
    form: LineForm, base: str, heads: list[list[str]], rows: SeriesTable
) -> Iterator[str]:
    """Yield the sum and the count of each series of a histogram or summary."""
    template = f"{base}_sum{form.braces} %s\n{base}_count{form.braces} %s\n"
    return _fill(template, heads, [format_values(rows.values), rows.counts])


def _fill(template: str, heads: list[list[str]], columns: Iterable[Iterable[Any]]) -> Iterator[str]:
    """Yield the lines of each series: each filled with the *heads* and its column."""
    fields = [each for column in columns for each in (*heads, column)]
    return map(template.__mod__, zip(*fields, strict=True))
