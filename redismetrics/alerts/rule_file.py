"""Rule files in Prometheus' format: groups of alert and recording rules.

The format, the checks and their messages follow Prometheus' package rulefmt:
https://prometheus.io/docs/prometheus/latest/configuration/recording_rules/
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .durations import parse_duration
from .rules import NO_DATA, ON_ERROR, Group, Rule
from .templates.alert_text import check
from .yaml_nodes import InvalidFile, Mapping, Scalar, Value, YamlReader, read_yaml

_RULE_FIELDS = {
    "record",
    "alert",
    "expr",
    "for",
    "keep_firing_for",
    "labels",
    "annotations",
}
_GROUP_FIELDS = {"name", "interval", "query_offset", "limit", "rules", "labels"}
_POLICIES = ("ok", "alert", "keep")


def load_rules(path: Path, check_expression: Callable[[str], None]) -> list[Group]:
    """Read and check a rule file.

    *check_expression* raises ValueError for an expression that is not valid.

    Raises:
        InvalidFile: If the file is not valid, with all reasons and, where known, their lines.
        OSError: If it cannot be read.
    """
    return parse_rules(path.read_bytes(), check_expression, str(path))


def parse_rules(
    data: bytes, check_expression: Callable[[str], None], file: str = ""
) -> list[Group]:
    """Read and check the bytes of a rule file; see `load_rules`."""
    root = read_yaml(data)
    if root is None:
        return []
    reader = YamlReader()
    durations = _Durations(reader)
    known = reader.fields(root, "rulefmt.RuleGroups", {"groups"})
    pairs = [
        (value, _read_group(value, reader, durations, file))
        for value in reader.items(known.get("groups"), "rulefmt.RuleGroup")
    ]
    reader.check()
    durations.check()
    problems = _group_problems([(value, group) for value, (group, _) in pairs])
    for _, (group, places) in pairs:
        for number, (rule, place) in enumerate(zip(group.rules, places, strict=True), 1):
            where = f'group "{group.name}", rule {number}, "{rule.name}": '
            problems += [
                f"{line}{where}{problem}"
                for line, problem in _rule_problems(rule, place, check_expression)
            ]
    if problems:
        raise InvalidFile(problems)
    return [group for _, (group, _) in pairs]


def duplicate_rules(groups: list[Group]) -> list[Rule]:
    """Return rules with the same name and labels as an earlier one, which is probably a mistake."""
    seen = set()
    found = []
    for group in groups:
        for rule in group.rules:
            key = (rule.name, rule.is_alert, tuple(sorted(rule.labels.items())))
            if key in seen:
                found.append(rule)
            seen.add(key)
    return found


class _Durations:
    """Reads durations. The first invalid one is reported after errors in the types."""

    def __init__(self, reader: YamlReader) -> None:
        self.reader = reader
        self.problem: str | None = None

    def read(self, value: Value | None) -> int | None:
        if value is None or (isinstance(value, Scalar) and value.is_null):
            return None
        text = self.reader.text(value)
        try:
            return parse_duration(text)
        except ValueError as error:
            self.problem = self.problem or f"line {value.line}: {error}"
            return None

    def check(self) -> None:
        if self.problem:
            raise InvalidFile([self.problem])


@dataclass(frozen=True, slots=True)
class _Places:
    """The positions of a rule's fields, for messages: `line:column: `, or nothing."""

    fields: dict[str, Value]

    def of(self, *names: str) -> str:
        found = [self.fields[name] for name in names if name in self.fields]
        return "".join(f"{value.line}:{value.column}: " for value in found) or "0:0: "


def _read_group(
    value: Value, reader: YamlReader, durations: _Durations, file: str
) -> tuple[Group, list[_Places]]:
    fields = reader.fields(value, "rulefmt.RuleGroup", _GROUP_FIELDS)
    common = reader.texts(fields.get("labels"))
    rules, places = [], []
    for item in reader.items(fields.get("rules"), "rulefmt.RuleNode"):
        found = reader.fields(item, "rulefmt.RuleNode", _RULE_FIELDS)
        rules.append(_read_rule(found, reader, durations, common))
        places.append(_Places(found))
    group = Group(
        name=reader.text(fields.get("name")),
        rules=tuple(rules),
        interval_ms=durations.read(fields.get("interval")) or None,
        query_offset_ms=durations.read(fields.get("query_offset")) or 0,
        limit=reader.number(fields.get("limit"), "int", int, 0),
        file=file,
    )
    return group, places


