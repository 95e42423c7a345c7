"""Families with the names and labels that they have on the Prometheus page, for other formats."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .families import Family, SeriesState
from .names import family_names, label_names
from .text import SUFFIXES_IN_TEXT, merge_equal_labels


@dataclass(frozen=True, slots=True)
class NamedFamily:
    """A family, and its names on the page.

    Attributes:
        base: What the names of its series begin with, such as `jobs` of `jobs_total`.
        name: The name in the header of text 0.0.4, such as `jobs_total`.
    """

    family: Family
    base: str
    name: str

    @property
    def unit(self) -> str:
        """The unit, if the name ends in it; empty otherwise."""
        unit = self.family.definition.unit
        return unit if unit and self.base.endswith(f"_{unit}") else ""

    def series(self) -> Iterator[tuple[dict[str, str], SeriesState]]:
        """Yield the labels and the state of each series; those that are one to a reader are one."""
        table = merge_equal_labels(self.family)
        names = label_names(self.family, table, self.base)
        for state in table:
            yield {names[key]: value for key, value in state.tags.items() if value}, state


def named_families(families: Sequence[Family]) -> list[NamedFamily]:
    """Return the families that have series; *families* are all, in the order of declaration."""
    return [
        NamedFamily(family, base, base + SUFFIXES_IN_TEXT.get(family.definition.type, ""))
        for family, base in zip(families, family_names(families), strict=True)
        if family.series
    ]
