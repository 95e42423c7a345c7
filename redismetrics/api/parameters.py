"""Query-string parameters: each is defined once, for parsing and for the OpenAPI document."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from redismetrics.errors import InvalidQuery, shown
from redismetrics.model.time import OPEN_UNTIL
from redismetrics.model.time_text import TIME_FORMS, parse_time
from redismetrics.model.validation import did_you_mean
from redismetrics.model.windows import Window, window_ms

from .schemas import AGGREGATION, NAME, TAG, TIME, WINDOW, Schema

# Maximum number of parameters in a query string.
_MAX_PARAMETERS = 1_000


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a query string.

    *read* parses a text, or raises `InvalidQuery`; a parameter that *is_time* is parsed by
    `parse_time` instead. The value of a parameter that *repeats* is a tuple. A parameter that
    *is_in_path* is part of the path.
    """

    name: str
    help: str
    schema: Schema
    read: Callable[[str], Any] = str
    required: bool = False
    repeats: bool = False
    default: Any = None
    is_time: bool = False
    is_in_path: bool = False

    def parse(self, text: str, now_s: float) -> Any:
        """Parse *text*; ages count back from *now_s*, in Unix seconds."""
        return read_time(text, self.name, now_s) if self.is_time else self.read(text)

    def describe(self, max_repeats: int) -> dict[str, Any]:
        """Return the OpenAPI object of this parameter."""
        schema: dict[str, Any] = dict(self.schema)
        if self.repeats:
            schema = {"type": "array", "items": schema, "maxItems": max_repeats}
        if self.default is not None:
            schema["default"] = self.default
        style = {"style": "form", "explode": True} if self.repeats else {}
        return {
            "name": self.name,
            "in": "path" if self.is_in_path else "query",
            "required": self.required,
            "description": self.help,
            "schema": schema,
            **style,
        }


FORM = "application/x-www-form-urlencoded"


