"""Reports of a copy: its progress, and the totals on both sides."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Phase = Literal["waiting", "copying", "counting"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a copy: *done* of *total*.

    The unit is seconds while waiting, bytes while copying, and metrics while counting. *metric* is
    the current metric, or, while waiting, says who uses the source.
    """

    phase: Phase
    done: float
    total: float
    metric: str = ""


@dataclass(frozen=True, slots=True)
class Totals:
    """The totals of a metric on one side.

    *samples* is the number ever recorded. *count* is the result of a query, or None if some data
    cannot be read. *fields* is the number of fields in all its keys.
    """

    series: int
    samples: int
    count: int | None
    blocks: int
    fields: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Row:
    """A metric on both sides. *changed* means at the source, after it was copied."""

    name: str
    source: Totals
    target: Totals
    changed: bool

    @property
    def same(self) -> bool:
        """Whether both sides have the same totals."""
        return self.source == self.target


@dataclass(frozen=True, slots=True)
class CopyReport:
    """The result of a copy. *complete* means that both sides are equal and the target is open."""

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
        """Metrics that changed at the source after they were copied (see `allow_active`)."""
        return [row.name for row in self.rows if row.changed]

    @property
    def different(self) -> list[str]:
        """Metrics that differ between the sides although they were not changed."""
        return [row.name for row in self.rows if not row.same and not row.changed]

    def to_dict(self) -> dict[str, Any]:
        """Return the report with the totals of each metric, ready for JSON."""
        return {
            "complete": self.complete,
            "namespace": self.namespace,
            "source": self.source,
            "target": self.target,
            "source_shards": self.source_shards,
            "target_shards": self.target_shards,
            "seconds": self.seconds,
            "different": self.different,
            "changed_meanwhile": self.changed_meanwhile,
            "metrics": [
                {
                    "name": row.name,
                    "source": asdict(row.source),
                    "target": asdict(row.target),
                    "changed": row.changed,
                }
                for row in self.rows
            ],
        }
