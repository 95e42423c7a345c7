"""The commands that ask, and those that delete."""

import sys
from itertools import groupby
from typing import Annotated, Any

import typer
from rich.text import Text

from redismetrics.errors import InvalidQuery, RedisMetricsError

from . import options
from .options import AsJson, Filter, GroupBy, Name, Namespace, Since, Type, Until, Url, Window
from .printing import (
    bars,
    cell,
    has_blocks,
    is_for_people,
    make_console,
    plain,
    print_json,
    print_lines,
    print_rows,
    sample_row,
    sparkline,
    table,
)

_AGGREGATIONS = "count, sum, mean, min, max, last, stddev, median, rate, p0 to p100"
Aggregation = Annotated[
    str | None,
    typer.Option("--aggregation", "-a", help=f"{_AGGREGATIONS}; without it samples.", metavar="A"),
]
Aggregations = Annotated[
    list[str] | None,
    typer.Option(
        "--aggregation",
        "-a",
        help=f"{_AGGREGATIONS}. Repeatable, or joined by commas.",
        metavar="A,A",
    ),
]


def query(
    name: Name,
    aggregation: Aggregation = None,
    group_by: GroupBy = None,
    window: Window = None,
    since: Since = None,
    until: Until = None,
    tag: Filter = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Aggregate a metric over a window (all that is kept), or list its samples."""
    given = {"group_by": options.words(group_by), "window": options.window(window, since, until)}
    with options.client(url, namespace) as metrics:
        found = metrics.query(name, aggregation=aggregation, tags=options.filters(tag), **given)
    if as_json:
        print_json(found)
    elif not isinstance(found, list):
        print(cell(found) if is_for_people() else plain(found))
    else:
        print_rows([each if isinstance(each, dict) else sample_row(each) for each in found])


def time_series(
    name: Name,
    interval: Annotated[
        str, typer.Option("--interval", "-i", help="minute, hour, day, or such as 5m.", metavar="I")
    ] = "hour",
    aggregation: Aggregations = None,
    group_by: GroupBy = None,
    window: Window = None,
    since: Since = None,
    until: Until = None,
    tag: Filter = None,
    fill: Annotated[
        bool, typer.Option("--fill", help="Show intervals without samples too.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Aggregate (count) by intervals of a window (last_24h): bars, or a sparkline for each group."""
    wanted, groups = options.words(aggregation) or ["count"], options.words(group_by)
    with options.client(url, namespace) as metrics:
        found = metrics.time_series(
            name, interval=interval, aggregations=wanted, group_by=groups, fill=fill, tags=options.filters(tag),
            window=options.window(window, since, until) or "last_24h",
        )  # fmt: skip
    if as_json:
        print_json(found)
    elif not is_for_people():
        print_rows(found)
    elif found and not groups and len(wanted) == 1:
        print_lines(make_console(), bars(make_console(), found, wanted[0]))
    elif found:
        _print_sparklines(found, groups, wanted)


def _print_sparklines(
    rows: list[dict[str, Any]], groups: list[str], aggregations: list[str]
) -> None:
    """A line for each group and aggregation; an interval without samples is a space in it."""
    console = make_console()
    times = dict.fromkeys(sorted({row["timestamp"] for row in rows}))

    def key(row: dict[str, Any]) -> list[tuple[bool, str]]:
        return [(row[group] is not None, row[group] or "") for group in groups]

    shown = []
    for _, part in groupby(sorted(rows, key=key), key):
        of_group = list(part)
        for name in aggregations:
            values = {**times, **{row["timestamp"]: row[name] for row in of_group}}
            known = [value for value in values.values() if value is not None]
            line = sparkline(list(values.values())[-console.width :], blocks=has_blocks(console))
            shown.append({
                **{group: of_group[0][group] for group in groups}, "aggregation": name, "min": min(known, default=None),
                "max": max(known, default=None), "newest": known[-1] if known else None, "": Text(line),
            })  # fmt: skip
    console.print(table(shown), end="")
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
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Several aggregations (mean, count) of each group over a window (last_24h)."""
    groups = options.words(group_by)
    given: dict[str, Any] = {
        "group_by": groups, "aggregations": options.words(aggregation) or ("mean", "count"),
        "window": options.window(window, since, until) or "last_24h", "tags": options.filters(tag),
    }  # fmt: skip
    with options.client(url, namespace) as metrics:
        if as_json:
            print_json(metrics.rollup(name, **given))
            return
        found = metrics.rollup(name, keys="tuple", **given)
    print_rows([{**dict(zip(groups, key, strict=True)), **row} for key, row in found.items()])


def list_metrics(as_json: AsJson = False, url: Url = None, namespace: Namespace = None) -> None:
    """All metrics, with type, unit, help, how many series, and when they were last recorded (UTC)."""
    with options.client(url, namespace) as metrics:
        found = metrics.list_metrics()
    if as_json:
        print_json(found)
    else:
        print_rows(found)


def tag_values(
    name: Name,
    key: Annotated[str, typer.Argument(help="The tag.", metavar="KEY")],
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """The values of a tag over all series of a metric."""
    with options.client(url, namespace) as metrics:
        found = metrics.tag_values(name, key)
    if as_json:
        print_json(found)
    else:
        for value in found:
            print(cell(value) if is_for_people() else plain(value))


def get_metrics(
    name: Annotated[
        str | None,
        typer.Argument(
            help="The metric; without it all.",
            metavar="[NAME]",
            autocompletion=options.complete_names,
        ),
    ] = None,
    kind: Type = None,
    tag: Filter = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="How many at most.")] = 1000,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """The newest samples first, as they were recorded."""
    with options.client(url, namespace) as metrics:
        found = metrics.get_metrics(
            name=name, type=kind, tags=options.filters(tag), since=options.time(since, "--since"),  # type: ignore[arg-type]
            until=options.time(until, "--until"), limit=limit,
        )  # fmt: skip
    if as_json:
        print_json(found)
    else:
        columns = ("timestamp", "name", "type", "value", "tags", "metadata")
        print_rows([{column: sample[column] for column in columns} for sample in found["metrics"]])


def stats(as_json: AsJson = False, url: Url = None, namespace: Namespace = None) -> None:
    """What the store holds, who writes, and how far the workers are."""
    with options.client(url, namespace) as metrics:
        found = metrics.get_stats()
    if as_json:
        print_json(found)
    else:
        rows = [{"figure": key, "value": value} for key, value in found["storage"].items()]
        print_rows([{**row, "value": _text(row["value"])} for row in rows])


def _text(figure: Any) -> str:
    if isinstance(figure, list):
        return f"{len(figure)}"
    if isinstance(figure, dict):
        return " ".join(f"{key}={_text(value)}" for key, value in figure.items())
    return cell(figure) if is_for_people() else plain(figure)


def delete(
    name: Name,
    tag: Filter = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Delete a metric with all it holds, or those of its series that have a tag."""
    if tag:
        with options.client(url, namespace) as metrics:
            many = metrics.delete_series(name, options.filters(tag))
        if not many:
            raise RedisMetricsError(f"no series of {name!r} has {' '.join(tag)}")
        print(f"Deleted {many} series of {name}.")
        return
    with options.client(url, namespace) as metrics:
        if not metrics.delete_metric(name):
            raise RedisMetricsError(
                f"there is no metric {name!r} in namespace {metrics.settings.namespace!r}: redismetrics list shows them"
            )
    print(f"Deleted {name}.")


def clear(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Delete all metrics of the namespace. Asks first."""
    with options.client(url, namespace) as metrics:
        where = metrics.settings.namespace
        if not yes:
            if not sys.stdin.isatty():
                raise InvalidQuery(
                    f"clear deletes all of {where!r}, and nobody is there to be asked: say --yes"
                )
            many = len(metrics.list_metrics())
            if not typer.confirm(f"Delete all {many} metrics of namespace {where!r}?", err=True):
                raise RedisMetricsError("nothing was deleted")
        print(f"Deleted {metrics.clear(confirm=True)} metrics.")
