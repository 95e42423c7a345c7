"""The live stream on the command line: a line for each item, as it comes."""

import sys
from contextlib import closing
from time import monotonic
from typing import Annotated, Any

import typer

from redismetrics.errors import FormatMismatch
from redismetrics.model.sample import Gap, Sample, Summary

from . import options
from .options import AsJson, Filter, Namespace, Url
from .printing import cell, is_for_people, plain, print_json, sample_line


def subscribe(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Metrics, or patterns such as 'jobs_*'; without any all.",
            metavar="[NAME]...",
            autocompletion=options.complete_names,
        ),
    ] = None,
    tag: Filter = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--type", help="counter, gauge or histogram. Repeatable.", metavar="TYPE"),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(
            "--every",
            help="A summary of each series every so many seconds, in place of samples.",
            metavar="S",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="End after so many items.", metavar="N")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0, help="End after so many seconds.", metavar="S"),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Print what is recorded, as it is recorded, until stopped. With --json an object a line."""
    until = None if timeout is None else monotonic() + timeout
    given: dict[str, Any] = {"tags": options.filters(tag), "types": kind or None, "every": every}
    with (
        options.terminable(),
        options.client(url, namespace) as metrics,
        closing(metrics.subscribe(names or None, **given)) as stream,
    ):
        left = limit
        while left is None or left > 0:
            try:
                item = stream.get(1.0 if until is None else min(max(until - monotonic(), 0), 1.0))
            except FormatMismatch as error:  # of one message; the next may be fine
                print(f"redismetrics: {error}", file=sys.stderr)
                continue
            if item is not None:
                _print_item(item, as_json)
                left = None if left is None else left - 1
            elif until is not None and monotonic() >= until:
                break


def _print_item(item: Sample | Summary | Gap, as_json: bool) -> None:
    if as_json:
        if isinstance(item, Sample):
            more = {"count": item.count, "approximate": item.approximate}
            print_json({**item.to_dict(), **more})
        else:
            print_json(item)
    elif isinstance(item, Gap):
        missed = (
            "samples may be missing"
            if item.missed is None
            else f"{item.missed} samples were missed"
        )
        print(
            f"redismetrics: {missed} between {item.since.isoformat()} and {item.until.isoformat()}",
            file=sys.stderr,
        )
    elif is_for_people():
        print(sample_line(item) if isinstance(item, Sample) else _summary_line(item), flush=True)
    else:
        whole_line = [item.timestamp, item.name, item.value, item.count] if isinstance(item, Sample) else [
            item.until, item.name, item.count, item.mean, item.min, item.max, item.last,
        ]  # fmt: skip
        print("\t".join(map(plain, [*whole_line, item.tags])), flush=True)


def _summary_line(item: Summary) -> str:
    figures = " ".join(
        f"{name} {cell(getattr(item, name))}" for name in ("count", "mean", "min", "max", "last")
    )
    return f"{item.until:%H:%M:%S}  {item.name:<17}  {cell(item.tags):<34}  {figures}"
