"""What was measured, and the JSON file that holds it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.rows import Row

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Answer:
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
    def of(cls, told: dict[str, Any]) -> "Answer":
        return cls(**told | {"rows": [Row(**row) for row in told["rows"]]})


@dataclass(frozen=True)
class Results:
    """Answers by topic, in the order in which they are shown."""

    answers: dict[str, Answer]

    @classmethod
    def read(cls, file: Path) -> "Results":
        found = json.loads(file.read_text())
        return cls({topic: Answer.of(told) for topic, told in found["questions"].items()})

    def write(self, file: Path) -> None:
        parts = []
        # One row per line, so that two versions of the file can be compared.
        for topic, answer in self.answers.items():
            told = asdict(answer)
            rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in told.pop("rows"))
            parts.append(f'{json.dumps(topic)}: {json.dumps(told)[:-1]}, "rows": [\n{rows}\n]}}')
        file.write_text('{"questions": {\n' + ",\n".join(parts) + "\n}}\n")

    def updated(self, newer: "Results", order: Iterable[str]) -> "Results":
        """Return these answers replaced by *newer* ones, for the topics in *order* only."""
        both = self.answers | newer.answers
        return Results({topic: both[topic] for topic in order if topic in both})
