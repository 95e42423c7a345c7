"""Rule files and unit tests of others: the same verdicts as promtool 2.42.

The cases are in tests/data/alerts, by source, each with its licence. truth.json has what promtool
said of each. Cases of class `either` are not judged: 2.42 and Prometheus 3 differ.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from redismetrics.cli.main import app

DATA = Path(__file__).parents[1] / "data" / "alerts"
CASES: list[dict[str, Any]] = json.loads((DATA / "truth.json").read_text())
# Some at a time, so that no test takes long.
PARTS = [
    (source, part)
    for source in sorted({case["source"] for case in CASES})
    for part in range(6 if source in ("konflux-o11y", "own", "openshift-cmo") else 1)
]

_FAILED = re.compile(r"alertname:\s*(.*?),\s*time:\s*(\S+?),?\s*$", re.MULTILINE)
_FAILED_EXPRESSION = re.compile(r"expr:\s*\"(.*)\",\s*time:\s*(\S+?),?\s*$", re.MULTILINE)


def judge(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return how the verdict on a case differs from promtool's."""
    monkeypatch.chdir(DATA / case["cwd"])
    result = CliRunner().invoke(app, ["alerts", case["kind"], *case["files"]])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return [f"{case['id']}: {result.exception!r}"]
    wrong = []
    if bool(result.exit_code) != bool(case["rc"]):
        wrong.append(f"status {result.exit_code}, promtool {case['rc']}")
    if case["kind"] == "check" and not case["rc"]:
        counts = [int(count) for count in re.findall(r"(\d+) rules found", result.output)]
        if case["rules"] is not None and sum(counts) != case["rules"]:
            wrong.append(f"{counts} rules, promtool {case['rules']}")
    lines = [line for line in case["lines"] if line]
    if case["kind"] == "check" and case["rc"] and lines:
        named = [line for line in lines if re.search(rf"(?<!\d){line}(?!\d)", result.output)]
        if not named:
            wrong.append(f"no line of {lines}")
    if case["fails"]:
        failed = _FAILED.findall(result.output) + _FAILED_EXPRESSION.findall(result.output)
        if sorted(map(list, set(failed))) != sorted(case["fails"]):
            wrong.append(f"{failed} failed, promtool {case['fails']}")
    return [f"{case['id']}: {each}\n{result.output[-500:]}" for each in wrong]


@pytest.mark.slow
@pytest.mark.parametrize(("source", "part"), PARTS)
def test_verdicts_equal_those_of_promtool(
    source: str, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [case for case in CASES if case["source"] == source and case["class"] != "either"]
    cases = cases[part :: sum(each == source for each, _ in PARTS)]
    assert cases
    assert [each for case in cases for each in judge(case, monkeypatch)] == []


def test_every_source_has_its_licence() -> None:
    folders = {path.name for path in DATA.iterdir() if path.is_dir()}
    for source in folders:
        assert (DATA / source / "SOURCE.txt").read_text().strip()
        assert source == "own" or (DATA / source / "LICENSE").is_file()
