"""Read Prometheus' test scripts (`*.test`): series to load, and expressions with their results.

The language is that of Prometheus' package promqltest (Apache License 2.0, see tests/data/promql).
Native histograms are recognized but not read: what touches them is skipped.
"""

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
HISTOGRAM = "histogram"

Value = float | str | None

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_NUMBER = r"[-+]?(?:inf|nan|(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)"
_ITEM = re.compile(
    rf"({_NUMBER})(?:([-+](?:inf|[0-9.]+(?:e[-+]?\d+)?)))?(?:x(\d+))?", re.IGNORECASE
)
_INSTANT = re.compile(r"eval(?:_(fail|warn|ordered|info))?\s+instant\s+(?:at\s+(\S+)\s+)?(.+)")
_RANGE = re.compile(
    r"eval(?:_(fail|warn|info))?\s+range\s+from\s+(\S+)\s+to\s+(\S+)\s+step\s+(\S+)\s+(.+)"
)
_EXPECT = re.compile(r"expect\s+(ordered|fail|warn|no_warn|info|no_info)(?:\s+(regex|msg):(.+))?")
_EXPECT_RANGE = re.compile(r"expect range vector\s+from\s+(\S+)\s+to\s+(\S+)\s+step\s+(\S+)")


def duration(text: str) -> int:
    """Return the milliseconds of 1h30m, 250ms or 0."""
    parts = re.findall(r"(\d+)(ms|[smhd])", text)
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def number(text: str) -> float | None:
    """Return the number in a script's notation, or None if it is not a number."""
    if not re.fullmatch(_NUMBER, text.strip(), re.IGNORECASE):
        return None
    return float(text)


def quoted(text: str, at: int) -> tuple[str, int]:
    """Return the string that begins at *at*, and the index after it."""
    mark, found, at = text[at], "", at + 1
    while text[at] != mark:
        if text[at] == "\\" and mark != "`":
            at += 1
            length = {"x": 2, "u": 4}.get(text[at], 0)
            code = text[at + 1 : at + 1 + length]
            found += chr(int(code, 16)) if length else _ESCAPES.get(text[at], text[at])
            at += length
        else:
            found += text[at]
        at += 1
    return found, at + 1


def metric(text: str) -> tuple[dict[str, str], str]:
    """Return the labels of ``name{a="b"} rest``, and the rest."""
    labels = {}
    match = re.match(r"[A-Za-z_:][A-Za-z0-9_:.]*", text)
    at = 0
    if match:
        labels["__name__"], at = match[0], match.end()
    if text[at : at + 1] != "{":
        return labels, text[at:]
    at += 1
    while text[at] != "}":
        if text[at] in " \t,":
            at += 1
            continue
        if text[at] in "\"'`":
            name, at = quoted(text, at)
        else:
            name = re.match(r"[A-Za-z0-9_]+", text[at:])[0]  # type: ignore[index]
            at += len(name)
        if text[at] in "=\t ":
            at = text.index("=", at) + 1
            at += len(text[at:]) - len(text[at:].lstrip())
            labels[name], at = quoted(text, at)
        else:
            labels["__name__"] = name
    return {key: value for key, value in labels.items() if value}, text[at + 1 :]


def values(text: str) -> list[Value]:
    """Return the values of ``1+2x3 _ stale {{...}}x2``; None where there is none."""
    found: list[Value] = []
    for item in re.findall(r"(?:\{\{.*?\}\}|[^\s{])+", text):
        times = int(item.rpartition("x")[2]) if re.search(r"x\d+$", item) else None
        if item.startswith("{{"):
            found += [HISTOGRAM] * ((times or 0) + 1)
        elif item.startswith("_"):
            found += [None] * (times or 1)
        elif item.startswith("stale"):
            found += [STALE] * ((times or 0) + 1)
        else:
            match = _ITEM.fullmatch(item)
            assert match, item
            value, step = float(match[1]), float(match[2] or 0)
            for _ in range(int(match[3] or 0) + 1):
                found.append(value)
                value += step
    return found


