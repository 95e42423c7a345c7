"""The commands `embedded status` and `embedded stop`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from redismetrics.store import embedded

from .options import AsJson
from .printing import cell, duration, make_console, print_json

embedded_app = typer.Typer(
    help="Show or stop the embedded server that the processes of one user share.",
    no_args_is_help=True,
)

Folder = Annotated[
    Path | None,
    typer.Option(help="The data folder of the server (default: the user's own).", metavar="F"),
]


@embedded_app.command()
def status(folder: Folder = None, as_json: AsJson = False) -> None:
    """Show whether the embedded server is running, and its memory, keys and clients."""
    found = embedded.status(folder)
    if as_json:
        print_json(found)
        return
    if not found["running"]:
        print(f"No embedded server runs on {found['folder']}.")
        return
    table = Table.grid(padding=(0, 2))
    for key in ("socket", "pid", "version"):
        table.add_row(key, "" if found[key] is None else str(found[key]))
    for key in ("keys", "clients"):
        table.add_row(key, cell(found[key]))
    memory = found["memory_bytes"]
    table.add_row("memory", "" if memory is None else f"{memory / 1e6:,.1f} MB")
    table.add_row("up for", duration(found["uptime_seconds"]))
    print(f"The embedded server runs on {found['folder']}.")
    make_console().print(table, soft_wrap=True)


@embedded_app.command()
def stop(folder: Folder = None) -> None:
    """Stop the embedded server, even if processes use it. Its data is kept."""
    shown = embedded.status(folder)["folder"]
    if embedded.stop(folder):
        print(f"Stopped the embedded server on {shown}.")
    else:
        print(f"No embedded server was running on {shown}.")
