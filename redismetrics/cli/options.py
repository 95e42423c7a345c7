"""Shared by the commands: options, parsing of their values, and the client of a command."""

import logging
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer

from redismetrics.client.metrics import Metrics
from redismetrics.errors import (
    InvalidMetric,
    InvalidQuery,
    InvalidSetting,
    InvalidTags,
    InvalidValue,
    RedisMetricsError,
    no_such_metric,
    shown,
)
from redismetrics.model.time import system_clock
from redismetrics.model.time_text import TIME_FORMS, parse_time
from redismetrics.settings import resolve
from redismetrics.store.connection import Store
from redismetrics.store.embedded import folder_of
from redismetrics.store.embedded import status as embedded_status

# Seconds within which Redis must confirm the samples of a command.
FLUSH_SECONDS = 5.0

# Seconds that shell completion waits for Redis, and the maximum number of names it offers.
_COMPLETION_TIMEOUT = 0.5
_MAX_COMPLETIONS = 500


def complete_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return the metric names that begin with *incomplete*, for shell completion.

    Returns no names if Redis does not answer at once. Never starts an embedded server.
    """
    logging.getLogger("redismetrics").setLevel(logging.CRITICAL)
    found: list[str] = []
    with suppress(RedisMetricsError, OSError):
        settings = resolve(url=context.params.get("url"), namespace=context.params.get("namespace"))
        url = Store(settings.url, _COMPLETION_TIMEOUT).url
        if url.startswith("embedded:") and not embedded_status(folder_of(url))["running"]:
            return []
        with Metrics(
            url, namespace=settings.namespace, socket_timeout=_COMPLETION_TIMEOUT
        ) as metrics:
            found = [
                each["name"]
                for each in metrics.list_metrics()
                if each["name"].startswith(incomplete)
            ]
    return found[:_MAX_COMPLETIONS]


Name = Annotated[
    str, typer.Argument(help="The metric name.", metavar="NAME", autocompletion=complete_names)
]
NamesOrPatterns = Annotated[
    list[str] | None,
    typer.Argument(
        help="Metric names, or patterns such as 'jobs_*' (default: all metrics).",
        metavar="[NAME]...",
        autocompletion=complete_names,
    ),
]
Url = Annotated[
    str | None,
    typer.Option("--url", help="The Redis server (default: REDISMETRICS_URL).", metavar="URL"),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        help="The namespace (default: REDISMETRICS_NAMESPACE).",
        metavar="NS",
    ),
]
Archive = Annotated[
    str | None,
    typer.Option(
        "--archive",
        help="The archive to read what Redis no longer holds (default: REDISMETRICS_ARCHIVE).",
        metavar="URL",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Filter = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        "-t",
        help="Only series with this tag; '!K': only series without it. Can be repeated.",
        metavar="K=V",
    ),
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--tag", "-t", help="Add a tag. Can be repeated.", metavar="K=V"),
]
GroupBy = Annotated[
    list[str] | None,
    typer.Option(
        "--group-by",
        "-g",
        help="Tags to group by. Can be repeated, or separated by commas.",
        metavar="K,K",
    ),
]
Window = Annotated[
    str | None,
    typer.Option(
        "--window",
        "-w",
        help="last_hour, last_24h, last_7d, last_30d, or a duration such as 15m.",
        metavar="W",
    ),
]
Since = Annotated[
    str | None, typer.Option("--since", help=f"Start of the window: {TIME_FORMS}.", metavar="TIME")
]
Until = Annotated[
    str | None,
    typer.Option("--until", help=f"End of the window (exclusive): {TIME_FORMS}.", metavar="TIME"),
]
Timestamp = Annotated[
    str | None,
    typer.Option(
        "--timestamp", help=f"Time of the sample (default: now): {TIME_FORMS}.", metavar="TIME"
    ),
]
Type = Annotated[
    str | None,
    typer.Option(
        "--type", help="counter, gauge, histogram, summary, info or stateset.", metavar="TYPE"
    ),
]


def number(text: str, argument: str) -> int | float:
    """Parse a number: an int if it is written as one, because `record` infers the type."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    raise InvalidValue(
        f"{argument} must be a number, or - to read numbers from standard input, "
        f"got {shown(text.strip(), 80)}"
    )


