"""The commands that go on: worker, export, serve; and the embedded server's. What they run is imported when they do."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from redismetrics.client.metrics import Metrics
from redismetrics.errors import InvalidSetting, RedisMetricsError
from redismetrics.store import embedded

from .options import AsJson, Namespace, Url
from .printing import BAR, cell, duration, make_console

if TYPE_CHECKING:
    from redismetrics.worker.worker import Worker


_LOOKS = 0.2  # seconds between two looks at what is left to do

embedded_app = typer.Typer(
    help="The embedded server that the processes of one user share.", no_args_is_help=True
)

Folder = Annotated[
    Path | None,
    typer.Option(help="The server's data folder (default: the user's own).", metavar="F"),
]

# All of it is for the module's own parser, --help too.
PASSED_ON = {
    "allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": [],
}  # fmt: skip


def work(context: typer.Context) -> None:
    """Seal, roll up and prune until stopped: --url, --namespace, --once, --interval, --metrics-port, --json."""
    from redismetrics.worker import __main__

    raise typer.Exit(__main__.main(context.args, prog="redismetrics worker", watch=_watched))


def export_page(context: typer.Context) -> None:
    """Print the Prometheus page, or serve it: --metric, --openmetrics, --url, --namespace, --serve HOST:PORT."""
    from redismetrics.export.__main__ import main

    raise typer.Exit(main(context.args, prog="redismetrics export"))


@contextmanager
def _watched(working: "Worker") -> Iterator[None]:
    """Show a bar while *working* does all that is due, where standard error is a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        yield
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(BAR), TextColumn("{task.completed:,}/{task.total:,}"),
        TextColumn("{task.fields[samples]:,} samples sealed"), TimeElapsedColumn(),
    )  # fmt: skip
    look = _Look(working)
    ended = Event()

    def keep_looking() -> None:
        while not ended.wait(_LOOKS):
            show()

    with Progress(*columns, console=console) as progress:
        task = progress.add_task("working", total=0, samples=0)

        def show() -> None:
            most, left = look()
            progress.update(task, total=most, completed=most - left, samples=working.counts.samples)

        show()
        watching = Thread(target=keep_looking, name="redismetrics-progress", daemon=True)
        watching.start()
        handlers = [
            each for each in logging.getLogger().handlers if isinstance(each, logging.StreamHandler)
        ]
        streams = [each.setStream(sys.stderr) for each in handlers]  # lines go above the bar
        try:
            yield
        finally:
            for handler, stream in zip(handlers, streams, strict=True):
                if stream is not None:
                    handler.setStream(stream)
            ended.set()
            watching.join()
            show()


class _Look:
    """Tells how many pieces of work were seen to wait at most, and how many do now."""

    def __init__(self, working: "Worker") -> None:
        self._working = working
        self._most = self._left = 0

    def __call__(self) -> tuple[int, int]:
        from redismetrics.store.driver import run
        from redismetrics.worker import queue

        with suppress(RedisMetricsError):  # the worker itself says so
            self._left = run(
                self._working.store.client(), queue.waiting(self._working.settings.namespace)
            )
            self._most = max(self._most, self._left)
        return self._most, self._left


def serve(
    host: Annotated[
        str, typer.Option(help="Where to listen; 0.0.0.0 is all interfaces.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 9465,
    url: Url = None,
    namespace: Namespace = None,
    allow_write: Annotated[
        bool,
        typer.Option(
            "--allow-write", help="Also record: POST /api/record, and OTLP at /v1/metrics."
        ),
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="A file with the bearer token (default: REDISMETRICS_TOKEN).", metavar="F"
        ),
    ] = None,
    max_window: Annotated[
        float, typer.Option(min=1, help="Longest window of a question, in days.")
    ] = 366,
    max_series: Annotated[
        int, typer.Option(min=1, help="Series that a question may read.")
    ] = 20_000,
    max_rows: Annotated[int, typer.Option(min=1, help="Rows that a result may have.")] = 50_000,
) -> None:
    """Answer HTTP: JSON, server-sent events, the Prometheus page. Describes itself at /openapi.json."""
    from redismetrics.api.app import create_app
    from redismetrics.api.limits import Limits
    from redismetrics.api.server import read_token
    from redismetrics.api.server import serve as run_server
    from redismetrics.store.urls import is_loopback

    try:
        token = read_token(token_file)
    except InvalidSetting as error:  # what is wrong is the file, not the call
        raise RedisMetricsError(str(error)) from error
    limits = Limits(window_seconds=max_window * 86_400, max_series=max_series, max_rows=max_rows)
    with Metrics(url, namespace=namespace) as metrics:
        local = token is None and is_loopback(host)
        made = create_app(
            metrics, limits=limits, token=token, allow_write=allow_write, localhost_only=local
        )
        if token is None and not is_loopback(host):
            print(
                f"anybody who reaches {host} may ask{' and record' if allow_write else ''}: no token",
                file=sys.stderr,
            )
        run_server(
            made,
            host,
            port,
            ready=lambda at: print(f"serving on {at}", file=sys.stderr, flush=True),
        )


@embedded_app.command()
def status(folder: Folder = None, as_json: AsJson = False) -> None:
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
        table.add_row(key, cell(found[key]))
    table.add_row(
        "memory", "" if found["memory_bytes"] is None else f"{found['memory_bytes'] / 1e6:,.1f} MB"
    )
    table.add_row("up for", duration(found["uptime_seconds"]))
    print(f"The embedded server runs on {found['folder']}.")
    make_console().print(table, soft_wrap=True)


@embedded_app.command()
def stop(folder: Folder = None) -> None:
    """Shut the embedded server down, whoever uses it. Its data stays."""
    where = embedded.status(folder)["folder"]
    if embedded.stop(folder):
        print(f"Stopped the embedded server on {where}.")
    else:
        print(f"No embedded server was running on {where}.")