@dataclass
class Load:
    """Series to load: labels and values, one each *step* ms."""

    step: int
    series: list[tuple[dict[str, str], list[Value]]] = field(default_factory=list)
    histograms: set[str] = field(default_factory=set)


@dataclass
class Expectation:
    """An expression and its result."""

    line: int
    query: str
    start: int
    end: int
    step: int
    fails: bool = False
    ordered: bool = False
    notes: list[tuple[str, str | None, str]] = field(default_factory=list)
    scalar: float | None = None
    text: str | None = None
    rows: list[tuple[dict[str, str], list[Value]]] = field(default_factory=list)
    grid: tuple[int, ...] = ()


@dataclass
class Clear:
    """Forget all series."""


def commands(path: Path) -> Iterator[Load | Expectation | Clear]:
    """Yield the commands of a script."""
    lines = [
        "" if line.strip().startswith("#") else line.strip()
        for line in path.read_text(encoding="utf-8").split("\n")
    ]
    at = 0
    while at < len(lines):
        first = at
        while lines[at : at + 1] != [""] and at + 1 < len(lines) and lines[at + 1]:
            at += 1
        block = lines[first : at + 1]
        at += 1
        yield from _commands(block, first + 1)


def _commands(block: list[str], line: int) -> Iterator[Load | Expectation | Clear]:
    """Yield the commands of lines without an empty one between them."""
    starts = [
        number
        for number, text in enumerate(block)
        if re.match(r"(load|eval|clear)\b|(load|eval)_", text)
    ]
    for start, stop in pairwise([*starts, len(block)]):
        head, body = block[start], block[start + 1 : stop]
        if head == "clear":
            yield Clear()
        elif head.startswith("load"):
            yield _load(head, body)
        else:
            yield _expectation(head, body, line + start)


def _load(head: str, body: list[str]) -> Load:
    found = Load(duration(head.rsplit(maxsplit=1)[-1]))
    for text in body:
        labels, rest = metric(text)
        row = values(rest)
        name = labels.get("__name__", "")
        if HISTOGRAM in row:
            found.histograms.add(name)
        else:
            found.series.append((labels, row))
            if "with_nhcb" in head:
                found.histograms.add(re.sub(r"_(bucket|count|sum)$", "", name))
    return found


def _expectation(head: str, body: list[str], line: int) -> Expectation:
    if match := _RANGE.fullmatch(head):
        start, end, step = (duration(text) for text in match.group(2, 3, 4))
        found = Expectation(line, match[5], start, end, step)
    else:
        match = _INSTANT.fullmatch(head)
        assert match, head
        time = duration(match[2] or "0")
        found = Expectation(line, match[3], time, time, 0)
    found.fails, found.ordered = match[1] == "fail", match[1] == "ordered"
    if match[1] in ("warn", "info"):
        found.notes.append((match[1], None, ""))
    for text in body:
        _read_result(found, text)
    return found


def _read_result(found: Expectation, text: str) -> None:
    if match := _EXPECT_RANGE.fullmatch(text):
        found.grid = tuple(duration(part) for part in match.groups())
    elif text.startswith("expect string"):
        found.text = quoted(text.removeprefix("expect string").strip(), 0)[0]
    elif match := _EXPECT.fullmatch(text):
        found.ordered |= match[1] == "ordered"
        found.fails |= match[1] == "fail"
        found.notes.append((match[1], match[2], (match[3] or "").strip()))
    elif number(text) is not None:
        found.scalar = number(text)
    else:
        labels, rest = metric(text)
        found.rows.append((labels, values(rest)))


def close(first: float, second: float) -> bool:
    """Return whether two values agree within 1e-6."""
    if math.isnan(first) or math.isnan(second):
        return math.isnan(first) and math.isnan(second)
    return math.isclose(first, second, rel_tol=1e-6, abs_tol=1e-300)
