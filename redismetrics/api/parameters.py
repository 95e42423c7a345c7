"""What a query string may hold. Each parameter is told once: how it is read, and how the OpenAPI document describes it."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from redismetrics.errors import InvalidQuery
from redismetrics.model.time import OPEN_UNTIL, YEAR_10000
from redismetrics.model.validation import NAME_PATTERN, TYPES
from redismetrics.model.windows import DURATION_PATTERN, INTERVALS, WINDOWS, window_ms
from redismetrics.queries.arguments import AGGREGATIONS, PERCENTILE_PATTERN

Schema = Mapping[str, Any]

_MOST_FIELDS = 1_000  # of a query string


def _whole_text(*patterns: "re.Pattern[str] | str") -> str:
    """One pattern of JSON Schema for texts that fit any of *patterns* as a whole."""
    texts = (
        each if isinstance(each, str) else each.pattern.removesuffix(r"\Z") for each in patterns
    )
    return f"^(?:{'|'.join(texts)})$"


NAME = {"type": "string", "pattern": _whole_text(NAME_PATTERN)}
WINDOW = {"type": "string", "pattern": _whole_text(*WINDOWS, DURATION_PATTERN)}
INTERVAL = {"type": "string", "pattern": _whole_text(*INTERVALS, DURATION_PATTERN)}
AGGREGATION = {"type": "string", "pattern": _whole_text(*AGGREGATIONS, PERCENTILE_PATTERN)}
TYPE = {"type": "string", "enum": list(TYPES)}
_NAME_TEXT = NAME_PATTERN.pattern.removesuffix(r"\Z")
TAG = {"type": "string", "pattern": f"^(?:{_NAME_TEXT}=[\\s\\S]*|!{_NAME_TEXT})$"}
PATTERN = {"type": "string", "minLength": 1, "maxLength": 200}
TIME = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": YEAR_10000 - 1},
        {"type": "string", "format": "date-time"},
    ]
}
BOOLEAN = {"type": "boolean"}
EVERY = {"type": "number", "minimum": 0.1, "maximum": 3600}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a query string; *read* makes a value of one text, or raises `InvalidQuery`."""

    name: str
    help: str
    schema: Schema
    read: Callable[[str], Any] = str
    required: bool = False
    several: bool = False
    default: Any = None

    def describe(self, most: int) -> dict[str, Any]:
        """The OpenAPI object of this parameter, which may be given *most* times if several times at all."""
        schema: dict[str, Any] = dict(self.schema)
        if self.several:
            schema = {"type": "array", "items": schema, "maxItems": most}
        if self.default is not None:
            schema["default"] = self.default
        return {
            "name": self.name, "in": "query", "required": self.required, "description": self.help, "schema": schema,
            **({"style": "form", "explode": True} if self.several else {}),
        }  # fmt: skip


def read(parameters: Iterable[Parameter], query: bytes, most: int) -> dict[str, Any]:
    """The values of a query string by name; those not given have their default, or () where there may be several.

    Raises:
        InvalidQuery: a parameter that is unknown, missing, given twice or more than *most* times, or not readable.
    """
    try:
        given = parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_FIELDS
        )
    except ValueError as error:
        raise InvalidQuery(f"parameters: wanted at most {_MOST_FIELDS}, got more") from error
    known = {parameter.name: parameter for parameter in parameters}
    texts: dict[str, list[str]] = {}
    for name, text in given:
        if name not in known:
            wanted = f"wanted one of {', '.join(known)}" if known else "wanted no parameters"
            raise InvalidQuery(f"unknown parameter: {wanted}, got {name!r:.80}")
        texts.setdefault(name, []).append(text)
    values: dict[str, Any] = {}
    for parameter in known.values():
        found = texts.get(parameter.name, [])
        if parameter.required and not found:
            raise InvalidQuery(f"{parameter.name}: wanted it, got none")
        if len(found) > 1 and not parameter.several:
            raise InvalidQuery(f"{parameter.name}: wanted it once, got it {len(found)} times")
        if len(found) > most:
            raise InvalidQuery(
                f"{parameter.name}: wanted it at most {most} times (the limit max_repeats), got {len(found)}"
            )
        values[parameter.name] = parameter.default
        if parameter.several:
            values[parameter.name] = tuple(parameter.read(text) for text in found)
        elif found:
            values[parameter.name] = parameter.read(found[0])
    return values


