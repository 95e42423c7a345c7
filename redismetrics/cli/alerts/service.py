"""The command `alerts run`, and its options, which `worker` shares."""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import typer

from redismetrics.cli.options import seconds
from redismetrics.client.metrics import Metrics
from redismetrics.errors import InvalidSetting

if TYPE_CHECKING:
    from redismetrics.alerts.options import AlertOptions
    from redismetrics.alerts.start import AlertThread

log = logging.getLogger("redismetrics")

# Options of `worker` that this module reads.
RULE_OPTIONS = {
    "--rules",
    "--alertmanager",
    "--webhook",
    "--notify-config",
    "--resend-delay",
    "--external-url",
    "--external-label",
    "--lease",
    "--send-timeout",
    "--heartbeat-url",
}
# Seconds for the service to release its leases.
_STOP_TIMEOUT = 15.0


def parser(prog: str, *, with_rules: bool) -> argparse.ArgumentParser:
    """Return the parser of the options that evaluate rules."""
    found = argparse.ArgumentParser(
        prog=prog,
        add_help=with_rules,
        allow_abbrev=False,
        description="Evaluate alert and recording rules, and send alerts, until stopped.",
    )
    add = found.add_argument_group("alerts").add_argument
    add(
        "--rules",
        action="append",
        metavar="GLOB",
        required=with_rules,
        help="rule files to evaluate; may be repeated",
    )
    add(
        "--alertmanager",
        action="append",
        default=[],
        metavar="URL",
        help="an Alertmanager to send all alerts to; may be repeated",
    )
    add("--webhook", default="", metavar="URL", help="URL that gets Alertmanager's webhook payload")
    add("--notify-config", default="", metavar="FILE", help="routes and receivers")
    add("--resend-delay", default="1m", metavar="D", help="time until a firing alert is sent again")
    add("--external-url", default="", metavar="URL", help="the base URL of links in notifications")
    add(
        "--external-label",
        action="append",
        default=[],
        metavar="K=V",
        help="a label to add to the alerts that are sent; may be repeated",
    )
    add("--lease", default="15s", metavar="D", help="time until another process takes over")
    add("--send-timeout", default="10s", metavar="D", help="timeout of a request to a receiver")
    add(
        "--heartbeat-url",
        default="",
        metavar="URL",
        help="URL to request after each complete pass",
    )
    return found


def read_options(given: argparse.Namespace) -> "AlertOptions":
    """Return the options that were given.

    Raises:
        InvalidSetting: If an option is not valid.
    """
    from redismetrics.alerts.options import AlertOptions

    labels = {}
    for text in given.external_label:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise InvalidSetting(f"--external-label must be KEY=VALUE, got {text!r}")
        labels[name] = value
    return AlertOptions(
        tuple(given.rules),
        tuple(given.alertmanager),
        given.webhook,
        given.notify_config,
        resend_delay=seconds("--resend-delay", given.resend_delay),
        external_url=given.external_url,
        external_labels=labels,
        lease=seconds("--lease", given.lease),
        send_timeout=seconds("--send-timeout", given.send_timeout),
        heartbeat_url=given.heartbeat_url,
    )


@contextmanager
def evaluating(metrics: Metrics, options: "AlertOptions") -> "Iterator[AlertThread]":
    """Evaluate rules in background threads during the block; SIGHUP reloads the files."""
    from redismetrics.alerts.start import AlertThread, make_service

    service = make_service(metrics, options)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: service.reload.set())
    thread = AlertThread(service)
    try:
        yield thread
    finally:
        thread.stop(_STOP_TIMEOUT)


def run_alerts(context: typer.Context) -> None:
    """Evaluate alert and recording rules, and send alerts, until stopped."""
    arguments = parser("redismetrics alerts run", with_rules=True)
    arguments.add_argument("--url", help="URL of Redis (default: REDISMETRICS_URL)")
    arguments.add_argument("--namespace", metavar="NS", help="(default: REDISMETRICS_NAMESPACE)")
    arguments.add_argument(
        "--metrics-port",
        metavar="[HOST:]PORT",
        help="serve /metrics and /healthz of the service itself",
    )
    given = arguments.parse_args(context.args)
    log_to_stderr()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with Metrics(given.url, namespace=given.namespace) as metrics, ExitStack() as stack:
        thread = stack.enter_context(evaluating(metrics, read_options(given)))
        if given.metrics_port:
            from redismetrics.alerts.page import serve_status

            stack.enter_context(serve_status(thread.service, given.metrics_port))
        log.info("evaluating rules of namespace %s", metrics.settings.namespace)
        # Short waits, so that a signal is handled at once on every platform.
        while not stopped.wait(1.0):
            pass


def log_to_stderr() -> None:
    """Configure logging to stderr, as all services do."""
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr
    )
