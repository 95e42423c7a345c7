"""The commands that run until they are stopped: worker, export, serve.

The code that they run is imported when they start.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redismetrics.client.metrics import Metrics
from redismetrics.errors import InvalidSetting, RedisMetricsError

from . import beside
from .options import Archive, Namespace, Url
from .progress import shown_progress

if TYPE_CHECKING:
    from redismetrics.exposition.status_page import StatusSource


def work(context: typer.Context) -> None:
    """Run a worker: seal, downsample, expire data; also runs --rules, --archive and --push."""
    from redismetrics.worker import __main__

    def run_worker(arguments: list[str], sources: "Sequence[StatusSource]" = ()) -> int:
        return __main__.main(
            arguments,
            prog="redismetrics worker",
            epilog=beside.HELP,
            watch=shown_progress,
            beside=sources,
        )

    if beside.has_services(context.args):
        raise typer.Exit(beside.work_beside(context.args, run_worker))
    raise typer.Exit(run_worker(context.args))


def export_page(context: typer.Context) -> None:
    """Print or serve the Prometheus page."""
    from redismetrics.export.__main__ import main

    raise typer.Exit(main(context.args, prog="redismetrics export"))


def serve(
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 means all interfaces.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="The port; 0 picks a free one.")
    ] = 9465,
    url: Url = None,
    namespace: Namespace = None,
    archive: Archive = None,
    allow_write: Annotated[
        bool,
        typer.Option(
            "--allow-write",
            help="Also record: POST /api/record, OTLP at /v1/metrics, and Prometheus remote "
            "write at /api/v1/write.",
        ),
    ] = False,
    resource_attribute: Annotated[
        list[str] | None,
        typer.Option(
            help="An OpenTelemetry resource attribute to store as a tag; may be repeated "
            "(default: service.name).",
            metavar="KEY",
        ),
    ] = None,
    external_label: Annotated[
        list[str] | None,
        typer.Option(
            help="A label that PromQL adds to all series that lack it, such as job=api; may be "
            "repeated.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="A file with the bearer token (default: REDISMETRICS_TOKEN).", metavar="F"
        ),
    ] = None,
    write_token_file: Annotated[
        Path | None,
        typer.Option(
            help="A file with a bearer token that may also write; the other one is then "
            "read-only (default: REDISMETRICS_WRITE_TOKEN).",
            metavar="F",
        ),
    ] = None,
    max_window: Annotated[
        float, typer.Option(min=1, help="Maximum window of a query, in days.")
    ] = 366,
    max_series: Annotated[
        int, typer.Option(min=1, help="Maximum number of series that a query may read.")
    ] = 20_000,
    max_rows: Annotated[
        int, typer.Option(min=1, help="Maximum number of rows in a result.")
    ] = 50_000,
    promql_timeout: Annotated[
        float, typer.Option(min=0.1, help="Timeout of a PromQL expression, in seconds.")
    ] = 120,
    open_page: Annotated[bool, typer.Option("--open", help="Open the web page in a browser.")] = (
        False
    ),
) -> None:
    """Serve a web page, JSON, server-sent events and the Prometheus page over HTTP.

    The web page is at /. The endpoints are described at /openapi.json.
    """
    from redismetrics.api.app import create_app
    from redismetrics.api.limits import Limits
    from redismetrics.api.server import WRITE_TOKEN_VARIABLE, read_token, stopped_by_sigterm
    from redismetrics.api.server import serve as run_server
    from redismetrics.integrations.limits import RESOURCE_ATTRIBUTES
    from redismetrics.model.external_labels import read_labels
    from redismetrics.store.urls import is_loopback

    labels = read_labels(external_label or ())
    try:
        token = read_token(token_file)
        write_token = read_token(write_token_file, WRITE_TOKEN_VARIABLE)
    # The problem is the file, not the command line.
    except InvalidSetting as error:
        raise RedisMetricsError(str(error)) from error
    limits = Limits(
        window_seconds=max_window * 86_400,
        max_series=max_series,
        max_rows=max_rows,
        promql_seconds=promql_timeout,
    )
    with stopped_by_sigterm(), Metrics(url, namespace=namespace, archive=archive) as metrics:
        app = create_app(
            metrics,
            limits=limits,
            token=token,
            write_token=write_token,
            allow_write=allow_write,
            resource_attributes=resource_attribute or RESOURCE_ATTRIBUTES,
            external_labels=labels,
            localhost_only=token is None and is_loopback(host),
        )
        if token is None and not is_loopback(host):
            print(
                f"without a token, anyone who can reach {host} can query"
                f"{' and record' if allow_write and write_token is None else ''}",
                file=sys.stderr,
            )
        run_server(
            app,
            host,
            port,
            ready=lambda at: tell(at, open_page),
        )


def tell(address: str, open_page: bool) -> None:
    """Print the address of the running server; with *open_page*, open it in a browser."""
    print(f"serving on {address}", file=sys.stderr, flush=True)
    if not open_page:
        return
    import threading
    import webbrowser

    # A browser cannot open the address that means all interfaces.
    shown = address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    # In a thread: a browser of the terminal runs until it is closed.
    threading.Thread(target=webbrowser.open, args=(shown,), daemon=True).start()
