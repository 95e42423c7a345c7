"""The command `demo`: prints what `demo_run` does."""

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from redismetrics.errors import RedisMetricsError
from redismetrics.model.sample import Sample

from .demo_alert import RULE
from .demo_run import (
    MAX_SECONDS,
    PROCESSES,
    RECORDING,
    STREAM,
    Call,
    Demo,
    DemoProgress,
    DemoResult,
)
from .options import AsJson, terminable
from .printing import (
    BAR,
    bars,
    make_console,
    print_call,
    print_json,
    print_lines,
    sample_line,
    table,
)

# How long to record.
_SECONDS = 6.0

# Number of lines to show of each metric on the page.
_PAGE_LINES = 5

# Number of stream samples to print where lines cannot be overwritten.
_PLAIN_LINES = 6


def demo(
    seconds: Annotated[
        float | None,
        typer.Option(min=0.5, max=MAX_SECONDS, help="How long to record, in seconds (default: 6)."),
    ] = None,
    as_json: AsJson = False,
    web: Annotated[
        bool, typer.Option("--web", help="Keep recording, and open the web page in a browser.")
    ] = False,
) -> None:
    """Run a demo: a temporary server, four recording processes and sample queries.

    With --web, show the web page and record until Ctrl-C instead.
    """
    if web and (as_json or seconds is not None):
        raise typer.BadParameter("--web must not be given with --json or --seconds")
    seconds = _SECONDS if seconds is None else seconds
    console = make_console()
    try:
        with terminable():
            if web:
                from .demo_page import show_page

                show_page()
                raise KeyboardInterrupt
            if as_json:
                with Demo(seconds) as run:
                    for _ in run.record():
                        pass
                    result = run.run_queries()
                print_json(_as_json(result))
            else:
                result = _run_and_show(console, seconds)
    except KeyboardInterrupt:
        print("Stopped. Nothing is left behind.", file=sys.stderr)
        raise typer.Exit(130) from None
    if not result.exact:
        raise RedisMetricsError(
            f"BUG: {result.recorded} samples were recorded, {result.dropped} dropped, "
            f"{result.stored.result} stored"
        )


def _run_and_show(console: Console, seconds: float) -> DemoResult:
    console.print(
        f"A private server in a temporary folder, "
        f"and {PROCESSES} processes that record for {seconds:g} s:\n"
    )
    for call in RECORDING:
        print_call(console, call)
    console.print("\nMeanwhile another process subscribes:\n")
    print_call(console, f"for sample in metrics.subscribe({list(STREAM)!r}): ...".replace("'", '"'))
    console.print()
    with Demo(seconds) as run:
        if console.is_terminal and not console.is_dumb_terminal and sys.stdout.isatty():
            _show_live(console, seconds, run.record())
        else:
            _show_lines(console, seconds, run.record())
        result = run.run_queries()
    _show_result(console, result)
    return result


def _show_live(console: Console, seconds: float, steps: Iterator[DemoProgress]) -> None:
    bar = Progress(
        TextColumn("recording"),
        BarColumn(BAR),
        TextColumn("{task.completed:.1f} s"),
        TextColumn("[bold]{task.fields[recorded]:,}[/bold] samples"),
        console=console,
    )
    task = bar.add_task("recording", total=seconds, recorded=0)
    with Live(bar, console=console, auto_refresh=False) as live:
        for progress in steps:
            bar.update(task, completed=progress.seconds, recorded=progress.recorded)
            live.update(Group(bar, _sample_lines(progress.latest)), refresh=True)


def _show_lines(console: Console, seconds: float, steps: Iterator[DemoProgress]) -> None:
    printed = 0
    for progress in steps:
        due = progress.seconds >= printed * seconds / _PLAIN_LINES and printed < _PLAIN_LINES
        if due and progress.recorded and progress.latest:
            sample = progress.latest[printed % len(progress.latest)]
            print_lines(console, [f"{progress.recorded:>10,} samples   {sample_line(sample)}"])
            printed += 1


def _sample_lines(samples: list[Sample]) -> RenderableType:
    return Text(
        "\n".join(f"  {sample_line(sample)}" for sample in samples),
        style="dim",
        no_wrap=True,
        overflow="ellipsis",
    )


def _show_result(console: Console, result: DemoResult) -> None:
    for name, call in result.queries.items():
        console.print()
        print_call(console, call.text)
        if name == "jobs_over_time":
            print_lines(console, ["", *bars(console, call.result, "sum")])
        else:
            console.print(table(_rows(call.result)), end="")
    console.print()
    print_call(console, "from redismetrics.export import export")
    print_call(console, f"print({result.page.text})")
    console.print()
    lines = result.page.result.splitlines()
    print_lines(console, [f"  {line}" for line in _excerpt(lines)])
    console.print(f"  ({len(lines)} lines in all)\n")
    _show_alerts(console, result.alerts)
    print_call(console, result.stored.text)
    stored = f"[bold]{result.stored.result:,}[/bold]"
    console.print(f"\n  {stored}\n")
    verdict = (
        "exactly what was recorded"
        if result.exact
        else "[bold red]not what was recorded[/bold red]"
    )
    console.print(
        f"{len(result.recorded_by)} processes recorded [bold]{result.recorded:,}[/bold] samples; "
        f"{result.dropped:,} were dropped.\n"
        f"Stored: {stored}, {verdict}.\n"
        f"[bold]{result.per_second:,}[/bold] samples per second, "
        "from the first call to the last confirmation."
    )


def _show_alerts(console: Console, alerts: list[dict[str, Any]] | None) -> None:
    if alerts is None:
        console.print("To see an alert here: pip install 'redismetrics[alerts]'\n", markup=False)
        return
    print_lines(console, [f"  {line}" for line in RULE.rstrip().splitlines()])
    console.print("\nThe rule is evaluated now, and for the time two minutes from now:\n")
    rows = [
        {"alert": each["rule"], **each["labels"], "before": each["before"], "after": each["after"]}
        for each in alerts
    ]
    for row in rows:
        row.pop("alertname", None)
    console.print(table(rows))


def _rows(result: Any) -> list[dict[str, Any]]:
    """Return the result of `query` (a list of rows) or `rollup` (rows by group) as rows."""
    return (
        [{"": group, **row} for group, row in result.items()]
        if isinstance(result, dict)
        else result
    )


def _excerpt(page: list[str]) -> list[str]:
    """Return the first lines of each metric on the page, with "..." in place of the rest."""
    shown: list[str] = []
    left = _PAGE_LINES
    for line in page:
        if line.startswith("# HELP"):
            left = _PAGE_LINES
        if left > 0:
            shown.append(line)
        elif left == 0:
            shown.append("...")
        left -= 1
    return shown


def _as_json(result: DemoResult) -> dict[str, Any]:
    from redismetrics.queries.json_ready import to_json_ready

    return {
        "processes": len(result.recorded_by),
        "recorded": result.recorded,
        "recorded_by": result.recorded_by,
        "dropped": result.dropped,
        "stored": result.stored.result,
        "exact": result.exact,
        "seconds": round(result.seconds, 3),
        "samples_per_second": result.per_second,
        "results": {name: _call_as_json(call) for name, call in result.queries.items()},
        "page": result.page.result,
        "alerts": to_json_ready(result.alerts),
    }


def _call_as_json(call: Call) -> dict[str, Any]:
    from redismetrics.queries.json_ready import to_json_ready

    return {"call": call.text, "result": to_json_ready(call.result)}
