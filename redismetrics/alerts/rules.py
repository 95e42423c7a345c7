"""Alert and recording rules, and their groups."""

from dataclasses import dataclass, field

# Our own settings are annotations, so that a file remains valid for Prometheus.
NO_DATA = "redismetrics_no_data"
ON_ERROR = "redismetrics_on_error"


@dataclass(frozen=True, slots=True)
class Rule:
    """An alert rule, or a recording rule if *record* is set.

    Attributes:
        name: Name of the alert, or of the recorded metric.
        for_ms, keep_firing_for_ms: In ms; 0 for recording rules.
        line: Line of the expression in its file, from 1.
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
    """Rules that are evaluated in order, at the same times.

    Attributes:
        interval_ms: The interval; None means the default.
        query_offset_ms: How far back in time expressions are evaluated.
        limit: Maximum number of alerts or series of a rule; 0 means no limit.
    """

    name: str
    rules: tuple[Rule, ...]
    interval_ms: int | None = None
    query_offset_ms: int = 0
    limit: int = 0
    file: str = ""