def _read_rule(
    fields: dict[str, Value], reader: YamlReader, durations: _Durations, common: dict[str, str]
) -> Rule:
    alert, record = reader.text(fields.get("alert")), reader.text(fields.get("record"))
    expression = fields.get("expr")
    return Rule(
        name=alert or record,
        expr=reader.text(expression),
        is_alert=bool(alert),
        for_ms=durations.read(fields.get("for")) or 0,
        keep_firing_for_ms=durations.read(fields.get("keep_firing_for")) or 0,
        labels=common | reader.texts(fields.get("labels")),
        annotations=reader.texts(fields.get("annotations")),
        line=expression.line if expression else 0,
    )


def _group_problems(groups: list[tuple[Value, Group]]) -> list[str]:
    problems = []
    seen = set()
    for value, group in groups:
        where = f"{value.line}:{value.column}: "
        if not group.name:
            problems.append(f"{where}Groupname must not be empty")
        if group.name in seen:
            problems.append(f'{where}groupname: "{group.name}" is repeated in the same file')
        seen.add(group.name)
    return problems


def _rule_problems(
    rule: Rule, places: _Places, check_expression: Callable[[str], None]
) -> list[tuple[str, str]]:
    """Return the problems of a rule, with their positions."""
    fields = places.fields
    has = {name for name in fields if not _is_empty(fields[name])}
    problems = []
    if {"record", "alert"} <= has:
        problems.append(
            (places.of("record", "alert"), "only one of 'record' and 'alert' must be set")
        )
    if not {"record", "alert"} & has:
        problems.append(("0:0: ", "one of 'record' or 'alert' must be set"))
    if not rule.expr:
        problems.append(("0:0: ", "field 'expr' must be set in rule"))
    else:
        try:
            check_expression(rule.expr)
        except ValueError as error:
            problems.append((places.of("expr"), f"could not parse expression: {error}"))
    if "record" in has:
        problems += _recording_problems(rule, places)
    if "alert" in has:
        problems += _template_problems(rule, places)
    problems += _label_problems(rule, places)
    return problems


def _is_empty(value: Value) -> bool:
    return isinstance(value, Scalar) and not value.text


def _recording_problems(rule: Rule, places: _Places) -> list[tuple[str, str]]:
    given = {
        "annotations": bool(rule.annotations),
        "for": bool(rule.for_ms),
        "keep_firing_for": bool(rule.keep_firing_for_ms),
    }
    return [
        (places.of("record"), f"invalid field '{name}' in recording rule")
        for name, is_given in given.items()
        if is_given
    ]


def _label_problems(rule: Rule, places: _Places) -> list[tuple[str, str]]:
    problems = [
        (_line_of(places, "labels", name), f"invalid label name: {name}")
        for name in rule.labels
        if not name or name == "__name__"
    ]
    problems += [
        (_line_of(places, "annotations", name), f"invalid annotation name: {name}")
        for name in rule.annotations
        if not name
    ]
    for name in (NO_DATA, ON_ERROR):
        policy = rule.annotations.get(name)
        if policy is not None and policy not in _POLICIES:
            where = _line_of(places, "annotations", name)
            problems.append(
                (where, f"annotation {name} must be one of {', '.join(_POLICIES)}, got {policy!r}")
            )
    return problems


def _template_problems(rule: Rule, places: _Places) -> list[tuple[str, str]]:
    problems = []
    for kind, templates in (("label", rule.labels), ("annotation", rule.annotations)):
        for name, template in templates.items():
            try:
                check(template, rule.name)
            except ValueError as error:
                where = _line_of(places, f"{kind}s", name)
                problems.append((where, f'{kind} "{name}": {error}'))
    return problems


def _line_of(places: _Places, field_name: str, key: str) -> str:
    """Return the position of *key* in a mapping."""
    mapping = places.fields.get(field_name)
    if isinstance(mapping, Mapping):
        for name, _ in mapping.items:
            if isinstance(name, Scalar) and name.text == key:
                return f"{name.line}:{name.column}: "
    return ""
