"""Functions on the labels of series: `label_replace`, `label_join`, `sort_by_label`, `absent`."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cmp_to_key
from typing import Any

import numpy as np

from redismetrics.columnar.arrays import Bools
from redismetrics.errors import EvaluationFailed, InvalidExpression

from .budget import Budget
from .matchers import Matcher, compiled
from .source import Labels
from .vectors import Vector, merge_same_labels

# $1, $name, ${1}, ${name} and $$ in the replacement.
_REFERENCE = re.compile(r"\$(?:\$|([A-Za-z0-9_]+)|\{([A-Za-z0-9_]+)\})")
_CHUNK = re.compile(r"[0-9]+|[^0-9]+")
# Characters of the labels that one call makes, of all series. Calls inside of each other could
# double a text many times.
MAX_TEXT = 16 << 20


def replace_label(
    vector: Vector, target: str, replacement: str, source: str, pattern: str
) -> Vector:
    """Return *vector* with label *target* set from *source* where *pattern* matches."""
    try:
        regex = compiled(pattern)
    except InvalidExpression as error:
        raise EvaluationFailed(
            f"invalid regular expression in label_replace(): {pattern[:200]}"
        ) from error
    _check_label("label_replace", "destination", target)

    def changed(labels: Labels) -> list[str] | None:
        found = regex.fullmatch(labels.get(source, ""))
        return None if found is None else _expanded(replacement, found)

    return _with_label(vector, target, changed)


def _expanded(replacement: str, match: Any) -> list[str]:
    """Return the parts of a replacement: the text between references, and their values."""
    parts, at = [], 0
    for reference in _REFERENCE.finditer(replacement):
        parts += [replacement[at : reference.start()], _group(match, reference[1] or reference[2])]
        at = reference.end()
    return [*parts, replacement[at:]]


def _group(match: Any, name: str | None) -> str:
    if name is None:
        return "$"
    try:
        return match[int(name) if name.isdigit() else name] or ""
    except (IndexError, KeyError):
        return ""


def join_labels(vector: Vector, target: str, separator: str, sources: Sequence[str]) -> Vector:
    """Return *vector* with label *target* joined from the values of *sources*."""
    for source in sources:
        _check_label("label_join", "source", source)
    _check_label("label_join", "destination", target)

    def changed(labels: Labels) -> list[str]:
        parts = [part for name in sources for part in (separator, labels.get(name, ""))]
        return parts[1:]

    return _with_label(vector, target, changed)


def _check_label(function: str, kind: str, name: str) -> None:
    if not name or not _is_utf8(name):
        raise EvaluationFailed(f"invalid {kind} label name in {function}(): {name}")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _with_label(vector: Vector, target: str, parts: Callable[[Labels], list[str] | None]) -> Vector:
    """Return *vector* with a label that consists of *parts*; None leaves a series as it is."""
    labels, changed = _relabelled(vector.labels, target, parts)
    # A name that was set is not dropped.
    names = changed if target == "__name__" else np.zeros(len(labels), np.bool_)
    block = vector.distributions
    if block:
        inner, inner_changed = _relabelled(block.labels, target, parts)
        kept = block.drop & ~inner_changed if target == "__name__" else block.drop
        block = block.relabelled(inner, kept)
    drop = vector.drop & ~names
    return merge_same_labels(replace(vector, labels=labels, drop=drop, distributions=block))


def _relabelled(
    labels: Sequence[Labels], target: str, parts: Callable[[Labels], list[str] | None]
) -> tuple[list[Labels], Bools]:
    """Return new labels, and True for each series that was changed."""
    result, changed = [], np.zeros(len(labels), np.bool_)
    size = 0
    for row, of_series in enumerate(labels):
        found = parts(of_series)
        if found is None:
            result.append(of_series)
            continue
        size += sum(map(len, found))
        if size > MAX_TEXT:
            raise EvaluationFailed(
                f"label_replace() and label_join() must create labels of at most {MAX_TEXT} "
                "characters in total over all series; use shorter ones"
            )
        text = "".join(found)
        changed[row] = True
        new = dict(of_series)
        new.pop(target, None)
        if text:
            new[target] = text
        result.append(new)
    return result, changed


def sort_by_labels(
    vector: Vector, names: Sequence[str], budget: Budget, *, descending: bool
) -> Vector:
    """Return the series sorted by these labels, in natural order; ties are sorted by all labels."""

    def compare(first: int, second: int) -> int:
        # Comparing long labels is slow.
        budget.check()
        one, other = vector.labels[first], vector.labels[second]
        for name in names:
            if one.get(name, "") != other.get(name, ""):
                return -1 if _is_before(one.get(name, ""), other.get(name, "")) else 1
        left, right = sorted(one.items()), sorted(other.items())
        return (left > right) - (left < right)

    rows = sorted(range(len(vector)), key=cmp_to_key(compare), reverse=descending)
    found = vector.take(np.array(rows, np.int64))
    found.distributions = vector.distributions
    return found


def _is_before(first: str, second: str) -> bool:
    """Return whether *first* is before *second* in natural order: a2 before a10."""
    one, other = _CHUNK.findall(first), _CHUNK.findall(second)
    for left, right in zip(one, other, strict=False):
        if left == right:
            continue
        if left.isdigit() and right.isdigit() and int(left[:100]) != int(right[:100]):
            return int(left[:100]) < int(right[:100])
        return bool(left < right)
    return len(one) < len(other)


def sort_by_value(vector: Vector, *, descending: bool) -> Vector:
    """Return the series of an instant query sorted by value, NaN last."""
    if vector.steps != 1:
        return vector.floats()
    rows = np.flatnonzero(vector.present[:, 0])
    values = vector.values[rows, 0]
    key = -values if descending else values
    return vector.take(rows[np.argsort(key, kind="stable")])


def absent_labels(matchers: Sequence[Matcher]) -> Labels:
    """Return the labels of the series returned by `absent`: those matched with `=`."""
    labels: Labels = {}
    several = set()
    for matcher in matchers:
        name = matcher.name
        if name == "__name__":
            continue
        if matcher.op == "=" and name not in labels and name not in several:
            labels[name] = matcher.value
        else:
            labels.pop(name, None)
            several.add(name)
    return {name: value for name, value in labels.items() if value}


def absent(vector: Vector, labels: Labels) -> Vector:
    """Return 1 at the steps at which no series is present."""
    found = vector.present.any(axis=0)
    if vector.distributions:
        found = np.logical_or(found, vector.distributions.present.any(axis=0))
    missing = ~np.reshape(found, (1, -1))
    return Vector([labels], np.ones(missing.shape), missing, np.zeros(1, np.bool_))
