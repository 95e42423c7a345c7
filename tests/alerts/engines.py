"""An engine whose answers a test sets."""

from collections.abc import Mapping, Sequence

from redismetrics.alerts.engine import RuleAnswer, Sample


class ScriptedEngine:
    """Answers each expression with the series that the test has set for it."""

    def __init__(self) -> None:
        self.answers: dict[str, RuleAnswer] = {}
        self.asked: list[tuple[list[str], int]] = []
        self.written: list[tuple[list[Sample], list[Mapping[str, str]], int]] = []

    def give(
        self, expression: str, *series: Sample, has_data: bool = True, error: str = ""
    ) -> None:
        self.answers[expression] = RuleAnswer(series, has_data, error)

    def instant(self, expressions: Sequence[str], at_ms: int) -> list[RuleAnswer]:
        self.asked.append((list(expressions), at_ms))
        return [self.answers.get(each, RuleAnswer()) for each in expressions]

    def selects(self, expression: str) -> set[str] | None:
        return {expression}

    def write(
        self, series: Sequence[Sample], ended: Sequence[Mapping[str, str]], at_ms: int
    ) -> None:
        self.written.append((list(series), list(ended), at_ms))

    def settle(self) -> None:
        pass
