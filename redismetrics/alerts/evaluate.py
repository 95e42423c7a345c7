"""Evaluate the rules of a group at one time.

As in Prometheus, rules are evaluated in order, and each sees what earlier ones recorded. Rules that
do not depend on each other are evaluated in one call, so that their data is read only once.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from time import perf_counter

from redismetrics.errors import StoreError, one_line

from .engine import Engine, RuleAnswer, Sample
from .rules import NO_DATA, ON_ERROR, Group, Rule
from .states import (
    PENDING,
    RESOLVED,
    Alert,
    Key,
    RuleFailed,
    as_utf8,
    key_of,
    label_alerts,
    label_records,
    next_states,
)
from .templates.alert_text import AlertText
from .templates.errors import ExpansionError

log = logging.getLogger("redismetrics")

ALERTS = "ALERTS"
ALERTS_FOR_STATE = "ALERTS_FOR_STATE"
# A label of alerts that fire because of a policy.
REASON = "redismetrics_reason"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What templates see in addition to the series, and the clock that measures evaluations."""

    external_labels: Mapping[str, str] = field(default_factory=dict)
    external_url: str = ""
    clock: Callable[[], float] = perf_counter


@dataclass(slots=True)
class RuleState:
    """The state of a rule that is kept from one evaluation to the next.

    Attributes:
        alerts: The alerts of an alert rule, including resolved ones.
        written: Labels of the series written by the last evaluation.
    """

    alerts: dict[Key, Alert] = field(default_factory=dict)
    written: dict[Key, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """The outcome of a rule's evaluation. *took* is in seconds; *error* is empty on success."""

    rule: Rule
    state: RuleState
    error: str = ""
    took: float = 0.0
    series: int = 0


def rule_ids(group: Group) -> list[str]:
    """Return an id for each rule that is stable when others are added or its expression is edited.

    It is derived from the name and the labels, as in Prometheus, and the position among equal ones.
    """
    seen: dict[str, int] = {}
    found = []
    for rule in group.rules:
        text = f"{rule.is_alert}\n{rule.name}\n{sorted(rule.labels.items())}"
        number = seen.get(text, 0)
        seen[text] = number + 1
        found.append(blake2b(f"{text}\n{number}".encode(), digest_size=8).hexdigest())
    return found


def evaluate_group(
    group: Group,
    at_ms: int,
    engine: Engine,
    states: Sequence[RuleState],
    around: Surroundings,
) -> Iterator[RuleOutcome]:
    """Yield the outcome of each rule, in order. *states* are the previous states by rule."""
    asked_at = at_ms - group.query_offset_ms
    for rules in _batches(group, engine):
        began = around.clock()
        answers = engine.instant([group.rules[number].expr for number in rules], asked_at)
        asking = (around.clock() - began) / len(rules)
        for number, answer in zip(rules, answers, strict=True):
            began = around.clock()
            outcome = _evaluate(
                group.rules[number], group.limit, at_ms, answer, states[number], engine, around
            )
            took = asking + around.clock() - began
            yield RuleOutcome(outcome.rule, outcome.state, outcome.error, took, outcome.series)
    engine.settle()


def _batches(group: Group, engine: Engine) -> Iterator[list[int]]:
    """Yield groups of rules for one call: none of them selects what another one writes."""
    batch: list[int] = []
    writes: set[str] = set()
    for number, rule in enumerate(group.rules):
        selects = engine.selects(rule.expr)
        if batch and (selects is None or selects & writes):
            yield batch
            batch, writes = [], set()
        batch.append(number)
        writes |= {ALERTS, ALERTS_FOR_STATE} if rule.is_alert else {rule.name}
    if batch:
        yield batch


def _evaluate(
    rule: Rule,
    limit: int,
    at_ms: int,
    answer: RuleAnswer,
    before: RuleState,
    engine: Engine,
    around: Surroundings,
) -> RuleOutcome:
    try:
        if rule.is_alert:
            alerts = _alerts(rule, limit, at_ms, answer, before.alerts, engine, around)
            series = _alert_series(alerts)
        else:
            if answer.error:
                raise RuleFailed(answer.error)
            alerts = {}
            found = label_records(rule, answer.series)
            if limit and len(found) > limit:
                raise RuleFailed(f"exceeded limit of {limit} with {len(found)} series")
            series = {key: (each.labels, each.value) for key, each in found.items()}
    except RuleFailed as failure:
        state = RuleState(before.alerts if answer.error else {})
        return _failed(rule, state, str(failure), at_ms, before, engine)
    except StoreError:
        raise
    # One rule must not hold up all others.
    except Exception as failure:
        log.exception("BUG: rule %s cannot be evaluated", rule.name)
        error = f"BUG: {one_line(failure)}"
        return _failed(rule, RuleState(before.alerts), error, at_ms, before, engine)
    error = _write(engine, series, before, at_ms)
    written = {key: labels for key, (labels, _) in series.items()}
    error = as_utf8(error or answer.error)
    return RuleOutcome(rule, RuleState(alerts, written), error, 0.0, len(series))


def _failed(
    rule: Rule, state: RuleState, error: str, at_ms: int, before: RuleState, engine: Engine
) -> RuleOutcome:
    """Return the outcome of a failed rule, which keeps *state*: its series end."""
    ending = _write(engine, {}, before, at_ms)
    return RuleOutcome(rule, state, as_utf8(f"{error}; {ending}" if ending else error))


def _write(engine: Engine, series: Mapping[Key, Sample], before: RuleState, at_ms: int) -> str:
    ended = [labels for key, labels in before.written.items() if key not in series]
    try:
        if series or ended:
            engine.write(list(series.values()), ended, at_ms)
    except RuleFailed as error:
        return str(error)
    return ""


def _alerts(
    rule: Rule,
    limit: int,
    at_ms: int,
    answer: RuleAnswer,
    before: Mapping[Key, Alert],
    engine: Engine,
    around: Surroundings,
) -> dict[Key, Alert]:
    def expand(labels: Mapping[str, str], value: float) -> Callable[[str], str]:
        return AlertText(
            rule.name,
            labels,
            value,
            query=lambda expression: _ask(engine, expression, at_ms),
            now_s=at_ms / 1000,
            external_labels=around.external_labels,
            external_url=around.external_url,
        ).expand

    policy = reason = ""
    if answer.error:
        policy, reason = rule.annotations.get(ON_ERROR, "keep"), "error"
        if policy == "keep":
            raise RuleFailed(answer.error)
    elif not answer.has_data:
        policy, reason = rule.annotations.get(NO_DATA, "ok"), "no_data"
    if policy == "keep":
        return dict(before)
    series = [({REASON: reason}, 0.0)] if policy == "alert" else answer.series
    return next_states(rule, limit, at_ms, label_alerts(rule, series, expand), before)


def _ask(engine: Engine, expression: str, at_ms: int) -> list[tuple[dict[str, str], float]]:
    (answer,) = engine.instant([expression], at_ms)
    if answer.error:
        raise ExpansionError(answer.error)
    return [(dict(labels), value) for labels, value in answer.series]


def _alert_series(alerts: Mapping[Key, Alert]) -> dict[Key, Sample]:
    """Return the series `ALERTS` and `ALERTS_FOR_STATE` of pending and firing alerts."""
    found: dict[Key, Sample] = {}
    for alert in alerts.values():
        if alert.state == RESOLVED:
            continue
        state = {**alert.labels, "__name__": ALERTS, "alertstate": alert.state}
        since = {**alert.labels, "__name__": ALERTS_FOR_STATE}
        found[key_of(state)] = (state, 1.0)
        found[key_of(since)] = (since, alert.active_since / 1000)
    return found


def changes(
    before: Mapping[Key, Alert], after: Mapping[Key, Alert]
) -> list[tuple[Alert, str, str]]:
    """Return the alerts whose state changed, with the old and the new state."""
    found = []
    for key, alert in after.items():
        old = before[key].state if key in before else RESOLVED
        if alert.state != old or (key in before and alert.active_since != before[key].active_since):
            found.append((alert, old, alert.state))
    found += [
        (alert, alert.state, RESOLVED)
        for key, alert in before.items()
        if key not in after and alert.state == PENDING
    ]
    return found
