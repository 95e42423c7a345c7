"""Families with their names and labels on the Prometheus page, for other formats."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .families import Family, SeriesState
from .names import family_names, label_names
from .text import SUFFIXES_IN_TEXT, merge_equal_labels


@dataclass(frozen=True, slots=True)
class NamedFamily:
    """A family, and its names on the page.

    Attributes:
        base: Prefix of the names of its series, such as `jobs` in `jobs_total`.
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
        """Yield the labels and the state of each series; series with equal labels are merged."""
        table = merge_equal_labels(self.family)
        names = label_names(self.family, table, self.base)
        for state in table:
            yield {names[key]: value for key, value in state.tags.items() if value}, state


def named_families(families: Sequence[Family]) -> list[NamedFamily]:
    """Return the families with series; *families* are all of them, in the order of declaration."""
    return [
        NamedFamily(family, base, base + SUFFIXES_IN_TEXT.get(family.definition.type, ""))
        for family, base in zip(families, family_names(families), strict=True)
        if family.series
    ]
