"""Run unit tests of rules like promtool.

Every group is evaluated at each `evaluation_interval` from the first to the last time of a test,
whatever its own interval. Alerts are taken from the last evaluation at or before a test's time.
"""

import glob
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from redismetrics.alerts.durations import duration_text
from redismetrics.alerts.evaluate import RuleState, Surroundings, evaluate_group
from redismetrics.alerts.expressions import check_expression, parse_series
from redismetrics.alerts.rule_file import load_rules
from redismetrics.alerts.rules import Group
from redismetrics.alerts.states import FIRING, key_of
from redismetrics.alerts.templates.go_format import quoted
from redismetrics.alerts.yaml_nodes import InvalidFile

from .memory import MemoryEngine
from .notation import Stale
from .test_file import AlertTest, ExpressionTest, RuleTest, RuleTestFile, parse_test_file

# Evaluations of one test, of all its groups.
MAX_EVALUATIONS = 1_000_000


@dataclass(frozen=True, slots=True)
class TestOutcome:
    """The outcome of a test file. *failures* is empty if all tests passed. *notes* are warnings."""

    failures: list[str]
    notes: list[str]


def run_test_file(path: Path, *, progress: Callable[[], None] = lambda: None) -> TestOutcome:
    """Run the tests of a file; *progress* is called after each test.

    Raises:
        OSError: If the file cannot be read.
    """
    try:
        file = parse_test_file(path.read_bytes())
        groups, notes = _load_rules(file, path.parent)
    except InvalidFile as error:
        return TestOutcome(error.problems, [])
    failures = []
    for test in file.tests:
        found = _Run(file, test, groups).failures()
        failures += [f"name: {test.name},\n{each}" if test.name else each for each in found]
        progress()
    return TestOutcome(failures, notes)


def _load_rules(file: RuleTestFile, folder: Path) -> tuple[list[Group], list[str]]:
    groups: list[Group] = []
    notes = []
    for pattern in file.rule_files:
        found = sorted(glob.glob(str(folder / pattern)))
        if not found:
            notes.append(f"no file matches pattern {pattern}")
        for path in found:
            try:
                groups += load_rules(Path(path), check_expression)
            except InvalidFile as error:
                raise InvalidFile([f"{path}: {each}" for each in error.problems]) from error
            except OSError as error:
                raise InvalidFile([f"{path}: {error.strerror}"]) from error
    order = {name: number for number, name in enumerate(file.group_order)}
    groups.sort(key=lambda group: order.get(group.name, len(order)))
    return groups, notes


class _Run:
    """One test: its series, and the state of its rules."""

    def __init__(self, file: RuleTestFile, test: RuleTest, groups: Sequence[Group]) -> None:
        self.file, self.test = file, test
        self.groups = [replace(group, query_offset_ms=0) for group in groups]
        self.engine = MemoryEngine()
        self.states = [[RuleState() for _ in group.rules] for group in groups]
        self.around = Surroundings(test.external_labels, test.external_url)
        # Times of alert tests, by the evaluation that they refer to.
        self.waiting: dict[int, list[AlertTest]] = {}

    def failures(self) -> list[str]:
        test = self.test
        for series in test.series:
            try:
                labels = parse_series(series.series)
            except ValueError as error:
                return [str(error)]
            self.engine.add(labels, self._samples(series.values))
        ends = [each.time_ms for each in test.alerts] + [e.time_ms for e in test.expressions]
        last = max(ends, default=0)
        times = range(0, last + 1, self.file.interval_ms)
        if len(times) * sum(len(group.rules) for group in self.groups) > MAX_EVALUATIONS:
            return [f"a test must have at most {MAX_EVALUATIONS} evaluations; shorten its times"]
        failures = []
        for alerts in test.alerts:
            at = alerts.time_ms - alerts.time_ms % self.file.interval_ms
            self.waiting.setdefault(at, []).append(alerts)
        for time in times:
            failed = self._evaluate(time)
            if failed:
                return failed
            failures += [
                failure
                for alerts in self.waiting.get(time, ())
                for failure in self._check_alerts(alerts)
            ]
        for expression in test.expressions:
            failures += self._check_expression(expression)
        return failures

    def _samples(self, values: Iterable[float | Stale | None]) -> Iterable[tuple[int, float, bool]]:
        time = self.test.start_ms
        for value in values:
            if isinstance(value, Stale):
                yield time, 0.0, True
            elif value is not None:
                yield time, value, False
            time += self.test.interval_ms

    def _evaluate(self, time: int) -> list[str]:
        """Evaluate all groups; return the reason if a rule failed, which ends the test."""
        at = self.test.start_ms + time
        for group, states in zip(self.groups, self.states, strict=True):
            outcomes = list(evaluate_group(group, at, self.engine, states, self.around))
            failed = [
                f"    rule: {outcome.rule.name}, time: {duration_text(time)}, err: {outcome.error}"
                for outcome in outcomes
                if outcome.error
            ]
            if failed:
                return failed
            states[:] = [outcome.state for outcome in outcomes]
        return []

    def _check_alerts(self, test: AlertTest) -> list[str]:
        firing = [
            alert
            for group, states in zip(self.groups, self.states, strict=True)
            for rule, state in zip(group.rules, states, strict=True)
            if rule.is_alert and rule.name == test.alert
            for alert in state.alerts.values()
            if alert.state == FIRING
        ]
        expected = sorted(
            (key_of({**each.labels, "alertname": test.alert}), key_of(each.annotations))
            for each in test.expected
        )
        got = sorted((key_of(each.labels), key_of(each.annotations)) for each in firing)
        if got == expected:
            return []
        shown = f"exp:{_shown_alerts(expected)},\n        got:{_shown_alerts(got)}"
        return [
            f"    alertname: {test.alert}, time: {duration_text(test.time_ms)},\n        {shown}"
        ]

    def _check_expression(self, test: ExpressionTest) -> list[str]:
        where = f"    expr: {quoted(test.expression)}, time: {duration_text(test.time_ms)},"
        (answer,) = self.engine.instant([test.expression], self.test.start_ms + test.time_ms)
        if answer.error:
            return [f"{where} err: {answer.error}"]
        try:
            expected = sorted(
                (key_of(parse_series(labels)), value) for labels, value in test.expected
            )
        except ValueError as error:
            return [f"{where} err: {error}"]
        got = sorted((key_of(labels), value) for labels, value in answer.series)
        if len(got) == len(expected) and all(
            a == b and _same(x, y) for (a, x), (b, y) in zip(got, expected, strict=True)
        ):
            return []
        return [f"{where}\n        exp: {_shown(expected)}\n        got: {_shown(got)}"]


def _same(a: float, b: float) -> bool:
    # Our sums may differ from Prometheus' in the last digits.
    return math.isclose(a, b, rel_tol=1e-12) or (math.isnan(a) and math.isnan(b))


def _labels(key: Iterable[tuple[str, str]]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in key) + "}"


def _shown(samples: Iterable[tuple[Any, float]]) -> str:
    return ", ".join(f"{_labels(key)} {value:.12G}" for key, value in samples) or "nil"


def _shown_alerts(alerts: Sequence[tuple[Any, Any]]) -> str:
    if not alerts:
        return "[]"
    lines = [
        f"            {number}:\n"
        f"              Labels:{_labels(labels)}\n"
        f"              Annotations:{_labels(annotations)}"
        for number, (labels, annotations) in enumerate(alerts)
    ]
    return "[\n" + "\n".join(lines) + "\n        ]"
