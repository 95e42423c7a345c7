"""Rule files to start from: burn rates of an objective, anomalies, absence, forecasts.

Each function returns the text of a file for people to read and edit, in Prometheus' format.
"""

import json
import re

from redismetrics.errors import InvalidQuery, shown

from .durations import duration_text, parse_duration
from .expressions import check_expression

# Windows of https://sre.google/workbook/alerting-on-slos/, for a budget of 30 days: the burn rate,
# the long and the short window, and the severity.
_BURN_RATES = (
    (14.4, "1h", "5m", "page"),
    (6.0, "6h", "30m", "page"),
    (1.0, "3d", "6h", "ticket"),
)
_WORD = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def slo(name: str, errors: str, total: str, objective: float) -> str:
    """Return alerts on the burn rate of an objective's 30-day error budget.

    *errors* and *total* are selectors of counters, such as `http_requests_total{status=~"5.."}`;
    *objective* is in percent.

    Raises:
        InvalidQuery: If an argument is not valid.
    """
    _check_name(name)
    _check_selector("errors", errors)
    _check_selector("total", total)
    if not 0 < objective < 100:
        raise InvalidQuery(f"objective must be between 0 and 100 percent, got {shown(objective)}")
    budget = round(1 - objective / 100, 12)
    labels = f'{{slo="{name}"}}'
    lines = [
        f"# The objective: {objective:g} % of requests succeed, over 30 days.",
        "# Each alert compares two windows: a long one to ignore brief errors, and a short one",
        "# to end with the problem: https://sre.google/workbook/alerting-on-slos/",
        "groups:",
        f"  - name: slo-{name}-ratios",
        "    rules:",
    ]
    windows = {window for _, long, short, _ in _BURN_RATES for window in (long, short)}
    for window in sorted(windows, key=parse_duration):
        lines += [
            f"      - record: slo:error_ratio:rate{window}",
            "        expr: "
            + _quoted(f"sum(rate({errors}[{window}])) / sum(rate({total}[{window}]))"),
            f"        labels: {{slo: {_quoted(name)}}}",
        ]
    lines += [f"  - name: slo-{name}-alerts", "    rules:"]
    for factor, long, short, severity in _BURN_RATES:
        limit = f"({factor:g} * {budget:.12g})"
        both = " and ".join(
            f"slo:error_ratio:rate{window}{labels} > {limit}" for window in (long, short)
        )
        description = (
            "{{ $value | humanizePercentage }} of requests failed; at the rate of the last "
            f"{long}, the budget of 30 days is gone in {30 / factor:.3g} days."
        )
        lines += [
            "      - alert: ErrorBudgetBurns",
            f"        expr: {_quoted(both)}",
            f"        labels: {{severity: {severity}, burn_rate: '{factor:g}'}}",
            "        annotations:",
            f'          summary: "{name} uses its error budget {factor:g} times too fast"',
            f"          description: {_quoted(description)}",
        ]
    return "\n".join(lines) + "\n"


def anomaly(
    name: str, selector: str, function: str, *, window: str = "1h", weeks: int = 4, width: float = 3
) -> str:
    """Return an alert for a metric that is far from its values at the same time in past weeks.

    *function* is a range function: `rate` for counters, `avg_over_time` for gauges. Its value is
    compared with the mean of the same hour (UTC) of the last *weeks*, plus and minus *width*
    standard deviations; nothing is compared until there are that many weeks. The hours come from
    rollups.

    Raises:
        InvalidQuery: If an argument is not valid.
    """
    _check_name(name)
    _check_selector("selector", selector)
    _check_duration("window", window)
    if not 2 <= weeks <= 12:
        raise InvalidQuery(f"weeks must be from 2 to 12, got {shown(weeks)}")
    if not 0 < width <= 100:
        raise InvalidQuery(f"width must be from 0 to 100 standard deviations, got {shown(width)}")
    now = f"{function}({selector}[{window}])"
    past = [f"{function}({selector}[{window}] offset {week}w)" for week in range(1, weeks + 1)]
    _check("function", now)
    mean = f"({' + '.join(past)}) / {weeks}"
    # The mean of squares minus the square of the mean; rounding may make it slightly negative.
    squares = f"({' + '.join(f'{each} ^ 2' for each in past)}) / {weeks}"
    deviation = f"sqrt(clamp_min({squares} - ({mean}) ^ 2, 0))"
    return f"""\
# Far from usual: more than {width:g} standard deviations from the mean of the same time, UTC, in
# the last {weeks} weeks.
groups:
  - name: anomaly-{name}
    interval: 5m
    rules:
      - record: {name}:now
        expr: {_quoted(now)}
      - record: {name}:usual
        expr: {_quoted(mean)}
      - record: {name}:usual_deviation
        expr: {_quoted(deviation)}
      - alert: FarFromUsual
        expr: {_quoted(f"abs({name}:now - {name}:usual) > {width:g} * {name}:usual_deviation > 0")}
        for: 15m
        labels: {{severity: ticket, metric: {_quoted(name)}}}
        annotations:
          summary: "{name} is {{{{ $value | humanize }}}} away from its usual value at this time"
"""