def labels(given: Iterable[str] | None, option: str = "--tag") -> dict[str, str]:
    """Parse the tags, or the other labels, of a recording command."""
    tags: dict[str, str] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidTags(f"{option} must be K=V, got {shown(text, 80)}")
        _set_once(tags, key, value)
    return tags


def filters(given: Iterable[str] | None) -> dict[str, str | None]:
    """Parse the tags that select series; None means that the tag must be missing."""
    tags: dict[str, str | None] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if equals:
            _set_once(tags, key, value)
        elif text.startswith("!"):
            _set_once(tags, text[1:], None)
        else:
            raise InvalidQuery(
                f"--tag must be K=V, or !K for series without the tag, got {shown(text, 80)}"
            )
    return tags


def _set_once(tags: dict[str, Any], key: str, value: str | None) -> None:
    if tags.setdefault(key, value) != value:
        raise InvalidTags(
            f"--tag must have one value for {shown(key, 80)}, "
            f"got {shown(tags[key], 80)} and {shown(value, 80)}"
        )


def words(given: Iterable[str] | None) -> list[str]:
    """Split the values of an option that can be repeated or separated by commas."""
    return [word.strip() for text in given or () for word in text.split(",") if word.strip()]


def time(text: str | None, option: str) -> Any:
    """Parse a time into a form that `Metrics` accepts; None if it is not given."""
    if text is None:
        return None
    return parse_time(text, option, system_clock())


def seconds(option: str, text: str) -> float:
    """Parse a duration such as 1m30s to seconds."""
    from redismetrics.alerts.durations import parse_duration

    try:
        return parse_duration(text) / 1000
    except ValueError as error:
        raise InvalidSetting(f"{option} must be a duration such as 15s: {error}") from error


def check_exists(metrics: Metrics, name: str) -> None:
    """Raise `RedisMetricsError` if there is no such metric, `InvalidName` if *name* is invalid."""
    # Imported here because it loads redis.
    from redismetrics.store import catalog

    metrics.check(name)
    internals = metrics.internals
    namespace = internals.query_context.namespace
    if internals.query_context.older is not None:
        # The archive may have it.
        return
    if not internals.run(catalog.exists(namespace.name, name), flush=True):
        raise no_such_metric(name, namespace.name)


def window(text: str | None, since: str | None, until: str | None) -> Any:
    """Parse a window into a form that `Metrics` accepts; None if it is not given."""
    if since is None and until is None:
        return text
    if text is not None:
        raise InvalidQuery("--window cannot be used together with --since or --until")
    return time(since, "--since"), time(until, "--until")


@contextmanager
def client(url: str | None, namespace: str | None, archive: str | None = None) -> Iterator[Metrics]:
    """Open the client of one command.

    If the command fails, unsent samples are dropped at once; its error message gives the reason.
    """
    log = logging.getLogger("redismetrics")
    # The choice of a default server may be logged. Everything after that is reported as errors.
    chosen = Store(resolve(url=url).url, 1.0).url
    log.setLevel(logging.ERROR)
    metrics = Metrics(chosen, namespace=namespace, archive=archive)
    try:
        yield metrics
    except BaseException:
        log.setLevel(logging.CRITICAL)
        metrics.close(0)
        raise
    metrics.close()


def send(metrics: Metrics) -> None:
    """Wait until everything recorded is stored.

    Raises:
        StoreUnavailable: If Redis did not confirm the samples in time.
        InvalidMetric: If samples were dropped, for example because they are too old.
    """
    # Dropped samples are reported by the error below, not by the log.
    logging.getLogger("redismetrics").setLevel(logging.CRITICAL)
    metrics.flush(FLUSH_SECONDS)
    dropped = metrics.stats()["dropped"]
    if dropped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise InvalidMetric(f"samples were dropped, by reason: {reasons}")


@contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end the process through its `finally` clauses, as Ctrl-C does."""

    def leave(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = [(each, signal.signal(each, leave)) for each in signals]
    try:
        yield
    finally:
        for each, handler in before:
            signal.signal(each, handler)
