"""Test files in the format of promtool."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from redismetrics.alerts.durations import parse_duration
from redismetrics.alerts.yaml_nodes import InvalidFile, Scalar, Value, YamlReader, read_yaml

from .notation import Stale, parse_values

DEFAULT_INTERVAL_MS = 60_000


@dataclass(frozen=True, slots=True)
class InputSeries:
    """A series as written in the file, and its values."""

    series: str
    values: list[float | Stale | None]


@dataclass(frozen=True, slots=True)
class ExpectedAlert:
    """An alert that must fire."""

    labels: dict[str, str]
    annotations: dict[str, str]


@dataclass(frozen=True, slots=True)
class AlertTest:
    """The alerts with one name that must fire at a time, and no others."""

    time_ms: int
    alert: str
    expected: list[ExpectedAlert]


@dataclass(frozen=True, slots=True)
class ExpressionTest:
    """The samples that an expression must return at a time: labels as written, and the value."""

    time_ms: int
    expression: str
    expected: list[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class RuleTest:
    """One test: series, and expectations by time. *start_ms* is the time of the first samples."""

    name: str
    interval_ms: int
    start_ms: int
    series: list[InputSeries]
    alerts: list[AlertTest]
    expressions: list[ExpressionTest]
    external_labels: dict[str, str]
    external_url: str


@dataclass(frozen=True, slots=True)
class RuleTestFile:
    """A file of tests.

    Attributes:
        rule_files: Patterns of files, relative to the test file.
        group_order: Names of groups that are evaluated first, in this order.
        is_fuzzy: Whether values may differ by rounding.
    """

    rule_files: list[str] = field(default_factory=list)
    interval_ms: int = DEFAULT_INTERVAL_MS
    group_order: list[str] = field(default_factory=list)
    is_fuzzy: bool = False
    tests: list[RuleTest] = field(default_factory=list)


def parse_test_file(data: bytes) -> RuleTestFile:
    """Read a file of tests.

    Raises:
        InvalidFile: If the file is not valid, with the reasons.
    """
    root = read_yaml(data)
    return _TestFileParser().file(root) if root else RuleTestFile()


class _TestFileParser:
    def __init__(self) -> None:
        self.reader = YamlReader()
        # Errors in contents, which are reported after errors in types.
        self.problems: list[str] = []

    def file(self, root: Value) -> RuleTestFile:
        read = self.reader
        known = {"rule_files", "evaluation_interval", "group_eval_order", "tests", "fuzzy_compare"}
        fields = read.fields(root, "unitTestFile", known)
        interval = self.duration(fields.get("evaluation_interval")) or DEFAULT_INTERVAL_MS
        found = RuleTestFile(
            [read.text(each) for each in read.items(fields.get("rule_files"), "string")],
            interval,
            [read.text(each) for each in read.items(fields.get("group_eval_order"), "string")],
            read.number(fields.get("fuzzy_compare"), "bool", _parse_boolean, False),
            [self.test(each, interval) for each in read.items(fields.get("tests"), "testGroup")],
        )
        read.check()
        if self.problems:
            raise InvalidFile(self.problems)
        return found

    def duration(self, value: Value | None) -> int:
        if value is None or (isinstance(value, Scalar) and value.is_null):
            return 0
        try:
            return parse_duration(self.reader.text(value))
        except ValueError as error:
            self.problems.append(f"line {value.line}: {error}")
            return 0

    def test(self, value: Value, default_interval: int) -> RuleTest:
        read = self.reader
        known = {"name", "interval", "input_series", "alert_rule_test", "promql_expr_test"}
        known |= {"external_labels", "external_url", "start_timestamp"}
        fields = read.fields(value, "testGroup", known)
        return RuleTest(
            read.text(fields.get("name")),
            self.duration(fields.get("interval")) or default_interval,
            self.start(fields.get("start_timestamp")),
            [self.series(each) for each in read.items(fields.get("input_series"), "series")],
            [
                self.alert_test(each)
                for each in read.items(fields.get("alert_rule_test"), "alertTestCase")
            ],
            [
                self.expression_test(each)
                for each in read.items(fields.get("promql_expr_test"), "promqlTestCase")
            ],
            read.texts(fields.get("external_labels")),
            read.text(fields.get("external_url")),
        )

    def start(self, value: Value | None) -> int:
        """Return the time of the first samples: seconds, or a time such as 2026-01-01T00:00:00Z."""
        if value is None:
            return 0
        text = self.reader.text(value)
        try:
            if re.fullmatch(r"-?\d+(\.\d+)?", text):
                return round(float(text) * 1000)
            at = datetime.fromisoformat(text)
            return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
        except ValueError:
            self.problems.append(
                f"line {value.line}: start_timestamp must be seconds or a time, got {text!r}"
            )
            return 0

    def series(self, value: Value) -> InputSeries:
        fields = self.reader.fields(value, "series", {"series", "values"})
        values = self.reader.text(fields.get("values"))
        try:
            return InputSeries(self.reader.text(fields.get("series")), parse_values(values))
        except ValueError as error:
            self.problems.append(f"line {value.line}: {error}")
            return InputSeries("", [])

    def alert_test(self, value: Value) -> AlertTest:
        read = self.reader
        known = {"eval_time", "alertname", "exp_alerts"}
        fields = read.fields(value, "alertTestCase", known)
        expected = []
        for each in read.items(fields.get("exp_alerts"), "alert"):
            alert = read.fields(each, "alert", {"exp_labels", "exp_annotations"})
            expected.append(
                ExpectedAlert(
                    read.texts(alert.get("exp_labels")), read.texts(alert.get("exp_annotations"))
                )
            )
        time = fields.get("eval_time")
        return AlertTest(self.duration(time), read.text(fields.get("alertname")), expected)

    def expression_test(self, value: Value) -> ExpressionTest:
        read = self.reader
        fields = read.fields(value, "promqlTestCase", {"expr", "eval_time", "exp_samples"})
        expected = []
        for each in read.items(fields.get("exp_samples"), "sample"):
            sample = read.fields(each, "sample", {"labels", "value", "histogram"})
            if "histogram" in sample:
                line = sample["histogram"].line
                self.problems.append(f"line {line}: native histograms are not supported")
            number = read.number(sample.get("value"), "float64", float, 0.0)
            expected.append((read.text(sample.get("labels")), number))
        time = fields.get("eval_time")
        return ExpressionTest(self.duration(time), read.text(fields.get("expr")), expected)


def _parse_boolean(text: str) -> bool:
    if text in ("true", "True", "TRUE"):
        return True
    if text in ("false", "False", "FALSE"):
        return False
    raise ValueError
