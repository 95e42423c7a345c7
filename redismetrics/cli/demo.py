"""The command `demo`: what `demo_run` does, before one's eyes."""

import json
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

from .demo_run import MAX_SECONDS, PROCESSES, RECORDING, STREAM, Answer, Demo, Outcome, Step
from .options import AsJson, terminable
from .printing import BAR, bars, make_console, print_call, print_lines, sample_line, table

_PAGE_LINES = 5  # of each metric on the page
_PLAIN_LINES = 6  # samples of the stream where lines can't be overwritten


def demo(
    seconds: Annotated[
        float, typer.Option(min=0.5, max=MAX_SECONDS, help="How long to record.")
    ] = 6,
    as_json: AsJson = False,
) -> None:
    """Try it: a server of its own, four processes that record, what one can ask. Leaves nothing behind."""
    console = make_console()
    try:
        with terminable():
            if as_json:
                with Demo(seconds) as running:
                    for _ in running.record():
                        pass
                    outcome = running.ask()
                print(json.dumps(_as_json(outcome), ensure_ascii=False, allow_nan=False))
            else:
                outcome = _watched(console, seconds)
    except KeyboardInterrupt:
        print("Stopped; nothing is left behind.", file=sys.stderr)
        raise typer.Exit(130) from None
    if not outcome.exact:
        raise RedisMetricsError(
            f"BUG: recorded {outcome.recorded}, dropped {outcome.dropped}, stored {outcome.stored.result} samples"
        )


def _watched(console: Console, seconds: float) -> Outcome:
    """Run the demo before the reader's eyes."""
    console.print(
        f"A private server in a temporary folder, and {PROCESSES} processes that record for {seconds:g} s:\n"
    )
    for line in RECORDING.splitlines():
        print_call(console, line)
    console.print("\nmeanwhile another one listens:\n")
    print_call(console, f"for sample in metrics.subscribe({list(STREAM)!r}): ...".replace("'", '"'))
    console.print()
    with Demo(seconds) as running:
        if console.is_terminal and not console.is_dumb_terminal and sys.stdout.isatty():
            _live(console, seconds, running.record())
        else:
            _plain(console, seconds, running.record())
        outcome = running.ask()
    _show(console, outcome)
    return outcome


def _live(console: Console, seconds: float, steps: Iterator[Step]) -> None:
    progress = Progress(
        TextColumn("recording"),
        BarColumn(BAR),
        TextColumn("{task.completed:.1f} s"),
        TextColumn("[bold]{task.fields[recorded]:,}[/bold] samples"),
        console=console,
    )
    task = progress.add_task("recording", total=seconds, recorded=0)
    with Live(progress, console=console, auto_refresh=False) as live:
        for step in steps:
            progress.update(task, completed=step.seconds, recorded=step.recorded)
            live.update(Group(progress, _tail(step.latest)), refresh=True)


def _plain(console: Console, seconds: float, steps: Iterator[Step]) -> None:
    printed = 0
    for step in steps:
        due = step.seconds >= printed * seconds / _PLAIN_LINES and printed < _PLAIN_LINES
        if due and step.recorded and step.latest:
            print_lines(
                console,
                [
                    f"{step.recorded:>10,} samples   {sample_line(step.latest[printed % len(step.latest)])}"
                ],
            )
            printed += 1


def _tail(samples: list[Sample]) -> RenderableType:
    return Text(
        "\n".join(f"  {sample_line(sample)}" for sample in samples),
        style="dim",
        no_wrap=True,
        overflow="ellipsis",
    )


def _show(console: Console, outcome: Outcome) -> None:
    for name, answer in outcome.answers.items():
        console.print()
        print_call(console, answer.call)
        if name == "jobs_over_time":
            print_lines(console, ["", *bars(console, answer.result, "sum")])
        else:
            console.print(table(_rows(answer.result)), end="")
    console.print()
    print_call(console, "from redismetrics.export import export")
    print_call(console, f"print({outcome.page.call})")
    console.print()
    lines = outcome.page.result.splitlines()
    shown = _excerpt(lines)
    print_lines(console, [f"  {line}" for line in shown])
    console.print(f"  (all of it: {len(lines)} lines)\n")
    print_call(console, outcome.stored.call)
    stored = f"[bold]{outcome.stored.result:,}[/bold]"
    console.print(f"\n  {stored}\n")
    verdict = (
        "exactly what was recorded"
        if outcome.exact
        else "[bold red]not what was recorded[/bold red]"
    )
    console.print(
        f"{len(outcome.recorded_by)} processes recorded [bold]{outcome.recorded:,}[/bold] samples; {outcome.dropped:,} "
        f"were dropped.\nStored are {stored}: {verdict}.\n[bold]{outcome.per_second:,}[/bold] a second went through, "
        "from the first call to the last confirmation."
    )


def _rows(result: Any) -> list[dict[str, Any]]:
    """The answer of `query` (a list of rows) or `rollup` (rows by group) as rows."""
    return (
        [{"": group, **row} for group, row in result.items()]
        if isinstance(result, dict)
        else result
    )


def _excerpt(page: list[str]) -> list[str]:
    """The first lines of each metric on the page, and a mark where some are left out."""
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


def _as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "processes": len(outcome.recorded_by),
        "recorded": outcome.recorded,
        "recorded_by": outcome.recorded_by,
        "dropped": outcome.dropped,
        "stored": outcome.stored.result,
        "exact": outcome.exact,
        "seconds": round(outcome.seconds, 3),
        "samples_per_second": outcome.per_second,
        "results": {name: _answer_as_json(answer) for name, answer in outcome.answers.items()},
        "page": outcome.page.result,
    }


def _answer_as_json(answer: Answer) -> dict[str, Any]:
    from redismetrics.queries.json_ready import to_json_ready

    return {"call": answer.call, "result": to_json_ready(answer.result)}
