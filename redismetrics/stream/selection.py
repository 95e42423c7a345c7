"""Which metrics and series a subscription delivers."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from redismetrics.errors import InvalidMetric, InvalidQuery, shown
from redismetrics.model.validation import MetricType, Tags, check_name, check_type, clean_tags

from .patterns import glob_to_regex

_NAME_OR_PATTERN = re.compile(r"[A-Za-z0-9_./:*?\[\]^-]{1,200}\Z")


class Selection:
    """Metric names and patterns, tags and types. Raises `InvalidQuery` for invalid arguments.

    A tag whose value is None selects the series without that tag, as in queries.
    """

    def __init__(
        self,
        names: str | Iterable[str] | None,
        tags: Tags | None,
        types: MetricType | Iterable[MetricType] | None,
    ) -> None:
        self.names, self.patterns = split_names(names)
        self._exact = frozenset(self.names)
        self._pattern = re.compile("|".join(map(glob_to_regex, self.patterns)), re.DOTALL)
        try:
            self._tags: dict[str, str | None] = dict(clean_tags(tags))
            self._types = (
                None if types is None else {check_type(kind) for kind in as_list("types", types)}
            )
        except InvalidMetric as error:
            raise InvalidQuery(str(error)) from error
        self._tags.update({key: None for key, value in (tags or {}).items() if value is None})

    def matching(self, stored: Iterable[str]) -> list[str]:
        """Return the exact names, then the *stored* names that match a pattern."""
        matched = (name for name in stored if self._pattern.fullmatch(name))
        return list(dict.fromkeys([*self.names, *matched]))

    def has_name(self, name: str) -> bool:
        return name in self._exact or self._pattern.fullmatch(name) is not None

    def has_type(self, kind: MetricType) -> bool:
        return self._types is None or kind in self._types

    def has_tags(self, tags: Mapping[str, str]) -> bool:
        return all(tags.get(key) == value for key, value in self._tags.items())


def as_list(argument: str, given: Any) -> list[Any]:
    """Return *given* as a list without duplicates; a string is one element."""
    try:
        values = [given] if isinstance(given, str) else list(dict.fromkeys(given))
    except TypeError as error:
        raise InvalidQuery(
            f"{argument} must be a string or a list of strings, got {shown(given, 80)}"
        ) from error
    if not values:
        raise InvalidQuery(f"{argument} must have at least one element, got none")
    return values


def split_names(names: str | Iterable[str] | None) -> tuple[list[str], list[str]]:
    """Split *names* into exact names and patterns (with `*`, `?` or `[...]`). None means all."""
    if names is None:
        return [], ["*"]
    exact, patterns = [], []
    for name in as_list("names", names):
        if not isinstance(name, str) or not _NAME_OR_PATTERN.match(name):
            raise InvalidQuery(
                f"names must be metric names or patterns with * ? [...], got {shown(name, 80)}"
            )
        if any(sign in name for sign in "*?["):
            patterns.append(name)
        else:
            try:
                exact.append(check_name(name))
            except InvalidMetric as error:
                raise InvalidQuery(str(error)) from error
    return exact, patterns
