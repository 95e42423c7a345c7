"""The demo's alert: it fires on the recorded samples, and ends two minutes later."""

from collections.abc import Iterable
from typing import Any

from redismetrics.client.metrics import Metrics
from redismetrics.errors import MissingExtra

RULE = """\
groups:
  - name: demo
    rules:
      - alert: JobsFail
        expr: sum by (tenant) (increase(jobs_completed_total{status="failed"}[1m])) > 0
        annotations: {summary: "{{ $value }} jobs of {{ $labels.tenant }} failed"}
"""
_LATER_MS = 120_000


def run_alert(metrics: Metrics) -> list[dict[str, Any]] | None:
    """Evaluate the rule for now and for two minutes from now; return its alerts' state changes.

    Return None if the extra `alerts` is not installed.
    """
    now_ms = round(1000 * metrics.internals.clock())
    try:
        evaluate(metrics, RULE, (now_ms, now_ms + _LATER_MS))
    except MissingExtra:
        return None
    changes: list[dict[str, Any]] = metrics.alert_history()
    return list(reversed(changes))


def evaluate(metrics: Metrics, rules: str, times_ms: Iterable[int]) -> None:
    """Evaluate a group of rules at each of these times, in ascending order.

    Raises:
        MissingExtra: If the extra `alerts` is not installed.
    """
    from redismetrics.alerts.evaluate import Surroundings
    from redismetrics.alerts.expressions import check_expression
    from redismetrics.alerts.rule_file import parse_rules
    from redismetrics.alerts.runner import Runner
    from redismetrics.alerts.start import store_engine
    from redismetrics.store.connection import Store

    runner = Runner(
        metrics.settings.namespace,
        parse_rules(rules.encode(), check_expression, "demo.yml"),
        "demo",
        around=Surroundings(),
        default_interval_ms=1000,
        lease_ms=60_000,
        resend_delay_ms=60_000,
        send=lambda _: None,
        is_silent=True,
    )
    store = Store(metrics.settings.url, metrics.settings.socket_timeout)
    try:
        client = store.client()
        runner.take_leases(client)
        for at in times_ms:
            runner.evaluate_next(client, store_engine(metrics), at)
        runner.release(client)
    finally:
        store.close()
