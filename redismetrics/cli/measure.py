"""The command `measure`: run another command and record its duration."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Annotated, Any

import typer

from redismetrics.errors import RedisMetricsError, one_line
from redismetrics.model.units import duration_unit

from . import options
from .options import Labels, Name, Namespace, Url

_FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")


def measure(
    context: typer.Context,
    name: Name,
    command: Annotated[
        list[str],
        typer.Argument(help="The command to run, after --.", metavar="-- COMMAND..."),
    ],
    outcome_tag: Annotated[
        str | None,
        typer.Option(
            "--outcome-tag",
            help="Add this tag with the value ok or failed, depending on the exit status.",
            metavar="K",
        ),
    ] = None,
    tag: Labels = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Run a command and record its duration.

    The duration is in milliseconds, or in seconds if the metric is declared in seconds or its name
    ends in _seconds. Signals are passed on to the command. The exit status is the command's own, or
    128 + N if signal N ended it. If the duration cannot be recorded, a message is printed and the
    exit status stays the same.
    """
    del context
    tags = options.labels(tag)
    with options.client(url, namespace) as metrics:
        # Checked before the command runs.
        checked_tags = {**tags, outcome_tag: ""} if outcome_tag else tags
        metrics.check(name, 1.0, type="histogram", tags=checked_tags)
        began = perf_counter()
        status = _run(command)
        elapsed = perf_counter() - began
        if outcome_tag:
            tags[outcome_tag] = "failed" if status else "ok"
        try:
            known = {each["name"]: each for each in metrics.list_metrics()}.get(name)
            if known is None:
                metrics.declare(name, "histogram", unit=duration_unit(name))
            unit = (known["unit"] if known else "") or duration_unit(name)
            in_seconds = unit in ("s", "seconds")
            metrics.histogram(name, elapsed if in_seconds else elapsed * 1000, tags=tags)
            options.send(metrics)
        except RedisMetricsError as error:
            print(f"redismetrics: {name} was not recorded: {one_line(error)}", file=sys.stderr)
            metrics.close(0)
    raise typer.Exit(status)


def _run(command: list[str]) -> int:
    """Run *command* to completion; return its exit status as a shell would."""
    try:
        with _forwarding_signals() as set_child:
            process = subprocess.Popen(command)
            set_child(process)
            status = process.wait()
    except FileNotFoundError:
        print(f"redismetrics: {command[0]}: no such command", file=sys.stderr)
        raise typer.Exit(127) from None
    except OSError as error:
        print(f"redismetrics: {command[0]}: cannot run: {error.strerror}", file=sys.stderr)
        raise typer.Exit(126) from None
    return status if status >= 0 else 128 - status


@contextmanager
def _forwarding_signals() -> "Iterator[Callable[[subprocess.Popen[bytes]], None]]":
    """Forward signals to the process that is passed to the yielded function.

    Signals sent by a terminal are not forwarded: the process has already received them.
    """
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def forward(number: int, _: Any) -> None:
        if number in (signal.SIGINT, signal.SIGQUIT) and _in_foreground():
            return
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    def set_child(process: "subprocess.Popen[bytes]") -> None:
        nonlocal child
        child = process
        for number in early:
            process.send_signal(number)

    before = {}
    for name in _FORWARDED:
        each = getattr(signal, name)
        # Signals ignored here, as under nohup, are ignored by the command too.
        if signal.getsignal(each) != signal.SIG_IGN:
            before[each] = signal.signal(each, forward)
    try:
        yield set_child
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _in_foreground() -> bool:
    """Return whether Ctrl-C at the terminal reaches this process, and therefore its child."""
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
