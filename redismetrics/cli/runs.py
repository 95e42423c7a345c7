"""The command runs: a summary of each run, and its curve."""

from typing import Annotated, Any

import typer
from rich.text import Text

from . import options
from .options import AsJson, Filter, GroupBy, Name, Namespace, Since, Until, Url, Window
from .printing import (
    has_blocks,
    is_for_people,
    make_console,
    print_json,
    print_rows,
    sparkline,
    table,
)

# Characters of a curve in a table.
_CURVE = 40


def runs(
    name: Name,
    group_by: GroupBy = None,
    x: Annotated[
        str,
        typer.Option(
            "--x", help="elapsed, time, or a key of metadata such as metadata.step.", metavar="X"
        ),
    ] = "elapsed",
    window: Window = None,
    since: Since = None,
    until: Until = None,
    tag: Filter = None,
    whole: Annotated[
        bool,
        typer.Option(
            "--whole", help="Read runs from their beginning if they were recorded in the window."
        ),
    ] = False,
    points: Annotated[
        int, typer.Option("--points", min=10, max=2000, help="Maximum number of points per curve.")
    ] = 500,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Maximum number of runs.")] = 50,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Compare runs: the last, minimum and maximum value and the duration of each, newest run first.

    A run is a group of series, such as those with the same value of the tag run. Curves are drawn
    on a terminal and printed with --json.
    """
    with options.client(url, namespace) as metrics:
        options.check_exists(metrics, name)
        found = metrics.runs(
            name,
            group_by=options.words(group_by),
            x=x,
            window=options.window(window, since, until),
            tags=options.filters(tag),
            whole=whole,
            points=points,
            limit=limit,
        )
    if as_json:
        print_json(found)
    elif is_for_people():
        console = make_console()
        blocks = has_blocks(console)
        rows = [{**_figures(run), "": Text(_curve(run, blocks=blocks))} for run in found]
        console.print(table(rows), end="")
    else:
        print_rows([_figures(run) for run in found])


def _figures(run: dict[str, Any]) -> dict[str, Any]:
    names = ("last", "min", "max", "count", "seconds")
    return {**run["tags"], **{name: run[name] for name in names}}


def _curve(run: dict[str, Any], *, blocks: bool) -> str:
    """Return the curve as a line of text: the last value in each of several equal ranges of x."""
    x, y = run["x"], run["y"]
    if not x:
        return ""
    count = min(_CURVE, len(x))
    values: list[float | None] = [None] * count
    width = (x[-1] - x[0]) / count or 1
    for place, value in zip(x, y, strict=True):
        values[min(int((place - x[0]) / width), count - 1)] = value
    return sparkline(values, blocks=blocks)
