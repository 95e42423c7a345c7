"""Services that `worker` can run in the same process: alert rules, an archive, and pushes."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from threading import Event
from typing import TYPE_CHECKING, NoReturn

from redismetrics.client.metrics import Metrics
from redismetrics.errors import InvalidSetting, RedisMetricsError, one_line

from .alerts.service import RULE_OPTIONS, evaluating, log_to_stderr, parser, read_options
from .archive import DEFAULT_LEVELS, archiving
from .push import pushing

if TYPE_CHECKING:
    from redismetrics.exposition.status_page import StatusSource

# Runs a worker with arguments, and shows other services on its page; returns the exit code.
RunWorker = Callable[[list[str], "Sequence[StatusSource]"], int]

ARCHIVE_VARIABLE, PUSH_VARIABLE = "REDISMETRICS_ARCHIVE", "REDISMETRICS_PUSH_TO"
_SERVICES = ("--rules", "--archive", "--push")
# Further options of each service but --rules.
_OPTIONS = {"--archive": ("--archive-level",), "--push": ("--push-interval", "--push-label")}
_ALL = RULE_OPTIONS | {*_SERVICES} | {option for each in _OPTIONS.values() for option in each}

HELP = (
    "Services that run in the same process, in their own threads: --rules GLOB evaluates alert "
    "rules, with the options of `redismetrics alerts run` (see its --help). "
    f"--archive [URL] (default: {ARCHIVE_VARIABLE}) does what `redismetrics archive` does, with "
    f"--archive-level LEVEL. --push [URL] (default: {PUSH_VARIABLE}) does what `redismetrics "
    "push` does, with --push-interval D and --push-label NAME=VALUE; --push may be repeated."
)


def has_services(arguments: Sequence[str]) -> bool:
    """Return whether a worker's arguments name such a service, or an option of one."""
    return any(each.split("=")[0] in _ALL for each in arguments)


def work_beside(arguments: list[str], run_worker: RunWorker) -> int:
    """Run a worker and the services named by *arguments*; return the exit code.

    No service can stop the worker. When the worker stops, so do the services.
    """
    given, rest = _parser().parse_known_args(arguments)
    _check(arguments, rest)
    of_server = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    of_server.add_argument("--url")
    of_server.add_argument("--namespace")
    server, _ = of_server.parse_known_args(rest)
    log_to_stderr()
    try:
        with Metrics(server.url, namespace=server.namespace) as metrics, ExitStack() as stack:
            sources, stops = _started(metrics, given, stack)
            # All stop at the same time.
            for stop in stops:
                stack.callback(stop.set)
            return run_worker(rest, sources)
    except (RedisMetricsError, OSError) as error:
        print(one_line(error), file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1


def _parser() -> argparse.ArgumentParser:
    found = parser("redismetrics worker", with_rules=False)
    add = found.add_argument
    add("--archive", nargs="?", const="", metavar="URL")
    add("--archive-level", action="append", default=[], metavar="LEVEL")
    add("--push", nargs="?", const="", action="append", metavar="URL")
    add("--push-interval", default="15s", metavar="D")
    add("--push-label", action="append", default=[], metavar="NAME=VALUE")
    return found


def _check(arguments: Sequence[str], rest: Sequence[str]) -> None:
    names = {each.split("=")[0] for each in arguments}
    if names & (RULE_OPTIONS - {"--rules"}) and "--rules" not in names:
        raise InvalidSetting("options of alerts must be given with --rules; add --rules GLOB")
    for service, options in _OPTIONS.items():
        for option in options:
            if option in names and service not in names:
                raise InvalidSetting(f"{option} must be given with {service}; add {service} URL")
    for service in _SERVICES:
        if service in names and "--once" in rest:
            raise InvalidSetting(f"{service} must not be given with --once; leave one out")


def _started(
    metrics: Metrics, given: argparse.Namespace, stack: ExitStack
) -> "tuple[list[StatusSource], list[Event]]":
    """Start the services; return their status sources, and a function that stops them."""
    sources, stops = [], []
    if given.rules:
        from redismetrics.alerts.page import status_of

        evaluation = stack.enter_context(evaluating(metrics, read_options(given))).service
        sources.append(status_of(evaluation))
        stops.append(evaluation.stop)
    if given.archive is not None:
        from redismetrics.archive.page import status_of as archive_status
        from redismetrics.archive.target import target_opener

        settings = metrics.settings
        opener = target_opener(
            given.archive or settings.archive or _missing("--archive", ARCHIVE_VARIABLE),
            schema=settings.archive_schema,
            prefix=settings.archive_prefix,
        )
        archiver = stack.enter_context(
            archiving(metrics, opener, given.archive_level or DEFAULT_LEVELS)
        )
        sources.append(archive_status(archiver))
        stops.append(archiver.stop)
    if given.push is not None:
        from redismetrics.push.page import status_of as push_status

        to = [url for each in given.push for url in ([each] if each else _pushed_by_default())]
        pusher = stack.enter_context(pushing(metrics, to, given.push_interval, given.push_label))
        sources.append(push_status(pusher))
        stops.append(pusher.stop)
    return sources, stops


def _pushed_by_default() -> list[str]:
    return os.environ.get(PUSH_VARIABLE, "").split() or [_missing("--push", PUSH_VARIABLE)]


def _missing(option: str, variable: str) -> NoReturn:
    raise InvalidSetting(
        f"{option} must have a URL, got none; write it after {option}, or set {variable}"
    )
