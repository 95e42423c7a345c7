"""The function `info`: add the labels of info series, such as `target_info`, to other series."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from redismetrics.columnar.arrays import Bools, Floats, Ints
from redismetrics.errors import EvaluationFailed

from .distributions import Distributions
from .joins import shown_labels
from .matchers import Matcher
from .source import Labels
from .vectors import Vector, concatenate, merge_same_labels

TARGET_INFO = Matcher("__name__", "=", "target_info")

# Where names are only excluded.
_ANY_INFO = Matcher("__name__", "=~", ".+_info")

# An info series belongs to the series that have the same values of these.
_IDENTIFYING = ("instance", "job")

_Match = tuple[Labels, Bools]


def info_matchers(given: Sequence[Matcher]) -> tuple[Matcher, ...]:
    """Return the matchers that select info series: `target_info`, unless a name is given."""
    names = [matcher.op for matcher in given if matcher.name == "__name__"]
    if not names:
        return (TARGET_INFO, *given)
    if all(op in ("!=", "!~") for op in names):
        return (_ANY_INFO, *given)
    return tuple(given)


@dataclass(slots=True, eq=False)
class InfoSeries:
    """Info series at each step; among equals, the one with the newest sample first.

    Attributes:
        vector: The series.
        times: Time of each sample, shape (series, steps).
        given: The matchers of the second argument.
    """

    vector: Vector
    times: Floats
    given: Sequence[Matcher]

    def enrich(self, base: Vector) -> Vector:
        """Return *base* with the labels of the info series.

        Raises:
            EvaluationFailed: If info series contradict each other.
        """
        block = base.distributions
        everything = [*base.labels, *(block.labels if block else [])]
        finder = self._finder(everything)
        parts: list[tuple[int, Labels, Bools]] = []
        for row, labels in enumerate(everything):
            parts.extend((row, new, held) for new, held in finder.matches(labels))
        floats = [part for part in parts if part[0] < len(base)]
        rows = np.array([row for row, _, _ in floats], np.int64)
        found = base.take(rows)
        found.labels = [labels for _, labels, _ in floats]
        if floats:
            found.present = found.present & np.array([held for _, _, held in floats])
        found = merge_same_labels(found)
        if block:
            rest = [(row - len(base), new, held) for row, new, held in parts if row >= len(base)]
            found.distributions = _relabelled(block, rest)
        return concatenate([found], base.steps)

    def _finder(self, labels: Sequence[Labels]) -> "_Finder":
        selecting = info_matchers(self.given)
        name_matchers = [matcher for matcher in selecting if matcher.name == "__name__"]
        known = {
            name: {of_series[name] for of_series in labels if name in of_series}
            for name in _IDENTIFYING
        }
        known = {name: values for name, values in known.items() if values}
        rows: dict[tuple[str, ...], dict[str, list[int]]] = {}
        for row, of_info in enumerate(self.vector.labels if known else []):
            if all(of_info.get(name, "") in values for name, values in known.items()):
                key = tuple(of_info.get(name, "") for name in _IDENTIFYING)
                rows.setdefault(key, {}).setdefault(of_info["__name__"], []).append(row)
        data = [matcher for matcher in self.given if matcher.name != "__name__"]
        names = {matcher.name for matcher in data}
        # Without a name in the second argument, target_info itself is enriched too.
        has_name = not self.given or any(matcher.name == "__name__" for matcher in self.given)
        ignored = name_matchers if has_name else []
        return _Finder(self, rows, names, ignored, all(matcher.matches_empty for matcher in data))


def _relabelled(
    block: Distributions, parts: Sequence[tuple[int, Labels, Bools]]
) -> Distributions | None:
    """Return distributions with other labels at some steps; *parts* are (row, labels, steps)."""
    rounds: list[list[tuple[int, Labels, Bools]]] = []
    seen: dict[int, int] = {}
    for part in parts:
        number = seen.get(part[0], 0)
        seen[part[0]] = number + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(part)
    found = []
    for of_round in rounds:
        taken = block.take(np.array([row for row, _, _ in of_round]))
        taken = taken.relabelled([labels for _, labels, _ in of_round], taken.drop)
        found.append(taken.where(np.array([held for _, _, held in of_round])))
    return Distributions.concatenate(found) if found else None


@dataclass(slots=True, eq=False)
class _Finder:
    """Finds the labels to add to a series.

    Attributes:
        series: The info series.
        rows: Rows of the info series by the identifying labels, then by name.
        names: The labels to add; empty means all.
        ignored: A series that matches all of these is itself an info series, and is left unchanged.
        is_optional: Whether series without info series are kept.
    """

    series: InfoSeries
    rows: dict[tuple[str, ...], dict[str, list[int]]]
    names: set[str]
    ignored: Sequence[Matcher]
    is_optional: bool

    def matches(self, labels: Labels) -> Iterator[_Match]:
        """Yield the new labels of a series, and the steps where it has them."""
        steps = self.series.vector.steps
        name = labels.get("__name__", "")
        if self.ignored and all(matcher.predicate()(name) for matcher in self.ignored):
            yield labels, np.ones(steps, np.bool_)
            return
        key = tuple(labels.get(label, "") for label in _IDENTIFYING)
        winners = [self._newest_rows(rows) for rows in self.rows.get(key, {}).values()]
        if not winners:
            if self.is_optional:
                yield labels, np.ones(steps, np.bool_)
            return
        combinations, of_step = np.unique(np.array(winners), axis=1, return_inverse=True)
        for number, rows in enumerate(combinations.T.tolist()):
            held = of_step.reshape(-1) == number
            found = [row for row in rows if row >= 0]
            if found or self.is_optional:
                yield self._added(labels, found), held

    def _newest_rows(self, rows: list[int]) -> Ints:
        """Return the row with the newest sample at each step, -1 if there is none."""
        present = self.series.vector.present[rows]
        times = np.where(present, self.series.times[rows], -np.inf)
        newest = times.argmax(axis=0)
        double = ((times == times.max(axis=0)) & present).sum(axis=0) > 1
        if double.any():
            step = int(np.flatnonzero(double)[0])
            two = np.flatnonzero(present[:, step] & (times[:, step] == times[:, step].max()))[:2]
            shown = [
                f"{shown_labels(self.series.vector.labels[rows[at]])} @ {times[at, step]:.0f}"
                for at in two.tolist()
            ]
            raise EvaluationFailed(
                f"found duplicate series for info metric: existing {shown[0]}, new {shown[1]}"
            )
        found = np.array(rows)[newest]
        return np.where(present.any(axis=0), found, -1)

    def _added(self, labels: Labels, rows: list[int]) -> Labels:
        added: Labels = {}
        for row in rows:
            for name, value in self.series.vector.labels[row].items():
                if name == "__name__" or (self.names and name not in self.names):
                    continue
                if added.get(name, value) != value:
                    raise EvaluationFailed(f"conflicting label: {name}")
                if name not in labels:
                    added[name] = value
        return {**labels, **added}
