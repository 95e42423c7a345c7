"""The command `push`: push the current totals to other systems until stopped."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from redismetrics.client.metrics import Metrics
from redismetrics.errors import InvalidSetting, RedisMetricsError

from .alerts.service import log_to_stderr
from .options import Namespace, Url, seconds

if TYPE_CHECKING:
    from redismetrics.push.sender import PushSender
    from redismetrics.push.service import PushOptions, PushService


def push(
    to: Annotated[
        list[str],
        typer.Option(
            help="Where to: remote-write+https://host/api/v1/write or otlp+https://host; may be "
            "repeated. The prefix may be left out if the path ends in /write, /push, /receive or "
            "/v1/metrics. Credentials of one of several targets follow it: "
            "#token-file=F, #basic-auth-file=F, #headers-file=F.",
            metavar="URL",
            envvar="REDISMETRICS_PUSH_TO",
        ),
    ],
    interval: Annotated[
        str, typer.Option(help="Time between pushes, such as 15s or 1m.", metavar="D")
    ] = "15s",
    external_label: Annotated[
        list[str] | None,
        typer.Option(
            help="A label to add to all series that lack it, such as job=shop; with OTLP, an "
            "attribute of the resource. May be repeated.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    token_file: Annotated[
        str, typer.Option(help="A file with a bearer token, for one target.", metavar="F")
    ] = "",
    basic_auth_file: Annotated[
        str, typer.Option(help="A file with USER:PASSWORD, for one target.", metavar="F")
    ] = "",
    headers_file: Annotated[
        str,
        typer.Option(help="A file with lines NAME: VALUE, for one target.", metavar="F"),
    ] = "",
    max_queue: Annotated[
        int, typer.Option(min=1, help="Maximum queue size of a target, in MB.", metavar="MB")
    ] = 64,
    lease: Annotated[
        str, typer.Option(help="Time until another process takes over.", metavar="D")
    ] = "15s",
    send_timeout: Annotated[
        str, typer.Option(help="Timeout of a request to a target.", metavar="D")
    ] = "10s",
    once: Annotated[bool, typer.Option("--once", help="Push once, then exit.")] = False,
    metrics_port: Annotated[
        str,
        typer.Option(
            help="Serve /metrics and /healthz of the service itself.", metavar="[HOST:]PORT"
        ),
    ] = "",
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Push the current totals to Prometheus remote write or OTLP, until stopped.

    Only one process per namespace pushes to a target; others wait to take over. With --once, the
    exit status is 1 if a target did not accept all samples.
    """
    from redismetrics.model.external_labels import read_labels
    from redismetrics.push.credentials import Credentials, from_environment
    from redismetrics.push.sender import PushSender
    from redismetrics.push.service import PushOptions
    from redismetrics.push.targets import parse_targets

    common = from_environment(os.environ)
    if token_file or basic_auth_file or headers_file:
        common = Credentials(token_file, basic_auth_file, headers_file)
    options = PushOptions(
        _seconds("--interval", interval), _seconds("--lease", lease), 1_000_000 * max_queue
    )
    timeout = _seconds("--send-timeout", send_timeout)
    labels = read_labels(external_label or ())
    senders = [PushSender(target, labels, timeout) for target in parse_targets(to, common)]
    log_to_stderr()
    with Metrics(url, namespace=namespace) as metrics:
        service = _make_service(metrics, senders, options)
        if not once:
            _run_until_stopped(service, metrics_port)
        elif problems := service.run_once():
            raise RedisMetricsError("; ".join(problems))


def _make_service(
    metrics: Metrics, senders: "Sequence[PushSender]", options: "PushOptions"
) -> "PushService":
    from redismetrics.push.service import PushService
    from redismetrics.store.connection import Store

    settings = metrics.settings
    store = Store(settings.url, settings.socket_timeout)
    idle_ms = round(1000 * settings.series_idle)
    return PushService(metrics.internals.query_context, store, senders, options, idle_ms)


@contextmanager
def pushing(
    metrics: Metrics, to: Sequence[str], interval: str, labels: Sequence[str]
) -> "Iterator[PushService]":
    """Push in a background thread, with credentials from the environment.

    Raises:
        InvalidSetting: If an argument is not valid.
        MissingExtra: If a package that a protocol needs is missing.
        BadCredentials: If credentials cannot be read.
    """
    from redismetrics.model.external_labels import read_labels
    from redismetrics.push.credentials import from_environment
    from redismetrics.push.sender import PushSender
    from redismetrics.push.service import STOP_TIMEOUT, PushOptions
    from redismetrics.push.targets import parse_targets

    targets = parse_targets(to, from_environment(os.environ))
    senders = [PushSender(target, read_labels(labels)) for target in targets]
    options = PushOptions(_seconds("--push-interval", interval))
    service = _make_service(metrics, senders, options)
    thread = threading.Thread(target=service.run, name="redismetrics-push", daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.stop.set()
        thread.join(STOP_TIMEOUT + 1)


def _run_until_stopped(service: "PushService", metrics_port: str) -> None:
    """Run the service until SIGTERM or SIGINT; a second signal exits without waiting."""
    from redismetrics.push.page import serve_status

    thread = threading.Thread(target=service.run, name="redismetrics-push", daemon=True)
    with ExitStack() as stack:
        if metrics_port:
            stack.enter_context(serve_status(service, metrics_port))
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            thread.start()
            thread.join()
        except KeyboardInterrupt:
            service.stop.set()
            thread.join()
        else:
            raise RedisMetricsError("BUG: pushing stopped unexpectedly; see the messages above")


def _seconds(option: str, text: str) -> float:
    found = seconds(option, text)
    if not found:
        raise InvalidSetting(f"{option} must be more than 0, got {text!r}")
    return found