def absent(name: str, selector: str, *, window: str = "10m") -> str:
    """Return alerts for a metric, or some of its series, that has no more samples.

    Raises:
        InvalidQuery: If an argument is not valid.
    """
    _check_name(name)
    _check_selector("selector", selector)
    _check_duration("window", window)
    series = f"count_over_time({selector}[1d]) unless count_over_time({selector}[{window}])"
    return f"""\
# Nothing was recorded: the process may be gone, or no longer reach that code.
groups:
  - name: absent-{name}
    rules:
      - alert: MetricIsAbsent
        expr: {_quoted(f"absent_over_time({selector}[{window}])")}
        for: 5m
        labels: {{severity: page, metric: {_quoted(name)}}}
        annotations:
          summary: "nothing was recorded for {name} in {window}"
      - alert: SeriesIsAbsent
        expr: {_quoted(series)}
        for: 5m
        labels: {{severity: ticket, metric: {_quoted(name)}}}
        annotations:
          summary: "a series of {name} was recorded today, but not in the last {window}"
"""


def forecast(
    name: str, selector: str, limit: float, *, history: str = "6h", ahead: str = "1d"
) -> str:
    """Return an alert for a gauge that will soon reach *limit* if the trend of *history* continues.

    Raises:
        InvalidQuery: If an argument is not valid.
    """
    _check_name(name)
    _check_selector("selector", selector)
    _check_duration("history", history)
    seconds = _check_duration("ahead", ahead) / 1000
    line = f"predict_linear({selector}[{history}], {seconds:.0f})"
    return f"""\
# A straight line through the last {history} crosses the limit within {ahead}.
groups:
  - name: forecast-{name}
    rules:
      - alert: LimitIsNear
        expr: {_quoted(f"{line} >= {limit:.12g} and {selector} < {limit:.12g}")}
        for: 30m
        labels: {{severity: ticket, metric: {_quoted(name)}}}
        annotations:
          summary: "{name} reaches {limit:.12g} within {ahead} if the trend continues"
      - alert: LimitIsReached
        expr: {_quoted(f"{selector} >= {limit:.12g}")}
        for: 5m
        labels: {{severity: page, metric: {_quoted(name)}}}
        annotations:
          summary: "{name} is {{{{ $value | humanize }}}}, the limit is {limit:.12g}"
"""


def _quoted(text: str) -> str:
    """Return text as YAML, which accepts JSON strings."""
    return json.dumps(text, ensure_ascii=False)


def _check_name(name: str) -> None:
    if not _WORD.fullmatch(name) or len(name) > 100:
        raise InvalidQuery(f"name must be letters, digits and _, got {shown(name, 80)}")


def _check_selector(what: str, selector: str) -> None:
    _check(what, f"count_over_time({selector}[5m])")


def _check(what: str, expression: str) -> None:
    try:
        check_expression(expression)
    except ValueError as error:
        raise InvalidQuery(
            f"{what} must be a selector, such as jobs_total{{a='b'}}: {error}"
        ) from error


def _check_duration(what: str, text: str) -> int:
    try:
        found = parse_duration(text)
    except ValueError as error:
        raise InvalidQuery(f"{what} must be a duration, such as 30m: {error}") from error
    if found <= 0:
        raise InvalidQuery(f"{what} must be longer than {duration_text(0)}, got {text}")
    return found
