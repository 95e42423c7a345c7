"""Alert and recording rules, and their groups."""

from dataclasses import dataclass, field

# Annotations of ours, so that a file stays valid for Prometheus.
NO_DATA = "redismetrics_no_data"
ON_ERROR = "redismetrics_on_error"


@dataclass(frozen=True, slots=True)
class Rule:
    """An alert rule, or a recording rule if *record* is set.

    Attributes:
        name: Of the alert, or of the metric that is recorded.
        for_ms, keep_firing_for_ms: In ms; 0 for recording rules.
        line: Of the expression in its file, from 1.
    """

    name: str
    expr: str
    is_alert: bool
    for_ms: int = 0
    keep_firing_for_ms: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    line: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated one after the other, at the same times.

    Attributes:
        interval_ms: None for the default of the evaluation.
        query_offset_ms: How far in the past expressions are evaluated.
        limit: Alerts or series that a rule may give; 0 for any number.
    """

    name: str
    rules: tuple[Rule, ...]
    interval_ms: int | None = None
    query_offset_ms: int = 0
    limit: int = 0
    file: str = ""
