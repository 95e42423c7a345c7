"""Template functions: those of Go and those of Prometheus.

Semantics: https://pkg.go.dev/text/template#hdr-Functions and
https://prometheus.io/docs/prometheus/latest/configuration/template_reference/
"""

import html
import json
import math
import urllib.parse
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from redismetrics.alerts.durations import parse_duration

from .errors import ExpansionError
from .execute import Record, is_true
from .go_format import float_text, joined, printf, shown, type_name
from .humanize import humanize, humanize_1024, humanize_duration, humanize_percentage
from .regular_expressions import matches, replace_all

# Maximum number of samples returned by a query in a template.
MAX_SAMPLES = 1000

# A query in a template: takes an expression, returns (labels, value) of each series.
Query = Callable[[str], Sequence[tuple[dict[str, str], float]]]


def number(value: Any) -> float:
    """Return a number, given a number or text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise ExpansionError(f'strconv.ParseFloat: parsing "{value}": invalid syntax') from None
    raise ExpansionError(f"can't convert {type_name(value)} to float64")


def text(value: Any) -> str:
    """Return *value* if it is text."""
    if not isinstance(value, str):
        raise ExpansionError(f"wrong type for value; expected string; got {type_name(value)}")
    return value


def _vector(value: Any) -> list[Record]:
    if not isinstance(value, list):
        raise ExpansionError(f"wrong type for value; expected a vector; got {type_name(value)}")
    return value


def _sample(value: Any) -> Record:
    if not isinstance(value, Record) or "Labels" not in value.fields:
        raise ExpansionError(f"wrong type for value; expected a sample; got {type_name(value)}")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ExpansionError(f"wrong type for value; expected int; got {type_name(value)}")
    return value


def _first(vector: Any) -> Record:
    if not _vector(vector):
        raise ExpansionError("first() called on vector with no elements")
    return _vector(vector)[0]


def _time(value: Any) -> Any:
    seconds = number(value)
    if not math.isfinite(seconds):
        raise ExpansionError(f"{shown(seconds)} cannot be converted to a time")
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    except OverflowError as error:
        raise ExpansionError(f"{shown(seconds)} is not a time between year 1 and 9999") from error


def _timestamp(value: Any) -> str:
    seconds = number(value)
    return shown(_time(value)) if math.isfinite(seconds) else float_text(seconds)


def _duration(value: Any) -> float:
    try:
        return parse_duration(text(value)) / 1000
    except ValueError as error:
        raise ExpansionError(str(error)) from error


def title(value: Any) -> str:
    """Return text with the first letter of each word capitalised."""
    letters = list(text(value))
    previous = " "
    for place, letter in enumerate(letters):
        if _is_separator(previous):
            letters[place] = letter.title()
        previous = letter
    return "".join(letters)


def _is_separator(letter: str) -> bool:
    if letter.isascii():
        return not (letter.isalnum() or letter == "_")
    return letter.isspace()


def _strip_port(host_port: Any) -> str:
    host = text(host_port)
    if host.startswith("["):
        inside, bracket, rest = host[1:].partition("]")
        return inside if bracket and rest[:1] == ":" else host
    name, colon, _ = host.rpartition(":")
    return name if colon and ":" not in name else host


def _strip_domain(host_port: Any) -> str:
    host = text(host_port)
    name = _strip_port(host)
    port = host[len(name) :] if host.startswith(name) else ""
    return name.split(".", 1)[0] + port


def _link(expression: Any, tab: int) -> str:
    return f"/graph?g0.expr={urllib.parse.quote_plus(text(expression))}&g0.tab={tab}"


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(text(key), "")
        elif isinstance(value, list | str):
            place = _whole(key)
            if not 0 <= place < len(value):
                raise ExpansionError(f"index out of range: {place}")
            value = value[place] if isinstance(value, list) else value.encode()[place]
        else:
            raise ExpansionError(f"can't index item of type {type_name(value)}")
    return value


def _slice(value: Any, *places: Any) -> Any:
    if not isinstance(value, list | str):
        raise ExpansionError(f"can't slice item of type {type_name(value)}")
    bounds = [_whole(each) for each in places]
    if len(bounds) > 2 or sorted(bounds) != bounds or any(not 0 <= b <= len(value) for b in bounds):
        raise ExpansionError(f"slice index out of range: {bounds}")
    begin, end = (*bounds, *(0, len(value))[len(bounds) :])
    return value[begin:end]


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, list | dict):
        return len(value)
    raise ExpansionError(f"len of type {type_name(value)}")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    return "float" if isinstance(value, float) else "string" if isinstance(value, str) else "other"


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise ExpansionError("missing argument for comparison")
    for each in others:
        kinds = {_kind(first), _kind(each)}
        if "other" in kinds and not (first is None or each is None):
            raise ExpansionError("non-comparable type")
        if len(kinds) > 1 and "other" not in kinds:
            raise ExpansionError("incompatible types for comparison")
        if first == each:
            return True
    return False


def _less(first: Any, second: Any) -> bool:
    kinds = {_kind(first), _kind(second)}
    if kinds & {"bool", "other"}:
        raise ExpansionError("invalid type for comparison")
    if len(kinds) > 1:
        raise ExpansionError("incompatible types for comparison")
    less: bool = first < second
    return less


def _less_or_equal(first: Any, second: Any) -> bool:
    return _less(first, second) or _equal(first, second)


def _argument_map(*values: Any) -> dict[str, Any]:
    return {f"arg{place}": value for place, value in enumerate(values)}


def _all_text(values: Sequence[Any]) -> str:
    return joined(list(values))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    # Go's.
    "not": lambda value: not is_true(value),
    "eq": _equal,
    "ne": lambda first, second: not _equal(first, second),
    "lt": _less,
    "le": _less_or_equal,
    "gt": lambda first, second: not _less_or_equal(first, second),
    "ge": lambda first, second: not _less(first, second),
    "index": _index,
    "slice": _slice,
    "len": _length,
    "print": lambda *values: _all_text(values),
    "println": lambda *values: " ".join(map(shown, values)) + "\n",
    "printf": lambda form, *values: printf(text(form), list(values)),
    "html": lambda *values: html.escape(_all_text(values)),
    "js": lambda *values: json.dumps(_all_text(values))[1:-1],
    "urlquery": lambda *values: urllib.parse.quote_plus(_all_text(values)),
    # Prometheus'.
    "first": _first,
    "label": lambda name, sample: _sample(sample).fields["Labels"].get(text(name), ""),
    "value": lambda sample: _sample(sample).fields["Value"],
    "strvalue": lambda sample: _sample(sample).fields["Labels"].get("__value__", ""),
    "args": _argument_map,
    "reReplaceAll": lambda pattern, new, old: replace_all(text(pattern), text(new), text(old)),
    "match": lambda pattern, value: matches(text(pattern), text(value)),
    "title": title,
    "toUpper": lambda value: text(value).upper(),
    "toLower": lambda value: text(value).lower(),
    "graphLink": lambda expression: _link(expression, 0),
    "tableLink": lambda expression: _link(expression, 1),
    "sortByLabel": lambda name, vector: sorted(
        _vector(vector), key=lambda sample: sample.fields["Labels"].get(text(name), "")
    ),
    "stripPort": _strip_port,
    "stripDomain": _strip_domain,
    "humanize": lambda value: humanize(number(value)),
    "humanize1024": lambda value: humanize_1024(number(value)),
    "humanizeDuration": lambda value: humanize_duration(number(value)),
    "humanizePercentage": lambda value: humanize_percentage(number(value)),
    "humanizeTimestamp": _timestamp,
    "toTime": _time,
    "toDuration": number,
    "parseDuration": _duration,
    "safeHtml": text,
    "urlQueryEscape": lambda value: urllib.parse.quote_plus(text(value)),
}
# These need the evaluated rule; `and` and `or` do not evaluate all their arguments.
OTHERS = frozenset({"and", "or", "query", "now", "externalURL", "pathPrefix", "tmpl"})
NAMES = frozenset(FUNCTIONS) | OTHERS


def functions_for(query: Query, now_s: float, external_url: str) -> dict[str, Callable[..., Any]]:
    """Return all functions; `query` calls *query*, and accepts at most 1,000 samples."""

    def ask(expression: Any) -> list[Record]:
        found = query(text(expression))
        if len(found) > MAX_SAMPLES:
            raise ExpansionError(
                f"query must return at most {MAX_SAMPLES} series, got {len(found)}; aggregate it"
            )
        return [Record("sample", Labels=labels, Value=float(value)) for labels, value in found]

    path = urllib.parse.urlsplit(external_url).path.rstrip("/")
    return {
        **FUNCTIONS,
        "query": ask,
        "now": lambda: float(now_s),
        "externalURL": lambda: external_url,
        "pathPrefix": lambda: path,
    }
