"""How figures are shown: tables on the terminal, Markdown in the pages, a plot of the ratios."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.results import ROOT, Results
from benchmarks.rows import COLUMNS, Row, cells, notes, number

RESULTS = ROOT / "benchmarks" / "results.json"
README, PAGE, PLOT = ROOT / "README.md", ROOT / "docs" / "performance.md", ROOT / "docs" / "performance.svg"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
LEFT = ("case", "peer")
WARNING = "**Taken by the short form (`--quick`): it proves that the benchmarks run, and says nothing of how fast.**"


def show_machine(where: Mapping[str, Any]) -> None:
    Console(width=140).print(_named(where), highlight=False)


def _named(facts: Mapping[str, Any]) -> str:
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


# -- pages --------------------------------------------------------------------------------------------------------


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table of Markdown."""
    lines = [COLUMNS, tuple("---" if column in LEFT else "---:" for column in COLUMNS), *map(cells, rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def conditions(results: Results) -> str:
    """The machine and versions, once for all questions that were taken alike."""
    alike: dict[str, list[str]] = {}
    for topic, answer in results.answers.items():
        runs = f"{answer.runs} runs, {answer.day}"
        alike.setdefault(f"{_named(answer.machine)}; {runs}", []).append(topic)
    if len(alike) == 1:
        said = f"{next(iter(alike))}."
    else:
        said = " ".join(f"{', '.join(of)}: {how}." for how, of in alike.items())
    quick = any(answer.quick for answer in results.answers.values())
    return f"{WARNING}\n\n{said}" if quick else said


def for_readme(results: Results) -> str:
    """The headlines of all questions in one table."""
    rows = [row for answer in results.answers.values() for row in answer.rows if row.headline]
    return f"{conditions(results)}\n\n{markdown(rows)}"


def for_page(results: Results) -> str:
    """Every row, a table a question."""
    parts = [conditions(results)]
    for topic, answer in results.answers.items():
        parts.append(f"### {answer.question}")
        parts.append(f"`python -m benchmarks {topic}`, {answer.seconds:.0f} s; load before {answer.load:.1f}.")
        parts.append(markdown(answer.rows))
        parts += ["\n".join(f"- {note}" for note in notes(answer.rows))] * bool(notes(answer.rows))
    return "\n\n".join(parts)


def filled(text: str, figures: str) -> str:
    """The page's *text* with *figures* between its markers; raises ValueError where it has none."""
    pattern = re.compile(f"({re.escape(BEGIN)}).*?({re.escape(END)})", re.DOTALL)
    new, found = pattern.subn(lambda match: f"{match[1]}\n{figures}\n{match[2]}", text)
    if found != 1:
        raise ValueError(f"wanted {BEGIN} ... {END} once, got it {found} times")
    return new


def between(text: str) -> str:
    """What stands between the markers."""
    return text.partition(BEGIN)[2].partition(END)[0].strip("\n")


def fill(results: Results) -> None:
    """Keep the figures, and put them into the pages and the plot."""
    pages = {README: filled(README.read_text(), for_readme(results)), PAGE: filled(PAGE.read_text(), for_page(results))}
    results.write(RESULTS)
    for path, text in pages.items():
        path.write_text(text)
    plot(results, PLOT)


# -- a plot -------------------------------------------------------------------------------------------------------

WON, LOST = "#2a78b5", "#c8553d"


def plot(results: Results, file: Path) -> None:
    """Draw how many times better ours is, the headlines in their order, on a logarithmic scale."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for answer in results.answers.values() for row in answer.rows if row.headline and row.theirs]
    ratios = [row.ratio or 0.0 for row in rows]
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "redismetrics", "font.size": 9}):
        figure, axes = plt.subplots(figsize=(9, 1 + 0.26 * max(len(rows), 1)), layout="constrained")
        places = range(len(rows))
        widths = [ratio - 1 for ratio in ratios]
        axes.barh(places, widths, left=1, height=0.62, color=[WON if ratio >= 1 else LOST for ratio in ratios])
        for at, row in zip(places, rows, strict=True):
            low, high = row.spread
            axes.plot([low, high], [at, at], color="black", linewidth=0.8, alpha=0.6)
            axes.annotate(
                f"{number(ratios[at])} x",
                (max(high, 1), at),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axes.set_yticks(places, [f"{row.case} | {row.peer}" for row in rows])
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.margins(x=0.12, y=0.01)
        axes.axvline(1, color="black", linewidth=1)
        axes.set_xlabel("times better than the peer (below 1: worse); thin lines: lowest and highest run")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
        plt.close(figure)
