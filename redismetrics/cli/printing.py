"""How answers are shown: tables, bars and sparklines to people, tab-separated lines to pipes."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from redismetrics.client.metrics import Metrics
from redismetrics.model.sample import Sample

BAR = 40  # characters

Row = Mapping[str, Any]


def make_console() -> Console:
    return Console(highlight=False)


def is_for_people() -> bool:
    """Does a person read standard output?"""
    return sys.stdout.isatty()


def print_json(answer: Any) -> None:
    """One document, or one of the lines of a stream."""
    print(Metrics.to_json(answer), flush=True)


def print_rows(rows: Sequence[Row]) -> None:
    """A table, or its tab-separated lines with a head; nothing where there are no rows."""
    if not rows:
        return
    if is_for_people():
        make_console().print(table(rows), end="")
        return
    print("\t".join(rows[0]))
    for row in rows:
        print("\t".join(map(plain, row.values())))


def table(rows: Sequence[Row]) -> Table:
    made = Table(box=SIMPLE_HEAD, pad_edge=True)
    for column, value in rows[0].items() if rows else ():
        made.add_column(column, justify="right" if is_number(value) else "left")
    for row in rows:
        made.add_row(*(Text(cell(value)) for value in row.values()))
    return made


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def plain(value: Any) -> str:
    """A value in a line for machines: all digits, no tab and no line end."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        value = Metrics.to_json(value)
    return str(value).replace("\t", " ").replace("\n", " ").replace("\r", " ")


def cell(value: Any) -> str:
    """A value in a table for people."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={item}" for key, item in value.items())
    text = f"{value:,}" if is_number(value) else str(value)
    return "".join(
        each if each.isprintable() else "�" for each in text
    )  # a tag may hold what steers a terminal


def duration(seconds: int | None) -> str:
    if seconds is None:
        return ""
    hours, rest = divmod(seconds, 3600)
    return (
        f"{hours} h {rest // 60} min"
        if hours
        else f"{rest // 60} min {rest % 60} s"
        if rest >= 60
        else f"{rest} s"
    )


def sample_row(sample: Sample) -> dict[str, Any]:
    return {
        "timestamp": sample.timestamp,
        "value": sample.value,
        "count": sample.count,
        "tags": sample.tags,
        "metadata": sample.metadata,
    }


def sample_line(sample: Sample) -> str:
    time = f"{sample.timestamp:%H:%M:%S}.{sample.timestamp.microsecond // 1000:03}"
    times = f" x {sample.count:,}" if sample.count > 1 else ""
    return f"{time}  {sample.name:<17}  {cell(sample.tags):<34}  {sample.value:.4g}{times}"


def has_blocks(console: Console) -> bool:
    """Can it show parts of a block?"""
    return console.encoding.lower().startswith("utf")


def bars(console: Console, rows: Sequence[Row], column: str) -> list[str]:
    """A bar for each row of a time series, of eighths of a block where the terminal has them."""
    blocks = has_blocks(console)
    largest = max((row[column] or 0 for row in rows), default=0)
    times = [row["timestamp"] for row in rows]
    shape = "%H:%M:%S" if not times or times[0].date() == times[-1].date() else "%Y-%m-%d %H:%M"
    lines = []
    for row in rows:
        eighths = max(round((row[column] or 0) / largest * BAR * 8), 0) if largest > 0 else 0
        bar = (
            "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
            if blocks
            else "#" * (eighths // 8)
        )
        lines.append(
            f"  {row['timestamp']:{shape}}  {bar:<{BAR}}  {cell(row[column]):>10}".rstrip()
        )
    return lines


def sparkline(values: Iterable[float | None], *, blocks: bool = True) -> str:
    """A character for each value, from the smallest, or 0, to the largest; a space for None."""
    found = list(values)
    known = [value for value in found if value is not None]
    low, high = min([0.0, *known]), max([0.0, *known])
    steps = "▁▂▃▄▅▆▇█" if blocks else "_.-:=+*#"
    span = high - low or 1.0
    return "".join(
        " " if value is None else steps[min(int((value - low) / span * len(steps)), len(steps) - 1)]
        for value in found
    )


def print_call(console: Console, call: str) -> None:
    console.print(Text(f">>> {call}", style="cyan"), soft_wrap=True)


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Print lines as they are: cut at the edge of a terminal, whole everywhere else."""
    for line in lines:
        console.print(
            Text(line, no_wrap=True, overflow="ellipsis"), soft_wrap=not console.is_terminal
        )
