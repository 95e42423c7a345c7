"""The command `run`: runs another program with its prometheus_client metrics in Redis."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from redismetrics.client.metrics import Metrics
from redismetrics.errors import InvalidSetting

from .options import Namespace, Url

# The folder whose `sitecustomize` installs redismetrics in every Python process.
_STARTUP = Path(__file__).parent / "startup"


def run_program(
    command: Annotated[
        list[str],
        typer.Argument(help="The program to run, after --.", metavar="-- COMMAND..."),
    ],
    process_metrics: Annotated[
        bool,
        typer.Option(
            "--process-metrics",
            help="Also record CPU time, memory, open files and garbage collection of each process.",
        ),
    ] = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Run a program with its prometheus_client metrics in Redis, without editing it.

    The program and all Python processes that it starts keep their metrics in Redis, and their pages
    show the totals of all processes. The command is replaced by the program (exec), so signals and
    the exit status are the program's own.
    """
    with Metrics(url, namespace=namespace) as metrics:
        settings = metrics.settings
        if settings.url is None:
            raise InvalidSetting(
                "run needs a server: pass --url, or set REDISMETRICS_URL, such as "
                "redis://localhost:6379/0"
            )
        _check_package()
    environ = {
        **os.environ,
        "REDISMETRICS_URL": settings.url,
        "REDISMETRICS_NAMESPACE": settings.namespace,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_STARTUP), os.getenv("PYTHONPATH")))),
    }
    if process_metrics:
        environ["REDISMETRICS_RUN_PROCESS_METRICS"] = "1"
    _become(command, environ)


def _check_package() -> None:
    """Raise `MissingExtra` if prometheus_client is not installed."""
    from redismetrics.compat import prometheus_client

    del prometheus_client


def _become(command: list[str], environ: dict[str, str]) -> None:
    try:
        os.execvpe(command[0], command, environ)
    except FileNotFoundError:
        print(f"redismetrics: {command[0]}: no such command", file=sys.stderr)
        raise typer.Exit(127) from None
    except OSError as error:
        print(f"redismetrics: {command[0]}: cannot run: {error.strerror}", file=sys.stderr)
        raise typer.Exit(126) from None