_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?(?:[eE]\+?[0-9]{1,2})?\Z")
_WHOLE = re.compile(r"[0-9]{1,9}\Z")


def read_time(what: str) -> Callable[[str], Any]:
    """A reader of Unix seconds or ISO 8601 with a zone."""

    def read_one(text: str) -> Any:
        if _SECONDS.match(text):
            return float(text)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise InvalidQuery(
                f"{what}: wanted Unix seconds or ISO 8601 with a zone (a + as %2B), got {text!r:.80}"
            )
        return moment

    return read_one


def read_whole(what: str, least: int, most: int) -> Callable[[str], int]:
    def read_one(text: str) -> int:
        if not _WHOLE.match(text) or not least <= int(text) <= most:
            raise InvalidQuery(
                f"{what}: wanted a whole number from {least} to {most}, got {text!r:.80}"
            )
        return int(text)

    return read_one


def read_number(what: str, least: float, most: float) -> Callable[[str], float]:
    def read_one(text: str) -> float:
        if not _SECONDS.match(text) or not least <= float(text) <= most:
            raise InvalidQuery(
                f"{what}: wanted a number from {least:g} to {most:g}, got {text!r:.80}"
            )
        return float(text)

    return read_one


def read_truth(what: str) -> Callable[[str], bool]:
    def read_one(text: str) -> bool:
        if text not in ("true", "false"):
            raise InvalidQuery(f"{what}: wanted true or false, got {text!r:.80}")
        return text == "true"

    return read_one


def read_tag(text: str) -> tuple[str, str | None]:
    """A filter: ``key=value``, or ``!key`` for series without the tag."""
    key, equals, value = text.partition("=")
    if equals:
        return key, value
    if text.startswith("!"):
        return text[1:], None
    raise InvalidQuery(f"tag: wanted KEY=VALUE, or !KEY for series without it, got {text!r:.80}")


def tags_of(pairs: Iterable[tuple[str, str | None]]) -> dict[str, str | None]:
    """The filters as one mapping; a key with two values fits no series, and raises."""
    tags: dict[str, str | None] = {}
    for key, value in pairs:
        if tags.setdefault(key, value) != value:
            raise InvalidQuery(
                f"tag: wanted one value of {key!r:.80}, got {tags[key]!r:.80} and {value!r:.80}"
            )
    return tags


METRIC = Parameter("name", "The metric.", NAME, required=True)
TAGS = Parameter(
    "tag",
    "Only series with this tag: KEY=VALUE; !KEY: only series without it.",
    TAG,
    read_tag,
    several=True,
)
GROUP_BY = Parameter("group_by", "Tags to group by.", NAME, several=True)
SINCE = Parameter(
    "since", "Not before: Unix seconds, or ISO 8601 with a zone.", TIME, read_time("since")
)
UNTIL = Parameter(
    "until", "Before: Unix seconds, or ISO 8601 with a zone.", TIME, read_time("until")
)
WINDOW_OPTION = Parameter(
    "window",
    "last_hour, last_24h, last_7d, last_30d, or text such as 15m. Without it, since or until: last_24h.",
    WINDOW,
)
TIMES = (WINDOW_OPTION, SINCE, UNTIL)


@dataclass(frozen=True, slots=True)
class Span:
    """A window as `Metrics` takes it, and how long it is."""

    window: Any
    seconds: float


def window_of(values: Mapping[str, Any], now_s: float, most_s: float) -> Span:
    """The window that a request asks for, at most *most_s* seconds long."""
    window, since, until = values["window"], values["since"], values["until"]
    if window is not None and not (since is None and until is None):
        raise InvalidQuery("window: wanted it, or since and until, got both")
    if window is None:
        window = "last_24h" if since is None and until is None else (since, until)
    now_ms = round(now_s * 1000)
    first, last = window_ms(window, now_ms)
    seconds = (
        max(min(last, max(now_ms, first)) - first, 0) / 1000
        if last >= OPEN_UNTIL
        else max(last - first, 0) / 1000
    )
    if seconds > most_s:
        raise InvalidQuery(
            f"window: wanted at most {most_s:g} s (the limit window_seconds), got {seconds:g} s"
        )
    return Span(window, seconds)
