"""Check the arguments of a query."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from redismetrics.errors import InvalidMetric, InvalidQuery, UnknownAggregation
from redismetrics.model.validation import Tags, check_name, clean_tags
from redismetrics.model.windows import Window, window_ms

T = TypeVar("T")

Row = dict[str, Any]
GroupKey = tuple[str | None, ...]
Edges = tuple[int, int, int]  # since, until, now

AGGREGATIONS = ("count", "sum", "mean", "min", "max", "last", "stddev", "median", "rate")
PERCENTILE_PATTERN = re.compile(r"p(100(?:\.0{1,9})?|[0-9]{1,2}(?:\.[0-9]{1,9})?)\Z")


def checked_name(check: Callable[[Any], T], value: Any) -> T:
    """Run a check of recording for a question: its errors are then the question's."""
    try:
        return check(value)
    except InvalidMetric as error:
        raise InvalidQuery(str(error)) from error


def _names(what: str, given: str | Iterable[str], check: Callable[[Any], str]) -> tuple[str, ...]:
    """Each checked; text means one; duplicates collapse."""
    if isinstance(given, str):
        return (check(given),)
    try:
        return tuple(dict.fromkeys(check(each) for each in given))
    except TypeError as error:
        raise InvalidQuery(f"{what}: wanted text or several texts, got {given!r:.80}") from error


def percentile_rank(aggregation: str) -> float | None:
    """The rank in [0, 1] of a percentile's name; None for another aggregation."""
    if aggregation == "median":
        return 0.5
    match = PERCENTILE_PATTERN.match(aggregation)
    return float(match[1]) / 100 if match else None


def check_aggregation(aggregation: object) -> str:
    """Return *aggregation* if it exists, or raise `UnknownAggregation`."""
    if isinstance(aggregation, str) and (
        aggregation in AGGREGATIONS or percentile_rank(aggregation) is not None
    ):
        return aggregation
    raise UnknownAggregation(
        f"aggregation: wanted {', '.join(AGGREGATIONS)} or a percentile from p0 to p100, got {aggregation!r:.80}"
    )


@dataclass(frozen=True, slots=True)
class Question:
    name: str
    window: Window
    tags: Mapping[str, str | None]
    group_by: tuple[str, ...]
    aggregations: tuple[str, ...]


def make_question(
    name: str,
    window: Window,
    tags: Tags | None,
    group_by: Any = (),
    aggregations: Any = (),
    taken: tuple[str, ...] = (),
) -> Question:
    checked_name(check_name, name)
    window_ms(window, 0)
    groups = _names(
        "group_by",
        group_by,
        lambda key: checked_name(lambda given: check_name(given, "group_by"), key),
    )
    wanted = _names("aggregations", aggregations, check_aggregation)
    clash = sorted(set(groups) & {*wanted, *taken})
    if clash:
        raise InvalidQuery(
            f"group_by: the tag {clash[0]!r} is named like another column of the answer"
        )
    return Question(name, window, checked_filter(tags), groups, wanted)


def checked_filter(tags: Tags | None) -> dict[str, str | None]:
    """The tags a series must have; None means that it must lack the tag."""
    clean: dict[str, str | None] = dict(checked_name(clean_tags, tags))
    if tags:
        clean.update({key: None for key, value in tags.items() if value is None})
    return clean
