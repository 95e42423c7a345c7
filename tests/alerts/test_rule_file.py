"""Reading rule files."""

import pytest

from redismetrics.alerts.rule_file import duplicate_rules, parse_rules
from redismetrics.alerts.yaml_nodes import InvalidFile

FULL = b"""\
groups:
  - name: jobs
    interval: 30s
    query_offset: 1m
    limit: 5
    labels: {team: infra}
    rules:
      - record: job:failed:rate5m
        expr: rate(jobs_failed_total[5m])
        labels: {kind: a}
      - alert: JobsFail
        expr: |
          job:failed:rate5m > 1
        for: 1h30m
        keep_firing_for: 5m
        labels: {severity: page}
        annotations:
          summary: "{{ $value }} per second"
"""


def accept(expression: str) -> None:
    if expression.startswith("bad"):
        raise ValueError("1:1: parse error")


def problems(text: str) -> str:
    with pytest.raises(InvalidFile) as raised:
        parse_rules(text.encode(), accept)
    return str(raised.value)


def rule(**fields: str) -> str:
    lines = "".join(f"        {name}: {value}\n" for name, value in fields.items())
    return f"groups:\n  - name: g\n    rules:\n      -\n{lines}"


def test_everything_of_a_file_is_read() -> None:
    (group,) = parse_rules(FULL, accept, "jobs.yml")
    assert (group.name, group.file, group.interval_ms, group.query_offset_ms, group.limit) == (
        *("jobs", "jobs.yml", 30_000, 60_000),
        5,
    )
    record, alert = group.rules
    assert (record.name, record.is_alert, record.labels) == (
        "job:failed:rate5m",
        False,
        {"team": "infra", "kind": "a"},
    )
    assert (alert.name, alert.is_alert, alert.expr) == (
        "JobsFail",
        True,
        "job:failed:rate5m > 1\n",
    )
    assert (alert.for_ms, alert.keep_firing_for_ms) == (5_400_000, 300_000)
    assert alert.annotations == {"summary": "{{ $value }} per second"}
    assert alert.line == 12


@pytest.mark.parametrize(
    "data", [b"", b"# nothing", b"groups:", b"groups: []", b"\xef\xbb\xbfgroups:\r\n"]
)
def test_files_without_groups(data: bytes) -> None:
    assert parse_rules(data, accept) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rule(alert="A", expr="x", nosuch="1"), "line 7: field nosuch not found"),
        (rule(alert="A", record="b", expr="x"), '6:17: 5:16: group "g", rule 1, "A": only one of'),
        (rule(expr="x"), "one of 'record' or 'alert' must be set"),
        (rule(alert="A"), "field 'expr' must be set in rule"),
        (rule(alert="A", expr="bad"), '6:15: group "g", rule 1, "A": could not parse expression'),
        (rule(record="a", expr="x", **{"for": "1m"}), "invalid field 'for' in recording rule"),
        (rule(alert="A", expr="x", **{"for": "300"}), 'not a valid duration string: "300"'),
        (rule(alert="A", expr="x", **{"for": "-5m"}), "not a valid duration string"),
        (rule(alert="A", expr="x", **{"for": "1.5h"}), "not a valid duration string"),
        (rule(alert="A", expr="x", **{"for": "5m1h"}), "not a valid duration string"),
        (rule(alert="A", expr="x", labels="[a]"), "line 7: cannot unmarshal !!seq"),
        (rule(alert="A", expr="x", labels="{a: {b: c}}"), "cannot unmarshal !!map into string"),
        (rule(alert="A", expr="x", labels="{__name__: c}"), "invalid label name: __name__"),
        (rule(alert="A", expr="x", annotations="{a: '{{ nosuch }}'}"), 'annotation "a": template'),
        (
            rule(alert="A", expr="x", annotations="{redismetrics_no_data: maybe}"),
            "redismetrics_no_data must be one of ok, alert, keep, got 'maybe'",
        ),
        ("groups:\n  - rules: []\n", "2:5: Groupname must not be empty"),
        ("groups:\n  - name: g\n  - name: g\n", 'groupname: "g" is repeated'),
        ("groups:\n  - name: g\n    name: h\n", 'mapping key "name" already defined at line 2'),
        ("groups:\n  - name: g\n    limit: many\n", "cannot unmarshal !!str `many` into int"),
        ("group: []\n", "line 1: field group not found"),
        ("groups:\n\t- name: g\n", "yaml: line 2: "),
        ("- a\n", "cannot unmarshal !!seq into rulefmt.RuleGroups"),
    ],
)
def test_rejected_inputs(text: str, expected: str) -> None:
    assert expected in problems(text)


def test_all_problems_are_reported_at_once() -> None:
    text = "groups:\n  - name: g\n    a: 1\n    b: 2\n"
    assert problems(text).count("not found") == 2


@pytest.mark.parametrize("duration", ["0", "0s", "1ms", "1y2w3d4h5m6s7ms"])
def test_durations(duration: str) -> None:
    ((found,),) = (
        group.rules
        for group in parse_rules(rule(alert="A", expr="x", **{"for": duration}).encode(), accept)
    )
    assert found.for_ms == {"0": 0, "0s": 0, "1ms": 1}.get(duration, 33_019_506_007)


def test_aliases_and_merge_keys() -> None:
    text = b"""\
groups:
  - name: g
    rules:
      - &base {alert: A, expr: x, labels: &l {a: b}}
      - {<<: *base, alert: B}
"""
    (group,) = parse_rules(text, accept)
    assert [(each.name, each.labels) for each in group.rules] == [
        ("A", {"a": "b"}),
        ("B", {"a": "b"}),
    ]


def test_only_the_first_document_counts() -> None:
    assert parse_rules(b"groups: []\n---\nnosuch: 1\n", accept) == []


def test_duplicate_rules_are_found_not_refused() -> None:
    text = rule(alert="A", expr="x") + "      - {alert: A, expr: y}\n"
    groups = parse_rules(text.encode(), accept)
    assert [each.expr for each in duplicate_rules(groups)] == ["y"]


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 1_000_000,
        b"{a: " * 1_000_000,
        b"a: " + b"&a [x]\nb: " * 3 + b"1",
        b"x0: &x0 [a, a]\n"
        + b"".join(b"x%d: &x%d [*x%d, *x%d]\n" % (i, i, i - 1, i - 1) for i in range(1, 60)),
        b"a" * 5_000_000,
        b"\xff\xfe",
        b"&a [*a]",
        b"*nosuch",
    ],
)
def test_hostile_files_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidFile):
        parse_rules(data, accept)
