"""The command that copies a namespace to another server: copy."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar

from redismetrics.errors import StoreError, StoreUnavailable

from . import options
from .options import AsJson, Namespace
from .printing import BAR, print_json, print_rows

if TYPE_CHECKING:
    from redismetrics.admin.copy_report import CopyReport, Progress


_PHASES = {
    "waiting": "waiting for the source to become idle",
    "copying": "copying",
    "counting": "counting both sides",
}


def copy(
    target: Annotated[
        str, typer.Option("--to", help="URL of the server to copy to.", metavar="URL")
    ],
    source: Annotated[
        str | None,
        typer.Option(
            "--from", help="URL of the server to copy from, which is only read.", metavar="URL"
        ),
    ] = None,
    namespace: Namespace = None,
    shards: Annotated[
        int | None,
        typer.Option(
            "--shards",
            min=1,
            help="Number of shards at the target (default: 16 on a cluster, else 1).",
            metavar="N",
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            "--wait",
            min=0,
            help="Close the target, and wait up to this many seconds until nobody uses the source.",
            metavar="S",
        ),
    ] = 0.0,
    allow_active: Annotated[
        bool,
        typer.Option(
            "--active",
            help="Copy although the source is in use, as a rehearsal: changes in the meantime are "
            "not copied.",
        ),
    ] = False,
    reset: Annotated[
        bool,
        typer.Option("--reset", help="Cancel an interrupted copy: delete what it left at --to."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy a namespace to another server or a cluster, and compare the two.

    Repeat an interrupted copy to continue it. The exit status is 1 if the sides differ.
    """
    # Imported here because it loads redis.
    from redismetrics.admin import copying

    logging.getLogger("redismetrics").setLevel(logging.ERROR)
    try:
        if reset:
            if source is not None or shards is not None or wait or allow_active:
                raise typer.BadParameter("--reset can be combined with --to and --namespace only")
            deleted = copying.reset(target, namespace=namespace)
            print_json({"deleted": deleted}) if as_json else print(f"Deleted {deleted} metrics.")
            return
        if source is None:
            raise typer.BadParameter("--from URL is missing")
        with options.terminable(), _progress_bar() as on_progress:
            report = copying.copy(
                source,
                target,
                namespace=namespace,
                shards=shards,
                allow_active=allow_active,
                wait=wait,
                on_progress=on_progress,
            )
    except StoreUnavailable as error:
        raise StoreError(f"{error}; repeat the copy when both sides answer") from error
    if as_json:
        print_json(report.to_dict())
    else:
        _print_report(report)
    if not report.complete:
        raise typer.Exit(1)


def _print_report(report: "CopyReport") -> None:
    rows: list[dict[str, Any]] = []
    for row in report.rows:
        totals = row.target if row.same else row.source
        rows.append(
            {
                "name": row.name,
                "series": totals.series,
                "samples": totals.samples,
                "count": totals.count,
                "fields": totals.fields,
                "bytes": totals.bytes,
                "sides": "changed" if row.changed else "same" if row.same else "differs",
            }
        )
    print_rows(rows)
    for row in report.rows:
        if row.name in report.different:
            print(f"{row.name}: source {row.source}, target {row.target}", file=sys.stderr)
    changed = len(report.changed_meanwhile)
    if not report.complete:
        print(
            f"Not complete: {len(report.different)} metrics differ, {changed} changed in the "
            "meantime. The target stays closed: stop the processes that use the source, and "
            "repeat the copy.",
            file=sys.stderr,
        )
        return
    print(
        f"Copied {len(report.rows)} metrics of {report.namespace} "
        f"from {report.source} ({_shards(report.source_shards)}) "
        f"to {report.target} ({_shards(report.target_shards)}) in {report.seconds:.1f} s."
    )
    if changed:
        print(
            f"{changed} metrics have changed at the source since; the changes are not copied.",
            file=sys.stderr,
        )


def _shards(count: int) -> str:
    return f"{count} shard{'s' * (count > 1)}"


@contextmanager
def _progress_bar() -> Iterator[Callable[["Progress"], None]]:
    """Yield a function that shows progress, if standard error is a terminal."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda progress: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(BAR),
        TextColumn("{task.fields[at]}"),
        TimeElapsedColumn(),
    )
    with ProgressBar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("checking both sides", total=None, at="")

        def show(progress: "Progress") -> None:
            is_bytes = progress.phase == "copying"
            unit = " MB" if is_bytes else " s" if progress.phase == "waiting" else ""
            scale = 1e6 if is_bytes else 1
            style = ".1f" if is_bytes else ",.0f"
            done, total = (each / scale for each in (progress.done, progress.total))
            bar.update(
                task,
                description=_PHASES[progress.phase],
                total=max(progress.total, 1e-9),
                completed=progress.done,
                at=f"{done:{style}}/{total:{style}}{unit}",
            )

        yield show
