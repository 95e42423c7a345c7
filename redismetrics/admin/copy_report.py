"""What a copy reports: its phase, its progress and the figures of both sides."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Phase = Literal["waiting", "copying", "counting"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a copy is: of *total*, which are seconds of waiting, bytes to copy, or metrics to count."""

    phase: Phase
    done: float
    total: float
    metric: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one side has of a metric.

    *samples* were ever recorded, *count* is what a question answers (None: it can't be read), *fields* are those of all its keys.
    """

    series: int
    samples: int
    count: int | None
    blocks: int
    fields: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Row:
    """A metric on both sides. *changed*: at the source, after it was copied."""

    name: str
    source: Figures
    target: Figures
    changed: bool

    @property
    def same(self) -> bool:
        return self.source == self.target


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What was copied. *complete*: both sides have the same, and the target is open.

    *changed_meanwhile*: metrics that were recorded or worked on at the source after they were copied, which `active` permits.
    """

    namespace: str
    source: str
    target: str
    source_shards: int
    target_shards: int
    rows: list[Row]
    complete: bool
    seconds: float

    @property
    def changed_meanwhile(self) -> list[str]:
        return [row.name for row in self.rows if row.changed]

    @property
    def different(self) -> list[str]:
        """The metrics of which the sides don't have the same, though nobody changed them."""
        return [row.name for row in self.rows if not row.same and not row.changed]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: the fields above, each row of *metrics* with its figures on both sides, and `different`."""
        return {
            "complete": self.complete, "namespace": self.namespace, "source": self.source, "target": self.target,
            "source_shards": self.source_shards, "target_shards": self.target_shards, "seconds": self.seconds,
            "different": self.different, "changed_meanwhile": self.changed_meanwhile,
            "metrics": [
                {"name": row.name, "source": asdict(row.source), "target": asdict(row.target), "changed": row.changed}
                for row in self.rows
            ],
        }  # fmt: skip
