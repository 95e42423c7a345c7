"""The command `top`: its screen, drawn by rich, and its loop. Without a terminal it prints one table and leaves.

On rich and not on textual: rich is needed anyway, what is drawn is one table, and textual would add four packages, 3 MB and a
major version every few months for the sake of thirty lines that read keys.
"""

import os
import signal
import sys
from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from redismetrics.cli import options
from redismetrics.cli.options import AsJson, Namespace, Url
from redismetrics.cli.printing import (
    cell,
    has_blocks,
    is_for_people,
    make_console,
    print_json,
    print_rows,
    sparkline,
)
from redismetrics.client.metrics import Metrics
from redismetrics.errors import InvalidQuery

from .board import COLUMNS, TREND_MINUTES, Line, View
from .keyboard import Keyboard
from .poller import Watcher, asked, catalogue

_TICK = 0.25  # seconds between two looks at keys and at the board
_KEYS = "n t s r l p sort, again reverses   / filter   space pause   arrows scroll   q quit"
_LEAST_WIDTHS = {
    "last": 32,
    "p95": 42,
    "type": 60,
    "series": 60,
}  # of a terminal that shows the column
_AROUND = 4  # lines of the screen that are not metrics


def top(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Metrics, or patterns such as 'jobs_*'; without any all.",
            metavar="[NAME]...",
            autocompletion=options.complete_names,
        ),
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", help=f"{', '.join(COLUMNS.values())}.", metavar="COLUMN")
    ] = "rate",
    every: Annotated[
        float,
        typer.Option("--every", min=0.1, max=60, help="Seconds between two rates.", metavar="S"),
    ] = 2,
    once: Annotated[
        bool, typer.Option("--once", help="Print one table and leave, as without a terminal.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="With one table: so many lines.", metavar="N"),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Watch all metrics: rate per second, last value, p95 and the last minutes of each. Keys sort, filter, pause and quit.

    In a pipe, on a dumb terminal, with --once or --json it prints one table and leaves.
    """
    if sort not in COLUMNS.values():
        raise InvalidQuery(f"--sort: wanted {', '.join(COLUMNS.values())}, got {sort!r:.80}")
    console = make_console()
    at_terminal = sys.stdin.isatty() and is_for_people() and not console.is_dumb_terminal
    view = View(sort)
    with options.terminable(), options.client(url, namespace) as metrics:
        if once or as_json or not at_terminal:
            _print_once(metrics, names or [], view, limit, as_json)
            return
        with closing(Watcher(metrics, names or [], every)) as watcher:
            _watch(console, watcher, view, metrics.settings.namespace)


def _print_once(
    metrics: Metrics, names: list[str], view: View, limit: int | None, as_json: bool
) -> None:
    lines = [Line(row["name"], row["type"], row["series"]) for row in catalogue(metrics, names)]
    found = view.chosen(asked(metrics, line) for line in lines)[:limit]
    if as_json:
        print_json([asdict(line) for line in found])
    elif is_for_people():
        console = make_console()
        print_rows([{**_figures(line), "trend": _trend(console, line)} for line in found])
    else:
        print_rows([_figures(line) for line in found])


def _figures(line: Line) -> dict[str, Any]:
    return {name: getattr(line, name) for name in COLUMNS.values()}


def _trend(console: Console, line: Line) -> str:
    return sparkline(line.trend, blocks=has_blocks(console))


def _watch(console: Console, watcher: Watcher, view: View, namespace: str) -> None:
    """Draw until q or Ctrl-C; step aside for Ctrl-Z."""
    suspended: list[int] = []
    before = signal.signal(signal.SIGTSTP, lambda number, _: suspended.append(number))
    try:
        while True:
            with (
                Keyboard() as keyboard,
                Live(
                    console=console, screen=True, auto_refresh=False, redirect_stderr=False
                ) as live,
            ):
                _draw(console, live, keyboard, watcher, view, namespace, suspended)
            if not suspended:
                return
            suspended.clear()
            os.kill(os.getpid(), signal.SIGSTOP)
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTSTP, before)


def _draw(
    console: Console,
    live: Live,
    keyboard: Keyboard,
    watcher: Watcher,
    view: View,
    namespace: str,
    suspended: list[int],
) -> None:
    lines: list[Line] = []
    while not suspended:
        if not view.paused:
            lines = watcher.lines()
        view.page = max(console.size.height - _AROUND, 1)
        chosen = view.chosen(lines)
        shown = view.shown(chosen)
        watcher.shown = frozenset(line.name for line in shown)
        live.update(_screen(console, watcher, view, namespace, shown, len(chosen)), refresh=True)
        for key in keyboard.read(_TICK):
            if not view.press(key):
                return


def _screen(
    console: Console, watcher: Watcher, view: View, namespace: str, shown: list[Line], many: int
) -> RenderableType:
    head = Text(no_wrap=True, overflow="ellipsis")
    first = view.offset + 1 if shown else 0
    head.append(
        f"{first}-{view.offset + len(shown)} of {many} metrics by {view.sort}", style="bold"
    )
    if view.filter or view.typing:
        head.append(f"  /{view.filter}{'_' if view.typing else ''}", style="cyan")
    if view.paused:
        head.append("  paused", style="bold yellow")
    head.append(f"  in {namespace}", style="dim")
    told = Text(no_wrap=True, overflow="ellipsis")
    if watcher.trouble:
        told.append(f"trying again: {watcher.trouble}", style="bold red")
    elif not shown:
        told.append(
            "no metric's name holds the filter"
            if view.filter
            else "nothing is recorded yet"
            if watcher.ready
            else ""
        )
    keys = Text(
        "enter keeps the filter, escape drops it" if view.typing else _KEYS,
        style="dim",
        no_wrap=True,
        overflow="ellipsis",
    )
    return Group(head, told, _table(console, view, shown), keys)


def _table(console: Console, view: View, shown: list[Line]) -> Table:
    """What fits the width: of a narrow terminal the trend goes first, then type and series, p95, last."""
    width = console.size.width
    columns = [name for name in COLUMNS.values() if width >= _LEAST_WIDTHS.get(name, 0)]
    table = Table(box=None, expand=True, pad_edge=False, header_style="reverse")
    for name in columns:
        mark = ("↓" if view.downwards else "↑") if has_blocks(console) else "*"
        head = name + (mark if name == view.sort else "")
        least = {"name": 12, "type": 9}.get(name, 8)
        table.add_column(
            Text(head), justify="left" if name in ("name", "type") else "right", no_wrap=True, min_width=least,
            overflow="ellipsis", ratio=1 if name == "name" else None,
        )  # fmt: skip
    if width >= 60 + TREND_MINUTES:
        table.add_column(
            Text(f"last {TREND_MINUTES} min"),
            no_wrap=True,
            min_width=TREND_MINUTES,
            max_width=TREND_MINUTES,
        )
    for line in shown:
        cells = [Text(_cell(line, name)) for name in columns]
        table.add_row(
            *cells,
            *([Text(_trend(console, line), style="green")] if width >= 60 + TREND_MINUTES else []),
        )
    return table


def _cell(line: Line, column: str) -> str:
    value = getattr(line, column)
    if column == "rate" and value is not None:
        return f"{value:,.1f}"
    return (
        f"+{cell(value)}"
        if column == "last" and line.type == "counter" and value is not None
        else cell(value)
    )
