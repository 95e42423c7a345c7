"""
The command line, with typer and rich: the extra `cli`. Whatever redismetrics shows to a person is shown here.

    redismetrics demo | embedded status | embedded stop | worker | export | serve
"""

import io
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from . import __version__, embedded, export, worker
from .client import Metrics
from .demo import MAX_SECONDS, PROCESSES, RECORDING, STREAM, Answer, Demo, Outcome, Step
from .errors import RedisMetricsError
from .model import Sample
from .reader import to_json_ready
from .wsgi import is_loopback

_BAR = 40  # characters
_PAGE_LINES = 5  # of each metric on the page
_PLAIN_LINES = 6  # samples of the stream where lines can't be overwritten

app = typer.Typer(
    help="Metrics of many processes in one Redis or Valkey.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
embedded_app = typer.Typer(help="The embedded server that the processes of one user share.", no_args_is_help=True)
app.add_typer(embedded_app, name="embedded")

Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]
Folder = Annotated[Path | None, typer.Option(help="The server's data folder (default: the user's own).", metavar="F")]


def run(argv: Sequence[str] | None = None) -> int:
    """Run a command, of *argv* or of the process's arguments. An error of ours is one line on stderr, and 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that can't show a bar still shows the numbers
    try:
        app(args=None if argv is None else list(argv), prog_name="redismetrics")
    except (RedisMetricsError, OSError) as error:  # a message of ours never holds a password
        print("redismetrics:", " ".join(str(error).split()) or type(error).__name__, file=sys.stderr)
        return 1
    return 0


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"redismetrics {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Metrics of many processes in one Redis or Valkey."""


# -- demo ---------------------------------------------------------------------------------------------------------


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(min=0.5, max=MAX_SECONDS, help="How long to record.")] = 6,
    as_json: Json = False,
) -> None:
    """Try it: a server of its own, four processes that record, what one can ask. Leaves nothing behind."""
    console = _console()
    try:
        with _terminable():
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


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the process by way of its `finally`s, as Ctrl-C does."""

    def leave(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = [(each, signal.signal(each, leave)) for each in signals]
    try:
        yield
    finally:
        for each, handler in before:
            signal.signal(each, handler)


def _watched(console: Console, seconds: float) -> Outcome:
    """Run the demo before the reader's eyes."""
    console.print(f"A private server in a temporary folder, and {PROCESSES} processes that record for {seconds:g} s:\n")
    for line in RECORDING.splitlines():
        _print_call(console, line)
    console.print("\nmeanwhile another one listens:\n")
    _print_call(console, f"for sample in metrics.subscribe({list(STREAM)!r}): ...".replace("'", '"'))
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
        BarColumn(_BAR),
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
            _print_lines(
                console, [f"{step.recorded:>10,} samples   {_sample(step.latest[printed % len(step.latest)])}"]
            )
            printed += 1


def _tail(samples: list[Sample]) -> RenderableType:
    return Text("\n".join(f"  {_sample(sample)}" for sample in samples), style="dim", no_wrap=True, overflow="ellipsis")


def _sample(sample: Sample) -> str:
    time = f"{sample.timestamp:%H:%M:%S}.{sample.timestamp.microsecond // 1000:03}"
    tags = " ".join(f"{key}={value}" for key, value in sample.tags.items())
    times = f" x {sample.count:,}" if sample.count > 1 else ""
    return f"{time}  {sample.name:<17}  {tags:<34}  {sample.value:.4g}{times}"


# -- what came of it ----------------------------------------------------------------------------------------------


def _show(console: Console, outcome: Outcome) -> None:
    for name, answer in outcome.answers.items():
        console.print()
        _print_call(console, answer.call)
        if name == "jobs_over_time":
            _print_lines(console, ["", *_chart(console, answer.result)])
        else:
            console.print(_table(answer.result), end="")
    console.print()
    _print_call(console, "from redismetrics.export import export")
    _print_call(console, f"print({outcome.page.call})")
    console.print()
    lines = outcome.page.result.splitlines()
    shown = _excerpt(lines)
    _print_lines(console, [f"  {line}" for line in shown])
    console.print(f"  (all of it: {len(lines)} lines)\n")
    _print_call(console, outcome.stored.call)
    stored = f"[bold]{outcome.stored.result:,}[/bold]"
    console.print(f"\n  {stored}\n")
    verdict = "exactly what was recorded" if outcome.exact else "[bold red]not what was recorded[/bold red]"
    console.print(
        f"{len(outcome.recorded_by)} processes recorded [bold]{outcome.recorded:,}[/bold] samples; {outcome.dropped:,} "
        f"were dropped.\nStored are {stored}: {verdict}.\n[bold]{outcome.per_second:,}[/bold] a second went through, "
        "from the first call to the last confirmation."
    )


def _table(result: Any) -> Table:
    """A table of the answer of `query` (a list of rows) or `rollup` (rows by group)."""
    rows = [{"": group, **row} for group, row in result.items()] if isinstance(result, dict) else result
    table = Table(box=SIMPLE_HEAD, pad_edge=True)
    for column in rows[0] if rows else ():
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    return table


