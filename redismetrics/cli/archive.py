"""The command that keeps history outside of Redis: archive."""

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar

from redismetrics.client.metrics import Metrics
from redismetrics.errors import RedisMetricsError
from redismetrics.model.safe_url import safe_url
from redismetrics.settings import resolve
from redismetrics.store.connection import Store

from .alerts.service import log_to_stderr
from .options import AsJson, Namespace, Url
from .printing import BAR, print_json

if TYPE_CHECKING:
    from redismetrics.archive.archiver import PassReport
    from redismetrics.archive.service import ArchiveService
    from redismetrics.archive.target import Target
    from redismetrics.archive.verify import VerifyReport

log = logging.getLogger("redismetrics")

# The metric for the lag of an archiver, and its help text.
LAG_METRIC = "redismetrics.archive_lag"
LAG_HELP = "Age of the oldest hour or day waiting to be archived."
DEFAULT_LEVELS = ("hour", "day")
# Seconds between two passes.
INTERVAL = 60.0
# Seconds for the archiver to finish its current work.
_STOP_TIMEOUT = 15.0


def archive(
    target: Annotated[
        str,
        typer.Option(
            "--to",
            help="The archive: postgresql://..., clickhouse://... or file:///folder.",
            metavar="URL",
            envvar="REDISMETRICS_ARCHIVE",
        ),
    ],
    level: Annotated[
        list[str] | None,
        typer.Option(
            "--level",
            help="raw, minute, hour or day; may be repeated (default: hour and day).",
            metavar="LEVEL",
        ),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Archive all complete hours and days, then exit.")
    ] = False,
    backfill: Annotated[
        bool,
        typer.Option("--backfill", help="Rewrite everything that Redis still holds, then exit."),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Compare counts and sums on both sides, then exit, with status 1 if they differ.",
        ),
    ] = False,
    interval: Annotated[
        float, typer.Option(min=1, max=86_400, help="Seconds between passes.")
    ] = INTERVAL,
    schema: Annotated[
        str | None,
        typer.Option(
            help="The schema of the tables in PostgreSQL, or their database in ClickHouse "
            "(default: that of the connection).",
            envvar="REDISMETRICS_ARCHIVE_SCHEMA",
        ),
    ] = None,
    table_prefix: Annotated[
        str,
        typer.Option(
            "--table-prefix",
            help="Prefix of the tables in PostgreSQL and ClickHouse.",
            envvar="REDISMETRICS_ARCHIVE_PREFIX",
        ),
    ] = "rm_",
    metrics_port: Annotated[
        str,
        typer.Option(
            help="Serve /metrics and /healthz of the archiver itself.", metavar="[HOST:]PORT"
        ),
    ] = "",
    url: Url = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Keep complete hours and days in PostgreSQL, ClickHouse or Parquet files.

    When late samples change a slot, its row is replaced, so every slot is stored once.
    """
    # Imported here because it loads redis and the driver of the archive.
    from redismetrics.archive.archiver import check_levels
    from redismetrics.archive.target import target_opener

    if verify and (once or backfill):
        raise typer.BadParameter("--verify cannot be combined with --once or --backfill")
    levels = check_levels(level or DEFAULT_LEVELS)
    settings = resolve(url=url, namespace=namespace)
    store = Store(settings.url, settings.socket_timeout)
    opener = target_opener(target, schema=schema, prefix=table_prefix)
    if not (verify or once or backfill):
        log_to_stderr()
        log.info("archiving namespace %s to %s", settings.namespace, safe_url(target))
        with (
            Metrics(store.url, namespace=settings.namespace) as metrics,
            archiving(metrics, opener, levels, interval, as_json=as_json) as service,
        ):
            _wait_until_stopped(service, metrics_port)
        return
    with _opened(opener(), store) as opened:
        if verify:
            _compare(store, settings.namespace, opened, levels, as_json=as_json)
        else:
            _archive_once(
                store, settings.namespace, opened, levels, backfill=backfill, as_json=as_json
            )


def _archive_once(
    store: Store,
    namespace: str,
    target: "Target",
    levels: tuple[str, ...],
    *,
    backfill: bool,
    as_json: bool,
) -> None:
    from redismetrics.archive.archiver import Archiver
    from redismetrics.archive.service import new_holder

    with _progress_bar("archiving") as on_progress:
        archiver = Archiver(store.client, namespace, target, levels, new_holder(), on_progress)
        report = archiver.pass_once(backfill=backfill)
    print_json(asdict(report)) if as_json else print(_sentence(report))
    if report.skipped:
        raise typer.Exit(1)


def _compare(
    store: Store, namespace: str, target: "Target", levels: tuple[str, ...], *, as_json: bool
) -> None:
    from redismetrics.archive.verify import verify

    with _progress_bar("comparing") as on_progress:
        found = verify(store.client, namespace, target, levels, on_progress)
    print_json(asdict(found)) if as_json else _print_comparison(found)
    if found.different:
        raise typer.Exit(1)


def _wait_until_stopped(service: "ArchiveService", metrics_port: str) -> None:
    """Serve the page of the service until SIGTERM or SIGINT."""
    from redismetrics.archive.page import serve_status

    with ExitStack() as stack:
        if metrics_port:
            stack.enter_context(serve_status(service, metrics_port))
        with suppress(KeyboardInterrupt):
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            threading.Event().wait()


@contextmanager
def archiving(
    metrics: Metrics,
    opener: "Callable[[], Target]",
    levels: Sequence[str] = DEFAULT_LEVELS,
    interval: float = INTERVAL,
    *,
    as_json: bool = False,
) -> "Iterator[ArchiveService]":
    """Archive in a background thread; log each pass, and record its lag with *metrics*."""
    from redismetrics.archive.service import ArchiveService

    settings = metrics.settings
    store = Store(settings.url, settings.socket_timeout)
    report_pass = _pass_report(metrics, as_json=as_json)
    service = ArchiveService(
        store, settings.namespace, opener, levels, interval=interval, report=report_pass
    )
    thread = threading.Thread(target=service.run, name="redismetrics-archive", daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.stop.set()
        thread.join(_STOP_TIMEOUT)
        store.close()


@contextmanager
def _opened(target: "Target", store: Store) -> Iterator["Target"]:
    try:
        yield target
    finally:
        target.close()
        store.close()


def _pass_report(metrics: Metrics, *, as_json: bool) -> "Callable[[PassReport], None]":
    """Return a function that logs a pass, or prints it as JSON, and records its lag as a gauge."""
    metrics.declare(LAG_METRIC, "gauge", unit="seconds", help=LAG_HELP)

    def report_pass(report: "PassReport") -> None:
        with suppress(RedisMetricsError):
            metrics.gauge(LAG_METRIC, report.lag_seconds)
        if as_json:
            print_json(asdict(report))
            sys.stdout.flush()
        elif report.rows or report.skipped:
            log.info("%s", _sentence(report))

    return report_pass


def _sentence(report: "PassReport") -> str:
    rows = ", ".join(f"{count:,} {level}" for level, count in report.rows.items() if count)
    text = f"Archived {rows or 'no new'} rows of {report.metrics} metrics."
    if report.waiting:
        text += f" {report.waiting} hours or days have not been built by a worker yet."
    if report.elsewhere:
        text += f" Another archiver is working on {report.elsewhere} groups of metrics."
    for name, reason in report.skipped.items():
        text += f"\nNot archived: {name}: {reason}"
    return text


def _print_comparison(found: "VerifyReport") -> None:
    rows = ", ".join(f"{count:,} {level}" for level, count in found.rows.items())
    print(f"Compared {rows or 'no'} rows: {found.different or 'none'} differ.")
    for each in found.differences:
        at = datetime.fromtimestamp(each["slot"] / 1000, UTC).isoformat()
        print(
            f"{each['metric']} {_tags(each['tags'])} {each['level']} {at}: "
            f"Redis {_side(each['redis'])}, archive {_side(each['archive'])}",
            file=sys.stderr,
        )


def _tags(tags: dict[str, str]) -> str:
    return "{" + ", ".join(f"{key}={value}" for key, value in tags.items()) + "}"


def _side(side: list[Any] | None) -> str:
    return "has no row" if side is None else f"count {side[0]}, sum {side[1]:.15g}"


@contextmanager
def _progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows how many metrics are done, if stderr is a terminal."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda done, total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(BAR),
        MofNCompleteColumn(),
        TextColumn("metrics"),
        TimeElapsedColumn(),
    )
    with ProgressBar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=max(total, 1))
