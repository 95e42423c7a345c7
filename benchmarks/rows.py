"""A line of a benchmark, and the figures that are read from it."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """What one case took, ours and a peer's, one figure a run."""

    case: str  # "bound increment()"
    unit: str  # "us", "ms", "s", "samples/s", "bytes", "commands", "MB"
    ours: list[float]
    peer: str = ""  # "prometheus_client"
    theirs: list[float] = field(default_factory=list)  # one figure a run, taken in turn with ours
    more_is_better: bool = False
    wanted: float | None = None  # the figure that the project set itself
    note: str = ""
    headline: bool = False  # one of the few lines that the README shows

    @property
    def median(self) -> float:
        return statistics.median(self.ours)

    @property
    def ratios(self) -> list[float]:
        """Of each run how many times better ours is; empty where there is no peer."""
        pairs = list(zip(self.ours, self.theirs, strict=True)) if self.theirs else []
        return [_by(mine, other) if self.more_is_better else _by(other, mine) for mine, other in pairs]

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ratios) if self.theirs else None

    @property
    def spread(self) -> tuple[float, float]:
        """The lowest and the highest of the ratios; of ours where there is no peer."""
        figures = self.ratios or self.ours
        return min(figures), max(figures)

    @property
    def holds(self) -> bool | None:
        """Does the median reach what was wanted? None where nothing was."""
        if self.wanted is None:
            return None
        return self.median >= self.wanted if self.more_is_better else self.median <= self.wanted

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _by(above: float, below: float) -> float:
    return above / below if below else float("inf")


def number(value: float) -> str:
    """Three digits that count, thousands apart: 0.0812, 17.3, 1,230,000."""
    if value == 0 or value != value or abs(value) == float("inf"):
        return f"{value:g}"
    rounded = float(f"{value:.3g}")
    if abs(rounded) >= 100:
        return f"{rounded:,.0f}"
    whole = len(str(int(abs(rounded)))) if abs(rounded) >= 1 else 0
    if whole:
        return f"{rounded:.{3 - whole}f}"
    return f"{rounded:.3g}" if abs(rounded) < 1e-4 else f"{rounded:.6f}".rstrip("0")


COLUMNS = ("case", "ours", "peer", "peer's", "ratio", "spread", "wanted")
LEFT = ("case", "peer")  # the others are figures, and stand to the right


def cells(row: Row) -> tuple[str, ...]:
    """The row as text, by COLUMNS."""
    low, high = map(number, row.spread)
    ratio, theirs, wanted = "", "", ""
    if row.theirs:
        ratio, theirs = f"{number(row.ratio or 0)} x", amount(statistics.median(row.theirs), row.unit)
    elif row.peer:
        theirs = "not measured"
    if row.wanted is not None:
        wanted = f"{'≥' if row.more_is_better else '≤'} {amount(row.wanted, row.unit)}{'' if row.holds else ': missed'}"
    return row.case, amount(row.median, row.unit), row.peer, theirs, ratio, f"{low} to {high}", wanted


def amount(value: float, unit: str) -> str:
    """A figure with its unit; rates in thousands or millions."""
    rate = unit.endswith("/s")
    for step, letter in ((1e6, "M"), (1e3, "k")):
        if rate and abs(value) >= step:
            return f"{number(value / step)} {letter} {unit}"
    return f"{number(value)} {'µs' + unit[2:] if unit.startswith('us') else unit}"


def notes(rows: Sequence[Row]) -> list[str]:
    """What is said beside the rows, each once, with the cases that it is said of."""
    said: dict[str, list[str]] = {}
    for row in rows:
        if row.note:
            said.setdefault(row.note, []).append(row.case)
    return [f"{_few(list(dict.fromkeys(cases)))}: {note}" for note, cases in said.items()]


def _few(names: list[str]) -> str:
    return "; ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more"
