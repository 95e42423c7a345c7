"""The commands that record. Each returns when Redis has confirmed its samples."""

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

from redismetrics.client.metrics import Metrics
from redismetrics.errors import InvalidTags, InvalidValue, shown
from redismetrics.model.label_sets import LABEL_TYPES

from . import options
from .options import Labels, Name, Namespace, Timestamp, Type, Url

# Lines of standard input between flushes, so that the memory for unsent samples is bounded.
_FLUSH_LINES = 100_000

# With these settings -5 is a value, not an option.
NEGATIVE = {"ignore_unknown_options": True}

Metadata = Annotated[
    str | None,
    typer.Option(
        "--metadata",
        help='A JSON object that is stored with the sample, such as {"job": 7}.',
        metavar="JSON",
    ),
]
Exemplar = Annotated[
    list[str] | None,
    typer.Option(
        "--exemplar",
        help="A label of the exemplar of this sample, such as trace_id=5b8a. Can be repeated.",
        metavar="K=V",
    ),
]
_LINES = "- reads numbers from standard input, one per line"


def record(
    name: Name,
    value: Annotated[str, typer.Argument(help=f"A number; {_LINES}.", metavar="[VALUE]")] = "1",
    kind: Type = None,
    tag: Labels = None,
    metadata: Metadata = None,
    exemplar: Exemplar = None,
    timestamp: Timestamp = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Record a sample of any type.

    Without --type, the sample has the metric's type. The type of a new metric is inferred from its
    name and the value.

    With --type info, the value is a JSON object of labels, such as {"version": "1.2"}. With --type
    stateset, it is the name of a state.
    """
    fixed: dict[str, Any] = {
        "type": kind,
        "metadata": _json_object(metadata, "--metadata"),
        "exemplar": options.labels(exemplar, "--exemplar") or None,
    }
    given: Any = value
    if kind == "info":
        given = _json_object(value, "value")
    where = (tag, timestamp, url, namespace)
    _record(lambda metrics: partial(metrics.record, **fixed), name, given, *where, kind)


def increment(
    name: Name,
    amount: Annotated[
        str, typer.Argument(help=f"A number, at least 0; {_LINES}.", metavar="[AMOUNT]")
    ] = "1",
    tag: Labels = None,
    timestamp: Timestamp = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Add to a counter."""
    _record(lambda metrics: metrics.increment, name, amount, tag, timestamp, url, namespace)


def gauge(
    name: Name,
    value: Annotated[str, typer.Argument(help=f"The current value; {_LINES}.", metavar="VALUE")],
    tag: Labels = None,
    timestamp: Timestamp = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Set a gauge."""
    _record(lambda metrics: metrics.gauge, name, value, tag, timestamp, url, namespace)


def histogram(
    name: Name,
    value: Annotated[str, typer.Argument(help=f"A number; {_LINES}.", metavar="VALUE")],
    tag: Labels = None,
    timestamp: Timestamp = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Record a value in a histogram."""
    _record(lambda metrics: metrics.histogram, name, value, tag, timestamp, url, namespace)


def _record(
    method_of: Callable[[Metrics], Callable[..., None]],
    name: str,
    value: Any,
    tag: list[str] | None,
    timestamp: str | None,
    url: str | None,
    namespace: str | None,
    kind: str | None = None,
) -> None:
    given = {"tags": options.labels(tag), "timestamp": options.time(timestamp, "--timestamp")}
    with options.client(url, namespace) as metrics:
        method = method_of(metrics)
        if kind in LABEL_TYPES:
            method(name, value, **given)
        elif value == "-":
            _record_lines(metrics, lambda number: method(name, number, **given))
        else:
            method(name, options.number(value, "value"), **given)
        options.send(metrics)


def _record_lines(metrics: Metrics, record_value: Callable[[float], None]) -> None:
    """Record the number on each line of standard input.

    An invalid line is an error; the lines before it are stored.
    """
    recorded = 0
    for line_number, line in enumerate(sys.stdin, 1):
        if not line.strip():
            continue
        try:
            record_value(options.number(line, "value"))
        except ValueError as error:
            options.send(metrics)
            raise InvalidValue(
                f"line {line_number} of standard input: {error}; "
                f"the {recorded} values before it were recorded"
            ) from error
        recorded += 1
        if recorded % _FLUSH_LINES == 0:
            options.send(metrics)


def _json_object(text: str | None, what: str) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidTags(f"{what} must be a JSON object, got {shown(text, 80)}")
    return found
