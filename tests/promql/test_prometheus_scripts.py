"""Prometheus' own test scripts, on series in memory.

What does not agree is named in tests/data/promql/known_gaps.txt, by script and line.
"""

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("promql_parser", reason="needs redismetrics[promql]")
pytest.importorskip("re2", reason="needs redismetrics[promql]")

from redismetrics.errors import InvalidQuery
from redismetrics.promql.testing import Backend
from tests.promql.scripts import HISTOGRAM, Clear, Expectation, Load, close, commands

FOLDER = Path(__file__).parents[1] / "data/promql"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.test"))
if not SCRIPTS:
    pytest.skip("the scripts are not in the source distribution", allow_module_level=True)

# As a range query these give other values: they are those of the query itself.
OF_QUERY = re.compile(r"(start|end|step|range)\(\)")


def known_gaps() -> dict[tuple[str, int], str]:
    """Return why an evaluation does not agree, by script and line."""
    found = {}
    for text in (FOLDER / "known_gaps.txt").read_text().splitlines():
        if text and not text.startswith("#"):
            place, _, why = text.partition(" ")
            script, _, line = place.partition(":")
            found[script, int(line)] = why
    return found


def touches(query: str, histograms: set[str]) -> bool:
    """Return whether a query may read one of the native histograms."""
    words = set(re.findall(r"[A-Za-z_:][A-Za-z0-9_:]*", query))
    loose = re.search(r"__name__\s*(=~|!=|!~)", query) or re.search(
        r"(^|[^A-Za-z0-9_:\s])\s*\{(?!\s*__name__\s*=\s*\")", query
    )
    return bool(histograms) and (bool(words & histograms) or bool(loose))


@pytest.mark.parametrize("script", SCRIPTS)
def test_evaluations_agree_with_prometheus_except_for_known_gaps(script: str) -> None:
    backend, histograms = Backend(), set[str]()
    gaps = {line for name, line in known_gaps() if name == script}
    differences: dict[int, str] = {}
    for command in commands(FOLDER / script):
        if isinstance(command, Clear):
            backend.reset()
            histograms = set()
        elif isinstance(command, Load):
            histograms |= command.histograms
            load(backend, command, histograms)
        elif touches(command.query, histograms) or expects_histogram(command):
            continue
        elif difference := judge(backend, command):
            differences[command.line] = f"{command.query}: {difference}"
    wrong = {line: text for line, text in differences.items() if line not in gaps}
    assert not wrong, "\n".join(f"{script}:{line} {text}" for line, text in wrong.items())
    assert gaps <= set(differences), "these agree; remove them from known_gaps.txt"


def load(backend: Backend, command: Load, histograms: set[str]) -> None:
    backend.load(
        (
            labels,
            [
                (number * command.step, value)
                for number, value in enumerate(row)
                if isinstance(value, float)
            ],
        )
        for labels, row in command.series
        if labels.get("__name__") not in histograms
    )


def expects_histogram(expected: Expectation) -> bool:
    return any(HISTOGRAM in row for _, row in expected.rows)


def judge(backend: Backend, expected: Expectation) -> str:
    """Return how the result differs from what is expected, "" if it does not."""
    try:
        answer = backend.eval(expected.query, expected.start, expected.end, expected.step)
    except InvalidQuery as error:
        if not expected.fails:
            return f"failed: {error}"
        return "; ".join(
            f"the message must be {text!r}, got {error}"
            for kind, match, text in expected.notes
            if kind == "fail" and match and not fits(match, text, str(error))
        )
    if expected.fails:
        return "must fail"
    return (
        compare(expected, answer["data"])
        or notes(expected, "warn", answer["warnings"])
        or notes(expected, "info", answer["infos"])
        or in_range(backend, expected)
    )


def fits(match: str | None, text: str, found: str) -> bool:
    return match is None or (text in found if match == "msg" else bool(re.search(text, found)))


def notes(expected: Expectation, kind: str, found: list[str]) -> str:
    """Compare warnings or infos."""
    kinds = [of for of, _, _ in expected.notes]
    if f"no_{kind}" in kinds and found:
        return f"unexpected {kind}: {found}"
    for of, match, text in expected.notes:
        if of == kind and not any(fits(match, text, one) for one in found):
            return f"no {kind} like {text!r}, got {found}"
    return ""


def in_range(backend: Backend, expected: Expectation) -> str:
    """Compare the middle of a range query with the result of an instant query."""
    is_plain = not (expected.step or expected.text or expected.grid or expected.ordered)
    if not is_plain or OF_QUERY.search(expected.query):
        return ""
    time = expected.start
    data = backend.eval(expected.query, time - 60_000, time + 60_000, 60_000)["data"]
    rows = [
        {"metric": row["metric"], "value": pair}
        for row in data["result"]
        for pair in row["values"]
        if round(pair[0] * 1000) == time
    ]
    found: dict[str, Any] = {"resultType": "vector", "result": rows}
    if expected.scalar is not None:
        found = {"resultType": "scalar", "result": rows[0]["value"]}
    difference = compare(expected, found)
    return difference and f"as range: {difference}"


def compare(expected: Expectation, data: dict[str, Any]) -> str:
    result = data["result"]
    if expected.text is not None:
        return "" if result[1] == expected.text else f"got {result}"
    if expected.scalar is not None:
        return "" if close(expected.scalar, float(result[1])) else f"got {result}"
    start, _, step = expected.grid or (expected.start, expected.end, expected.step)
    wanted = {
        key(labels): [
            (start + number * step, value)
            for number, value in enumerate(row)
            if isinstance(value, float)
        ]
        for labels, row in expected.rows
    }
    wanted = {labels: pairs for labels, pairs in wanted.items() if pairs}
    got = {
        key(row["metric"]): [
            (round(time * 1000), float(text))
            for time, text in row.get("values", [row.get("value")])
        ]
        for row in result
    }
    if set(got) != set(wanted) or len(got) != len(result):
        return f"expected {list(wanted)}, got {list(got)}"
    if expected.ordered and list(got) != list(wanted):
        return f"expected the order {list(wanted)}, got {list(got)}"
    for labels, pairs in wanted.items():
        same = [time for time, _ in pairs] == [time for time, _ in got[labels]]
        if not same or not all(
            close(value, other) for (_, value), (_, other) in zip(pairs, got[labels], strict=True)
        ):
            return f"{labels}: expected {pairs}, got {got[labels]}"
    return ""


def key(labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, value) for name, value in labels.items() if value))
