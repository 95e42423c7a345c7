"""The application: all commands, error messages and exit statuses.

Exit status: 0 success; 1 an error of Redis or the system, or a negative result; 2 an invalid
command line; 130 stopped by Ctrl-C. `measure` and `run` exit with the status of their command.
"""

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from redismetrics import __version__
from redismetrics.errors import ArchiveUnavailable, RedisMetricsError, StoreUnavailable
from redismetrics.model.validation import did_you_mean

from . import (
    archive,
    catalog,
    copy,
    declare,
    delete,
    doctor,
    heat_map,
    mark,
    measure,
    promql,
    push,
    query,
    record,
    run_program,
    runs,
    services,
    streams,
    tail,
)
from .alerts.app import alerts_app
from .demo import demo
from .embedded import embedded_app
from .passed_on import PASSED_ON
from .top import screen

# Raised by typer and click for an invalid command line. Versions differ in where it can be imported
# from.
_UsageError: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

app = typer.Typer(
    help="Record and query metrics from many processes in one Redis or Valkey.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _help_of(command: Callable[..., None]) -> str:
    """Return the docstring with one line per paragraph, because typer keeps line breaks."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


for _name, _panel, _command, _settings in (
    ("demo", "Try it", demo, {}),
    ("record", "Record", record.record, record.NEGATIVE),
    ("increment", "Record", record.increment, record.NEGATIVE),
    ("gauge", "Record", record.gauge, record.NEGATIVE),
    ("histogram", "Record", record.histogram, record.NEGATIVE),
    ("measure", "Record", measure.measure, {}),
    ("declare", "Record", declare.declare, {}),
    ("mark", "Record", mark.mark, {}),
    ("run", "Record", run_program.run_program, {}),
    ("query", "Query", query.query, {}),
    ("time-series", "Query", query.time_series, {}),
    ("rollup", "Query", query.rollup, {}),
    ("heat-map", "Query", heat_map.heat_map, {}),
    ("runs", "Query", runs.runs, {}),
    ("promql", "Query", promql.promql, {}),
    ("list", "Query", catalog.list_metrics, {}),
    ("tag-values", "Query", catalog.tag_values, {}),
    ("exemplars", "Query", catalog.exemplars, {}),
    ("marks", "Query", mark.marks, {}),
    ("get-metrics", "Query", query.get_metrics, {}),
    ("stats", "Query", catalog.stats, {}),
    ("top", "Watch", screen.top, {}),
    ("subscribe", "Watch", tail.subscribe, {}),
    ("tail", "Watch", tail.subscribe, {}),
    ("doctor", "Watch", doctor.doctor, {}),
    ("cardinality", "Watch", doctor.cardinality, {}),
    ("worker", "Run services", services.work, PASSED_ON),
    ("export", "Run services", services.export_page, PASSED_ON),
    ("serve", "Run services", services.serve, {}),
    ("archive", "Run services", archive.archive, {}),
    ("push", "Run services", push.push, {}),
    ("copy", "Copy and delete", copy.copy, {}),
    ("delete", "Copy and delete", delete.delete, {}),
    ("clear", "Copy and delete", delete.clear, {}),
    ("mark-process-dead", "Copy and delete", delete.mark_process_dead, {}),
):
    _help = "An alias of subscribe." if _name == "tail" else _help_of(_command)
    app.command(_name, help=_help, rich_help_panel=_panel, context_settings=_settings)(_command)
app.add_typer(alerts_app, name="alerts", rich_help_panel="Watch")
app.add_typer(embedded_app, name="embedded", rich_help_panel="Run services")


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command of *argv*, or of the process's arguments, and return its exit status.

    An error is printed as one line on stderr.
    """
    streams.prepare()
    status = _run(argv)
    problem = streams.finish()
    if problem and not status:
        _print_error(problem)
    return status or (0 if problem is None else 1)


def _run(argv: Sequence[str] | None) -> int:
    try:
        status = app(
            args=None if argv is None else list(argv),
            prog_name="redismetrics",
            standalone_mode=False,
        )
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
        else:
            _print_error(_usage_message(error))
        return 2
    except (typer.Abort, KeyboardInterrupt):
        return 130
    # Our messages never contain a password.
    except (RedisMetricsError, OSError) as error:
        text = streams.describe(error).removesuffix(".")
        if isinstance(error, ArchiveUnavailable):
            text += "; set another archive with --archive or REDISMETRICS_ARCHIVE"
        elif isinstance(error, StoreUnavailable):
            text += "; is Redis running? Set another server with --url or REDISMETRICS_URL"
        _print_error(text)
        return 2 if isinstance(error, RedisMetricsError) and isinstance(error, ValueError) else 1
    return status if isinstance(status, int) else 0


def _print_error(text: str) -> None:
    print("redismetrics:", text, file=sys.stderr)


def _usage_message(error: Any) -> str:
    """Return click's message on one line, with a suggested option and how to get help."""
    text = " ".join(error.format_message().split()).removesuffix(".")
    context = getattr(error, "ctx", None)
    if context is None:
        return f"{text} (see redismetrics --help)"
    # Commands that accept negative numbers mistake an unknown option for an argument.
    unknown = re.search(r"extra argument\(s\) \((--[\w-]+)", text)
    if unknown:
        known = [each for option in context.command.params for each in option.opts]
        text += did_you_mean(unknown[1], known)
    return f"{text} (see {context.command_path} --help)"


def _print_version(requested: bool) -> None:
    if requested:
        print(f"redismetrics {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Record and query metrics from many processes in one Redis or Valkey."""
