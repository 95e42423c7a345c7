"""Warnings and infos of an evaluation, with Prometheus' messages."""

from dataclasses import dataclass, field

from redismetrics.columnar.arrays import Floats

from .number_format import format_short
from .ranking import first_invalid
from .tokens import place

# The maximum number of each kind shown by Prometheus' API.
_MAX_SHOWN = 10


@dataclass(slots=True)
class Notes:
    """Collects warnings and infos, without duplicates.

    Attributes:
        expression: The text that positions in the notes refer to.
        warnings: Warnings in order.
        infos: Infos in order.
    """

    expression: str
    warnings: dict[str, None] = field(default_factory=dict)
    infos: dict[str, None] = field(default_factory=dict)

    def warning(self, at: int, text: str) -> None:
        self.warnings[f"PromQL warning: {text} ({place(self.expression, at)})"] = None

    def info(self, at: int, text: str) -> None:
        self.infos[f"PromQL info: {text} ({place(self.expression, at)})"] = None

    def check_quantile(self, at: int, ranks: Floats) -> None:
        """Warn about ranks that are not from 0 to 1."""
        for wrong in first_invalid(ranks, 0.0, 1.0):
            self.warning(at, f"quantile value should be between 0 and 1, got {format_short(wrong)}")

    @property
    def all_warnings(self) -> list[str]:
        return _shown(self.warnings, "warning")

    @property
    def all_infos(self) -> list[str]:
        return _shown(self.infos, "info")


def _shown(notes: dict[str, None], kind: str) -> list[str]:
    """Return the first notes, and the number of others."""
    shown = list(notes)[:_MAX_SHOWN]
    if len(notes) > _MAX_SHOWN:
        shown.append(f"{len(notes) - _MAX_SHOWN} more {kind} annotations omitted")
    return shown
