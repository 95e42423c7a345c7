"""Output of results: tables, bars and sparklines for people, tab-separated lines for pipes."""

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

from . import streams

# The length of the longest bar, in characters.
BAR = 40

Row = Mapping[str, Any]


def make_console() -> Console:
    return Console(highlight=False)


def is_for_people() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def print_json(result: Any) -> None:
    """Print one JSON document, or one line of a stream, in UTF-8 whatever the locale."""
    streams.write_utf8(Metrics.to_json(result))


def print_rows(rows: Sequence[Row]) -> None:
    """Print a table, or tab-separated lines with a header. Without rows, print nothing."""
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


def print_value(value: Any) -> None:
    """Print one value on a line."""
    print(value_text(value))


def value_text(value: Any) -> str:
    """Format a value for people on a terminal, otherwise for programs."""
    return cell(value) if is_for_people() else plain(value)


def plain(value: Any) -> str:
    """Format a value for programs: all digits, no tab and no line break."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        value = Metrics.to_json(value)
    return str(value).replace("\t", " ").replace("\n", " ").replace("\r", " ")


def cell(value: Any) -> str:
    """Format a value for people."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={item}" for key, item in value.items())
    text = f"{value:,}" if is_number(value) else str(value)
    # A tag may contain control sequences of terminals.
    return "".join(each if each.isprintable() else "�" for each in text)


def duration(seconds: int | None) -> str:
    if seconds is None:
        return ""
    hours, rest = divmod(seconds, 3600)
    if hours:
        return f"{hours} h {rest // 60} min"
    return f"{rest // 60} min {rest % 60} s" if rest >= 60 else f"{rest} s"


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
    """Return whether the console can show block characters."""
    return console.encoding.lower().startswith("utf")


def bars(console: Console, rows: Sequence[Row], column: str) -> list[str]:
    """Return a bar for each row of a time series, in eighths of a block if the console has them."""
    blocks = has_blocks(console)
    largest = max((row[column] or 0 for row in rows), default=0)
    times = [row["timestamp"] for row in rows]
    same_day = not times or times[0].date() == times[-1].date()
    time_format = "%H:%M:%S" if same_day else "%Y-%m-%d %H:%M"
    lines = []
    for row in rows:
        eighths = max(round((row[column] or 0) / largest * BAR * 8), 0) if largest > 0 else 0
        if blocks:
            bar = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
        else:
            bar = "#" * (eighths // 8)
        line = f"  {row['timestamp']:{time_format}}  {bar:<{BAR}}  {cell(row[column]):>10}"
        lines.append(line.rstrip())
    return lines


def sparkline(values: Iterable[float | None], *, blocks: bool = True) -> str:
    """Return one character per value, scaled from the smallest value or 0 to the largest or 0.

    None becomes a space.
    """
    found = list(values)
    known = [value for value in found if value is not None]
    low, high = min([0.0, *known]), max([0.0, *known])
    steps = "▁▂▃▄▅▆▇█" if blocks else "_.-:=+*#"
    extent = high - low or 1.0
    top = len(steps) - 1
    return "".join(
        " " if value is None else steps[min(int((value - low) / extent * len(steps)), top)]
        for value in found
    )


def print_call(console: Console, call: str) -> None:
    console.print(Text(f">>> {call}", style="cyan"), soft_wrap=True)


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Print lines unchanged: truncated at the edge of a terminal, in full everywhere else."""
    for line in lines:
        console.print(
            Text(line, no_wrap=True, overflow="ellipsis"), soft_wrap=not console.is_terminal
        )
