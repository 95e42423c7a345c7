"""How rows are shown: as a table on the terminal, as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.rows import COLUMNS, Row, cells, notes

LEFT = ("case", "unit", "peer")


def show_machine(where: Mapping[str, Any]) -> None:
    Console().print("  ".join(f"{key} {value}" for key, value in where.items()), highlight=False)


def show(question: str, rows: Sequence[Row], seconds: float) -> None:
    """Print a question's table."""
    table = Table(title=f"{question}  ({seconds:.0f} s)", title_justify="left", title_style="bold")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in LEFT else "right", overflow="fold")
    for row in rows:
        style = "" if row.ratio is None or row.ratio >= 1 else "yellow"
        table.add_row(*cells(row), style=style)
    console = Console(width=max(Console().width, 140))
    console.print(table)
    for note in notes(rows):
        console.print(f"  {note}", highlight=False, markup=False)


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table of Markdown, their notes below."""
    lines = [" | ".join(COLUMNS), " | ".join("---" if column in LEFT else "---:" for column in COLUMNS)]
    lines += [" | ".join(cell.replace("|", "\\|") for cell in cells(row)) for row in rows]
    text = "\n".join(f"| {line} |" for line in lines)
    said = "\n".join(f"- {note}" for note in notes(rows))
    return f"{text}\n\n{said}" if said else text
