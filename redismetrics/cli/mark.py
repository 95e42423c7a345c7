"""The commands mark and marks: events such as deploys."""

from typing import Annotated

import typer

from redismetrics.errors import RedisMetricsError
from redismetrics.model.time_text import TIME_FORMS

from . import options
from .options import AsJson, Labels, Namespace, Since, Until, Url, Window
from .printing import print_json, print_rows


def mark(
    text: Annotated[str, typer.Argument(help="What happened.", metavar="TEXT")],
    tag: Labels = None,
    timestamp: Annotated[
        str | None,
        typer.Option("--timestamp", help=f"When (default: now): {TIME_FORMS}.", metavar="TIME"),
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the mark with this id instead.")
    ] = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Record an event, such as a deploy, to show it on charts.

    Prints the id of the mark.
    """
    with options.client(url, namespace) as metrics:
        if not delete:
            moment = options.time(timestamp, "--timestamp")
            print(metrics.mark(text, tags=options.labels(tag), timestamp=moment).id)
        elif not metrics.delete_mark(text):
            raise RedisMetricsError(f"there is no mark {text!r}")


def marks(
    window: Window = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Maximum number of marks.")] = 100,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """List marks, newest first."""
    with options.client(url, namespace) as metrics:
        found = metrics.marks(options.window(window, since, until), limit=limit)
    rows = [each.to_dict() for each in found]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["tags"] = " ".join(f"{key}={value}" for key, value in sorted(row["tags"].items()))
    print_rows([{key: row[key] for key in ("timestamp", "text", "tags", "id")} for row in rows])
