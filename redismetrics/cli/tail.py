"""The live stream on the command line: one line per item, as it arrives."""

import sys
from contextlib import closing
from typing import Annotated, Any

import typer

from redismetrics.errors import FormatMismatch
from redismetrics.model.sample import Gap, Sample, Summary
from redismetrics.model.time import monotonic

from . import options
from .options import AsJson, Filter, NamesOrPatterns, Namespace, Url
from .printing import cell, is_for_people, plain, print_json, sample_line


def subscribe(
    names: NamesOrPatterns = None,
    tag: Filter = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--type", help="One of the types, such as counter. Can be repeated.", metavar="TYPE"
        ),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(
            "--every",
            help="Print a summary of each series every S seconds instead of samples.",
            metavar="S",
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            help="What to summarize: series, or name for all series of a metric.",
            metavar="BY",
        ),
    ] = "series",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Stop after N items.", metavar="N")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0, help="Stop after S seconds.", metavar="S"),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Print samples as they are recorded, until stopped. With --json, one object per line."""
    until = None if timeout is None else monotonic() + timeout
    given: dict[str, Any] = {
        "tags": options.filters(tag),
        "types": kind or None,
        "every": every,
        "by": by,
    }
    with (
        options.terminable(),
        options.client(url, namespace) as metrics,
        closing(metrics.subscribe(names or None, **given)) as stream,
    ):
        left = limit
        while left is None or left > 0:
            try:
                item = stream.get(1.0 if until is None else min(max(until - monotonic(), 0), 1.0))
            # One message that cannot be read; the next one may be fine.
            except FormatMismatch as error:
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
        print(f"redismetrics: {_gap_text(item)}", file=sys.stderr)
    elif is_for_people():
        print(sample_line(item) if isinstance(item, Sample) else _summary_line(item), flush=True)
    else:
        print("\t".join(map(plain, _columns(item))), flush=True)


def _gap_text(gap: Gap) -> str:
    missed = "samples may be missing" if gap.missed is None else f"{gap.missed} samples were missed"
    return f"{missed} between {gap.since.isoformat()} and {gap.until.isoformat()}"


def _columns(item: Sample | Summary) -> list[Any]:
    """Return the values of a tab-separated line."""
    if isinstance(item, Sample):
        return [item.timestamp, item.name, item.value, item.count, item.tags]
    numbers = [item.count, item.mean, item.min, item.max, item.last]
    return [item.until, item.name, *numbers, item.tags]


def _summary_line(item: Summary) -> str:
    numbers = " ".join(
        f"{name} {cell(getattr(item, name))}" for name in ("count", "mean", "min", "max", "last")
    )
    return f"{item.until:%H:%M:%S}  {item.name:<17}  {cell(item.tags):<34}  {numbers}"
