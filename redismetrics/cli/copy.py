"""The command that moves a namespace to another server: copy."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from redismetrics.errors import StoreError, StoreUnavailable

from . import options
from .options import AsJson, Namespace
from .printing import BAR, print_json, print_rows

if TYPE_CHECKING:
    from redismetrics.admin.copy_report import CopyReport
    from redismetrics.admin.copy_report import Progress as Step


_PHASES = {
    "waiting": "waiting until nobody uses the source",
    "copying": "copying",
    "counting": "counting both sides",
}


def copy(
    target: Annotated[str, typer.Option("--to", help="The store to copy to.", metavar="URL")],
    source: Annotated[
        str | None,
        typer.Option("--from", help="The store to copy from; it is only read.", metavar="URL"),
    ] = None,
    namespace: Namespace = None,
    shards: Annotated[
        int | None,
        typer.Option(
            "--shards", min=1, help="Of the target (default: 16 on a cluster, else 1).", metavar="N"
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            "--wait",
            min=0,
            help="Close the target, and wait so long until nobody uses the source.",
            metavar="S",
        ),
    ] = 0.0,
    active: Annotated[
        bool,
        typer.Option(
            "--active",
            help="Copy although the source is in use: a rehearsal, for what comes meanwhile is missing.",
        ),
    ] = False,
    reset: Annotated[
        bool,
        typer.Option("--reset", help="Give an interrupted copy up: delete at --to what it left."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy a namespace to another server or a cluster, and count both sides. Exit status 1 where they differ.

    Repeated after an interruption it goes on where it ended.
    """
    from redismetrics.admin import copying  # which loads redis

    logging.getLogger("redismetrics").setLevel(logging.ERROR)
    try:
        if reset:
            _check_alone(source, shards, wait, active)
            deleted = copying.reset(target, namespace=namespace)
            print_json({"deleted": deleted}) if as_json else print(f"Deleted {deleted} metrics.")
            return
        if source is None:
            raise typer.BadParameter("wanted --from URL beside --to")
        with options.terminable(), _bar() as told:
            report = copying.copy(
                source,
                target,
                namespace=namespace,
                shards=shards,
                active=active,
                wait=wait,
                told=told,
            )
    except StoreUnavailable as error:
        raise StoreError(f"{error}; repeat the copy when both sides answer") from error
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report)
    if not report.complete:
        raise typer.Exit(1)


def _check_alone(source: str | None, shards: int | None, wait: float, active: bool) -> None:
    if source is not None or shards is not None or wait or active:
        raise typer.BadParameter("--reset: wanted only --to and --namespace beside it")


def _print(report: "CopyReport") -> None:
    rows: list[dict[str, Any]] = []
    for row in report.rows:
        state = "changed" if row.changed else "same" if row.same else "differs"
        figures = row.target if row.same else row.source
        rows.append(
            {
                "name": row.name, "series": figures.series, "samples": figures.samples, "count": figures.count,
                "fields": figures.fields, "bytes": figures.bytes, "sides": state,
            }
        )  # fmt: skip
    print_rows(rows)
    for name in report.different:
        (row,) = (row for row in report.rows if row.name == name)
        print(f"{name}: source {row.source}, target {row.target}", file=sys.stderr)
    where = f"{report.source} ({_shards(report.source_shards)}) to {report.target} ({_shards(report.target_shards)})"
    if not report.complete:
        changed = len(report.changed_meanwhile)
        print(
            f"Not complete: {len(report.different)} metrics differ, {changed} changed meanwhile. The target stays closed: "
            "stop who uses the source, and repeat the copy.",
            file=sys.stderr,
        )
        return
    print(
        f"Copied {len(report.rows)} metrics of {report.namespace} from {where} in {report.seconds:.1f} s."
    )
    if report.changed_meanwhile:
        print(
            f"{len(report.changed_meanwhile)} changed at the source since: what came is not copied.",
            file=sys.stderr,
        )


def _shards(many: int) -> str:
    return f"{many} shard{'s' * (many > 1)}"


@contextmanager
def _bar() -> Iterator[Callable[["Step"], None]]:
    """What shows each step on a bar, where standard error is a terminal."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda step: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(BAR),
        TextColumn("{task.fields[at]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("looking at both sides", total=None, at="")

        def show(step: "Step") -> None:
            of = " MB" if step.phase == "copying" else " s" if step.phase == "waiting" else ""
            unit = 1e6 if step.phase == "copying" else 1
            figures = ".1f" if step.phase == "copying" else ",.0f"
            at = f"{step.done / unit:{figures}}/{step.total / unit:{figures}}{of}"
            progress.update(
                task,
                description=_PHASES[step.phase],
                total=max(step.total, 1e-9),
                completed=step.done,
                at=at,
            )

        yield show