def _chart(console: Console, rows: list[dict[str, Any]]) -> list[str]:
    """A bar for each row of a time series, of eighths of a block where the terminal has them."""
    blocks = console.encoding.lower().startswith("utf")
    largest = max((row["sum"] for row in rows), default=0) or 1
    lines = []
    for row in rows:
        eighths = round(row["sum"] / largest * _BAR * 8)
        bar = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip() if blocks else "#" * (eighths // 8)
        lines.append(f"  {row['timestamp']:%H:%M:%S}  {bar:<{_BAR}}  {row['sum']:>10,}")
    return lines


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
    return {"call": answer.call, "result": to_json_ready(answer.result)}


# -- embedded, export ---------------------------------------------------------------------------------------------


@embedded_app.command()
def status(folder: Folder = None, as_json: Json = False) -> None:
    """Tell whether the embedded server runs, and how it is. Starts nothing."""
    found = embedded.status(folder)
    if as_json:
        print(json.dumps(found))
        return
    if not found["running"]:
        print(f"No embedded server runs on {found['folder']}.")
        return
    table = Table.grid(padding=(0, 2))
    for key in ("socket", "pid", "version"):
        table.add_row(key, "" if found[key] is None else str(found[key]))
    for key in ("keys", "clients"):
        table.add_row(key, _cell(found[key]))
    table.add_row("memory", "" if found["memory_bytes"] is None else f"{found['memory_bytes'] / 1e6:,.1f} MB")
    table.add_row("up for", _duration(found["uptime_seconds"]))
    print(f"The embedded server runs on {found['folder']}.")
    _console().print(table, soft_wrap=True)


@embedded_app.command()
def stop(folder: Folder = None) -> None:
    """Shut the embedded server down, whoever uses it. Its data stays."""
    where = embedded.status(folder)["folder"]
    if embedded.stop(folder):
        print(f"Stopped the embedded server on {where}.")
    else:
        print(f"No embedded server was running on {where}.")


# All of it is for the module's own parser, --help too.
_PASSED_ON = {
    "allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": [],
}  # fmt: skip


@app.command("worker", context_settings=_PASSED_ON)
def work(context: typer.Context) -> None:
    """Seal, roll up and prune until stopped: --url, --namespace, --once, --interval, --metrics-port, --json."""
    raise typer.Exit(worker.main(context.args))


@app.command("export", context_settings=_PASSED_ON)
def export_page(context: typer.Context) -> None:
    """Print the Prometheus page, or serve it: --metric, --openmetrics, --url, --namespace, --serve HOST:PORT."""
    raise typer.Exit(export.main(context.args))


# -- serve --------------------------------------------------------------------------------------------------------


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 is all interfaces.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 9465,
    url: Annotated[str | None, typer.Option(help="Where the store is (default: REDISMETRICS_URL).")] = None,
    namespace: Annotated[
        str | None, typer.Option(help="Which share of the store (default: REDISMETRICS_NAMESPACE).")
    ] = None,
    allow_write: Annotated[
        bool, typer.Option("--allow-write", help="Also record: POST /api/record, and OTLP at /v1/metrics.")
    ] = False,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the bearer token (default: REDISMETRICS_TOKEN).", metavar="F")
    ] = None,
    max_window: Annotated[float, typer.Option(min=1, help="Longest window of a question, in days.")] = 366,
    max_series: Annotated[int, typer.Option(min=1, help="Series that a question may read.")] = 20_000,
    max_points: Annotated[int, typer.Option(min=1, help="Rows that an answer may have.")] = 50_000,
) -> None:
    """Answer HTTP: JSON, server-sent events, the Prometheus page. Describes itself at /openapi.json."""
    from .api.app import create_app
    from .api.service import Limits
    from .api.serving import read_token
    from .api.serving import serve as run_server

    token = read_token(token_file)
    limits = Limits(window_seconds=max_window * 86_400, series=max_series, points=max_points)
    with Metrics(url, namespace=namespace) as metrics:
        local = token is None and is_loopback(host)
        made = create_app(metrics, limits=limits, token=token, allow_write=allow_write, localhost_only=local)
        if token is None and not is_loopback(host):
            print(
                f"anybody who reaches {host} may ask{' and record' if allow_write else ''}: no token", file=sys.stderr
            )
        run_server(made, host, port, ready=lambda at: print(f"serving on {at}", file=sys.stderr, flush=True))


# -- printing -----------------------------------------------------------------------------------------------------


def _console() -> Console:
    return Console(highlight=False)


def _print_call(console: Console, call: str) -> None:
    console.print(Text(f">>> {call}", style="cyan"), soft_wrap=True)


def _print_lines(console: Console, lines: list[str]) -> None:
    """Print lines as they are: cut at the edge of a terminal, whole everywhere else."""
    for line in lines:
        console.print(Text(line, no_wrap=True, overflow="ellipsis"), soft_wrap=not console.is_terminal)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _duration(seconds: int | None) -> str:
    if seconds is None:
        return ""
    hours, rest = divmod(seconds, 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s" if rest >= 60 else f"{rest} s"
