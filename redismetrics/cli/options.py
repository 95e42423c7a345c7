"""What commands share: options, how their texts become values, and the client that a command works with."""

import logging
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Annotated, Any

import typer

from redismetrics.client.metrics import Metrics
from redismetrics.errors import (
    InvalidMetric,
    InvalidQuery,
    InvalidTags,
    InvalidValue,
    RedisMetricsError,
)
from redismetrics.model.time import system_clock
from redismetrics.model.windows import window_ms
from redismetrics.settings import resolve
from redismetrics.store.connection import Store
from redismetrics.store.embedded import folder_of
from redismetrics.store.embedded import status as embedded_status

FLUSH_SECONDS = 5.0  # until what a command recorded must be stored
_COMPLETING_SECONDS = 0.5
_COMPLETIONS = 500


def complete_names(context: typer.Context, incomplete: str) -> list[str]:
    """The names of metrics that begin so, for the shell; none where the store isn't there at once. Starts no server."""
    logging.getLogger("redismetrics").setLevel(logging.CRITICAL)
    found: list[str] = []
    with suppress(RedisMetricsError, OSError):
        settings = resolve(url=context.params.get("url"), namespace=context.params.get("namespace"))
        url = Store(settings.url, _COMPLETING_SECONDS).url
        if url.startswith("embedded:") and not embedded_status(folder_of(url))["running"]:
            return []
        with Metrics(
            url, namespace=settings.namespace, socket_timeout=_COMPLETING_SECONDS
        ) as metrics:
            found = [
                each["name"]
                for each in metrics.list_metrics()
                if each["name"].startswith(incomplete)
            ]
    return found[:_COMPLETIONS]


Name = Annotated[
    str, typer.Argument(help="The metric.", metavar="NAME", autocompletion=complete_names)
]
Url = Annotated[
    str | None,
    typer.Option("--url", help="Where the store is (default: REDISMETRICS_URL).", metavar="URL"),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        help="Which share of the store (default: REDISMETRICS_NAMESPACE).",
        metavar="NS",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, as the method of that name answers.")]
Filter = Annotated[
    list[str] | None,
    typer.Option(
        "--tag", "-t", help="Only series with this tag; !K: without it. Repeatable.", metavar="K=V"
    ),
]
Labels = Annotated[
    list[str] | None, typer.Option("--tag", "-t", help="A tag. Repeatable.", metavar="K=V")
]
GroupBy = Annotated[
    list[str] | None,
    typer.Option(
        "--group-by", "-g", help="Tags to group by. Repeatable, or joined by commas.", metavar="K,K"
    ),
]
Window = Annotated[
    str | None,
    typer.Option(
        "--window",
        "-w",
        help="last_hour, last_24h, last_7d, last_30d, or such as 15m.",
        metavar="W",
    ),
]
_TIME = "Unix seconds, ISO 8601 with a zone, or how long ago, such as 2h."
Since = Annotated[str | None, typer.Option("--since", help=f"Not before: {_TIME}", metavar="TIME")]
Until = Annotated[str | None, typer.Option("--until", help=f"Before: {_TIME}", metavar="TIME")]
Timestamp = Annotated[
    str | None, typer.Option("--timestamp", help=f"Its time: {_TIME}", metavar="TIME")
]
Type = Annotated[
    str | None, typer.Option("--type", help="counter, gauge or histogram.", metavar="TYPE")
]


def number(text: str, what: str) -> int | float:
    """An integer where it is written as one, as `record` guesses by that."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    raise InvalidValue(
        f"{what}: wanted a number, or - for one a line of the standard input, got {text.strip()!r:.80}"
    )


def labels(given: Iterable[str] | None) -> dict[str, str]:
    """Tags to record with."""
    tags: dict[str, str] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidTags(f"--tag: wanted K=V, got {text!r:.80}")
        _once(tags, key, value)
    return tags


def filters(given: Iterable[str] | None) -> dict[str, str | None]:
    """Tags to choose series by; None for those that must be missing."""
    tags: dict[str, str | None] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if equals:
            _once(tags, key, value)
        elif text.startswith("!"):
            _once(tags, text[1:], None)
        else:
            raise InvalidQuery(f"--tag: wanted K=V, or !K for series without it, got {text!r:.80}")
    return tags


def _once(tags: dict[str, Any], key: str, value: str | None) -> None:
    if tags.setdefault(key, value) != value:
        raise InvalidTags(
            f"--tag: wanted one value of {key!r:.80}, got {tags[key]!r:.80} and {value!r:.80}"
        )


def words(given: Iterable[str] | None) -> list[str]:
    """Several of an option that may be repeated, or joined by commas."""
    return [word.strip() for text in given or () for word in text.split(",") if word.strip()]


def time(text: str | None, what: str) -> Any:
    """A time as `Metrics` takes it; None where none is given."""
    if text is None:
        return None
    with suppress(ValueError):
        return float(text)
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment
    with suppress(InvalidQuery):
        return window_ms(text, round(system_clock() * 1000) - 1)[0] / 1000
    raise InvalidQuery(f"{what}: wanted {_TIME.removesuffix('.')}, got {text!r:.80}")


def window(text: str | None, since: str | None, until: str | None) -> Any:
    """A window as `Metrics` takes it; None where none is given."""
    if since is None and until is None:
        return text
    if text is not None:
        raise InvalidQuery("--window: wanted it, or --since and --until, got both")
    return time(since, "--since"), time(until, "--until")


@contextmanager
def client(url: str | None, namespace: str | None) -> Iterator[Metrics]:
    """The client of one command. When the command fails, what is unsent is given up at once: the error says so."""
    log = logging.getLogger("redismetrics")
    chosen = Store(
        resolve(url=url).url, 1.0
    ).url  # which may be said in the log; what comes after is told by errors
    log.setLevel(logging.ERROR)
    metrics = Metrics(chosen, namespace=namespace)
    try:
        yield metrics
    except BaseException:
        log.setLevel(logging.CRITICAL)
        metrics.close(0)
        raise
    metrics.close()


def send(metrics: Metrics) -> None:
    """Wait until what was recorded is stored, all of it.

    Raises:
        StoreUnavailable: it is not.
        InvalidMetric: some of it was refused, as too old for one.
    """
    logging.getLogger("redismetrics").setLevel(logging.CRITICAL)  # what is refused is told here
    metrics.flush(FLUSH_SECONDS)
    dropped = metrics.stats()["dropped"]
    if dropped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise InvalidMetric(f"refused samples, by reason: {reasons}")


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the process by way of its `finally`s, as Ctrl-C does."""

    def leave(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = [(each, signal.signal(each, leave)) for each in signals]
    try:
        yield
    finally:
        for each, handler in before:
            signal.signal(each, handler)
