"""Print results on the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.rows import COLUMNS, LEFT, Row, cells, notes


def show_machine(where: Mapping[str, Any]) -> None:
    Console(width=140).print(named(where), highlight=False)


def named(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def show(question: str, rows: Sequence[Row], seconds: float) -> None:
    """Print a question's table."""
    table = Table(title=f"{question}  ({seconds:.0f} s)", title_justify="left", title_style="bold")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in LEFT else "right")
    for row in rows:
        table.add_row(*cells(row), style="yellow" if row.holds is False else "")
    console = Console()
    console = console if console.is_terminal else Console(width=200)
    console.print(table)
    for note in notes(rows):
        console.print(f"  {note}", highlight=False, markup=False)
