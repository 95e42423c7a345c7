"""The command heat-map: how a metric's values are distributed over buckets, by interval."""

import math
from typing import Annotated, Any

import typer

from . import options
from .options import Archive, AsJson, Filter, Name, Namespace, Since, Until, Url, Window
from .printing import (
    cell,
    has_blocks,
    is_for_people,
    make_console,
    print_json,
    print_lines,
    print_rows,
)
from .query import Interval

Buckets = Annotated[
    int | None,
    typer.Option(
        "--buckets",
        min=4,
        max=200,
        help="Maximum number of buckets (default: 44, or 20 on a terminal).",
    ),
]
# From no samples to the maximum; steps are linear in the square root of the count.
_BLOCKS, _LETTERS = " ░▒▓█", " .+*#"
# Maximum number of terminal lines for the map.
_LINES = 20


def heat_map(
    name: Name,
    interval: Interval = "hour",
    window: Window = None,
    since: Since = None,
    until: Until = None,
    tag: Filter = None,
    buckets: Buckets = None,
    as_json: AsJson = False,
    url: Url = None,
    namespace: Namespace = None,
    archive: Archive = None,
) -> None:
    """Count samples per interval and bucket of values (default: per hour of the last 24 hours).

    On a terminal, it draws a map: time runs from left to right, values from bottom to top, and
    darker cells have more samples.
    """
    is_map = is_for_people() and not as_json
    with options.client(url, namespace, archive) as metrics:
        options.check_exists(metrics, name)
        found = metrics.heat_map(
            name,
            interval=interval,
            window=options.window(window, since, until) or "last_24h",
            tags=options.filters(tag),
            buckets=buckets or (_LINES if is_map else 44),
        )
    if as_json:
        print_json(found)
    elif is_map:
        _print_map(found)
    else:
        print_rows(_rows(found))


def _rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row per interval and bucket with samples."""
    buckets = list(zip(found["edges"], found["edges"][1:], strict=False))
    return [
        {"timestamp": time, "from": low, "to": high, "count": count}
        for time, counts in zip(found["times"], found["counts"], strict=True)
        for (low, high), count in zip(buckets, counts, strict=True)
        if count
    ]


def _print_map(found: dict[str, Any]) -> None:
    if not found["edges"]:
        return
    console = make_console()
    shades = _BLOCKS if has_blocks(console) else _LETTERS
    labels = [cell(edge) for edge in found["edges"]]
    width = max(map(len, labels))
    times = found["times"][-(console.width - width - 4) :]
    shown = found["counts"][-len(times) :]
    most = max(map(max, shown)) or 1
    lines = []
    for bucket in reversed(range(len(labels) - 1)):
        counts = (counts[bucket] for counts in shown)
        cells = (shades[math.ceil(4 * math.sqrt(count / most))] for count in counts)
        lines.append(f"  {labels[bucket]:>{width}}  {''.join(cells)}".rstrip())
    first, last = cell(times[0]), cell(times[-1])
    lines.append(f"  {first} to {last} UTC, {len(times)} intervals; {shades[-1]} is {cell(most)}")
    print_lines(console, lines)