def form_schema(parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Return the JSON Schema of a form with these parameters."""
    properties: dict[str, Any] = {}
    for each in parameters:
        schema = {**each.schema, "description": each.help}
        properties[each.name] = {"type": "array", "items": schema} if each.repeats else schema
    required = [each.name for each in parameters if each.required]
    return {"type": "object", "properties": properties, "required": required}


def read(
    parameters: Iterable[Parameter],
    query: bytes,
    max_repeats: int,
    now_s: float,
    *,
    is_lenient: bool = False,
) -> dict[str, Any]:
    """Return the values of a query string by name.

    A missing parameter has its default, or () if it repeats. *now_s* is the current time, in Unix
    seconds. If *is_lenient*, unknown, empty and repeated parameters are ignored, as in Prometheus.

    Raises:
        InvalidQuery: If a parameter is unknown, missing, invalid, or given too often.
    """
    known = {parameter.name: parameter for parameter in parameters}
    texts = _split(query, None if is_lenient else known)
    values: dict[str, Any] = {}
    for name, parameter in known.items():
        given = texts.get(name, [])
        if is_lenient and not parameter.repeats:
            given = [text for text in given[:1] if text or parameter.required]
        if parameter.required and not given:
            raise InvalidQuery(f"{name} must be given, got no such parameter")
        if len(given) > 1 and not parameter.repeats:
            raise InvalidQuery(f"{name} must be given once, got it {len(given)} times")
        if len(given) > max_repeats:
            raise InvalidQuery(
                f"{name} must be given at most {max_repeats} times (limit max_repeats), "
                f"got it {len(given)} times"
            )
        if parameter.repeats:
            values[name] = tuple(parameter.parse(text, now_s) for text in given)
        else:
            values[name] = parameter.parse(given[0], now_s) if given else parameter.default
    return values


def _split(query: bytes, known: Mapping[str, Parameter] | None) -> dict[str, list[str]]:
    """Return the texts of each parameter in a query string; with *known*, all must be known."""
    try:
        pairs = parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS
        )
    except ValueError as error:
        raise InvalidQuery(
            f"a query string must have at most {_MAX_PARAMETERS} parameters, got more"
        ) from error
    texts: dict[str, list[str]] = {}
    for name, text in pairs:
        if known is not None and name not in known:
            allowed = ", ".join(known) or "none"
            raise InvalidQuery(
                f"unknown parameter {shown(name, 80)}{did_you_mean(name, known)} "
                f"(allowed: {allowed})"
            )
        texts.setdefault(name, []).append(text)
    return texts


# -- reading values -----------------------------------------------------------------------------

_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?(?:[eE]\+?[0-9]{1,2})?\Z")
_WHOLE = re.compile(r"[0-9]{1,9}\Z")


def read_time(text: str, name: str, now_s: float) -> Any:
    """Read a time like the command line; see `parse_time`."""
    return parse_time(text, name, now_s, " (write + as %2B)")


def read_whole(name: str, least: int, most: int) -> Callable[[str], int]:
    """Return a reader of whole numbers within limits."""

    def read_one(text: str) -> int:
        if not _WHOLE.match(text) or not least <= int(text) <= most:
            raise InvalidQuery(
                f"{name} must be a whole number from {least} to {most}, got {shown(text, 80)}"
            )
        return int(text)

    return read_one


def read_number(name: str, least: float, most: float) -> Callable[[str], float]:
    """Return a reader of numbers within limits."""

    def read_one(text: str) -> float:
        if not _NUMBER.match(text) or not least <= float(text) <= most:
            raise InvalidQuery(
                f"{name} must be a number from {least:g} to {most:g}, got {shown(text, 80)}"
            )
        return float(text)

    return read_one


def read_boolean(name: str) -> Callable[[str], bool]:
    """Return a reader of ``true`` and ``false``."""

    def read_one(text: str) -> bool:
        if text not in ("true", "false"):
            raise InvalidQuery(f"{name} must be true or false, got {shown(text, 80)}")
        return text == "true"

    return read_one


def read_tag(text: str) -> tuple[str, str | None]:
    """Read a tag filter: ``key=value``, or ``!key`` for series without the tag."""
    key, equals, value = text.partition("=")
    if equals:
        return key, value
    if text.startswith("!"):
        return text[1:], None
    raise InvalidQuery(
        f"tag must be KEY=VALUE, or !KEY for series without it, got {shown(text, 80)}"
    )


def tag_filter(pairs: Iterable[tuple[str, str | None]]) -> dict[str, str | None]:
    """Return tag filters as one mapping.

    Raises:
        InvalidQuery: If a key has two values, which no series matches.
    """
    tags: dict[str, str | None] = {}
    for key, value in pairs:
        if tags.setdefault(key, value) != value:
            raise InvalidQuery(
                f"tag must have one value for {shown(key, 80)}, "
                f"got {shown(tags[key], 80)} and {shown(value, 80)}"
            )
    return tags


def read_window(
    values: Mapping[str, Any], now_s: float, max_seconds: float
) -> tuple[Window, float]:
    """Return the window of a request, in the form for `Query`, and its length in seconds.

    Raises:
        InvalidQuery: If it is given in two ways, invalid, or longer than *max_seconds*.
    """
    window, since, until = values["window"], values["since"], values["until"]
    is_open = since is None and until is None
    if window is not None and not is_open:
        raise InvalidQuery("window must not be combined with since or until; use one or the other")
    if window is None:
        window = "last_24h" if is_open else (since, until)
    now_ms = round(now_s * 1000)
    since_ms, until_ms = window_ms(window, now_ms)
    if until_ms >= OPEN_UNTIL:
        until_ms = max(now_ms, since_ms)
    seconds = max(until_ms - since_ms, 0) / 1000
    if seconds > max_seconds:
        raise InvalidQuery(
            f"window must be at most {max_seconds:g} s long (limit window_seconds), "
            f"got {seconds:g} s"
        )
    return window, seconds


# -- parameters of several endpoints ------------------------------------------------------------

METRIC = Parameter("name", "The metric.", NAME, required=True)
AGGREGATIONS = Parameter("aggregation", "The aggregations.", AGGREGATION, repeats=True)
TAGS = Parameter(
    "tag",
    "Only series with this tag: KEY=VALUE. Only series without a tag: !KEY.",
    TAG,
    read_tag,
    repeats=True,
)
GROUP_BY = Parameter("group_by", "Tags to group by.", NAME, repeats=True)
SINCE = Parameter(
    "since",
    f"Start of the window: {TIME_FORMS}.",
    TIME,
    is_time=True,
)
UNTIL = Parameter(
    "until",
    f"End of the window (exclusive): {TIME_FORMS}.",
    TIME,
    is_time=True,
)
TIMES = (
    Parameter(
        "window",
        "last_hour, last_24h, last_7d, last_30d, or a duration such as 15m. "
        "Without window, since and until: last_24h.",
        WINDOW,
    ),
    SINCE,
    UNTIL,
)
