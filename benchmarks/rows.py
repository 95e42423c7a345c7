"""A row of a benchmark, and the figures that are derived from it."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One case, ours and a peer's, one figure per run."""

    case: str  # "bound increment()"
    unit: str  # "us", "ms", "s", "samples/s", "bytes", "commands", "MB"
    ours: list[float]
    peer: str = ""  # "prometheus_client"
    theirs: list[float] = field(
        default_factory=list
    )  # one figure per run, measured in turn with ours
    more_is_better: bool = False
    target: float | None = None  # the target that was set before measuring
    note: str = ""
    headline: bool = False  # one of the rows that docs/performance.svg draws

    @property
    def median(self) -> float:
        return statistics.median(self.ours)

    @property
    def ratios(self) -> list[float]:
        """How many times better ours is, for each run; empty without a peer."""
        pairs = list(zip(self.ours, self.theirs, strict=True)) if self.theirs else []
        return [
            _by(mine, other) if self.more_is_better else _by(other, mine) for mine, other in pairs
        ]

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ratios) if self.theirs else None

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest ratio; without a peer, the lowest and highest of ours."""
        figures = self.ratios or self.ours
        return min(figures), max(figures)

    @property
    def holds(self) -> bool | None:
        """True if the median reaches the target; None without a target."""
        if self.target is None:
            return None
        return self.median >= self.target if self.more_is_better else self.median <= self.target

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _by(above: float, below: float) -> float:
    return above / below if below else float("inf")


def number(value: float) -> str:
    """Format with three significant digits and separated thousands: 0.0812, 17.3, 1,230,000."""
    if value == 0 or value != value or abs(value) == float("inf"):
        return f"{value:g}"
    rounded = float(f"{value:.3g}")
    if abs(rounded) >= 100:
        return f"{rounded:,.0f}"
    whole = len(str(int(abs(rounded)))) if abs(rounded) >= 1 else 0
    if whole:
        return f"{rounded:.{3 - whole}f}"
    return f"{rounded:.3g}" if abs(rounded) < 1e-4 else f"{rounded:.6f}".rstrip("0")


COLUMNS = ("case", "ours", "peer", "peer's", "ratio", "spread", "target")
LEFT = ("case", "peer")  # aligned to the left; the others are figures


def cells(row: Row) -> tuple[str, ...]:
    """Return the row as text, in the order of COLUMNS."""
    low, high = map(number, row.spread)
    ratio = f"{number(row.ratio or 0)} x" if row.theirs else ""
    target = ""
    if row.target is not None:
        sign, missed = "≥" if row.more_is_better else "≤", "" if row.holds else ": missed"
        target = f"{sign} {amount(row.target, row.unit)}{missed}"
    return row.case, ours(row), row.peer, theirs(row), ratio, f"{low} to {high}", target


def ours(row: Row) -> str:
    """Return the median of our runs, with its unit."""
    return amount(row.median, row.unit)


def theirs(row: Row) -> str:
    """Return the median of the peer's runs; empty without a peer."""
    if row.theirs:
        return amount(statistics.median(row.theirs), row.unit)
    return "not measured" if row.peer else ""


def amount(value: float, unit: str) -> str:
    """Format a figure with its unit; rates in thousands or millions."""
    rate = unit.endswith("/s")
    for step, letter in ((1e6, "M"), (1e3, "k")):
        if rate and abs(value) >= step:
            return f"{number(value / step)} {letter} {unit}"
    return f"{number(value)} {'µs' + unit[2:] if unit.startswith('us') else unit}"


def notes(rows: Sequence[Row]) -> list[str]:
    """Return the notes of the rows, each once, with the cases that it belongs to."""
    cases_of: dict[str, list[str]] = {}
    for row in rows:
        if row.note:
            cases_of.setdefault(row.note, []).append(row.case)
    return [f"{few(list(dict.fromkeys(cases)))}: {note}" for note, cases in cases_of.items()]


def few(names: list[str]) -> str:
    return "; ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more"
