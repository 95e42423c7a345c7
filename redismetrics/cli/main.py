"""The application: all commands joined, and how errors and exit statuses are told.

Exit status: 0 done; 1 the store, the system or the answer says no; 2 the call is wrong; 130 stopped by Ctrl-C. `measure` ends as
its command does.
"""

import io
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from redismetrics import __version__
from redismetrics.errors import RedisMetricsError, StoreUnavailable

from . import copy, doctor, query, record, services, tail
from .demo import demo
from .top import screen

# What typer and click raise for a wrong call; its name is imported from where no two versions agree.
_WRONG_CALL: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

app = typer.Typer(
    help="Metrics of many processes in one Redis or Valkey.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

for _name, _panel, _command, _settings in (
    ("demo", "Try it", demo, {}),
    ("record", "Record", record.record, record.NEGATIVE),
    ("increment", "Record", record.increment, record.NEGATIVE),
    ("gauge", "Record", record.gauge, record.NEGATIVE),
    ("histogram", "Record", record.histogram, record.NEGATIVE),
    ("measure", "Record", record.measure, {}),
    ("query", "Ask", query.query, {}),
    ("time-series", "Ask", query.time_series, {}),
    ("rollup", "Ask", query.rollup, {}),
    ("list", "Ask", query.list_metrics, {}),
    ("tag-values", "Ask", query.tag_values, {}),
    ("get-metrics", "Ask", query.get_metrics, {}),
    ("stats", "Ask", query.stats, {}),
    ("top", "Watch", screen.top, {}),
    ("subscribe", "Watch", tail.subscribe, {}),
    ("tail", "Watch", tail.subscribe, {}),
    ("export", "Run", services.export_page, services.PASSED_ON),
    ("serve", "Run", services.serve, {}),
    ("worker", "Run", services.work, services.PASSED_ON),
    ("doctor", "Watch", doctor.doctor, {}),
    ("cardinality", "Watch", doctor.cardinality, {}),
    ("copy", "Tidy", copy.copy, {}),
    ("delete", "Tidy", query.delete, {}),
    ("clear", "Tidy", query.clear, {}),
):
    _help = "The same as subscribe." if _name == "tail" else None
    app.command(_name, help=_help, rich_help_panel=_panel, context_settings=_settings)(_command)
app.add_typer(services.embedded_app, name="embedded", rich_help_panel="Run")


def run(argv: Sequence[str] | None = None) -> int:
    """Run a command, of *argv* or of the process's arguments, and return its exit status. An error is one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="replace"
            )  # a terminal that can't show a bar still shows the numbers
    try:
        status = app(
            args=None if argv is None else list(argv),
            prog_name="redismetrics",
            standalone_mode=False,
        )
    except _WRONG_CALL as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
        else:
            command = error.ctx.command_path if getattr(error, "ctx", None) else "redismetrics"
            _complain(f"{_sentence(error.format_message())} (see {command} --help)")
        return 2
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except (RedisMetricsError, OSError) as error:  # a message of ours never holds a password
        text = _sentence(str(error)) or type(error).__name__
        if isinstance(error, StoreUnavailable):
            text += "; is it running? Another is named by --url or REDISMETRICS_URL"
        _complain(text)
        return 2 if isinstance(error, RedisMetricsError) and isinstance(error, ValueError) else 1
    return status if isinstance(status, int) else 0


def _complain(text: str) -> None:
    print("redismetrics:", text, file=sys.stderr)


def _sentence(text: str) -> str:
    return " ".join(text.split()).removesuffix(".")


def _print_version(wanted: bool) -> None:
    if wanted:
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
    """Metrics of many processes in one Redis or Valkey."""
