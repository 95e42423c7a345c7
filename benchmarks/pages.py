"""How figures reach the pages: Markdown between markers, and a plot of the ratios.

README.md              the headlines
docs/performance.md    every row, and what the figures make of many processes
docs/performance.svg   the headlines' ratios
"""

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks import estimate
from benchmarks.report import named
from benchmarks.results import ROOT, Results
from benchmarks.rows import COLUMNS, LEFT, Row, cells, notes, number

RESULTS = ROOT / "benchmarks" / "results.json"
README, PAGE, PLOT = ROOT / "README.md", ROOT / "docs" / "performance.md", ROOT / "docs" / "performance.svg"
WARNING = "**Taken by the short form (`--quick`): it proves that the benchmarks run, and says nothing of how fast.**"


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table of Markdown."""
    lines = [COLUMNS, tuple("---" if column in LEFT else "---:" for column in COLUMNS), *map(cells, rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def conditions(results: Results) -> str:
    """The machine and versions, once for all questions that were taken alike."""
    alike: dict[str, list[str]] = {}
    for topic, answer in results.answers.items():
        runs = f"{answer.runs} runs, {answer.day}"
        alike.setdefault(f"{named(answer.machine)}; {runs}", []).append(topic)
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


def sections(results: Results) -> dict[Path, dict[str, str]]:
    """What stands between which markers of which page."""
    page = {"figures": for_page(results), "estimate": estimate.text(results)}
    return {README: {"figures": for_readme(results)}, PAGE: page}


def filled(text: str, name: str, new: str) -> str:
    """The page's *text* with *new* between the markers of that name; raises ValueError where it has none."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    text, found = pattern.subn(lambda _: f"{begin}\n{new}\n{end}", text)
    if found != 1:
        raise ValueError(f"wanted {begin} ... {end} once, got it {found} times")
    return text


def fill(results: Results) -> None:
    """Keep the figures, and put them into the pages and the plot."""
    texts = {}
    for path, parts in sections(results).items():
        texts[path] = path.read_text()
        for name, new in parts.items():
            texts[path] = filled(texts[path], name, new)
    results.write(RESULTS)
    for path, text in texts.items():
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
