"""The command `top`: its screen, drawn with rich, and its loop.

Without a terminal it prints one table and exits. It uses rich and not textual: rich is needed
anyway and draws one table well; textual would add four packages, 3 MB and frequent major versions
to replace the thirty lines that read keys.
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
from redismetrics.cli.options import AsJson, NamesOrPatterns, Namespace, Url
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
from redismetrics.errors import InvalidQuery, shown
from redismetrics.model.validation import did_you_mean

from .board import TREND_MINUTES, MetricRow
from .keyboard import Keyboard
from .poller import Poller, list_matching, query_row
from .view import COLUMNS, View

# Seconds between two reads of the keyboard and of the board.
_TICK = 0.25
_KEYS = "n t s r l p sort, again reverses   / filter   space pause   arrows scroll   q quit"

# The minimum terminal width for each column.
_MIN_WIDTHS = {"last": 32, "p95": 42, "type": 60, "series": 60}
_MIN_WIDTH_OF_TREND = 60 + TREND_MINUTES

# Number of screen lines around the rows.
_OTHER_LINES = 4


def top(
    names: NamesOrPatterns = None,
    sort: Annotated[
        str,
        typer.Option(
            "--sort", help=f"Column to sort by: {', '.join(COLUMNS.values())}.", metavar="COLUMN"
        ),
    ] = "rate",
    every: Annotated[
        float,
        typer.Option(
            "--every", min=0.1, max=60, help="Refresh rates every S seconds.", metavar="S"
        ),
    ] = 2,
    once: Annotated[
        bool, typer.Option("--once", help="Print one table and exit, as when not on a terminal.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Maximum number of rows in that table.", metavar="N"),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Watch all metrics live: rate, last value, p95 and trend.

    Keys sort, filter, pause and quit. In a pipe, on a dumb terminal, or with --once or --json,
    print one table and exit.
    """
    if sort not in COLUMNS.values():
        raise InvalidQuery(
            f"--sort must be one of {', '.join(COLUMNS.values())}, got {shown(sort, 80)}"
            f"{did_you_mean(sort, COLUMNS.values())}"
        )
    console = make_console()
    at_terminal = sys.stdin.isatty() and is_for_people() and not console.is_dumb_terminal
    view = View(sort)
    with options.terminable(), options.client(url, namespace) as metrics:
        if once or as_json or not at_terminal:
            _print_once(metrics, names or [], view, limit, as_json)
            return
        with closing(Poller(metrics, names or [], every)) as poller:
            _watch(console, poller, view, metrics.settings.namespace)


def _print_once(
    metrics: Metrics, names: list[str], view: View, limit: int | None, as_json: bool
) -> None:
    listed = list_matching(metrics, names)
    rows = [MetricRow(metric["name"], metric["type"], metric["series"]) for metric in listed]
    selected = view.select(query_row(metrics, row) for row in rows)[:limit]
    if as_json:
        print_json([asdict(row) for row in selected])
    elif is_for_people():
        console = make_console()
        print_rows([{**_columns(row), "trend": _trend(console, row)} for row in selected])
    else:
        print_rows([_columns(row) for row in selected])


def _columns(row: MetricRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in COLUMNS.values()}


def _trend(console: Console, row: MetricRow) -> str:
    return sparkline(row.trend, blocks=has_blocks(console))


def _watch(console: Console, poller: Poller, view: View, namespace: str) -> None:
    """Draw until q or Ctrl-C; release the terminal during Ctrl-Z."""
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
                _draw(console, live, keyboard, poller, view, namespace, suspended)
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
    poller: Poller,
    view: View,
    namespace: str,
    suspended: list[int],
) -> None:
    rows: list[MetricRow] = []
    while not suspended:
        if not view.paused:
            rows = poller.rows()
        view.page = max(console.size.height - _OTHER_LINES, 1)
        selected = view.select(rows)
        visible = view.visible(selected)
        poller.visible = frozenset(row.name for row in visible)
        screen = _screen(console, poller, view, namespace, visible, len(selected))
        live.update(screen, refresh=True)
        for key in keyboard.read(_TICK):
            if not view.press(key):
                return


def _screen(
    console: Console,
    poller: Poller,
    view: View,
    namespace: str,
    visible: list[MetricRow],
    total: int,
) -> RenderableType:
    keys = Text(
        "enter keeps the filter, escape removes it" if view.typing else _KEYS,
        style="dim",
        no_wrap=True,
        overflow="ellipsis",
    )
    header = _header(view, namespace, len(visible), total)
    return Group(header, _message(poller, view, visible), _table(console, view, visible), keys)


def _header(view: View, namespace: str, visible: int, total: int) -> Text:
    header = Text(no_wrap=True, overflow="ellipsis")
    first = view.offset + 1 if visible else 0
    header.append(
        f"{first}-{view.offset + visible} of {total} metrics by {view.sort}", style="bold"
    )
    if view.filter or view.typing:
        header.append(f"  /{view.filter}{'_' if view.typing else ''}", style="cyan")
    if view.paused:
        header.append("  paused", style="bold yellow")
    header.append(f"  in {namespace}", style="dim")
    return header


def _message(poller: Poller, view: View, visible: list[MetricRow]) -> Text:
    message = Text(no_wrap=True, overflow="ellipsis")
    if poller.error:
        message.append(f"retrying: {poller.error}", style="bold red")
    elif not visible and view.filter:
        message.append("no metric name contains the filter")
    elif not visible and poller.ready:
        message.append("nothing has been recorded yet")
    return message


def _table(console: Console, view: View, visible: list[MetricRow]) -> Table:
    """Return the table that fits the width.

    On a narrow terminal, the trend is left out first, then type and series, p95, and last.
    """
    width = console.size.width
    columns = [name for name in COLUMNS.values() if width >= _MIN_WIDTHS.get(name, 0)]
    has_trend = width >= _MIN_WIDTH_OF_TREND
    table = Table(box=None, expand=True, pad_edge=False, header_style="reverse")
    for name in columns:
        mark = ("↓" if view.descending else "↑") if has_blocks(console) else "*"
        table.add_column(
            Text(name + (mark if name == view.sort else "")),
            justify="left" if name in ("name", "type") else "right",
            no_wrap=True,
            min_width={"name": 12, "type": 9}.get(name, 8),
            overflow="ellipsis",
            ratio=1 if name == "name" else None,
        )
    if has_trend:
        table.add_column(
            Text(f"last {TREND_MINUTES} min"),
            no_wrap=True,
            min_width=TREND_MINUTES,
            max_width=TREND_MINUTES,
        )
    for row in visible:
        cells = [Text(_cell(row, name)) for name in columns]
        if has_trend:
            cells.append(Text(_trend(console, row), style="green"))
        table.add_row(*cells)
    return table


def _cell(row: MetricRow, column: str) -> str:
    value = getattr(row, column)
    if value is None:
        return cell(value)
    if column == "rate":
        return f"{value:,.1f}"
    # The last value of a counter is the newest amount.
    return f"+{cell(value)}" if column == "last" and row.type == "counter" else cell(value)
