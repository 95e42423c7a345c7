"""Build the dashboards that ask redismetrics directly, without a Prometheus.

    pip install grafana-foundation-sdk
    python deploy/grafana/build.py

It writes deploy/grafana/direct/dashboards. A test compares the files with what this builds, and
evaluates every expression and variable.
"""

from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import HeatmapCellLayout
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableRefresh, VariableSort
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FOLDER = Path(__file__).parent / "direct" / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="redismetrics")

# Windows that suit the step; whole minutes, since the data source's interval is one.
RATE = "$__rate_interval"
# A selector needs a matcher that no empty name matches.
GAUGES = '{__name__=~".+", __name__!~".+_(total|bucket|sum|count)"}'
REQUESTS = "http_requests_total"
DURATION = "http_request_duration_seconds"


def query(expression: str, legend: str = "__auto", *, buckets: bool = False) -> Any:
    made = prometheus.Dataquery().datasource(SOURCE).expr(expression).legend_format(legend)
    return made.format(PromQueryFormat.HEATMAP) if buckets else made


def graph(title: str, *queries: Any, unit: str = "short", width: int = 12, text: str = "") -> Any:
    made = timeseries.Panel().title(title).description(text).datasource(SOURCE).unit(unit)
    made = made.span(width).height(8).min(0).fill_opacity(10)
    for each in queries:
        made = made.with_target(each)
    return made


def number(title: str, target: Any, unit: str = "short") -> Any:
    return (
        stat.Panel()
        .title(title)
        .datasource(SOURCE)
        .unit(unit)
        .span(6)
        .height(4)
        .with_target(target)
    )


def names(name: str, label: str, selector: str, regex: str = "") -> Any:
    """Return a variable with the names of metrics that *selector* matches."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(f"label_values({selector}, __name__)")
        .regex(regex)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )


def quantile(rank: float, metric: str, by: str = "") -> str:
    """Return a percentile of the digests of a histogram, as exact as the API's."""
    group = f" by ({by})" if by else ""
    return f"histogram_quantile({rank}, sum{group} (rate({metric}[{RATE}])))"


def overview() -> Any:
    """Return the dashboard of HTTP requests and of any metric."""
    errors = f'sum(rate({REQUESTS}{{status=~"5.."}}[{RATE}])) or vector(0)'
    ranks = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    any_metric = '{__name__="$histogram"}'
    return (
        dashboard.Dashboard("redismetrics")
        .uid("redismetrics-direct")
        .tags(["redismetrics"])
        .time("now-1h", "now")
        .refresh("15s")
        .with_variable(names("counter", "Counter", '{__name__=~".+_total"}'))
        .with_variable(names("gauge", "Gauge", GAUGES))
        .with_variable(names("histogram", "Histogram", '{__name__=~".+_bucket"}', "/(.*)_bucket/"))
        .with_row(dashboard.Row("HTTP requests (recorded by the middleware)"))
        .with_panel(number("Requests", query(f"sum(rate({REQUESTS}[{RATE}]))"), "reqps"))
        .with_panel(
            number(
                "5xx responses",
                query(f"({errors}) / sum(rate({REQUESTS}[{RATE}]))"),
                "percentunit",
            )
        )
        .with_panel(number("p95", query(quantile(0.95, DURATION)), "s"))
        .with_panel(number("Requests today", query(f"sum(increase({REQUESTS}[24h]))")))
        .with_panel(
            graph(
                "Requests by endpoint",
                query(f"sum by (endpoint) (rate({REQUESTS}[{RATE}]))"),
                unit="reqps",
            )
        )
        .with_panel(
            graph(
                "Request duration",
                *(query(quantile(rank, DURATION), legend) for legend, rank in ranks),
                unit="s",
            )
        )
        .with_panel(
            graph(
                "p95 by endpoint", query(quantile(0.95, DURATION, "endpoint")), unit="s", width=24
            )
        )
        .with_row(dashboard.Row("Any metric"))
        .with_panel(
            graph(
                "$counter, per second",
                query(f'topk(20, rate({{__name__="$counter"}}[{RATE}]))'),
                text="The 20 largest series.",
            )
        )
        .with_panel(
            graph("$gauge", query('topk(20, {__name__="$gauge"})'), text="The 20 largest series.")
        )
        .with_panel(
            graph(
                "$histogram, percentiles",
                *(query(quantile(rank, any_metric), legend) for legend, rank in ranks),
                text="Of digests, not of buckets.",
            )
        )
        .with_panel(
            heatmap.Panel()
            .title("$histogram, distribution of values")
            .datasource(SOURCE)
            .span(12)
            .height(8)
            .calculate(False)
            .rows_frame(heatmap.RowsHeatmapOptions().layout(HeatmapCellLayout.AUTO))
            .with_target(
                query(
                    f'sum by (le) (increase({{__name__="${{histogram}}_bucket"}}[{RATE}]))',
                    "{{le}}",
                    buckets=True,
                )
            )
        )
        .with_panel(
            graph(
                "$histogram, values per second",
                query(f'sum(rate({{__name__="${{histogram}}_count"}}[{RATE}]))'),
                width=24,
            )
        )
    )


def texts() -> dict[str, str]:
    """Return the text of each file."""
    return {"redismetrics.json": JSONEncoder(sort_keys=True, indent=2).encode(overview().build())}


if __name__ == "__main__":
    for name, text in texts().items():
        (FOLDER / name).write_text(text + "\n")
