"""The names of series, as on the Prometheus page."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from redismetrics.exposition.families import Family
from redismetrics.exposition.names import family_names
from redismetrics.exposition.self_metrics import page_families, reserved_families
from redismetrics.model.definition import Definition

# The form of a metric under a name on the page. A distribution is a histogram under its own name;
# the labels form is for an info or state set.
Form = Literal["gauge", "counter", "bucket", "sum", "count", "distribution", "labels"]

_FORMS: Mapping[str, tuple[tuple[Form, str], ...]] = {
    "counter": (("counter", "_total"),),
    "histogram": (
        ("bucket", "_bucket"),
        ("count", "_count"),
        ("sum", "_sum"),
        ("distribution", ""),
    ),
    "info": (("labels", "_info"),),
    "stateset": (("labels", ""),),
    "summary": (("count", "_count"), ("sum", "_sum"), ("distribution", "")),
}


# Suffix of the name in a TYPE line.
_FAMILY_SUFFIXES = {"counter": "_total", "info": "_info"}


class Shown(NamedTuple):
    """The meaning of a name on the page: a form of a metric."""

    metric: str
    form: Form


@dataclass(frozen=True, slots=True)
class PageNames:
    """The names on the page, in order.

    Attributes:
        shown: The meaning of each name.
        families: The name of each metric's family, as in its TYPE line.
    """

    shown: dict[str, Shown]
    families: dict[str, str]


def page_names(definitions: Mapping[str, Definition]) -> PageNames:
    """Return the names of these metrics, which must be in the order in which they were declared."""
    return _page_names(tuple(definitions.items()))


@lru_cache(8)
def _page_names(definitions: tuple[tuple[str, Definition], ...]) -> PageNames:
    reserved = [*reserved_families(), *page_families([])]
    families = [Family(name, definition, ()) for name, definition in definitions]
    bases = family_names([*reserved, *families])[len(reserved) :]
    shown: dict[str, Shown] = {}
    found: dict[str, str] = {}
    for family, base in zip(families, bases, strict=True):
        kind = family.definition.type
        for form, suffix in _FORMS.get(kind, (("gauge", ""),)):
            shown[base + suffix] = Shown(family.name, form)
        found[family.name] = base + _FAMILY_SUFFIXES.get(kind, "")
    return PageNames(shown, found)
