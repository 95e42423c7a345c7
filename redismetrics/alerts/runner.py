"""Evaluate groups of rules when they are due, with one process per group.

A group is evaluated at fixed times: multiples of its interval, shifted by a fraction of it that
depends on its name, so that groups are not all due at once. Times are by the server's clock, so
processes with different clocks agree.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import PurePath

from redismetrics.store import keys
from redismetrics.store.driver import Client, run
from redismetrics.store.lease import release, take

from .engine import Engine
from .evaluate import (
    RuleOutcome,
    RuleState,
    Surroundings,
    changes,
    evaluate_group,
    rule_ids,
)
from .notify.alertmanager import alert_payload, needs_sending
from .packing import GroupStatus, RuleStatus, SavedAlert, StateChange, rule_fields
from .rules import Group
from .states import RESOLVED, Alert, key_of, over
from .store import (
    SavedGroup,
    alert_field,
    load_group,
    note_other_text,
    rule_id_of,
    save_group,
    text_digest,
)

log = logging.getLogger("redismetrics")

# If the server's clock was set back further than this, follow it.
_CLOCK_STEP_MS = 5 * 60_000


@dataclass(slots=True)
class RunnerCounts:
    """Counts of the evaluation since the start, for the page of self-metrics."""

    evaluations: int = 0
    failures: int = 0
    missed: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class _Running:
    """A group that this process evaluates; fence is 0 if another process does."""

    name: str
    group: Group
    digest: str
    ids: list[str]
    fence: int = 0
    saved: SavedGroup = field(default_factory=SavedGroup)
    states: list[RuleState] = field(default_factory=list)


def group_name(group: Group) -> str:
    """Return a unique name for a group, made of its file name and its own name."""
    return f"{PurePath(group.file).name};{group.name}"


def slot_before(name: str, interval_ms: int, now: int) -> int:
    """Return the last time up to *now* at which the group with this name is due."""
    digest = blake2b(name.encode(), digest_size=8).digest()
    shift = int.from_bytes(digest, "big") % interval_ms
    return now - (now - shift) % interval_ms


class Runner:
    """Evaluates the groups for which it gets the lease.

    Args:
        send: Called with the alerts for Alertmanagers, as returned by `alert_payload`.
        problems: Returns the problems of this process, for the doctor.
        is_silent: Whether to log nothing.
    """

    def __init__(
        self,
        namespace: str,
        groups: Sequence[Group],
        holder: str,
        *,
        around: Surroundings,
        default_interval_ms: int,
        lease_ms: int,
        resend_delay_ms: int,
        send: Callable[[list[dict[str, object]]], None],
        problems: Callable[[], list[str]] = list,
        is_silent: bool = False,
    ) -> None:
        self._namespace, self._holder = namespace, holder
        self._around, self._default_interval = around, default_interval_ms
        self._lease_ms, self._resend_delay = lease_ms, resend_delay_ms
        self._send, self._problems, self._is_silent = send, problems, is_silent
        self._differing: set[str] = set()
        self.counts = RunnerCounts()
        self._running: dict[str, _Running] = {}
        self.replace(groups)

    def replace(self, groups: Sequence[Group]) -> None:
        """Replace the rules. Alerts of unchanged rules keep their state."""
        running = {}
        for group in groups:
            name = group_name(group)
            new = _Running(name, group, text_digest(group), rule_ids(group))
            old = self._running.get(name)
            if old is not None:
                new.fence, new.saved = old.fence, old.saved
                new.states = _states_of(new.ids, dict(zip(old.ids, old.states, strict=False)))
            running[name] = new
        self._gone = [each for each in self._running.values() if each.name not in running]
        self._running = running

    def interval_ms(self, group: Group) -> int:
        """Return the interval of a group."""
        return group.interval_ms or self._default_interval

    def next_due(self, now: int) -> int:
        """Return when a group of this process is due next; Unix ms."""
        times = [
            slot_before(each.name, self.interval_ms(each.group), now) + self.interval_ms(each.group)
            for each in self._running.values()
            if each.fence
        ]
        return min(times, default=now + self._lease_ms)

    def take_leases(self, client: Client, now: int = 0) -> None:
        """Renew the leases of this process' groups, and take free ones.

        *now* is noted if another process evaluates different rules under the same group name.
        """
        key = keys.alerts(self._namespace).leases
        for gone in self._gone:
            run(client, release(key, gone.name, self._holder))
        self._gone = []
        for each in self._running.values():
            lease = run(client, take(key, each.name, self._holder, self._lease_ms))
            if lease.holder != self._holder:
                each.fence = 0
                self._compare(client, each, now)
            elif lease.fence != each.fence:
                self._load(client, each, lease.fence)

    def _compare(self, client: Client, each: _Running, now: int) -> None:
        if not run(client, note_other_text(self._namespace, each.name, each.digest, now)):
            self._differing.discard(each.name)
        elif each.name not in self._differing:
            self._differing.add(each.name)
            log.warning(
                "group %s: another process evaluates different rules of this name, which apply",
                each.name,
            )

    def _load(self, client: Client, each: _Running, fence: int) -> None:
        each.saved = run(client, load_group(self._namespace, each.name))
        by_id: dict[str, RuleState] = {}
        for name, saved in each.saved.alerts.items():
            state = by_id.setdefault(rule_id_of(name), RuleState())
            state.alerts[key_of(saved.alert.labels)] = saved.alert
        each.states = _states_of(each.ids, by_id)
        each.fence = fence

    def evaluate_next(self, client: Client, engine: Engine, now: int) -> bool:
        """Evaluate one group of this process that is due at *now*; return whether there was one.

        Raises:
            StoreError: If Redis is unreachable. Unsaved evaluations are repeated.
        """
        for each in self._running.values():
            interval = self.interval_ms(each.group)
            at = slot_before(each.name, interval, now)
            last = each.saved.status.evaluated_at
            if not each.fence or (last >= at and last <= now + _CLOCK_STEP_MS):
                continue
            missed = max((at - last) // interval - 1, 0) if last else 0
            self._evaluate(client, engine, each, at, missed)
            return True
        return False

    def _evaluate(
        self, client: Client, engine: Engine, each: _Running, at: int, missed: int
    ) -> None:
        began = self._around.clock()
        outcomes = list(evaluate_group(each.group, at, engine, each.states, self._around))
        took = self._around.clock() - began
        status = self._status(each, outcomes, at, took, missed)
        after, sending = self._after(each, outcomes, at)
        transitions = _transitions(each, outcomes, at)
        current = SavedGroup(status, after, [rule_fields(rule) for rule in each.group.rules])
        saved = run(
            client,
            save_group(self._namespace, each.name, each.fence, each.saved, current, transitions),
        )
        self.counts.evaluations += len(outcomes)
        self.counts.failures += sum(bool(outcome.error) for outcome in outcomes)
        self.counts.seconds += took
        if not saved:
            # Another process evaluates the group, and sends its alerts.
            log.warning(
                "group %s: another process evaluates it now, or Redis lost its data", each.name
            )
            each.fence = 0
            return
        self.counts.missed += missed
        if not self._is_silent:
            _report(each, outcomes, transitions)
        each.saved = current
        each.states = [outcome.state for outcome in outcomes]
        if sending:
            self._send(sending)

    def _status(
        self, each: _Running, outcomes: list[RuleOutcome], at: int, took: float, missed: int
    ) -> GroupStatus:
        return GroupStatus(
            name=each.group.name,
            file=each.group.file,
            text=each.digest,
            interval_ms=self.interval_ms(each.group),
            evaluated_at=at,
            took=took,
            missed=each.saved.status.missed + missed,
            holder=self._holder,
            rules=[
                RuleStatus(rule_id, outcome.error, outcome.took, at)
                for rule_id, outcome in zip(each.ids, outcomes, strict=True)
            ],
            problems=self._problems(),
        )

    def _after(
        self, each: _Running, outcomes: list[RuleOutcome], at: int
    ) -> tuple[dict[bytes, SavedAlert], list[dict[str, object]]]:
        """Return the alerts to save, and those to send."""
        valid_until = at + 4 * max(self.interval_ms(each.group), self._resend_delay)
        after: dict[bytes, SavedAlert] = {}
        sending = []
        alerts = [
            (rule_id, alert)
            for rule_id, outcome in zip(each.ids, outcomes, strict=True)
            for alert in outcome.state.alerts.values()
        ]
        for rule_id, alert in (*alerts, *_of_removed_rules(each, at)):
            name = alert_field(rule_id, alert)
            sent_at = _sent_at(each.saved.alerts.get(name), alert)
            if needs_sending(alert, sent_at, at, self._resend_delay):
                sent_at = at
                sending.append(
                    alert_payload(
                        alert,
                        valid_until,
                        self._around.external_labels,
                        self._around.external_url,
                    )
                )
            after[name] = SavedAlert(alert, sent_at)
        return after, sending

    def release(self, client: Client) -> None:
        """Release all leases, so that another process need not wait for them to expire."""
        key = keys.alerts(self._namespace).leases
        for each in self._running.values():
            if each.fence:
                run(client, release(key, each.name, self._holder))
                each.fence = 0


def _states_of(ids: Sequence[str], by_id: Mapping[str, RuleState]) -> list[RuleState]:
    return [by_id.get(each) or RuleState() for each in ids]


def _of_removed_rules(each: _Running, at: int) -> list[tuple[str, Alert]]:
    """Return alerts of rules that the group no longer has, which are over."""
    found = []
    for name, saved in each.saved.alerts.items():
        rule_id = rule_id_of(name)
        if rule_id not in each.ids and (alert := over(at, saved.alert)) is not None:
            found.append((rule_id, alert))
    return found


def _sent_at(saved: SavedAlert | None, alert: Alert) -> int:
    """Return when an alert was last sent; 0 if it became active again since."""
    if saved is None or saved.alert.active_since != alert.active_since:
        return 0
    return saved.sent_at


def _transitions(each: _Running, outcomes: list[RuleOutcome], at: int) -> list[StateChange]:
    found = []
    for before, outcome in zip(each.states, outcomes, strict=True):
        for alert, old, new in changes(before.alerts, outcome.state.alerts):
            found.append(
                StateChange(
                    at, each.group.name, outcome.rule.name, alert.labels, old, new, alert.value
                )
            )
    for name, (alert, _) in each.saved.alerts.items():
        if rule_id_of(name) not in each.ids and alert.state != RESOLVED:
            rule, labels = alert.labels.get("alertname", ""), alert.labels
            change = StateChange(
                at, each.group.name, rule, labels, alert.state, RESOLVED, alert.value
            )
            found.append(change)
    return found


def _report(each: _Running, outcomes: list[RuleOutcome], transitions: list[StateChange]) -> None:
    """Log changes: alerts that start or stop firing, and failing rules."""
    for change in transitions:
        if "firing" in (change.before, change.after):
            labels = ", ".join(f"{name}={value}" for name, value in sorted(change.labels.items()))
            state = "resolved" if change.after == "inactive" else change.after
            log.warning("alert %s is %s: %s", change.rule, state, labels)
    old = {status.rule: status.error for status in each.saved.status.rules}
    for rule_id, outcome in zip(each.ids, outcomes, strict=True):
        if outcome.error and outcome.error != old.get(rule_id):
            log.error("rule %s of group %s: %s", outcome.rule.name, each.group.name, outcome.error)
