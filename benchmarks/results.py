"""What was measured, and the JSON file that holds it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.rows import Row

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class TopicResult:
    """The rows of one question, and the conditions under which they were measured."""

    question: str
    rows: list[Row]
    seconds: float
    quick: bool
    runs: int
    day: str
    load: float  # the machine's load average of the last minute before the start
    machine: dict[str, Any]

    @classmethod
    def of(cls, fields: dict[str, Any]) -> "TopicResult":
        return cls(**fields | {"rows": [Row(**row) for row in fields["rows"]]})


@dataclass(frozen=True)
class Results:
    """Results by topic, in the order in which they are shown."""

    topics: dict[str, TopicResult]

    @classmethod
    def read(cls, file: Path) -> "Results":
        found = json.loads(file.read_text())
        return cls({topic: TopicResult.of(fields) for topic, fields in found["questions"].items()})

    def write(self, file: Path) -> None:
        parts = []
        # One row per line, so that two versions of the file can be compared.
        for topic, result in self.topics.items():
            fields = asdict(result)
            rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in fields.pop("rows"))
            parts.append(f'{json.dumps(topic)}: {json.dumps(fields)[:-1]}, "rows": [\n{rows}\n]}}')
        file.write_text('{"questions": {\n' + ",\n".join(parts) + "\n}}\n")

    def updated(self, newer: "Results", order: Iterable[str]) -> "Results":
        """Return these results replaced by *newer* ones, for the topics in *order* only."""
        both = self.topics | newer.topics
        return Results({topic: both[topic] for topic in order if topic in both})
