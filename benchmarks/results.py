"""What was measured, as it is kept in a file."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.rows import Row

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Answer:
    """The rows of one question, and how they were taken."""

    question: str
    rows: list[Row]
    seconds: float
    quick: bool
    runs: int
    day: str
    load: float  # of the machine before it began: the mean of a minute
    machine: dict[str, Any]

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Answer":
        return cls(**told | {"rows": [Row(**row) for row in told["rows"]]})


@dataclass(frozen=True)
class Results:
    """Answers by their question's topic, in the order they are shown."""

    answers: dict[str, Answer]

    @classmethod
    def read(cls, file: Path) -> "Results":
        found = json.loads(file.read_text())
        return cls({topic: Answer.of(told) for topic, told in found["questions"].items()})

    def write(self, file: Path) -> None:
        parts = []
        for topic, answer in self.answers.items():  # a row a line, so that versions of the file can be compared
            told = asdict(answer)
            rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in told.pop("rows"))
            parts.append(f'{json.dumps(topic)}: {json.dumps(told)[:-1]}, "rows": [\n{rows}\n]}}')
        file.write_text('{"questions": {\n' + ",\n".join(parts) + "\n}}\n")

    def updated(self, newer: "Results", order: Iterable[str]) -> "Results":
        """These with *newer* ones in their place; of the topics in *order* alone."""
        both = self.answers | newer.answers
        return Results({topic: both[topic] for topic in order if topic in both})
