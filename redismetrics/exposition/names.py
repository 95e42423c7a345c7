"""Names of families and labels on a Prometheus page: valid and unique."""

import re
from collections.abc import Iterable

from redismetrics.model.definition import Definition
from redismetrics.model.validation import MetricType

from .families import Family
from .series_table import SeriesTable

# Suffixes of a family's sample names, in either format. OpenMetrics reserves `_created`.
_SUFFIXES: dict[MetricType, tuple[str, ...]] = {
    "counter": ("", "_total", "_created"),
    "gauge": ("",),
    "histogram": ("", "_bucket", "_sum", "_count", "_created"),
    "summary": ("", "_sum", "_count", "_created"),
    "info": ("", "_info"),
    "stateset": ("",),
}
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_:]")
_NOT_IN_LABEL = re.compile(r"[^A-Za-z0-9_]")


def family_names(families: Iterable[Family]) -> list[str]:
    """Return the name of each family on the page.

    No sample of one family can be mistaken for a sample of another, in either format.
    """
    names = []
    taken: set[str] = set()
    for family in families:
        kind = family.definition.type
        clean = _NOT_IN_NAME.sub("_", family.name)
        if kind == "counter":
            clean = clean.removesuffix("_total") or clean
        elif kind == "info":
            clean = clean.removesuffix("_info") or clean
        elif kind == "stateset":
            # The name is also the name of a label.
            clean = clean.replace(":", "_")
        name, number = clean, 1
        while not taken.isdisjoint(claims := [name + suffix for suffix in _SUFFIXES[kind]]):
            number += 1
            name = f"{clean}_{number}"
        taken.update(claims)
        names.append(name)
    return names


def label_names(family: Family, series: SeriesTable, base: str) -> dict[str, str]:
    """Return the label name of each tag key of *family*, the same for all its *series*.

    *base* is the name of the family on the page, and the label of the state of a state set. No two
    keys have the same label. Keys that are valid labels come first, so that a new key never renames
    one of them.
    """
    tag_keys = set[str]().union(*series.tag_keys)
    if family.definition.type != "stateset":
        return names_of_tags(family.definition, tag_keys)
    names = names_of_tags(family.definition, tag_keys - {family.name}, base)
    return {**names, family.name: base}


def names_of_tags(definition: Definition, tag_keys: Iterable[str], *taken: str) -> dict[str, str]:
    """Return the label name of each of *tag_keys* and of the keys allowed by the definition.

    No label has a name in *taken*.
    """
    return unique_labels(definition.type, {*(definition.tag_keys or ()), *tag_keys}, *taken)


def unique_labels(kind: MetricType, keys: set[str], *taken: str) -> dict[str, str]:
    """Return a unique label name for each of the *keys* of a metric of this type."""
    reserved = set(taken)
    if kind in ("histogram", "summary"):
        reserved |= {"le", "quantile"}

    def is_reserved(label: str) -> bool:
        return label in reserved or label.startswith("__")

    labels = {key: key for key in keys if not _NOT_IN_LABEL.search(key) and not is_reserved(key)}
    used = set(labels)
    for key in sorted(keys - used):
        label = clean = _NOT_IN_LABEL.sub("_", key)
        if is_reserved(clean) or clean in used:
            label = clean = f"tag_{clean}"
        number = 1
        while label in used:
            number += 1
            label = f"{clean}_{number}"
        used.add(label)
        labels[key] = label
    return labels


def escape_label_value(value: str) -> str:
    """Return a label value escaped for the quotes on a Prometheus page."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
