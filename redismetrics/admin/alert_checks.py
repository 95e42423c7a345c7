"""A check of the rules evaluated in a namespace."""

from redismetrics.alerts.listing import findings
from redismetrics.alerts.store import load_groups
from redismetrics.store.driver import Operation
from redismetrics.store.server import now

from .findings import Finding

# Maximum number of problems in the text of a finding; its details list all.
_SHOWN = 3


def check_alerts(namespace: str) -> Operation[list[Finding]]:
    """Return findings about the evaluation of rules, or nothing if there are no rules."""
    groups = yield from load_groups(namespace)
    if not groups:
        return []
    problems = findings(groups, (yield from now()))
    rules = sum(len(group.status.rules) for group in groups.values())
    if not problems:
        text = f"{rules} rules in {len(groups)} groups are evaluated"
        return [Finding("alerts", "ok", text)]
    shown = "; ".join(problems[:_SHOWN]) + ("; ..." if len(problems) > _SHOWN else "")
    return [
        Finding(
            "alerts",
            "warning",
            shown,
            "See `redismetrics alerts list --rules`, and the log of the process that evaluates "
            "them.",
            details={"problems": problems},
        )
    ]
