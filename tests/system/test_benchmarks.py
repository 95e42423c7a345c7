"""The published figures are the measured ones, and `python -m benchmarks` runs.

No test here measures speed.
"""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

for needed in ("matplotlib", "prometheus_client", "rich"):
    pytest.importorskip(
        needed, reason=f"the benchmarks need {needed}: pip install 'redismetrics[bench]'"
    )

from benchmarks import estimate, explanations, pages, peers
from benchmarks.__main__ import topics
from benchmarks.children import Child
from benchmarks.results import ROOT, Results, TopicResult
from benchmarks.rows import Row, amount, cells, notes, number
from tests.fixtures.servers import PROCESS_PATIENCE

ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT)}


def run_benchmarks(*arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=ENVIRON,
        capture_output=True,
        text=True,
        timeout=PROCESS_PATIENCE,
        check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def test_the_pages_show_the_last_results() -> None:
    for path, text in pages.rendered(Results.read(pages.RESULTS)).items():
        assert path.read_text() == text, (
            f"{path.name} is not what python -m benchmarks --from {pages.RESULTS} --fill writes"
        )


def test_the_readme_shows_six_measured_rows_and_a_loss_among_them() -> None:
    results = Results.read(pages.RESULTS)
    lines = [line for line in pages.for_readme(results).splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + len(pages.HIGHLIGHTS) == 8
    assert "not measured" not in "".join(lines)
    found = [pages._row(results, highlight) for highlight in pages.HIGHLIGHTS]
    ratios = [row.ratio for _, row in filter(None, found)]
    assert min(ratio for ratio in ratios if ratio is not None) < 1


def test_the_tables_have_every_row_and_the_plot_some() -> None:
    results = Results.read(pages.RESULTS)
    rows = [row for result in results.topics.values() for row in result.rows]
    lines = [line for line in pages.tables(results).splitlines() if line.startswith("| ")]
    assert len(lines) == len(rows) + 2 * len(results.topics)
    assert 0 < sum(row.headline for row in rows) <= 40


def test_each_row_that_a_peer_wins_is_explained() -> None:
    unexplained = [
        f"{topic}: {row.case}, {row.peer}"
        for topic, result in Results.read(pages.RESULTS).topics.items()
        for row in result.rows
        if explanations.is_below(row) and explanations.find(topic, row) is None
    ]
    assert not unexplained, "turn them, or add a sentence to benchmarks/explanations.py"


@pytest.mark.slow
@pytest.mark.parametrize("topic", topics())
def test_each_question_runs_with_quick(topic: str, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    done = run_benchmarks(
        topic, "--quick", "--json", str(file), "--plot", str(tmp_path / "plot.svg")
    )
    result = Results.read(file).topics[topic]
    assert result.question in done.stdout
    assert result.quick
    assert result.machine["server"]
    assert result.rows
    for row in result.rows:
        assert all(math.isfinite(figure) for figure in [*row.ours, *row.theirs]), row
        assert not row.theirs or len(row.ours) == len(row.theirs), row
        assert row.theirs or not row.peer or row.note, f"not measured, and no reason given: {row}"
    assert (tmp_path / "plot.svg").read_text().startswith("<?xml")


@pytest.mark.slow
def test_a_failing_question_sets_the_exit_status_and_changes_no_page() -> None:
    before = pages.RESULTS.read_bytes()
    done = run_benchmarks("events", "--quick", "--fill", "--server", "/bin/false", expect=1)
    assert "the server ended at once" in done.stderr
    assert pages.RESULTS.read_bytes() == before


def test_an_unknown_question_lists_the_known_ones() -> None:
    assert "record" in run_benchmarks("recording", expect=2).stderr


def test_a_ratio_is_the_median_of_the_runs_and_above_one_if_ours_is_better() -> None:
    less = Row("call", "us", [1.0, 2.0, 4.0], "other", [3.0, 2.0, 2.0], target=2.0)
    assert less.ratios == [3.0, 1.0, 0.5]
    assert (less.ratio, less.spread, less.holds) == (1.0, (0.5, 3.0), True)
    more = Row(
        "rate", "samples/s", [10.0, 20.0], "other", [5.0, 5.0], more_is_better=True, target=16.0
    )
    assert (more.ratio, more.spread, more.holds) == (3.0, (2.0, 4.0), False)
    alone = Row("alone", "ms", [3.0, 1.0, 2.0])
    assert (alone.ratio, alone.spread, alone.holds) == (None, (1.0, 3.0), None)


def test_both_sides_need_the_same_number_of_runs() -> None:
    with pytest.raises(ValueError, match="shorter"):
        _ = Row("call", "us", [1.0, 2.0], "other", [3.0]).ratios


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.00001234, "1.23e-05"),
        (0.081234, "0.0812"),
        (0.999, "0.999"),
        (0.9999, "1.00"),
        (9.999, "10.0"),
        (17.345, "17.3"),
        (123.4, "123"),
        (999.9, "1,000"),
        (1234567.0, "1,230,000"),
        (-2.5, "-2.50"),
    ],
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_only_rates_are_shown_in_thousands_and_millions() -> None:
    assert amount(2_340_000, "samples/s") == "2.34 M samples/s"
    assert amount(51_000, "samples/s") == "51.0 k samples/s"
    assert amount(51_000, "bytes") == "51,000 bytes"
    assert amount(0.09, "us") == "0.09 µs"


def test_a_missing_peer_is_noted() -> None:
    assert not peers.installed("no_such_package")
    assert not peers.installed("no_such_package.part")
    row = Row("call", "us", [1.0], "other", note=peers.missing("other"))
    assert "not measured" in cells(row)
    assert notes([row]) == ["call: other is not installed: pip install 'redismetrics[bench]'"]


def results_of(*rows: Row, quick: bool = False) -> Results:
    return Results(
        {"topic": TopicResult("Which?", list(rows), 1.0, quick, 5, "2024-05-01", 0.0, {"cores": 2})}
    )


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results = results_of(
        Row("a", "us", [1.0], "other", [2.0], headline=True), Row("b", "ms", [3.0])
    )
    results.write(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json") == results
    newer = results_of(Row("c", "ms", [3.0]))
    assert results.updated(newer, ["topic"]) == newer
    assert results.updated(newer, []) == Results({})


def test_quick_results_carry_a_warning() -> None:
    assert pages.WARNING in pages.for_readme(results_of(quick=True))
    assert pages.WARNING not in pages.for_readme(results_of())


def test_results_are_written_between_markers_only() -> None:
    text = "before\n<!-- figures: begin -->\nold\n<!-- figures: end -->\nafter"
    assert pages.filled(text, "figures", r"new \1") == text.replace("old", r"new \1")
    for wrong in ("no markers", text + text):
        with pytest.raises(ValueError, match="once"):
            pages.filled(wrong, "figures", "new")


def test_the_estimate_is_calculated_from_measured_figures() -> None:
    assert estimate.text(results_of()).startswith("Not calculated")
    flush = f"{estimate.PROCESS}, {estimate.SHARDS}"
    cpu, received = (
        Row(f"{flush}: server CPU", "ms", [2.0]),
        Row(f"{flush}: bytes to the server", "bytes", [20_000.0]),
    )
    lines = estimate.text(
        results_of(cpu, received, Row(estimate.WORKER, "samples/s", [1e6]))
    ).splitlines()
    cells = {
        line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1:]
        for line in lines
        if line.startswith("| ")
    }
    cores = [
        cell.removesuffix(" |")
        for cell in next(found for title, found in cells.items() if "cores" in title)
    ]
    assert cores == ["20.0", "2.00"]  # 10,000 x 2 ms per second, and a tenth of it
    assert [
        cell.removesuffix(" |")
        for cell in next(cells[title] for title in cells if "primaries" in title)
    ] == [
        "40",
        "4",
    ]
    assert [
        cell.removesuffix(" |")
        for cell in next(cells[title] for title in cells if "workers" in title)
    ] == [
        "10",
        "1",
    ]


def test_the_size_of_the_example_is_calculated_from_measured_figures() -> None:
    assert estimate.sizing(results_of()).startswith("Not calculated")
    assert estimate.sizing_line(results_of()).startswith("Not calculated")
    flush = f"{estimate.PROCESS}, {estimate.ONE_SHARD}"
    kept = [
        Row(estimate.KEPT.format(kind=kind), "kB", [figure])
        for kind, figure in (("counter", 100.0), ("gauge", 1_000.0), ("histogram", 2_000.0))
    ]
    results = results_of(
        Row(f"{flush}: server CPU", "ms", [2.0]),
        Row(f"{flush}: bytes to the server", "bytes", [20_000.0]),
        Row(estimate.WORKER, "samples/s", [400_000.0]),
        *kept,
    )
    lines = estimate.sizing(results).splitlines()
    found = {
        line.split(" | ")[0].removeprefix("| "): line.split(" | ")[-1].removesuffix(" |")
        for line in lines
    }
    assert found["Redis CPU for recording"] == "0.4 cores"  # 200 x 2 ms a second
    assert found["network into Redis"] == "4.00 MB/s, 0.2 MB/s from each of 20 hosts"
    assert found["logs in Redis, at most"] == "260 MB"  # 65 s of it
    assert found["five years of history"] == "800 MB"  # 500 x 100 kB + 250 x 1 MB + 250 x 2 MB
    assert found["Redis memory"] == "1.06 GB"
    assert found["one worker"] == "0.5 cores"  # 200,000 / 400,000
    line = " ".join(estimate.sizing_line(results).split())
    assert "40% of a Redis core, one worker takes 50% of a core, and Redis needs 1.1 GB" in line


def divide(by: int) -> object:
    return lambda number: number // by


@pytest.mark.slow
def test_a_child_keeps_its_state_and_raises_its_failures_here() -> None:
    with Child(divide, 2) as child:
        assert [child(10), child(7)] == [5, 3]
    with Child(divide, 0) as child, pytest.raises(RuntimeError, match="ZeroDivisionError"):
        child(1)
