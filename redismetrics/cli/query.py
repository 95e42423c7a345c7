"""The commands query, time-series, rollup and get-metrics: build a query and print its result."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.text import Text

from redismetrics.queries.query import Query, SamplesQuery

from . import options
from .options import (
    Archive,
    AsJson,
    Filter,
    GroupBy,
    Name,
    Namespace,
    Since,
    Type,
    Until,
    Url,
    Window,
)
from .printing import (
    bars,
    cell,
    has_blocks,
    is_for_people,
    make_console,
    print_json,
    print_lines,
    print_rows,
    print_value,
    sample_row,
    sparkline,
    table,
)

if TYPE_CHECKING:
    from redismetrics.queries.context import QueryContext
    from redismetrics.store.driver import Operation

_AGGREGATIONS = "count, sum, mean, min, max, last, stddev, median, rate, p0 to p100"
Aggregation = Annotated[
    str | None,
    typer.Option(
        "--aggregation", "-a", help=f"{_AGGREGATIONS} (default: list samples).", metavar="A"
    ),
]
Aggregations = Annotated[
    list[str] | None,
    typer.Option(
        "--aggregation",
        "-a",
        help=f"{_AGGREGATIONS}. Can be repeated, or separated by commas.",
        metavar="A,A",
    ),
]
AllNames = Annotated[
    str | None,
    typer.Argument(
        help="The metric name (default: all metrics).",
        metavar="[NAME]",
        autocompletion=options.complete_names,
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=0, help="Maximum number of samples to print.")]
Interval = Annotated[
    str,
    typer.Option(
        "--interval", "-i", help="minute, hour, day, or a duration such as 5m.", metavar="I"
    ),
]
Fill = Annotated[bool, typer.Option("--fill", help="Also print intervals without samples.")]

Q = TypeVar("Q", Query, SamplesQuery)
T = TypeVar("T")


def query(
    name: Name,
    aggregation: Aggregation = None,
    group_by: GroupBy = None,
    window: Window = None,
    since: Since = None,
    until: Until = None,
    tag: Filter = None,
    as_json: AsJson = False,
    archive: Archive = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Aggregate a metric over a window (default: everything stored), or list its samples."""
    from redismetrics.queries.evaluate import evaluate

    query = Query(
        name,
        aggregation=aggregation,
        group_by=options.words(group_by),
        window=options.window(window, since, until),
        tags=options.filters(tag),
    )
    result = _run(evaluate, query, url, namespace, archive)
    if as_json:
        print_json(result)
    elif not isinstance(result, list):
        print_value(result)
    else:
        print_rows([row if isinstance(row, dict) else sample_row(row) for row in result])


def time_series(
    name: Name,
    interval: Interval = "hour",
    aggregation: Aggregations = None,
    group_by: GroupBy = None,
    window: Window = None,
    since: Since = None,
    until: Until = None,
    tag: Filter = None,
    fill: Fill = False,
    as_json: AsJson = False,
    archive: Archive = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Aggregate per interval (default: count per hour of the last 24 hours)."""
    from redismetrics.queries.time_series import time_series

    query = Query(
        name,
        interval=interval,
        aggregations=options.words(aggregation) or ["count"],
        group_by=options.words(group_by),
        window=options.window(window, since, until) or "last_24h",
        tags=options.filters(tag),
        fill=fill,
    )
    rows = _run(time_series, query, url, namespace, archive)
    if as_json:
        print_json(rows)
    elif not is_for_people():
        print_rows(rows)
    elif rows and not query.group_by and len(query.aggregations) == 1:
        print_lines(make_console(), bars(make_console(), rows, query.aggregations[0]))
    elif rows:
        _print_sparklines(rows, query.group_by, query.aggregations)


def _print_sparklines(
    rows: list[dict[str, Any]], group_by: Sequence[str], aggregations: Sequence[str]
) -> None:
    """Print one line per group and aggregation; an interval without samples is a space."""
    console = make_console()
    times = dict.fromkeys(sorted({row["timestamp"] for row in rows}))

    def group_of(row: dict[str, Any]) -> list[tuple[bool, str]]:
        return [(row[key] is not None, row[key] or "") for key in group_by]

    lines = []
    for _, part in groupby(sorted(rows, key=group_of), group_of):
        group = list(part)
        tags = {key: group[0][key] for key in group_by}
        for name in aggregations:
            values = {**times, **{row["timestamp"]: row[name] for row in group}}
            known = [value for value in values.values() if value is not None]
            shown = list(values.values())[-console.width :]
            lines.append(
                {
                    **tags,
                    "aggregation": name,
                    "min": min(known, default=None),
                    "max": max(known, default=None),
                    "newest": known[-1] if known else None,
                    "": Text(sparkline(shown, blocks=has_blocks(console))),
                }
            )
    console.print(table(lines), end="")
    first, last = min(times), max(times)
    console.print(f"  {cell(first)} to {cell(last)} UTC, {len(times)} intervals")


def rollup(
    name: Name,
    aggregation: Aggregations = None,
    group_by: GroupBy = None,
    window: Window = None,
    since: Since = None,
    until: Until = None,
    tag: Filter = None,
    as_json: AsJson = False,
    archive: Archive = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Aggregate each group over a window (default: mean and count of the last 24 hours)."""
    from redismetrics.queries.evaluate import rollup

    query = Query(
        name,
        aggregations=options.words(aggregation) or ("mean", "count"),
        group_by=options.words(group_by),
        window=options.window(window, since, until) or "last_24h",
        tags=options.filters(tag),
        keys="text" if as_json else "tuple",
    )
    result = _run(rollup, query, url, namespace, archive)
    if as_json:
        print_json(result)
    else:
        groups = [(dict(zip(query.group_by, key, strict=True)), row) for key, row in result.items()]
        print_rows([{**tags, **row} for tags, row in groups])


def get_metrics(
    name: AllNames = None,
    kind: Type = None,
    tag: Filter = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 1000,
    as_json: AsJson = False,
    archive: Archive = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """List the newest samples first, as they were recorded."""
    from redismetrics.queries.json_results import get_metrics

    query = SamplesQuery(
        name=name,
        type=kind,
        tags=options.filters(tag),
        since=options.time(since, "--since"),
        until=options.time(until, "--until"),
        limit=limit,
    )
    result = _run(get_metrics, query, url, namespace, archive)
    if as_json:
        print_json(result)
    else:
        columns = ("timestamp", "name", "type", "value", "tags", "metadata")
        print_rows([{column: sample[column] for column in columns} for sample in result["metrics"]])


def _run(
    read: "Callable[[QueryContext, Q], Operation[T]]",
    query: Q,
    url: str | None,
    namespace: str | None,
    archive: str | None,
) -> T:
    """Run *query* with the function *read* of `redismetrics.queries`, and return its result."""
    with options.client(url, namespace, archive) as metrics:
        if query.name is not None:
            options.check_exists(metrics, query.name)
        internals = metrics.internals
        return internals.run(read(internals.query_context, query), flush=True)
