"""The commands that record: each returns when what it recorded is stored."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Annotated, Any

import typer

from redismetrics.client.metrics import Metrics
from redismetrics.errors import InvalidTags, InvalidValue, RedisMetricsError

from . import options
from .options import Labels, Name, Namespace, Timestamp, Type, Url

_AT_ONCE = 100_000  # lines of standard input between two flushes: what waits is bounded

NEGATIVE = {"ignore_unknown_options": True}  # -5 is a value

Metadata = Annotated[
    str | None,
    typer.Option(
        "--metadata", help='Kept with the sample: a JSON object, {"job": 7}.', metavar="JSON"
    ),
]
_LINES = "-: one a line of the standard input"


def record(
    name: Name,
    value: Annotated[str, typer.Argument(help=f"A number; {_LINES}.", metavar="[VALUE]")] = "1",
    kind: Type = None,
    tag: Labels = None,
    metadata: Metadata = None,
    timestamp: Timestamp = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Record a sample. Without --type it is of the metric's type, or a guess where the metric is new."""
    kept = _object(metadata)
    where = (tag, timestamp, url, namespace)
    _send(lambda metrics: partial(metrics.record, type=kind, metadata=kept), name, value, *where)  # type: ignore[arg-type]


def increment(
    name: Name,
    amount: Annotated[str, typer.Argument(help=f"At least 0; {_LINES}.", metavar="[AMOUNT]")] = "1",
    tag: Labels = None,
    timestamp: Timestamp = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Add to a counter."""
    _send(lambda metrics: metrics.increment, name, amount, tag, timestamp, url, namespace)


def gauge(
    name: Name,
    value: Annotated[str, typer.Argument(help=f"The value now; {_LINES}.", metavar="VALUE")],
    tag: Labels = None,
    timestamp: Timestamp = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Set a gauge."""
    _send(lambda metrics: metrics.gauge, name, value, tag, timestamp, url, namespace)


def histogram(
    name: Name,
    value: Annotated[
        str, typer.Argument(help=f"One of a distribution; {_LINES}.", metavar="VALUE")
    ],
    tag: Labels = None,
    timestamp: Timestamp = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Record a value of a histogram."""
    _send(lambda metrics: metrics.histogram, name, value, tag, timestamp, url, namespace)


def _send(
    verb_of: Callable[[Metrics], Callable[..., None]],
    name: str,
    text: str,
    tag: list[str] | None,
    timestamp: str | None,
    url: str | None,
    namespace: str | None,
) -> None:
    given = {"tags": options.labels(tag), "timestamp": options.time(timestamp, "--timestamp")}
    with options.client(url, namespace) as metrics:
        verb = verb_of(metrics)
        if text == "-":
            _from_lines(metrics, lambda value: verb(name, value, **given))
        else:
            verb(name, options.number(text, "value"), **given)
        options.send(metrics)


def _from_lines(metrics: Metrics, verb: Callable[[float], None]) -> None:
    """Record each line of standard input; a wrong one ends it, and those before it are stored."""
    done = 0
    for line_number, line in enumerate(sys.stdin, 1):
        if not line.strip():
            continue
        try:
            verb(options.number(line, "value"))
        except ValueError as error:
            options.send(metrics)
            raise InvalidValue(
                f"line {line_number} of the standard input: {error}; {done} before it are recorded"
            ) from error
        done += 1
        if done % _AT_ONCE == 0:
            options.send(metrics)


def _object(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidTags(f"--metadata: wanted a JSON object, got {text!r:.80}")
    return found


def measure(
    context: typer.Context,
    name: Name,
    command: Annotated[
        list[str], typer.Argument(help="What to run, after --.", metavar="-- COMMAND...")
    ],
    outcome_tag: Annotated[
        str | None,
        typer.Option(
            "--outcome-tag", help="A tag to be ok or failed, by the command's exit.", metavar="K"
        ),
    ] = None,
    tag: Labels = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Run a command and record how long it took, in ms; in seconds where the metric is declared so.

    Ends as the command did: with its exit status, or 128 + N where signal N ended it. Signals are passed on to it. That
    nothing could be recorded is told on stderr, and changes no exit status.
    """
    del context
    tags = options.labels(tag)
    with options.client(url, namespace) as metrics:
        taken = {outcome_tag: ""} if outcome_tag else {}
        metrics.check(
            name, 1.0, type="histogram", tags={**tags, **taken}
        )  # before the command runs
        began = perf_counter()
        status = _run(command)
        elapsed = perf_counter() - began
        if outcome_tag:
            tags[outcome_tag] = "failed" if status else "ok"
        try:
            known = {each["name"]: each for each in metrics.list_metrics()}.get(name)
            if known is None:
                metrics.declare(name, "histogram", unit="milliseconds")
            in_seconds = known is not None and known["unit"] in ("s", "seconds")
            metrics.histogram(name, elapsed if in_seconds else elapsed * 1000, tags=tags)
            options.send(metrics)
        except RedisMetricsError as error:
            print(
                f"redismetrics: {name} was not recorded: {' '.join(str(error).split())}",
                file=sys.stderr,
            )
            metrics.close(0)
    raise typer.Exit(status)


def _run(command: list[str]) -> int:
    """Run *command* to its end; its exit status as a shell tells it."""
    try:
        with _passing_on() as adopt:
            process = subprocess.Popen(command)
            adopt(process)
            status = process.wait()
    except FileNotFoundError:
        print(f"redismetrics: {command[0]}: no such command", file=sys.stderr)
        raise typer.Exit(127) from None
    except OSError as error:
        print(f"redismetrics: {command[0]}: can't be run: {error.strerror}", file=sys.stderr)
        raise typer.Exit(126) from None
    return status if status >= 0 else 128 - status


@contextmanager
def _passing_on() -> "Iterator[Callable[[subprocess.Popen[bytes]], None]]":
    """Let signals go to the process that is adopted. Those that a terminal sends went to it already."""
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int, _: Any) -> None:
        if number in (signal.SIGINT, signal.SIGQUIT) and _in_foreground():
            return
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    def adopt(process: "subprocess.Popen[bytes]") -> None:
        nonlocal child
        child = process
        for number in early:
            process.send_signal(number)

    before = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"):
        each = getattr(signal, name)
        if (
            signal.getsignal(each) != signal.SIG_IGN
        ):  # what is ignored, as under nohup, the command ignores too
            before[each] = signal.signal(each, pass_on)
    try:
        yield adopt
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _in_foreground() -> bool:
    """Is this process, and so its child, what a terminal's Ctrl-C reaches?"""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
