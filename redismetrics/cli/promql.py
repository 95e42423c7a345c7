"""The command promql: print the value of an expression, or a line of blocks per series."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from redismetrics.model.time_text import TIME_FORMS

from . import options
from .options import Archive, AsJson, Namespace, Url
from .printing import (
    cell,
    has_blocks,
    is_for_people,
    make_console,
    print_json,
    print_rows,
    print_value,
    sparkline,
    table,
)

if TYPE_CHECKING:
    from redismetrics.promql.answer import Answer
    from redismetrics.promql.prepare import Prepared

Expression = Annotated[
    str, typer.Argument(help="The expression, such as sum(rate(jobs_total[5m])).", metavar="EXPR")
]
At = Annotated[str | None, typer.Option(help=f"When (default: now): {TIME_FORMS}.", metavar="TIME")]
First = Annotated[
    str | None,
    typer.Option("--since", help=f"Start of a range: {TIME_FORMS}.", metavar="TIME"),
]
Last = Annotated[
    str | None,
    typer.Option("--until", help="End of a range, inclusive (default: now).", metavar="TIME"),
]
Step = Annotated[
    str | None,
    typer.Option(help="Step of a range (default: 1m), such as 5m or hour.", metavar="STEP"),
]


def promql(
    expression: Expression,
    at: At = None,
    since: First = None,
    until: Last = None,
    step: Step = None,
    as_json: AsJson = False,
    archive: Archive = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Evaluate a PromQL expression now, at another time, or over a range."""
    from redismetrics.errors import InvalidQuery
    from redismetrics.promql.mapping import ask

    is_range = any(each is not None for each in (since, until, step))
    if is_range and at is not None:
        raise InvalidQuery("--at cannot be used together with --since, --until or --step")
    with options.client(url, namespace, archive) as metrics:
        now_ms = round(metrics.internals.clock() * 1000)
        if is_range:
            times = options.time(since, "--since"), options.time(until, "--until")
            prepared = ask.range_query(expression, *times, step, now_ms)
        else:
            prepared = ask.instant_query(expression, options.time(at, "--at"), now_ms)
        answer = _evaluate(metrics, prepared)
    for text in (*answer.warnings, *answer.infos):
        print(f"redismetrics: {text}", file=sys.stderr)
    result = ask.plain_result(answer)
    if as_json:
        print_json(result)
    elif not isinstance(result, list):
        print_value(result)
    elif is_range and is_for_people():
        _print_lines(result)
    else:
        print_rows(_flat(result))


def _evaluate(metrics: Any, prepared: "Prepared") -> "Answer":
    from redismetrics.promql.mapping import ask

    idle_ms = round(metrics.settings.series_idle * 1000)
    internals = metrics.internals
    answer: Answer = internals.run(ask.ask(internals.query_context, prepared, idle_ms), flush=True)
    return answer


def _flat(result: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per value, with a column per label."""
    names = list(dict.fromkeys(name for each in result for name in each["labels"]))
    rows = []
    for each in result:
        labels = {name: each["labels"].get(name) for name in names}
        values = each.get("values") or each.get("histograms")
        if values is None:
            value = each["value"] if "value" in each else each["histogram"]
            values = [(each["timestamp"], value)]
        rows += [{"timestamp": time, **labels, "value": value} for time, value in values]
    return rows


def _print_lines(result: list[dict[str, Any]]) -> None:
    """Print one line per series; a time without a value is a space."""
    console = make_console()
    times = sorted({time for each in result for time, _ in each.get("values", ())})
    names = list(dict.fromkeys(name for each in result for name in each["labels"]))
    lines = []
    for each in result:
        values = dict(each.get("values", ()))
        if values:
            known = list(values.values())
            shown = [values.get(time) for time in times][-console.width :]
            lines.append(
                {
                    **{name: each["labels"].get(name) for name in names},
                    "min": min(known),
                    "max": max(known),
                    "newest": known[-1],
                    "": Text(sparkline(shown, blocks=has_blocks(console))),
                }
            )
    if lines:
        console.print(table(lines), end="")
        console.print(f"  {cell(times[0])} to {cell(times[-1])} UTC, {len(times)} times")
