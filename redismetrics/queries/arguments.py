"""Checks of the arguments of a query. They raise subclasses of `InvalidQuery`."""

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from redismetrics.errors import InvalidMetric, InvalidQuery, UnknownAggregation, shown
from redismetrics.model.validation import Tags, check_name, clean_tags, did_you_mean

T = TypeVar("T")

AGGREGATIONS = ("count", "sum", "mean", "min", "max", "last", "stddev", "median", "rate")
PERCENTILE_PATTERN = re.compile(r"p(100(?:\.0{1,9})?|[0-9]{1,2}(?:\.[0-9]{1,9})?)\Z")

# Other libraries' names for aggregations, for the hint in the error message.
_SYNONYMS = {
    "avg": "mean",
    "average": "mean",
    "total": "sum",
    "std": "stddev",
    "stdev": "stddev",
    "latest": "last",
    "maximum": "max",
    "minimum": "min",
}


def as_query_error(check: Callable[[Any], T], value: Any) -> T:
    """Return ``check(value)``, but raise errors of recording calls as `InvalidQuery`."""
    try:
        return check(value)
    except InvalidMetric as error:
        raise InvalidQuery(str(error)) from error


def check_metric_name(name: object) -> str:
    """Return *name* if it is a valid metric name."""
    return as_query_error(check_name, name)


def check_tag_key(key: object, what: str = "tag key") -> str:
    """Return *key* if it is a valid tag key."""
    return as_query_error(lambda value: check_name(value, what), key)


def check_tag_filter(tags: Tags | None) -> dict[str, str | None]:
    """Return the tags that a series must have; None means that the tag must be missing."""
    clean: dict[str, str | None] = dict(as_query_error(clean_tags, tags))
    if tags:
        clean.update({key: None for key, value in tags.items() if value is None})
    return clean


def check_group_by(group_by: str | Iterable[str]) -> tuple[str, ...]:
    """Return the tag keys to group by, without duplicates."""
    return _check_each("group_by", group_by, lambda key: check_tag_key(key, "group_by"))


def check_aggregations(aggregations: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the aggregations, without duplicates."""
    return _check_each("aggregations", aggregations, check_aggregation)


def check_aggregation(aggregation: object) -> str:
    """Return *aggregation* if it exists, or raise `UnknownAggregation`."""
    if isinstance(aggregation, str) and (
        aggregation in AGGREGATIONS or percentile_rank(aggregation) is not None
    ):
        return aggregation
    known = [*AGGREGATIONS, "p50", "p90", "p95", "p99", "p99.9"]
    raise UnknownAggregation(
        f"unknown aggregation {shown(aggregation, 80)}"
        f"{did_you_mean(aggregation, known, _SYNONYMS)} "
        f"(allowed: {', '.join(AGGREGATIONS)}, and percentiles from p0 to p100)"
    )


def percentile_rank(aggregation: str) -> float | None:
    """Return the rank in [0, 1] of a percentile such as ``p99.9``; None for other aggregations."""
    if aggregation == "median":
        return 0.5
    match = PERCENTILE_PATTERN.match(aggregation)
    return float(match[1]) / 100 if match else None


def check_limit(limit: object, least: int) -> int:
    """Return *limit* if it is an integer of at least *least*."""
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < least:
        raise InvalidQuery(
            f"limit must be a whole number of at least {least}, got {shown(limit, 80)}"
        )
    return limit


def check_count(name: str, value: object, least: int, most: int) -> int:
    """Return *value*, the argument *name*, if it is an integer from *least* to *most*."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidQuery(
            f"{name} must be a whole number from {least} to {most}, got {shown(value, 80)}"
        )
    return value


def _check_each(what: str, given: object, check: Callable[[object], str]) -> tuple[str, ...]:
    """Check one string or each of several; drop duplicates, keep the order."""
    if isinstance(given, str):
        return (check(given),)
    if not isinstance(given, Iterable):
        raise InvalidQuery(f"{what} must be a string or a list of strings, got {shown(given, 80)}")
    return tuple(dict.fromkeys(check(each) for each in given))
