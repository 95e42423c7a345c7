"""The commands delete, clear and mark-process-dead."""

import sys
from typing import Annotated

import typer

from redismetrics.errors import InvalidQuery, RedisMetricsError, no_such_metric

from . import options
from .options import Filter, Name, Namespace, Url


def delete(name: Name, tag: Filter = None, url: Url = None, namespace: Namespace = None) -> None:
    """Delete a metric with all its data, or only the series with these tags."""
    with options.client(url, namespace) as metrics:
        if tag:
            count = metrics.delete_series(name, options.filters(tag))
            if not count:
                options.check_exists(metrics, name)
                raise RedisMetricsError(f"no series of {name!r} has {' '.join(tag)}")
            print(f"Deleted {count} series of {name}.")
            return
        if not metrics.delete_metric(name):
            raise no_such_metric(name, metrics.settings.namespace)
    print(f"Deleted {name}.")


def mark_process_dead(
    pid: Annotated[int, typer.Argument(help="Id of the process.", show_default=False)],
    host: Annotated[
        str | None, typer.Option("--host", help="Name of its host, if it is not this one.")
    ] = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Drop the live values of a killed process now, without waiting until it counts as dead."""
    with options.client(url, namespace) as metrics:
        count = metrics.mark_process_dead(pid, host)
    print(f"Removed {count} live value{'' if count == 1 else 's'} of process {pid}.")


def clear(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Delete all metrics of the namespace, after confirmation."""
    with options.client(url, namespace) as metrics:
        where = metrics.settings.namespace
        if not yes:
            if not sys.stdin.isatty():
                raise InvalidQuery(
                    f"clear deletes every metric in namespace {where!r}, and standard input is not "
                    f"a terminal to ask for confirmation; pass --yes to proceed"
                )
            count = len(metrics.list_metrics())
            if not typer.confirm(f"Delete all {count} metrics of namespace {where!r}?", err=True):
                raise RedisMetricsError("nothing was deleted")
        print(f"Deleted {metrics.clear(confirm=True)} metrics.")
